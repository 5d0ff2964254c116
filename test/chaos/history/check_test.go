package history

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// script builds a history; each call is one operation, which starts after the one before has ended.
type script struct {
	ops []Op
	now int64
}

func (s *script) add(op Op) *Op {
	s.now += 2
	op.Start, op.End = s.now, s.now+1
	if op.Transaction && op.Outcome != Fail && op.CommitStart == 0 {
		op.CommitStart = op.Start
	}
	s.ops = append(s.ops, op)
	return &s.ops[len(s.ops)-1]
}

func (s *script) send(process int, outcome Outcome, records ...Record) *Op {
	return s.add(Op{Process: process, Outcome: outcome, Steps: []Step{{Send, records}}})
}

func (s *script) poll(process int, records ...Record) *Op {
	return s.add(Op{Process: process, Outcome: OK, Steps: []Step{{Poll, records}}})
}

func (s *script) transaction(process int, outcome Outcome, steps ...Step) *Op {
	return s.add(Op{Process: process, Outcome: outcome, Transaction: true, Group: "g", Steps: steps})
}

func (s *script) commit(process int, records ...Record) *Op {
	return s.add(Op{Process: process, Outcome: OK, Group: "g", Steps: []Step{{Commit, records}}})
}

func (s *script) share(process int, action Action, outcome Outcome, records ...Record) *Op {
	return s.add(Op{Process: process, Outcome: outcome, Group: "shared", Steps: []Step{{action, records}}})
}

func at(offset, value int64) Record { return Record{Partition: "t-0", Offset: offset, Value: value} }

func other(offset, value int64) Record { return Record{Partition: "t-1", Offset: offset, Value: value} }

// TestAnomalies has for each anomaly the smallest histories that show it, and beside it those that come close and are right.
func TestAnomalies(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name     string
		make     func(s *script)
		unfinish bool // the history did not poll everything
		groups   []string
		apart    []string // partitions that no group subscribes to
		want     []Anomaly
	}{
		{name: "an empty history", make: func(*script) {}},
		{name: "all sent is polled in order", make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.send(1, OK, at(1, 11))
			s.poll(2, at(0, 10), at(1, 11))
		}},
		{name: "one offset, two values", want: []Anomaly{InconsistentOffsets}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.send(3, Info, at(UnknownOffset, 11))
			s.poll(2, at(0, 10))
			s.poll(4, at(0, 11))
		}},
		{name: "one value, two offsets", want: []Anomaly{Duplicate}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.poll(2, at(0, 10), at(1, 10))
		}},
		{name: "one value in two partitions", want: []Anomaly{Duplicate}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.poll(2, at(0, 10), other(0, 10))
		}},
		{name: "acknowledged, and passed over by every poll", unfinish: true, want: []Anomaly{LostWrite}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.send(1, OK, at(1, 11))
			s.poll(2, at(1, 11))
		}},
		{name: "acknowledged, and not yet polled", unfinish: true, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.send(1, OK, at(1, 11))
			s.poll(2, at(0, 10))
		}},
		{name: "acknowledged, and not polled by the end", want: []Anomaly{Unseen}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.send(1, OK, at(1, 11))
			s.poll(2, at(0, 10))
		}},
		{name: "of unknown outcome, and there or not", make: func(s *script) {
			s.send(1, Info, at(UnknownOffset, 10))
			s.send(1, Info, at(UnknownOffset, 11))
			s.poll(2, at(0, 11))
		}},
		{name: "refused, and polled", want: []Anomaly{AbortedRead}, make: func(s *script) {
			s.send(1, Fail, at(UnknownOffset, 10))
			s.poll(2, at(0, 10))
		}},
		{name: "aborted, and polled", want: []Anomaly{AbortedRead}, make: func(s *script) {
			s.transaction(1, Fail, Step{Send, []Record{at(0, 10)}})
			s.poll(2, at(0, 10))
		}},
		{name: "aborted, and skipped", make: func(s *script) {
			s.send(1, OK, at(0, 9))
			s.transaction(1, Fail, Step{Send, []Record{at(1, 10)}})
			s.send(1, OK, at(3, 11))
			s.poll(2, at(0, 9))
			s.poll(2, at(3, 11))
		}},
		{name: "polled before the commit", want: []Anomaly{PrecommittedRead}, make: func(s *script) {
			read := s.poll(2, at(0, 10)).End
			s.transaction(1, OK, Step{Send, []Record{at(0, 10)}}).CommitStart = read + 1
		}},
		{name: "polled while the commit is under way", make: func(s *script) {
			read := s.poll(2, at(0, 10)).End
			s.transaction(1, OK, Step{Send, []Record{at(0, 10)}}).CommitStart = read
		}},
		{name: "polled within the transaction that sent it", want: []Anomaly{PrecommittedRead}, make: func(s *script) {
			s.transaction(1, OK, Step{Send, []Record{at(0, 10)}}, Step{Poll, []Record{at(0, 10)}})
		}},
		{name: "half of a committed transaction", unfinish: true, want: []Anomaly{TornTransaction, LostWrite}, make: func(s *script) {
			s.transaction(1, OK, Step{Send, []Record{at(0, 10), other(0, 11)}})
			s.send(3, OK, other(2, 12))
			s.poll(2, at(0, 10), other(2, 12))
		}},
		{name: "half of a transaction of unknown outcome", want: []Anomaly{TornTransaction}, make: func(s *script) {
			s.transaction(1, Info, Step{Send, []Record{at(UnknownOffset, 10), other(UnknownOffset, 11)}})
			s.poll(2, at(0, 10))
		}},
		{name: "all or nothing of transactions of unknown outcome", make: func(s *script) {
			s.transaction(1, Info, Step{Send, []Record{at(UnknownOffset, 10), other(UnknownOffset, 11)}})
			s.transaction(1, Info, Step{Send, []Record{at(UnknownOffset, 12), other(UnknownOffset, 13)}})
			s.poll(2, at(0, 10), other(0, 11))
		}},
		{name: "a record processed by two transactions", want: []Anomaly{TornTransaction}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.transaction(2, OK, Step{Poll, []Record{at(0, 10)}})
			s.transaction(3, OK, Step{Poll, []Record{at(0, 10)}})
		}},
		{name: "a record processed again after an abort", make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.transaction(2, Fail, Step{Poll, []Record{at(0, 10)}})
			s.transaction(2, OK, Step{Poll, []Record{at(0, 10)}}).Moved = true
		}},
		{name: "a record that no transaction of the group processed", want: []Anomaly{TornTransaction}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.send(1, OK, at(1, 11))
			s.transaction(2, Fail, Step{Poll, []Record{at(0, 10)}})
			s.transaction(2, OK, Step{Poll, []Record{at(1, 11)}}).Moved = true
		}},
		{name: "a record that a transaction of unknown outcome may have processed", make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.send(1, OK, at(1, 11))
			s.transaction(2, Info, Step{Poll, []Record{at(0, 10)}})
			s.transaction(2, OK, Step{Poll, []Record{at(1, 11)}}).Moved = true
		}},
		{name: "a poll past a record", want: []Anomaly{PollSkip}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11), at(2, 12))
			s.poll(2, at(0, 10))
			s.poll(2, at(2, 12))
			s.poll(3, at(1, 11))
		}},
		{name: "a poll past a record within one call", want: []Anomaly{IntPollSkip}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11), at(2, 12))
			s.poll(2, at(0, 10), at(2, 12))
			s.poll(3, at(1, 11))
		}},
		{name: "a poll past a record after a rebalance", make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11), at(2, 12))
			s.poll(2, at(0, 10))
			s.poll(2, at(2, 12)).Moved = true
			s.poll(3, at(1, 11))
		}},
		{name: "a poll past a gap in the offsets", make: func(s *script) {
			s.send(1, OK, at(0, 10), at(7, 11))
			s.poll(2, at(0, 10), at(7, 11))
		}},
		{name: "a record polled twice", want: []Anomaly{NonmonotonicPoll}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.poll(2, at(0, 10))
			s.poll(2, at(0, 10))
		}},
		{name: "an earlier record polled within one call", want: []Anomaly{IntNonmonotonicPoll}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11))
			s.poll(2, at(1, 11), at(0, 10))
		}},
		{name: "a record polled twice by the polls of a transaction", want: []Anomaly{IntNonmonotonicPoll, TornTransaction}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.transaction(2, OK, Step{Poll, []Record{at(0, 10)}}, Step{Poll, []Record{at(0, 10)}})
		}},
		{name: "a record polled again after a rebalance", make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.poll(2, at(0, 10))
			s.poll(2, at(0, 10)).Moved = true
		}},
		{name: "a later send before an earlier one", want: []Anomaly{NonmonotonicSend}, make: func(s *script) {
			s.send(1, OK, at(1, 10))
			s.send(1, OK, at(0, 11))
			s.poll(2, at(0, 11), at(1, 10))
		}},
		{name: "a later send before an earlier one of its transaction", want: []Anomaly{IntNonmonotonicSend}, make: func(s *script) {
			s.transaction(1, OK, Step{Send, []Record{at(1, 10), at(0, 11)}})
			s.poll(2, at(0, 11), at(1, 10))
		}},
		{name: "sends of two processes in either order", make: func(s *script) {
			s.send(1, OK, at(1, 10))
			s.send(2, OK, at(0, 11))
			s.poll(3, at(0, 11), at(1, 10))
		}},
		{name: "a group that begins below its committed offset", want: []Anomaly{LostCommit}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11))
			s.poll(2, at(0, 10), at(1, 11))
			s.commit(2, Record{Partition: "t-0", Offset: 1})
			again := s.poll(3, at(0, 10))
			again.Group, again.Moved = "g", true
		}},
		{name: "a group that begins at its committed offset", make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11))
			s.poll(2, at(0, 10), at(1, 11))
			s.commit(2, Record{Partition: "t-0", Offset: 1})
			again := s.poll(3, at(1, 11))
			again.Group, again.Moved = "g", true
		}},
		{name: "a record that a group was not given", groups: []string{"g"}, want: []Anomaly{Unseen}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11))
			s.send(1, Info, at(UnknownOffset, 12))
			s.poll(2, at(0, 10), at(1, 11))
			s.poll(3, at(1, 11)).Group = "g"
		}},
		{name: "a group that was given everything, by two members", groups: []string{"g"}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11))
			s.poll(2, at(0, 10), at(1, 11))
			s.poll(3, at(0, 10)).Group = "g"
			s.poll(4, at(1, 11)).Group = "g"
		}},
		{name: "a record that a group was not given, of a partition that it does not subscribe to", groups: []string{"g"}, apart: []string{"t-1"}, make: func(s *script) {
			s.send(1, OK, at(0, 10), other(0, 20))
			s.poll(2, at(0, 10), other(0, 20))
			s.poll(3, at(0, 10)).Group = "g"
		}},
		{name: "a record that a share group was not given", groups: []string{"shared"}, want: []Anomaly{Unseen}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11))
			s.poll(2, at(0, 10), at(1, 11))
			s.share(3, Deliver, OK, at(1, 11))
		}},
		{name: "delivered, and polled by nobody", want: []Anomaly{Unseen}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.share(3, Deliver, OK, at(0, 10))
		}},
		{name: "delivered again and in another order before it was accepted", groups: []string{"shared"}, make: func(s *script) {
			s.send(1, OK, at(0, 10), at(1, 11))
			s.poll(2, at(0, 10), at(1, 11))
			s.share(3, Deliver, OK, at(1, 11))
			s.share(3, Accept, Info, at(1, 11))
			s.share(4, Deliver, OK, at(1, 11), at(0, 10))
			s.share(4, Accept, OK, at(1, 11), at(0, 10))
		}},
		{name: "delivered again while it was being accepted", make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.poll(2, at(0, 10))
			s.share(3, Deliver, OK, at(0, 10))
			s.share(3, Accept, OK, at(0, 10)).End = 100
			s.share(4, Deliver, OK, at(0, 10))
		}},
		{name: "delivered again after it was accepted", want: []Anomaly{LostAccept}, make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.poll(2, at(0, 10))
			s.share(3, Deliver, OK, at(0, 10))
			s.share(3, Accept, OK, at(0, 10))
			s.share(4, Deliver, OK, at(0, 10))
		}},
		{name: "delivered to a second share group", make: func(s *script) {
			s.send(1, OK, at(0, 10))
			s.poll(2, at(0, 10))
			s.share(3, Deliver, OK, at(0, 10))
			s.share(3, Accept, OK, at(0, 10))
			s.share(4, Deliver, OK, at(0, 10)).Group = "other"
		}},
	}
	shown := map[Anomaly]bool{}
	for _, c := range cases {
		s := &script{}
		c.make(s)
		report, err := Check(s.ops, Options{PolledAll: !c.unfinish, Groups: c.groups, Ungrouped: c.apart})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		found := slices.Sorted(maps.Keys(report.Anomalies()))
		slices.Sort(c.want)
		if !slices.Equal(found, c.want) {
			t.Errorf("%s: found %v, want %v\n%s", c.name, found, c.want, report)
		}
		for _, a := range c.want {
			shown[a] = true
		}
	}
	for _, a := range []Anomaly{InconsistentOffsets, Duplicate, LostWrite, Unseen, AbortedRead, PrecommittedRead, TornTransaction, PollSkip, NonmonotonicPoll, NonmonotonicSend, LostCommit, LostAccept, IntPollSkip, IntNonmonotonicPoll, IntNonmonotonicSend} {
		if !shown[a] {
			t.Errorf("no history shows %s", a)
		}
	}
}

func TestReportNamesOperationsAndCountsAll(t *testing.T) {
	t.Parallel()
	s := &script{}
	s.send(1, OK, at(0, 10))
	for range maxFindings + 5 {
		s.poll(2, at(0, 10))
	}
	report, err := Check(s.ops, Options{PolledAll: true})
	if err != nil {
		t.Fatal(err)
	}
	text := report.String()
	if want := "nonmonotonic-poll: 14"; !strings.Contains(text, want) {
		t.Errorf("the report does not say %q:\n%s", want, text)
	}
	if lines := strings.Count(text, "process 2"); lines != maxFindings {
		t.Errorf("the report has %d findings, want %d:\n%s", lines, maxFindings, text)
	}
}

func TestWhatIsNoHistoryIsRefused(t *testing.T) {
	t.Parallel()
	twice, unsent := &script{}, &script{}
	twice.send(1, OK, at(0, 10))
	twice.send(2, OK, at(1, 10))
	unsent.poll(1, at(0, 10))
	for name, s := range map[string]*script{"sent twice": twice, "which nobody sent": unsent} {
		if _, err := Check(s.ops, Options{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error that says %q", err, name)
		}
	}
}

func TestHistoriesAreReadAsWritten(t *testing.T) {
	t.Parallel()
	s := &script{}
	s.send(1, OK, at(0, 10))
	s.transaction(2, Info, Step{Poll, []Record{at(0, 10)}}, Step{Send, []Record{other(UnknownOffset, 11)}}).Moved = true
	var b bytes.Buffer
	if err := Write(&b, s.ops); err != nil {
		t.Fatal(err)
	}
	ops, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(ops, s.ops) {
		t.Errorf("read %+v, wrote %+v", ops, s.ops)
	}
	if _, err := Read(strings.NewReader("{\"process\":1}\n{\"offset\":2}\n")); err == nil || !strings.Contains(err.Error(), "operation 2") {
		t.Errorf("a wrong field gives %v", err)
	}
}
