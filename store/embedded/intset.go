package embedded

import (
	"encoding/binary"
	"math"
)

// intset is Redis's encoding of small sets of integers, byte for byte: 4 bytes that say how many bytes a member takes
// (2, 4 or 8, the fewest that hold every one), 4 bytes of count, and the members in order.
type intset []byte

const intsetHeader = 8

func newIntset() intset { return append(intset(nil), 2, 0, 0, 0, 0, 0, 0, 0) }

// isIntset tells an intset from a listpack, whose first 4 bytes are its length: 7 when empty, more than 8 otherwise.
func isIntset(b []byte) bool {
	switch binary.LittleEndian.Uint32(b) {
	case 2, 4, 8:
		return true
	}
	return false
}

func intWidth(n int64) int {
	switch {
	case n >= math.MinInt16 && n <= math.MaxInt16:
		return 2
	case n >= math.MinInt32 && n <= math.MaxInt32:
		return 4
	}
	return 8
}

func (s intset) width() int { return int(s[0]) }

func (s intset) count() int { return int(binary.LittleEndian.Uint32(s[4:])) }

func (s intset) at(i int) int64 {
	switch p := s[intsetHeader:]; s.width() {
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(p[i*2:])))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(p[i*4:])))
	default:
		return int64(binary.LittleEndian.Uint64(p[i*8:]))
	}
}

func (s intset) put(i int, n int64) {
	switch p := s[intsetHeader:]; s.width() {
	case 2:
		binary.LittleEndian.PutUint16(p[i*2:], uint16(n))
	case 4:
		binary.LittleEndian.PutUint32(p[i*4:], uint32(n))
	default:
		binary.LittleEndian.PutUint64(p[i*8:], uint64(n))
	}
}

// search returns the index of n, or where it would have to be inserted.
func (s intset) search(n int64) (int, bool) {
	lo, hi := 0, s.count()
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch v := s.at(mid); {
		case v == n:
			return mid, true
		case v < n:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

func (s intset) has(n int64) bool {
	if s.width() < intWidth(n) {
		return false
	}
	_, ok := s.search(n)
	return ok
}

// add returns the set with n in it; it may share s's memory.
func (s intset) add(n int64) (intset, bool) {
	if w := intWidth(n); w > s.width() {
		s = s.widen(w)
	}
	i, ok := s.search(n)
	if ok {
		return s, false
	}
	w, size := s.width(), len(s)+s.width()
	at := intsetHeader + i*w
	grown := s
	if size > cap(s) {
		grown = growTo(size)
		copy(grown, s[:at])
	} else {
		grown = s[:size]
	}
	copy(grown[at+w:], s[at:])
	grown.put(i, n)
	grown.setCount(s.count() + 1)
	return grown, true
}

func (s intset) setCount(n int) { binary.LittleEndian.PutUint32(s[4:], uint32(n)) }

func (s intset) widen(w int) intset {
	n := intset(growTo(intsetHeader + s.count()*w))
	n[0] = byte(w)
	n.setCount(s.count())
	for i := range s.count() {
		n.put(i, s.at(i))
	}
	return n
}

// remove returns the set without n, in the same memory.
func (s intset) remove(n int64) (intset, bool) {
	if s.width() < intWidth(n) {
		return s, false
	}
	i, ok := s.search(n)
	if !ok {
		return s, false
	}
	w := s.width()
	at := intsetHeader + i*w
	copy(s[at:], s[at+w:])
	s.setCount(s.count() - 1)
	return s[:len(s)-w], true
}
