package segment

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

// Every reader gets arbitrary bytes: it must not panic, and what it accepts must come back the same when it is written.

func FuzzState(f *testing.F) {
	f.Add(emptyState(0).AppendTo(nil))
	st := emptyState(5)
	st.Size, st.NextOffset, st.Sealed = 100, 7, true
	f.Add(st.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, rest, err := ParseState(b)
		if err != nil {
			return
		}
		if got := append(st.AppendTo(nil), rest...); !bytes.Equal(got, b) {
			t.Errorf("%x came back as %x", b, got)
		}
	})
}

func FuzzSidecar(f *testing.F) {
	b, err := os.ReadFile("testdata/sidecar-v1.crc")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		// A checksum in the way would keep the fuzzer out: put the right ones.
		if end := len(b) - footerSize; end >= sidecarHeaderSize {
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[end:len(b)-4], castagnoli))
		}
		st, err := parseSidecar(b, 103)
		if footer := sidecarFooter(st); err == nil && !bytes.HasSuffix(b, footer) {
			t.Errorf("footer of %x came back as %x", b, footer)
		}
	})
}

func FuzzProducerSnapshot(f *testing.F) {
	b, err := os.ReadFile(golden + "/" + FileName(156, snapshotSuffix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(formatSnapshot(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= snapshotCRCEnd {
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b[snapshotCRCStart:], crc32.Checksum(b[snapshotCRCEnd:], castagnoli))
		}
		entries, err := parseSnapshot(b)
		if err == nil && !bytes.Equal(formatSnapshot(entries), b) {
			t.Errorf("%x came back as %x", b, formatSnapshot(entries))
		}
	})
}

func FuzzLeaderEpochs(f *testing.F) {
	f.Add([]byte("0\n2\n0 0\n7 99\n"))
	f.Add([]byte("0\n0\n"))
	f.Add([]byte("1\n1\n0 0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		epochs, err := parseLeaderEpochs(b)
		if err != nil {
			return
		}
		again, err := parseLeaderEpochs(formatLeaderEpochs(epochs))
		if err != nil || len(again) != len(epochs) {
			t.Errorf("%v came back as %v, %v", epochs, again, err)
		}
		for i := range again {
			if again[i] != epochs[i] {
				t.Errorf("%v came back as %v", epochs, again)
			}
		}
	})
}

func FuzzPartitionMetadata(f *testing.F) {
	f.Add(formatPartitionMetadata(base.TopicID{1, 2, 3}))
	f.Add([]byte("version: 0\ntopic_id: \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parsePartitionMetadata(b)
		if err != nil {
			return
		}
		if again, err := parsePartitionMetadata(formatPartitionMetadata(id)); err != nil || again != id {
			t.Errorf("%v came back as %v, %v", id, again, err)
		}
	})
}

func FuzzAbortedTxns(f *testing.F) {
	f.Add(AbortedTxn{1, 2, 3, 2}.AppendTo(AbortedTxn{1, 0, 1, 0}.AppendTo(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := ParseAbortedTxns(b)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = e.AppendTo(again)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x", b, again)
		}
	})
}

// FuzzIndexes gives lookups arbitrary index files whose CRCs are right, as a bug of ours could write them: no panic.
func FuzzIndexes(f *testing.F) {
	f.Add(indexEntry(indexEntry(nil, 5, 100), 9, 5000), timeEntry(nil, 1_700_000_000_000, 5), int64(7))
	f.Fuzz(func(t *testing.T, index, time []byte, at int64) {
		index, time = index[:len(index)/8*8], time[:len(time)/12*12]
		o := memory(t, 0)
		writeFile(t, o, indexSuffix, index)
		writeFile(t, o, timeIndexSuffix, time)
		st := emptyState(0)
		st.Size, st.NextOffset, st.MaxTimestamp, st.Sealed = 60_000, 10_000, 1<<62, true
		st.Index = FileState{int32(len(index) / 8), crc32.Checksum(index, castagnoli)}
		st.TimeIndex = FileState{int32(len(time) / 12), crc32.Checksum(time, castagnoli)}
		s, err := OpenSealed(o, st)
		must(t, err)
		_, err = s.Lookup(base.Offset(at))
		must(t, err)
		_, err = s.LookupTime(at)
		must(t, err)
	})
}

// FuzzReindex gives the rebuilding of indexes an arbitrary log whose block CRC is right.
func FuzzReindex(f *testing.F) {
	data, _ := newStream(1, 0).batches(2000)
	f.Add(data)
	f.Fuzz(func(t *testing.T, log []byte) {
		if len(log) == 0 || len(log) >= BlockSize {
			return
		}
		o := memory(t, 0)
		o.Report = nil
		writeFile(t, o, logSuffix, log)
		st := emptyState(0)
		st.Size, st.NextOffset, st.Sealed = int64(len(log)), 10_000, true
		st.BlockCRC = crc32.Checksum(log, castagnoli)
		st.Index = FileState{Entries: 1}
		s, err := OpenSealed(o, st)
		must(t, err)
		_, err = s.Lookup(5)
		if err != nil && asDamage(err) == nil {
			t.Errorf("Lookup: %v", err)
		}
	})
}
