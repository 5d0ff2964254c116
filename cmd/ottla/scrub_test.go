package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ottlaio/ottla"
)

// TestScrubFindsSetsAsideAndExports: a broker that has stopped, a flipped bit in each kind of file, and the way back to consuming.
func TestScrubFindsSetsAsideAndExports(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	start := func() *ottla.Broker {
		t.Helper()
		b, err := ottla.Start(t.Context(), ottla.Config{Data: data, Listen: "127.0.0.1:0", Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	stop := func(b *ottla.Broker) {
		t.Helper()
		if err := b.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	ok := func(input string, args ...string) string {
		t.Helper()
		stdout, stderr, status := run(t.Context(), input, args...)
		if status != 0 {
			t.Fatalf("ottla %v: status %d\n%s%s", args, status, stdout, stderr)
		}
		return stdout
	}
	b := start()
	ok("", "topic", "create", "logs", "--partitions", "1", "-b", b.Addr())
	const batches, records = 40, 500
	const n = batches * records
	for i := range batches {
		var lines strings.Builder
		for j := range records {
			fmt.Fprintf(&lines, "%06d\tthe value of record %06d\n", i*records+j, j)
		}
		ok(lines.String(), "produce", "logs", "--key-separator", `\t`, "-b", b.Addr())
	}
	if _, stderr, status := run(t.Context(), "", "scrub", "--data", data); status != 1 || !strings.Contains(stderr, "in the background") {
		t.Fatalf("beside a broker: status %d, %s", status, stderr)
	}
	stop(b)
	if out := ok("", "scrub", "--data", data); !strings.Contains(out, "everything else is what was written") {
		t.Fatal(out)
	}
	log := filepath.Join(data, "topics", "logs-0", "00000000000000000000.log")
	flip := func(path string, at int64) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var c [1]byte
		if _, err := f.ReadAt(c[:], at); err != nil {
			t.Fatal(err)
		}
		c[0] ^= 4
		if _, err := f.WriteAt(c[:], at); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	// In a value: a batch whose leader epoch is damaged can still be exported whole.
	half := len(stored) / 2
	flip(log, int64(half+bytes.Index(stored[half:], []byte("the value"))))
	stdout, stderr, status := run(t.Context(), "", "scrub", "--data", data, "--format", "json")
	if status != statusDamage || !strings.Contains(stdout, `"topic": "logs"`) || !strings.Contains(stdout, `"first_offset"`) || !strings.Contains(stderr, "--repair") {
		t.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	if _, stderr, status := run(t.Context(), "", "scrub", "--data", data, "--repair"); status != 1 || !strings.Contains(stderr, "--yes") {
		t.Fatalf("a repair without a yes: status %d, %s", status, stderr)
	}
	if out := ok("", "scrub", "--data", data, "--repair", "--yes"); !strings.Contains(out, "set aside") || !strings.Contains(out, "logs-0") {
		t.Fatal(out)
	}
	ok("", "scrub", "--data", data)
	name, _, _ := strings.Cut(ok("", "scrub", "--data", data, "--list-aside"), " ")
	saved := strings.Count(ok("", "scrub", "--data", data, "--export", name, "--print", "text"), "\n")
	b = start()
	got := strings.Count(ok("", "consume", "logs", "-b", b.Addr()), "\n")
	grouped := strings.Count(ok("", "consume", "logs", "--group", "readers", "-b", b.Addr()), "\n")
	stop(b)
	// Lost is the one damaged batch alone: the producer makes batches of at most so many records, and of fewer where it was slow.
	if lost := n - got - saved; got == 0 || grouped != got || lost <= 0 || lost > records {
		t.Fatalf("%d of %d records are consumed, %d by a group, %d of those set aside can be exported", got, n, grouped, saved)
	}

	// Metadata, checkpoint, the folder's own file.
	meta, err := os.ReadFile(filepath.Join(data, "meta.properties"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct {
		path string
		at   int64
	}{{"checkpoint", 50}, {"meta.properties", int64(strings.Index(string(meta), "ottla.format")) + 3}} {
		flip(filepath.Join(data, file.path), file.at)
		stdout, _, status := run(t.Context(), "", "scrub", "--data", data)
		if status != statusDamage || !strings.Contains(stdout, file.path) {
			t.Errorf("%s: status %d\n%s", file.path, status, stdout)
		}
		flip(filepath.Join(data, file.path), file.at)
	}
	db := filepath.Join(data, "etcd", "member", "snap", "db")
	raw, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	for at := range raw {
		if strings.HasPrefix(string(raw[at:min(at+16, len(raw))]), `"partitions":1`) { // pages no longer in use too
			flip(db, int64(at)+3)
		}
	}
	if stdout, _, status := run(t.Context(), "", "scrub", "--data", data); status != statusDamage || !strings.Contains(stdout, "logs") || !strings.Contains(stdout, db) {
		t.Errorf("etcd: status %d\n%s", status, stdout)
	}
	if _, stderr, status := run(t.Context(), "", "scrub", "--data", t.TempDir()); status != 1 || !strings.Contains(stderr, "--data") {
		t.Errorf("an empty folder: status %d, %s", status, stderr)
	}
}
