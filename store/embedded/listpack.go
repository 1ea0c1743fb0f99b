package embedded

import (
	"encoding/binary"
	"math"
	"strconv"
)

// listpack is Redis's packed sequence of strings and integers, byte for byte (redis/src/listpack.md): a header of
// 4 bytes total length and 2 bytes count, entries, 0xFF. Small hashes, sorted sets and sets are one listpack each.
//
// An entry is its encoding byte(s), its data, and its own length written so that it can be read backwards. The
// functions on entries (lpDecode, lpPrev, lpAppend…) work on any run of entries; list chunks use them without the
// header.
type listpack []byte

const (
	lpHeader   = 6
	lpEnd      = 0xFF
	lpMaxCount = math.MaxUint16 // a header with this count means "walk to know"
)

// lpValue is one decoded entry: an integer when s is nil, else the bytes (never nil, aliasing the pack).
type lpValue struct {
	s []byte
	n int64
}

// appendTo appends the value as a string.
func (v lpValue) appendTo(dst []byte) []byte {
	if v.s != nil {
		return append(dst, v.s...)
	}
	return strconv.AppendInt(dst, v.n, 10)
}

// bytes returns the value as a string, formatting integers into scratch.
func (v lpValue) bytes(scratch *[24]byte) []byte {
	if v.s != nil {
		return v.s
	}
	return strconv.AppendInt(scratch[:0], v.n, 10)
}

func (v lpValue) String() string { return string(v.appendTo(nil)) }

// lpKey is a string to be looked for, parsed once.
type lpKey struct {
	s     []byte
	n     int64
	isInt bool
}

func newLPKey(s []byte) lpKey {
	n, ok := stringInt(s)
	return lpKey{s: s, n: n, isInt: ok}
}

// is tells whether the entry holds the key. Every string that can be an integer is stored as one, so an integer
// key never has to be compared with bytes.
func (v lpValue) is(k *lpKey) bool {
	if v.s == nil {
		return k.isInt && v.n == k.n
	}
	return !k.isInt && string(v.s) == string(k.s)
}

// lpDecode reads the entry at pos and returns the position of the next one.
func lpDecode(p []byte, pos int) (v lpValue, next int) {
	b := p[pos]
	switch {
	case b < 0x80:
		return lpValue{n: int64(b)}, pos + 2
	case b < 0xC0:
		n := int(b & 0x3F)
		return lpValue{s: p[pos+1 : pos+1+n : pos+1+n]}, pos + 1 + n + lpBackLen(1+n)
	case b < 0xE0:
		n := int64(b&0x1F)<<8 | int64(p[pos+1])
		if n >= 1<<12 {
			n -= 1 << 13
		}
		return lpValue{n: n}, pos + 3
	case b < 0xF0:
		n := int(b&0x0F)<<8 | int(p[pos+1])
		return lpValue{s: p[pos+2 : pos+2+n : pos+2+n]}, pos + 2 + n + lpBackLen(2+n)
	}
	switch b {
	case 0xF0:
		n := int(binary.LittleEndian.Uint32(p[pos+1:]))
		return lpValue{s: p[pos+5 : pos+5+n : pos+5+n]}, pos + 5 + n + lpBackLen(5+n)
	case 0xF1:
		return lpValue{n: int64(int16(binary.LittleEndian.Uint16(p[pos+1:])))}, pos + 4
	case 0xF2:
		n := int32(uint32(p[pos+1])<<8|uint32(p[pos+2])<<16|uint32(p[pos+3])<<24) >> 8
		return lpValue{n: int64(n)}, pos + 5
	case 0xF3:
		return lpValue{n: int64(int32(binary.LittleEndian.Uint32(p[pos+1:])))}, pos + 6
	case 0xF4:
		return lpValue{n: int64(binary.LittleEndian.Uint64(p[pos+1:]))}, pos + 10
	}
	panic("embedded: corrupt listpack entry")
}

// lpSkip returns the position after the entry at pos.
func lpSkip(p []byte, pos int) int {
	b := p[pos]
	if b < 0x80 {
		return pos + 2
	}
	if b < 0xC0 {
		return pos + 2 + int(b&0x3F)
	}
	_, next := lpDecode(p, pos)
	return next
}

// lpPrev returns where the entry that ends at pos begins.
func lpPrev(p []byte, pos int) int {
	i, n, shift := pos-1, 0, 0
	for {
		n |= int(p[i]&0x7F) << shift
		if p[i]&0x80 == 0 {
			return i - n
		}
		shift += 7
		i--
	}
}

// lpBackLen is the size of the backwards-readable length of an entry of n bytes.
func lpBackLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	case n < 1<<28:
		return 4
	}
	return 5
}

func lpAppendBackLen(dst []byte, n int) []byte {
	switch l := lpBackLen(n); l {
	case 1:
		return append(dst, byte(n))
	default:
		dst = append(dst, byte(n>>(7*(l-1))))
		for i := l - 2; i >= 0; i-- {
			dst = append(dst, byte(n>>(7*i))&0x7F|0x80)
		}
		return dst
	}
}

// lpAppend appends one entry; an integer in canonical form is stored as an integer.
func lpAppend(dst, s []byte) []byte {
	if n, ok := stringInt(s); ok {
		return lpAppendInt(dst, n)
	}
	return lpAppendString(dst, s)
}

func lpAppendString(dst, s []byte) []byte {
	n := len(s)
	switch {
	case n < 64:
		dst = append(dst, 0x80|byte(n))
		dst = append(dst, s...)
		return append(dst, byte(n+1))
	case n < 4096:
		dst = append(dst, 0xE0|byte(n>>8), byte(n))
		dst = append(dst, s...)
		return lpAppendBackLen(dst, n+2)
	default:
		dst = append(dst, 0xF0)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
		dst = append(dst, s...)
		return lpAppendBackLen(dst, n+5)
	}
}

func lpAppendInt(dst []byte, n int64) []byte {
	switch {
	case n >= 0 && n <= 127:
		return append(dst, byte(n), 1)
	case n >= -4096 && n <= 4095:
		return append(dst, 0xC0|byte(n>>8)&0x1F, byte(n), 2)
	case n >= math.MinInt16 && n <= math.MaxInt16:
		return append(dst, 0xF1, byte(n), byte(n>>8), 3)
	case n >= -1<<23 && n < 1<<23:
		return append(dst, 0xF2, byte(n), byte(n>>8), byte(n>>16), 4)
	case n >= math.MinInt32 && n <= math.MaxInt32:
		return append(binary.LittleEndian.AppendUint32(append(dst, 0xF3), uint32(n)), 5)
	default:
		return append(binary.LittleEndian.AppendUint64(append(dst, 0xF4), uint64(n)), 9)
	}
}

func newListpack() listpack {
	return listpack{lpHeader + 1, 0, 0, 0, 0, 0, lpEnd}
}

// count is the number of entries.
func (l listpack) count() int {
	n := int(binary.LittleEndian.Uint16(l[4:]))
	if n < lpMaxCount {
		return n
	}
	n = 0
	for p := lpHeader; !l.atEnd(p); p = lpSkip(l, p) {
		n++
	}
	return n
}

func (l listpack) atEnd(pos int) bool { return pos >= len(l)-1 }

// seek returns the position of the entry with this index, from whichever end is nearer.
func (l listpack) seek(index int) int {
	n := l.count()
	if index > n/2 {
		p := len(l) - 1
		for ; n > index; n-- {
			p = lpPrev(l, p)
		}
		return p
	}
	p := lpHeader
	for range index {
		p = lpSkip(l, p)
	}
	return p
}

// find looks at every stride-th entry, starting with the first, and returns its position or -1.
func (l listpack) find(key []byte, stride int) int {
	k := newLPKey(key)
	for p := lpHeader; !l.atEnd(p); {
		v, next := lpDecode(l, p)
		if v.is(&k) {
			return p
		}
		for range stride - 1 {
			next = lpSkip(l, next)
		}
		p = next
	}
	return -1
}

// splice replaces the bytes [from,to) by entries, and changes the count by delta. The result may share l's memory.
func (l listpack) splice(from, to int, entries []byte, delta int) listpack {
	grow := len(entries) - (to - from)
	size, old := len(l)+grow, len(l)
	switch {
	case size > cap(l):
		n := growTo(size)
		copy(n, l[:from])
		copy(n[from+len(entries):], l[to:])
		l = n
	case grow > 0:
		l = l[:size]
		copy(l[from+len(entries):], l[to:old])
	case grow < 0:
		copy(l[from+len(entries):], l[to:])
		l = l[:size]
		if size < cap(l)/2 {
			n := growTo(size)
			copy(n, l)
			l = n
		}
	}
	copy(l[from:], entries)
	count := int(binary.LittleEndian.Uint16(l[4:]))
	if count < lpMaxCount {
		count = min(count+delta, lpMaxCount)
	} else if delta < 0 {
		count = min(l.count(), lpMaxCount)
	}
	binary.LittleEndian.PutUint16(l[4:], uint16(count))
	binary.LittleEndian.PutUint32(l, uint32(len(l)))
	return l
}

// growTo allocates n bytes and hands out all of the allocator's size class as capacity, so that a pack that grows
// entry by entry is copied once per size class and wastes nothing.
func growTo(n int) []byte {
	return append([]byte(nil), make([]byte, n)...)
}

// push appends one entry.
func (l listpack) push(s []byte) listpack {
	var scratch [80]byte
	at := len(l) - 1
	return l.splice(at, at, lpAppend(scratch[:0], s), 1)
}

// remove deletes n entries from pos.
func (l listpack) remove(pos, n int) listpack {
	end := pos
	for range n {
		end = lpSkip(l, end)
	}
	return l.splice(pos, end, nil, -n)
}
