package embedded

import (
	"encoding/binary"
	"math/bits"

	"respmesh/resp/frame"
)

func bitmapCommands() []registration {
	return []registration{
		{name: "setbit", handle: setbitCommand},
		{name: "getbit", handle: getbitCommand},
		{name: "bitcount", handle: bitcountCommand},
		{name: "bitpos", handle: bitposCommand},
		{name: "bitop", handle: bitopCommand},
		{name: "bitfield", handle: func(x *call) { bitfieldGeneric(x, false) }},
		{name: "bitfield_ro", handle: func(x *call) { bitfieldGeneric(x, true) }},
	}
}

const errBitOffset = "ERR bit offset is not an integer or out of range"

// argBitOffset reads a bit's place; with hash set "#n" means the n-th field of the width.
func (x *call) argBitOffset(b []byte, hash bool, width int64) (int64, bool) {
	scaled := hash && len(b) > 0 && b[0] == '#'
	if scaled {
		b = b[1:]
	}
	n, ok := frame.ParseInt(b)
	if scaled && ok && width > 0 {
		if ok = n <= maxString*8/width; ok {
			n *= width
		}
	}
	if !ok || n < 0 || n>>3 >= maxString {
		x.err(errBitOffset)
		return 0, false
	}
	return n, true
}

// stringForBits looks up a string and gives its bytes; nil if there is none.
func (x *call) stringForBits(key []byte) ([]byte, bool) {
	o, ok := x.readKind(key, kindString)
	if !ok || o == nil {
		return nil, ok
	}
	return o.raw0(), true
}

func setbitCommand(x *call) {
	at, ok := x.argBitOffset(x.args[2], false, 0)
	if !ok {
		return
	}
	if len(x.args[3]) != 1 || x.args[3][0]&^1 != '0' {
		x.err("ERR bit is not an integer or out of range")
		return
	}
	on := x.args[3][0] & 1
	b, o, grown := x.bitsForWrite(x.args[1], at)
	if o == nil {
		return
	}
	shift := 7 - at&7
	old := b[at>>3] >> shift & 1
	b[at>>3] = b[at>>3]&^(1<<shift) | on<<shift
	if grown || old != on {
		x.touch(x.args[1], o)
		x.dirty++
		x.notify(eventString, "setbit", x.args[1])
	}
	x.int(int64(old))
}

// bitsForWrite makes the string long enough for the bit at and tells whether it had to grow. A nil object means that the
// error has been replied.
func (x *call) bitsForWrite(key []byte, at int64) (b []byte, o *object, grown bool) {
	if !x.roomForString(key, at>>3+1) {
		return nil, nil, false
	}
	o, ok := x.writeKind(key, kindString)
	if !ok {
		return nil, nil, false
	}
	have := -1
	if o == nil {
		o = x.add(key, bytesPayload(nil, encRaw))
	} else {
		have = o.stringLen()
	}
	b = o.own(max(have, int(at>>3)+1))
	x.db.account(o) // also if nothing else changes
	return b, o, len(b) != have
}

func getbitCommand(x *call) {
	at, ok := x.argBitOffset(x.args[2], false, 0)
	if !ok {
		return
	}
	b, ok := x.stringForBits(x.args[1])
	if !ok {
		return
	}
	if at>>3 >= int64(len(b)) {
		x.int(0)
		return
	}
	x.int(int64(b[at>>3] >> (7 - at&7) & 1))
}

// popcount counts the bits set.
func popcount(b []byte) (n int64) {
	for ; len(b) >= 8; b = b[8:] {
		n += int64(bits.OnesCount64(binary.LittleEndian.Uint64(b)))
	}
	for _, c := range b {
		n += int64(bits.OnesCount8(c))
	}
	return n
}

// bitRange is a range of bits within whole bytes: the first and last byte, and what of them doesn't belong.
type bitRange struct {
	lo, hi            int64
	firstSkip, lastOK byte // masks: bits before the range in the first byte; bits within it in the last
}

// argBitRange reads "start [end [BYTE|BIT]]" against n bytes; empty ranges have lo > hi. For BITCOUNT, but not for BITPOS,
// negative indexes in the wrong order are an empty range even if both are cut to the beginning.
func (x *call) argBitRange(args [][]byte, n int64, count bool) (r bitRange, ok bool) {
	lo, hi := int64(0), int64(-1)
	if lo, ok = x.argInt(args[0]); !ok {
		return r, false
	}
	if count && len(args) > 1 { // BITPOS looks at the unit first
		if hi, ok = x.argInt(args[1]); !ok {
			return r, false
		}
	}
	inBits := false
	if len(args) == 3 {
		switch {
		case is(args[2], "BIT"):
			inBits = true
		case !is(args[2], "BYTE"):
			x.syntax()
			return r, false
		}
	}
	if len(args) > 1 {
		if hi, ok = x.argInt(args[1]); !ok {
			return r, false
		}
	}
	rawLo, rawHi := lo, hi
	total := n
	if inBits {
		total *= 8
	}
	if lo, hi = clampIndexes(lo, hi, total); count && rawLo < 0 && rawHi < 0 && rawLo > rawHi {
		lo, hi = 1, 0
	}
	r.lastOK = 0xff
	if lo > hi || n == 0 {
		r.lo, r.hi = 1, 0
		return r, true
	}
	if inBits {
		r.firstSkip = ^byte(0xff >> (lo & 7))
		r.lastOK = ^byte(0x7f >> (hi & 7))
		lo, hi = lo>>3, hi>>3
	}
	r.lo, r.hi = lo, hi
	return r, true
}

func bitcountCommand(x *call) {
	b, ok := x.stringForBits(x.args[1])
	if !ok {
		return
	}
	if len(x.args) == 2 {
		x.int(popcount(b))
		return
	}
	if b == nil {
		x.int(0)
		return
	}
	if len(x.args) != 4 && len(x.args) != 5 {
		x.syntax()
		return
	}
	r, ok := x.argBitRange(x.args[2:], int64(len(b)), true)
	if !ok {
		return
	}
	if r.lo > r.hi {
		x.int(0)
		return
	}
	n := popcount(b[r.lo : r.hi+1])
	n -= int64(bits.OnesCount8(b[r.lo] & r.firstSkip))
	n -= int64(bits.OnesCount8(b[r.hi] &^ r.lastOK))
	x.int(n)
}

func bitposCommand(x *call) {
	want, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	if want != 0 && want != 1 {
		x.err("ERR The bit argument must be 1 or 0.")
		return
	}
	b, ok := x.stringForBits(x.args[1])
	if !ok {
		return
	}
	if b == nil {
		x.int(-want)
		return
	}
	if len(x.args) > 6 {
		x.syntax()
		return
	}
	r := bitRange{hi: int64(len(b)) - 1, lastOK: 0xff}
	if len(x.args) > 3 {
		if r, ok = x.argBitRange(x.args[3:], int64(len(b)), false); !ok {
			return
		}
	}
	if r.lo > r.hi {
		x.int(-1)
		return
	}
	for i := r.lo; i <= r.hi; i++ {
		c := b[i]
		if want == 0 {
			c = ^c
		}
		if i == r.lo {
			c &^= r.firstSkip
		}
		if i == r.hi {
			c &= r.lastOK
		}
		if c != 0 {
			x.int(i*8 + int64(bits.LeadingZeros8(c)))
			return
		}
	}
	// Looking for a 0 without an end, the string goes on with zeros.
	if want == 0 && len(x.args) < 5 {
		x.int(int64(len(b)) * 8)
		return
	}
	x.int(-1)
}

func bitopCommand(x *call) {
	op, dst, keys := x.args[1], x.args[2], x.args[3:]
	not := is(op, "NOT")
	if !not && !is(op, "AND") && !is(op, "OR") && !is(op, "XOR") {
		x.syntax()
		return
	}
	if not && len(keys) != 1 {
		x.err("ERR BITOP NOT must be called with a single source key.")
		return
	}
	from, longest := make([][]byte, len(keys)), 0
	for i, key := range keys {
		b, ok := x.stringForBits(key)
		if !ok {
			return
		}
		from[i], longest = b, max(longest, len(b))
	}
	if longest == 0 {
		if x.remove(dst) {
			x.notify(eventGeneric, "del", dst)
			x.dirty++
		}
		x.int(0)
		return
	}
	out := append(make([]byte, 0, longest), from[0]...)[:longest]
	for _, b := range from[1:] {
		combineBits(op, out, b)
	}
	if not {
		for i := range out {
			out[i] = ^out[i]
		}
	}
	if !x.room(int64(longest)) {
		return
	}
	x.replace(dst, bytesPayload(out, encRaw), false)
	x.notify(eventString, "set", dst)
	x.dirty++
	x.int(int64(longest))
}

// combineBits applies the operation to out; b is as if filled up with zeros.
func combineBits(op, out, b []byte) {
	switch op[0] | 0x20 {
	case 'a':
		for i, c := range b {
			out[i] &= c
		}
		clear(out[len(b):])
	case 'o':
		for i, c := range b {
			out[i] |= c
		}
	case 'x':
		for i, c := range b {
			out[i] ^= c
		}
	}
}
