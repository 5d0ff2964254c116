//go:build plant

package plant

import (
	"fmt"
	"os"
	"slices"
)

var planted = fromEnvironment()

// Planted is the bug that is planted, or "".
func Planted() Bug { return planted }

// fromEnvironment is the bug that OTTLA_PLANT names, if any. A name that nobody knows ends the process: a proof would seem to catch it.
func fromEnvironment() Bug {
	b := Bug(os.Getenv("OTTLA_PLANT"))
	if b != "" && !slices.Contains(Bugs, b) {
		fmt.Fprintf(os.Stderr, "OTTLA_PLANT=%s: no such bug\n", b)
		os.Exit(2)
	}
	os.Unsetenv("OTTLA_PLANT") // no setting of the broker is called so
	return b
}

// On reports whether the bug is planted.
func On(b Bug) bool { return b == planted }
