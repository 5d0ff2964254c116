package record

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestWholeCRCIsThatOfTheBytes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 1000, combineBytes - 200, combineBytes, 65_536, 100_001, 3 << 20} {
		b := NewBuilder(BuilderOptions{})
		value := make([]byte, size)
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		b.Append(1000, nil, value)
		batch := b.Build(0)
		SetBaseOffset(batch, 1<<40+77)
		SetLeaderEpoch(batch, 9)
		if got, want := WholeCRC(batch), crc32.Checksum(batch, castagnoli); got != want {
			t.Errorf("a batch of %d bytes: %#x, want %#x", len(batch), got, want)
		}
	}
}

func BenchmarkWholeCRC(b *testing.B) {
	builder := NewBuilder(BuilderOptions{})
	builder.Append(1000, nil, make([]byte, 64_000))
	batch := builder.Build(0)
	b.Run("combined", func(b *testing.B) {
		for b.Loop() {
			WholeCRC(batch)
		}
	})
	b.Run("computed", func(b *testing.B) {
		for b.Loop() {
			crc32.Checksum(batch, castagnoli)
		}
	})
}
