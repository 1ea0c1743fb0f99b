package embedded

import (
	"math"

	"respmesh/resp/frame"
)

// Strings as numbers: INCR and its family.

func incrGeneric(x *call, by int64) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindString)
	if !ok {
		return
	}
	var n int64
	if o != nil {
		if n = o.num; o.enc != encInt {
			if n, ok = frame.ParseInt(o.raw()); !ok {
				x.err(errNotInt)
				return
			}
		}
	}
	if by < 0 && n < 0 && by < math.MinInt64-n || by > 0 && n > 0 && by > math.MaxInt64-n {
		x.err(errOverflow)
		return
	}
	n += by
	if o == nil {
		x.add(key, intPayload(n))
	} else {
		o.put(intPayload(n))
		x.touch(key, o)
	}
	x.dirty++
	x.notify(eventString, "incrby", key)
	x.int(n)
}

func incrbyCommand(x *call) {
	if by, ok := x.argInt(x.args[2]); ok {
		incrGeneric(x, by)
	}
}

func decrbyCommand(x *call) {
	by, ok := x.argInt(x.args[2])
	switch {
	case !ok:
	case by == math.MinInt64:
		x.err("ERR decrement would overflow")
	default:
		incrGeneric(x, -by)
	}
}

func incrbyfloatCommand(x *call) {
	key := x.args[1]
	o, ok := x.writeKind(key, kindString)
	if !ok {
		return
	}
	old := []byte("0")
	if o != nil {
		old = o.raw0()
	}
	sum, ok := x.addLongDouble(old, x.args[2], errNotFloat)
	if !ok {
		return
	}
	x.bulk(sum)
	if o == nil {
		x.add(key, bytesPayload(sum, encodingFor(len(sum))))
	} else {
		o.put(bytesPayload(append([]byte(nil), sum...), encodingFor(len(sum))))
		x.touch(key, o)
	}
	x.dirty++
	x.notify(eventString, "incrbyfloat", key)
	x.propagate([]byte("SET"), key, sum, []byte("KEEPTTL"))
}
