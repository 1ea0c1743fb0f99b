package etcd

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo makes a logger for etcd's server that hands what is a warning or worse to l, until closing is set: a server that is
// closed complains about each of its listeners. A fatal entry of etcd ends the process.
func zapTo(l *slog.Logger, closing *atomic.Bool) *zap.Logger {
	return zap.New(&slogCore{handler: l.Handler(), closing: closing})
}

// slogCore is the opposite of go.uber.org/zap/exp/zapslog: it writes zap's entries to a slog handler.
type slogCore struct {
	handler slog.Handler
	closing *atomic.Bool
}

// harmless are warnings of etcd about what is meant to be so here.
func harmless(message string) bool {
	switch message {
	case "Running http and grpc server on single port. This is not recommended for production.", // metrics and health only
		"Failed to detect schema version", "failed to update storage version": // of a database just made; tried again
		return true
	}
	// A member that is its cluster's only one is told to stand for election until it does (see campaign).
	return strings.Contains(message, "cannot campaign at term")
}

func slogLevel(l zapcore.Level) slog.Level {
	if l >= zapcore.ErrorLevel {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// Enabled tells whether entries of a level are written.
func (c *slogCore) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel && c.handler.Enabled(context.Background(), slogLevel(l))
}

// With adds fields to all entries.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{c.handler.WithAttrs(attrs(fields)), c.closing}
}

// Check adds the core to an entry that it wants.
func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !c.closing.Load() && !harmless(e.Message) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write writes an entry.
func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	r := slog.NewRecord(at, slogLevel(e.Level), "etcd: "+e.Message, 0)
	r.AddAttrs(attrs(fields)...)
	return c.handler.Handle(context.Background(), r)
}

// Sync does nothing: slog's handlers keep nothing back.
func (c *slogCore) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	list := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		if v, ok := enc.Fields[f.Key]; ok {
			list = append(list, slog.Any(f.Key, v))
		}
	}
	return list
}
