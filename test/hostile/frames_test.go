package hostile_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestBytesThatAreNoFrames: whatever comes in that is no Kafka request, the connection is closed and nothing is answered.
func TestBytesThatAreNoFrames(t *testing.T) {
	b := attack(t, nil)
	length := func(n uint32, rest ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, n), rest...) }
	cases := map[string][]byte{
		"nothing":                 {},
		"half a length":           {0, 0},
		"length 0":                length(0),
		"length 1":                length(1, 0),
		"length below a header":   length(7, 0, 18, 0, 3, 0, 0, 0),
		"length -1":               length(0xffffffff),
		"length -2^31":            length(0x80000000),
		"length 2^31-1":           length(0x7fffffff, bytes.Repeat([]byte{0}, 1000)...),
		"length at limit":         length(16<<20, 0, 18, 0, 3),
		"length past limit":       length(16<<20+1, 0, 18, 0, 3),
		"half a header":           length(20, 0, 18, 0),
		"client id too long":      frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0x7f, 0xff}),
		"client id -2":            frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xfe}),
		"api key 32767":           frame([]byte{0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
		"api key -1":              frame([]byte{0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
		"4 billion header tags":   frame([]byte{0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}),
		"varint without end":      frame(append([]byte{0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff}, bytes.Repeat([]byte{0xff}, 40)...)),
		"tag of 4 GB":             frame([]byte{0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}),
		"HTTP":                    []byte("GET / HTTP/1.1\r\nHost: broker:9092\r\n\r\n"),
		"HTTP/2":                  []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		"SSH":                     []byte("SSH-2.0-OpenSSH_9.2\r\n"),
		"Redis":                   []byte("*1\r\n$4\r\nPING\r\n"),
		"AMQP":                    []byte("AMQP\x00\x00\x09\x01"),
		"MQTT":                    {0x10, 0x0c, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 0},
		"PostgreSQL":              {0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f},
		"zeros":                   make([]byte, 100_000),
		"ones":                    bytes.Repeat([]byte{0xff}, 100_000),
		"newlines":                bytes.Repeat([]byte{'\n'}, 1000),
		"SASL handshake, no SASL": {0, 0, 0, 3, 'f', 'o', 'o'},
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			if answer := b.exchange(t, data); len(answer) > 0 {
				t.Errorf("answered with %d bytes: %.100q", len(answer), answer)
			}
		})
	}
}

// TestTLSClientIsToldQuickly: a TLS client on a plain port fails at once instead of waiting for a handshake.
func TestTLSClientIsToldQuickly(t *testing.T) {
	b := attack(t, nil)
	b.logged = "TLS"
	began := time.Now()
	conn := tls.Client(b.dial(t), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // nobody answers
	if err := conn.HandshakeContext(t.Context()); err == nil {
		t.Error("the handshake succeeded")
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the client waited %s", took)
	}
}

func TestGarbage(t *testing.T) {
	b := attack(t, nil)
	random := rand.NewChaCha8([32]byte{1})
	sizes := rand.New(rand.NewPCG(1, 2))
	var all sync.WaitGroup
	for range 500 {
		data := make([]byte, 1+sizes.IntN(5000))
		if _, err := random.Read(data); err != nil {
			t.Fatal(err)
		}
		if sizes.IntN(2) == 0 { // a length that fits, and a key that exists, so that it gets further
			binary.BigEndian.PutUint32(append(data, 0, 0, 0, 0), uint32(len(data)-4))
			if len(data) > 8 {
				binary.BigEndian.PutUint32(data, uint32(len(data)-4))
				data[4], data[5], data[6], data[7] = 0, byte(sizes.IntN(80)), 0, byte(sizes.IntN(16))
			}
		}
		all.Go(func() { b.exchange(t, data) })
		if len(data)%16 == 0 {
			all.Wait()
		}
	}
	all.Wait()
}

// TestEveryKeyAtEveryVersion: a version that is not served closes the connection, as Kafka does, except that of ApiVersions, which is
// answered in version 0 with error 35. An empty body of a served one is answered or refused.
func TestEveryKeyAtEveryVersion(t *testing.T) {
	b := attack(t, nil)
	conn := b.dial(t)
	resp, err := call(t, conn, kmsg.NewPtrApiVersionsRequest())
	if err != nil {
		t.Fatal(err)
	}
	served := map[int16]kmsg.ApiVersionsResponseApiKey{}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		served[k.ApiKey] = k
	}
	var all sync.WaitGroup
	for key := int16(-2); key < 100; key++ {
		versions := []int16{-1, 0, 1, 2, 100, 32767, -32768}
		if k, ok := served[key]; ok {
			versions = append(versions, k.MinVersion-1, k.MinVersion, k.MaxVersion, k.MaxVersion+1)
		}
		for _, version := range versions {
			head := binary.BigEndian.AppendUint16(nil, uint16(key))
			head = binary.BigEndian.AppendUint16(head, uint16(version))
			head = append(head, 0, 0, 0, 9, 0xff, 0xff, 0)
			all.Go(func() {
				answer := b.exchange(t, frame(head))
				k, ok := served[key]
				known := ok && version >= k.MinVersion && version <= k.MaxVersion
				switch {
				case key == 18 && !known:
					if len(answer) < 10 || binary.BigEndian.Uint16(answer[8:]) != 35 {
						t.Errorf("ApiVersions v%d was answered with %x", version, answer)
					}
				case !known && len(answer) > 0:
					t.Errorf("key %d v%d is not served and was answered with %x", key, version, answer)
				}
			})
		}
		all.Wait()
	}
}

// TestConnectionsThatSendLittle: thousands of half-open and trickling connections leave the honest client alone.
func TestConnectionsThatSendLittle(t *testing.T) {
	const perKind = 500
	b := attack(t, nil)
	versions := request(kmsg.NewPtrApiVersionsRequest(), 1)
	kinds := map[string][]byte{
		"nothing":                nil,
		"one byte":               versions[:1],
		"a length":               versions[:4],
		"half a frame":           versions[:len(versions)-2],
		"a large length":         append([]byte{0, 0xff, 0xff, 0xff}, versions[4:8]...),
		"a frame and half a one": append(versions[:len(versions):len(versions)], versions[:9]...),
	}
	conns := make([]net.Conn, 0, perKind*len(kinds))
	for range perKind {
		for _, data := range kinds {
			conn := b.dial(t)
			if _, err := conn.Write(data); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
	}
	// They trickle: a byte each, now and then.
	for range 3 {
		for _, conn := range conns {
			_, _ = conn.Write([]byte{0}) // may have been refused by now
		}
	}
	for _, conn := range conns {
		conn.Close()
	}
}

// TestFrameThatTricklesHoldsLittleMemory: 200 connections that announce 16 MiB and send a few bytes cost what they have sent.
func TestFrameThatTricklesHoldsLittleMemory(t *testing.T) {
	b := attack(t, nil)
	before := mapped()
	head := binary.BigEndian.AppendUint32(nil, 16<<20)
	head = append(head, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff)
	for range 200 {
		if _, err := b.dial(t).Write(head); err != nil {
			t.Fatal(err)
		}
	}
	b.exchange(t, request(kmsg.NewPtrApiVersionsRequest(), 1)) // is answered, so those before have been read
	if now := mapped(); now > before+64<<20 {
		t.Errorf("200 announced frames cost %d MiB", (now-before)>>20)
	}
}

// TestClientsThatDoNotRead are cut off: they pipeline requests with large answers and read nothing.
func TestClientsThatDoNotRead(t *testing.T) {
	b := attack(t, map[string]string{"ottla.write.timeout.ms": "500"})
	describe := kmsg.NewPtrDescribeConfigsRequest() // a large answer to a small question
	describe.SetVersion(4)
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
	describe.Resources = append(describe.Resources, resource)
	pipeline := bytes.Repeat(request(describe, 1), 2000)

	var all sync.WaitGroup
	for range 6 {
		conn := b.dial(t)
		if err := conn.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			// The broker stops reading, then cuts the connection: the write fails before the test's patience ends.
			for {
				if _, err := conn.Write(pipeline); err != nil {
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("a client that does not read is still connected after %s", patience)
					}
					return
				}
			}
		})
	}
	all.Wait()
}

// TestPipelinedRequestsAreAllAnswered: thousands sent before the first answer is read come back, in order.
func TestPipelinedRequestsAreAllAnswered(t *testing.T) {
	b := attack(t, nil)
	const requests = 5000
	var all sync.WaitGroup
	for range 4 {
		conn := b.dial(t)
		all.Go(func() {
			for i := range requests {
				if _, err := conn.Write(request(kmsg.NewPtrApiVersionsRequest(), int32(i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			for i := range requests {
				answer, err := readAnswer(conn)
				if err != nil {
					t.Errorf("answer %d: %v", i, err)
					return
				}
				if got := binary.BigEndian.Uint32(answer); got != uint32(i) {
					t.Errorf("answer %d has correlation id %d", i, got)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestConnectionsComeAndGo opens and closes connections as fast as it can, some with a reset.
func TestConnectionsComeAndGo(t *testing.T) {
	b := attack(t, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 250 {
				conn, err := net.Dial("tcp", b.Addr())
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				if i%3 == 0 {
					_, _ = io.WriteString(conn, "\x00")
				}
				conn.Close()
			}
		})
	}
	all.Wait()
}
