package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestShapesAgreeWithMessages encodes random messages of every version and steps over them: the shapes, which come from
// Kafka, and kmsg must agree to the byte.
func TestShapesAgreeWithMessages(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	versions := 0
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			if schemaFor(key, v) == nil {
				continue
			}
			versions++
			for range 20 {
				req := kmsg.RequestForKey(key)
				fill(reflect.ValueOf(req).Elem(), rnd, 0)
				req.SetVersion(v)
				b := req.AppendTo(nil)
				w := walker{b: b}
				if err := w.walk(schemaFor(key, v)); err != nil || len(w.b) > 0 {
					t.Fatalf("%s v%d: %d of %d bytes left over, %v\n%+v", keyName(key), v, len(w.b), len(b), err, req)
				}
				again := kmsg.RequestForKey(key)
				again.SetVersion(v)
				if err := again.ReadFrom(b); err != nil {
					t.Fatalf("%s v%d: %v", keyName(key), v, err)
				}
			}
		}
	}
	if versions < 250 {
		t.Errorf("only %d versions were compared", versions)
	}
}

// fill sets every field of a message to something random.
func fill(v reflect.Value, rnd *rand.Rand, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "UnknownTags" {
				fill(f, rnd, depth+1)
			}
		}
	case reflect.Pointer:
		if rnd.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), rnd, depth+1)
		}
	case reflect.Slice:
		n := rnd.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), rnd, depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), rnd, depth+1)
		}
	case reflect.String:
		v.SetString(strings.Repeat("x", rnd.IntN(5)))
	case reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int8(rnd.Uint32())))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(uint8(rnd.Uint32())))
	case reflect.Float64:
		v.SetFloat(rnd.Float64())
	}
}

func TestDecodeRefusesBadBodies(t *testing.T) {
	tests := []struct {
		name         string
		key, version int16
		body         string
	}{
		{"empty", int16(kmsg.Metadata), 0, ""},
		{"count beyond the bytes", int16(kmsg.Metadata), 0, "\x7f\xff\xff\xff"},
		{"compact count beyond the bytes", int16(kmsg.Metadata), 12, "\xff\xff\xff\xff\x07\x00\x00\x00"},
		{"2³² tagged fields", int16(kmsg.Metadata), 12, "\x01\x00\x00\xff\xff\xff\xff\x0f"},
		{"tagged fields beyond the limit", int16(kmsg.Metadata), 12, "\x01\x00\x00\x91\x4e" + strings.Repeat("\x05\x00", 20000)},
		{"tagged field beyond the bytes", int16(kmsg.Metadata), 12, "\x01\x00\x00\x01\x05\x09a"},
		{"length below -1", int16(kmsg.Metadata), 0, "\xff\xff\xff\xfe"},
		{"string length below -1", int16(kmsg.Heartbeat), 0, "\xff\xfe\x00\x00\x00\x00\x00\x00"},
		{"version that there is none of", int16(kmsg.Metadata), 99, "\x00\x00\x00\x00"},
		{"negative version", int16(kmsg.Metadata), -1, "\x00\x00\x00\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Decode(&Request{Key: tt.key, Version: tt.version, Body: []byte(tt.body)}, kmsg.RequestForKey(tt.key))
			var de *DecodeError
			if !errors.As(err, &de) {
				t.Errorf("err is %v, want a DecodeError", err)
			}
		})
	}
}

func TestDecodeIgnoresWhatFollows(t *testing.T) {
	req := kmsg.NewPtrMetadataRequest()
	if err := Decode(&Request{Key: int16(kmsg.Metadata), Body: []byte("\x00\x00\x00\x01\x00\x01atrailing")}, req); err != nil || *req.Topics[0].Topic != "a" {
		t.Errorf("decoded %+v, %v", req, err)
	}
}

func TestDecodeBudget(t *testing.T) {
	big := binary.BigEndian.AppendUint32(nil, 100_000)
	for range 100_000 {
		big = append(big, 0, 1, 'x')
	}
	cost, err := checkBody(int16(kmsg.Metadata), 0, big)
	if err != nil || cost < 5_000_000 || cost > 50_000_000 {
		t.Fatalf("cost is %d, %v", cost, err)
	}
	decoded := make(chan error, 1)
	h := pipe(t, Config{DecodeBytesTotal: cost - 1}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		err := Decode(req, kmsg.NewPtrMetadataRequest())
		decoded <- err
		return nil, err
	}))
	go h.Write(requestOf(int16(kmsg.Metadata), 0, 1, string(big)))
	if err := <-decoded; !errors.Is(err, ErrTooLargeToDecode) {
		t.Errorf("err is %v", err)
	}
	h.wantReason(CloseByHandler)
}

func TestDecodeBudgetIsHeldUntilHandleReturns(t *testing.T) {
	var during int64
	var h *harness
	h = pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
		if err := Decode(req, kmsg.NewPtrMetadataRequest()); err != nil {
			return nil, err
		}
		during = h.Stats().DecodeBytes
		return Ready(bytesAnswer("ok")), nil
	}))
	h.send(requestOf(int16(kmsg.Metadata), 0, 1, "\x00\x00\x00\x00"))
	readAnswer(t, h)
	if during < messageCost {
		t.Errorf("%d bytes are held while Handle runs", during)
	}
	if now := h.Stats().DecodeBytes; now != 0 {
		t.Errorf("%d bytes are held afterwards", now)
	}
}

func TestMessage(t *testing.T) {
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = 12
	resp.ClusterID = kmsg.StringPtr("cluster")
	h := pipe(t, Config{}, ListenerInfo{}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) { return Ready(Message(resp)), nil }))
	h.send(requestOf(int16(kmsg.Metadata), 12, 9, ""))
	_, body := readAnswer(t, h)
	again := kmsg.NewPtrMetadataResponse()
	again.Version = 12
	if err := again.ReadFrom([]byte(body[1:])); err != nil || *again.ClusterID != "cluster" {
		t.Errorf("answer is %q: %v", body, err)
	}
}

// captures returns the recorded frames of real clients by file name.
func captures(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/captures/*.bin")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures: %v", err)
	}
	all := map[string][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = b
	}
	return all
}

func TestCapturesDecode(t *testing.T) {
	for name, b := range captures(t) {
		req, err := ParseRequest(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.HasPrefix(name, fmt.Sprintf("%d-%d-", req.Key, req.Version)) {
			t.Errorf("%s holds %s v%d", name, keyName(req.Key), req.Version)
		}
		w := walker{b: req.Body}
		if s := schemaFor(req.Key, req.Version); s == nil {
			continue // versions that Kafka 4.3 no longer has
		} else if err := w.walk(s); err != nil || len(w.b) > 0 {
			t.Errorf("%s: %d bytes left over, %v", name, len(w.b), err)
		}
		if err := Decode(req, kmsg.RequestForKey(req.Key)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFrame parses frames and decodes their bodies: nothing may panic, and memory must stay within what was announced.
func FuzzFrame(f *testing.F) {
	for _, b := range captures(f) {
		f.Add(b)
	}
	f.Add(requestOf(int16(kmsg.Metadata), 12, 1, "\x01\x00\x00\xff\xff\xff\xff\x0f")[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := ParseRequest(b)
		if err != nil {
			return
		}
		cost, err := checkBody(req.Key, req.Version, req.Body)
		if err != nil {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		msg := kmsg.RequestForKey(req.Key)
		msg.SetVersion(req.Version)
		err = readMessage(req, msg)
		runtime.ReadMemStats(&after)
		if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > cost+64<<10 { // other goroutines of the fuzzer allocate, too
			t.Errorf("%s v%d of %d bytes took %d bytes, announced were %d", keyName(req.Key), req.Version, len(b), grown, cost)
		}
		if err != nil && !strings.Contains(err.Error(), "did not contain enough data") {
			t.Errorf("%s v%d: %v", keyName(req.Key), req.Version, err)
		}
	})
}

// FuzzConnection sends arbitrary bytes to a server: it must survive them, and give back all memory.
func FuzzConnection(f *testing.F) {
	for _, b := range captures(f) {
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := pipe(t, Config{}, ListenerInfo{RequiresLogin: true}, handlerFunc(func(_ context.Context, req *Request) (Pending, error) {
			if err := Decode(req, kmsg.RequestForKey(req.Key)); err != nil {
				return nil, err
			}
			return Ready(bytesAnswer("ok")), nil
		}))
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, h)
		}()
		_, _ = h.Write(b)
		h.Close()
		<-drained
		<-h.end
	})
}
