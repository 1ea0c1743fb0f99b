package embedded

import (
	"bytes"
	"math"
	"strings"
)

func xackCommand(x *call) {
	o, s, ok := x.readStreamForWrite(x.args[1])
	if !ok {
		return
	}
	var g *streamGroup
	if s != nil {
		g = s.group(x.args[2])
	}
	if g == nil {
		x.int(0)
		return
	}
	ids, ok := x.argIDs(x.args[3:])
	if !ok {
		return
	}
	done := 0
	for _, id := range ids {
		if n := g.pel.find(id); n != nil {
			s.acknowledge(g, id, n)
			done++
		}
	}
	x.db.account(o)
	x.dirty += done
	x.int(int64(done))
}

// pendingQuery is a parsed XPENDING with a range.
type pendingQuery struct {
	idle     int64
	from, to streamID
	count    int64
	consumer []byte
}

func (x *call) pendingQuery() (q pendingQuery, ok bool) {
	args := x.args[3:]
	if is(args[0], "IDLE") {
		if q.idle, ok = x.argInt(args[1]); !ok {
			return q, false
		}
		if len(x.args) < 8 {
			x.syntax()
			return q, false
		}
		args = args[2:]
	}
	if q.count, ok = x.argInt(args[2]); !ok {
		return q, false
	}
	if q.from, ok = x.argStart(args[0]); !ok {
		return q, false
	}
	if q.to, ok = x.argEnd(args[1]); !ok {
		return q, false
	}
	if len(args) > 3 {
		q.consumer = args[3]
	}
	return q, true
}

func xpendingCommand(x *call) {
	summary := len(x.args) == 3
	if !summary && (len(x.args) < 6 || len(x.args) > 9) {
		x.syntax()
		return
	}
	var q pendingQuery
	if !summary {
		var ok bool
		if q, ok = x.pendingQuery(); !ok {
			return
		}
	}
	s, ok := x.readStream(x.args[1])
	if !ok {
		return
	}
	var g *streamGroup
	if s != nil {
		g = s.group(x.args[2])
	}
	switch {
	case g == nil:
		x.errf("NOGROUP No such key '%s' or consumer group '%s'", cText(x.args[1]), cText(x.args[2]))
	case summary:
		x.pendingSummary(g)
	default:
		x.pendingRange(g, &q)
	}
}

func (x *call) pendingSummary(g *streamGroup) {
	x.array(4)
	x.int(int64(g.pel.n))
	first, ok := g.pel.from(streamID{})
	if !ok {
		x.null()
		x.null()
		x.nullArray()
		return
	}
	x.streamID(first.id)
	x.streamID(g.pel.last().id)
	mark, n := len(x.out), 0
	for _, c := range g.consumers {
		if c.pel.n > 0 {
			x.array(2)
			x.bulkString(c.name)
			x.bulk(intArg(c.pel.n))
			n++
		}
	}
	x.arrayAt(mark, n)
}

func (x *call) pendingRange(g *streamGroup, q *pendingQuery) {
	pel := &g.pel
	if q.consumer != nil {
		c := g.consumer(q.consumer)
		if c == nil {
			x.array(0)
			return
		}
		pel = &c.pel
	}
	mark, n := len(x.out), 0
	for it, ok := pel.from(q.from); ok && int64(n) < q.count && !q.to.before(it.id); it, ok = pel.after(it.id) {
		idle := x.now - it.delivered
		if q.idle != 0 && idle < q.idle {
			continue
		}
		n++
		x.array(4)
		x.streamID(it.id)
		x.bulkString(it.consumer.name)
		x.int(max(idle, 0))
		x.int(it.count)
	}
	x.arrayAt(mark, n)
}

// --- claiming ---

// claim is what XCLAIM and XAUTOCLAIM share.
type claim struct {
	x        *call
	key      []byte
	s        *streamValue
	g        *streamGroup
	name     []byte
	consumer *streamConsumer // nil until something is claimed
	minIdle  int64
	justID   bool
	at       int64 // the delivery time that claimed entries get
	retries  int64 // their count, -1 as it comes
	told     bool  // the group's position has been propagated
	n        int   // entries replied
}

// gone forgets a pending entry that isn't in the stream any more. text is the id as it was given.
func (c *claim) gone(id streamID, text []byte, n *nack) {
	c.x.propagateClaim(c.key, c.g, text, n)
	c.told = true
	c.x.dirty++
	c.s.acknowledge(c.g, id, n)
}

// take gives an entry to the consumer and replies it.
func (c *claim) take(e *streamEntry, text []byte, n *nack) {
	x := c.x
	if c.consumer == nil {
		var created bool
		if c.consumer, created = c.s.addConsumer(c.g, c.name, x.now); created {
			x.notify(eventStream, "xgroup-createconsumer", x.args[1])
			x.dirty++
		}
		c.consumer.seen = x.now
	}
	n.give(e.id, c.consumer)
	n.delivered = c.at
	if c.retries >= 0 {
		n.count = c.retries
	} else if !c.justID {
		n.count++
	}
	if c.justID {
		x.streamID(e.id)
	} else {
		x.streamEntry(e)
	}
	c.n++
	x.propagateClaim(c.key, c.g, text, n)
	c.told = true
	x.dirty++
}

// argMinIdle reads the time an entry must have been pending.
func (x *call) argMinIdle(b []byte) (ms int64, ok bool) {
	ms, ok = x.argRange(b, math.MinInt64, math.MaxInt64, "ERR Invalid min-idle-time argument for "+strings.ToUpper(x.spec.Name))
	return max(ms, 0), ok
}

func (x *call) noGroup() {
	x.errf("NOGROUP No such key '%s' or consumer group '%s'", cText(x.args[1]), cText(x.args[2]))
}

func xclaimCommand(x *call) {
	o, s, ok := x.readStreamForWrite(x.args[1])
	if !ok {
		return
	}
	c := claim{x: x, key: x.args[1], s: s, name: x.args[3], at: -1, retries: -1}
	if s != nil {
		c.g = s.group(x.args[2])
	}
	if c.g == nil {
		x.noGroup()
		return
	}
	if c.minIdle, ok = x.argMinIdle(x.args[4]); !ok {
		return
	}
	var ids []streamID
	rest := x.args[5:]
	for ; len(rest) > 0; rest = rest[1:] {
		id, _, ok := idForm{}.parse(rest[0])
		if !ok {
			break
		}
		ids = append(ids, id)
	}
	force, lastID, ok := c.options(rest)
	if !ok {
		return
	}
	x.rewritten = true
	moved := c.g.last.before(lastID)
	if moved {
		c.g.last = lastID
	}
	if c.at < 0 || c.at > x.now {
		c.at = x.now
	}
	mark := len(x.out)
	for i, id := range ids {
		c.one(id, x.args[5+i], force)
	}
	if moved && !c.told {
		x.propagateGroupID(c.key, c.g)
		x.dirty++
	}
	x.arrayAt(mark, c.n)
	x.db.account(o)
}

// one claims one entry, if it is there and has been pending for long enough.
func (c *claim) one(id streamID, text []byte, force bool) {
	n := c.g.pel.find(id)
	e, ok := c.s.find(id)
	if !ok {
		if n != nil {
			c.gone(id, text, n)
		}
		return
	}
	switch {
	case n == nil && !force:
		return
	case n == nil:
		n = &nack{delivered: c.x.now, count: 1}
		c.g.pel.insert(id, n)
		c.s.pending++
	case c.minIdle > 0 && c.x.now-n.delivered < c.minIdle:
		return
	}
	c.take(&e, text, n)
}

// options reads what follows the ids of XCLAIM.
func (c *claim) options(args [][]byte) (force bool, lastID streamID, ok bool) {
	x := c.x
	number := func(name string) (n int64, ok bool) {
		return x.argRange(args[1], math.MinInt64, math.MaxInt64, "ERR Invalid "+name+" option argument for XCLAIM")
	}
	for ; len(args) > 0; args = args[1:] {
		more := len(args) > 1
		switch a := args[0]; {
		case is(a, "FORCE"):
			force = true
			continue
		case is(a, "JUSTID"):
			c.justID = true
			continue
		case is(a, "IDLE") && more:
			if c.at, ok = number("IDLE"); !ok {
				return false, lastID, false
			}
			c.at = x.now - c.at
		case is(a, "TIME") && more:
			if c.at, ok = number("TIME"); !ok {
				return false, lastID, false
			}
		case is(a, "RETRYCOUNT") && more:
			if c.retries, ok = number("RETRYCOUNT"); !ok {
				return false, lastID, false
			}
		case is(a, "LASTID") && more:
			if lastID, ok = x.argID(args[1]); !ok {
				return false, lastID, false
			}
		default:
			x.errf("ERR Unrecognized XCLAIM option '%s'", cText(a))
			return false, lastID, false
		}
		args = args[1:]
	}
	return force, lastID, true
}

// claimScan is how many pending entries XAUTOCLAIM looks at for each it may claim.
const claimScan = 10

func xautoclaimCommand(x *call) {
	c := claim{x: x, key: x.args[1], name: x.args[3], at: x.now, retries: -1}
	o := x.readForWrite(c.key)
	var ok bool
	if c.minIdle, ok = x.argMinIdle(x.args[4]); !ok {
		return
	}
	from, ok := x.argStart(x.args[5])
	if !ok {
		return
	}
	count := int64(100)
	for rest := x.args[6:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case is(rest[0], "COUNT") && len(rest) > 1:
			if count, ok = x.argRange(rest[1], 1, math.MaxInt64/16, "ERR COUNT must be > 0"); !ok {
				return
			}
			rest = rest[1:]
		case is(rest[0], "JUSTID"):
			c.justID = true
		default:
			x.syntax()
			return
		}
	}
	var s *streamValue
	if o != nil {
		if o.kind != kindStream {
			x.wrongType()
			return
		}
		s = o.stream()
		c.s, c.g = s, s.group(x.args[2])
	}
	if c.g == nil {
		x.noGroup()
		return
	}
	x.rewritten = true
	mark := len(x.out)
	var gone []streamID
	it, more := c.g.pel.from(from)
	for attempts := count * claimScan; more && attempts > 0 && count > 0; attempts-- {
		id, n := it.id, it.nack
		if e, ok := s.find(id); !ok {
			c.gone(id, idArg(id), n)
			gone = append(gone, id)
			count--
		} else if x.now-n.delivered >= c.minIdle || c.minIdle == 0 {
			c.take(&e, idArg(id), n)
			count--
		}
		it, more = c.g.pel.after(id)
	}
	x.arrayAt(mark, c.n)
	if !more {
		it.id = streamID{}
	}
	head := len(x.out)
	x.array(3)
	x.streamID(it.id)
	moveToFront(x.out[mark:], head-mark)
	x.array(len(gone))
	for _, id := range gone {
		x.streamID(id)
	}
	x.db.account(o)
}

// moveToFront puts b[at:] before b[:at].
func moveToFront(b []byte, at int) {
	tail := bytes.Clone(b[at:])
	copy(b[len(tail):], b[:at])
	copy(b, tail)
}
