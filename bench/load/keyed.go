package load

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/record"
)

// Keyed is a load of records with keys, for logs that are compacted: each key once, in an order that looks random, and then as many records
// more with keys drawn at random.
type Keyed struct {
	Partition   Partition
	Keys        int
	RecordBytes int
	Connections int
}

// Written is what a load of keys wrote.
type Written struct {
	Bytes   int64 // of batches
	Batches int64
}

// keyScatter is a prime: multiples of it go through all keys, unless their number is one of its own multiples.
const keyScatter = 7_368_787

// keysPerBatch makes batches of about 64 KiB of records of 100 bytes.
const keysPerBatch = 650

// Run writes them as fast as they are taken.
func (l Keyed) Run(ctx context.Context, addr string) (Written, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg             sync.WaitGroup
		next           atomic.Int64 // record
		bytes, batches atomic.Int64
	)
	for number := range l.Connections {
		wg.Go(func() {
			c, closeConn, err := open(ctx, addr)
			if err != nil {
				cancel(err)
				return
			}
			defer closeConn()
			random := rand.New(rand.NewPCG(1, uint64(number)))
			builder := record.NewBuilder(record.BuilderOptions{})
			for {
				first := int(next.Add(keysPerBatch)) - keysPerBatch
				if first >= 2*l.Keys {
					return
				}
				batch := l.batch(builder, random, first)
				if err := c.produce(l.Partition, batch); err != nil {
					cancel(err)
					return
				}
				bytes.Add(int64(len(batch)))
				batches.Add(1)
			}
		})
	}
	wg.Wait()
	return Written{bytes.Load(), batches.Load()}, context.Cause(ctx)
}

// batch makes the batch that begins with a record of the load.
func (l Keyed) batch(b *record.Builder, random *rand.Rand, first int) []byte {
	const lengths = 1 // a record has one byte more in its length and one in its key's than recordOverhead counts for records without a key
	var key [8]byte
	value := make([]byte, max(8, l.RecordBytes-recordOverhead-len(key)-lengths))
	binary.BigEndian.PutUint64(value, random.Uint64())
	b.Reset()
	now := time.Now().UnixMilli()
	for i := first; i < min(first+keysPerBatch, 2*l.Keys); i++ {
		n := i * keyScatter % l.Keys
		if i >= l.Keys {
			n = random.IntN(l.Keys)
		}
		binary.BigEndian.PutUint64(key[:], uint64(n))
		b.Append(now, key[:], value)
	}
	return b.Build(0)
}

// produce sends a batch and waits until it is acknowledged.
func (c *client) produce(p Partition, batch []byte) error {
	if _, err := c.Write(frame(produceRequest(p, batch))); err != nil {
		return err
	}
	body, err := c.answers.next(true)
	if err != nil {
		return err
	}
	return checkProduced(body, p)
}
