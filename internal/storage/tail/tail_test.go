package tail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

func mustAcquire(t testing.TB, p *Pool, n int) {
	t.Helper()
	if err := p.Acquire(context.Background(), n); err != nil {
		t.Fatalf("Acquire(%d): %v", n, err)
	}
}

func mustAppend(t testing.TB, tl *Tail, b []byte) int64 {
	t.Helper()
	mustAcquire(t, tl.pool, len(b))
	pos, err := tl.Append(b)
	if err != nil {
		t.Fatalf("Append of %d bytes: %v", len(b), err)
	}
	return pos
}

// stream returns the byte that every test writes at a position, so that any reader can check what it got.
func stream(pos int64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		p := uint64(pos + int64(i))
		b[i] = byte((p*0x9e3779b97f4a7c15 + p>>13) >> 40)
	}
	return b
}

// TestTailAgreesWithAByteSlice runs random appends, reads and releases of several tails against plain slices.
func TestTailAgreesWithAByteSlice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := NewPool(int64(rapid.SampledFrom([]int{16 << 10, 1 << 20, 64 << 20}).Draw(rt, "budget")), Poison())
		type pair struct {
			tail  *Tail
			start int64
			data  []byte // [start, end)
		}
		pairs := make([]pair, rapid.IntRange(1, 4).Draw(rt, "tails"))
		for i := range pairs {
			pairs[i].start = rapid.Int64Range(0, 1<<40).Draw(rt, "start")
			pairs[i].tail = p.NewTail(pairs[i].start)
		}
		size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 20_000), rapid.IntRange(0, 700_000))
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			m := &pairs[rapid.IntRange(0, len(pairs)-1).Draw(rt, "tail")]
			end := m.start + int64(len(m.data))
			switch rapid.IntRange(0, 3).Draw(rt, "operation") {
			case 0, 1:
				b := stream(end, size.Draw(rt, "append"))
				p.mu.Lock()
				p.reserved += int64(len(b)) // past the budget, which is not what is tested here
				p.mu.Unlock()
				if pos, err := m.tail.Append(b); err != nil || pos != end {
					rt.Fatalf("Append = %d, %v; want %d", pos, err, end)
				}
				m.data = append(m.data, b...)
			case 2:
				n := rapid.IntRange(0, len(m.data)).Draw(rt, "release")
				m.tail.ReleaseTo(m.start + int64(n))
				m.start, m.data = m.start+int64(n), m.data[n:]
			case 3:
				pos := rapid.Int64Range(max(0, m.start-10), end+10).Draw(rt, "pos")
				dst := make([]byte, size.Draw(rt, "read"))
				n, ok := m.tail.ReadAt(dst, pos)
				if len(dst) > 0 && ok != (pos >= m.start) {
					rt.Fatalf("ReadAt(%d) = %d, %t with start %d", pos, n, ok, m.start)
				}
				if ok && pos >= m.start {
					want := m.data[min(pos-m.start, int64(len(m.data))):]
					want = want[:min(len(want), len(dst))]
					if !bytes.Equal(dst[:n], want) {
						rt.Fatalf("ReadAt(%d) of [%d, %d) differs from the model", pos, m.start, end)
					}
				}
			}
			if m.tail.Start() != m.start || m.tail.End() != m.start+int64(len(m.data)) {
				rt.Fatalf("tail is [%d, %d), want [%d, %d)", m.tail.Start(), m.tail.End(), m.start, m.start+int64(len(m.data)))
			}
			if r := p.Resident() - p.InUse(); r > p.idle {
				rt.Fatalf("%d idle bytes, bound %d", r, p.idle)
			}
		}
		for _, m := range pairs {
			m.tail.Close()
		}
		if p.InUse() != 0 {
			rt.Fatalf("InUse = %d after every tail was closed", p.InUse())
		}
		p.Close()
		if p.Resident() != 0 {
			rt.Fatalf("Resident = %d after Close", p.Resident())
		}
	})
}

// TestReadersAgreeBesideAppendAndRelease is for the race detector and for the poison: a reader that gets bytes gets the right ones.
func TestReadersAgreeBesideAppendAndRelease(t *testing.T) {
	t.Parallel()
	p := NewPool(2<<20, Poison())
	defer p.Close()
	tl := p.NewTail(0)
	const total = 12 << 20
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 1))
			dst := make([]byte, 300<<10)
			for pos := int64(0); pos < total; {
				n, ok := tl.ReadAt(dst[:1+rng.IntN(len(dst))], pos)
				if !ok {
					pos = tl.Start()
					continue
				}
				if !bytes.Equal(dst[:n], stream(pos, n)) {
					t.Errorf("reader %d got wrong bytes at %d", r, pos)
					return
				}
				pos += int64(n)
			}
		})
	}
	released := make(chan int64, 1000)
	wg.Go(func() {
		for pos := range released {
			tl.ReleaseTo(pos)
		}
	})
	rng := rand.New(rand.NewPCG(7, 7))
	for pos := int64(0); pos < total; {
		n := min(1+rng.IntN(200<<10), int(total-pos))
		mustAppend(t, tl, stream(pos, n))
		pos += int64(n)
		released <- max(0, pos-256<<10)
	}
	close(released)
	wg.Wait()
	tl.ReleaseTo(total)
	if p.InUse() != 0 {
		t.Errorf("InUse = %d after everything was released", p.InUse())
	}
}

func TestReleasePastEndPanics(t *testing.T) {
	t.Parallel()
	tl := NewPool(1 << 20).NewTail(10)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	tl.ReleaseTo(11)
}

func TestAClosedTailRefusesAppends(t *testing.T) {
	t.Parallel()
	p := NewPool(1 << 20)
	defer p.Close()
	tl := p.NewTail(0)
	mustAppend(t, tl, []byte("abc"))
	tl.Close()
	mustAcquire(t, p, 1)
	if _, err := tl.Append([]byte("d")); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	p.Unacquire(1)
	if n, ok := tl.ReadAt(make([]byte, 1), 0); n != 0 || ok {
		t.Errorf("ReadAt after Close = %d, %t", n, ok)
	}
	if p.InUse() != 0 {
		t.Errorf("InUse = %d", p.InUse())
	}
}

// TestSlabsFollowTheRate checks that a trickle costs the smallest slab, a flood large ones, and that what a flood leaves
// behind moves to a small one.
func TestSlabsFollowTheRate(t *testing.T) {
	t.Parallel()
	p := NewPool(64<<20, Poison())
	defer p.Close()
	tl := p.NewTail(0)
	mustAppend(t, tl, stream(0, 100))
	if got := p.InUse(); got != smallestSlab {
		t.Errorf("100 bytes hold %d, want one slab of %d", got, smallestSlab)
	}
	for tl.End() < 8<<20 {
		mustAppend(t, tl, stream(tl.End(), 1000))
	}
	if n := len(tl.pieces); n > 40 {
		t.Errorf("8 MiB are in %d slabs: they did not grow", n)
	}
	keep := tl.End() &^ (Alignment - 1)
	left := int(tl.End() - keep)
	tl.ReleaseTo(keep)
	tl.Shrink()
	if got := p.InUse(); got != smallestSlab {
		t.Errorf("%d bytes left behind hold %d, want %d", left, got, smallestSlab)
	}
	got := make([]byte, 4000)
	if n, ok := tl.ReadAt(got, keep); !ok || !bytes.Equal(got[:n], stream(keep, left)) {
		t.Error("the remainder changed when it moved")
	}
	tl.ReleaseTo(tl.End())
	if got := p.InUse(); got != 0 {
		t.Errorf("an empty tail holds %d bytes", got)
	}
	if r := p.Resident(); r > maxIdleBytes {
		t.Errorf("%d bytes are resident, bound %d", r, maxIdleBytes)
	}
	p.Trim()
	if r := p.Resident(); r != 0 {
		t.Errorf("%d bytes are resident after Trim", r)
	}
}

func TestATailHoldsNoMoreThanTwiceItsBytes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{smallestSlab, 20_000, 64 << 10, 64<<10 + 61, 300_000, 1 << 20} {
		p := NewPool(64 << 20)
		tl := p.NewTail(0)
		for range 20 {
			mustAppend(t, tl, make([]byte, size))
			if held := tl.Held(); held != p.InUse() || held > 2*tl.End() {
				t.Errorf("batches of %d bytes: %d bytes hold %d, of %d that are in use", size, tl.End(), held, p.InUse())
			}
		}
		p.Close()
	}
}

// A chunk that was cut into small slabs and is cut into larger ones holds the pattern from each small slab's beginning on.
func TestPoisonKnowsAChunkThatIsCutAnew(t *testing.T) {
	t.Parallel()
	for from := range classes {
		for to := range classes {
			p := NewPool(64<<20, Poison())
			var slabs []slab
			for range chunkBytes / classSize(from) {
				s, err := p.take(from)
				if err != nil {
					t.Fatal(err)
				}
				slabs = append(slabs, s)
			}
			for _, s := range slabs {
				p.give(s)
			}
			for range chunkBytes / classSize(to) {
				if _, err := p.take(to); err != nil { // it panics if it takes the pattern for a write
					t.Fatal(err)
				}
			}
		}
	}
}

func TestPoisonFindsAWriteAfterFree(t *testing.T) {
	t.Parallel()
	p := NewPool(64<<20, Poison())
	tl := p.NewTail(0)
	mustAppend(t, tl, make([]byte, 100))
	stale := tl.pieces[0].slab.bytes()
	tl.ReleaseTo(100)
	if bytes.Equal(stale[:8], make([]byte, 8)) {
		t.Error("a freed slab was not poisoned")
	}
	stale[4095] ^= 1
	defer func() {
		if recover() == nil {
			t.Error("no panic when a slab written after its release was taken again")
		}
	}()
	mustAppend(t, tl, []byte("x"))
}

func BenchmarkAppendRelease(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("batch=%dKiB", size>>10), func(b *testing.B) {
			p := NewPool(64 << 20)
			defer p.Close()
			tl := p.NewTail(0)
			batch := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				mustAppend(b, tl, batch)
				if tl.End()-tl.Start() >= 1<<20 {
					tl.ReleaseTo(tl.End() - 4096)
				}
			}
		})
	}
}

func BenchmarkReadAt(b *testing.B) {
	p := NewPool(64 << 20)
	defer p.Close()
	tl := p.NewTail(0)
	mustAppend(b, tl, make([]byte, 8<<20))
	dst := make([]byte, 64<<10)
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	for pos := int64(0); b.Loop(); pos = (pos + int64(len(dst))) % (8 << 20) {
		tl.ReadAt(dst, pos)
	}
}

// TestViewsLieAsInAFile appends and releases at random, with segments that begin now and then, and looks at what a writer of segments
// would get.
func TestViewsLieAsInAFile(t *testing.T) {
	const seed = 4
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	pool := NewPool(64<<20, Poison())
	defer pool.Close()
	tl := pool.NewTail(12_345)
	base := int64(0)
	var model []byte // from position 12,345 on
	at := func(pos int64) int64 { return pos - 12_345 }
	for range 2000 {
		if random.IntN(20) == 0 {
			base = tl.End()
			tl.Align(base)
		}
		b := make([]byte, 1+random.IntN(1<<(1+random.IntN(17))))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		mustAppend(t, tl, b)
		model = append(model, b...)
		if random.IntN(3) == 0 {
			tl.ReleaseTo(tl.Start() + random.Int64N(tl.End()-tl.Start()+1))
		}
		if random.IntN(10) == 0 {
			tl.Shrink()
		}
		for pos := max(tl.Start(), base); pos < tl.End(); {
			v := tl.View(pos, tl.End()-pos)
			if len(v) == 0 || !bytes.Equal(v, model[at(pos):][:len(v)]) {
				t.Fatalf("view at %d of %d..%d: %d bytes, not those that were appended", pos, tl.Start(), tl.End(), len(v))
			}
			if got, want := int64(uintptr(unsafe.Pointer(&v[0])))%Alignment, (pos-base)%Alignment; got != want {
				t.Fatalf("position %d, base %d: address %d modulo %d, want %d", pos, base, got, Alignment, want)
			}
			pos += int64(len(v))
		}
	}
	if v := tl.View(tl.End(), 1); v != nil {
		t.Errorf("a view past the end has %d bytes", len(v))
	}
	tl.Close()
	if n := pool.InUse(); n != 0 {
		t.Errorf("%d bytes in use after Close", n)
	}
}
