package embedded

import (
	"bytes"
	"math"

	"respmesh/resp/frame"
)

func keysCommands() []registration {
	return []registration{
		{name: "del", handle: delCommand},
		{name: "unlink", handle: delCommand},
		{name: "exists", handle: existsCommand},
		{name: "touch", handle: touchCommand},
		{name: "type", handle: typeCommand},
		{name: "rename", handle: func(x *call) { renameGeneric(x, false) }},
		{name: "renamenx", handle: func(x *call) { renameGeneric(x, true) }},
		{name: "copy", handle: copyCommand},
		{name: "move", handle: moveCommand},
		{name: "swapdb", handle: swapdbCommand},
		{name: "flushdb", handle: func(x *call) { flushGeneric(x, x.dbIndex, x.dbIndex+1) }},
		{name: "flushall", handle: func(x *call) { flushGeneric(x, 0, len(x.e.dbs)) }},
		{name: "object|encoding", handle: objectEncoding},
		{name: "object|refcount", handle: objectRefcount},
		{name: "object|idletime", handle: objectIdletime},
		{name: "object|freq", handle: objectFreq},
		{name: "object|help", handle: objectHelp, lock: lockShared},
	}
}

// readQuietly is read without marking the key as used.
func (x *call) readQuietly(key []byte) *object {
	o := x.peek(key)
	if o == nil {
		x.notify(eventMiss, "keymiss", key)
		x.misses++
	} else {
		x.hits++
	}
	return o
}

func delCommand(x *call) {
	n := 0
	for _, key := range x.args[1:] {
		if x.remove(key) {
			x.notify(eventGeneric, "del", key)
			n++
		}
	}
	x.dirty += n
	x.int(int64(n))
}

func existsCommand(x *call) {
	n := 0
	for _, key := range x.args[1:] {
		if x.readQuietly(key) != nil {
			n++
		}
	}
	x.int(int64(n))
}

func touchCommand(x *call) {
	n := 0
	for _, key := range x.args[1:] {
		if x.read(key) != nil {
			n++
		}
	}
	x.int(int64(n))
}

func typeCommand(x *call) {
	if o := x.readQuietly(x.args[1]); o != nil {
		x.simple(o.kind.String())
		return
	}
	x.simple("none")
}

func renameGeneric(x *call, nx bool) {
	src, dst := x.args[1], x.args[2]
	o := x.write(src)
	if o == nil {
		x.err(errNoSuchKey)
		return
	}
	if bytes.Equal(src, dst) {
		if nx {
			x.int(0)
		} else {
			x.ok()
		}
		return
	}
	if x.write(dst) != nil {
		if nx {
			x.int(0)
			return
		}
		x.remove(dst)
	}
	p, at := o.payload(), x.db.expireAt(o)
	x.remove(src)
	x.addExpiring(dst, p, at)
	x.notify(eventGeneric, "rename_from", src)
	x.notify(eventGeneric, "rename_to", dst)
	x.dirty++
	if nx {
		x.int(1)
	} else {
		x.ok()
	}
}

// addExpiring is add with a TTL, 0 for none.
func (x *call) addExpiring(key []byte, p payload, at int64) {
	o := x.add(key, p)
	if at != 0 {
		x.db.setExpire(o, at)
	}
}

// use makes another database the call's.
func (x *call) use(db int) { x.dbIndex, x.db = db, x.e.dbs[db] }

// argDB reads a database's number.
func (x *call) argDB(b []byte) (int, bool) {
	n, ok := x.argInt32(b, errNotInt)
	return n, ok && x.inRange(n)
}

func (x *call) argInt32(b []byte, notInt string) (int, bool) {
	n, ok := frame.ParseInt(b)
	if !ok || n < math.MinInt32 || n > math.MaxInt32 {
		x.err(notInt)
		return 0, false
	}
	return int(n), true
}

func (x *call) inRange(db int) bool {
	if db < 0 || db >= len(x.e.dbs) {
		x.err("ERR DB index is out of range")
		return false
	}
	return true
}

const errSameObject = "ERR source and destination objects are the same"

func copyCommand(x *call) {
	from, to, replace := x.dbIndex, x.dbIndex, false
	for i := 3; i < len(x.args); i++ {
		switch {
		case is(x.args[i], "REPLACE"):
			replace = true
		case is(x.args[i], "DB") && i+1 < len(x.args):
			i++
			var ok bool
			if to, ok = x.argDB(x.args[i]); !ok {
				return
			}
		default:
			x.syntax()
			return
		}
	}
	src, dst := x.args[1], x.args[2]
	if from == to && bytes.Equal(src, dst) {
		x.err(errSameObject)
		return
	}
	o := x.readQuietly(src)
	if o == nil {
		x.int(0)
		return
	}
	at := x.db.expireAt(o)
	x.use(to)
	defer x.use(from)
	if x.write(dst) != nil {
		if !replace {
			x.int(0)
			return
		}
		x.remove(dst)
	}
	if !x.room(o.mem) {
		return
	}
	x.addExpiring(dst, o.clone(), at)
	x.notify(eventGeneric, "copy_to", dst)
	x.dirty++
	x.int(1)
}

func moveCommand(x *call) {
	from := x.dbIndex
	to, ok := x.argDB(x.args[2])
	if !ok {
		return
	}
	if from == to {
		x.err(errSameObject)
		return
	}
	key := x.args[1]
	o := x.write(key)
	if o == nil {
		x.int(0)
		return
	}
	p, at := o.payload(), x.db.expireAt(o)
	x.use(to)
	if x.write(key) != nil {
		x.use(from)
		x.int(0)
		return
	}
	x.addExpiring(key, p, at)
	x.use(from)
	x.remove(key)
	x.notify(eventGeneric, "move_from", key)
	x.use(to)
	x.notify(eventGeneric, "move_to", key)
	x.use(from)
	x.dirty++
	x.int(1)
}

func swapdbCommand(x *call) {
	a, ok := x.argInt32(x.args[1], "ERR invalid first DB index")
	if !ok {
		return
	}
	b, ok := x.argInt32(x.args[2], "ERR invalid second DB index")
	if !ok || !x.inRange(a) || !x.inRange(b) {
		return
	}
	x.dirty++
	x.ok()
	if a == b {
		return
	}
	e := x.e
	e.touchedAll(a, e.dbs[a], e.dbs[b])
	e.touchedAll(b, e.dbs[b], e.dbs[a])
	e.dbs[a], e.dbs[b] = e.dbs[b], e.dbs[a]
	for _, db := range []int{a, b} {
		for key := range e.waiting[db] {
			if ent := e.dbs[db].keys.find(bytesOf(key)); ent != nil {
				e.signalReady(db, bytesOf(key), ent.val.kind)
			}
		}
	}
}

// flushGeneric empties databases by putting new ones in their place.
func flushGeneric(x *call, from, to int) {
	if len(x.args) > 2 || len(x.args) == 2 && !is(x.args[1], "ASYNC") && !is(x.args[1], "SYNC") {
		x.syntax()
		return
	}
	x.e.invalidateAll()
	for i := from; i < to; i++ {
		x.e.touchedAll(i, x.e.dbs[i], nil)
		x.e.dbs[i] = newKeyspace(x.e.opts.HashSeed)
	}
	x.dirty++ // also when there was nothing: replicas may have more
	x.ok()
}

// --- OBJECT ---

func objectEncoding(x *call) {
	if o := x.peek(x.args[2]); o != nil {
		x.bulkString(o.encoding())
		return
	}
	x.null()
}

func objectRefcount(x *call) {
	o := x.peek(x.args[2])
	switch {
	case o == nil:
		x.null()
	case o.kind == kindString && o.enc == encInt && o.num >= 0 && o.num < 10000:
		x.int(math.MaxInt32) // Redis shares these
	default:
		x.int(1)
	}
}

func objectIdletime(x *call) {
	o := x.peek(x.args[2])
	if o == nil {
		x.null()
		return
	}
	if x.e.limit.policy.lfu() {
		x.err("ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when " +
			"switching between policies at runtime LRU and LFU data will take some time to adjust.")
		return
	}
	x.int(o.idle(x.now) / 1000)
}

func objectFreq(x *call) {
	o := x.peek(x.args[2])
	if o == nil {
		x.null()
		return
	}
	if x.e.limit.policy.lfu() {
		x.int(int64(o.frequency(x.now, x.e.limit.lfuDecay)))
		return
	}
	x.err("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when " +
		"switching between policies at runtime LRU and LFU data will take some time to adjust.")
}

func objectHelp(x *call) {
	x.help(
		"OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
		"ENCODING <key>",
		"    Return the kind of internal representation used in order to store the value",
		"    associated with a <key>.",
		"FREQ <key>",
		"    Return the access frequency index of the <key>. The returned integer is",
		"    proportional to the logarithm of the recent access frequency of the key.",
		"IDLETIME <key>",
		"    Return the idle time of the <key>, that is the approximated number of",
		"    seconds elapsed since the last access to the key.",
		"REFCOUNT <key>",
		"    Return the number of references of the value associated with the specified",
		"    <key>.",
		"HELP",
		"    Prints this help.",
	)
}

// help replies lines as simple strings.
func (x *call) help(lines ...string) {
	x.array(len(lines))
	for _, l := range lines {
		x.simple(l)
	}
}
