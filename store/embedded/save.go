package embedded

import (
	"errors"
	"time"

	"respmesh/resp/frame"
)

// Saver keeps the data on a disk: who owns the files gives it to the engine.
type Saver interface {
	// Save writes a snapshot and returns when it is safe. It is called without the engine's lock, so that it may call
	// Engine.Snapshot.
	Save() error
	// BackgroundSave begins to write a snapshot, BackgroundRewrite to write the append-only file anew: they return at
	// once, ErrSaving if that is under way already, and mustn't call the engine before they have returned.
	BackgroundSave() error
	BackgroundRewrite() error
	// LastSave is when the latest snapshot was complete.
	LastSave() time.Time
}

// ErrSaving is a Saver's answer when it is at work already.
var ErrSaving = errors.New("a snapshot or rewrite is under way already")

// saveCommands are there if a Saver is.
func saveCommands() []registration {
	return []registration{
		{"save", saveCommand, lockExclusive},
		{"bgsave", bgsaveCommand, lockExclusive},
		{"bgrewriteaof", bgrewriteCommand, lockExclusive},
		{"lastsave", func(x *call) { x.int(x.e.opts.Saver.LastSave().Unix()) }, lockShared},
	}
}

// saveCommand goes on without the lock.
func saveCommand(x *call) {
	saver := x.e.opts.Saver
	w := x.e.enqueue(x, kindNone, 0, nil)
	w.outside = func(dst []byte) []byte {
		switch err := saver.Save(); {
		case errors.Is(err, ErrSaving):
			return frame.AppendError(dst, "ERR Background save already in progress")
		case err != nil:
			return frame.AppendError(dst, "ERR "+oneLine(err.Error()))
		}
		return frame.AppendSimple(dst, "OK")
	}
	x.blocked = w
}

func bgsaveCommand(x *call) {
	if len(x.args) > 2 || len(x.args) == 2 && !is(x.args[1], "SCHEDULE") {
		x.syntax()
		return
	}
	switch err := x.e.opts.Saver.BackgroundSave(); {
	case errors.Is(err, ErrSaving) && len(x.args) == 2:
		x.simple("Background saving scheduled") // it is what is under way
	case errors.Is(err, ErrSaving):
		x.err("ERR Background save already in progress")
	case err != nil:
		x.errf("ERR %s", err)
	default:
		x.simple("Background saving started")
	}
}

func bgrewriteCommand(x *call) {
	switch err := x.e.opts.Saver.BackgroundRewrite(); {
	case errors.Is(err, ErrSaving):
		x.err("ERR Background append only file rewriting already in progress")
	case err != nil:
		x.errf("ERR %s", err)
	default:
		x.simple("Background append only file rewriting started")
	}
}

// runOutside is wait for a command that works without the lock.
func (c *Conn) runOutside(w *waiter, dst []byte) ([]byte, bool) {
	dst = w.outside(dst)
	c.e.lock()
	defer c.e.mu.Unlock()
	c.e.commands[w.spec.ID].calls.Add(1)
	if !w.served {
		c.e.dequeue(w)
	}
	return dst, true
}
