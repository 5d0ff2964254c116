package hostile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla"
)

// reference is another broker to ask instead of our own, to compare answers by hand: -reference HOST:PORT.
var reference = flag.String("reference", "", "HOST:PORT of a broker that TestProduce... asks instead of an embedded one")

const (
	// maxExtraMemory bounds what an attack may cost: the request budget (64 MiB), the tail, and what the test itself holds.
	maxExtraMemory = 256 << 20
	// maxKeptMemory bounds what may be left of it afterwards: pooled buffers and caches.
	maxKeptMemory = 64 << 20
	// honestLimit bounds the p99 of the honest client. It is far above what is measured: machines that test are busy.
	honestLimit = 5 * time.Second
)

// patience is how long anything that must happen may take.
var patience = 20 * time.Second

// brokerEnv is added to the environment of a binary that is attacked.
var brokerEnv []string

// target is an embedded broker under attack, with an honest client beside.
type target struct {
	*ottla.Broker
	log     *logBuffer
	memory  uint64 // before the attack, in bytes
	peak    uint64
	allowed uint64 // more than memory that the attack may cost
	kept    uint64 // more than memory that may be left afterwards
	logged  string // what the log has to say, once the broker is closed
	honest  []time.Duration
	working sync.WaitGroup
}

// attack starts a broker and an honest client, and checks at the end of the test: the honest client was always answered, in good time;
// nothing panicked; the broker has not failed; memory stayed in its bounds and came back.
func attack(t *testing.T, settings map[string]string) *target {
	t.Helper()
	all := map[string]string{
		"ottla.request.memory.bytes": "67108864",
		"socket.request.max.bytes":   "16777216",
		"message.max.bytes":          "1048588",
		"ottla.tail.bytes":           "33554432",
		"ottla.wal.max.bytes":        "67108864",
	}
	for key, value := range settings {
		all[key] = value
	}
	b := &target{log: &logBuffer{}, allowed: maxExtraMemory, kept: maxKeptMemory}
	var err error
	b.Broker, err = ottla.Start(t.Context(), ottla.Config{
		Data: t.TempDir(), Listen: "127.0.0.1:0", Settings: all, Logger: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.DefaultProduceTopic("honest"), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), &kgo.Record{Value: []byte("first")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	b.memory = memoryInUse()
	ctx, stop := context.WithCancel(t.Context())
	b.working.Go(func() { b.workHonestly(t, ctx, client) })
	t.Cleanup(func() {
		stop()
		b.working.Wait()
		client.Close()
		b.verdict(t)
	})
	return b
}

// workHonestly produces one record after the other and times the answers.
func (b *target) workHonestly(t *testing.T, ctx context.Context, client *kgo.Client) {
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	value := bytes.Repeat([]byte("x"), 200)
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		began := time.Now()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		err := client.ProduceSync(bounded, &kgo.Record{Value: value}).FirstErr()
		cancel()
		if err != nil {
			t.Errorf("the honest client: %v", err)
			return
		}
		b.honest = append(b.honest, time.Since(began))
		b.peak = max(b.peak, mapped())
	}
}

func (b *target) verdict(t *testing.T) {
	t.Helper()
	if err := b.Err(); err != nil {
		t.Errorf("the broker has failed: %v", err)
	}
	if len(b.honest) > 0 {
		slices.Sort(b.honest)
		p99 := b.honest[len(b.honest)*99/100]
		if t.Logf("honest client: %d answers, p50 %s, p99 %s, worst %s", len(b.honest), b.honest[len(b.honest)/2], p99, b.honest[len(b.honest)-1]); p99 > honestLimit {
			t.Errorf("p99 of the honest client is %s, limit %s", p99, honestLimit)
		}
	}
	after := memoryInUse()
	t.Logf("memory: %d MiB before, %d MiB at most, %d MiB after", b.memory>>20, b.peak>>20, after>>20)
	if b.peak > b.memory+b.allowed {
		t.Errorf("the attack cost %d MiB of memory, limit %d", (b.peak-b.memory)>>20, b.allowed>>20)
	}
	if after > b.memory+b.kept {
		t.Errorf("%d MiB of memory did not come back, limit %d", (after-b.memory)>>20, b.kept>>20)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if !strings.Contains(b.log.String(), b.logged) {
		t.Errorf("the log does not say %q:\n%s", b.logged, b.log.String())
	}
	if log := b.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has an error:\n%.4000s", firstError(log))
	}
}

func firstError(log string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "panic") || strings.Contains(line, "level=ERROR") {
			return line
		}
	}
	return log
}

// mapped is what the Go runtime has from the operating system and has not given back.
func mapped() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// memoryInUse is mapped after everything that can be given back has been.
func memoryInUse() uint64 {
	for range 3 { // what pools hold goes with the second collection
		runtime.GC()
	}
	debug.FreeOSMemory()
	return mapped()
}

// dial opens a raw connection that is closed when the test ends.
func (b *target) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	return dial(t, b.Addr())
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// exchange sends bytes over a connection of its own, says that nothing more comes, and returns everything that is answered.
// A reset counts as the end.
func (b *target) exchange(t *testing.T, data []byte) []byte {
	t.Helper()
	return exchange(t, b.Addr(), data)
}

func exchange(t *testing.T, addr string, data []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		defer conn.Close()
		err = conn.SetDeadline(time.Now().Add(patience))
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	if _, err := conn.Write(data); err == nil {
		_ = conn.(*net.TCPConn).CloseWrite() // fails if the broker was quicker
	}
	answer, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after %s the connection is still open: sent %d bytes %.64x, got %d back", patience, len(data), data, len(answer))
	}
	return answer
}

// frame puts the length in front.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// request encodes req as a frame.
func request(req kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("hostile")).AppendRequest(nil, req, correlation)
}

// call sends req on conn and reads the answer.
func call(t *testing.T, conn net.Conn, req kmsg.Request) (kmsg.Response, error) {
	t.Helper()
	if _, err := conn.Write(request(req, 7)); err != nil {
		return nil, err
	}
	body, err := readAnswer(conn)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	skip := 4
	if resp.IsFlexible() && resp.Key() != 18 {
		skip++
	}
	if len(body) < skip {
		return nil, fmt.Errorf("answer of %d bytes", len(body))
	}
	return resp, resp.ReadFrom(body[skip:])
}

func readAnswer(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, body)
	return body, err
}

// captures are recorded requests of real clients, without their lengths, by file name.
func captures(t *testing.T) (names []string, frames map[string][]byte) {
	t.Helper()
	files, err := filepath.Glob("../../internal/wire/testdata/captures/*.bin")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures: %v", err)
	}
	frames = map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		frames[filepath.Base(f)] = b
		names = append(names, filepath.Base(f))
	}
	return names, frames
}

// logBuffer keeps the log of a broker.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
