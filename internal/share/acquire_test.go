package share

import (
	"testing"
	"time"
)

// What is gone from the log leaves a full window while records are acquired, not after it: else a member gets nothing, though there is much.
func TestAWindowThatEmptiesIsFilledAtOnce(t *testing.T) {
	t.Parallel()
	for name, spans := range map[string][]Span{
		"compacted": {{First: 100, Last: 109}},
		"hidden":    {{First: 0, Last: 99, Hidden: true}, {First: 100, Last: 109}},
		"aborted":   {{First: 0, Last: 4, Hidden: true}, {First: 5, Last: 109}},
	} {
		p, err := NewPartition(Persisted{})
		if err != nil {
			t.Fatal(err)
		}
		settings := Settings{LockDuration: time.Second, DeliveryLimit: 5, MaxLocks: 5}
		now := time.Unix(0, 0)
		p.Acquire(now, settings, Acquisition{Member: "a", MaxRecords: 5, Exact: true}, 0, []Span{{First: 0, Last: 9}})
		p.Release("a", settings)
		from, ok := p.Next(settings)
		if !ok || from != 0 || p.Window() != 5 {
			t.Fatalf("%s: next is %d, %t, the window has %d", name, from, ok, p.Window())
		}
		got := p.Acquire(now, settings, Acquisition{Member: "b", MaxRecords: 3, Exact: true, BatchSize: 10}, from, spans)
		first := spans[len(spans)-1].First
		if len(got) != 1 || got[0] != (AcquiredBatch{First: first, Last: first + 2, DeliveryCount: 1}) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
