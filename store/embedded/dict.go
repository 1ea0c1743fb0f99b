package embedded

import (
	"math/bits"
	"math/rand/v2"
	"unsafe"
)

// dict is a hash table of values that contain their own key: members of big sets, fields of big hashes, nodes of
// sorted sets. It grows and shrinks a bucket at a time, during writes only, so readers may share it.
//
// A bucket holds seven values and chains to more; a tag of seven hash bits per value spares most key comparisons.
// That is half the memory of a chained table such as keytable, which in turn keeps its entries in place. Tables are
// powers of two and the hash depends only on the seed, so SCAN's reverse-binary cursor (Redis's dictScan) means the
// same in every table with this seed, whatever its size: what stays in the dict during a whole scan is seen at least
// once.
type dict[T any] struct {
	key    func(T) string
	seed   uint64
	tables [2][]bucket[T] // the second is nil unless values are being moved into it
	moved  int            // buckets of tables[0] before this one are empty while moving
	used   int
	chains int          // overflow buckets
	walk   *dictWalk[T] // of a snapshot, nil if none; then the tables don't resize
}

const (
	bucketSlots = 7
	dictGrow    = 6 // values per bucket at which the table doubles
)

type bucket[T any] struct {
	tags  uint64 // byte i belongs to slot i: zero when empty
	next  *bucket[T]
	slots [bucketSlots]T
}

func newDict[T any](seed uint64, size int, key func(T) string) *dict[T] {
	d := &dict[T]{key: key, seed: seed}
	d.tables[0] = make([]bucket[T], dictBuckets(size))
	return d
}

func dictBuckets(size int) int {
	n := 1
	for n*dictGrow < size {
		n *= 2
	}
	return n
}

func dictTag(h uint64) uint64 { return h>>56 | 1 }

// matches marks, by its high bit, each byte of tags that may equal tag; the lowest mark is never wrong.
func matches(tags, tag uint64) uint64 {
	const ones = 0x0101010101010101
	x := tags ^ tag*ones
	return (x - ones) & ^x & (ones << 7) & (1<<56 - 1)
}

func (b *bucket[T]) tag(i int) uint64 { return b.tags >> (8 * i) & 0xFF }

func (b *bucket[T]) put(i int, tag uint64, v T) {
	b.tags = b.tags&^(0xFF<<(8*i)) | tag<<(8*i)
	b.slots[i] = v
}

func (b *bucket[T]) clear(i int) {
	var zero T
	b.put(i, 0, zero)
}

func (b *bucket[T]) visit(visit func(T)) {
	for ; b != nil; b = b.next {
		for i := range bucketSlots {
			if b.tag(i) != 0 {
				visit(b.slots[i])
			}
		}
	}
}

func (d *dict[T]) len() int { return d.used }

func (d *dict[T]) moving() bool { return d.tables[1] != nil }

// find returns where the value with this key is, or nil. The place is good until the next change.
func (d *dict[T]) find(key []byte) *T {
	_, b, i := d.locate(key)
	if b == nil {
		return nil
	}
	return &b.slots[i]
}

func (d *dict[T]) locate(key []byte) (head, b *bucket[T], slot int) {
	h := hashKey(d.seed, key)
	tag := dictTag(h)
	for _, table := range d.tables {
		if table == nil {
			break
		}
		head = &table[h&uint64(len(table)-1)]
		for b = head; b != nil; b = b.next {
			for m := matches(b.tags, tag); m != 0; m &= m - 1 {
				i := bits.TrailingZeros64(m) / 8
				if b.tag(i) == tag && d.key(b.slots[i]) == string(key) {
					return head, b, i
				}
			}
		}
	}
	return nil, nil, 0
}

// change is find for a value that is going to be changed in its place.
func (d *dict[T]) change(key []byte) *T {
	if d.walk != nil {
		d.walk.before(hashKey(d.seed, key))
	}
	return d.find(key)
}

// insert adds a value whose key isn't in the dict.
func (d *dict[T]) insert(v T) {
	if d.walk != nil {
		d.walk.before(hashString(d.seed, d.key(v)))
	}
	d.step()
	if !d.moving() && d.used >= len(d.tables[0])*dictGrow {
		d.resize(len(d.tables[0]) * 2)
	}
	table := d.tables[0]
	if d.moving() {
		table = d.tables[1]
	}
	d.place(table, v)
	d.used++
}

func (d *dict[T]) place(table []bucket[T], v T) {
	h := hashString(d.seed, d.key(v))
	b := &table[h&uint64(len(table)-1)]
	for {
		if m := matches(b.tags, 0); m != 0 {
			b.put(bits.TrailingZeros64(m)/8, dictTag(h), v)
			return
		}
		if b.next == nil {
			b.next = new(bucket[T])
			d.chains++
		}
		b = b.next
	}
}

// remove takes the value with this key out.
func (d *dict[T]) remove(key []byte) (v T, ok bool) {
	head, b, i := d.locate(key)
	if b == nil {
		return v, false
	}
	if d.walk != nil {
		d.walk.before(hashKey(d.seed, key))
	}
	v = b.slots[i]
	d.fill(head, b, i)
	d.used--
	d.shrink()
	d.step()
	return v, true
}

// fill closes the gap at slot i of b with the last value of the chain, so that chains get shorter again.
func (d *dict[T]) fill(head, b *bucket[T], i int) {
	prev, last := (*bucket[T])(nil), head
	for last.next != nil {
		prev, last = last, last.next
	}
	if last != b {
		j := bucketSlots - 1
		for last.tag(j) == 0 {
			j--
		}
		b.put(i, last.tag(j), last.slots[j])
		b, i = last, j
	}
	b.clear(i)
	if prev != nil && last.tags == 0 {
		prev.next = nil
		d.chains--
	}
}

// shrink starts moving to a smaller table when under a tenth of the slots is in use.
func (d *dict[T]) shrink() {
	if n := len(d.tables[0]); !d.moving() && n > 1 && d.used*10 < n*bucketSlots {
		d.resize(dictBuckets(d.used * 2))
	}
}

func (d *dict[T]) resize(buckets int) {
	if buckets != len(d.tables[0]) && d.walk == nil {
		d.tables[1] = make([]bucket[T], buckets)
		d.moved = 0
	}
}

// step moves a bucket or two, if there is a move in progress. Empty buckets cost little, so many are skipped at once.
func (d *dict[T]) step() {
	if !d.moving() || d.walk != nil {
		return
	}
	from, to := d.tables[0], d.tables[1]
	for busy, seen := 0, 0; busy < 2 && seen < 32 && d.moved < len(from); seen++ {
		b := &from[d.moved]
		if b.tags != 0 {
			busy++
		}
		for c := b.next; c != nil; c = c.next {
			d.chains--
		}
		b.visit(func(v T) { d.place(to, v) })
		*b = bucket[T]{}
		d.moved++
	}
	if d.moved == len(from) {
		d.tables = [2][]bucket[T]{to, nil}
		d.moved = 0
	}
}

// each visits every value until visit returns false. The dict must not change meanwhile.
func (d *dict[T]) each(visit func(T) bool) {
	for _, table := range d.tables {
		for n := range table {
			for b := &table[n]; b != nil; b = b.next {
				for i := range bucketSlots {
					if b.tag(i) != 0 && !visit(b.slots[i]) {
						return
					}
				}
			}
		}
	}
}

// clone copies the dict, not what the values point to.
func (d *dict[T]) clone() *dict[T] {
	n := newDict(d.seed, d.used, d.key)
	d.each(func(v T) bool { n.insert(v); return true })
	return n
}

// scan visits the values of one cursor position and returns the next cursor, 0 at the end.
func (d *dict[T]) scan(cursor uint64, visit func(T)) uint64 {
	small, large := d.tables[0], d.tables[1]
	if !d.moving() {
		mask := uint64(len(small) - 1)
		small[cursor&mask].visit(visit)
		return reverseIncrement(cursor, mask)
	}
	if len(small) > len(large) {
		small, large = large, small
	}
	m0, m1 := uint64(len(small)-1), uint64(len(large)-1)
	small[cursor&m0].visit(visit)
	// All buckets of the larger table that are expansions of the smaller one's bucket.
	for {
		large[cursor&m1].visit(visit)
		cursor = reverseIncrement(cursor, m1)
		if cursor&(m0^m1) == 0 {
			return cursor
		}
	}
}

// random returns a value, each with the same probability. The dict must not be empty.
func (d *dict[T]) random() T {
	// A bucket is kept with a probability in proportion to its values; chains beyond limit are practically absent.
	const limit = 3 * bucketSlots
	total := len(d.tables[0]) - d.moved + len(d.tables[1])
	for {
		n := rand.IntN(total) + d.moved
		var b *bucket[T]
		if n < len(d.tables[0]) {
			b = &d.tables[0][n]
		} else {
			b = &d.tables[1][n-len(d.tables[0])]
		}
		slot := rand.IntN(limit)
		for ; b != nil; b = b.next {
			for i := range bucketSlots {
				if b.tag(i) == 0 {
					continue
				}
				if slot == 0 {
					return b.slots[i]
				}
				slot--
			}
		}
	}
}

// overhead is the memory of the tables, without what the values point to.
func (d *dict[T]) overhead() int {
	size := int(unsafe.Sizeof(bucket[T]{}))
	return int(unsafe.Sizeof(*d)) + allocatedPointers(size*len(d.tables[0])) + allocatedPointers(size*len(d.tables[1])) + size*d.chains
}
