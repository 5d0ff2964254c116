package chaos_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/internal/proof"
)

// What a disk is told is recorded, block by block, while the real binary works on a file system on it (test/blocklog). Then an image of
// the disk is made as it was at a flush: everything before the flush is there, and of what was written between it and the next flush
// either nothing or, in every other image, any part, in any order, sectors torn out of the middle of a write. The file system is mounted, its journal
// recovered, and the real binary started on it, with its real metadata store. Whatever was acknowledged before the next flush is
// there: records at their offsets and in order, committed offsets, topics made and deleted.
//
// TIMES says how many images are tried, at flushes evenly spread; SEED replays the load, as far as its timing allows, and the choices.

func TestEveryFlushIsACutOfExt4(t *testing.T) { everyFlushIsACut(t, "ext4") }

func TestEveryFlushIsACutOfXFS(t *testing.T) { everyFlushIsACut(t, "xfs") }

func everyFlushIsACut(t *testing.T, kind string) {
	if os.Getenv("PROVE") == "" {
		t.Skip("mounts file systems; `make prove` runs it")
	}
	images, seed := proof.Times(t, 0, 40, math.MaxInt), proof.Seed(t)
	row := proof.Start(t, "blocks-"+kind, "images of a disk", seed)
	needVolumes(row, kind)
	recorder := buildRecorder(t, row)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Hour)
	defer cancel()
	records := 4000
	if proof.Long() {
		records = 20_000
	}
	r := record(ctx, t, recorder, kind, seed, records)
	cuts := r.cuts(images)
	todo := make(chan cutImage)
	var checkers sync.WaitGroup
	for range 2 {
		checkers.Go(func() {
			for c := range todo {
				if ctx.Err() == nil && !t.Failed() {
					row.Tried(1)
					if !t.Run(fmt.Sprintf("flush=%d,torn=%t", c.flush, c.torn), func(t *testing.T) { r.check(ctx, t, c) }) {
						row.Lost(1)
					}
				}
				os.Remove(c.path)
			}
		})
	}
	err := r.replay(cuts, rand.New(rand.NewPCG(seed, 1)), func(c cutImage) { todo <- c })
	close(todo)
	checkers.Wait()
	if err != nil {
		t.Error(err)
	}
	row.Note("at %d of %d flushes; %d records acknowledged, %d commits, %d topics came and went",
		len(cuts), len(r.flushes), r.load.acked.count(), r.load.group.commits.Load(), len(r.passing.deleted))
}

// buildRecorder builds test/blocklog, which is a module of its own.
func buildRecorder(t *testing.T, row *proof.Proof) string {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		row.NotRun("there is no FUSE")
	}
	binary := filepath.Join(t.TempDir(), "blocklog")
	cmd := exec.Command("go", "build", "-o", binary, ".")
	cmd.Dir = filepath.Join("..", "blocklog")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build test/blocklog: %v\n%s", err, out)
	}
	return binary
}

// recording is a disk before its load, what it was told, and what clients were told. Moments are lengths of the log.
type recording struct {
	kind    string // of the file system
	dir     string
	base    string // image before the load
	log     string
	flushes []int64 // where in the log each flush ends
	settled int64   // from when on the load's topic is there
	load    *load
	passing *passing
}

// record runs the real binary under load until so many records are acknowledged, and kills it.
func record(ctx context.Context, t *testing.T, recorder, kind string, seed uint64, records int) *recording {
	t.Helper()
	dir := t.TempDir()
	r := &recording{kind: kind, dir: dir, base: filepath.Join(dir, "base"), log: filepath.Join(dir, "log")}
	makeImage(t, kind, r.base, 1<<30)
	live := filepath.Join(dir, "live")
	if err := copySparse(r.base, live); err != nil {
		t.Fatal(err)
	}
	// The recorder's folder is a mount too, taken down after the file system on its file.
	fuse := newVolume(t, "fuse", "")
	cmd := exec.CommandContext(ctx, recorder, fuse.dir, live, r.log)
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // ends with this process, and blocklog with it
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	living.set(cmd.Process, true)
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "ready\n" {
		t.Fatalf("blocklog says %q, %v", line, err)
	}
	log, err := os.Open(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	clock := func() int64 {
		info, err := log.Stat()
		if err != nil {
			t.Error(err)
			return 0
		}
		return info.Size()
	}
	v := newVolume(t, kind, filepath.Join(fuse.dir, "disk"))
	if err := v.mount(); err != nil {
		t.Fatal(err)
	}
	broker := newProcessIn(t, filepath.Join(v.dir, "data"), smallBroker...)
	r.load = startLoad(ctx, t, broker, loadOptions{seed: seed, pace: 2 * time.Millisecond, clock: clock})
	r.settled = clock()
	r.passing = startPassing(ctx, t, broker.addr, clock)
	awaitMore(ctx, t, "records acknowledged", r.load.acked.count, r.load.acked.grew, records)
	if broker.output.trouble() {
		t.Fatalf("the broker had a problem of its own:\n%s", broker.output)
	}
	broker.kill()
	close(r.passing.stop)
	r.passing.done.Wait()
	r.load.abandon()
	if err := v.unmount(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("blocklog: %v", err)
	}
	living.set(cmd.Process, false)
	if err := r.read(func(e blockEntry) error {
		if e.flush {
			r.flushes = append(r.flushes, e.end)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// blockEntry is an entry of the log.
type blockEntry struct {
	flush  bool
	offset int64
	data   []byte
	end    int64 // where in the log it ends
}

// read goes through the log.
func (r *recording) read(visit func(blockEntry) error) error {
	f, err := os.Open(r.log)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	var head [12]byte
	for at := int64(0); ; {
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		offset, length := binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint32(head[8:])
		e := blockEntry{flush: offset == math.MaxUint64, offset: int64(offset), data: make([]byte, length)}
		if _, err := io.ReadFull(in, e.data); err != nil {
			return err
		}
		at += int64(len(head)) + int64(length)
		e.end = at
		if err := visit(e); err != nil {
			return err
		}
	}
}

// cuts picks n flushes, evenly spread over the load, or all of them.
func (r *recording) cuts(n int) []int {
	first, _ := slices.BinarySearch(r.flushes, r.settled)
	all := len(r.flushes) - first
	n = min(n, all)
	picked := make([]int, n)
	for i := range picked {
		picked[i] = first + i*all/n
	}
	return picked
}

// cutImage is a disk as it may be when power fails after a flush.
type cutImage struct {
	path   string
	flush  int
	torn   bool  // it holds parts of what came after the flush
	before int64 // what was acknowledged before this moment must be there
}

// replay makes the images.
func (r *recording) replay(cuts []int, random *rand.Rand, ready func(cutImage)) error {
	rolling := filepath.Join(r.dir, "rolling")
	if err := copySparse(r.base, rolling); err != nil {
		return err
	}
	disk, err := os.OpenFile(rolling, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	flush := -1
	var since []blockEntry // after that flush
	err = r.read(func(e blockEntry) error {
		if !e.flush {
			since = append(since, e)
			return nil
		}
		// The writes since the last flush are complete: this is the time to cut there.
		if len(cuts) > 0 && flush == cuts[0] {
			c := cutImage{path: filepath.Join(r.dir, "cut-"+strconv.Itoa(flush)), flush: flush, torn: random.IntN(2) == 0, before: e.end}
			if err := copySparse(rolling, c.path); err != nil {
				return err
			}
			if c.torn {
				if err := tear(c.path, since, sectorBytes[r.kind], random); err != nil {
					return err
				}
			}
			ready(c)
			cuts = cuts[1:]
		}
		for _, w := range since {
			if _, err := disk.WriteAt(w.data, w.offset); err != nil {
				return err
			}
		}
		since = since[:0]
		flush++
		return nil
	})
	return err
}

// sectorBytes is what a disk under the file system writes as a whole. XFS is told 4 KiB when it is made (makeImage): it counts on it that
// no block of its metadata is torn, ext4's journal has whole blocks.
var sectorBytes = map[string]int{"ext4": 512, "xfs": 4096}

// tear applies a random part of writes that no flush has covered, in random order: each sector on its own, or whole writes.
func tear(path string, writes []blockEntry, sector int, random *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	percent := 10 + random.IntN(90)
	whole := random.IntN(2) == 0
	for _, i := range random.Perm(len(writes)) {
		w := writes[i]
		if whole && random.IntN(100) < percent {
			_, err = f.WriteAt(w.data, w.offset)
		}
		for at := 0; !whole && at < len(w.data) && err == nil; at += sector {
			if random.IntN(100) < percent {
				_, err = f.WriteAt(w.data[at:min(at+sector, len(w.data))], w.offset+int64(at))
			}
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

// check starts the real binary on an image and asks it for what was acknowledged before the cut.
func (r *recording) check(ctx context.Context, t *testing.T, c cutImage) {
	v := newVolume(t, r.kind, c.path)
	if err := v.mount(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	broker := newProcessIn(t, filepath.Join(v.dir, "data"), smallBroker...)
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() || broker.output.trouble() {
			t.Errorf("the broker says:\n%s", broker.output)
		}
	}()
	if err := broker.serving(ctx); err != nil {
		t.Fatal(err)
	}
	acked := newLedger(nil)
	r.load.acked.mu.Lock()
	for at, moment := range r.load.acked.moments {
		if moment < c.before {
			acked.records[at] = r.load.acked.records[at]
		}
	}
	r.load.acked.mu.Unlock()
	check(ctx, t, broker.addr, acked)

	group := newGroupLedger(nil)
	for _, m := range r.load.group.moments {
		if m.moment < c.before {
			group.committed[m.partition] = max(group.committed[m.partition], m.offset)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for err := errors.New("not asked yet"); err != nil; {
		if err = group.compare(ctx, t, kadm.NewClient(client)); ctx.Err() != nil {
			t.Fatalf("committed offsets: %v", err)
		}
	}
	topics := &passing{made: before(r.passing.made, c.before), deleted: before(r.passing.deleted, c.before)}
	topics.compare(ctx, t, broker.addr)
}

// before are the entries of an earlier moment.
func before(moments map[string]int64, moment int64) map[string]int64 {
	earlier := map[string]int64{}
	for name, at := range moments {
		if at < moment {
			earlier[name] = at
		}
	}
	return earlier
}

// copySparse copies a file and keeps its holes.
func copySparse(from, to string) error {
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return nil
}
