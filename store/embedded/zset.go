package embedded

import (
	"math"
	"strconv"

	"respmesh/resp/frame"
)

func zsetCommands() []registration {
	ranges := func(kind zrangeKind, reverse bool) handler {
		return func(x *call) { zrangeGeneric(x, zrangeForm{kind: kind, reverse: reverse, legacy: true}) }
	}
	return []registration{
		{name: "zadd", handle: func(x *call) { zaddGeneric(x, zaddFlags{}) }},
		{name: "zincrby", handle: func(x *call) { zaddGeneric(x, zaddFlags{incr: true}) }},
		{name: "zrem", handle: zremCommand},
		{name: "zcard", handle: zcardCommand},
		{name: "zscore", handle: zscoreCommand},
		{name: "zmscore", handle: zmscoreCommand},
		{name: "zrank", handle: func(x *call) { zrankGeneric(x, false) }},
		{name: "zrevrank", handle: func(x *call) { zrankGeneric(x, true) }},
		{name: "zcount", handle: func(x *call) { zcountGeneric(x, zrangeByScore) }},
		{name: "zlexcount", handle: func(x *call) { zcountGeneric(x, zrangeByLex) }},
		{name: "zrange", handle: func(x *call) { zrangeGeneric(x, zrangeForm{}) }},
		{name: "zrangestore", handle: func(x *call) { zrangeGeneric(x, zrangeForm{store: true}) }},
		{name: "zrevrange", handle: ranges(zrangeByRank, true)},
		{name: "zrangebyscore", handle: ranges(zrangeByScore, false)},
		{name: "zrevrangebyscore", handle: ranges(zrangeByScore, true)},
		{name: "zrangebylex", handle: ranges(zrangeByLex, false)},
		{name: "zrevrangebylex", handle: ranges(zrangeByLex, true)},
		{name: "zremrangebyrank", handle: func(x *call) { zremrangeGeneric(x, zrangeByRank) }},
		{name: "zremrangebyscore", handle: func(x *call) { zremrangeGeneric(x, zrangeByScore) }},
		{name: "zremrangebylex", handle: func(x *call) { zremrangeGeneric(x, zrangeByLex) }},
		{name: "zunion", handle: func(x *call) { zsetOperation(x, setUnion, false) }},
		{name: "zinter", handle: func(x *call) { zsetOperation(x, setIntersection, false) }},
		{name: "zdiff", handle: func(x *call) { zsetOperation(x, setDifference, false) }},
		{name: "zunionstore", handle: func(x *call) { zsetOperation(x, setUnion, true) }},
		{name: "zinterstore", handle: func(x *call) { zsetOperation(x, setIntersection, true) }},
		{name: "zdiffstore", handle: func(x *call) { zsetOperation(x, setDifference, true) }},
		{name: "zintercard", handle: zintercardCommand},
		{name: "zpopmin", handle: func(x *call) { zpopGeneric(x, false) }},
		{name: "zpopmax", handle: func(x *call) { zpopGeneric(x, true) }},
		{name: "bzpopmin", handle: func(x *call) { bzpopGeneric(x, false) }},
		{name: "bzpopmax", handle: func(x *call) { bzpopGeneric(x, true) }},
		{name: "zmpop", handle: func(x *call) { zmpopGeneric(x, false) }},
		{name: "bzmpop", handle: func(x *call) { zmpopGeneric(x, true) }},
		{name: "zrandmember", handle: zrandmemberCommand},
		{name: "zscan", handle: zscanCommand},
	}
}

func (x *call) readZSet(key []byte) (z *zset, ok bool) {
	o, ok := x.readKind(key, kindZSet)
	if o == nil {
		return nil, ok
	}
	return o.zset(), true
}

type zaddFlags struct{ nx, xx, gt, lt, ch, incr bool }

// set parses one option and tells whether it was one.
func (f *zaddFlags) set(arg []byte) bool {
	switch {
	case is(arg, "NX"):
		f.nx = true
	case is(arg, "XX"):
		f.xx = true
	case is(arg, "GT"):
		f.gt = true
	case is(arg, "LT"):
		f.lt = true
	case is(arg, "CH"):
		f.ch = true
	case is(arg, "INCR"):
		f.incr = true
	default:
		return false
	}
	return true
}

func zaddGeneric(x *call, f zaddFlags) {
	pairs := x.args[2:]
	for len(pairs) > 0 && f.set(pairs[0]) {
		pairs = pairs[1:]
	}
	switch {
	case len(pairs) == 0 || len(pairs)%2 != 0:
		x.syntax()
		return
	case f.nx && f.xx:
		x.err("ERR XX and NX options at the same time are not compatible")
		return
	case f.gt && f.nx || f.lt && f.nx || f.gt && f.lt:
		x.err("ERR GT, LT, and/or NX options at the same time are not compatible")
		return
	case f.incr && len(pairs) > 2:
		x.err("ERR INCR option supports a single increment-element pair")
		return
	}
	// All scores are read before anything is changed.
	var few [8]float64
	scores := few[:0]
	for i := 0; i < len(pairs); i += 2 {
		s, ok := x.argFloat(pairs[i])
		if !ok {
			return
		}
		scores = append(scores, s)
	}
	key := x.args[1]
	o, ok := x.writeKind(key, kindZSet)
	if !ok {
		return
	}
	var z *zset
	switch {
	case o != nil:
		z = o.zset()
	case f.xx:
		if f.incr {
			x.null()
		} else {
			x.int(0)
		}
		return
	default:
		z = newZSet()
	}
	added, updated := 0, 0
	for i, score := range scores {
		member := pairs[2*i+1]
		at, old, exists := z.find(member)
		if exists && f.incr && !f.nx {
			if score += old; math.IsNaN(score) {
				x.err("ERR resulting score is not a number (NaN)")
				return
			}
		}
		if exists && (f.nx || f.gt && score <= old || f.lt && score >= old) || !exists && f.xx {
			if f.incr {
				x.null()
				return
			}
			continue
		}
		switch {
		case !exists:
			z.add(member, score, x.seed())
			added++
		case score != old:
			z.rescore(at, member, score)
			updated++
		}
		scores[i] = score
	}
	if added+updated > 0 {
		event := "zadd"
		if f.incr {
			event = "zincr"
		}
		x.saved(key, o, zsetPayload(z), event)
		x.dirty += added + updated
	}
	switch {
	case f.incr:
		x.double(scores[0])
	case f.ch:
		x.int(int64(added + updated))
	default:
		x.int(int64(added))
	}
}

func zremCommand(x *call) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindZSet)
	if !ok {
		return
	}
	removed := 0
	if o != nil {
		for _, m := range x.args[2:] {
			if o.zset().remove(m) {
				removed++
			}
		}
		if removed > 0 {
			x.shrunk(key, o, "zrem")
			x.dirty += removed
		}
	}
	x.int(int64(removed))
}

func zcardCommand(x *call) {
	z, ok := x.readZSet(x.args[1])
	switch {
	case !ok:
	case z == nil:
		x.int(0)
	default:
		x.int(int64(z.len()))
	}
}

// memberScore replies a member's score or null.
func (x *call) memberScore(z *zset, member []byte) {
	if z != nil {
		if s, ok := z.score(member); ok {
			x.double(s)
			return
		}
	}
	x.null()
}

func zscoreCommand(x *call) {
	if z, ok := x.readZSet(x.args[1]); ok {
		x.memberScore(z, x.args[2])
	}
}

func zmscoreCommand(x *call) {
	z, ok := x.readZSet(x.args[1])
	if !ok {
		return
	}
	x.array(len(x.args) - 2)
	for _, m := range x.args[2:] {
		x.memberScore(z, m)
	}
}

func zrankGeneric(x *call, reverse bool) {
	z, ok := x.readZSet(x.args[1])
	if !ok {
		return
	}
	if z != nil {
		if rank, _, ok := z.rank(x.args[2]); ok {
			if reverse {
				rank = z.len() - 1 - rank
			}
			x.int(int64(rank))
			return
		}
	}
	x.null()
}

func zrandmemberCommand(x *call) {
	if len(x.args) == 2 {
		z, ok := x.readZSet(x.args[1])
		switch {
		case !ok:
		case z == nil:
			x.null()
		default:
			m, _ := z.random()
			x.value(m)
		}
		return
	}
	count, with, ok := x.randomArgs("WITHSCORES")
	if !ok {
		return
	}
	z, ok := x.readZSet(x.args[1])
	if !ok {
		return
	}
	if z == nil || count == 0 {
		x.array(0)
		return
	}
	emit := x.scoreEmitter(with, x.proto >= 3)
	n := z.len()
	if count < 0 {
		x.draw(-count, func(n int) { x.randomHeader(n, with) }, func() { emit(z.random()) })
		return
	}
	take := int(min(count, int64(n)))
	x.randomHeader(take, with)
	if z.big != nil && sparse(take, n) {
		seen := make(map[string]bool, take)
		for len(seen) < take {
			m := z.big.members.random()
			if !seen[m.member] {
				seen[m.member] = true
				emit(lpValue{s: memberBytes(m.member)}, m.score)
			}
		}
		return
	}
	pick := sampler{take, n}
	z.each(func(m lpValue, score float64) bool {
		if pick.next() {
			emit(m, score)
		}
		return pick.k > 0
	})
}

// scoreEmitter replies members, with their scores if with, each pair in an array of its own if nested.
func (x *call) scoreEmitter(with, nested bool) func(m lpValue, score float64) bool {
	return func(m lpValue, score float64) bool {
		if with && nested {
			x.array(2)
		}
		x.value(m)
		if with {
			x.double(score)
		}
		return true
	}
}

func zscanCommand(x *call) {
	x.scanContainer(kindZSet, func(o *object, cursor uint64, emit func(name, with []byte)) uint64 {
		return o.zset().scan(cursor, func(m lpValue, score float64) {
			var name [24]byte
			var with [32]byte
			if n, ok := packInt(score); ok && o.zset().big == nil { // Redis replies what is in the listpack
				emit(m.bytes(&name), strconv.AppendInt(with[:0], n, 10))
			} else {
				emit(m.bytes(&name), frame.FormatDouble(with[:0], score))
			}
		})
	})
}

// --- popping ---

// zpopped takes n members off one end and replies them with emit.
func (x *call) zpopped(key []byte, o *object, n int, max bool, emit func(m lpValue, score float64) bool) {
	z := o.zset()
	first, from := 0, 0
	if max {
		first, from = z.len()-1, z.len()-n
	}
	z.walk(first, n, max, emit)
	z.removeRange(from, n)
	x.shrunk(key, o, zpopEvent(max))
	x.dirty += n
}

func zpopEvent(max bool) string {
	if max {
		return "zpopmax"
	}
	return "zpopmin"
}

func zpopName(max bool) []byte {
	if max {
		return []byte("ZPOPMAX")
	}
	return []byte("ZPOPMIN")
}

func zpopGeneric(x *call, max bool) {
	if len(x.args) > 3 {
		x.syntax()
		return
	}
	count, counted := int64(1), len(x.args) == 3
	if counted {
		var ok bool
		if count, ok = x.argRange(x.args[2], 0, math.MaxInt64, "ERR value is out of range, must be positive"); !ok {
			return
		}
	}
	key := x.args[1]
	o, ok := x.writeKind(key, kindZSet)
	switch {
	case !ok:
	case o == nil || count == 0:
		x.array(0)
	default:
		nested := counted && x.proto >= 3
		n := int(min(count, int64(o.zset().len())))
		if nested {
			x.array(n)
		} else {
			x.array(2 * n)
		}
		x.zpopped(key, o, n, max, x.scoreEmitter(true, nested))
	}
}

func bzpopGeneric(x *call, max bool) {
	last := len(x.args) - 1
	timeout, ok := x.argTimeout(x.args[last])
	if !ok {
		return
	}
	keys := x.args[1:last]
	for _, key := range x.blockingKeys(keys) {
		o, ok := x.writeKind(key, kindZSet)
		if !ok {
			return
		}
		if o == nil {
			continue
		}
		x.array(3)
		x.bulk(key)
		x.zpopped(key, o, 1, max, x.scoreEmitter(true, false))
		x.propagate(zpopName(max), key)
		return
	}
	if !x.mayBlock() {
		x.nullArray()
		return
	}
	x.block(kindZSet, timeout, keys...)
}

func zmpopGeneric(x *call, blocking bool) {
	keys, where, word, ok := x.argMPop(blocking)
	if !ok {
		return
	}
	max := is(where, "MAX")
	if !max && !is(where, "MIN") {
		x.syntax()
		return
	}
	count, timeout, ok := x.argMPopCount(word, blocking)
	if !ok {
		return
	}
	for _, key := range x.blockingKeys(keys) {
		o, ok := x.writeKind(key, kindZSet)
		if !ok {
			return
		}
		if o == nil {
			continue
		}
		n := int(min(count, int64(o.zset().len())))
		x.array(2)
		x.bulk(key)
		x.array(n)
		x.zpopped(key, o, n, max, x.scoreEmitter(true, true))
		x.propagate(zpopName(max), key, intArg(n))
		return
	}
	if !blocking || !x.mayBlock() {
		x.nullArray()
		return
	}
	x.block(kindZSet, timeout, keys...)
}
