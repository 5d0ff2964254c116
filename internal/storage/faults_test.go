package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// A full disk refuses appends and changes nothing; what is there is read on; with room again everything goes on.
func TestFullDiskRefusesAppendsAndHeals(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int64{1200 << 10, 1700 << 10, 2100 << 10, 2200<<10 + 4096, 3 << 20} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			t.Parallel()
			testFullDisk(t, capacity)
		})
	}
}

func testFullDisk(t *testing.T, capacity int64) {
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 300_000})
	cfg := testConfig(fs, spec)
	cfg.WALMaxBytes, cfg.WALFileBytes, cfg.TailBytes = 1<<20, 128<<10, 1<<20
	cfg.Logger = testLogger(t)
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	fs.SetCapacity(capacity)
	var want []byte
	refused := 0
	for i := 0; i < 4000 && refused < 3; i++ {
		batch, h := makeBatch(batchSpec{size: 4000, seed: i})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		at, err := p.Append(ctx, batch, h, AppendOptions{})
		cancel()
		switch {
		case errors.Is(err, ErrNoSpace):
			refused++
		case err != nil:
			t.Fatalf("append %d: %v", i, err)
		default:
			if err := e.Wait(t.Context(), at.Sequence); err != nil {
				t.Fatalf("append %d: %v", i, err)
			}
			want = append(want, batch...)
		}
	}
	if refused == 0 {
		t.Fatal("the disk never filled")
	}
	if got, err := readAll(p, 0, 1<<20); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("with a full disk %d bytes are read, %v; want %d", len(got), err, len(want))
	}
	fs.SetCapacity(0)
	healed := time.Now().Add(20 * time.Second)
	for i := 0; i < 500; i++ {
		batch, h := makeBatch(batchSpec{size: 4000, seed: -i})
		at, err := p.Append(t.Context(), batch, h, AppendOptions{})
		if errors.Is(err, ErrNoSpace) && time.Now().Before(healed) {
			i--
			<-time.After(10 * time.Millisecond) // the wal and the flusher try again by the clock
			continue
		}
		if err != nil {
			t.Fatalf("append %d with room again: %v", i, err)
		}
		if err := e.Wait(t.Context(), at.Sequence); err != nil {
			t.Fatal(err)
		}
		want = append(want, batch...)
	}
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	closeEngine(t, e)
	p = partition(t, open(t, cfg), spec.ID)
	if got, err := readAll(p, 0, 1<<20); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("after reopening %d bytes are read, %v; want %d", len(got), err, len(want))
	}
}

var errInjected = errors.New("injected")

// Whatever write or sync fails: nothing acknowledged is lost, and either the engine fails or the error does no harm.
func TestErrorAtEveryWriteAndSync(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		fs := newFS(t)
		var mu sync.Mutex // guards calls and hit
		calls, hit := 0, crashfs.Op{}
		fs.SetFault(func(op crashfs.Op) error {
			if !op.Kind.Changes() {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			calls++
			if calls == n+1 {
				hit = op
				return errInjected
			}
			return nil
		})
		want, err := faultySession(fs)
		fs.SetFault(nil)
		if hit.Kind == 0 {
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d calls", n)
			return
		}
		if err := verifySession(fs, want); err != nil {
			t.Fatalf("call %d (%v %s) failed: %v", n, hit.Kind, hit.Path, err)
		}
	}
}

// faultySession runs a short life of an engine and returns the batches that were acknowledged.
func faultySession(fs *crashfs.FS) (acked [][]byte, err error) {
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 5000})
	cfg := testConfig(fs, spec)
	cfg.WALMaxBytes, cfg.WALFileBytes = 1<<20, 64<<10
	e, err := Open(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	defer e.Close(context.Background())
	p, _ := e.Partition(spec.ID)
	for i := range 30 {
		batch, h := makeBatch(batchSpec{size: 700, seed: i})
		at, err := p.Append(context.Background(), batch, h, AppendOptions{})
		if err == nil {
			err = e.Wait(context.Background(), at.Sequence)
		}
		if err != nil {
			return acked, err
		}
		acked = append(acked, batch)
		switch i {
		case 10, 20:
			if err := p.flush(1); err != nil {
				e.flushed(p, err)
			}
		case 15, 25:
			if err := e.Checkpoint(context.Background()); err != nil {
				return acked, err
			}
		}
	}
	return acked, e.Close(context.Background())
}

// verifySession looks for the acknowledged batches.
func verifySession(fs *crashfs.FS, acked [][]byte) error {
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 5000})
	cfg := testConfig(fs, spec)
	cfg.WALMaxBytes, cfg.WALFileBytes = 1<<20, 64<<10
	e, err := Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	defer e.Close(context.Background())
	p, _ := e.Partition(spec.ID)
	got, err := readAll(p, 0, 4000)
	if err != nil {
		return err
	}
	if want := bytes.Join(acked, nil); !bytes.HasPrefix(got, want) {
		return fmt.Errorf("%d bytes, want those %d that were acknowledged", len(got), len(want))
	}
	return nil
}

// A flipped bit anywhere in the data folder is found and named, or does no harm.
func TestFlippedBitsAreFoundOrHarmless(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	acked, err := faultySession(fs)
	if err != nil {
		t.Fatal(err)
	}
	// A second life that is killed leaves a wal that matters, and a body of which only the wal knows.
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 20_000})
	cfg := testConfig(fs, spec)
	cfg.WALMaxBytes, cfg.WALFileBytes = 1<<20, 64<<10
	cfg.IndirectBytes, cfg.IndirectWaiting = 9000, -1
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	for i := range 10 {
		b := batchSpec{size: 700, seed: 100 + i}
		if i == 8 {
			b.size = 9000
			wantRoom(p)
			if err := p.flush(flushBlock); err != nil {
				t.Fatal(err)
			}
		}
		batch, h := makeBatch(b)
		at, err := p.Append(t.Context(), batch, h, AppendOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Wait(t.Context(), at.Sequence); err != nil {
			t.Fatal(err)
		}
		acked = append(acked, batch)
	}
	if e.log.Stats().Bodies == 0 {
		t.Fatal("no body went past the wal")
	}
	kill(e)

	flips, seed := proof.Times(t, 100, 2000, 1_000_000), proof.Seed(t)
	row := proof.Start(t, "bit-rot", "bits flipped", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	found := 0
	for range flips {
		image := fs.CrashImageKeeping(rng, 100)
		what, err := flipBit(image, rng)
		if err != nil {
			t.Fatal(err)
		}
		switch err := readWithDamage(image, acked); {
		case errors.Is(err, errDamageNamed):
			found++
		case err != nil:
			row.Lost(1)
			t.Fatalf("%s: %v", what, err)
		}
		row.Tried(1)
	}
	if found == 0 {
		t.Fatal("no flipped bit was found")
	}
	row.Note("%d were found, the others did no harm", found)
}

var errDamageNamed = errors.New("damage was named")

// readWithDamage opens an image with a flipped bit. errDamageNamed if opening or reading says so, nil if everything is right.
func readWithDamage(fs *crashfs.FS, acked [][]byte) error {
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 5000})
	cfg := testConfig(fs, spec)
	cfg.WALMaxBytes, cfg.WALFileBytes = 1<<20, 64<<10
	e, err := Open(context.Background(), cfg)
	if err != nil {
		return errDamageNamed // loud, before anything is served
	}
	defer kill(e)
	named := len(e.Damage()) > 0
	p, _ := e.Partition(spec.ID)
	end := p.Offsets().HighWatermark
	if int(end) < len(acked) && !named {
		return fmt.Errorf("the log ends at %d, %d were acknowledged, and nothing was said", end, len(acked))
	}
	for i, want := range acked { // one record in each
		s, err := p.Read(base.Offset(i), ReadOptions{MaxBytes: 1, AtLeastOne: true})
		var got []byte
		if err == nil {
			got, err = s.Bytes()
		}
		switch {
		case errors.Is(err, ErrDamage):
			named = true
		case errors.Is(err, ErrOffsetOutOfRange) && named:
		case err != nil:
			return fmt.Errorf("offset %d: %w", i, err)
		case !bytes.Equal(got, want):
			return fmt.Errorf("offset %d holds other bytes", i)
		}
	}
	if named {
		return errDamageNamed
	}
	return nil
}

// flipBit flips one bit of one file, both drawn; files weigh by their size.
func flipBit(fs *crashfs.FS, rng *rand.Rand) (string, error) {
	type file struct {
		path string
		size int64
	}
	var files []file
	total := int64(0)
	var walk func(dir string) error
	walk = func(dir string) error {
		names, err := fs.List(dir)
		if err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			path := fs.PathJoin(dir, name)
			info, err := fs.Stat(path)
			if err != nil {
				return err
			}
			if info.IsDir() {
				if err := walk(path); err != nil {
					return err
				}
				continue
			}
			size := info.Size()
			if strings.HasSuffix(name, ".wal") {
				size = min(size, 24<<10) // most of a wal file is zeros
			}
			files = append(files, file{path, size})
			total += size
		}
		return nil
	}
	if err := walk(testDir); err != nil {
		return "", err
	}
	at := rng.Int64N(total)
	for _, f := range files {
		if at >= f.size {
			at -= f.size
			continue
		}
		h, err := fs.OpenReadWrite(f.path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return "", err
		}
		defer h.Close()
		var b [1]byte
		if _, err := h.ReadAt(b[:], at); err != nil {
			return "", err
		}
		bit := rng.IntN(8)
		b[0] ^= 1 << bit
		_, err = h.WriteAt(b[:], at)
		return fmt.Sprintf("bit %d of byte %d of %s", bit, at, f.path), err
	}
	return "", errors.New("no file")
}
