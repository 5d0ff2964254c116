package segment

import (
	"errors"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

func TestFileNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		base   base.Offset
		suffix string
		ok     bool
	}{
		"00000000000000000500.log":       {500, ".log", true},
		"09223372036854775807.timeindex": {1<<63 - 1, ".timeindex", true},
		"00000000000000000007.snapshot":  {7, ".snapshot", true},
		"00000000000000000007.crc":       {7, ".crc", true},
		"09223372036854775808.log":       {},
		"-0000000000000000001.log":       {},
		"+0000000000000000001.log":       {},
		"0000000000000000001.log":        {},
		"000000000000000000001.log":      {},
		"00000000000000000001.deleted":   {},
		"00000000000000000001":           {},
		"leader-epoch-checkpoint":        {},
	} {
		b, suffix, ok := ParseFileName(name)
		if ok != want.ok || ok && (b != want.base || suffix != want.suffix || FileName(b, suffix) != name) {
			t.Errorf("ParseFileName(%q) = %d, %q, %t", name, b, suffix, ok)
		}
	}
}

func TestLeaderEpochsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":               "",
		"unknown version":     "1\n0\n",
		"no count":            "0\n",
		"count of words":      "0\nmany\n",
		"negative count":      "0\n-1\n",
		"fewer lines":         "0\n2\n0 0\n",
		"more lines":          "0\n1\n0 0\n1 1\n",
		"one number":          "0\n1\n5\n",
		"negative epoch":      "0\n1\n-1 0\n",
		"epoch of 33 bits":    "0\n1\n4294967296 0\n",
		"epochs step back":    "0\n2\n3 0\n2 5\n",
		"offsets step back":   "0\n2\n3 9\n4 5\n",
		"something after it":  "0\n1\n3 9 1\n",
		"an epoch twice":      "0\n2\n3 0\n3 5\n",
		"a count beyond ints": "0\n99999999999999999999\n",
	} {
		o := memory(t, 0)
		must(t, replaceFile(o.FS, o.Dir, LeaderEpochFile, []byte(text)))
		_, err := ReadLeaderEpochs(o.FS, o.Dir)
		var d *DamageError
		if !errors.As(err, &d) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPartitionMetadataRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "version: 0", "version: 1\ntopic_id: AQIDAAAAAAAAAAAAAAAAAA", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
		"version: 0\ntopic_id: short", "version: 0\ntopic: AQIDAAAAAAAAAAAAAAAAAA"} {
		o := memory(t, 0)
		must(t, replaceFile(o.FS, o.Dir, PartitionMetadataFile, []byte(text)))
		_, err := ReadPartitionMetadata(o.FS, o.Dir)
		var d *DamageError
		if !errors.As(err, &d) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEveryBitFlipOfASnapshotIsFound(t *testing.T) {
	t.Parallel()
	b := goldenFile(t, FileName(156, snapshotSuffix))
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := parseSnapshot(b); err == nil {
			t.Errorf("bit %d was not found", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func TestStatesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	good := emptyState(10)
	good.Size, good.NextOffset, good.Sidecar.Entries = 70_000, 20, 1
	must(t, good.validate())
	for name, change := range map[string]func(*State){
		"negative base":            func(s *State) { s.Base = -1 },
		"next before base":         func(s *State) { s.NextOffset = 9 },
		"negative size":            func(s *State) { s.Size = -1 },
		"size past 32 bits":        func(s *State) { s.Size, s.Sidecar.Entries = 1<<31, 1<<15 },
		"bytes without offsets":    func(s *State) { s.NextOffset = 10 },
		"offsets without bytes":    func(s *State) { s.Size, s.Sidecar.Entries = 0, 0 },
		"blocks without CRC":       func(s *State) { s.Sidecar.Entries = 0 },
		"CRCs without blocks":      func(s *State) { s.Sidecar.Entries = 2 },
		"negative entries":         func(s *State) { s.Index.Entries = -1 },
		"more entries than bytes":  func(s *State) { s.TimeIndex.Entries = 70_001 },
		"negative bytes since one": func(s *State) { s.SinceIndex = -1 },
	} {
		st := good
		change(&st)
		if _, _, err := ParseState(st.AppendTo(nil)); !errors.Is(err, errState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := memory(t, 11)
	if _, err := OpenActive(o, good); err == nil {
		t.Error("a state of another segment was taken")
	}
	o.Base = 10
	if _, err := OpenSealed(o, good); err == nil {
		t.Error("a state of an active segment was taken for a sealed one")
	}
}
