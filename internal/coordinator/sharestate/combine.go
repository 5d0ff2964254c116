package sharestate

import (
	"cmp"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/share"
)

// combine lays changes, in any order, over batches that are sorted and do not overlap, and leaves out what lies below start; NoOffset
// leaves out nothing. The result is new, sorted, without overlaps, and neighbours in it differ.
func combine(batches, changes []share.StateBatch, start base.Offset) []share.StateBatch {
	all := merge(batches, disjoint(changes))
	n := 0
	for n < len(all) && all[n].Last < start {
		n++
	}
	all = all[n:]
	if len(all) > 0 {
		all[0].First = max(all[0].First, start)
	}
	return all
}

// disjoint sorts batches and resolves their overlaps.
func disjoint(batches []share.StateBatch) []share.StateBatch {
	sorted := slices.SortedFunc(slices.Values(batches), func(a, b share.StateBatch) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].First <= sorted[i-1].Last { // nobody but a client of the inter-broker APIs sends such batches
			var one []share.StateBatch
			for _, b := range sorted {
				one = merge(one, []share.StateBatch{b})
			}
			return one
		}
	}
	return sorted
}

// merge lays two lists, each sorted and without overlaps, over each other.
func merge(a, b []share.StateBatch) []share.StateBatch {
	out := make([]share.StateBatch, 0, len(a)+len(b))
	push := func(s share.StateBatch, first, last base.Offset) {
		s.First, s.Last = first, last
		if n := len(out); n > 0 && out[n-1].Last+1 == first && rank(out[n-1], s) == 0 {
			out[n-1].Last = last
			return
		}
		out = append(out, s)
	}
	at := base.Offset(0) // all below is done
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(a) > 0 && a[0].Last < at:
			a = a[1:]
			continue
		case len(b) > 0 && b[0].Last < at:
			b = b[1:]
			continue
		case len(b) == 0 || len(a) > 0 && a[0].Last < b[0].First:
			push(a[0], max(at, a[0].First), a[0].Last)
			at, a = a[0].Last+1, a[1:]
			continue
		case len(a) == 0 || b[0].Last < a[0].First:
			push(b[0], max(at, b[0].First), b[0].Last)
			at, b = b[0].Last+1, b[1:]
			continue
		}
		// They overlap, perhaps after a part that only one of them has.
		low, high := a[0], b[0]
		if low.First > high.First {
			low, high = high, low
		}
		at = max(at, low.First)
		if at < high.First {
			push(low, at, high.First-1)
			at = high.First
		}
		last := min(low.Last, high.Last)
		if rank(low, high) < 0 {
			low = high
		}
		push(low, at, last)
		at = last + 1
	}
	return out
}

// rank compares which of two batches says more of a record: Kafka's order.
func rank(a, b share.StateBatch) int {
	return cmp.Or(cmp.Compare(a.DeliveryCount, b.DeliveryCount), cmp.Compare(a.State, b.State))
}
