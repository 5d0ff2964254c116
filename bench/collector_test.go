//go:build !race

// The race detector empties pools at random, which the collector then has to clean up.

package main

import (
	"testing"
	"time"
)

// TestTheCollectorTakesLittleOfFullLoad has clients send and read as fast as they are answered. What was measured lies below 1 %; without
// the pools that requests are read into, batches of 64 KiB make it 7 to 9 %.
func TestTheCollectorTakesLittleOfFullLoad(t *testing.T) {
	const most = 0.05
	running := embedded(t)
	written := int64(0)
	for _, load := range []struct {
		name string
		spec func() loadSpec
	}{
		{"batches of one record", func() loadSpec { return loadSpec{Records: 1, Wait: time.Second} }},
		{"batches of 64 KiB", func() loadSpec { return loadSpec{Records: 64, Wait: 2 * time.Second} }},
		{"catching up", func() loadSpec { return loadSpec{Consume: written} }},
	} {
		spec := load.spec()
		spec.Addr = running.Addr()
		before := usage(t)
		written += runLoad(t, spec)
		share := before.gcShare(usage(t))
		t.Logf("%s: %.2f %%", load.name, 100*share)
		if share > most {
			t.Errorf("%s: the garbage collector takes %.1f %% of the CPU, more than %.0f %%", load.name, 100*share, 100*most)
		}
	}
}
