package share

import "github.com/ottlaio/ottla/internal/base"

// merge lays a write over a persisted state, offset by offset, as a Persister does.
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
	state.Start, state.DeliveryCompleteCount, state.Batches = w.Start, w.DeliveryCompleteCount, nil
	for o := state.Start; o < end; o++ {
		if b, ok := at[o]; ok {
			state.Batches = append(state.Batches, b)
		}
	}
	return state
}
