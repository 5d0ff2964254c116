package coordtest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// Logger returns a logger that tells panicked where a state machine panicked, which the runtime outlives by replaying its log.
func Logger(panicked func(why string)) *slog.Logger {
	return slog.New(panics{slog.DiscardHandler, panicked})
}

type panics struct {
	slog.Handler
	tell func(why string)
}

func (h panics) Enabled(context.Context, slog.Level) bool { return true }

func (h panics) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "panicked") {
		why := r.Message
		r.Attrs(func(a slog.Attr) bool {
			why += fmt.Sprintf(" %v", a)
			return true
		})
		h.tell(why)
	}
	return nil
}

func (h panics) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h panics) WithGroup(string) slog.Handler { return h }
