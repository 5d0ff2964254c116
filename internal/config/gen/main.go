// Command gen writes docs/configuration.md from the tables of settings. go generate in internal/config runs it.
package main

import (
	"fmt"
	"os"

	"github.com/ottlaio/ottla/internal/config"
)

func main() {
	if err := os.WriteFile("../../docs/configuration.md", []byte(config.Markdown()), 0o644); err != nil { //nolint:gosec // documentation is for everybody
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
