package share

import (
	"github.com/ottlaio/ottla/internal/base"
)

// merge lays a write over a persisted state, offset by offset, as Kafka's share coordinator does: of two that tell of the same offset
// the one with more deliveries counts, then the one whose state is the later.
func merge(state, w Persisted) Persisted {
	at := map[base.Offset]StateBatch{}
	end := base.Offset(0)
	for _, b := range append(append([]StateBatch(nil), state.Batches...), w.Batches...) {
		for o := b.First; o <= b.Last; o++ {
			old, ok := at[o]
			if !ok || b.DeliveryCount > old.DeliveryCount || b.DeliveryCount == old.DeliveryCount && b.State >= old.State {
				at[o] = StateBatch{First: o, Last: o, State: b.State, DeliveryCount: b.DeliveryCount}
			}
			end = max(end, o+1)
		}
	}
	if w.Start != base.NoOffset {
		state.Start = w.Start
	}
	state.DeliveryCompleteCount, state.Batches = w.DeliveryCompleteCount, nil
	for o := state.Start; o < end; o++ {
		b, ok := at[o]
		if !ok {
			continue
		}
		if n := len(state.Batches); n > 0 && state.Batches[n-1].Last+1 == o && state.Batches[n-1].State == b.State && state.Batches[n-1].DeliveryCount == b.DeliveryCount {
			state.Batches[n-1].Last = o
			continue
		}
		state.Batches = append(state.Batches, b)
	}
	return state
}
