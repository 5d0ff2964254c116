package side

import "testing"

// Kafka has two listeners, and does not start if both were given one port.
func TestFreeAddrsDiffer(t *testing.T) {
	addrs, err := freeAddrs(500) // enough for two of them to be the same by chance
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, addr := range addrs {
		if seen[addr] {
			t.Fatalf("%s is there twice", addr)
		}
		seen[addr] = true
	}
}
