package storage

import (
	"errors"
	"slices"
	"testing"

	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

func TestDamageFileGolden(t *testing.T) {
	t.Parallel()
	records := []damageRecord{{
		Topic: "logs", TopicID: testID('a', 0).ID.String(), Partition: 3, Segment: 882, From: 196608, To: 216122, FirstOffset: 1171, LastOffset: 1199,
		File: "topics/logs-3/00000000000000000882.log", Pos: 196608, Bytes: 19514, Reason: "CRC32C is 0x1, want 0x2", Bounded: true, Structural: true,
		SetAside: true, Copy: "set-aside/YQECAwQFQAeAAAAAAAAAAQ-3.00000000000000000882-196608.damaged",
	}}
	const want = `ottla-damage 1 2b218aa9
{"topic":"logs","topic_id":"YQECAwQFQAeAAAAAAAAAAQ","partition":3,"segment":882,"from":196608,"to":216122,"first_offset":1171,"last_offset":1199,"file":"topics/logs-3/00000000000000000882.log","pos":196608,"bytes":19514,"reason":"CRC32C is 0x1, want 0x2","structural":true,"bounded":true,"set_aside":true,"copy":"set-aside/YQECAwQFQAeAAAAAAAAAAQ-3.00000000000000000882-196608.damaged"}
`
	got, err := encodeDamage(records)
	if err != nil || string(got) != want {
		t.Fatalf("%v\n%s", err, got)
	}
	back, err := decodeDamage(got)
	if err != nil || len(back) != 1 || back[0] != records[0] {
		t.Fatalf("%+v, %v", back, err)
	}
}

func FuzzDecodeDamage(f *testing.F) {
	b, err := encodeDamage([]damageRecord{{Topic: "t", TopicID: testID('a', 0).ID.String(), To: 5, LastOffset: 2, File: "f", Reason: "r"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decodeDamage(b)
		if err != nil {
			return
		}
		again, err := encodeDamage(records)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeDamage(again); err != nil || !slices.Equal(back, records) {
			t.Fatalf("%+v becomes %+v, %v", records, back, err)
		}
	})
}

func FuzzReadAside(f *testing.F) {
	batch, h := makeBatch(batchSpec{size: 50})
	whole := appendAside(nil, asideEntry{kind: wal.Batches, at: 7, first: h.BaseOffset, last: h.LastOffset(), data: batch})
	damaged := appendAside(nil, asideEntry{kind: asideBytes, at: 0, last: 100, data: append([]byte("rot"), batch...)})
	f.Add(whole)
	f.Add(append(damaged, whole...))
	f.Add(appendAside(nil, asideEntry{kind: wal.Carry, last: 9, data: append([]byte{carryBatches}, batch...)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := newFS(t)
		name := testID('a', 0).String() + ".1"
		if err := fs.MkdirAll(testDir+"/"+asideFolder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := replaceFile(fs, testDir+"/"+asideFolder+"/"+name, b); err != nil {
			t.Fatal(err)
		}
		err := ReadAside(fs, testDir, name, record.VerifyCRC, nil)
		if err != nil && !errors.Is(err, ErrDamage) {
			t.Fatal(err)
		}
	})
}
