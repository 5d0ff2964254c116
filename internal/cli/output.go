package cli

import (
	"io"

	"github.com/twmb/franz-go/pkg/kgo"
)

// output buffers what is written and remembers the last record of each partition in it, so that an offset is committed only when its
// record has left the process.
type output struct {
	w     io.Writer
	buf   []byte
	last  map[topicPartition]*kgo.Record // in buf, or flushed since marked was called
	ready []*kgo.Record
}

type topicPartition struct {
	topic     string
	partition int32
}

func (o *output) record(format formatter, r *kgo.Record) error {
	o.buf = format(o.buf, r)
	if len(o.buf) >= outputBuffer {
		return o.drain()
	}
	return nil
}

// mark says that everything up to r of its partition was given to record.
func (o *output) mark(r *kgo.Record) {
	if o.last == nil {
		o.last = map[topicPartition]*kgo.Record{}
	}
	o.last[topicPartition{r.Topic, r.Partition}] = r
}

// flush writes what is buffered.
func (o *output) flush() error {
	if err := o.drain(); err != nil {
		return err
	}
	for _, r := range o.last {
		o.ready = append(o.ready, r)
	}
	clear(o.last)
	return nil
}

func (o *output) drain() error {
	if len(o.buf) == 0 {
		return nil
	}
	_, err := o.w.Write(o.buf)
	o.buf = o.buf[:0]
	return err
}

// marked returns the last records of all that was flushed since it was last called.
func (o *output) marked() []*kgo.Record {
	ready := o.ready
	o.ready = nil
	return ready
}
