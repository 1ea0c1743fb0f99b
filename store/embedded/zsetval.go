package embedded

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"unsafe"
)

// zset is a sorted set: a listpack of member, score, member, score… in order while small, then a tree with a dict of its
// members. It calls itself a skiplist then, as Redis's does.
type zset struct {
	pack listpack // nil once big
	big  *bigZSet
}

type bigZSet struct {
	tree    zsetTree
	members *dict[*zmember]
	memory  int // of the members
}

// Redis's defaults for zset-max-listpack-entries and -value.
const (
	zsetPackEntries = 128
	zsetPackValue   = 64
)

func newZSet() *zset { return &zset{pack: newListpack()} }

func (z *zset) encoding() string {
	if z.big != nil {
		return "skiplist"
	}
	return "listpack"
}

func (z *zset) len() int {
	if z.big != nil {
		return z.big.tree.count
	}
	return z.pack.count() / 2
}

// memory is what the zset holds, in bytes.
func (z *zset) memory() int {
	n := int(unsafe.Sizeof(*z)) + cap(z.pack)
	if z.big != nil {
		n += int(unsafe.Sizeof(*z.big)) + z.big.members.overhead() + z.big.tree.bytes + z.big.memory
	}
	return n
}

func (z *zset) clone() *zset {
	if z.big == nil {
		return &zset{pack: slices.Clone(z.pack)}
	}
	big := newBigZSet(z.big.members.seed, z.len())
	z.each(func(v lpValue, score float64) bool {
		big.add(unsafe.String(unsafe.SliceData(v.s), len(v.s)), score) // members are never changed
		return true
	})
	return &zset{big: big}
}

func newBigZSet(seed uint64, size int) *bigZSet {
	return &bigZSet{members: newDict(seed, size, func(m *zmember) string { return m.member })}
}

// add adds a member that isn't there.
func (b *bigZSet) add(member string, score float64) {
	m := &zmember{member, score}
	b.tree.insert(m)
	b.members.insert(m)
	b.memory += zmemberMemory(len(member))
}

func zmemberMemory(member int) int { return int(unsafe.Sizeof(zmember{})) + allocated(member) }

// packScore reads the score stored at pos.
func packScore(v lpValue) float64 {
	if v.s == nil {
		return float64(v.n)
	}
	f, err := strconv.ParseFloat(string(v.s), 64)
	if err != nil && !math.IsInf(f, 0) {
		panic("embedded: corrupt score in listpack")
	}
	return f
}

// packInt is the integer that a score is stored as in a listpack, within Redis's bounds for that.
func packInt(f float64) (int64, bool) {
	return int64(f), f >= -1<<62 && f <= 1<<62 && f == math.Trunc(f)
}

// appendPackScore appends a score entry: an integer if it is one exactly (zero loses its sign, as in Redis).
func appendPackScore(dst []byte, f float64) []byte {
	if n, ok := packInt(f); ok {
		return lpAppendInt(dst, n)
	}
	var scratch [32]byte
	switch {
	case math.IsInf(f, 1):
		return lpAppendString(dst, append(scratch[:0], "inf"...))
	case math.IsInf(f, -1):
		return lpAppendString(dst, append(scratch[:0], "-inf"...))
	}
	return lpAppendString(dst, strconv.AppendFloat(scratch[:0], f, 'g', -1, 64))
}

// score looks a member up.
func (z *zset) score(member []byte) (float64, bool) {
	_, score, ok := z.find(member)
	return score, ok
}

// zplace is where a member is, good until the next change.
type zplace struct {
	m    *zmember
	pack int
}

// find looks a member up.
func (z *zset) find(member []byte) (at zplace, score float64, ok bool) {
	if z.big != nil {
		if m := z.big.members.find(member); m != nil {
			return zplace{m: *m}, (*m).score, true
		}
		return zplace{}, 0, false
	}
	p := z.pack.find(member, 2)
	if p < 0 {
		return zplace{}, 0, false
	}
	v, _ := lpDecode(z.pack, lpSkip(z.pack, p))
	return zplace{pack: p}, packScore(v), true
}

// set adds the member or changes its score. seed is for the dict, should the zset become big.
func (z *zset) set(member []byte, score float64, seed uint64) (added bool) {
	at, old, ok := z.find(member)
	switch {
	case !ok:
		z.add(member, score, seed)
	case old != score:
		z.rescore(at, member, score)
	}
	return !ok
}

// add adds a member that isn't there.
func (z *zset) add(member []byte, score float64, seed uint64) {
	if z.big == nil && len(member) <= zsetPackValue && z.len() < zsetPackEntries {
		z.packInsert(member, score)
		return
	}
	z.grow(seed)
	z.big.add(string(member), score)
}

// rescore gives the member that find has found another score.
func (z *zset) rescore(at zplace, member []byte, score float64) {
	if z.big == nil {
		z.packRescore(at.pack, member, score)
		return
	}
	if d := z.big.members; d.walk != nil {
		d.change(member)
	}
	z.big.tree.rescore(at.m, score)
}

// grow turns the listpack into a tree.
func (z *zset) grow(seed uint64) {
	if z.big != nil {
		return
	}
	big := newBigZSet(seed, z.len()+1)
	z.each(func(v lpValue, score float64) bool {
		big.add(v.String(), score)
		return true
	})
	z.pack, z.big = nil, big
}

// packRescore gives the member at pos another score. It is moved only if it has to be.
func (z *zset) packRescore(pos int, member []byte, score float64) {
	at := lpSkip(z.pack, pos)
	end := lpSkip(z.pack, at)
	stays := true
	if pos > lpHeader {
		s := lpPrev(z.pack, pos)
		m, _ := lpDecode(z.pack, lpPrev(z.pack, s))
		v, _ := lpDecode(z.pack, s)
		before := packScore(v)
		stays = before < score || before == score && comparePacked(m, member) < 0
	}
	if stays && !z.pack.atEnd(end) {
		m, s := lpDecode(z.pack, end)
		v, _ := lpDecode(z.pack, s)
		after := packScore(v)
		stays = after > score || after == score && comparePacked(m, member) > 0
	}
	if stays {
		var scratch [40]byte
		z.pack = z.pack.splice(at, end, appendPackScore(scratch[:0], score), 0)
		return
	}
	z.pack = z.pack.remove(pos, 2)
	z.packInsert(member, score)
}

// packInsert puts a new member at its place in the listpack.
func (z *zset) packInsert(member []byte, score float64) {
	var scratch [128]byte
	entries := appendPackScore(lpAppend(scratch[:0], member), score)
	pos := lpHeader
	for !z.pack.atEnd(pos) {
		m, at := lpDecode(z.pack, pos)
		v, next := lpDecode(z.pack, at)
		s := packScore(v)
		if s > score || s == score && comparePacked(m, member) > 0 {
			break
		}
		pos = next
	}
	z.pack = z.pack.splice(pos, pos, entries, 2)
}

func comparePacked(v lpValue, b []byte) int {
	var scratch [24]byte
	return bytes.Compare(v.bytes(&scratch), b)
}

func (z *zset) remove(member []byte) bool {
	if z.big == nil {
		p := z.pack.find(member, 2)
		if p >= 0 {
			z.pack = z.pack.remove(p, 2)
		}
		return p >= 0
	}
	m, ok := z.big.members.remove(member)
	if ok {
		z.big.tree.remove(m)
		z.big.memory -= zmemberMemory(len(member))
	}
	return ok
}

// rank of a member, 0 is the first; score is its score.
func (z *zset) rank(member []byte) (rank int, score float64, ok bool) {
	if z.big != nil {
		m := z.big.members.find(member)
		if m == nil {
			return 0, 0, false
		}
		return z.big.tree.rank(*m), (*m).score, true
	}
	k := newLPKey(member)
	for p := lpHeader; !z.pack.atEnd(p); rank++ {
		m, at := lpDecode(z.pack, p)
		if m.is(&k) {
			v, _ := lpDecode(z.pack, at)
			return rank, packScore(v), true
		}
		p = lpSkip(z.pack, at)
	}
	return 0, 0, false
}

// removeRange removes n members from this rank on.
func (z *zset) removeRange(rank, n int) {
	if z.big == nil {
		p := z.pack.seek(rank * 2)
		z.pack = z.pack.remove(p, n*2)
		return
	}
	for range n {
		m := z.big.tree.at(rank).get()
		z.big.members.remove(bytesOf(m.member))
		z.big.tree.remove(m)
		z.big.memory -= zmemberMemory(len(m.member))
	}
}

// each visits every member in order until visit returns false. The value is good during the visit only.
func (z *zset) each(visit func(member lpValue, score float64) bool) {
	z.walk(0, z.len(), false, visit)
}

// walk visits n members from this rank on, backwards if reverse (the rank counts from the start in both cases).
func (z *zset) walk(rank, n int, reverse bool, visit func(member lpValue, score float64) bool) {
	if n <= 0 {
		return
	}
	if z.big != nil {
		for at := z.big.tree.at(rank); n > 0 && at.valid(); n-- {
			if m := at.get(); !visit(lpValue{s: memberBytes(m.member)}, m.score) {
				return
			}
			at.next(reverse)
		}
		return
	}
	for p := z.pack.seek(rank * 2); n > 0; n-- {
		m, at := lpDecode(z.pack, p)
		v, next := lpDecode(z.pack, at)
		if !visit(m, packScore(v)) {
			return
		}
		if !reverse {
			p = next
		} else if n > 1 {
			p = lpPrev(z.pack, lpPrev(z.pack, p))
		}
	}
}

// memberBytes views a member as a string value; never nil, so that it isn't taken for an integer.
func memberBytes(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return bytesOf(s)
}

// countBefore is the number of members for which before holds; it must hold for a prefix in order.
func (z *zset) countBefore(before func(member []byte, score float64) bool) int {
	if z.big != nil {
		return z.big.tree.countBefore(before)
	}
	count := 0
	var scratch [24]byte
	z.each(func(m lpValue, score float64) bool {
		if !before(m.bytes(&scratch), score) {
			return false
		}
		count++
		return true
	})
	return count
}

// scan visits the members of one SCAN cursor position. A small zset is visited whole.
func (z *zset) scan(cursor uint64, visit func(member lpValue, score float64)) uint64 {
	if z.big != nil {
		return z.big.members.scan(cursor, func(m *zmember) { visit(lpValue{s: memberBytes(m.member)}, m.score) })
	}
	z.each(func(m lpValue, score float64) bool { visit(m, score); return true })
	return 0
}

// random returns one member, each with the same probability.
func (z *zset) random() (member lpValue, score float64) {
	z.walk(rand.IntN(z.len()), 1, false, func(m lpValue, s float64) bool {
		member, score = m, s
		return true
	})
	return member, score
}
