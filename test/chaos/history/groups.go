package history

import "slices"

// checkGiven reports acknowledged values that no member of a group was given, of all partitions but those that it does not subscribe to.
func (l *logs) checkGiven(ops []Op, group string, unsubscribed []string, report *Report) {
	given := map[int64]bool{}
	for i := range ops {
		if ops[i].Group == group {
			for _, r := range ops[i].given() {
				given[r.Value] = true
			}
		}
	}
	for _, value := range l.sortedWrites() {
		if w := l.writes[value]; w.op.Outcome == OK && !given[value] && !slices.Contains(unsubscribed, w.partition) {
			report.add(Unseen, "%d was acknowledged at %s/%d for the %v, and was not given to group %s by the end", value, w.partition, w.offset, w.op, group)
		}
	}
}

// checkAccepts reports records that were delivered to a share group by an operation that began after they had been accepted. What is
// delivered again before that is none: a share group is given a record at least once.
func checkAccepts(ops []Op, report *Report) {
	type place struct {
		group, partition string
		offset           int64
	}
	accepted := map[place]*Op{} // by the first
	for i := range ops {
		op := &ops[i]
		if op.Outcome != OK {
			continue
		}
		for _, r := range op.records(Accept) {
			if at := (place{op.Group, r.Partition, r.Offset}); accepted[at] == nil {
				accepted[at] = op
			}
		}
	}
	for i := range ops {
		op := &ops[i]
		for _, r := range op.records(Deliver) {
			if before := accepted[place{op.Group, r.Partition, r.Offset}]; before != nil && before.End < op.Start {
				report.add(LostAccept, "%v was delivered to the %v, after the %v had accepted it for group %s", r, op, before, op.Group)
			}
		}
	}
}
