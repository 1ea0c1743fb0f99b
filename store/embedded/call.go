package embedded

import (
	"respmesh/resp/command"
)

// handler executes one command. Adding a data type:
//
//  1. Write <type>.go with the value's type, which implements container, and one table
//     func <type>Commands() []registration, listed in commandTables (commands.go).
//  2. In a handler, look keys up by x.readKind / x.readZSet-like wrappers (nothing may be changed: readonly
//     commands run under a shared lock) or by x.writeKind (before any change of the value). Both have replied
//     WRONGTYPE when they return ok=false. A missing or expired key is nil.
//  3. Create by x.add(key, payload), remove by x.remove(key) (also when a container has become empty).
//  4. After a change: x.touch(key, o) once (WATCH, memory accounting) and x.dirty += number of changes. A
//     command with dirty > 0 is propagated as it was given; where a replica could come to another result,
//     call x.propagate with what it shall do instead (as often as there are effects).
//  5. Blocking: when there is nothing to take, `if !x.mayBlock() { reply nil; return }; x.block(kind, timeout, keys)`
//     and return without a reply. The command runs again from its start, under the write lock of
//     the session that made a key ready; x.blockingKeys(keys) then gives only that key. A key of the kind that
//     comes into being (x.add) wakes its waiters in the order in which they came. Propagate what
//     was done as the non-blocking command.
//
// Replies are appended to x.out. Arguments alias the caller's buffer: copy what is kept.
type handler func(x *call)

// call is one command under way.
type call struct {
	e    *Engine
	c    *Conn
	db   *keyspace
	spec *command.Spec
	args [][]byte
	raw  []byte // the command as a RESP array
	out  []byte

	hashed []byte // the key whose hash is known: see ahead
	hash   uint64
	seen   uint // see touch

	proto   int   // 2 or 3: the shape of replies
	now     int64 // unix ms, one for the whole command
	dbIndex int

	dirty      int  // changes; the command is propagated if > 0
	rewritten  bool // propagate was called: not the command as given
	multi      bool // runs inside EXEC
	fromStream bool // comes from the primary's replication stream

	retry   bool   // a blocked command that runs again because ready became ready
	ready   []byte // the key that became ready
	blocked *waiter

	hits, misses int64
	tick         int64 // when the clock was last read for timing commands
	failed       bool  // it has replied an error
	roomy        bool  // see refusedOOM
	tally        tally
	lapsed       bool // a read met an expired key
}

// --- looking up ---

// read returns the value of a key for a command that changes nothing: nil when missing or expired.
func (x *call) read(key []byte) *object {
	o := x.peek(key)
	if o == nil {
		x.notify(eventMiss, "keymiss", key)
		x.misses++
		return nil
	}
	x.hits++
	x.used(o)
	return o
}

// peek is read without counting a hit or an access.
func (x *call) peek(key []byte) *object {
	ent := x.find(key)
	if ent == nil {
		return nil
	}
	if ent.val.vol != 0 && x.expired(ent) {
		if (x.multi || x.spec.Is(command.FlagWrite)) && !x.e.replica {
			// What comes after must see it gone. And replicas, which believe the stream that all keys are alive, must come to the same result.
			x.e.expireKey(x.dbIndex, ent)
		} else {
			x.lapsed = true
		}
		return nil
	}
	return &ent.val
}

// expired: the stream of a primary knows best what exists, so for it nothing is expired.
func (x *call) expired(ent *entry) bool {
	return x.db.expireAt(&ent.val) < x.now && !x.fromStream
}

// write returns the value of a key that the command is going to change. An expired one is deleted first.
func (x *call) write(key []byte) *object {
	ent := x.find(key)
	if ent == nil {
		return nil
	}
	if ent.val.vol != 0 && x.expired(ent) {
		if x.e.replica {
			return nil
		}
		x.e.expireKey(x.dbIndex, ent)
		return nil
	}
	x.db.barrier(ent)
	x.used(&ent.val)
	return &ent.val
}

// readForWrite is write by a command that, for those who count and listen, reads the key.
func (x *call) readForWrite(key []byte) *object {
	o := x.write(key)
	if o == nil {
		x.notify(eventMiss, "keymiss", key)
		x.misses++
	} else {
		x.hits++
	}
	return o
}

// readKindForWrite is readForWrite for a value of one kind; otherwise it has replied WRONGTYPE and ok is false.
func (x *call) readKindForWrite(key []byte, k kind) (o *object, ok bool) {
	o = x.readForWrite(key)
	if o != nil && o.kind != k {
		x.wrongType()
		return nil, false
	}
	return o, true
}

// readKind is read for a value of one kind; otherwise it has replied WRONGTYPE and ok is false.
func (x *call) readKind(key []byte, k kind) (o *object, ok bool) {
	o = x.read(key)
	if o != nil && o.kind != k {
		x.wrongType()
		return nil, false
	}
	return o, true
}

// writeKind is write for a value of one kind; otherwise it has replied WRONGTYPE and ok is false.
func (x *call) writeKind(key []byte, k kind) (o *object, ok bool) {
	o = x.write(key)
	if o != nil && o.kind != k {
		x.wrongType()
		return nil, false
	}
	return o, true
}

// --- changing ---

// add stores a value under a key that doesn't exist (write returned nil) and wakes who waits for it.
func (x *call) add(key []byte, p payload) *object {
	o := x.db.add(key, p, x.e.fresh(x.now))
	x.e.touched(x.dbIndex, key)
	x.e.signalReady(x.dbIndex, key, p.kind)
	x.notify(eventNew, "new", key)
	return o
}

// replace stores a value under a key whether it exists or not. A TTL is dropped unless keepTTL.
func (x *call) replace(key []byte, p payload, keepTTL bool) *object {
	o := x.write(key)
	if o == nil {
		return x.add(key, p)
	}
	o.put(p)
	if !keepTTL && o.vol != 0 {
		x.db.clearExpire(o)
	}
	x.touch(key, o)
	x.e.signalReady(x.dbIndex, key, p.kind)
	return o
}

// remove deletes a key and tells whether it was there.
func (x *call) remove(key []byte) bool {
	if x.write(key) == nil {
		return false
	}
	x.db.remove(key)
	x.e.touched(x.dbIndex, key)
	return true
}

// touch says that the value under key has been changed: it fails the WATCHes of others and accounts the memory.
func (x *call) touch(key []byte, o *object) {
	x.db.account(o)
	x.e.touched(x.dbIndex, key)
}

// --- propagating ---

// propagate says what goes to replicas and logs instead of the command as given. Each call is one command, sent in
// order; several are wrapped in MULTI and EXEC.
func (x *call) propagate(args ...[]byte) {
	x.rewritten = true
	x.e.effects.add(x.dbIndex, args)
}

// --- blocking ---

// mayBlock tells whether a blocking command may wait here: not inside EXEC.
func (x *call) mayBlock() bool { return !x.multi && !x.fromStream }

// block makes the session wait until one of the keys holds a value of the kind, at most timeout ms (0: for ever). The
// time-out's reply is a null array. A command that runs again and calls block keeps its place.
func (x *call) block(k kind, timeout int64, keys ...[]byte) {
	if x.retry {
		x.blocked = x.c.waiting
		return
	}
	x.blocked = x.e.enqueue(x, k, timeout, keys)
}

// blockingKeys is the keys a blocking command looks at: all at first, the one that became ready afterwards.
func (x *call) blockingKeys(keys [][]byte) [][]byte {
	if x.retry {
		for i, k := range keys {
			if string(k) == string(x.ready) {
				return keys[i : i+1]
			}
		}
	}
	return keys
}
