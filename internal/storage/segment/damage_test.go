package segment

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
)

// reports collects what a segment says of healed damage.
type reports []DamageError

func (r *reports) add(d *DamageError) { *r = append(*r, *d) }

func (r reports) of(suffix string) bool {
	return slices.ContainsFunc(r, func(d DamageError) bool { return strings.HasSuffix(d.File, suffix) })
}

// flip turns one bit of a file over.
func flip(t testing.TB, o Options, suffix string, bit int64) {
	t.Helper()
	f, err := o.FS.OpenReadWrite(o.FS.PathJoin(o.Dir, FileName(o.Base, suffix)), vfs.WriteCategoryUnspecified)
	must(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], bit/8)
	must(t, err)
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b[:], bit/8)
	must(t, err)
	must(t, f.Close())
}

// TestEveryBitFlipIsFoundOrHarmless turns over every bit of every file of a small sealed segment, one at a time. Whatever is then read
// is right or refused, lookups stay right, and Verify names the file.
func TestEveryBitFlipIsFoundOrHarmless(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, stride, logStride int }{
		"less than a block": {1500, effort, effort},
		"several blocks":    {140_000, 23 * effort, 8009}, // only here and there
	} {
		o := memory(t, 1000)
		o.IndexInterval = c.size / 40
		st, data, metas := sealed(t, o, 5, c.size)
		var m model
		m.add(data, metas)
		for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix, sidecarSuffix} {
			stride := c.stride
			if suffix == logSuffix {
				stride = c.logStride
			}
			bits := len(readFile(t, o, suffix)) * 8
			if bits == 0 {
				t.Fatalf("%s: %s is empty", name, suffix)
			}
			for bit := 0; bit < bits; bit += stride {
				flip(t, o, suffix, int64(bit))
				checkFlipped(t, o, st, &m, suffix, int64(bit))
				flip(t, o, suffix, int64(bit))
			}
		}
	}
}

func checkFlipped(t *testing.T, o Options, st State, m *model, suffix string, bit int64) {
	t.Helper()
	var healed reports
	o.Report = healed.add
	s, err := OpenSealed(o, st)
	must(t, err)
	defer s.Close()
	got := make([]byte, st.Size)
	n, err := s.ReadAt(got, 0)
	if !bytes.Equal(got[:n], m.data[:n]) {
		t.Fatalf("%s bit %d: wrong bytes were read", suffix, bit)
	}
	var d *DamageError
	if suffix == logSuffix {
		if !errors.As(err, &d) || d.Pos/BlockSize != bit/8/BlockSize || int64(n) != d.Pos || d.FirstOffset != o.Base {
			t.Fatalf("%s bit %d: read %d bytes, %v", suffix, bit, n, err)
		}
		// Everything else is still served.
		if end := d.Pos + d.Len; end < st.Size {
			rest := got[:st.Size-end]
			if _, err := s.ReadAt(rest, end); err != nil || !bytes.Equal(rest, m.data[end:]) {
				t.Fatalf("%s bit %d: the blocks after the damage: %v", suffix, bit, err)
			}
		}
	} else if err != nil {
		t.Fatalf("%s bit %d: %v", suffix, bit, err)
	}
	i := int(bit) % len(m.metas)
	pos, err := s.Lookup(m.metas[i].LastOffset)
	must(t, err)
	m.boundary(t, pos, i, o.IndexInterval)
	if _, err := s.LookupTime(m.metas[i].MaxTimestamp); err != nil {
		t.Fatal(err)
	}
	if wants := suffix == indexSuffix || suffix == timeIndexSuffix || suffix == sidecarSuffix && st.Sidecar.Entries > 0; wants && !healed.of(suffix) {
		t.Fatalf("%s bit %d: not reported", suffix, bit)
	}
	var found reports
	must(t, s.Verify(t.Context(), VerifyOptions{Report: func(d DamageError) { found.add(&d) }}))
	if !found.of(suffix) {
		t.Fatalf("%s bit %d: Verify did not find it: %v", suffix, bit, found)
	}
}

// TestMissingAndShortFilesAreDamage cuts each file to several lengths and removes it.
func TestMissingAndShortFilesAreDamage(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix, sidecarSuffix} {
		for _, part := range []int{-1, 0, 1, 2} { // -1: gone, else that many thirds
			o := memory(t, 1000)
			st, data, metas := sealed(t, o, 6, 200_000)
			var m model
			m.add(data, metas)
			b := readFile(t, o, suffix)
			must(t, o.FS.Remove(o.FS.PathJoin(o.Dir, FileName(o.Base, suffix))))
			keep := 0
			if part >= 0 {
				keep = len(b) * part / 3
				writeFile(t, o, suffix, b[:keep])
			}
			var healed reports
			o.Report = healed.add
			s, err := OpenSealed(o, st)
			must(t, err)
			got := make([]byte, st.Size)
			n, err := s.ReadAt(got, 0)
			if !bytes.Equal(got[:n], m.data[:n]) {
				t.Fatalf("%s cut to %d: wrong bytes", suffix, keep)
			}
			var d *DamageError
			if suffix == logSuffix && (!errors.As(err, &d) || n != keep/BlockSize*BlockSize) || suffix != logSuffix && err != nil {
				t.Fatalf("%s cut to %d: read %d, %v", suffix, keep, n, err)
			}
			pos, err := s.Lookup(metas[len(metas)-1].LastOffset)
			must(t, err)
			m.boundary(t, pos, len(metas)-1, DefaultIndexInterval)
			var found reports
			must(t, s.Verify(t.Context(), VerifyOptions{Report: func(d DamageError) { found.add(&d) }}))
			if !found.of(suffix) {
				t.Fatalf("%s cut to %d: Verify found %v", suffix, keep, found)
			}
			must(t, s.Close())
		}
	}
}

// TestADamagedIndexAndLogTogether: what lies before the damage in the log is found as ever, and from there a reader meets the damage.
func TestADamagedIndexAndLogTogether(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	st, data, _ := sealed(t, o, 8, 200_000)
	flip(t, o, indexSuffix, 77)
	flip(t, o, logSuffix, 8*100_000)
	var healed reports
	o.Report = healed.add
	s, err := OpenSealed(o, st)
	must(t, err)
	var d *DamageError
	if pos, err := s.Lookup(st.NextOffset - 1); err != nil || pos == 0 || pos >= 100_000 {
		t.Errorf("Lookup of the last offset: %d, %v; want the last indexed batch before the damage", pos, err)
	}
	if _, err := s.ReadAt(make([]byte, 10), 100_000); !errors.As(err, &d) || !strings.HasSuffix(d.File, logSuffix) {
		t.Errorf("ReadAt in the damage: %v", err)
	}
	if !healed.of(indexSuffix) {
		t.Error("the index was not reported")
	}
	p := make([]byte, 1000)
	if _, err := s.ReadAt(p, 10); err != nil || !bytes.Equal(p, data[10:1010]) {
		t.Errorf("ReadAt before the damage: %v", err)
	}
}

// TestADamagedSidecarAndLogTogether still serves the blocks whose CRCs are right.
func TestADamagedSidecarAndLogTogether(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	st, data, _ := sealed(t, o, 8, 300_000)
	flip(t, o, sidecarSuffix, 8*sidecarHeaderSize) // CRC of block 0
	flip(t, o, logSuffix, 8*(2*BlockSize+5))       // block 2
	var healed reports
	o.Report = healed.add
	s, err := OpenSealed(o, st)
	must(t, err)
	for block, bad := range []bool{true, false, true, false} {
		p := make([]byte, BlockSize)
		_, err := s.ReadAt(p, int64(block)*BlockSize)
		var d *DamageError
		if bad != errors.As(err, &d) || !bad && !bytes.Equal(p, data[block*BlockSize:(block+1)*BlockSize]) {
			t.Errorf("block %d: %v", block, err)
		}
	}
	if !healed.of(sidecarSuffix) {
		t.Error("the sidecar was not reported")
	}
}

// TestDamageAfterLoadingIsFound changes a page of each file after its summary was made.
func TestDamageAfterLoadingIsFound(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	o.IndexInterval = 1
	s := Create(o)
	g := newStream(1, 0)
	g.payload = 100
	data, metas := g.batches(512 << 10)
	must(t, s.Write(data, metas))
	must(t, s.Seal())
	mid := metas[len(metas)/4].LastOffset
	if _, err := s.Lookup(mid); err != nil {
		t.Fatal(err)
	}
	flip(t, o, indexSuffix, 8*8*int64(len(metas)/4))
	var d *DamageError
	if _, err := s.Lookup(mid); !errors.As(err, &d) || !strings.HasSuffix(d.File, indexSuffix) {
		t.Errorf("Lookup: %v", err)
	}
	if _, err := s.Lookup(metas[len(metas)-1].LastOffset); err != nil {
		t.Errorf("Lookup on another page: %v", err)
	}
}

// TestSystemErrorsAreToldApart: a failing read is damage, a file that cannot be opened for want of descriptors is not.
func TestSystemErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	s := Create(o)
	var d *DamageError
	if err := s.readDamage(logSuffix, 5, 10, errors.New("input/output error")); !errors.As(err, &d) || d.Pos != 5 || d.Len != 10 || d.Err == nil {
		t.Errorf("a failing read: %v", err)
	}
	if err := s.readDamage(logSuffix, 5, 10, &openError{errors.New("too many open files")}); errors.As(err, &d) {
		t.Errorf("no descriptors: %v", err)
	}
	if err := s.readDamage(logSuffix, 5, 10, io.ErrUnexpectedEOF); !errors.As(err, &d) {
		t.Errorf("a short file: %v", err)
	}
}

// TestRebuildingFollowsAnotherInterval: an index made anew under another index.interval.bytes has other entries, and works.
func TestRebuildingFollowsAnotherInterval(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	st, data, metas := sealed(t, o, 12, 300_000)
	var m model
	m.add(data, metas)
	flip(t, o, indexSuffix, 9)
	flip(t, o, timeIndexSuffix, 9)
	o.IndexInterval = 20_000
	var healed reports
	o.Report = healed.add
	s, err := OpenSealed(o, st)
	must(t, err)
	m.check(t, s, rand.New(rand.NewPCG(1, 1)), o.IndexInterval)
	if len(healed) != 2 {
		t.Errorf("reports: %v", healed)
	}
	if healed[0].FirstOffset != base.Offset(0) {
		t.Errorf("first offset %d", healed[0].FirstOffset)
	}
}
