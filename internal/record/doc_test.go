package record

import (
	"bytes"
	"testing"
)

// TestDocExample holds the package comment to what the builder writes.
func TestDocExample(t *testing.T) {
	t.Parallel()
	batch := build(BuilderOptions{}, testRecord{key: []byte("k"), headers: []RecordHeader{{Key: "h", Value: []byte("x")}}})
	want := []byte{0x16, 0, 0, 0, 2, 0x6b, 1, 2, 2, 0x68, 2, 0x78}
	if !bytes.Equal(batch[HeaderSize:], want) {
		t.Errorf("got % x, want % x", batch[HeaderSize:], want)
	}
}
