package embedded

import (
	"math"

	"respmesh/resp/frame"
)

// bitfieldOp is one GET, SET or INCRBY on a field of up to 64 bits.
type bitfieldOp struct {
	verb     byte // g, s, i
	signed   bool
	width    uint
	at       int64
	value    int64
	overflow byte // w(rap), s(aturate), f(ail)
}

const errBitfieldType = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."

func (x *call) bitfieldOps(args [][]byte) (ops []bitfieldOp, writes bool, ok bool) {
	overflow := byte('w')
	for i := 0; i < len(args); {
		left := len(args) - i - 1
		op := bitfieldOp{overflow: overflow}
		switch a := args[i]; {
		case is(a, "GET") && left >= 2:
			op.verb = 'g'
		case is(a, "SET") && left >= 3:
			op.verb = 's'
		case is(a, "INCRBY") && left >= 3:
			op.verb = 'i'
		case is(a, "OVERFLOW") && left >= 1:
			switch o := args[i+1]; {
			case is(o, "WRAP"), is(o, "SAT"), is(o, "FAIL"):
				overflow = o[0] | 0x20
			default:
				x.err("ERR Invalid OVERFLOW type specified")
				return nil, false, false
			}
			i += 2
			continue
		default:
			x.syntax()
			return nil, false, false
		}
		t := args[i+1]
		n, num := int64(0), false
		if len(t) > 1 {
			n, num = frame.ParseInt(t[1:])
		}
		op.signed = len(t) > 0 && t[0] == 'i'
		if !num || t[0] != 'i' && t[0] != 'u' || n < 1 || n > 64 || !op.signed && n > 63 {
			x.err(errBitfieldType)
			return nil, false, false
		}
		op.width = uint(n)
		if op.at, ok = x.argBitOffset(args[i+2], true, n); !ok {
			return nil, false, false
		}
		i += 3
		if op.verb != 'g' {
			writes = true
			if op.value, ok = x.argInt(args[i]); !ok {
				return nil, false, false
			}
			i++
		}
		ops = append(ops, op)
	}
	return ops, writes, true
}

func bitfieldGeneric(x *call, readonly bool) {
	ops, writes, ok := x.bitfieldOps(x.args[2:])
	if !ok {
		return
	}
	if readonly && writes {
		x.err("ERR BITFIELD_RO only supports the GET subcommand")
		return
	}
	var b []byte
	var o *object
	grown := false
	if !writes {
		if b, ok = x.stringForBits(x.args[1]); !ok {
			return
		}
	} else {
		end := int64(0)
		for _, op := range ops {
			if op.verb != 'g' {
				end = max(end, op.at+int64(op.width)-1)
			}
		}
		if b, o, grown = x.bitsForWrite(x.args[1], end); o == nil {
			return
		}
	}
	x.array(len(ops))
	changes := 0
	for _, op := range ops {
		old := op.get(b)
		if op.verb == 'g' {
			x.int(old)
			continue
		}
		val, fits := op.next(old)
		if !fits && op.overflow == 'f' {
			x.null()
			continue
		}
		op.put(b, uint64(val))
		if op.verb == 's' {
			x.int(old)
		} else {
			x.int(val)
		}
		if grown || val != old {
			changes++
		}
	}
	if changes > 0 {
		x.touch(x.args[1], o)
		x.notify(eventString, "setbit", x.args[1])
	}
	if changes > 0 || grown {
		x.dirty++ // when it has grown, replicas' must too, even if all operations failed
	}
}

// get reads the field; bits beyond the end are 0.
func (op *bitfieldOp) get(b []byte) int64 {
	var v uint64
	for i := range int64(op.width) {
		at := op.at + i
		v <<= 1
		if at>>3 < int64(len(b)) {
			v |= uint64(b[at>>3] >> (7 - at&7) & 1)
		}
	}
	if op.signed && op.width < 64 && v>>(op.width-1) == 1 {
		v |= math.MaxUint64 << op.width
	}
	return int64(v)
}

func (op *bitfieldOp) put(b []byte, v uint64) {
	for i := range int64(op.width) {
		at := op.at + i
		bit := byte(v>>(op.width-1-uint(i))) & 1
		shift := 7 - at&7
		b[at>>3] = b[at>>3]&^(1<<shift) | bit<<shift
	}
}

// next is what to store, after the overflow rule; fits tells whether the rule was needed.
func (op *bitfieldOp) next(old int64) (v int64, fits bool) {
	lo, hi := int64(0), int64(math.MaxInt64)
	if op.signed {
		hi = int64(uint64(1)<<(op.width-1) - 1)
		lo = -hi - 1
	} else {
		hi = int64(uint64(1)<<op.width - 1)
	}
	sum, over := op.value, 0
	if op.verb == 'i' {
		sum = old + op.value
		switch {
		case op.value > 0 && (sum < old || sum > hi):
			over = 1
		case op.value < 0 && (sum > old || sum < lo):
			over = -1
		}
	} else if !op.signed && op.value < 0 {
		over = 1 // taken as unsigned, it is too big
	} else if op.value > hi || op.value < lo && hi-op.value < 0 {
		over = 1 // so far below that Redis's difference turns round
	} else if op.value < lo {
		over = -1
	}
	switch {
	case over == 0:
		return sum, true
	case op.overflow == 's' && over > 0:
		return hi, false
	case op.overflow == 's':
		return lo, false
	}
	u := uint64(sum)
	if op.width < 64 {
		u &= 1<<op.width - 1
		if op.signed && u>>(op.width-1) == 1 {
			u |= math.MaxUint64 << op.width
		}
	}
	return int64(u), false
}
