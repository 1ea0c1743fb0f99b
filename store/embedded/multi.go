package embedded

import (
	"slices"

	"respmesh/resp/command"
)

func multiCommands() []registration {
	return []registration{
		{"multi", multiCommand, lockShared},
		{"exec", execCommand, lockExclusive},
		{"discard", discardCommand, lockExclusive},
		{"watch", watchCommand, lockExclusive},
		{"unwatch", unwatchCommand, lockExclusive},
	}
}

// watch is one key that a session watches.
type watch struct {
	c       *Conn
	db      int
	key     string
	expired bool // the key was expired, not yet deleted, when the watch began
}

// immediate commands aren't queued by MULTI.
func immediate(spec *command.Spec) bool {
	switch spec.Name {
	case "exec", "discard", "multi", "watch", "quit", "reset":
		return true
	}
	return false
}

func multiCommand(x *call) {
	if x.c.multi {
		x.err("ERR MULTI calls can not be nested")
		return
	}
	x.c.multi = true
	x.ok()
}

// discard leaves the transaction without executing it.
func (c *Conn) discard() {
	c.multi, c.abort, c.queue, c.queueFlags = false, false, nil, 0
}

func discardCommand(x *call) {
	if !x.c.multi {
		x.err("ERR DISCARD without MULTI")
		return
	}
	x.c.discard()
	x.e.unwatch(x.c)
	x.ok()
}

func execCommand(x *call) {
	c := x.c
	if !c.multi {
		x.err("ERR EXEC without MULTI")
		return
	}
	queue, abort := c.queue, c.abort
	changed := c.dirty || x.watchedExpired()
	c.discard()
	x.e.unwatch(c)
	switch {
	case abort:
		x.err("EXECABORT Transaction discarded because of previous errors.")
		return
	case changed:
		x.nullArray()
		return
	}
	x.array(len(queue))
	x.multi = true
	for i := range queue {
		q := &queue[i]
		x.begin(q.spec, q.args, q.raw)
		if x.e.replica && !c.fromStream && q.spec.Is(command.FlagWrite) {
			x.err("READONLY You can't write against a read only replica.")
			continue
		}
		if q.spec.Is(command.FlagDenyOOM) && !c.fromStream && x.e.farOver() {
			x.err(errOOM)
			continue
		}
		x.e.invoke(x)
	}
	x.multi = false
	x.dirty, x.rewritten = 0, true
}

func watchCommand(x *call) {
	if x.c.multi {
		x.err("ERR WATCH inside MULTI is not allowed")
		return
	}
	for _, key := range x.args[1:] {
		x.e.watch(x, key)
	}
	x.ok()
}

func unwatchCommand(x *call) {
	x.e.unwatch(x.c)
	x.ok()
}

func (e *Engine) watch(x *call, key []byte) {
	for _, w := range x.c.watches {
		if w.db == x.dbIndex && w.key == string(key) {
			return
		}
	}
	ent := x.db.keys.find(key)
	w := &watch{c: x.c, db: x.dbIndex, key: string(key), expired: ent != nil && ent.val.vol != 0 && x.expired(ent)}
	x.c.watches = append(x.c.watches, w)
	e.watched[w.db][w.key] = append(e.watched[w.db][w.key], w)
}

func (e *Engine) unwatch(c *Conn) {
	for _, w := range c.watches {
		rest := slices.DeleteFunc(e.watched[w.db][w.key], func(o *watch) bool { return o == w })
		if len(rest) == 0 {
			delete(e.watched[w.db], w.key)
		} else {
			e.watched[w.db][w.key] = rest
		}
	}
	c.watches, c.dirty = nil, false
}

// watchedExpired tells whether a watched key has expired since.
func (x *call) watchedExpired() bool {
	for _, w := range x.c.watches {
		ks := x.e.dbs[w.db]
		ent := ks.keys.find(bytesOf(w.key))
		if !w.expired && ent != nil && ent.val.vol != 0 && ks.expireAt(&ent.val) < x.now {
			return true
		}
	}
	return false
}

// touched fails the transactions of those who watch the key.
func (e *Engine) touched(db int, key []byte) {
	if len(e.waiting[db]) > 0 {
		e.signalGone(db, key)
	}
	if e.tracking.sessions > 0 {
		e.invalidate(key)
	}
	if len(e.watched[db]) == 0 {
		return
	}
	for _, w := range e.watched[db][string(key)] {
		if w.expired && e.dbs[db].keys.find(key) == nil {
			w.expired = false // it was gone already: its deletion is no change
			continue
		}
		w.c.dirty = true
	}
}

// touchedAll is touched for all keys of a database that is replaced by another.
func (e *Engine) touchedAll(db int, before, after *keyspace) {
	now := e.now()
	for key, ws := range e.watched[db] {
		was, is, over := before.keys.find(bytesOf(key)), (*entry)(nil), false
		if after != nil {
			is = after.keys.find(bytesOf(key))
			over = is != nil && is.val.vol != 0 && after.expireAt(&is.val) < now
		}
		if was == nil && is == nil {
			continue
		}
		for _, w := range ws {
			switch { // what is expired counts as not there
			case w.expired && is == nil:
				w.expired = false
			case w.expired && over:
			case !w.expired && was == nil && over:
				w.expired = true
			default:
				w.c.dirty = true
			}
		}
	}
	for key, queue := range e.waiting[db] {
		if slices.ContainsFunc(queue, (*waiter).inGroup) {
			e.ready = append(e.ready, readyKey{db, key})
		}
	}
}
