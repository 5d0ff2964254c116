package load

import (
	"math/rand/v2"
	"time"

	"github.com/ottlaio/ottla/internal/record"
)

// Batch is a record batch, encoded once; a load sends it again and again.
type Batch struct {
	Records int
	Raw     []byte
}

// BatchOptions describe a batch.
type BatchOptions struct {
	Records     int
	RecordBytes int // of each record, with what its encoding adds
	Codec       record.Codec
}

// words is what records are made of when they are to be compressed: log lines, which shrink to about a fifth.
var words = []string{"GET ", "POST ", "/index.html ", "/api/v1/orders ", "200 ", "404 ", "host=", "user=", "took_ms=", "eu-central-1 ", "Mozilla/5.0 "}

// recordOverhead is what the format adds to a value of a few hundred bytes: length, attributes, deltas, key and header count.
const recordOverhead = 9

// NewBatch encodes a batch. Equal options give equal records in every run. Without a codec the values are random bytes.
func NewBatch(o BatchOptions) Batch {
	b := record.NewBuilder(record.BuilderOptions{Codec: o.Codec})
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Now().UnixMilli()
	for range o.Records {
		b.Append(now, nil, value(random, max(1, o.RecordBytes-recordOverhead), o.Codec != record.None))
	}
	return Batch{Records: o.Records, Raw: b.Build(0)}
}

func value(random *rand.Rand, size int, text bool) []byte {
	v := make([]byte, 0, size+16)
	for len(v) < size {
		if text {
			v = append(v, words[random.IntN(len(words))]...)
			v = append(v, byte('a'+random.IntN(26)), byte('0'+random.IntN(10)))
		} else {
			v = append(v, byte(random.Uint32()))
		}
	}
	return v[:size]
}
