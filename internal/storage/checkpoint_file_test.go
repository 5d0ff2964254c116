package storage

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// testCheckpoint has something in every field.
func testCheckpoint() *checkpointFile {
	id := testID('a', 3)
	state := segment.Create(segment.Options{Base: 7}).State()
	var producers producerTable
	producers.apply(logged{Header: record.Header{ProducerID: 12, ProducerEpoch: 1, BaseSequence: 3, BaseOffset: 40, LastOffsetDelta: 2, MaxTimestamp: testTime}}, 0)
	return &checkpointFile{
		From: 17, HighestProducer: 4001,
		Partitions: []partitionRecord{{
			ID: id, Topic: "topica", From: 18, LogStart: 5, FlushedEnd: 43,
			Sealed: []segment.State{state}, Active: state, Dropped: []segment.State{state},
			Epochs: epochCache{{Epoch: 1, Start: 5}, {Epoch: 4, Start: 20}}, Producers: producers,
			Missing: []missingRecord{{Segment: 7, Pos: 99, Damage: Damage{
				Topic: "topica", Partition: id, FirstOffset: 21, LastOffset: 22, File: "wal/1", Pos: 4096, Len: 80, Reason: "rot",
			}}},
			Ragged: []byte("ragged"), RaggedPos: 4096,
		}},
		Removals: []removal{{ID: testID('b', 0), Topic: "topicb"}},
		Tombs:    []tomb{{ID: testID('b', 0).ID, Until: 16}},
	}
}

// transactionalCheckpoint is testCheckpoint with a transaction open and one that was aborted.
func transactionalCheckpoint() *checkpointFile {
	c := testCheckpoint()
	c.Partitions[0].CleanedTo, c.Partitions[0].Forgotten, c.Partitions[0].Swaps = 31, 12, 3
	p := &c.Partitions[0].Producers
	begin := record.Header{ProducerID: 13, ProducerEpoch: 2, BaseOffset: 41, MaxTimestamp: testTime, Attributes: transactional}
	p.apply(logged{Header: begin, pos: 4711}, 0)
	begin.ProducerID, begin.BaseOffset = 14, 42
	p.apply(logged{Header: begin, pos: 4811}, 0)
	abort := record.Header{ProducerID: 14, ProducerEpoch: 3, BaseOffset: 43, MaxTimestamp: testTime + 5, Attributes: transactional | control}
	p.apply(logged{Header: abort, marker: marker{ends: true, coordinatorEpoch: 6}, pos: 4911}, 0)
	return c
}

// Attributes of the batches of a transaction.
const (
	transactional record.Attributes = 0x10
	control       record.Attributes = 0x20
)

func TestCheckpointRoundTrips(t *testing.T) {
	t.Parallel()
	want := transactionalCheckpoint()
	got, err := decodeCheckpoint(want.encode())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("decoded %+v, %v; want %+v", got, err, want)
	}
}

// A folder of a version without transactions is opened as it is.
func TestCheckpointOfVersion1IsRead(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/checkpoint-v1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeCheckpoint(b)
	if want := testCheckpoint(); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("decoded %+v, %v; want %+v", got, err, want)
	}
}

// The bytes of format version 3. They change only together with the version.
func TestCheckpointIsWrittenAsDescribed(t *testing.T) {
	t.Parallel()
	empty := (&checkpointFile{From: 1, HighestProducer: base.NoProducerID}).encode()
	const golden = "4f54544c41434b50" + "00000003" + "000000000000001c" // magic, version, length
	const body = "0000000000000001" + "ffffffffffffffff" + "00000000" + "00000000" + "00000000"
	if got := hex.EncodeToString(empty); !strings.HasPrefix(got, golden) || !strings.HasSuffix(got, body) {
		t.Errorf("an empty checkpoint is %s", got)
	}
	if got, want := crc32.ChecksumIEEE(transactionalCheckpoint().encode()), uint32(checkpointGolden); got != want {
		t.Errorf("the full checkpoint has the sum %#08x, want %#08x", got, want)
	}
}

// checkpointGolden is the CRC-32 of transactionalCheckpoint in format version 3.
const checkpointGolden = 0x1fe692a7

func TestEveryFlippedBitOfACheckpointIsFound(t *testing.T) {
	t.Parallel()
	good := transactionalCheckpoint().encode()
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if c, err := decodeCheckpoint(bad); err == nil {
			t.Fatalf("bit %d flipped: read as %+v", bit, c)
		}
	}
	for n := range good {
		if _, err := decodeCheckpoint(good[:n]); err == nil {
			t.Fatalf("cut to %d bytes: read", n)
		}
	}
}

func TestDamagedCheckpointKeepsTheFolderFromOpening(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{})
	closeEngine(t, open(t, testConfig(fs, spec)))
	if err := replaceFile(fs, testDir+"/checkpoint", []byte("something else")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), testConfig(fs, spec))
	if !errors.Is(err, errCheckpoint) || !strings.Contains(err.Error(), "/data/checkpoint") {
		t.Fatalf("Open: %v; want an error that names the file", err)
	}
}

// The body is decoded as it would be behind a right checksum: no input makes it panic or take memory out of proportion.
func FuzzDecodeCheckpoint(f *testing.F) {
	f.Add(transactionalCheckpoint().encode()[checkpointHeader:])
	f.Add((&checkpointFile{}).encode()[checkpointHeader:])
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := decodeCheckpoint(sealCheckpoint(append(make([]byte, checkpointHeader), body...)))
		if err != nil {
			return
		}
		again, err := decodeCheckpoint(c.encode())
		if err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if !bytes.Equal(again.encode(), c.encode()) {
			t.Fatal("what was decoded encodes differently the second time")
		}
	})
}

// The bytes of a swap in the wal.
func TestSwapIsWrittenAsDescribed(t *testing.T) {
	t.Parallel()
	state := segment.Create(segment.Options{Base: 7}).State()
	state.Sealed, state.Place = true, 2
	want := swapPayload{number: 3, cleanedTo: 31, forgotten: 12, old: []base.Offset{7, 20}, fresh: []segment.State{state}}
	b := want.appendTo(nil)
	const golden = "0000000000000003" + "000000000000001f" + "000000000000000c" + "00000002" + "0000000000000007" + "0000000000000014" + "00000001"
	if got := hex.EncodeToString(b); !strings.HasPrefix(got, golden) || len(b) != len(golden)/2+segment.StateSize || got[2*(len(golden)/2+64):][:8] != "00000201" {
		t.Errorf("a swap is %s", got)
	}
	got, err := parseSwap(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("decoded %+v, %v; want %+v", got, err, want)
	}
	for n := range b {
		if _, err := parseSwap(b[:n]); !errors.Is(err, errPayload) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func FuzzPayloads(f *testing.F) {
	f.Add(appendRagged(nil, 5, 4096, []byte("bytes")))
	f.Add(appendSegmentBases(nil, []base.Offset{1, 2, 3}))
	f.Add(swapPayload{number: 1, old: []base.Offset{4}, fresh: []segment.State{sealedEmpty(4)}}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSwap(b); err == nil && !bytes.Equal(s.appendTo(nil), b) {
			t.Fatal("a swap does not round-trip")
		}
		if first, pos, data, err := parseRagged(b); err == nil {
			if !bytes.Equal(appendRagged(nil, first, pos, data)[1:], b) {
				t.Fatal("a carry of a ragged end does not round-trip")
			}
		}
		if bases, err := parseSegmentBases(b); err == nil && !bytes.Equal(appendSegmentBases(nil, bases), b) {
			t.Fatal("a list of segments does not round-trip")
		}
	})
}
