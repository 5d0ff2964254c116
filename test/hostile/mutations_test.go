package hostile_test

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fixed seeds make a run repeatable; the count is per capture, and bounded by the time that `go test ./...` may take.
const (
	mutationSeed    = 1
	mutantsPerFrame = 25
	attackers       = 8
)

// nasty are the values that lengths and counts are overwritten with: largest, smallest, null, zero, and a varint of 2^32-1.
var nasty = [][]byte{
	{0x7f, 0xff, 0xff, 0xff},
	{0x80, 0, 0, 0},
	{0xff, 0xff, 0xff, 0xff},
	{0xff, 0xff, 0xff, 0xff, 0x0f},
	{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	{0, 0, 0, 0},
	{0x7f, 0xff},
	{0xff, 0xff},
	{0, 0},
	{0x80, 0x80, 0x80, 0x80, 0x08},
	{0},
	{0xff},
	{0x7f},
	{0x80, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
}

// TestMutatedRequests sends every captured request of real clients with bytes overwritten, removed and added at random places. The
// connection may be answered or closed; everything else is the verdict's.
func TestMutatedRequests(t *testing.T) {
	b := attack(t, nil)
	names, frames := captures(t)
	random := rand.New(rand.NewPCG(mutationSeed, 0))
	mutants := make(chan []byte)
	var all sync.WaitGroup
	var answered atomic.Int64
	for range attackers {
		all.Go(func() {
			for m := range mutants {
				if len(b.exchange(t, frame(m))) > 0 {
					answered.Add(1)
				}
			}
		})
	}
	sent := 0
	for _, name := range names {
		for range mutantsPerFrame {
			mutants <- mutate(random, frames[name])
			sent++
		}
	}
	close(mutants)
	all.Wait()
	t.Logf("%d mutants of %d captures, %d answered", sent, len(names), answered.Load())
}

// mutate changes a copy of a request in one to three places, behind key and version.
func mutate(random *rand.Rand, original []byte) []byte {
	m := append([]byte(nil), original...)
	for range 1 + random.IntN(3) {
		if len(m) < 6 {
			break
		}
		at := 4 + random.IntN(len(m)-4)
		switch random.IntN(6) {
		case 0: // a bit
			m[at] ^= 1 << random.IntN(8)
		case 1: // the end is missing
			m = m[:at]
		case 2: // bytes more
			m = append(m[:at:at], append([]byte{byte(random.Uint32()), byte(random.Uint32())}, m[at:]...)...)
		case 3: // bytes less
			m = append(m[:at:at], m[min(len(m), at+1+random.IntN(4)):]...)
		default:
			copy(m[at:], nasty[random.IntN(len(nasty))])
		}
	}
	return m
}

// TestHugeCountsEverywhere sends all that hugeCounts makes.
func TestHugeCountsEverywhere(t *testing.T) {
	b := attack(t, nil)
	mutants := make(chan []byte)
	var all sync.WaitGroup
	for range attackers {
		all.Go(func() {
			for m := range mutants {
				b.exchange(t, m)
			}
		})
	}
	sent := hugeCounts(t, func(m []byte) { mutants <- m })
	close(mutants)
	all.Wait()
	t.Logf("%d mutants", sent)
}

// hugeCounts overwrites every position of one capture of each API version with a count of 2^31-1 elements, and with one of 2^32-1 tagged
// fields or compact elements. It returns how many frames it has sent.
func hugeCounts(t *testing.T, send func(mutant []byte)) (sent int64) {
	const positions = 160 // of a frame: requests are short, what is longer is records
	names, frames := captures(t)
	seen := map[[4]byte]bool{}
	for _, name := range names {
		f := frames[name]
		kind := [4]byte(f)
		if seen[kind] {
			continue
		}
		seen[kind] = true
		// Mutants that are refused close their connection; they are sent one by one.
		for at := 8; at < min(len(f), positions); at += 2 {
			for i, value := range [][]byte{{0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 0x0f}} {
				m := append([]byte(nil), f...)
				copy(m[at+i%2*(at/2%2):], value) // varints have no alignment
				send(frame(m))
				sent++
			}
		}
	}
	return sent
}

// TestTagCountInHeaderOfEveryRequest claims 2^32-1 tagged fields in the header of every flexible version that is served.
func TestTagCountInHeaderOfEveryRequest(t *testing.T) {
	b := attack(t, nil)
	for key := range int16(93) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for version := range req.MaxVersion() + 1 {
			req.SetVersion(version)
			if !req.IsFlexible() {
				continue
			}
			head := binary.BigEndian.AppendUint16(nil, uint16(key))
			head = binary.BigEndian.AppendUint16(head, uint16(version))
			head = append(head, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)
			if answer := b.exchange(t, frame(req.AppendTo(head))); len(answer) > 0 && key != 18 {
				t.Errorf("%s v%d was answered with %d bytes", kmsg.NameForKey(key), version, len(answer))
			}
		}
	}
}
