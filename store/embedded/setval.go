package embedded

import (
	"math/rand/v2"
	"slices"
	"unsafe"
)

// setValue is a set. Sets of integers are an intset; small sets of strings are a listpack, which Redis 7.0 doesn't
// have (it comes in 7.2), so they call themselves "hashtable" as 7.0's are; others are a dict of members.
type setValue struct {
	ints    *intset
	pack    listpack
	big     *dict[string]
	members int // memory of big's members
}

const (
	setIntEntries  = 512 // Redis's default for set-max-intset-entries
	setPackEntries = 32  // few enough that looking at all of them is cheaper than a table
	setPackValue   = 64
)

func newSet() *setValue { return &setValue{ints: &intset{}} }

func stringKey(s string) string { return s }

func (s *setValue) encoding() string {
	if s.ints != nil {
		return "intset"
	}
	return "hashtable"
}

func (s *setValue) len() int {
	switch {
	case s.ints != nil:
		return s.ints.count()
	case s.big != nil:
		return s.big.len()
	}
	return s.pack.count()
}

// memory is what the set holds, in bytes.
func (s *setValue) memory() int {
	n := int(unsafe.Sizeof(*s)) + cap(s.pack)
	switch {
	case s.ints != nil:
		n += int(unsafe.Sizeof(*s.ints)) + cap(s.ints.data)
	case s.big != nil:
		n += s.big.overhead() + s.members
	}
	return n
}

func (s *setValue) clone() *setValue {
	n := &setValue{pack: slices.Clone(s.pack), members: s.members}
	switch {
	case s.ints != nil:
		n.ints = &intset{width: s.ints.width, data: slices.Clone(s.ints.data)}
	case s.big != nil:
		n.big = s.big.clone()
	}
	return n
}

func (s *setValue) has(member []byte) bool {
	switch {
	case s.ints != nil:
		n, ok := stringInt(member)
		return ok && s.ints.has(n)
	case s.big != nil:
		return s.big.find(member) != nil
	}
	return s.pack.find(member, 1) >= 0
}

func (s *setValue) add(member []byte, seed uint64) bool {
	if s.ints != nil {
		if n, ok := stringInt(member); ok {
			if !s.ints.add(n) {
				return false
			}
			if s.ints.count() > setIntEntries {
				s.grow(seed)
			}
			return true
		}
		if s.ints.count() < setPackEntries && len(member) <= setPackValue {
			s.packInts()
		} else {
			s.grow(seed)
		}
	}
	if s.big == nil {
		if s.pack.find(member, 1) >= 0 {
			return false
		}
		if len(member) <= setPackValue && s.pack.count() < setPackEntries {
			s.pack = s.pack.push(member)
			return true
		}
		s.grow(seed)
	}
	if s.big.find(member) != nil {
		return false
	}
	s.big.insert(string(member))
	s.members += roundAlloc(len(member))
	return true
}

// packInts turns an intset into a listpack.
func (s *setValue) packInts() {
	pack := newListpack()
	var scratch [16]byte
	for i := range s.ints.count() {
		end := len(pack) - 1
		pack = pack.splice(end, end, lpAppendInt(scratch[:0], s.ints.at(i)), 1)
	}
	s.ints, s.pack = nil, pack
}

// grow turns whatever it is into a dict.
func (s *setValue) grow(seed uint64) {
	big := newDict(seed, s.len()+1, stringKey)
	s.each(func(v lpValue) bool {
		m := v.String()
		big.insert(m)
		s.members += roundAlloc(len(m))
		return true
	})
	s.ints, s.pack, s.big = nil, nil, big
}

func (s *setValue) remove(member []byte) bool {
	switch {
	case s.ints != nil:
		n, ok := stringInt(member)
		return ok && s.ints.remove(n)
	case s.big != nil:
		m, ok := s.big.remove(member)
		if ok {
			s.members -= roundAlloc(len(m))
		}
		return ok
	}
	p := s.pack.find(member, 1)
	if p >= 0 {
		s.pack = s.pack.remove(p, 1)
	}
	return p >= 0
}

// each visits every member until visit returns false. The value is good during the visit only.
func (s *setValue) each(visit func(lpValue) bool) {
	switch {
	case s.ints != nil:
		for i := range s.ints.count() {
			if !visit(lpValue{n: s.ints.at(i)}) {
				return
			}
		}
	case s.big != nil:
		s.big.each(func(m string) bool { return visit(lpValue{s: memberBytes(m)}) })
	default:
		for p := lpHeader; !s.pack.atEnd(p); {
			v, next := lpDecode(s.pack, p)
			if !visit(v) {
				return
			}
			p = next
		}
	}
}

// scan visits the members of one SCAN cursor position. A small set is visited whole.
func (s *setValue) scan(cursor uint64, visit func(lpValue)) uint64 {
	if s.big != nil {
		return s.big.scan(cursor, func(m string) { visit(lpValue{s: memberBytes(m)}) })
	}
	s.each(func(v lpValue) bool { visit(v); return true })
	return 0
}

// random returns one member, each with the same probability.
func (s *setValue) random() lpValue {
	switch {
	case s.ints != nil:
		return lpValue{n: s.ints.at(rand.IntN(s.ints.count()))}
	case s.big != nil:
		return lpValue{s: memberBytes(s.big.random())}
	}
	v, _ := lpDecode(s.pack, s.pack.seek(rand.IntN(s.pack.count())))
	return v
}
