package embedded

import (
	"encoding/binary"
	"math"
)

// intset is a sorted array of integers, all of the smallest of 2, 4 or 8 bytes that holds every one: Redis's
// encoding of small sets of integers.
type intset struct {
	width int // bytes per member
	data  []byte
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

func (s *intset) count() int {
	if s.width == 0 {
		return 0
	}
	return len(s.data) / s.width
}

func (s *intset) at(i int) int64 {
	switch s.width {
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(s.data[i*2:])))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(s.data[i*4:])))
	default:
		return int64(binary.LittleEndian.Uint64(s.data[i*8:]))
	}
}

func (s *intset) put(i int, n int64) {
	switch s.width {
	case 2:
		binary.LittleEndian.PutUint16(s.data[i*2:], uint16(n))
	case 4:
		binary.LittleEndian.PutUint32(s.data[i*4:], uint32(n))
	default:
		binary.LittleEndian.PutUint64(s.data[i*8:], uint64(n))
	}
}

// search returns the index of n, or where it would have to be inserted.
func (s *intset) search(n int64) (int, bool) {
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

func (s *intset) has(n int64) bool {
	if s.width < intWidth(n) {
		return false
	}
	_, ok := s.search(n)
	return ok
}

func (s *intset) add(n int64) bool {
	if w := intWidth(n); w > s.width {
		s.widen(w)
	}
	i, ok := s.search(n)
	if ok {
		return false
	}
	size := len(s.data) + s.width
	if size > cap(s.data) {
		d := growTo(size)
		copy(d, s.data[:i*s.width])
		copy(d[(i+1)*s.width:], s.data[i*s.width:])
		s.data = d
	} else {
		s.data = s.data[:size]
		copy(s.data[(i+1)*s.width:], s.data[i*s.width:size-s.width])
	}
	s.put(i, n)
	return true
}

func (s *intset) widen(w int) {
	old := *s
	s.width = w
	s.data = growTo(old.count() * w)
	for i := range old.count() {
		s.put(i, old.at(i))
	}
}

func (s *intset) remove(n int64) bool {
	if s.width < intWidth(n) {
		return false
	}
	i, ok := s.search(n)
	if ok {
		s.removeAt(i)
	}
	return ok
}

func (s *intset) removeAt(i int) {
	copy(s.data[i*s.width:], s.data[(i+1)*s.width:])
	s.data = s.data[:len(s.data)-s.width]
}
