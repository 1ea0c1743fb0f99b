package embedded

import (
	"math"
	"slices"
)

func setCommands() []registration {
	return []registration{
		{name: "sadd", handle: saddCommand},
		{name: "srem", handle: sremCommand},
		{name: "smove", handle: smoveCommand},
		{name: "sismember", handle: sismemberCommand},
		{name: "smismember", handle: smismemberCommand},
		{name: "scard", handle: scardCommand},
		{name: "smembers", handle: smembersCommand},
		{name: "spop", handle: spopCommand},
		{name: "srandmember", handle: srandmemberCommand},
		{name: "sinter", handle: func(x *call) { setOperation(x, setIntersection, false) }},
		{name: "sunion", handle: func(x *call) { setOperation(x, setUnion, false) }},
		{name: "sdiff", handle: func(x *call) { setOperation(x, setDifference, false) }},
		{name: "sinterstore", handle: func(x *call) { setOperation(x, setIntersection, true) }},
		{name: "sunionstore", handle: func(x *call) { setOperation(x, setUnion, true) }},
		{name: "sdiffstore", handle: func(x *call) { setOperation(x, setDifference, true) }},
		{name: "sintercard", handle: sintercardCommand},
		{name: "sscan", handle: sscanCommand},
	}
}

func (x *call) readSet(key []byte) (s *setValue, ok bool) {
	o, ok := x.readKind(key, kindSet)
	if o == nil {
		return nil, ok
	}
	return o.set(), true
}

// setOf is the object's set, a new one if there is no object.
func setOf(o *object) *setValue {
	if o == nil {
		return newSet()
	}
	return o.set()
}

func saddCommand(x *call) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindSet)
	if !ok {
		return
	}
	s := setOf(o)
	added := 0
	for _, m := range x.args[2:] {
		if s.add(m, x.seed()) {
			added++
		}
	}
	if added > 0 {
		x.saved(key, o, setPayload(s), "sadd")
		x.dirty += added
	}
	x.int(int64(added))
}

func sremCommand(x *call) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindSet)
	if !ok {
		return
	}
	removed := 0
	if o != nil {
		for _, m := range x.args[2:] {
			if o.set().remove(m) {
				removed++
			}
		}
		if removed > 0 {
			x.shrunk(key, o, "srem")
			x.dirty += removed
		}
	}
	x.int(int64(removed))
}

func smoveCommand(x *call) {
	src, dst, member := x.args[1], x.args[2], x.args[3]
	o := x.write(src)
	if o == nil {
		x.int(0)
		return
	}
	d := x.write(dst)
	if o.kind != kindSet || d != nil && d.kind != kindSet {
		x.wrongType()
		return
	}
	if o == d {
		x.boolean(o.set().has(member))
		return
	}
	if !o.set().remove(member) {
		x.int(0)
		return
	}
	x.shrunk(src, o, "srem")
	x.dirty++
	s := setOf(d)
	if s.add(member, x.seed()) {
		x.saved(dst, d, setPayload(s), "sadd")
		x.dirty++
	}
	x.int(1)
}

func sismemberCommand(x *call) {
	if s, ok := x.readSet(x.args[1]); ok {
		x.boolean(s != nil && s.has(x.args[2]))
	}
}

func smismemberCommand(x *call) {
	s, ok := x.readSet(x.args[1])
	if !ok {
		return
	}
	x.array(len(x.args) - 2)
	for _, m := range x.args[2:] {
		x.boolean(s != nil && s.has(m))
	}
}

func scardCommand(x *call) {
	s, ok := x.readSet(x.args[1])
	switch {
	case !ok:
	case s == nil:
		x.int(0)
	default:
		x.int(int64(s.len()))
	}
}

// members replies a set.
func (x *call) members(s *setValue) {
	x.setHeader(s.len())
	s.each(func(m lpValue) bool { x.value(m); return true })
}

func smembersCommand(x *call) {
	s, ok := x.readSet(x.args[1])
	switch {
	case !ok:
	case s == nil:
		x.setHeader(0)
	default:
		x.members(s)
	}
}

// takeRandom removes a random member and returns it.
func (s *setValue) takeRandom() []byte {
	m := s.random().appendTo(nil)
	s.remove(m)
	return m
}

func spopCommand(x *call) {
	if len(x.args) > 3 {
		x.syntax()
		return
	}
	key := x.args[1]
	if len(x.args) == 3 {
		spopCount(x, key)
		return
	}
	o, ok := x.writeKind(key, kindSet)
	switch {
	case !ok:
	case o == nil:
		x.null()
	default:
		m := o.set().takeRandom()
		x.bulk(m)
		x.shrunk(key, o, "spop")
		x.dirty++
		x.propagate([]byte("SREM"), key, m)
	}
}

func spopCount(x *call, key []byte) {
	count, ok := x.argRange(x.args[2], 0, math.MaxInt64, "ERR value is out of range, must be positive")
	if !ok {
		return
	}
	o, ok := x.writeKind(key, kindSet)
	switch {
	case !ok:
	case o == nil || count == 0:
		x.setHeader(0)
	case count >= int64(o.set().len()):
		x.members(o.set())
		x.dirty += o.set().len()
		x.notify(eventSet, "spop", key)
		x.remove(key)
		x.notify(eventGeneric, "del", key)
		x.propagate([]byte("DEL"), key)
	default:
		x.setHeader(int(count))
		for range count {
			m := o.set().takeRandom()
			x.bulk(m)
			x.propagate([]byte("SREM"), key, m)
		}
		x.touch(key, o)
		x.notify(eventSet, "spop", key)
		x.dirty += int(count)
	}
}

func srandmemberCommand(x *call) {
	if len(x.args) > 3 {
		x.syntax()
		return
	}
	if len(x.args) == 2 {
		s, ok := x.readSet(x.args[1])
		switch {
		case !ok:
		case s == nil:
			x.null()
		default:
			x.value(s.random())
		}
		return
	}
	count, ok := x.argRange(x.args[2], -math.MaxInt64, math.MaxInt64, "")
	if !ok {
		return
	}
	s, ok := x.readSet(x.args[1])
	if !ok {
		return
	}
	if s == nil || count == 0 {
		x.array(0)
		return
	}
	n := s.len()
	switch {
	case count < 0:
		x.draw(-count, x.array, func() { x.value(s.random()) })
	case count >= int64(n):
		x.array(n)
		s.each(func(m lpValue) bool { x.value(m); return true })
	case s.big() != nil && sparse(int(count), n):
		x.array(int(count))
		seen := make(map[string]bool, count)
		for len(seen) < int(count) {
			m := s.big().random()
			if !seen[m] {
				seen[m] = true
				x.bulkString(m)
			}
		}
	default:
		x.array(int(count))
		pick := sampler{int(count), n}
		s.each(func(m lpValue) bool {
			if pick.next() {
				x.value(m)
			}
			return pick.k > 0
		})
	}
}

type setOp uint8

const (
	setUnion setOp = iota
	setIntersection
	setDifference
)

// sets looks up sets for an operation, nil for missing ones; write says that they are read by a writing command.
func (x *call) sets(keys [][]byte, write bool) (sets []*setValue, ok bool) {
	sets = make([]*setValue, len(keys))
	for i, key := range keys {
		var o *object
		if write {
			o = x.readForWrite(key)
		} else {
			o = x.read(key)
		}
		if o == nil {
			continue
		}
		if o.kind != kindSet {
			x.wrongType()
			return nil, false
		}
		sets[i] = o.set()
	}
	return sets, true
}

// intersect visits the members that are in all sets until visit returns false. It reorders sets.
func intersect(sets []*setValue, visit func(m []byte) bool) {
	if slices.Contains(sets, nil) {
		return
	}
	slices.SortStableFunc(sets, func(a, b *setValue) int { return a.len() - b.len() })
	var scratch [24]byte
	sets[0].each(func(v lpValue) bool {
		m := v.bytes(&scratch)
		for _, s := range sets[1:] {
			if s != sets[0] && !s.has(m) {
				return true
			}
		}
		return visit(m)
	})
}

// combineSets makes a new set of sets.
func combineSets(op setOp, sets []*setValue, seed uint64) *setValue {
	result := newSet()
	var scratch [24]byte
	switch op {
	case setUnion:
		for _, s := range sets {
			if s != nil {
				s.each(func(v lpValue) bool { result.add(v.bytes(&scratch), seed); return true })
			}
		}
	case setIntersection:
		intersect(sets, func(m []byte) bool { result.add(m, seed); return true })
	case setDifference:
		if sets[0] == nil {
			break
		}
		sets[0].each(func(v lpValue) bool {
			m := v.bytes(&scratch)
			for _, s := range sets[1:] {
				if s != nil && s.has(m) {
					return true
				}
			}
			result.add(m, seed)
			return true
		})
	}
	return result
}

func setOperation(x *call, op setOp, store bool) {
	keys := x.args[1:]
	if store {
		keys = keys[1:]
	}
	sets, ok := x.sets(keys, store)
	if !ok {
		return
	}
	result := combineSets(op, sets, x.seed())
	if !store {
		x.members(result)
		return
	}
	x.store(x.args[1], setPayload(result), result.len(), x.spec.Name)
}

func sintercardCommand(x *call) {
	keys, rest, ok := x.argKeys(1)
	if !ok {
		return
	}
	limit, ok := x.argLimit(rest)
	if !ok {
		return
	}
	sets, ok := x.sets(keys, false)
	if !ok {
		return
	}
	var n int64
	intersect(sets, func([]byte) bool {
		n++
		return n != limit
	})
	x.int(n)
}

func sscanCommand(x *call) {
	x.scanContainer(kindSet, func(o *object, cursor uint64, emit func(name, with []byte)) uint64 {
		return o.set().scan(cursor, func(m lpValue) {
			var scratch [24]byte
			emit(m.bytes(&scratch), nil)
		})
	})
}
