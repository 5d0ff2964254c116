package history

// doneBy is the last record that a process polled from or sent to a partition, and the operation in which it did.
type doneBy struct {
	Record
	op *Op
}

// within is the anomaly's internal form if op is the operation that has seen the last record too.
func (d doneBy) within(op *Op, internal, external Anomaly) Anomaly {
	if d.op == op {
		return internal
	}
	return external
}

// checkPolls follows each process from poll to poll.
func (l *logs) checkPolls(ops []Op, report *Report) {
	type place struct {
		process   int
		partition string
	}
	last := map[place]doneBy{}
	for i := range ops {
		op := &ops[i]
		if op.Moved {
			for at := range last {
				if at.process == op.Process {
					delete(last, at)
				}
			}
		}
		for _, r := range op.records(Poll) {
			at := place{op.Process, r.Partition}
			before, known := last[at]
			last[at] = doneBy{r, op}
			switch {
			case !known:
			case r.Offset <= before.Offset:
				report.add(before.within(op, IntNonmonotonicPoll, NonmonotonicPoll), "the %v polled %v after %v", op, r, before.Record)
			default:
				if skipped, yes := l.firstBetween(before.Record, r); yes {
					report.add(before.within(op, IntPollSkip, PollSkip), "the %v polled %v after %v, and not %v between them", op, r, before.Record, skipped)
				}
			}
		}
	}
}

// firstBetween returns the first readable record between two of a partition.
func (l *logs) firstBetween(from, to Record) (Record, bool) {
	p := l.partitions[from.Partition]
	i, ok := p.index[from.Value]
	if !ok {
		return Record{}, false
	}
	for _, offset := range p.offsets[i+1:] {
		if offset >= to.Offset {
			break
		}
		if offset > from.Offset && l.readable(p.at[offset]) {
			return Record{Partition: from.Partition, Offset: offset, Value: p.at[offset]}, true
		}
	}
	return Record{}, false
}

// checkSends follows each process from acknowledged send to acknowledged send.
func checkSends(ops []Op, report *Report) {
	type place struct {
		process   int
		partition string
	}
	last := map[place]doneBy{}
	for i := range ops {
		op := &ops[i]
		if op.Outcome != OK {
			continue
		}
		for _, r := range op.records(Send) {
			if r.Offset == UnknownOffset {
				continue
			}
			at := place{op.Process, r.Partition}
			if before, known := last[at]; known && r.Offset <= before.Offset {
				report.add(before.within(op, IntNonmonotonicSend, NonmonotonicSend), "the %v sent %v after %v", op, r, before.Record)
			}
			last[at] = doneBy{r, op}
		}
	}
}

// checkCommits holds the first record that a group was given after it moved against the offsets that were committed before.
func checkCommits(ops []Op, report *Report) {
	type place struct{ group, partition string }
	type reader struct {
		process   int
		partition string
	}
	type committed struct {
		offset int64
		end    int64
	}
	commits := map[place][]committed{}
	for i := range ops {
		op := &ops[i]
		if op.Outcome != OK || op.Group == "" {
			continue
		}
		for _, r := range op.records(Commit) {
			at := place{op.Group, r.Partition}
			commits[at] = append(commits[at], committed{r.Offset, op.End})
		}
	}
	movedAt := map[int]int64{} // by process: the start of the operation in which its partitions last changed
	begun := map[reader]bool{} // has polled the partition since
	for i := range ops {
		op := &ops[i]
		if op.Group == "" {
			continue
		}
		if op.Moved {
			movedAt[op.Process] = op.Start
			for at := range begun {
				if at.process == op.Process {
					delete(begun, at)
				}
			}
		}
		for _, r := range op.records(Poll) {
			at := reader{op.Process, r.Partition}
			moved, ever := movedAt[op.Process]
			if begun[at] || !ever {
				continue
			}
			begun[at] = true
			for _, c := range commits[place{op.Group, r.Partition}] {
				if c.end < moved && r.Offset < c.offset {
					report.add(LostCommit, "the %v began at %v, after offset %d had been committed for group %s", op, r, c.offset, op.Group)
					break
				}
			}
		}
	}
}
