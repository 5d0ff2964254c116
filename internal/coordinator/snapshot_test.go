package coordinator_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
)

const snapshotFile = "/snapshots/__tally-0.snapshot"

// withSnapshot adds the numbers 1 to 10 up and has a snapshot written after them.
func withSnapshot(t *testing.T, disk vfs.FS) *coordtest.Topic {
	t.Helper()
	topic := coordtest.NewTopic(1)
	f := startWith(t, topic, coordinator.Snapshots{FS: disk, Dir: "/snapshots", Every: 10})
	for i := range int64(10) {
		wantAnswer(t, f.add(i+1), (i+1)*(i+2)/2)
	}
	maintain(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return topic
}

// maintain lets one minute of maintenance pass.
func maintain(t *testing.T, f *fixture) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if err := coordinator.Maintain(ctx, f.Runtime, time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestLoadingBeginsAtTheSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		topic := withSnapshot(t, disk)
		if err := topic.Of(0).Put(t.Context(), []byte("n"), []byte{7: 100}); err != nil {
			t.Fatal(err)
		}
		before := len(topic.Of(0).Reads())
		f := startWith(t, topic, coordinator.Snapshots{FS: disk, Dir: "/snapshots", Every: 10})
		defer f.Close()
		wantAnswer(t, f.read(), 155)
		if reads := topic.Of(0).Reads()[before:]; !slices.Equal(reads, []base.Offset{10}) {
			t.Errorf("the log was read from %v, want [10]", reads)
		}
	})
}

func TestUnusableSnapshotsAreLeftAside(t *testing.T) {
	t.Parallel()
	damage := func(change func(b []byte) []byte) func(t *testing.T, disk vfs.FS, topic *coordtest.Topic) *coordtest.Topic {
		return func(t *testing.T, disk vfs.FS, topic *coordtest.Topic) *coordtest.Topic {
			writeFile(t, disk, change(readFile(t, disk)))
			return topic
		}
	}
	for name, spoil := range map[string]func(t *testing.T, disk vfs.FS, topic *coordtest.Topic) *coordtest.Topic{
		"missing": func(t *testing.T, disk vfs.FS, topic *coordtest.Topic) *coordtest.Topic {
			if err := disk.Remove(snapshotFile); err != nil {
				t.Fatal(err)
			}
			return topic
		},
		"empty":            damage(func([]byte) []byte { return nil }),
		"cut":              damage(func(b []byte) []byte { return b[:len(b)-1] }),
		"longer":           damage(func(b []byte) []byte { return append(b, 0) }),
		"another body":     damage(func(b []byte) []byte { b[80] ^= 1; return b }),
		"another footer":   damage(func(b []byte) []byte { b[len(b)-20] ^= 1; return b }),
		"no magic":         damage(func(b []byte) []byte { b[len(b)-56] ^= 1; return b }),
		"of another topic": func(t *testing.T, _ vfs.FS, topic *coordtest.Topic) *coordtest.Topic { return recreated(t, topic, 11) },
		"ahead of the log": func(t *testing.T, _ vfs.FS, topic *coordtest.Topic) *coordtest.Topic {
			return topic.Truncate(5)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewMem()
				topic := spoil(t, disk, withSnapshot(t, disk))
				want := int64(55)
				switch name {
				case "of another topic":
					want = 11
				case "ahead of the log":
					want = 15
				}
				f := startWith(t, topic, coordinator.Snapshots{FS: disk, Dir: "/snapshots", Every: 5})
				defer f.Close()
				wantAnswer(t, f.read(), want)
				maintain(t, f) // a good one takes its place
				before := len(topic.Of(0).Reads())
				f.Drop(0)
				synctest.Wait()
				wantAnswer(t, f.read(), want)
				if reads := topic.Of(0).Reads()[before:]; len(reads) > 0 {
					t.Errorf("the log was read from %v after the next snapshot", reads)
				}
			})
		})
	}
}

// recreated is a topic of the same name with n records, each a one.
func recreated(t *testing.T, _ *coordtest.Topic, n int) *coordtest.Topic {
	t.Helper()
	topic := coordtest.NewTopic(1)
	for range n {
		if err := topic.Of(0).Put(t.Context(), []byte("n"), []byte{7: 1}); err != nil {
			t.Fatal(err)
		}
	}
	return topic
}

// TestSnapshotHoldsNothingThatMayBeLost: a snapshot of records that did not survive would bring them back.
func TestSnapshotHoldsNothingThatMayBeLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		topic := coordtest.NewTopic(1)
		f := startWith(t, topic, coordinator.Snapshots{FS: disk, Dir: "/snapshots", Every: 1})
		wantAnswer(t, f.add(1), 1)
		topic.Of(0).Hold()
		f.add(10)
		maintain(t, f)
		topic = topic.Crash(func(int) int { return 0 })
		f.Close()
		again := startWith(t, topic, coordinator.Snapshots{FS: disk, Dir: "/snapshots", Every: 1})
		defer again.Close()
		wantAnswer(t, again.read(), 1)
		wantAnswer(t, again.add(1), 2)
	})
}

// TestSnapshotSurvivesPowerLoss: at the end of writing one, the one before or the new one is there.
func TestSnapshotSurvivesPowerLoss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashableMem()
		topic := withSnapshot(t, disk)
		lost := disk.CrashClone(vfs.CrashCloneCfg{})
		before := len(topic.Of(0).Reads())
		f := startWith(t, topic, coordinator.Snapshots{FS: lost, Dir: "/snapshots", Every: 10})
		defer f.Close()
		wantAnswer(t, f.read(), 55)
		if reads := topic.Of(0).Reads()[before:]; len(reads) > 0 {
			t.Errorf("the log was read from %v: the snapshot is lost", reads)
		}
	})
}

// TestSnapshotBytes holds the format to bytes that are written out.
func TestSnapshotBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		topic := withSnapshot(t, disk)
		b := readFile(t, disk)
		id := topic.Of(0).ID().ID
		want := "0000000000000000 00000041 00000000 02 00000000 0000 00000000 0000000000000000 0000000000000000 ffffffffffffffff ffff ffffffff" +
			"00000001 1e 00 00 00 02 6e 10 0000000000000037 00"
		body := b[:len(b)-56]
		if got := hex.EncodeToString(body); got[:34] != strings.ReplaceAll(want, " ", "")[:34] || got[42:] != strings.ReplaceAll(want, " ", "")[42:] {
			t.Errorf("body\n%s, want\n%s", got, strings.ReplaceAll(want, " ", ""))
		}
		foot := "4f54534e41503031 00000004" + hex.EncodeToString(id[:]) + "00000000 000000000000000a" + "000000000000004d"
		if got := hex.EncodeToString(b[len(b)-56 : len(b)-8]); got != strings.ReplaceAll(foot, " ", "") {
			t.Errorf("footer\n%s, want\n%s", got, strings.ReplaceAll(foot, " ", ""))
		}
	})
}

func readFile(t *testing.T, disk vfs.FS) []byte {
	t.Helper()
	f, err := disk.Open(snapshotFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, disk vfs.FS, b []byte) {
	t.Helper()
	f, err := disk.Create(snapshotFile, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}
