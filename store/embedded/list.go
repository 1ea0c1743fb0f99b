package embedded

import (
	"math"

	"respmesh/resp/command"
)

func listCommands() []registration {
	return []registration{
		{name: "lpush", handle: func(x *call) { pushGeneric(x, true, false) }},
		{name: "rpush", handle: func(x *call) { pushGeneric(x, false, false) }},
		{name: "lpushx", handle: func(x *call) { pushGeneric(x, true, true) }},
		{name: "rpushx", handle: func(x *call) { pushGeneric(x, false, true) }},
		{name: "lpop", handle: func(x *call) { popGeneric(x, true) }},
		{name: "rpop", handle: func(x *call) { popGeneric(x, false) }},
		{name: "llen", handle: llenCommand},
		{name: "lindex", handle: lindexCommand},
		{name: "lset", handle: lsetCommand},
		{name: "linsert", handle: linsertCommand},
		{name: "lrange", handle: lrangeCommand},
		{name: "ltrim", handle: ltrimCommand},
		{name: "lrem", handle: lremCommand},
		{name: "lpos", handle: lposCommand},
		{name: "lmove", handle: lmoveCommand},
		{name: "rpoplpush", handle: func(x *call) { x.moveElement(x.args[1], x.args[2], false, true) }},
		{name: "lmpop", handle: func(x *call) { lmpopGeneric(x, false) }},
		{name: "blpop", handle: func(x *call) { bpopGeneric(x, true) }},
		{name: "brpop", handle: func(x *call) { bpopGeneric(x, false) }},
		{name: "blmove", handle: blmoveCommand},
		{name: "brpoplpush", handle: brpoplpushCommand},
		{name: "blmpop", handle: func(x *call) { lmpopGeneric(x, true) }},
		{name: "sort", handle: sortCommand},
		{name: "sort_ro", handle: sortCommand, lock: lockExclusive}, // see sortCommand
	}
}

func (x *call) readList(key []byte) (l *listValue, ok bool) {
	o, ok := x.readKind(key, kindList)
	if o == nil {
		return nil, ok
	}
	return o.list(), true
}

// listOf is the object's list, a new one if there is no object.
func listOf(o *object) *listValue {
	if o == nil {
		return newList()
	}
	return o.list()
}

func (l *listValue) push(v []byte, front bool) {
	if front {
		l.pushFront(v)
	} else {
		l.pushBack(v)
	}
}

// end is the value at one end of a list that isn't empty; drop takes it away.
func (l *listValue) end(front bool) lpValue {
	if front {
		return l.front()
	}
	return l.back()
}

func (l *listValue) drop(front bool) {
	if front {
		l.dropFront()
	} else {
		l.dropBack()
	}
}

// popped replies a value and takes it off the list.
func (x *call) popped(l *listValue, front bool) {
	x.value(l.end(front))
	l.drop(front)
	x.dirty++
}

// poppedMany replies an array of n values and takes them off.
func (x *call) poppedMany(l *listValue, n int, front bool) {
	x.array(n)
	if n < l.len() {
		for range n {
			x.popped(l, front)
		}
		return
	}
	from := 0
	if !front {
		from = l.len() - 1
	}
	l.walk(from, n, !front, func(v lpValue) bool { x.value(v); return true })
	l.removeRange(0, n)
	x.dirty += n
}

// argSide reads LEFT or RIGHT.
func (x *call) argSide(b []byte) (front, ok bool) {
	switch {
	case is(b, "LEFT"):
		return true, true
	case is(b, "RIGHT"):
		return false, true
	}
	x.syntax()
	return false, false
}

func pushGeneric(x *call, front, onlyExisting bool) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindList)
	if !ok {
		return
	}
	if o == nil && onlyExisting {
		x.int(0)
		return
	}
	l := listOf(o)
	for _, v := range x.args[2:] {
		l.push(v, front)
	}
	x.dirty += len(x.args) - 2
	x.int(int64(l.len()))
	x.saved(key, o, listPayload(l), pushEvent(front))
}

func popGeneric(x *call, front bool) {
	if len(x.args) > 3 {
		x.err(command.ArityError(x.spec))
		return
	}
	key := x.args[1]
	count, counted := int64(0), len(x.args) == 3
	if counted {
		var ok bool
		if count, ok = x.argRange(x.args[2], 0, math.MaxInt64, "ERR value is out of range, must be positive"); !ok {
			return
		}
	}
	o, ok := x.writeKind(key, kindList)
	switch {
	case !ok:
	case o == nil && counted:
		x.nullArray()
	case o == nil:
		x.null()
	case !counted:
		x.popped(o.list(), front)
		x.shrunk(key, o, popEvent(front))
	case count == 0:
		x.array(0)
	default:
		x.poppedMany(o.list(), int(min(count, int64(o.list().len()))), front)
		x.shrunk(key, o, popEvent(front))
	}
}

func pushEvent(front bool) string {
	if front {
		return "lpush"
	}
	return "rpush"
}

func popEvent(front bool) string {
	if front {
		return "lpop"
	}
	return "rpop"
}

func llenCommand(x *call) {
	l, ok := x.readList(x.args[1])
	switch {
	case !ok:
	case l == nil:
		x.int(0)
	default:
		x.int(int64(l.len()))
	}
}

func lindexCommand(x *call) {
	l, ok := x.readList(x.args[1])
	if !ok {
		return
	}
	if l == nil {
		x.null()
		return
	}
	i, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	if i < 0 {
		i += int64(l.len())
	}
	if i < 0 || i >= int64(l.len()) {
		x.null()
		return
	}
	x.value(l.at(int(i)))
}

func lsetCommand(x *call) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindList)
	if !ok {
		return
	}
	if o == nil {
		x.err(errNoSuchKey)
		return
	}
	i, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	l := o.list()
	if i < 0 {
		i += int64(l.len())
	}
	if i < 0 || i >= int64(l.len()) {
		x.err(errOutOfRange)
		return
	}
	l.set(int(i), x.args[3])
	x.touch(key, o)
	x.notify(eventList, "lset", key)
	x.dirty++
	x.ok()
}

func linsertCommand(x *call) {
	after := is(x.args[2], "AFTER")
	if !after && !is(x.args[2], "BEFORE") {
		x.syntax()
		return
	}
	key := x.args[1]
	o, ok := x.writeKind(key, kindList)
	if !ok {
		return
	}
	if o == nil {
		x.int(0)
		return
	}
	l := o.list()
	at, i := -1, 0
	pivot := newLPKey(x.args[3])
	l.each(func(v lpValue) bool {
		if v.is(&pivot) {
			at = i
		}
		i++
		return at < 0
	})
	if at < 0 {
		x.int(-1)
		return
	}
	if after {
		at++
	}
	l.insert(at, x.args[4])
	x.touch(key, o)
	x.notify(eventList, "linsert", key)
	x.dirty++
	x.int(int64(l.len()))
}

// clampRange turns a range with negative indexes into [start, start+n) of length elements.
func clampRange(start, end int64, length int) (from, n int) {
	size := int64(length)
	if start < 0 {
		start = max(start+size, 0)
	}
	if end < 0 {
		end = max(end+size, -1)
	}
	if start > end || start >= size {
		return 0, 0
	}
	end = min(end, size-1)
	return int(start), int(end - start + 1)
}

func (x *call) argPair(a, b []byte) (i, j int64, ok bool) {
	if i, ok = x.argInt(a); !ok {
		return 0, 0, false
	}
	j, ok = x.argInt(b)
	return i, j, ok
}

func lrangeCommand(x *call) {
	start, end, ok := x.argPair(x.args[2], x.args[3])
	if !ok {
		return
	}
	l, ok := x.readList(x.args[1])
	switch {
	case !ok:
	case l == nil:
		x.array(0)
	default:
		from, n := clampRange(start, end, l.len())
		x.array(n)
		l.walk(from, n, false, func(v lpValue) bool { x.value(v); return true })
	}
}

func ltrimCommand(x *call) {
	start, end, ok := x.argPair(x.args[2], x.args[3])
	if !ok {
		return
	}
	key := x.args[1]
	o, ok := x.writeKind(key, kindList)
	if !ok {
		return
	}
	if o != nil {
		l := o.list()
		from, n := clampRange(start, end, l.len())
		before := l.len()
		l.removeRange(from+n, before-from-n)
		l.removeRange(0, from)
		x.shrunk(key, o, "ltrim")
		x.dirty += before - n
	}
	x.ok()
}

func lremCommand(x *call) {
	count, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	key := x.args[1]
	o, ok := x.writeKind(key, kindList)
	if !ok {
		return
	}
	removed := 0
	if o != nil {
		removed = o.list().removeEqual(x.args[3], int(max(count, -count, 0)), count < 0)
		if removed > 0 {
			x.shrunk(key, o, "lrem")
			x.dirty += removed
		}
	}
	x.int(int64(removed))
}

func lposCommand(x *call) {
	rank, count, maxlen := int64(1), int64(-1), int64(0)
	for i := 3; i < len(x.args); i += 2 {
		if i+1 >= len(x.args) {
			x.syntax()
			return
		}
		v, ok := x.args[i+1], true
		switch {
		case is(x.args[i], "RANK"):
			rank, ok = x.argInt(v)
			if ok && rank == 0 {
				x.err("ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... " +
					"or use negative to start from the end of the list")
				return
			}
		case is(x.args[i], "COUNT"):
			count, ok = x.argRange(v, 0, math.MaxInt64, "ERR COUNT can't be negative")
		case is(x.args[i], "MAXLEN"):
			maxlen, ok = x.argRange(v, 0, math.MaxInt64, "ERR MAXLEN can't be negative")
		default:
			x.syntax()
			return
		}
		if !ok {
			return
		}
	}
	l, ok := x.readList(x.args[1])
	if !ok {
		return
	}
	if l == nil {
		if count >= 0 {
			x.array(0)
		} else {
			x.null()
		}
		return
	}
	found := lpos(l, x.args[2], rank, max(count, 0), maxlen, count < 0)
	switch {
	case count >= 0:
		x.array(len(found))
		for _, i := range found {
			x.int(i)
		}
	case len(found) > 0:
		x.int(found[0])
	default:
		x.null()
	}
}

// lpos finds the indexes of values that equal v: from the rank-th match on, backwards if rank is negative, at most
// count (0: all) or one, among the first maxlen (0: all) values looked at.
func lpos(l *listValue, v []byte, rank, count, maxlen int64, one bool) (found []int64) {
	k := newLPKey(v)
	reverse := rank < 0
	if reverse {
		rank = -rank
	}
	n := int64(l.len())
	i, step := int64(0), int64(1)
	if reverse {
		i, step = n-1, -1
	}
	if maxlen == 0 || maxlen > n {
		maxlen = n
	}
	matches := int64(0)
	l.walk(int(i), int(maxlen), reverse, func(e lpValue) bool {
		if e.is(&k) {
			if matches++; matches >= rank {
				found = append(found, i)
				if one || count > 0 && int64(len(found)) == count {
					return false
				}
			}
		}
		i += step
		return true
	})
	return found
}
