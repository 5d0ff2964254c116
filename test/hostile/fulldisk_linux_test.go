package hostile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/record"
)

// TestFullDisk runs the binary on a small file system of its own and fills that: producers get an error that they retry, consumers go on,
// it heals without a restart once there is space, and what was acknowledged is there. It needs the right to mount, in a mount namespace
// that nobody else sees; where that is missing, it says so, and the engine's own tests of full disks stand alone.
func TestFullDisk(t *testing.T) {
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Logf("NOT RUN: this user may not mount a file system: %v %s", err, out)
		return
	}
	binary, err := buildBroker()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	dir := t.TempDir()
	script := `mount -t tmpfs -o size=300m tmpfs "$1" && exec "$2" serve --data "$1/data" --listen "$3" --set ottla.wal.max.bytes=33554432`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script, "sh", dir, binary, addr)
	var out logBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-exited; err != nil {
			t.Errorf("the broker ended with %v:\n%s", err, out.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	conn := dialUntilUp(t, ctx, addr)
	createUsed(t, conn)

	acked := 0
	send := func() int16 {
		builder := record.NewBuilder(record.BuilderOptions{})
		value := append(fmt.Appendf(nil, "value-%d.", acked), bytes.Repeat([]byte{'x'}, 100_000)...)
		builder.Append(time.Now().UnixMilli(), nil, value)
		code := produceOne(t, conn, builder.Build(0))
		if code == 0 {
			acked++
		}
		return code
	}
	for range 50 {
		if code := send(); code != 0 {
			t.Fatalf("record %d, before the disk is full: %v\n%s", acked, kerr.ErrorForCode(code), out.String())
		}
	}
	filler := filepath.Join(fmt.Sprintf("/proc/%d/root", cmd.Process.Pid), dir, "filler")
	fill(t, filler)
	var refused int16
	for deadline := time.Now().Add(patience); refused == 0 && time.Now().Before(deadline); {
		refused = send()
	}
	if refused == 0 || !kerr.IsRetriable(kerr.ErrorForCode(refused)) {
		t.Fatalf("a full disk is answered with %v, want an error that producers retry\n%s", kerr.ErrorForCode(refused), out.String())
	}
	t.Logf("after %d records, a full disk is answered with %v", acked, kerr.ErrorForCode(refused))
	if value, code := fetchOne(t, addr, 10); code != 0 || !bytes.Contains([]byte(value), []byte("value-10.")) {
		t.Errorf("a consumer got error %v", kerr.ErrorForCode(code))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	healed := false
	for deadline := time.Now().Add(patience); !healed && time.Now().Before(deadline); {
		healed = send() == 0
	}
	if !healed {
		t.Fatalf("it did not heal after there was space again:\n%s", out.String())
	}
	// Refused records may be there or not, but not between acknowledged ones out of order.
	next := 0
	for offset := int64(0); next < acked; offset++ {
		value, code := fetchOne(t, addr, offset)
		if code != 0 {
			t.Fatalf("offset %d: %v; found %d of %d acknowledged records", offset, kerr.ErrorForCode(code), next, acked)
		}
		if bytes.Contains([]byte(value), fmt.Appendf(nil, "value-%d.", next)) {
			next++
		}
	}
}

// fill writes a file until the file system has no room for more.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 1; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func dialUntilUp(t *testing.T, ctx context.Context, addr string) net.Conn {
	t.Helper()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(3 * patience))
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func createUsed(t *testing.T, conn net.Conn) {
	t.Helper()
	create := kmsg.NewPtrCreateTopicsRequest()
	create.SetVersion(5)
	create.TimeoutMillis = 10_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "used", 1, 1
	create.Topics = append(create.Topics, topic)
	if _, err := call(t, conn, create); err != nil {
		t.Fatal(err)
	}
}

func produceOne(t *testing.T, conn net.Conn, batch []byte) int16 {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(9)
	req.Acks, req.TimeoutMillis = -1, 5000
	pt := kmsg.NewProduceRequestTopicPartition()
	pt.Records = batch
	to := kmsg.NewProduceRequestTopic()
	to.Topic, to.Partitions = "used", []kmsg.ProduceRequestTopicPartition{pt}
	req.Topics = append(req.Topics, to)
	resp, err := call(t, conn, req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
}
