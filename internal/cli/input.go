package cli

import (
	"context"
	"io"
	"os"
)

// interruptible returns a reader whose Read returns when ctx ends, even while the terminal or a pipe has nothing to give.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	file, ok := in.(*os.File)
	if !ok {
		return in
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		return in
	}
	return &interruptReader{ctx: ctx, in: in, asked: make(chan []byte), got: make(chan readResult, 1)}
}

type readResult struct {
	n   int
	err error
}

// interruptReader reads in a goroutine of its own, since a read of a terminal cannot be called off. That goroutine is left behind in its
// read when ctx ends; the process is about to end then.
type interruptReader struct {
	ctx     context.Context
	in      io.Reader
	started bool
	own     []byte
	asked   chan []byte
	got     chan readResult
}

func (r *interruptReader) Read(b []byte) (int, error) {
	if !r.started {
		r.started = true
		r.own = make([]byte, readSize)
		go func() {
			for buf := range r.asked {
				n, err := r.in.Read(buf)
				r.got <- readResult{n, err}
			}
		}()
	}
	select {
	case <-r.ctx.Done():
		return 0, io.EOF
	default:
	}
	r.asked <- r.own[:min(len(b), len(r.own))]
	select {
	case <-r.ctx.Done():
		return 0, io.EOF
	case got := <-r.got:
		if got.err != nil {
			close(r.asked)
		}
		return copy(b, r.own[:got.n]), got.err
	}
}

// inputSize is the size of all inputs in bytes, -1 if one of them cannot say.
func (p *producing) inputSize() int64 {
	total := int64(0)
	for _, name := range p.files {
		var info os.FileInfo
		var err error
		if name != "-" {
			info, err = os.Stat(name)
		} else if file, ok := p.In.(*os.File); ok {
			info, err = file.Stat()
		} else {
			return -1
		}
		if err != nil || !info.Mode().IsRegular() {
			return -1
		}
		total += info.Size()
	}
	return total
}
