package storage

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

func TestTheKeyMapKnowsTheNewestOffsetOfEachKey(t *testing.T) {
	t.Parallel()
	const first, keys = base.Offset(1 << 40), 1000
	m, err := newKeyMap(keys, 1<<20, 0.9)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}()
	hash := func(n int) keyHash { return m.hash(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	for n := range 3 * keys {
		if !m.put(hash(n%keys), first+base.Offset(n)) {
			t.Fatalf("no room for key %d", n%keys)
		}
	}
	m.put(hash(7), first) // older than what is known
	for n := range keys {
		if got, want := m.newest(hash(n)), first+base.Offset(2*keys+n); got != want {
			t.Errorf("newest of key %d is %d, want %d", n, got, want)
		}
	}
	if got := m.newest(hash(keys)); got != base.NoOffset {
		t.Errorf("a key that was not put is at %d", got)
	}
	last := first + math.MaxUint32 - 1
	if !m.put(hash(7), last) || m.newest(hash(7)) != last {
		t.Error("the last offset that can be expressed is not noted")
	}
	if m.put(hash(7), last+1) || m.newest(hash(7)) != last {
		t.Error("an offset that cannot be expressed is noted")
	}
}

func TestAFullKeyMapTakesNoMoreKeys(t *testing.T) {
	t.Parallel()
	m, err := newKeyMap(1<<30, int64(100*keySlotBytes), 0.5)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}()
	for n := range 60 {
		key := m.hash([]byte{byte(n)})
		if room := m.put(key, base.Offset(n)); room != (n < 50) {
			t.Errorf("key %d: room %v", n, room)
		}
		if (m.newest(key) == base.Offset(n)) != (n < 50) {
			t.Errorf("key %d is at %d", n, m.newest(key))
		}
	}
	if !m.put(m.hash([]byte{0}), 100) {
		t.Error("there is no room for another record of a key that is there")
	}
}
