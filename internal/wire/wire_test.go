package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	poisonBuffers = true
	goleak.VerifyTestMain(m)
}

// handlerFunc is a function used as a Handler.
type handlerFunc func(ctx context.Context, req *Request) (Pending, error)

func (f handlerFunc) Handle(ctx context.Context, req *Request) (Pending, error) { return f(ctx, req) }

// bytesAnswer is an Answer that is there already.
type bytesAnswer []byte

func (b bytesAnswer) BodySize() int { return len(b) }
func (b bytesAnswer) WriteBody(w io.Writer) error {
	_, err := w.Write(b)
	return err
}

// echo answers every request with its body.
var echo = handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
	return Ready(bytesAnswer(req.Body)), nil
})

// request returns the bytes of a frame of an API that is not flexible.
func request(correlation int32, body string) []byte {
	return requestOf(int16(kmsg.Heartbeat), 0, correlation, body)
}

func requestOf(key, version int16, correlation int32, body string) []byte {
	var b []byte
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	b = binary.BigEndian.AppendUint16(b, 4)
	b = append(b, "test"...)
	if isFlexible(key, version) {
		b = append(b, 0)
	}
	b = append(b, body...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// readAnswer reads one response frame of an API that is not flexible.
func readAnswer(t *testing.T, r io.Reader) (correlation int32, body string) {
	t.Helper()
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		t.Fatalf("read answer: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(n[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return int32(binary.BigEndian.Uint32(b)), string(b[4:])
}

// wantClosed fails unless nothing more comes from r.
func wantClosed(t *testing.T, r io.Reader) {
	t.Helper()
	n, err := r.Read(make([]byte, 1))
	if n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want a closed connection", n, err)
	}
}

// harness is a server with one connection over net.Pipe.
type harness struct {
	*Server
	net.Conn
	t   *testing.T
	log *bytes.Buffer
	end chan struct{}
}

// pipe serves h over a pipe.
func pipe(t *testing.T, cfg Config, info ListenerInfo, h Handler) *harness {
	t.Helper()
	log := &lockedBuffer{}
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client, server := net.Pipe()
	hs := &harness{Server: NewServer(cfg, h), Conn: client, t: t, end: make(chan struct{}), log: &log.b}
	go func() {
		defer close(hs.end)
		hs.ServeConn(t.Context(), server, info)
	}()
	t.Cleanup(func() {
		client.Close()
		<-hs.end
		hs.wantNothingHeld()
	})
	return hs
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// wantNothingHeld fails unless all memory was given back.
func (h *harness) wantNothingHeld() {
	h.t.Helper()
	st := h.Stats()
	if st.FrameBytes != 0 || st.DecodeBytes != 0 || st.Connections != 0 {
		h.t.Errorf("at the end %d frame bytes, %d decode bytes and %d connections are held", st.FrameBytes, st.DecodeBytes, st.Connections)
	}
}

// wantReason waits for the connection's end and fails unless it was closed for the reason.
func (h *harness) wantReason(r CloseReason) {
	h.t.Helper()
	<-h.end
	if st := h.Stats(); st.Closed[r] != 1 {
		h.t.Errorf("closed for %v, want %v; log:\n%s", st.Closed, r, h.log)
	}
}

func (h *harness) send(frames ...[]byte) {
	h.t.Helper()
	if _, err := h.Write(slices.Concat(frames...)); err != nil {
		h.t.Fatalf("send: %v", err)
	}
}

func TestEcho(t *testing.T) {
	h := pipe(t, Config{}, ListenerInfo{Name: "PLAINTEXT"}, echo)
	for i := range int32(3) {
		h.send(request(i, fmt.Sprint("body ", i)))
		if c, body := readAnswer(t, h); c != i || body != fmt.Sprint("body ", i) {
			t.Fatalf("answer %d is %d %q", i, c, body)
		}
	}
	h.Close()
	h.wantReason(CloseByClient)
}

func TestRequestFields(t *testing.T) {
	var got *Request
	h := pipe(t, Config{}, ListenerInfo{Name: "EXTERNAL"}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		got = req
		return Ready(nil), nil
	}))
	h.send(requestOf(int16(kmsg.Metadata), 12, 77, "xyz"))
	h.Close()
	<-h.end
	if got.Key != 3 || got.Version != 12 || got.CorrelationID != 77 || got.ClientID != "test" || got.Conn.Listener().Name != "EXTERNAL" {
		t.Errorf("request is %+v", got)
	}
}

func TestResponseHeaderVersions(t *testing.T) {
	tests := []struct {
		name         string
		key, version int16
		tagByte      bool
	}{
		{"old versions have none", int16(kmsg.Metadata), 8, false},
		{"flexible versions have one", int16(kmsg.Metadata), 9, true},
		{"ApiVersions never has", int16(kmsg.ApiVersions), 3, false},
		{"ApiVersions from the future has none", int16(kmsg.ApiVersions), 99, false},
		{"SaslHandshake is not flexible", int16(kmsg.SASLHandshake), 1, false},
		{"Produce 9", 0, 9, true},
		{"Produce 8", 0, 8, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := pipe(t, Config{}, ListenerInfo{}, echo)
			h.send(requestOf(tt.key, tt.version, 5, "body"))
			_, body := readAnswer(t, h)
			want := "body"
			if tt.tagByte {
				want = "\x00body"
			}
			if body != want {
				t.Errorf("after the correlation id comes %q, want %q", body, want)
			}
		})
	}
}

func TestSlowFirstAnswerDoesNotStopTheNextRequest(t *testing.T) {
	first, seen := make(chan struct{}), make(chan int32, 10)
	h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		seen <- req.CorrelationID
		if req.CorrelationID > 0 {
			return Ready(bytesAnswer(req.Body)), nil
		}
		return PendingFunc(func(ctx context.Context) (Answer, error) {
			<-first
			return bytesAnswer(req.Body), nil
		}), nil
	}))
	h.send(request(0, "a"), request(1, "b"), request(2, "c"))
	for i := range int32(3) {
		if got := <-seen; got != i {
			t.Fatalf("handled %d, want %d", got, i)
		}
	}
	close(first)
	for i, want := range []string{"a", "b", "c"} {
		if c, body := readAnswer(t, h); int(c) != i || body != want {
			t.Fatalf("answer %d is %d %q, want %q", i, c, body, want)
		}
	}
}

func TestBufferedAnswersAreSentBeforeALongPoll(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		if req.CorrelationID == 0 {
			return Ready(bytesAnswer("ready")), nil
		}
		return PendingFunc(func(ctx context.Context) (Answer, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, nil
		}), nil
	}))
	h.send(request(0, ""), request(1, ""))
	if _, body := readAnswer(t, h); body != "ready" {
		t.Fatalf("answer is %q", body)
	}
}

func TestNoAnswerSendsNothing(t *testing.T) {
	h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		if req.CorrelationID == 0 {
			return Ready(nil), nil
		}
		return Ready(bytesAnswer("x")), nil
	}))
	h.send(request(0, ""), request(1, ""))
	if c, _ := readAnswer(t, h); c != 1 {
		t.Errorf("first answer is for %d, want 1", c)
	}
}

func TestInFlightLimitStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handled := 0
		h := pipe(t, Config{MaxInFlightPerConn: 3}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			handled++
			return PendingFunc(func(ctx context.Context) (Answer, error) {
				<-release
				return bytesAnswer(req.Body), nil
			}), nil
		}))
		go func() {
			for i := range int32(10) {
				h.Write(request(i, "x"))
			}
		}()
		synctest.Wait()
		if handled != 3 {
			t.Errorf("%d requests were handled while none is answered, want 3", handled)
		}
		close(release)
		for range 10 {
			readAnswer(t, h)
		}
	})
}

func TestBadFramesCloseTheConnection(t *testing.T) {
	frame := func(n int32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(n)), rest...)
	}
	header := func(key, version int16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(key))
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		b = append(b, 0, 0, 0, 1)
		b = append(b, rest...)
		return frame(int32(len(b)), b...)
	}
	tests := []struct {
		name   string
		bytes  []byte
		reason CloseReason
	}{
		{"negative length", frame(-1), CloseBadFrame},
		{"zero length", frame(0), CloseBadFrame},
		{"shorter than a header", frame(7), CloseBadFrame},
		{"an HTTP request", []byte("GET / HTTP/1.1\r\n\r\n")[:4], CloseFrameTooLarge},
		{"a TLS hello", []byte{0x16, 3, 1, 2}, CloseFrameTooLarge},
		{"largest length", frame(1<<31 - 1), CloseFrameTooLarge},
		{"unknown key", header(9999, 0, 0xff, 0xff), CloseBadFrame},
		{"negative key", header(-1, 0, 0xff, 0xff), CloseBadFrame},
		{"client id longer than the frame", header(3, 0, 0, 9, 'x'), CloseBadFrame},
		{"client id of negative length", header(3, 0, 0xff, 0xfe), CloseBadFrame},
		{"no client id", header(3, 0), CloseBadFrame},
		{"no tags", header(3, 12, 0xff, 0xff), CloseBadFrame},
		{"more tags than bytes", header(3, 12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f), CloseBadFrame},
		{"tag longer than the frame", header(3, 12, 0xff, 0xff, 1, 0, 99), CloseBadFrame},
		{"endless varint", header(3, 12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), CloseBadFrame},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := pipe(t, Config{MaxRequestBytes: 1 << 20}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
				t.Error("the handler was called")
				return Ready(nil), nil
			}))
			h.send(tt.bytes)
			wantClosed(t, h)
			h.wantReason(tt.reason)
			if !strings.Contains(h.log.String(), "level=WARN msg=\"connection closed\"") {
				t.Errorf("no warning in the log:\n%s", h.log)
			}
		})
	}
}

func TestHeaderTagsAreSkipped(t *testing.T) {
	h := pipe(t, Config{}, ListenerInfo{}, echo)
	f := requestOf(int16(kmsg.Metadata), 12, 1, "\x02\x00\x01x\x05\x03abcbody")
	// requestOf wrote an empty tag section: replace it by the one at the start of the body.
	i := bytes.Index(f, []byte("test")) + 4
	f = append(f[:i], f[i+1:]...)
	binary.BigEndian.PutUint32(f, uint32(len(f)-4))
	h.send(f)
	if _, body := readAnswer(t, h); body != "\x00body" {
		t.Errorf("body is %q", body)
	}
}

func TestFrameLimitBeforeLogin(t *testing.T) {
	login := handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		req.Conn.SetPrincipal("User:alice")
		return Ready(bytesAnswer("ok")), nil
	})
	big := request(1, strings.Repeat("x", 20<<10))
	t.Run("refused before", func(t *testing.T) {
		h := pipe(t, Config{}, ListenerInfo{RequiresLogin: true}, login)
		h.send(big[:4])
		h.wantReason(CloseFrameTooLarge)
	})
	t.Run("accepted after", func(t *testing.T) {
		h := pipe(t, Config{}, ListenerInfo{RequiresLogin: true}, login)
		h.send(request(0, ""))
		readAnswer(t, h)
		h.send(big)
		readAnswer(t, h)
	})
	t.Run("accepted without login on PLAINTEXT", func(t *testing.T) {
		h := pipe(t, Config{}, ListenerInfo{}, login)
		h.send(big)
		readAnswer(t, h)
	})
}

func TestHandlerErrorClosesAfterEarlierAnswers(t *testing.T) {
	h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		if req.CorrelationID == 1 {
			return nil, errors.New("no such version")
		}
		return PendingFunc(func(context.Context) (Answer, error) { return bytesAnswer("a"), nil }), nil
	}))
	go h.Write(append(request(0, ""), request(1, "")...))
	if _, body := readAnswer(t, h); body != "a" {
		t.Errorf("answer is %q", body)
	}
	wantClosed(t, h)
	h.wantReason(CloseByHandler)
}

func TestPanicsCloseOnlyTheirConnection(t *testing.T) {
	tests := map[string]Handler{
		"in Handle": handlerFunc(func(context.Context, *Request) (Pending, error) { panic("planted") }),
		"in Wait": handlerFunc(func(context.Context, *Request) (Pending, error) {
			return PendingFunc(func(context.Context) (Answer, error) { panic("planted") }), nil
		}),
		"in BodySize": handlerFunc(func(context.Context, *Request) (Pending, error) { return Ready(panicAnswer{}), nil }),
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			h := pipe(t, Config{}, ListenerInfo{}, handler)
			h.send(request(0, ""))
			wantClosed(t, h)
			h.wantReason(ClosePanic)
			if log := h.log.String(); !strings.Contains(log, "planted") || !strings.Contains(log, "wire_test.go") {
				t.Errorf("no panic with its stack in the log:\n%s", log)
			}
		})
	}
}

type panicAnswer struct{}

func (panicAnswer) BodySize() int             { panic("planted") }
func (panicAnswer) WriteBody(io.Writer) error { return nil }

// sizedAnswer lies about its size.
type sizedAnswer struct {
	size int
	body string
}

func (a sizedAnswer) BodySize() int { return a.size }
func (a sizedAnswer) WriteBody(w io.Writer) error {
	_, err := io.WriteString(w, a.body)
	return err
}

func TestBodiesOfAnotherSizeCloseTheConnection(t *testing.T) {
	for name, a := range map[string]Answer{
		"too long": sizedAnswer{2, "abc"}, "too short": sizedAnswer{4, "abc"}, "negative": sizedAnswer{-1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(context.Context, *Request) (Pending, error) { return Ready(a), nil }))
			h.send(request(0, ""))
			h.wantReason(CloseByHandler)
		})
	}
}

func TestWaitIsCalledForEveryPendingWhenTheClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waited := 0
		var cause error
		h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			return PendingFunc(func(ctx context.Context) (Answer, error) {
				<-ctx.Done()
				waited++
				cause = context.Cause(ctx)
				return nil, ctx.Err()
			}), nil
		}))
		h.send(request(0, ""), request(1, ""), request(2, ""))
		synctest.Wait()
		h.Close()
		h.wantReason(CloseByClient)
		var ce *CloseError
		if waited != 3 || !errors.As(cause, &ce) || ce.Reason != CloseByClient {
			t.Errorf("%d waits ended with %v", waited, cause)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{IdleTimeout: 10 * time.Minute}, ListenerInfo{}, echo)
		start := time.Now()
		time.Sleep(9 * time.Minute)
		h.send(request(0, ""))
		readAnswer(t, h)
		wantClosed(t, h)
		if d := time.Since(start); d != 19*time.Minute {
			t.Errorf("closed after %v, want 10 minutes after the last request", d)
		}
		h.wantReason(CloseIdle)
	})
}

func TestWaitingRequestsAreNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{IdleTimeout: time.Minute}, ListenerInfo{}, handlerFunc(func(context.Context, *Request) (Pending, error) {
			return PendingFunc(func(context.Context) (Answer, error) {
				time.Sleep(time.Hour)
				return bytesAnswer("late"), nil
			}), nil
		}))
		h.send(request(0, ""))
		if _, body := readAnswer(t, h); body != "late" {
			t.Errorf("answer is %q", body)
		}
	})
}

func TestTricklingFramesAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{FrameTimeout: 30 * time.Second, MinReadRate: 1000}, ListenerInfo{}, echo)
		start := time.Now()
		f := request(0, strings.Repeat("x", 1<<20))
		for i := range f {
			if _, err := h.Write(f[i : i+1]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d > 40*time.Second {
			t.Errorf("cut after %v", d)
		}
		h.wantReason(CloseSlowFrame)
	})
}

func TestHalfALengthIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{}, ListenerInfo{}, echo)
		h.send([]byte{0, 0})
		wantClosed(t, h)
		h.wantReason(CloseSlowFrame)
	})
}

func TestClientThatLeavesInsideAFrame(t *testing.T) {
	h := pipe(t, Config{}, ListenerInfo{}, echo)
	h.send(request(0, "abcdef")[:15])
	h.Close()
	h.wantReason(CloseHalfFrame)
}

func TestSteadyFramesOutliveTheFrameTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{FrameTimeout: 5 * time.Second, MinReadRate: 100}, ListenerInfo{}, echo)
		f := request(0, strings.Repeat("x", 4000))
		for len(f) > 0 { // 200 bytes a second for 20 s
			n := min(200, len(f))
			h.send(f[:n])
			f = f[n:]
			time.Sleep(time.Second)
		}
		readAnswer(t, h)
	})
}

func TestReadersThatTakeNothingAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{WriteTimeout: 30 * time.Second}, ListenerInfo{}, handlerFunc(func(context.Context, *Request) (Pending, error) {
			return Ready(bytesAnswer(strings.Repeat("x", 1<<20))), nil
		}))
		h.send(request(0, ""))
		start := time.Now()
		// A byte every 20 s is progress.
		for range 10 {
			time.Sleep(20 * time.Second)
			if _, err := h.Read(make([]byte, 1)); err != nil {
				t.Fatalf("cut after %v in spite of progress: %v", time.Since(start), err)
			}
		}
		last := time.Now()
		<-h.end
		if d := time.Since(last); d > 61*time.Second {
			t.Errorf("cut %v after the last byte", d)
		}
		h.wantReason(CloseSlowReader)
	})
}

func TestShutdownAnswersWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			return PendingFunc(func(ctx context.Context) (Answer, error) {
				select {
				case <-time.After(5 * time.Second):
					return bytesAnswer("durable"), nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}), nil
		}))
		h.send(request(0, ""))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(ctx) }()
		if _, body := readAnswer(t, h); body != "durable" {
			t.Errorf("answer is %q", body)
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wantClosed(t, h)
		h.wantReason(CloseShutdown)
	})
}

func TestShutdownEndsWhatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			return PendingFunc(func(ctx context.Context) (Answer, error) {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return bytesAnswer("empty"), nil
			}), nil
		}))
		h.send(request(0, ""))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(ctx) }()
		if _, body := readAnswer(t, h); body != "empty" {
			t.Errorf("answer is %q", body)
		}
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if !errors.Is(cause, ErrShutdown) {
			t.Errorf("cause is %v", cause)
		}
	})
}

func TestShutdownWakesLongPollsThatListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			return PendingFunc(func(ctx context.Context) (Answer, error) {
				<-req.Conn.Draining()
				return bytesAnswer("empty"), nil
			}), nil
		}))
		h.send(request(0, ""))
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(t.Context()) }()
		readAnswer(t, h)
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownDoesNotWaitForDeadReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pipe(t, Config{}, ListenerInfo{}, echo)
		h.send(request(0, strings.Repeat("x", 100000))) // and nobody reads
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := h.Shutdown(ctx); err == nil {
			t.Error("Shutdown returned no error")
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("Shutdown took %v", d)
		}
	})
}
