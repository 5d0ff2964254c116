package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// readSize is how much is asked of a file at once; a pipe gives what it has, so that a line is sent when it is written.
const readSize = 256 << 10

// lines cuts input into lines without copying them: what next returns lies in the buffer that it was given.
type lines struct {
	in    io.Reader
	limit int    // the longest line, in bytes without its \n
	rest  []byte // the beginning of a line whose end was not read yet; owned
	done  bool
	line  int64 // lines returned so far
}

// LongLineError says that a line does not fit in a record of the topic.
type LongLineError struct {
	Size, Limit int // bytes; Size is a lower bound
}

func (e *LongLineError) Error() string {
	return fmt.Sprintf("is too long: a record of at least %s bytes, where %s are allowed", countText(int64(e.Size)), countText(int64(e.Limit)))
}

// next reads once and calls each for every line that is complete then, with the final \n taken off and nothing else: a \r stays. The last
// line counts without one. next returns the buffer for reuse once no line of it is needed, and io.EOF after the last line. An error of each
// ends it.
func (l *lines) next(buf []byte, each func(line []byte) error) ([]byte, error) {
	if l.done {
		return buf, io.EOF
	}
	buf = append(buf[:0], l.rest...)
	scanned := len(buf) // holds no \n
	for {
		if cap(buf)-len(buf) < readSize/2 {
			buf = append(make([]byte, 0, max(readSize, 2*cap(buf))), buf...)
		}
		n, err := l.in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && !errors.Is(err, io.EOF) {
			return buf, err
		}
		begin := 0
		for {
			i := bytes.IndexByte(buf[max(begin, scanned):], '\n')
			if i < 0 {
				break
			}
			i += max(begin, scanned)
			l.line++
			if err := each(buf[begin:i:i]); err != nil {
				return buf, err
			}
			begin = i + 1
		}
		scanned = len(buf)
		if len(buf)-begin > l.limit {
			return buf, fmt.Errorf("line %d %w", l.line+1, &LongLineError{Size: len(buf) - begin, Limit: l.limit})
		}
		if err != nil {
			l.done = true
			if begin < len(buf) {
				l.line++
				return buf, each(buf[begin:len(buf):len(buf)])
			}
			return buf, nil
		}
		if begin > 0 {
			l.rest = append(l.rest[:0], buf[begin:]...)
			return buf, nil
		}
	}
}
