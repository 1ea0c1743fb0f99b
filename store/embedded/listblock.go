package embedded

import (
	"math"
)

// Moving elements between lists and waiting for them. What a blocking command did is propagated as the command that
// doesn't block.

func lmoveCommand(x *call) {
	from, ok := x.argSide(x.args[3])
	if !ok {
		return
	}
	to, ok := x.argSide(x.args[4])
	if !ok {
		return
	}
	x.moveElement(x.args[1], x.args[2], from, to)
}

// moveElement takes an element from one end of src to one end of dst and replies it, or null. moved=false: there was
// nothing to move, or an error has been replied.
func (x *call) moveElement(src, dst []byte, fromFront, toFront bool) (moved bool) {
	o, ok := x.writeKind(src, kindList)
	if !ok {
		return false
	}
	if o == nil {
		x.null()
		return false
	}
	if string(src) == string(dst) {
		l := o.list()
		v := l.end(fromFront).appendTo(nil)
		l.drop(fromFront)
		l.push(v, toFront)
		x.touch(src, o)
		x.notify(eventList, pushEvent(toFront), src)
		x.notify(eventList, popEvent(fromFront), src)
		x.dirty++
		x.bulk(v)
		return true
	}
	d, ok := x.writeKind(dst, kindList)
	if !ok {
		return false
	}
	var scratch [24]byte
	l, to := o.list(), listOf(d)
	v := l.end(fromFront).bytes(&scratch)
	to.push(v, toFront)
	x.bulk(v)
	l.drop(fromFront)
	x.dirty++
	x.saved(dst, d, listPayload(to), pushEvent(toFront))
	x.shrunk(src, o, popEvent(fromFront))
	return true
}

func bpopGeneric(x *call, front bool) {
	last := len(x.args) - 1
	timeout, ok := x.argTimeout(x.args[last])
	if !ok {
		return
	}
	keys := x.args[1:last]
	for _, key := range x.blockingKeys(keys) {
		o, ok := x.writeKind(key, kindList)
		if !ok {
			return
		}
		if o == nil {
			continue
		}
		x.array(2)
		x.bulk(key)
		x.popped(o.list(), front)
		x.shrunk(key, o, popEvent(front))
		name := "RPOP"
		if front {
			name = "LPOP"
		}
		x.propagate([]byte(name), key)
		return
	}
	if !x.mayBlock() {
		x.nullArray()
		return
	}
	x.block(kindList, timeout, keys...)
}

func blmoveCommand(x *call) {
	from, ok := x.argSide(x.args[3])
	if !ok {
		return
	}
	to, ok := x.argSide(x.args[4])
	if !ok {
		return
	}
	if x.blockingMove(x.args[5], from, to) {
		x.propagate([]byte("LMOVE"), x.args[1], x.args[2], x.args[3], x.args[4])
	}
}

func brpoplpushCommand(x *call) {
	if x.blockingMove(x.args[3], false, true) {
		x.propagate([]byte("RPOPLPUSH"), x.args[1], x.args[2])
	}
}

// blockingMove is moveElement from the first key to the second, waiting for the first.
func (x *call) blockingMove(timeoutArg []byte, fromFront, toFront bool) (moved bool) {
	timeout, ok := x.argTimeout(timeoutArg)
	if !ok {
		return false
	}
	o, ok := x.writeKind(x.args[1], kindList)
	switch {
	case !ok:
		return false
	case o != nil:
		return x.moveElement(x.args[1], x.args[2], fromFront, toFront)
	case !x.mayBlock():
		x.null()
	default:
		x.block(kindList, timeout, x.args[1])
	}
	return false
}

// argMPop reads "[timeout] numkeys key… <word>" of LMPOP, BLMPOP, ZMPOP and BZMPOP; the time-out, which only the blocking
// ones have, is left for last as in Redis.
func (x *call) argMPop(blocking bool) (keys [][]byte, where []byte, word int, ok bool) {
	at := 1
	if blocking {
		at = 2
	}
	n, ok := x.argRange(x.args[at], 1, math.MaxInt64, "ERR numkeys should be greater than 0")
	if !ok {
		return nil, nil, 0, false
	}
	// The word must follow the keys.
	if n > int64(len(x.args)-at-2) {
		x.syntax()
		return nil, nil, 0, false
	}
	word = at + 1 + int(n)
	return x.args[at+1 : word], x.args[word], word, true
}

// argMPopCount reads "[COUNT n]" after the word at args[word], then the time-out.
func (x *call) argMPopCount(word int, blocking bool) (count, timeout int64, ok bool) {
	count = -1
	for i := word + 1; i < len(x.args); i++ {
		if count >= 0 || !is(x.args[i], "COUNT") || i+1 == len(x.args) {
			x.syntax()
			return 0, 0, false
		}
		i++
		if count, ok = x.argRange(x.args[i], 1, math.MaxInt64, "ERR count should be greater than 0"); !ok {
			return 0, 0, false
		}
	}
	if blocking {
		if timeout, ok = x.argTimeout(x.args[1]); !ok {
			return 0, 0, false
		}
	}
	return max(count, 1), timeout, true
}

func lmpopGeneric(x *call, blocking bool) {
	keys, where, word, ok := x.argMPop(blocking)
	if !ok {
		return
	}
	front, ok := x.argSide(where)
	if !ok {
		return
	}
	count, timeout, ok := x.argMPopCount(word, blocking)
	if !ok {
		return
	}
	for _, key := range x.blockingKeys(keys) {
		o, ok := x.writeKind(key, kindList)
		if !ok {
			return
		}
		if o == nil {
			continue
		}
		l := o.list()
		n := int(min(count, int64(l.len())))
		x.array(2)
		x.bulk(key)
		x.poppedMany(l, n, front)
		x.shrunk(key, o, popEvent(front))
		name := "RPOP"
		if front {
			name = "LPOP"
		}
		x.propagate([]byte(name), key, intArg(n))
		return
	}
	if !blocking || !x.mayBlock() {
		x.nullArray()
		return
	}
	x.block(kindList, timeout, keys...)
}
