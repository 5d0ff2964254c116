package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ottlaio/ottla/bench/load"
)

// TestTheFloorKeepsEveryByteItAcknowledges runs the load that it is there for and looks at its files.
func TestTheFloorKeepsEveryByteItAcknowledges(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	addr, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- run(ctx, data, "127.0.0.1:0", true, func(a string) { addr <- a }) }()
	var at string
	select {
	case at = <-addr:
	case err := <-done:
		t.Fatal(err)
	}
	if err := load.CreateTopic(t.Context(), at, "t", 2); err != nil {
		t.Fatal(err)
	}
	produced, err := load.Produce{
		Partitions: load.Partitions("t", 2), Batch: load.Batch64KiB(1<<10, 0), Connections: 2, InFlight: 4, MinBytes: 8 << 20, Duration: 100 * time.Millisecond,
	}.Run(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Stat(filepath.Join(data, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if log.Size() < produced.Bytes && produced.Bytes < logBytes {
		t.Errorf("the log holds %d bytes of %d", log.Size(), produced.Bytes)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	segments := int64(0)
	files, err := filepath.Glob(filepath.Join(data, "segments", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		s, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		segments += s.Size()
	}
	// All but what was waiting in memory: a chunk that fills for each partition, and those on their way to the disk.
	if waiting := int64(2+fullChunks+2) * chunkBytes; segments+waiting < produced.Bytes || segments == 0 {
		t.Errorf("the segments hold %d bytes of %d", segments, produced.Bytes)
	}
}

func TestTheFloorRefusesABatchWithAWrongCRC(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	addr, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- run(ctx, data, "127.0.0.1:0", false, func(a string) { addr <- a }) }()
	batch := load.OneKiB()
	batch.Raw[len(batch.Raw)-1] ^= 1
	if _, err := (load.Produce{Partitions: load.Partitions("t", 1), Batch: batch, Connections: 1, InFlight: 1, Duration: time.Hour}).Run(t.Context(), <-addr); err == nil {
		t.Error("it was acknowledged")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
