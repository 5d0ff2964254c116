package segment

import (
	"slices"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

// aborting writes a segment in which every second batch aborts a transaction, in several writes.
func aborting(t *testing.T, o Options, batches int) (*Segment, []AbortedTxn) {
	t.Helper()
	s := Create(o)
	g := newStream(3, o.Base)
	g.payload, g.records = 20, 1
	var want []AbortedTxn
	for i := range batches {
		data, meta := g.batch()
		if i%2 == 1 {
			a := AbortedTxn{ProducerID: base.ProducerID(i), FirstOffset: meta.FirstOffset - 1, LastOffset: meta.FirstOffset, LastStable: meta.FirstOffset + 1}
			meta.Aborted = &a
			want = append(want, a)
		}
		must(t, s.Write(data, []BatchMeta{meta}))
		if i%300 == 200 {
			must(t, s.Sync())
		}
	}
	return s, want
}

func abortedFrom(t *testing.T, s *Segment, from base.Offset) (got []AbortedTxn) {
	t.Helper()
	must(t, s.Aborted(from, func(a AbortedTxn) bool {
		got = append(got, a)
		return true
	}))
	return got
}

func TestAbortedTransactionsAreFoundFromAnyOffset(t *testing.T) {
	t.Parallel()
	o := memory(t, 100)
	s, want := aborting(t, o, 1001)
	check := func(how string, s *Segment) {
		t.Helper()
		for from := base.Offset(90); from < 1110; from++ {
			i := slices.IndexFunc(want, func(a AbortedTxn) bool { return a.LastOffset >= from })
			if got := abortedFrom(t, s, from); i < 0 && got != nil || i >= 0 && !slices.Equal(got, want[i:]) {
				t.Fatalf("%s: %d aborted transactions from offset %d, want those from number %d", how, len(got), from, i)
			}
		}
	}
	check("while it is written", s)
	must(t, s.Seal())
	st, rest, err := ParseState(s.State().AppendTo(nil))
	if err != nil || len(rest) > 0 || st != s.State() || st.TxnIndex.Entries != int32(len(want)) {
		t.Fatalf("state %+v came back as %+v, %v", s.State(), st, err)
	}
	if footer, err := ReadFooter(o); err != nil || footer != st {
		t.Fatalf("footer %+v, %v; want %+v", footer, err, st)
	}
	if entries, err := ParseAbortedTxns(readFile(t, o, txnIndexSuffix)); err != nil || !slices.Equal(entries, want) {
		t.Fatalf("the file holds %d entries, %v; want %d", len(entries), err, len(want))
	}
	must(t, s.Close())
	s, err = OpenSealed(o, st)
	must(t, err)
	check("opened again", s)
	must(t, s.Verify(t.Context(), VerifyOptions{Report: func(d DamageError) { t.Errorf("damage: %v", &d) }}))
}

func TestADamagedTransactionIndexIsAnError(t *testing.T) {
	t.Parallel()
	o := memory(t, 100)
	s, _ := aborting(t, o, 400)
	must(t, s.Seal())
	must(t, s.Close())
	b := readFile(t, o, txnIndexSuffix)
	b[77] ^= 4
	writeFile(t, o, txnIndexSuffix, b)
	found := 0
	o.Report = func(*DamageError) { found++ }
	s, err := OpenSealed(o, s.State())
	must(t, err)
	err = s.Aborted(0, func(AbortedTxn) bool { return true })
	if asDamage(err) == nil || found == 0 {
		t.Fatalf("%v, reported %d times; want damage", err, found)
	}
}
