package history

import (
	"maps"
	"slices"
)

// checkAborted reports polled values whose send had no effect, by its own account.
func (l *logs) checkAborted(ops []Op, report *Report) {
	for i := range ops {
		for _, r := range ops[i].records(Poll) {
			if w := l.writes[r.Value]; w.op.Outcome == Fail {
				report.add(AbortedRead, "the %v polled %v of the %v", &ops[i], r, w.op)
			}
		}
	}
}

// checkPrecommitted reports values that were polled while their transaction was certainly open.
func (l *logs) checkPrecommitted(ops []Op, report *Report) {
	for i := range ops {
		op := &ops[i]
		for _, r := range op.records(Poll) {
			w := l.writes[r.Value]
			switch {
			case !w.op.Transaction:
			case w.op == op:
				report.add(PrecommittedRead, "the %v polled %v, which it sent itself", op, r)
			case w.op.Outcome != Fail && op.End < w.op.CommitStart:
				report.add(PrecommittedRead, "the %v polled %v before the %v asked for its commit", op, r, w.op)
			}
		}
	}
}

// checkTorn reports transactions of which some values were polled and some were not, though polls went past them.
func (l *logs) checkTorn(ops []Op, polledAll bool, report *Report) {
	for i := range ops {
		op := &ops[i]
		if !op.Transaction || op.Outcome == Fail {
			continue
		}
		var seen, missed []Record
		for _, r := range op.records(Send) {
			p := l.partitions[r.Partition]
			if l.polled[r.Value] {
				seen = append(seen, r)
			} else if i, placed := indexOf(p, r.Value); polledAll || placed && i <= p.highest {
				missed = append(missed, r)
			}
		}
		if len(seen) > 0 && len(missed) > 0 {
			report.add(TornTransaction, "of the %v %v was polled and %v was not", op, seen[0], missed[0])
		}
	}
}

// checkProcessed reports records that transactions of a group processed twice or passed over: what a transaction polls and the offset
// that it commits for its group belong together.
func (l *logs) checkProcessed(ops []Op, report *Report) {
	type place struct{ group, partition string }
	processed := map[place]map[int64]*Op{} // by offset; of acknowledged transactions
	perhaps := map[place]map[int64]bool{}  // of those of unknown outcome
	for i := range ops {
		op := &ops[i]
		if !op.Transaction || op.Group == "" || op.Outcome == Fail {
			continue
		}
		for _, r := range op.records(Poll) {
			at := place{op.Group, r.Partition}
			if processed[at] == nil {
				processed[at], perhaps[at] = map[int64]*Op{}, map[int64]bool{}
			}
			if op.Outcome == Info {
				perhaps[at][r.Offset] = true
				continue
			}
			if before, twice := processed[at][r.Offset]; twice {
				report.add(TornTransaction, "%v was processed by the %v and by the %v", r, before, op)
			}
			processed[at][r.Offset] = op
		}
	}
	for at, done := range processed {
		if len(done) == 0 {
			continue
		}
		p, last := l.partitions[at.partition], slices.Max(slices.Collect(maps.Keys(done)))
		for _, offset := range p.offsets {
			if offset < last && done[offset] == nil && !perhaps[at][offset] && l.readable(p.at[offset]) {
				report.add(TornTransaction, "group %s processed %s/%d, and no transaction of it %s/%d", at.group, at.partition, last, at.partition, offset)
			}
		}
	}
}
