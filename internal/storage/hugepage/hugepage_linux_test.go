package hugepage

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// flagsOf is what the kernel has noted of the mapping that holds mem.
func flagsOf(t *testing.T, mem []byte) string {
	t.Helper()
	first := uintptr(unsafe.Pointer(&mem[0]))
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			inside = from <= first && first+uintptr(len(mem)) <= to
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && inside {
			return flags + " "
		}
	}
	t.Fatalf("no mapping has %#x", first)
	return ""
}

func TestTheKernelIsAskedForHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil {
		t.Skip("this kernel has no transparent huge pages")
	}
	m := mustMap(t, 3*Size)
	if flags := flagsOf(t, m.Bytes); strings.Contains(flags, " hg ") {
		t.Fatalf("huge pages unasked: %s", flags)
	}
	m.Prefer(true)
	if flags := flagsOf(t, m.Bytes); !strings.Contains(flags, " hg ") {
		t.Fatalf("no huge pages: %s", flags)
	}
	m.Prefer(false)
	if flags := flagsOf(t, m.Bytes); !strings.Contains(flags, " nh ") {
		t.Fatalf("huge pages still: %s", flags)
	}
}
