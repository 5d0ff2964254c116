package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Streams are where a verb reads and writes. Out carries results and nothing else, so that it can be piped; Err carries everything that is
// said to people.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// InTerminal says that a person is at In, who may be asked; ErrTerminal that a person watches Err, who may be shown progress.
	InTerminal, ErrTerminal bool
}

// OSStreams returns the process's standard streams.
func OSStreams() Streams {
	return Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
}

// confirm asks before something is destroyed. Without a terminal nobody can answer, so it refuses unless yes was given beforehand.
func (s Streams) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !s.InTerminal {
		return &Error{Message: "nothing was changed: this needs a yes", Next: "add --yes to do it without being asked"}
	}
	fmt.Fprintf(s.Err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(s.In).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &Error{Message: "nothing was changed"}
}
