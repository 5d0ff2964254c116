package metadata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.uber.org/zap"
)

func TestEtcdKeepsEverythingOverRestarts(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for start := range 3 {
		began := time.Now()
		s := openEtcd(t, EtcdConfig{Dir: dir})
		ready := time.Since(began)
		var got []string
		for _, kv := range mustGet(t, s, "", 0).KVs {
			got = append(got, kv.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("start %d: holds %v, want %v", start, got, want)
		}
		key := fmt.Sprint("k", start)
		mustCommit(t, s, put(key, "v"))
		want = append(want, key)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("start %d was ready after %s and closed after %s", start, ready, time.Since(began)-ready)
	}
}

// TestEtcdIsQuietWhenAllIsWell reads what an operator would.
func TestEtcdIsQuietWhenAllIsWell(t *testing.T) {
	var out bytes.Buffer
	dir := t.TempDir()
	for range 2 {
		s, err := OpenEtcd(t.Context(), EtcdConfig{Dir: dir, BallastBytes: -1, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		m := openOn(t, s)
		mustCreate(t, m, fmt.Sprint("topic-", m.Image().Revision()))
		if err := errors.Join(m.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() > 0 {
		t.Errorf("said:\n%s", out.String())
	}
}

// A crash is a copy of the folder as it is while the member runs: every file is as the system has it, none was closed.
func TestEtcdKeepsWhatItAcknowledgedOverACrash(t *testing.T) {
	dir := t.TempDir()
	s := openEtcd(t, EtcdConfig{Dir: filepath.Join(dir, "0")})
	for start := range 4 {
		for i := range 20 {
			mustCommit(t, s, put(fmt.Sprintf("k/%d/%02d", start, i), "v"))
		}
		crashed := filepath.Join(dir, fmt.Sprint(start+1))
		if err := os.CopyFS(crashed, os.DirFS(filepath.Join(dir, fmt.Sprint(start)))); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = openEtcd(t, EtcdConfig{Dir: crashed})
		if got := len(mustGet(t, s, "k/", 0).KVs); got != 20*(start+1) {
			t.Fatalf("after crash %d: %d keys", start, got)
		}
	}
}

// TestEtcdHasASnapshotBeforeItsLogIsLong is about a start that etcd did not get through when an election came at the wrong moment: see
// etcdSnapshotEntries.
func TestEtcdHasASnapshotBeforeItsLogIsLong(t *testing.T) {
	dir := t.TempDir()
	s := openEtcd(t, EtcdConfig{Dir: dir})
	for i := range 150 {
		mustCommit(t, s, put(fmt.Sprint("k/", i), "v"))
	}
	applied := s.etcd.Server.AppliedIndex()
	s.Close()
	last, err := snap.New(zap.NewNop(), filepath.Join(dir, memberFolder, "snap")).Load()
	if err != nil {
		t.Fatal(err)
	}
	if at := last.Metadata.GetIndex(); at+100 < applied {
		t.Errorf("the log has %d entries, the last snapshot is of %d", applied, at)
	}
}

// TestEtcdDamageIsAnErrorNotTheEndOfTheProcess flips bits in every file of a stopped member.
func TestEtcdDamageIsAnErrorNotTheEndOfTheProcess(t *testing.T) {
	dir := t.TempDir()
	sound := filepath.Join(dir, "sound")
	s := openEtcd(t, EtcdConfig{Dir: sound})
	for i := range 50 {
		mustCommit(t, s, put(fmt.Sprint("k", i), strings.Repeat("v", 500)))
	}
	s.Close()
	flips := 0
	err := filepath.WalkDir(filepath.Join(sound, "member", "wal"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".wal") {
			return err
		}
		for _, at := range []int{9, 2000, 20_000} {
			flips++
			bad := filepath.Join(dir, fmt.Sprint("bad", flips))
			if err := os.CopyFS(bad, os.DirFS(sound)); err != nil {
				return err
			}
			name := filepath.Join(bad, strings.TrimPrefix(path, sound))
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			b[at] ^= 0x10
			if err := os.WriteFile(name, b, 0o600); err != nil {
				return err
			}
			s, err := OpenEtcd(t.Context(), EtcdConfig{Dir: bad, BallastBytes: -1})
			if err == nil {
				t.Errorf("a flipped bit at %d of %s went unnoticed: %d keys", at, e.Name(), len(mustGet(t, s, "", 0).KVs))
				s.Close()
				continue
			}
			t.Logf("bit at %d: %v", at, err)
		}
		return nil
	})
	if err != nil || flips == 0 {
		t.Errorf("%d flips, %v", flips, err)
	}
}

// TestEtcdRefusesADatabaseThatIsCut has a child process open it: etcd gives up on a goroutine of its own, and the one that waits for that stays.
func TestEtcdRefusesADatabaseThatIsCut(t *testing.T) {
	if dir := os.Getenv("OTTLA_TEST_ETCD_CUT"); dir != "" {
		_, err := OpenEtcd(t.Context(), EtcdConfig{Dir: dir, BallastBytes: -1})
		fmt.Println("refused:", errors.Is(err, ErrFailed), err)
		os.Exit(0)
	}
	for _, size := range []int64{1185, 7964} {
		dir := t.TempDir()
		s := openEtcd(t, EtcdConfig{Dir: dir})
		mustCommit(t, s, put("k", "v"))
		s.Close()
		if err := os.Truncate(filepath.Join(dir, "member", "snap", "db"), size); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestEtcdRefusesADatabaseThatIsCut$")
		cmd.Env = append(os.Environ(), "OTTLA_TEST_ETCD_CUT="+dir)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("refused: true")) {
			t.Errorf("cut to %d bytes: %v:\n%s", size, err, out)
		}
	}
}

// TestEtcdFatalBecomesAnError has a child process whose files may not grow: etcd cannot write its wal then.
func TestEtcdFatalBecomesAnError(t *testing.T) {
	if dir := os.Getenv("OTTLA_TEST_ETCD_FATAL"); dir != "" {
		etcdFatalChild(t, dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEtcdFatalBecomesAnError$", "-test.v")
	cmd.Env = append(os.Environ(), "OTTLA_TEST_ETCD_FATAL="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("orderly")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

func etcdFatalChild(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	s := openEtcd(t, EtcdConfig{Dir: dir})
	m, err := Open(t.Context(), Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, m, "a")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	unlimited := limit
	limit.Cur = 4096
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		err := m.CreateTopics(t.Context(), []NewTopic{named(fmt.Sprint("t", i))}, false)[0].Err
		if err != nil {
			break
		}
		if i > 1000 {
			t.Fatal("etcd writes on")
		}
	}
	<-s.Failed()
	<-m.Failed()
	syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited) // for the test's own output
	if !errors.Is(s.Err(), ErrFailed) || !errors.Is(m.Err(), ErrFailed) {
		t.Errorf("store: %v, metadata: %v", s.Err(), m.Err())
	}
	if _, err := s.Get(t.Context(), "", 0); !errors.Is(err, ErrFailed) {
		t.Errorf("get after the failure: %v", err)
	}
	began := time.Now()
	closeErr := errors.Join(m.Close(), s.Close())
	fmt.Println("orderly:", s.Err(), "closed after", time.Since(began), closeErr)
	os.Exit(0) // what a failed member leaves behind is not this test's concern
}

// TestADamagedDatabaseIsNeverTakenForASmallerOne flips bits in etcd's database, whose pages have no checksums. A child process
// reads it, for etcd may end it: that is loud enough. What must not happen is that topics are missing or other ones.
func TestADamagedDatabaseIsNeverTakenForASmallerOne(t *testing.T) {
	if dir := os.Getenv("OTTLA_TEST_ETCD_READ"); dir != "" {
		s, err := OpenEtcd(t.Context(), EtcdConfig{Dir: dir, BallastBytes: -1})
		if err != nil {
			t.Fatal(err)
		}
		m, err := Open(t.Context(), Options{Store: s, BrokerID: 1, Existing: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("read:", dump(m.Image()))
		os.Exit(0)
	}
	dir := t.TempDir()
	sound := filepath.Join(dir, "sound")
	s := openEtcd(t, EtcdConfig{Dir: sound})
	m := openOn(t, s)
	for i := range 20 {
		mustCreate(t, m, fmt.Sprint("topic-", i))
	}
	want := dump(m.Image())
	if err := errors.Join(m.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join("member", "snap", "db")
	whole, err := os.ReadFile(filepath.Join(sound, db))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	flips := []struct {
		topic  string
		behind int // bytes behind the start of the topic's key
	}{{"topic-0", 3}, {"topic-0", 40}, {"topic-11", 14}, {"topic-11", 80}, {"topic-7", 60}}
	for i, flip := range flips {
		bad := filepath.Join(dir, fmt.Sprint("bad", i))
		if err := os.CopyFS(bad, os.DirFS(sound)); err != nil {
			t.Fatal(err)
		}
		broken := slices.Clone(whole)
		key := []byte(topicKey(flip.topic))
		for at := bytes.Index(broken, key); at >= 0; { // also in pages that are free by now
			broken[at+flip.behind] ^= 1 << i
			next := bytes.Index(broken[at+len(key):], key)
			if next < 0 {
				break
			}
			at += len(key) + next
		}
		if err := os.WriteFile(filepath.Join(bad, db), broken, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestADamagedDatabaseIsNeverTakenForASmallerOne$")
		cmd.Env = append(os.Environ(), "OTTLA_TEST_ETCD_READ="+bad)
		out, err := cmd.CombinedOutput()
		switch {
		case err != nil:
			outcomes["refused"]++
			first, _, _ := strings.Cut(string(out), "\n    --- ")
			t.Logf("%+v: %.300s", flip, first)
		case strings.Contains(string(out), "read: "+want):
			outcomes["unharmed"]++
		default:
			t.Errorf("a bit flipped %+v was read as\n%s\nwant %s", flip, out, want)
		}
		os.RemoveAll(bad)
	}
	t.Logf("%d flips: %v", len(flips), outcomes)
	if outcomes["refused"] == 0 {
		t.Error("no flip was noticed: were they in live pages?")
	}
}
