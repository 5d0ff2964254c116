package cli

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What verbs that talk to no cluster share with those that do.

// Print writes a listing: value as indented JSON, or what text writes.
func (s Streams) Print(format string, value any, text func(w io.Writer) error) error {
	return s.print(format, value, text)
}

// Confirm asks a question with yes or no for an answer, unless yes has answered it already. No is an error.
func (s Streams) Confirm(yes bool, question string) error { return s.confirm(yes, question) }

// BytesText is a size for people.
func BytesText(n int64) string { return bytesText(n) }

// RecordWriter writes records as `consume` does.
type RecordWriter struct {
	out    output
	format formatter
}

// NewRecordWriter returns a writer to standard output. *Error if p is not a format.
func NewRecordWriter(s Streams, p Print) (*RecordWriter, error) {
	format, err := p.formatter()
	if err != nil {
		return nil, err
	}
	return &RecordWriter{out: output{w: s.Out}, format: format}, nil
}

// Write takes a record; it is written at Flush at the latest.
func (w *RecordWriter) Write(r *kgo.Record) error { return w.out.record(w.format, r) }

// Flush writes what is buffered.
func (w *RecordWriter) Flush() error { return w.out.drain() }

// Bar shows on a terminal how much of a long work is done. Its methods may be called from any goroutine.
type Bar struct {
	s           Streams
	what        string
	began       time.Time
	total, done atomic.Int64
	quit, ended chan struct{}
}

// StartBar begins to draw; Stop must follow. what is the verb: "checked".
func StartBar(s Streams, what string) *Bar {
	b := &Bar{s: s, what: what, began: time.Now()}
	if s.ErrTerminal {
		b.quit, b.ended = make(chan struct{}), make(chan struct{})
		go b.draw()
	}
	return b
}

// Total says how many bytes there are.
func (b *Bar) Total(n int64) { b.total.Store(n) }

// Add says that n more bytes are done.
func (b *Bar) Add(n int64) { b.done.Add(n) }

// Stop takes the display away.
func (b *Bar) Stop() {
	if b.quit != nil {
		close(b.quit)
		<-b.ended
	}
}

func (b *Bar) draw() {
	defer close(b.ended)
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.quit:
			fmt.Fprint(b.s.Err, "\r\x1b[K")
			return
		case now := <-tick.C:
			fmt.Fprint(b.s.Err, "\r\x1b[K", b.text(now.Sub(b.began)))
		}
	}
}

func (b *Bar) text(took time.Duration) string {
	done, total := b.done.Load(), b.total.Load()
	text := fmt.Sprintf("%s of %s %s  %.1f MB/s", bytesText(done), bytesText(total), b.what, float64(done)/1e6/max(took.Seconds(), 1e-3))
	if done > 0 && total > done {
		text = fmt.Sprintf("%3.0f%%  %s  ETA %s", float64(done)*100/float64(total), text, (time.Duration(float64(total-done) / float64(done) * float64(took))).Round(time.Second))
	}
	return text
}
