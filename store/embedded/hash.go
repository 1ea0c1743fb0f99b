package embedded

import (
	"math"
	"strconv"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

func hashCommands() []registration {
	return []registration{
		{name: "hset", handle: hsetCommand},
		{name: "hmset", handle: hsetCommand},
		{name: "hsetnx", handle: hsetnxCommand},
		{name: "hget", handle: hgetCommand},
		{name: "hmget", handle: hmgetCommand},
		{name: "hgetall", handle: hgetallCommand},
		{name: "hkeys", handle: func(x *call) { hashList(x, true) }},
		{name: "hvals", handle: func(x *call) { hashList(x, false) }},
		{name: "hlen", handle: hlenCommand},
		{name: "hstrlen", handle: hstrlenCommand},
		{name: "hexists", handle: hexistsCommand},
		{name: "hdel", handle: hdelCommand},
		{name: "hincrby", handle: hincrbyCommand},
		{name: "hincrbyfloat", handle: hincrbyfloatCommand},
		{name: "hrandfield", handle: hrandfieldCommand},
		{name: "hscan", handle: hscanCommand},
	}
}

func (x *call) readHash(key []byte) (h *hashValue, ok bool) {
	o, ok := x.readKind(key, kindHash)
	if o == nil {
		return nil, ok
	}
	return o.hash(), true
}

// writeHash gives the hash to change; a new one, with a nil object, if there is none.
func (x *call) writeHash(key []byte) (h *hashValue, o *object, ok bool) {
	o, ok = x.writeKind(key, kindHash)
	switch {
	case !ok:
		return nil, nil, false
	case o == nil:
		return newHash(), nil, true
	}
	return o.hash(), o, true
}

func hsetCommand(x *call) {
	if len(x.args)%2 != 0 {
		x.err(command.ArityError(x.spec))
		return
	}
	key := x.args[1]
	h, o, ok := x.writeHash(key)
	if !ok {
		return
	}
	created := 0
	for i := 2; i < len(x.args); i += 2 {
		if h.set(x.args[i], x.args[i+1], x.seed()) {
			created++
		}
	}
	x.saved(key, o, hashPayload(h), "hset")
	x.dirty += len(x.args)/2 - 1
	if x.spec.Name == "hmset" {
		x.ok()
	} else {
		x.int(int64(created))
	}
}

func hsetnxCommand(x *call) {
	key := x.args[1]
	h, o, ok := x.writeHash(key)
	if !ok {
		return
	}
	if _, exists := h.get(x.args[2]); exists {
		x.int(0)
		return
	}
	h.set(x.args[2], x.args[3], x.seed())
	x.saved(key, o, hashPayload(h), "hset")
	x.dirty++
	x.int(1)
}

// hashGet replies a field's value or null.
func (x *call) hashGet(h *hashValue, field []byte) {
	if h != nil {
		if v, ok := h.get(field); ok {
			x.value(v)
			return
		}
	}
	x.null()
}

func hgetCommand(x *call) {
	if h, ok := x.readHash(x.args[1]); ok {
		x.hashGet(h, x.args[2])
	}
}

func hmgetCommand(x *call) {
	h, ok := x.readHash(x.args[1])
	if !ok {
		return
	}
	x.array(len(x.args) - 2)
	for _, f := range x.args[2:] {
		x.hashGet(h, f)
	}
}

func hgetallCommand(x *call) {
	h, ok := x.readHash(x.args[1])
	switch {
	case !ok:
	case h == nil:
		x.mapHeader(0)
	default:
		x.mapHeader(h.len())
		h.each(func(f, v lpValue) bool {
			x.value(f)
			x.value(v)
			return true
		})
	}
}

func hashList(x *call, names bool) {
	h, ok := x.readHash(x.args[1])
	switch {
	case !ok:
	case h == nil:
		x.array(0)
	default:
		x.array(h.len())
		h.each(func(f, v lpValue) bool {
			if names {
				x.value(f)
			} else {
				x.value(v)
			}
			return true
		})
	}
}

func hlenCommand(x *call) {
	h, ok := x.readHash(x.args[1])
	switch {
	case !ok:
	case h == nil:
		x.int(0)
	default:
		x.int(int64(h.len()))
	}
}

func hstrlenCommand(x *call) {
	h, ok := x.readHash(x.args[1])
	if !ok {
		return
	}
	n := 0
	if h != nil {
		if v, ok := h.get(x.args[2]); ok {
			var scratch [24]byte
			n = len(v.bytes(&scratch))
		}
	}
	x.int(int64(n))
}

func hexistsCommand(x *call) {
	h, ok := x.readHash(x.args[1])
	if !ok {
		return
	}
	exists := false
	if h != nil {
		_, exists = h.get(x.args[2])
	}
	x.boolean(exists)
}

func hdelCommand(x *call) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindHash)
	if !ok {
		return
	}
	removed := 0
	if o != nil {
		h := o.hash()
		for _, f := range x.args[2:] {
			if h.remove(f) {
				removed++
			}
		}
		if removed > 0 {
			x.shrunk(key, o, "hdel")
			x.dirty += removed
		}
	}
	x.int(int64(removed))
}

func hincrbyCommand(x *call) {
	by, ok := x.argInt(x.args[3])
	if !ok {
		return
	}
	key := x.args[1]
	h, o, ok := x.writeHash(key)
	if !ok {
		return
	}
	var n int64
	if v, exists := h.get(x.args[2]); exists {
		if n = v.n; v.s != nil {
			if n, ok = frame.ParseInt(v.s); !ok {
				x.err("ERR hash value is not an integer")
				return
			}
		}
	}
	if by < 0 && n < math.MinInt64-by || by > 0 && n > math.MaxInt64-by {
		x.err(errOverflow)
		return
	}
	n += by
	var scratch [24]byte
	h.set(x.args[2], strconv.AppendInt(scratch[:0], n, 10), x.seed())
	x.saved(key, o, hashPayload(h), "hincrby")
	x.dirty++
	x.int(n)
}

func hincrbyfloatCommand(x *call) {
	by, ok := parseLongDouble(x.args[3])
	if !ok {
		x.err(errNotFloat)
		return
	}
	if by.IsInf() {
		x.err("ERR value is NaN or Infinity")
		return
	}
	key := x.args[1]
	h, o, ok := x.writeHash(key)
	if !ok {
		return
	}
	old := []byte("0")
	if v, exists := h.get(x.args[2]); exists {
		var scratch [24]byte
		old = v.bytes(&scratch)
	}
	sum, ok := x.addLongDouble(old, x.args[3], "ERR hash value is not a float")
	if !ok {
		return
	}
	h.set(x.args[2], sum, x.seed())
	x.saved(key, o, hashPayload(h), "hincrbyfloat")
	x.dirty++
	x.propagate([]byte("HSET"), key, x.args[2], sum)
	x.bulk(sum)
}

func hrandfieldCommand(x *call) {
	if len(x.args) == 2 {
		h, ok := x.readHash(x.args[1])
		switch {
		case !ok:
		case h == nil:
			x.null()
		default:
			f, _ := h.random()
			x.value(f)
		}
		return
	}
	count, with, ok := x.randomArgs("WITHVALUES")
	if !ok {
		return
	}
	h, ok := x.readHash(x.args[1])
	if !ok {
		return
	}
	if h == nil || count == 0 {
		x.array(0)
		return
	}
	emit := func(f, v lpValue) {
		if with && x.proto >= 3 {
			x.array(2)
		}
		x.value(f)
		if with {
			x.value(v)
		}
	}
	n := h.len()
	if count < 0 {
		x.draw(-count, func(n int) { x.randomHeader(n, with) }, func() { emit(h.random()) })
		return
	}
	take := int(min(count, int64(n)))
	x.randomHeader(take, with)
	switch {
	case h.big != nil && sparse(take, n):
		seen := make(map[string]bool, take)
		for len(seen) < take {
			f, v := h.random()
			if !seen[string(f.s)] {
				seen[string(f.s)] = true
				emit(f, v)
			}
		}
	default:
		s := sampler{take, n}
		h.each(func(f, v lpValue) bool {
			if s.next() {
				emit(f, v)
			}
			return s.k > 0
		})
	}
}

func hscanCommand(x *call) {
	x.scanContainer(kindHash, func(o *object, cursor uint64, emit func(name, with []byte)) uint64 {
		return o.hash().scan(cursor, func(f, v lpValue) {
			var s1, s2 [24]byte
			emit(f.bytes(&s1), v.bytes(&s2))
		})
	})
}
