package metadata

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newEtcdLogger gives etcd a logger that writes to lg and that, when etcd wants to end the process, raises the alarm and ends
// only the goroutine that said so.
func newEtcdLogger(lg *slog.Logger, a *alarm) *zap.Logger {
	last := lastWord{a}
	return zap.New(&etcdCore{log: lg, alarm: a}, zap.WithFatalHook(last), zap.WithPanicHook(last))
}

type lastWord struct{ alarm *alarm }

// OnWrite is called after etcd logged at fatal or panic level.
func (l lastWord) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	text := entry.Message
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	if cause, ok := enc.Fields["error"].(string); ok {
		text += ": " + cause
	}
	l.alarm.raise(errors.New("etcd: " + text))
	runtime.Goexit()
}

// etcdCore writes etcd's entries to a slog.Logger, at the level that they have for an operator of the broker.
type etcdCore struct {
	log    *slog.Logger
	alarm  *alarm
	fields []zapcore.Field
}

const maxLogText = 200

// usual are warnings that a single member in this process gives whenever all is well.
var usual = []string{
	"Running http and grpc server on single port",
	"simple token is not cryptographically signed",
	"Failed to detect schema version", // of a new member, which writes it a moment later
	"Failed to detect storage schema version",
	"cannot campaign at term",          // it can at the next
	"failed to update storage version", // the same
	"failed to apply request",          // Commit returns why
}

func (c *etcdCore) level(entry zapcore.Entry) slog.Level {
	switch {
	case entry.Level >= zapcore.DPanicLevel:
		return slog.LevelError
	case entry.Level <= zapcore.InfoLevel:
		return slog.LevelDebug
	}
	c.alarm.mu.Lock()
	closing := c.alarm.closing
	c.alarm.mu.Unlock()
	if closing {
		return slog.LevelDebug // everything that still ran complains of being stopped
	}
	for _, s := range usual {
		if strings.Contains(entry.Message, s) {
			return slog.LevelDebug
		}
	}
	if entry.Level == zapcore.WarnLevel {
		return slog.LevelWarn
	}
	return slog.LevelError
}

// Enabled implements zapcore.LevelEnabler. What is below warning costs nothing unless the broker logs at debug level.
func (c *etcdCore) Enabled(level zapcore.Level) bool {
	return level >= zapcore.WarnLevel || level >= zapcore.InfoLevel && c.log.Enabled(context.TODO(), slog.LevelDebug)
}

// With implements zapcore.Core.
func (c *etcdCore) With(fields []zapcore.Field) zapcore.Core {
	clone := *c
	clone.fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	return &clone
}

// Check implements zapcore.Core.
func (c *etcdCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *etcdCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for key, value := range enc.Fields {
		if key == "error" {
			key = "err"
		}
		if text, ok := value.(string); ok && len(text) > maxLogText {
			value = text[:maxLogText] + "..." // whole requests, otherwise
		}
		attrs = append(attrs, slog.Any(key, value))
	}
	c.log.LogAttrs(context.TODO(), c.level(entry), entry.Message, attrs...) //nolint:sloglint // etcd's message; zapcore hands over no context
	return nil
}

// Sync implements zapcore.Core.
func (c *etcdCore) Sync() error { return nil }
