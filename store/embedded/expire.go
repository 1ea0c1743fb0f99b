package embedded

import (
	"math"
	"strconv"
	"time"
)

func expireCommands() []registration {
	return []registration{
		{name: "expire", handle: func(x *call) { expireGeneric(x, x.now, 1000) }},
		{name: "pexpire", handle: func(x *call) { expireGeneric(x, x.now, 1) }},
		{name: "expireat", handle: func(x *call) { expireGeneric(x, 0, 1000) }},
		{name: "pexpireat", handle: func(x *call) { expireGeneric(x, 0, 1) }},
		{name: "ttl", handle: func(x *call) { ttlGeneric(x, x.now, 1000) }},
		{name: "pttl", handle: func(x *call) { ttlGeneric(x, x.now, 1) }},
		{name: "expiretime", handle: func(x *call) { ttlGeneric(x, 0, 1000) }},
		{name: "pexpiretime", handle: func(x *call) { ttlGeneric(x, 0, 1) }},
		{name: "persist", handle: persistCommand},
	}
}

// --- deleting what is over ---

const (
	// housekeeping comes more often while more than a share of the keys is found to be over: one in deadShare.
	housekeepingEvery   = 50 * time.Millisecond
	housekeepingSoonest = 2 * time.Millisecond
	deadShare           = 20
	// expireSlice is when background work lets go of the lock, so that no stay is longer than a millisecond.
	expireSlice = 500 * time.Microsecond
)

// housekeeping deletes expired keys and goes on with the resizing of idle tables, in slices short enough not to be felt.
func (e *Engine) housekeeping() {
	every := housekeepingEvery
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-e.closed:
			return
		case <-timer.C:
		}
		before := e.stats.expired.Load()
		for more := true; more; {
			select {
			case <-e.closed:
				return
			default:
			}
			more = e.housekeep()
		}
		if e.manyExpired(e.stats.expired.Load() - before) {
			every = max(every/2, housekeepingSoonest)
		} else {
			every = min(every*2, housekeepingEvery)
		}
		timer.Reset(every)
	}
}

// manyExpired tells whether n keys that were over are more than a small share of all.
func (e *Engine) manyExpired(n int64) bool {
	if n == 0 {
		return false
	}
	e.rlock()
	defer e.mu.RUnlock()
	keys := n
	for _, ks := range e.dbs {
		keys += int64(ks.len())
	}
	return n*deadShare > keys
}

// housekeep does a slice of the background work and tells whether there is more.
func (e *Engine) housekeep() (more bool) {
	now := e.now()
	if e.paused.Load() || !e.needsHousekeeping(now) {
		return false
	}
	e.lock()
	defer e.unlock()
	if !e.replica && e.expireDue(now, expireSlice) || e.evictBeyond(expireSlice) {
		return true
	}
	for _, ks := range e.dbs {
		ks.keys.shrink()
		for start := time.Now(); ks.keys.step(64); {
			if time.Since(start) > expireSlice {
				return true
			}
		}
	}
	return false
}

func (e *Engine) needsHousekeeping(now int64) bool {
	e.rlock()
	defer e.mu.RUnlock()
	used := e.memoryLocked()
	if used > e.stats.peak.Load() {
		e.stats.peak.Store(used)
	}
	if !e.replica && e.limit.max > 0 && e.limit.policy != NoEviction && used > e.limit.max {
		return true
	}
	for _, ks := range e.dbs {
		if ks.keys.resizing() || ks.keys.sparse() || !e.replica && ks.volatile.due(now) {
			return true
		}
	}
	return false
}

// expireDue deletes keys whose time is over, those most overdue first, and tells whether the slice ended before
// it was done. Needs the write lock, between commands.
func (e *Engine) expireDue(now int64, slice time.Duration) (more bool) {
	if e.paused.Load() {
		return false
	}
	start, n := time.Now(), 0
	for i, ks := range e.dbs {
		for ks.volatile.due(now) {
			e.expireKey(i, ks.volatile.at(1).ent)
			e.effects.end()
			// A snapshot under way has each key written first, whatever its size.
			if n++; (n%16 == 0 || e.walks.Load() > 0) && time.Since(start) > slice {
				return true
			}
		}
	}
	return false
}

func (e *Engine) expireKey(db int, ent *entry) {
	e.stats.expired.Add(1)
	e.drop(db, ent, "expired")
}

// drop deletes a key on the engine's own account; replicas are told, and who listens to events.
func (e *Engine) drop(db int, ent *entry, event string) {
	k := bytesOf(ent.key)
	e.dbs[db].remove(k)
	e.touched(db, k)
	e.effects.add(db, [][]byte{[]byte("DEL"), k})
	class := eventExpired
	if event == "evicted" {
		class = eventEvicted
	}
	e.notify(class, db, event, k)
}

// --- commands ---

// expireFlags are NX, XX, GT and LT.
type expireFlags struct{ nx, xx, gt, lt bool }

func (x *call) expireFlags(args [][]byte) (f expireFlags, ok bool) {
	for _, a := range args {
		switch {
		case is(a, "NX"):
			f.nx = true
		case is(a, "XX"):
			f.xx = true
		case is(a, "GT"):
			f.gt = true
		case is(a, "LT"):
			f.lt = true
		default:
			x.errf("ERR Unsupported option %s", a)
			return f, false
		}
	}
	switch {
	case f.nx && (f.xx || f.gt || f.lt):
		x.err("ERR NX and XX, GT or LT options at the same time are not compatible")
		return f, false
	case f.gt && f.lt:
		x.err("ERR GT and LT options at the same time are not compatible")
		return f, false
	}
	return f, true
}

// allows tells whether the flags let a key that now ends at old (0: never) end at when.
func (f expireFlags) allows(old, when int64) bool {
	switch {
	case f.nx && old != 0, f.xx && old == 0:
		return false
	case f.gt && (old == 0 || when <= old):
		return false
	case f.lt && old != 0 && when >= old:
		return false
	}
	return true
}

func (x *call) expireTimeError() {
	x.errf("ERR invalid expire time in '%s' command", x.spec.Name)
}

func expireGeneric(x *call, base, unit int64) {
	flags, ok := x.expireFlags(x.args[3:])
	if !ok {
		return
	}
	when, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	if when > math.MaxInt64/unit || when < math.MinInt64/unit || when*unit > math.MaxInt64-base {
		x.expireTimeError()
		return
	}
	when = when*unit + base
	key := x.args[1]
	o := x.write(key)
	if o == nil || !flags.allows(x.db.expireAt(o), when) {
		x.int(0)
		return
	}
	x.dirty++
	if when <= x.now && !x.fromStream {
		x.remove(key)
		x.propagate([]byte("DEL"), key)
		x.notify(eventGeneric, "del", key)
		x.int(1)
		return
	}
	x.db.setExpire(o, when)
	x.touch(key, o)
	x.notify(eventGeneric, "expire", key)
	args := append([][]byte{[]byte("PEXPIREAT"), key, strconv.AppendInt(nil, when, 10)}, x.args[3:]...)
	x.propagate(args...)
	x.int(1)
}

func ttlGeneric(x *call, base, unit int64) {
	o := x.readQuietly(x.args[1])
	if o == nil {
		x.int(-2)
		return
	}
	at := x.db.expireAt(o)
	if at == 0 {
		x.int(-1)
		return
	}
	left := at
	if base != 0 {
		left = max(at-base, 0)
	}
	if unit == 1000 {
		left = left/1000 + (left%1000+500)/1000 // rounded, without overflow
	}
	x.int(left)
}

func persistCommand(x *call) {
	o := x.write(x.args[1])
	if o == nil || o.vol == 0 {
		x.int(0)
		return
	}
	x.db.clearExpire(o)
	x.touch(x.args[1], o)
	x.notify(eventGeneric, "persist", x.args[1])
	x.dirty++
	x.int(1)
}
