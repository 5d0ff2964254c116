package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBufferClasses(t *testing.T) {
	last := -1
	for n := 1; n <= maxPooledBytes; n += 1 + n/100 {
		size, pool := bufferClass(n)
		if size < n || n > minBufferBytes && float64(size) > 1.25*float64(n)+1 || pool < 0 || pool >= len(bufferPools) || pool < last {
			t.Fatalf("%d bytes get a buffer of %d from pool %d", n, size, pool)
		}
		if again, same := bufferClass(size); again != size || same != pool {
			t.Fatalf("a buffer of %d bytes goes back to pool %d of %d", size, same, again)
		}
		last = pool
	}
	if size, pool := bufferClass(maxPooledBytes); size != maxPooledBytes || pool != len(bufferPools)-1 {
		t.Errorf("the largest buffer is %d of pool %d", size, pool)
	}
	if size, pool := bufferClass(maxPooledBytes + 1); size != maxPooledBytes+1 || pool != -1 {
		t.Errorf("beyond it: %d of pool %d", size, pool)
	}
}

func TestGrownBuffersServeTheirNewSize(t *testing.T) {
	for n := 1; n < 5<<20; n += 1 + n/7 {
		putBuffer(&buffer{b: make([]byte, 0, n)})
	}
	for n := 1; n <= maxPooledBytes; n += 1 + n/7 {
		if buf := getBuffer(n); len(buf.b) != n {
			t.Fatalf("got %d bytes, want %d", len(buf.b), n)
		}
	}
}

func TestBudgetIsFairAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		if err := b.take("a", 80, time.Second, nil, nil); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 3)
		for _, w := range []struct {
			name  string
			bytes int64
		}{{"large", 60}, {"small", 45}} {
			go func() {
				if err := b.take(w.name, w.bytes, time.Hour, nil, nil); err == nil {
					order <- w.name
				}
			}()
			synctest.Wait()
		}
		if len(order) > 0 {
			t.Error("a later taker got in before one that waits")
		}
		b.give("a", 80, true)
		synctest.Wait()
		if first := <-order; first != "large" || len(order) > 0 {
			t.Errorf("%s got in first, and %d others", first, len(order))
		}
		if err := b.take("late", 30, time.Second, nil, nil); !errors.Is(err, errBudgetWait) {
			t.Errorf("err is %v", err)
		}
		ended := make(chan struct{})
		close(ended)
		if err := b.take("gone", 30, time.Second, ended, nil); !errors.Is(err, errBudgetEnded) {
			t.Errorf("err is %v", err)
		}
		b.give("large", 60, true)
		if small := <-order; small != "small" {
			t.Errorf("%s got in second", small)
		}
		b.give("small", 45, true)
		if b.inUse() != 0 || len(b.waiters) != 0 {
			t.Errorf("%d bytes and %d waiters are left", b.inUse(), len(b.waiters))
		}
	})
}

// TestHalfFramesDoNotBlockEachOther: many frames that together do not fit, each of which needs more to be completed.
func TestHalfFramesDoNotBlockEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns, size = 20, 400 << 10
		var peak atomic.Int64
		var server *Server
		server = NewServer(Config{MaxBytesTotal: 1 << 20, Logger: slog.New(slog.DiscardHandler)}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			if now := server.Stats().FrameBytes; now > peak.Load() {
				peak.Store(now)
			}
			return Ready(bytesAnswer(fmt.Sprint(len(req.Body)))), nil
		}))
		var all sync.WaitGroup
		for range conns {
			client, nc := net.Pipe()
			all.Go(func() { server.ServeConn(t.Context(), nc, ListenerInfo{}) })
			all.Go(func() {
				defer client.Close()
				f := request(1, strings.Repeat("x", size))
				for len(f) > 0 {
					n := min(50<<10, len(f))
					if _, err := client.Write(f[:n]); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					f = f[n:]
					time.Sleep(time.Millisecond)
				}
				if _, body := readAnswer(t, client); body != fmt.Sprint(size) {
					t.Errorf("answer is %q", body)
				}
			})
		}
		all.Wait()
		if st := server.Stats(); st.FrameBytes != 0 || st.Answers != conns {
			t.Errorf("at the end %d bytes are held, %d answers were sent", st.FrameBytes, st.Answers)
		}
		if peak.Load() > 1<<20+1<<20 {
			t.Errorf("up to %d bytes were held", peak.Load())
		}
	})
}

func TestBytesInFlightOfOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handled := 0
		h := pipe(t, Config{MaxBytesPerConn: 250 << 10}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			handled++
			return PendingFunc(func(context.Context) (Answer, error) {
				<-release
				return bytesAnswer("ok"), nil
			}), nil
		}))
		go func() {
			for i := range int32(5) {
				_, _ = h.Write(request(i, strings.Repeat("x", 100<<10)))
			}
		}()
		synctest.Wait()
		if handled != 2 {
			t.Errorf("%d requests of 100 KiB were read, want 2", handled)
		}
		close(release)
		for range 5 {
			readAnswer(t, h)
		}
	})
}

func TestReleaseMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handled := 0
		h := pipe(t, Config{MaxBytesPerConn: 150 << 10}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			handled++
			req.Release()
			req.Release()
			return PendingFunc(func(context.Context) (Answer, error) {
				<-release
				return bytesAnswer("ok"), nil
			}), nil
		}))
		go func() {
			for i := range int32(3) {
				_, _ = h.Write(request(i, strings.Repeat("x", 100<<10)))
			}
		}()
		synctest.Wait()
		if handled != 3 || h.Stats().FrameBytes != 0 {
			t.Errorf("%d requests were read, %d bytes are held", handled, h.Stats().FrameBytes)
		}
		close(release)
		for range 3 {
			readAnswer(t, h)
		}
	})
}

func TestConnectionsThatWaitTooLongForMemoryAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{MaxBytesPerConn: 1000, BudgetTimeout: 10 * time.Second}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			return PendingFunc(func(ctx context.Context) (Answer, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}), nil
		}))
		go func() {
			_, _ = h.Write(append(request(0, strings.Repeat("x", 900)), request(1, strings.Repeat("x", 900))...))
		}()
		h.wantReason(CloseNoMemory)
	})
}

// listen starts a server on a free port.
func listen(t *testing.T, cfg Config, h Handler) (*Server, string) {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(cfg, h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), ln, ListenerInfo{Name: "PLAINTEXT"}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if st := s.Stats(); st.Connections != 0 || st.FrameBytes != 0 || st.DecodeBytes != 0 {
			t.Errorf("after Shutdown: %+v", st)
		}
	})
	return s, ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestManyConnections(t *testing.T) {
	_, addr := listen(t, Config{}, echo)
	var all sync.WaitGroup
	for c := range 60 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(c)))
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			go func() {
				for i := range int32(50) {
					n := rnd.IntN(200)
					if rnd.IntN(10) == 0 {
						n = rnd.IntN(300 << 10)
					}
					if _, err := nc.Write(request(i, fmt.Sprint(i)+strings.Repeat("x", n))); err != nil {
						return // the reader below fails
					}
				}
			}()
			for i := range int32(50) {
				if corr, body := readAnswer(t, nc); corr != i || !strings.HasPrefix(body, fmt.Sprint(i)) {
					t.Errorf("connection %d: answer %d is %d %.10q", c, i, corr, body)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestConnectionsPerAddress(t *testing.T) {
	s, addr := listen(t, Config{MaxConnsPerIP: 1, MaxConnsPerIPOverrides: map[string]int{"127.0.0.1": 2}}, echo)
	for range 2 {
		c := dial(t, addr)
		if _, err := c.Write(request(1, "x")); err != nil {
			t.Fatal(err)
		}
		readAnswer(t, c)
	}
	wantClosed(t, dial(t, addr))
	if n := s.Stats().Closed[CloseTooManyFromIP]; n != 1 {
		t.Errorf("%d connections were refused", n)
	}
}

func TestMaxConnectionsMakesOthersWait(t *testing.T) {
	_, addr := listen(t, Config{MaxConns: 1}, echo)
	first, second := dial(t, addr), dial(t, addr)
	for _, c := range []net.Conn{first, second} {
		if _, err := c.Write(request(1, "x")); err != nil {
			t.Fatal(err)
		}
	}
	readAnswer(t, first)
	first.Close()
	readAnswer(t, second)
}

func TestShutdownTwiceAndServeAfterwards(t *testing.T) {
	s, addr := listen(t, Config{}, echo)
	c := dial(t, addr)
	if _, err := c.Write(request(1, "x")); err != nil {
		t.Fatal(err)
	}
	readAnswer(t, c)
	for range 2 {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
	wantClosed(t, c)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), ln, ListenerInfo{}); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestEndOfTheServeContextClosesConnections(t *testing.T) {
	waiting := make(chan struct{})
	s := NewServer(Config{Logger: slog.New(slog.DiscardHandler)}, handlerFunc(func(context.Context, *Request) (Pending, error) {
		return PendingFunc(func(ctx context.Context) (Answer, error) {
			close(waiting)
			<-ctx.Done()
			return nil, ctx.Err()
		}), nil
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln, ListenerInfo{}) }()
	c := dial(t, ln.Addr().String())
	if _, err := c.Write(request(1, "x")); err != nil {
		t.Fatal(err)
	}
	<-waiting
	cancel()
	wantClosed(t, c)
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestLargeBodiesAreStreamed(t *testing.T) {
	const pieces, size = 100, 64 << 10
	_, addr := listen(t, Config{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		return Ready(pieceAnswer{pieces, make([]byte, size)}), nil
	}))
	c := dial(t, addr)
	if _, err := c.Write(request(1, "x")); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, c, 8+pieces*size); err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

// pieceAnswer writes the same piece again and again.
type pieceAnswer struct {
	n     int
	piece []byte
}

func (a pieceAnswer) BodySize() int { return a.n * len(a.piece) }
func (a pieceAnswer) WriteBody(w io.Writer) error {
	for range a.n {
		if _, err := w.Write(a.piece); err != nil {
			return err
		}
	}
	return nil
}

func TestSession(t *testing.T) {
	key, other := NewSessionKey[int]("a"), NewSessionKey[int]("a")
	c := &Conn{principal: Anonymous}
	if _, ok := key.Get(c); ok {
		t.Error("there is a value before one was set")
	}
	key.Set(c, 5)
	if v, ok := key.Get(c); !ok || v != 5 {
		t.Errorf("value is %d, %v", v, ok)
	}
	if _, ok := other.Get(c); ok {
		t.Error("two keys of one name share a value")
	}
	c.SetClientSoftware("librdkafka", "2")
	if name, version := c.ClientSoftware(); name != "librdkafka" || version != "2" {
		t.Errorf("software is %s %s", name, version)
	}
	c.SetPrincipal("User:a")
	if c.Principal() != "User:a" || !c.LoggedIn() {
		t.Errorf("principal is %s", c.Principal())
	}
}

// BenchmarkEcho measures a request of 100 bytes that is answered at once, one at a time and with 32 in flight.
func BenchmarkEcho(b *testing.B) {
	for _, depth := range []int{1, 32} {
		b.Run(fmt.Sprintf("inflight=%d", depth), func(b *testing.B) {
			benchmarkEcho(b, depth, 100)
		})
	}
}

// BenchmarkProduceSized measures requests of 64 KiB and 1 MiB with short answers.
func BenchmarkProduceSized(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) { benchmarkEcho(b, 4, size) })
	}
}

func benchmarkEcho(b *testing.B, depth, size int) {
	poisonBuffers = false
	defer func() { poisonBuffers = true }()
	answer := bytesAnswer("0123456789")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := NewServer(Config{}, handlerFunc(func(context.Context, *Request) (Pending, error) { return ready{answer}, nil }))
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(b.Context(), ln, ListenerInfo{}) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	batch := []byte(strings.Repeat(string(request(1, strings.Repeat("x", size))), depth))
	answers := make([]byte, depth*(8+len(answer)))
	b.ReportAllocs()
	b.SetBytes(int64(size))
	b.ResetTimer()
	for n := 0; n < b.N; n += depth {
		if _, err := c.Write(batch); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, answers); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	c.Close()
	_ = s.Shutdown(context.Background())
	<-served
}
