package embedded

import (
	"math"
	"strconv"
	"unsafe"
)

func stringCommands() []registration {
	return []registration{
		{name: "get", handle: getCommand},
		{name: "set", handle: setStringCommand},
		{name: "setnx", handle: setnxCommand},
		{name: "setex", handle: func(x *call) { setexGeneric(x, 1000) }},
		{name: "psetex", handle: func(x *call) { setexGeneric(x, 1) }},
		{name: "getset", handle: getsetCommand},
		{name: "getdel", handle: getdelCommand},
		{name: "getex", handle: getexCommand},
		{name: "mget", handle: mgetCommand},
		{name: "mset", handle: func(x *call) { msetGeneric(x, false) }},
		{name: "msetnx", handle: func(x *call) { msetGeneric(x, true) }},
		{name: "strlen", handle: strlenCommand},
		{name: "append", handle: appendCommand},
		{name: "getrange", handle: getrangeCommand},
		{name: "substr", handle: getrangeCommand},
		{name: "setrange", handle: setrangeCommand},
		{name: "incr", handle: func(x *call) { incrGeneric(x, 1) }},
		{name: "decr", handle: func(x *call) { incrGeneric(x, -1) }},
		{name: "incrby", handle: incrbyCommand},
		{name: "decrby", handle: decrbyCommand},
		{name: "incrbyfloat", handle: incrbyfloatCommand},
		{name: "lcs", handle: lcsCommand},
	}
}

// maxString is proto-max-bulk-len.
const maxString = 512 << 20

// setString stores a string under a key. Bytes that fit the present value's memory are copied into it.
func (x *call) setString(key, val []byte, keepTTL bool) *object {
	o := x.write(key)
	if o == nil {
		return x.add(key, stringPayload(val))
	}
	if !keepTTL && o.vol != 0 {
		x.db.clearExpire(o)
	}
	o.assign(val)
	x.touch(key, o)
	return o
}

// assign makes o the string val, within the memory it has if that suits.
func (o *object) assign(val []byte) {
	if n, ok := stringInt(val); ok {
		o.put(intPayload(n))
		return
	}
	if o.kind == kindString && o.enc != encInt && o.enc != encShared {
		if b := o.raw(); cap(b) >= len(val) && cap(b)-len(val) <= len(val)/4 {
			o.put(bytesPayload(append(b[:0], val...), encodingFor(len(val))))
			return
		}
	}
	o.put(stringPayload(val))
}

// own gives the string's bytes for writing, with the length n: cut or filled up with zeros.
func (o *object) own(n int) []byte {
	b := o.raw0()
	switch have := len(b); {
	case o.enc == encShared:
		b = append(make([]byte, 0, n), b[:min(have, n)]...)[:n]
	case n <= have:
		b = b[:n]
	case n <= cap(b):
		b = b[:n]
		clear(b[have:])
	default:
		b = append(b, make([]byte, n-have)...)
	}
	o.put(bytesPayload(b, encRaw))
	return b
}

// extend appends to the string. Bytes that it has already stay where they are if there is room, which who reads them doesn't mind.
func (o *object) extend(val []byte) {
	before, enc := o.ptr, encRaw
	b := append(o.raw0(), val...)
	if o.enc == encShared && unsafe.Pointer(unsafe.SliceData(b)) == before {
		enc = encShared
	}
	o.put(bytesPayload(b, enc))
}

// raw0 is the string's bytes, also of a number; then they are a copy.
func (o *object) raw0() []byte {
	if o.enc == encInt {
		return o.appendString(nil)
	}
	return o.raw()
}

func getCommand(x *call) {
	o, ok := x.readKind(x.args[1], kindString)
	switch {
	case !ok:
	case o == nil:
		x.null()
	default:
		x.bulkOf(o)
	}
}

// setOptions are what SET and GETEX take.
type setOptions struct {
	nx, xx, get, keepTTL, persist bool
	unit                          string // EX, PX, EXAT, PXAT; "" without a TTL
	ttl                           []byte
}

func (x *call) setOptions(args [][]byte, getex bool) (o setOptions, ok bool) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		timed := o.unit != "" || o.keepTTL || o.persist
		switch {
		case !getex && is(a, "NX") && !o.xx:
			o.nx = true
		case !getex && is(a, "XX") && !o.nx:
			o.xx = true
		case !getex && is(a, "GET"):
			o.get = true
		case !getex && is(a, "KEEPTTL") && o.unit == "":
			o.keepTTL = true
		case getex && is(a, "PERSIST") && o.unit == "":
			o.persist = true
		case i+1 < len(args) && !timed && is(a, "EX"):
			o.unit = "EX"
		case i+1 < len(args) && !timed && is(a, "PX"):
			o.unit = "PX"
		case i+1 < len(args) && !timed && is(a, "EXAT"):
			o.unit = "EXAT"
		case i+1 < len(args) && !timed && is(a, "PXAT"):
			o.unit = "PXAT"
		default:
			x.syntax()
			return o, false
		}
		if o.unit != "" && o.ttl == nil {
			i++
			o.ttl = args[i]
		}
	}
	return o, true
}

// deadline reads the options' TTL as unix ms.
func (x *call) deadline(o *setOptions) (at int64, ok bool) {
	base, unit := int64(0), int64(1)
	switch o.unit {
	case "EX":
		base, unit = x.now, 1000
	case "PX":
		base = x.now
	case "EXAT":
		unit = 1000
	}
	return x.deadlineOf(o.ttl, base, unit)
}

func (x *call) deadlineOf(arg []byte, base, unit int64) (at int64, ok bool) {
	n, ok := x.argInt(arg)
	if !ok {
		return 0, false
	}
	if n <= 0 || n > math.MaxInt64/unit || n*unit > math.MaxInt64-base {
		x.expireTimeError()
		return 0, false
	}
	return n*unit + base, true
}

func setStringCommand(x *call) {
	key, val := x.args[1], x.args[2]
	if len(x.args) == 3 {
		x.setString(key, val, false)
		x.dirty++
		x.notify(eventString, "set", key)
		x.ok()
		return
	}
	opt, ok := x.setOptions(x.args[3:], false)
	if !ok {
		return
	}
	var at int64
	if opt.unit != "" {
		if at, ok = x.deadline(&opt); !ok {
			return
		}
	}
	var o *object
	if !opt.get {
		o = x.write(key)
	} else {
		if o = x.readForWrite(key); o != nil && o.kind != kindString {
			x.wrongType()
			return
		}
		if o == nil {
			x.null()
		} else {
			x.bulkOf(o)
		}
	}
	if opt.nx && o != nil || opt.xx && o == nil {
		if !opt.get {
			x.null()
		}
		return
	}
	o = x.setString(key, val, opt.keepTTL)
	x.dirty++
	x.notify(eventString, "set", key)
	switch {
	case at != 0:
		x.db.setExpire(o, at)
		x.notify(eventGeneric, "expire", key)
		x.propagateSet(key, val, at)
	case opt.get:
		args := make([][]byte, 0, len(x.args))
		for i, a := range x.args {
			if i < 3 || !is(a, "GET") {
				args = append(args, a)
			}
		}
		x.propagate(args...)
	}
	if !opt.get {
		x.ok()
	}
}

func (x *call) propagateSet(key, val []byte, at int64) {
	x.propagate([]byte("SET"), key, val, []byte("PXAT"), strconv.AppendInt(nil, at, 10))
}

func setnxCommand(x *call) {
	if x.write(x.args[1]) != nil {
		x.int(0)
		return
	}
	x.add(x.args[1], stringPayload(x.args[2]))
	x.dirty++
	x.notify(eventString, "set", x.args[1])
	x.int(1)
}

func setexGeneric(x *call, unit int64) {
	key, val := x.args[1], x.args[3]
	at, ok := x.deadlineOf(x.args[2], x.now, unit)
	if !ok {
		return
	}
	x.db.setExpire(x.setString(key, val, false), at)
	x.dirty++
	x.notify(eventString, "set", key)
	x.notify(eventGeneric, "expire", key)
	x.propagateSet(key, val, at)
	x.ok()
}

func getsetCommand(x *call) {
	key, val := x.args[1], x.args[2]
	o, ok := x.readKindForWrite(key, kindString)
	if !ok {
		return
	}
	if o == nil {
		x.null()
	} else {
		x.bulkOf(o)
	}
	x.setString(key, val, false)
	x.dirty++
	x.notify(eventString, "set", key)
	x.propagate([]byte("SET"), key, val)
}

func getdelCommand(x *call) {
	key := x.args[1]
	o, ok := x.readKindForWrite(key, kindString)
	if !ok {
		return
	}
	if o == nil {
		x.null()
		return
	}
	x.bulkOf(o)
	x.remove(key)
	x.dirty++
	x.notify(eventGeneric, "del", key)
	x.propagate([]byte("DEL"), key)
}

func getexCommand(x *call) {
	key := x.args[1]
	opt, ok := x.setOptions(x.args[2:], true)
	if !ok {
		return
	}
	o, ok := x.readKindForWrite(key, kindString)
	if !ok {
		return
	}
	if o == nil {
		x.null()
		return
	}
	var at int64
	if opt.unit != "" {
		if at, ok = x.deadline(&opt); !ok {
			return
		}
	}
	x.bulkOf(o)
	switch {
	case at != 0 && at <= x.now && !x.fromStream:
		x.remove(key)
		x.dirty++
		x.notify(eventGeneric, "del", key)
		x.propagate([]byte("DEL"), key)
	case at != 0:
		x.db.setExpire(o, at)
		x.touch(key, o)
		x.dirty++
		x.notify(eventGeneric, "expire", key)
		x.propagate([]byte("PEXPIREAT"), key, strconv.AppendInt(nil, at, 10))
	case opt.persist && o.vol != 0:
		x.db.clearExpire(o)
		x.touch(key, o)
		x.dirty++
		x.notify(eventGeneric, "persist", key)
		x.propagate([]byte("PERSIST"), key)
	}
}

func mgetCommand(x *call) {
	x.array(len(x.args) - 1)
	var ahead hashes
	keys := x.args[1:]
	for i, key := range keys {
		if i%spanMost == 0 {
			x.aheadOf(keys[i:min(i+spanMost, len(keys))], &ahead)
		}
		x.hashed, x.hash = key, ahead[i%spanMost]
		if o := x.read(key); o != nil && o.kind == kindString {
			x.bulkOf(o)
		} else {
			x.null()
		}
	}
}

func msetGeneric(x *call, nx bool) {
	if len(x.args)%2 == 0 {
		x.errf("ERR wrong number of arguments for '%s' command", x.spec.Name)
		return
	}
	if nx {
		for i := 1; i < len(x.args); i += 2 {
			if x.write(x.args[i]) != nil {
				x.int(0)
				return
			}
		}
	}
	for i := 1; i < len(x.args); i += 2 {
		x.setString(x.args[i], x.args[i+1], false)
		x.dirty++
		x.notify(eventString, "set", x.args[i])
	}
	if nx {
		x.int(1)
	} else {
		x.ok()
	}
}

func strlenCommand(x *call) {
	o, ok := x.readKind(x.args[1], kindString)
	switch {
	case !ok:
	case o == nil:
		x.int(0)
	default:
		x.int(int64(o.stringLen()))
	}
}

// fits replies an error if a string would become too long.
func (x *call) fits(n int64) bool {
	if n > maxString {
		x.err(errTooLong)
		return false
	}
	return true
}

func appendCommand(x *call) {
	key, val := x.args[1], x.args[2]
	o, ok := x.writeKind(key, kindString)
	if !ok {
		return
	}
	if o == nil {
		o = x.add(key, stringPayload(val))
	} else {
		if !x.fits(int64(o.stringLen()) + int64(len(val))) {
			return
		}
		o.extend(val)
		x.touch(key, o)
	}
	x.dirty++
	x.notify(eventString, "append", key)
	x.int(int64(o.stringLen()))
}

// byteRange turns a first and last index, negative ones from the end, into a range of n bytes; empty if lo > hi.
func byteRange(lo, hi, n int64) (int64, int64) {
	if lo < 0 && hi < 0 && lo > hi {
		return 1, 0
	}
	return clampIndexes(lo, hi, n)
}

func clampIndexes(lo, hi, n int64) (int64, int64) {
	if lo < 0 {
		lo = max(lo+n, 0)
	}
	if hi < 0 {
		hi = max(hi+n, 0)
	}
	return lo, min(hi, n-1)
}

func getrangeCommand(x *call) {
	lo, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	hi, ok := x.argInt(x.args[3])
	if !ok {
		return
	}
	o, ok := x.readKind(x.args[1], kindString)
	if !ok {
		return
	}
	if o == nil {
		x.bulk(nil)
		return
	}
	b := o.raw0()
	if lo, hi = byteRange(lo, hi, int64(len(b))); lo > hi {
		x.bulk(nil)
		return
	}
	x.bulk(b[lo : hi+1])
}

func setrangeCommand(x *call) {
	key, val := x.args[1], x.args[3]
	at, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	if at < 0 {
		x.err("ERR offset is out of range")
		return
	}
	if len(val) > 0 && at <= maxString && at+int64(len(val)) <= maxString && !x.roomForString(key, at+int64(len(val))) {
		return
	}
	o, ok := x.writeKind(key, kindString)
	if !ok {
		return
	}
	have := 0
	if o != nil {
		have = o.stringLen()
	}
	if len(val) == 0 {
		x.int(int64(have))
		return
	}
	if at > maxString || !x.fits(at+int64(len(val))) {
		if at > maxString {
			x.err(errTooLong)
		}
		return
	}
	if o == nil {
		o = x.add(key, bytesPayload(nil, encRaw))
	}
	copy(o.own(max(have, int(at)+len(val)))[at:], val)
	x.touch(key, o)
	x.dirty++
	x.notify(eventString, "setrange", key)
	x.int(int64(o.stringLen()))
}
