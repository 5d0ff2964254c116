package hostile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/proof"
)

const (
	// memoryCap is what the broker may use, the kernel's share for its sockets and files included. Beyond it the kernel ends it.
	memoryCap = 384 << 20
	// maxSlowdown bounds the honest client's p99 under attack, by that without one. The attackers take the processors as well: it is
	// they who leave the honest client the less, the fewer processors there are.
	maxSlowdown = 20
	// maxStalls is how often a produce may wait for a disk that stops, beyond that: for the write before its own and for its own.
	maxStalls = 2
	// leastCalm is taken for the p99 without an attack where that is less: below it lies what a scheduler does.
	leastCalm = 5 * time.Millisecond
)

// TestHonestClientUnderAttack puts the real binary under a cap of memory and attacks it in five ways, while an honest client writes: requests
// of real clients with bytes changed, requests of millions of empty elements, connections that send half a request or a byte at a time, and compressed batches that do not end.
// The binary stays up and within its memory and has no error of its own, every honest record is there, and the honest client's p99
// stays within a bound of what it is without an attack, and what the disk adds. TIMES says how many mutants are sent, SEED makes the same ones.
func TestHonestClientUnderAttack(t *testing.T) {
	mutants, seed := proof.Times(t, 500, 20_000, 2_000_000), proof.Seed(t)
	row := proof.Start(t, "hostile", "attacks", seed)
	b := besiege(t, "ottla.request.memory.bytes=33554432", "socket.request.max.bytes=16777216", "ottla.tail.bytes=33554432", "ottla.wal.max.bytes=67108864",
		"num.partitions=1")
	h := startHonest(t, b.addr)
	h.phase(t, "calm", func() { h.await(t, 400) })
	h.phase(t, "mutants", func() { row.Tried(b.sendMutants(t, rand.New(rand.NewPCG(seed, 0)), mutants)) })
	h.phase(t, "crowds", func() { row.Tried(b.sendCrowds(t)) })
	h.phase(t, "half-open", func() { row.Tried(b.trickle(t, min(mutants/10, 6000), func() { h.await(t, 400) })) })
	h.phase(t, "bombs", func() { row.Tried(b.sendBombs(t)) })
	h.phase(t, "calm again", func() { h.await(t, 200) })
	p99 := h.finish(t)
	b.verdict(t)

	calm := max(p99["calm"], leastCalm)
	var figures []string
	for _, phase := range []string{"calm", "mutants", "crowds", "half-open", "bombs", "calm again"} {
		figures = append(figures, fmt.Sprintf("%s %.1f", phase, float64(p99[phase].Microseconds())/1000))
		if !raceEnabled && p99[phase] > maxSlowdown*calm+maxStalls*h.worst[phase] {
			t.Errorf("%s: the honest client's p99 is %s, and %s without an attack; a write beside it took %s at worst", phase, p99[phase], p99["calm"], h.worst[phase])
		}
	}
	row.Note("memory capped by %s at %d MiB, %d MiB used at most; honest p99 in ms: %s; a write beside it %s at worst", b.capped, memoryCap>>20, b.peak.Load()>>20, strings.Join(figures, ", "),
		slices.Max(slices.Collect(maps.Values(h.worst))).Round(100*time.Microsecond))
}

// besieged is the real binary under a cap of memory.
type besieged struct {
	addr   string
	cmd    *exec.Cmd
	out    *logBuffer
	exited chan error
	capped string       // what caps it
	group  string       // its cgroup; "" where there is none
	peak   atomic.Int64 // resident memory at most, in bytes
	stop   chan struct{}
	watch  sync.WaitGroup
}

func besiege(t *testing.T, settings ...string) *besieged {
	t.Helper()
	binary, err := buildBroker()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &besieged{addr: ln.Addr().String(), out: &logBuffer{}, exited: make(chan error, 1), stop: make(chan struct{})}
	ln.Close()
	args := []string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", b.addr}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	b.group, b.capped = makeCgroup(t)
	b.cmd = exec.Command(binary, args...)
	if b.group != "" { // it goes into the group before it is the broker
		b.cmd = exec.Command("sh", append([]string{"-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(b.group, "cgroup.procs"), binary}, args...)...)
	}
	b.cmd.Env = append(append(os.Environ(), brokerEnv...), fmt.Sprintf("GOMEMLIMIT=%dMiB", memoryCap*3/4>>20))
	b.cmd.Stdout, b.cmd.Stderr = b.out, b.out
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { b.exited <- b.cmd.Wait() }()
	b.watch.Go(b.watchMemory)
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill() // if it still runs
		close(b.stop)
		b.watch.Wait()
	})
	dialUntilUp(t, t.Context(), b.addr)
	return b
}

// makeCgroup makes a group whose memory is capped: by version 1 or 2 of the kernel's interface. Without either, or without root, memory is
// only watched, and Go is told the limit.
func makeCgroup(t *testing.T) (dir, capped string) {
	t.Helper()
	for _, v := range []struct{ name, root, limit, swap string }{
		{"cgroup v1", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"},
		{"cgroup v2", "/sys/fs/cgroup", "memory.max", "memory.swap.max"},
	} {
		dir := filepath.Join(v.root, "ottla-prove-"+strconv.Itoa(os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { removeCgroup(t, dir) })
		if os.WriteFile(filepath.Join(dir, v.limit), []byte(strconv.Itoa(memoryCap)), 0) == nil {
			return dir, v.name
		}
	}
	return "", "GOMEMLIMIT and a watch of its resident memory"
}

// removeCgroup waits until the last process of a group is gone, as the kernel sees it.
func removeCgroup(t *testing.T, dir string) {
	for deadline := time.Now().Add(patience); ; {
		err := os.Remove(dir)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("remove the cgroup: %v", err)
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (b *besieged) watchMemory() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", b.cmd.Process.Pid))
		if fields := strings.Fields(string(data)); err == nil && len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			b.peak.Store(max(b.peak.Load(), pages*int64(os.Getpagesize())))
		}
	}
}

// verdict stops the broker and looks at how it has fared.
func (b *besieged) verdict(t *testing.T) {
	t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	select {
	case err := <-b.exited:
		if err != nil {
			t.Errorf("the broker ended: %v", err)
		}
	case <-time.After(patience):
		t.Errorf("%s after SIGTERM the broker still runs", patience)
	}
	if b.peak.Load() > memoryCap {
		t.Errorf("%d MiB of memory were used, more than %d", b.peak.Load()>>20, memoryCap>>20)
	}
	if out := b.out.String(); strings.Contains(out, "panic") || strings.Contains(out, "level=ERROR") {
		t.Errorf("the broker had an error:\n%.4000s", firstError(out))
	}
}

// sendMutants sends captured requests of real clients with bytes changed, and with huge counts everywhere.
func (b *besieged) sendMutants(t *testing.T, random *rand.Rand, n int) int64 {
	names, frames := captures(t)
	mutants := make(chan []byte)
	var all sync.WaitGroup
	for range attackers {
		all.Go(func() {
			for m := range mutants {
				if !t.Failed() {
					exchange(t, b.addr, m)
				}
			}
		})
	}
	for range n {
		mutants <- frame(mutate(random, frames[names[random.IntN(len(names))]]))
	}
	sent := int64(n) + hugeCounts(t, func(m []byte) { mutants <- m })
	close(mutants)
	all.Wait()
	return sent
}

// sendCrowds sends requests that hold as many empty elements as their bytes allow: a byte each, and a hundred or more once decoded.
func (b *besieged) sendCrowds(t *testing.T) (sent int64) {
	const elements = 8 << 20
	for _, r := range []struct {
		key, version uint16
		before       []byte // the list, in the body
	}{
		{3, 12, nil}, {19, 7, nil}, {20, 5, nil}, {9, 9, nil}, {15, 5, nil}, {32, 4, nil}, {37, 3, nil}, {44, 1, nil},
		{2, 8, []byte{0xff, 0xff, 0xff, 0xff, 0}}, {10, 4, []byte{0}}, {0, 9, []byte{0, 0xff, 0xff, 0, 0, 0x10, 0}},
	} {
		body := binary.BigEndian.AppendUint16(nil, r.key)
		body = binary.BigEndian.AppendUint16(body, r.version)
		body = append(body, 0, 0, 0, 1, 0xff, 0xff, 0)
		body = binary.AppendUvarint(append(body, r.before...), elements+1)
		body = append(body, make([]byte, elements+elements/4)...)
		if t.Failed() {
			break
		}
		exchange(t, b.addr, frame(body))
		sent++
	}
	return sent
}

// trickle opens connections that send a part of a request, then a byte now and then, until during returns.
func (b *besieged) trickle(t *testing.T, n int, during func()) int64 {
	versions := request(kmsg.NewPtrApiVersionsRequest(), 1)
	parts := [][]byte{nil, versions[:1], versions[:4], versions[:len(versions)-2], append([]byte{0, 0xff, 0xff, 0xff}, versions[4:8]...)}
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for i := range n {
		conn, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		_, _ = conn.Write(parts[i%len(parts)])
	}
	stop := make(chan struct{})
	var trickling sync.WaitGroup
	trickling.Go(func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-pace.C:
				_, _ = conns[i%n].Write([]byte{0}) // may have been closed by now
			}
		}
	})
	during()
	close(stop)
	trickling.Wait()
	return int64(n)
}

// sendBombs sends every bomb over two connections at once, and has one of them looked into.
func (b *besieged) sendBombs(t *testing.T) (sent int64) {
	later := time.Now().Add(30 * time.Minute).UnixMilli()
	for name, batch := range bombBatches(t, later) {
		if len(batch) > 4<<20 {
			t.Fatalf("%s weighs %d bytes", name, len(batch))
		}
		var all sync.WaitGroup
		for range 2 {
			conn := dial(t, b.addr)
			all.Go(func() { sendBomb(t, conn, batch) })
			sent++
		}
		all.Wait()
	}
	findByTime(t, dial(t, b.addr), later) // one that was taken is looked into
	return sent + 1
}

// honest is a client that writes one record after the other and times the answers. Beside it, a file is written and synced without a broker:
// a disk may stop for hundreds of milliseconds, which is no broker's fault.
type honest struct {
	client  *kgo.Client
	cancel  context.CancelFunc
	working sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	name     string     // of the phase
	took     map[string][]time.Duration
	worst    map[string]time.Duration // of the writes beside it
	answered chan struct{}            // a token for each answer, dropped if nobody waits
}

func startHonest(t *testing.T, addr string) *honest {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("honest"), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0), kgo.AlwaysRetryEOF(),
		kgo.DisableIdempotentWrite()) // which would wait for a broker that is gone for good
	if err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), &kgo.Record{Value: []byte("first")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h := &honest{client: client, cancel: cancel, took: map[string][]time.Duration{}, worst: map[string]time.Duration{}, answered: make(chan struct{}, 1)}
	h.working.Go(func() { h.work(ctx, t) })
	h.working.Go(func() { h.watchDisk(ctx, t) })
	t.Cleanup(func() {
		cancel()
		h.working.Wait()
		client.Close()
	})
	return h
}

func (h *honest) work(ctx context.Context, t *testing.T) {
	value := bytes.Repeat([]byte("x"), 200)
	h.repeat(ctx, func() error {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return h.client.ProduceSync(bounded, &kgo.Record{Value: value}).FirstErr()
	}, func(phase string, took time.Duration, err error) {
		if err != nil {
			t.Errorf("%s: the honest client: %v", phase, err)
			return
		}
		h.took[phase] = append(h.took[phase], took)
		select {
		case h.answered <- struct{}{}:
		default:
		}
	})
}

// watchDisk writes and syncs one block every few milliseconds, where the broker has its data.
func (h *honest) watchDisk(ctx context.Context, t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "beside"))
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	block := make([]byte, 4096)
	h.repeat(ctx, func() error {
		_, err := f.WriteAt(block, 0)
		return errors.Join(err, syscall.Fdatasync(int(f.Fd())))
	}, func(phase string, took time.Duration, err error) {
		if err != nil {
			t.Error(err)
			return
		}
		h.worst[phase] = max(h.worst[phase], took)
	})
}

// repeat does something every few milliseconds until it fails, and has noted how long it took and in which phase it began. note is called with
// mu held.
func (h *honest) repeat(ctx context.Context, do func() error, note func(phase string, took time.Duration, err error)) {
	for ctx.Err() == nil {
		h.mu.Lock()
		phase := h.name
		h.mu.Unlock()
		began := time.Now()
		err := do()
		took := time.Since(began)
		h.mu.Lock()
		note(phase, took, err)
		h.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// phase runs one, unless something has gone wrong already.
func (h *honest) phase(t *testing.T, name string, during func()) {
	if t.Failed() {
		return
	}
	h.mu.Lock()
	h.name = name
	h.mu.Unlock()
	during()
}

// await waits for n answers.
func (h *honest) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-h.answered:
		case <-time.After(patience):
			t.Fatal("the honest client is not answered")
		}
	}
}

// finish ends the client, looks whether everything that was answered is there, and returns the p99 of each phase.
func (h *honest) finish(t *testing.T) map[string]time.Duration {
	t.Helper()
	h.cancel()
	h.working.Wait()
	p99, acked := map[string]time.Duration{}, int64(1)
	for phase, took := range h.took {
		acked += int64(len(took))
		slices.Sort(took)
		p99[phase] = took[len(took)*99/100]
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends, err := kadm.NewClient(h.client).ListEndOffsets(ctx, "honest")
	if err = errors.Join(err, ends.Error()); err != nil {
		t.Fatal(err)
	}
	if end, ok := ends.Lookup("honest", 0); !ok || end.Offset < acked {
		t.Errorf("%d records were acknowledged, the log ends at %d", acked, end.Offset)
	}
	return p99
}
