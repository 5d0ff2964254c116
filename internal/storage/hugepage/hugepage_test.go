package hugepage

import (
	"testing"
	"unsafe"
)

func mustMap(t *testing.T, size int) Memory {
	t.Helper()
	m, err := Map(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Unmap)
	return m
}

// Mappings of odd sizes between them move where the kernel puts the next one.
func TestMemoryBeginsWhereAHugePageDoes(t *testing.T) {
	for _, size := range []int{4096, Size, Size + 4096, 3 * Size, 8192, 2 * Size} {
		m := mustMap(t, size)
		if at := uintptr(unsafe.Pointer(&m.Bytes[0])); at%Size != 0 || len(m.Bytes) != size || cap(m.Bytes) != size {
			t.Errorf("%d bytes of %d at %#x", len(m.Bytes), size, at)
		}
		for i := range m.Bytes {
			if m.Bytes[i] != 0 {
				t.Fatalf("byte %d of %d is %d", i, size, m.Bytes[i])
			}
			m.Bytes[i] = 1
		}
	}
}
