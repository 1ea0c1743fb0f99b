package embedded

import (
	"math/rand/v2"
	"slices"
	"unsafe"
)

// setValue is a set. Sets of integers are an intset; small sets of strings are a listpack, which Redis 7.0 doesn't
// have (it comes in 7.2), so they call themselves "hashtable" as 7.0's are; others are a dict of members.
//
// It is 16 bytes, since most sets are small: p is the first byte of an intset or a listpack (see isIntset) of n bytes with a capacity
// of c or, when c is 0, the *bigSet.
type setValue struct {
	p    unsafe.Pointer
	n, c uint32
}

// small is the intset or listpack, nil once big.
func (s *setValue) small() []byte {
	if s.c == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(s.p), s.c)[:s.n]
}

func (s *setValue) setSmall(b []byte) {
	s.p, s.n, s.c = unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)), uint32(cap(b))
}

// big is the dict, nil while small.
func (s *setValue) big() *bigSet {
	if s.c != 0 {
		return nil
	}
	return (*bigSet)(s.p)
}

func smallSet(b []byte) *setValue {
	s := &setValue{}
	s.setSmall(b)
	return s
}

func largeSet(b *bigSet) *setValue { return &setValue{p: unsafe.Pointer(b)} }

type bigSet struct {
	dict[string]
	members int // memory of the members
}

const (
	setIntEntries  = 512 // Redis's default for set-max-intset-entries
	setPackEntries = 32  // few enough that looking at all of them is cheaper than a table
	setPackValue   = 64
)

func newSet() *setValue { return smallSet(newIntset()) }

func stringKey(s string) string { return s }

func (s *setValue) isInts() bool { return s.big() == nil && isIntset(s.small()) }

func (s *setValue) encoding() string {
	if s.isInts() {
		return "intset"
	}
	return "hashtable"
}

func (s *setValue) len() int {
	switch {
	case s.big() != nil:
		return s.big().len()
	case s.isInts():
		return intset(s.small()).count()
	}
	return listpack(s.small()).count()
}

// memory is what the set holds, in bytes.
func (s *setValue) memory() int {
	n := int(unsafe.Sizeof(*s)) + cap(s.small())
	if s.big() != nil {
		n += 8 + s.big().overhead() + s.big().members
	}
	return n
}

func (s *setValue) clone() *setValue {
	if s.big() != nil {
		return largeSet(&bigSet{dict: *s.big().clone(), members: s.big().members})
	}
	return smallSet(slices.Clone(s.small()))
}

func (s *setValue) has(member []byte) bool {
	switch {
	case s.big() != nil:
		return s.big().find(member) != nil
	case s.isInts():
		n, ok := stringInt(member)
		return ok && intset(s.small()).has(n)
	}
	return listpack(s.small()).find(member, 1) >= 0
}

func (s *setValue) add(member []byte, seed uint64) (added bool) {
	if s.isInts() {
		if n, ok := stringInt(member); ok {
			var ints intset
			ints, added = intset(s.small()).add(n)
			s.setSmall(ints)
			if intset(s.small()).count() > setIntEntries {
				s.grow(seed)
			}
			return added
		}
		if intset(s.small()).count() < setPackEntries {
			s.packInts()
		} else {
			s.grow(seed)
		}
	}
	if s.big() == nil {
		pack := listpack(s.small())
		if pack.find(member, 1) >= 0 {
			return false
		}
		if len(member) <= setPackValue && pack.count() < setPackEntries {
			s.setSmall(pack.push(member))
			return true
		}
		s.grow(seed)
	}
	if s.big().find(member) != nil {
		return false
	}
	s.big().insert(string(member))
	s.big().members += allocated(len(member))
	return true
}

// packInts turns an intset into a listpack.
func (s *setValue) packInts() {
	ints, pack := intset(s.small()), newListpack()
	var scratch [16]byte
	for i := range ints.count() {
		end := len(pack) - 1
		pack = pack.splice(end, end, lpAppendInt(scratch[:0], ints.at(i)), 1)
	}
	s.setSmall(pack)
}

// grow turns whatever it is into a dict.
func (s *setValue) grow(seed uint64) {
	big := &bigSet{dict: *newDict(seed, s.len()+1, stringKey)}
	s.each(func(v lpValue) bool {
		m := v.String()
		big.insert(m)
		big.members += allocated(len(m))
		return true
	})
	*s = *largeSet(big)
}

func (s *setValue) remove(member []byte) (removed bool) {
	switch {
	case s.big() != nil:
		m, ok := s.big().remove(member)
		if ok {
			s.big().members -= allocated(len(m))
		}
		return ok
	case s.isInts():
		n, ok := stringInt(member)
		if ok {
			var ints intset
			ints, removed = intset(s.small()).remove(n)
			s.setSmall(ints)
		}
		return removed
	}
	pack := listpack(s.small())
	p := pack.find(member, 1)
	if p >= 0 {
		s.setSmall(pack.remove(p, 1))
	}
	return p >= 0
}

// each visits every member until visit returns false. The value is good during the visit only.
func (s *setValue) each(visit func(lpValue) bool) {
	switch {
	case s.big() != nil:
		s.big().each(func(m string) bool { return visit(lpValue{s: memberBytes(m)}) })
	case s.isInts():
		ints := intset(s.small())
		for i := range ints.count() {
			if !visit(lpValue{n: ints.at(i)}) {
				return
			}
		}
	default:
		pack := listpack(s.small())
		for p := lpHeader; !pack.atEnd(p); {
			v, next := lpDecode(pack, p)
			if !visit(v) {
				return
			}
			p = next
		}
	}
}

// scan visits the members of one SCAN cursor position. A small set is visited whole.
func (s *setValue) scan(cursor uint64, visit func(lpValue)) uint64 {
	if s.big() != nil {
		return s.big().scan(cursor, func(m string) { visit(lpValue{s: memberBytes(m)}) })
	}
	s.each(func(v lpValue) bool { visit(v); return true })
	return 0
}

// random returns one member, each with the same probability.
func (s *setValue) random() lpValue {
	switch {
	case s.big() != nil:
		return lpValue{s: memberBytes(s.big().random())}
	case s.isInts():
		ints := intset(s.small())
		return lpValue{n: ints.at(rand.IntN(ints.count()))}
	}
	pack := listpack(s.small())
	v, _ := lpDecode(pack, pack.seek(rand.IntN(pack.count())))
	return v
}
