package embedded

import (
	"slices"

	"respmesh/resp/frame"
)

// streamRead is a parsed XREAD or XREADGROUP.
type streamRead struct {
	grouped         bool // XREADGROUP
	group, consumer []byte
	noAck           bool
	count           int64
	block           int64 // ms, -1 without BLOCK
	keys, ids       [][]byte
}

// blockedCount is how many entries someone gets at most who waited without COUNT.
const blockedCount = 1000

func (x *call) readOptions(grouped bool) (r streamRead, ok bool) {
	r.grouped, r.block = grouped, -1
	for i := 1; i < len(x.args); i++ {
		more := len(x.args) - 1 - i
		switch a := x.args[i]; {
		case is(a, "BLOCK") && more > 0:
			i++
			if r.block, ok = x.argTimeoutMS(x.args[i]); !ok {
				return r, false
			}
		case is(a, "COUNT") && more > 0:
			i++
			if r.count, ok = x.argInt(x.args[i]); !ok {
				return r, false
			}
			r.count = max(r.count, 0)
		case is(a, "STREAMS") && more > 0:
			if more%2 != 0 {
				x.err("ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.")
				return r, false
			}
			r.keys, r.ids = x.args[i+1:i+1+more/2], x.args[i+1+more/2:]
			i = len(x.args)
		case is(a, "GROUP") && more >= 2:
			if !grouped {
				x.err("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
				return r, false
			}
			r.group, r.consumer = x.args[i+1], x.args[i+2]
			i += 2
		case is(a, "NOACK"):
			if !grouped {
				x.err("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
				return r, false
			}
			r.noAck = true
		default:
			x.syntax()
			return r, false
		}
	}
	switch {
	case r.keys == nil:
		x.syntax()
		return r, false
	case grouped && r.group == nil:
		x.err("ERR Missing GROUP option for XREADGROUP")
		return r, false
	}
	return r, true
}

// argTimeoutMS reads a time-out in ms.
func (x *call) argTimeoutMS(b []byte) (ms int64, ok bool) {
	ms, ok = frame.ParseInt(b)
	switch {
	case !ok:
		x.err("ERR timeout is not an integer or out of range")
	case ms < 0:
		x.err("ERR timeout is negative")
	default:
		return ms, true
	}
	return 0, false
}

func xreadGeneric(x *call, grouped bool) {
	x.rewritten = grouped // what it did is propagated by other commands
	r, ok := x.readOptions(grouped)
	if !ok {
		return
	}
	if x.retry {
		x.readReady(&r)
		return
	}
	after := make([]streamID, len(r.keys)) // streamMax: what is new to the group
	for i, key := range r.keys {
		if after[i], ok = x.readFrom(&r, key, r.ids[i]); !ok {
			return
		}
	}
	mark, n := len(x.out), 0
	for i, key := range r.keys {
		o := x.peek(key)
		if grouped {
			o = x.write(key)
		}
		if o == nil {
			x.notify(eventMiss, "keymiss", key)
			continue
		}
		s := o.stream()
		var g *streamGroup
		history := false
		if grouped {
			g = s.group(r.group)
			if history = after[i] != streamMax; !history {
				after[i] = g.last
			}
		}
		if !history && (s.length == 0 || !after[i].before(s.lastID())) {
			continue
		}
		n++
		x.readFromStream(&r, key, o, g, after[i], history)
	}
	switch {
	case n > 0:
		x.readHeader(mark, n)
	case r.block < 0 || !x.mayBlock():
		x.nullArray()
	default:
		// What "$" means is settled now.
		args := slices.Clone(x.args)
		for i := range r.ids {
			if string(r.ids[i]) == "$" {
				args[len(args)-len(r.ids)+i] = idArg(after[i])
			}
		}
		x.args = args
		x.block(kindStream, r.block, r.keys...)
	}
}

// readFrom resolves the id after which a stream is to be read.
func (x *call) readFrom(r *streamRead, key, id []byte) (after streamID, ok bool) {
	s, ok := x.readStream(key)
	if !ok {
		return after, false
	}
	if r.grouped && (s == nil || s.group(r.group) == nil) {
		x.errf("NOGROUP No such key '%s' or consumer group '%s' in XREADGROUP with GROUP option", cText(key), cText(r.group))
		return after, false
	}
	switch string(id) {
	case "$":
		if r.grouped {
			x.err("ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer " +
				"by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.")
			return after, false
		}
		if s != nil {
			after = s.last
		}
		return after, true
	case ">":
		if !r.grouped {
			x.err("ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")
			return after, false
		}
		return streamMax, true
	}
	return x.argID(id)
}

// readHeader puts the header of n streams before their replies.
func (x *call) readHeader(mark, n int) {
	if x.proto < 3 {
		x.arrayAt(mark, n)
	} else {
		x.insert(mark, frame.AppendMap(nil, n, x.proto))
	}
}

// readReady serves a session that waited, now that something has happened to a stream.
func (x *call) readReady(r *streamRead) {
	key := x.blockingKeys(r.keys)[0]
	o := x.write(key)
	if o == nil { // it has expired just now
		x.block(kindStream, r.block, r.keys...)
		return
	}
	s := o.stream()
	var g *streamGroup
	var after streamID
	if r.grouped {
		if g = s.group(r.group); g == nil {
			x.err("NOGROUP the consumer group this client was blocked on no longer exists")
			return
		}
		after = g.last
	} else {
		i := slices.IndexFunc(r.keys, func(k []byte) bool { return string(k) == string(key) })
		after, _, _ = idForm{}.parse(r.ids[i])
	}
	if !after.before(s.last) {
		x.block(kindStream, r.block, r.keys...)
		return
	}
	if r.count == 0 {
		r.count = blockedCount
	}
	mark := len(x.out)
	x.readFromStream(r, key, o, g, after, false)
	x.readHeader(mark, 1)
}

// readFromStream replies one stream's part.
func (x *call) readFromStream(r *streamRead, key []byte, o *object, g *streamGroup, after streamID, history bool) {
	s := o.stream()
	from, _ := after.next()
	if x.proto < 3 {
		x.array(2)
	}
	x.bulk(key)
	if g == nil {
		x.streamRange(s, from, streamMax, r.count, false)
		return
	}
	c, created := s.addConsumer(g, r.consumer, x.now)
	c.seen = x.now
	if created {
		x.notify(eventStream, "xgroup-createconsumer", key)
	}
	if created && r.noAck {
		x.propagate([]byte("XGROUP"), []byte("CREATECONSUMER"), key, r.group, r.consumer)
	}
	if history {
		x.readHistory(s, c, from, r.count)
	} else {
		x.readNew(r, key, s, g, c, from)
	}
	x.db.account(o)
	x.dirty++
}

// readHistory replies entries that are pending for the consumer already.
func (x *call) readHistory(s *streamValue, c *streamConsumer, from streamID, count int64) {
	mark, n := len(x.out), 0
	for it, ok := c.pel.from(from); ok && (count == 0 || int64(n) < count); it, ok = c.pel.after(it.id) {
		if e, ok := s.find(it.id); ok {
			x.streamEntry(&e)
			it.delivered = x.now
			it.count++
		} else {
			x.array(2)
			x.streamID(it.id)
			x.nullArray()
		}
		n++
	}
	x.arrayAt(mark, n)
}

// readNew replies entries that the group hasn't read, and makes them pending.
func (x *call) readNew(r *streamRead, key []byte, s *streamValue, g *streamGroup, c *streamConsumer, from streamID) {
	mark, n := len(x.out), 0
	moved := false
	s.walk(from, streamMax, false, false, func(e *streamEntry) bool {
		if g.last.before(e.id) {
			if g.read != readUnknown && !s.hasTombstones(e.id) {
				g.read++
			} else if s.added > 0 {
				g.read = s.readUpTo(e.id)
			}
			g.last = e.id
			moved = true
		}
		x.streamEntry(e)
		if !r.noAck {
			x.propagateClaim(key, g, idArg(e.id), s.deliver(g, c, e.id, x.now))
		}
		n++
		return int64(n) != r.count
	})
	if moved && r.noAck {
		x.propagateGroupID(key, g)
	}
	x.arrayAt(mark, n)
}

// propagateClaim makes replicas give a pending entry the owner, time and count that it has here.
func (x *call) propagateClaim(key []byte, g *streamGroup, id []byte, n *nack) {
	word := func(s string) []byte { return []byte(s) }
	x.propagate(word("XCLAIM"), key, word(g.name), word(n.consumer.name), word("0"), id,
		word("TIME"), intArg(int(n.delivered)), word("RETRYCOUNT"), intArg(int(n.count)),
		word("FORCE"), word("JUSTID"), word("LASTID"), idArg(g.last))
}

// propagateGroupID makes replicas move the group to where it is here.
func (x *call) propagateGroupID(key []byte, g *streamGroup) {
	x.propagate([]byte("XGROUP"), []byte("SETID"), key, []byte(g.name), idArg(g.last),
		[]byte("ENTRIESREAD"), intArg(int(g.read)))
}
