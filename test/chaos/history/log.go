package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// partitionLog is what a history proves about the content of one partition.
type partitionLog struct {
	at      map[int64]int64 // offset → value; where two claim one offset, the first
	offsets []int64         // of at, rising
	index   map[int64]int   // value → its place in offsets; a log is without gaps there, whatever lies between as markers
	highest int             // place of the highest record that was polled; -1 if none was
}

// write is the send of a value.
type write struct {
	op        *Op
	partition string
	offset    int64
}

// logs is what a history proves about all partitions.
type logs struct {
	partitions map[string]*partitionLog
	writes     map[int64]write
	polled     map[int64]bool
}

// rebuild makes the logs, and reports values that contradict each other.
func rebuild(ops []Op, report *Report) (*logs, error) {
	l := &logs{partitions: map[string]*partitionLog{}, writes: map[int64]write{}, polled: map[int64]bool{}}
	for i := range ops {
		op := &ops[i]
		for _, r := range op.records(Send) {
			if w, again := l.writes[r.Value]; again {
				return nil, fmt.Errorf("value %d is sent twice, by the %v and the %v: a history needs a value for each send", r.Value, w.op, op)
			}
			l.writes[r.Value] = write{op: op, partition: r.Partition, offset: r.Offset}
			if r.Offset != UnknownOffset && op.Outcome == OK {
				l.place(op, r, report)
			}
		}
	}
	for i := range ops {
		for _, r := range ops[i].given() {
			if _, sent := l.writes[r.Value]; !sent {
				return nil, fmt.Errorf("the %v polled %v, which nobody sent", &ops[i], r)
			}
			l.place(&ops[i], r, report)
		}
		for _, r := range ops[i].records(Poll) {
			l.polled[r.Value] = true
		}
	}
	for _, p := range l.partitions {
		p.order()
	}
	for i := range ops {
		for _, r := range ops[i].records(Poll) {
			if p := l.partitions[r.Partition]; p.at[r.Offset] == r.Value {
				p.highest = max(p.highest, p.index[r.Value])
			}
		}
	}
	return l, nil
}

// place notes that op saw r.
func (l *logs) place(op *Op, r Record, report *Report) {
	p := l.partitions[r.Partition]
	if p == nil {
		p = &partitionLog{at: map[int64]int64{}, highest: -1}
		l.partitions[r.Partition] = p
	}
	switch before, taken := p.at[r.Offset]; {
	case !taken:
		p.at[r.Offset] = r.Value
	case before != r.Value:
		report.add(InconsistentOffsets, "%s/%d is %d, and %d for the %v", r.Partition, r.Offset, before, r.Value, op)
	}
}

func (p *partitionLog) order() {
	p.offsets = slices.Sorted(maps.Keys(p.at))
	p.index = make(map[int64]int, len(p.offsets))
	for i, offset := range p.offsets {
		if _, twice := p.index[p.at[offset]]; !twice {
			p.index[p.at[offset]] = i
		}
	}
}

// checkDuplicates reports values that stand at two places.
func (l *logs) checkDuplicates(report *Report) {
	first := map[int64]Record{}
	for _, name := range slices.Sorted(maps.Keys(l.partitions)) {
		p := l.partitions[name]
		for _, offset := range p.offsets {
			r := Record{Partition: name, Offset: offset, Value: p.at[offset]}
			if before, twice := first[r.Value]; twice {
				report.add(Duplicate, "%v stands at %s/%d too", before, name, offset)
				continue
			}
			first[r.Value] = r
		}
	}
}

// checkWrites reports acknowledged values that nobody polled. Below what was polled of a partition they are lost; at its end they are
// unseen, if the history has polled everything.
func (l *logs) checkWrites(polledAll bool, report *Report) {
	for _, value := range l.sortedWrites() {
		w := l.writes[value]
		if w.op.Outcome != OK || l.polled[value] {
			continue
		}
		p := l.partitions[w.partition]
		switch i, placed := indexOf(p, value); {
		case placed && i <= p.highest:
			report.add(LostWrite, "%d was acknowledged at %s/%d for the %v; %s/%d was polled, and it was not", value, w.partition, w.offset, w.op, w.partition, p.offsets[p.highest])
		case polledAll:
			report.add(Unseen, "%d was acknowledged at %s/%d for the %v, and was not polled by the end", value, w.partition, w.offset, w.op)
		}
	}
}

func indexOf(p *partitionLog, value int64) (int, bool) {
	if p == nil {
		return 0, false
	}
	i, ok := p.index[value]
	return i, ok
}

func (l *logs) sortedWrites() []int64 {
	return slices.SortedFunc(maps.Keys(l.writes), func(a, b int64) int {
		wa, wb := l.writes[a], l.writes[b]
		return cmp.Or(cmp.Compare(wa.op.Start, wb.op.Start), cmp.Compare(a, b))
	})
}

// readable says whether a consumer that passes value should have been given it. Records of unknown outcome are readable once somebody
// was given them.
func (l *logs) readable(value int64) bool {
	return l.writes[value].op.Outcome == OK || l.polled[value]
}
