package embedded

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// keytable is a chained hash table with power-of-two sizes that grows and shrinks a few buckets at a time, as
// Redis's does, so that a large table never stops the world and a SCAN cursor (reverse binary increment)
// survives resizes. Its hash depends on the seed alone: a cursor means the same on every node that uses the
// same seed.
//
// Methods in the first group don't change anything, not even the progress of a resize: they may run
// under the engine's read lock. Entries don't move: a pointer to one stays good until it is removed.
type keytable struct {
	seed   uint64
	table  [2][]*entry // table[1] is the target while a resize is under way
	used   [2]int
	moved  int // buckets of table[0] below this index have been moved
	paused int // >0: no resize steps (an iteration is under way that calls back)
}

// entry is one key of a table with its value, which holds a tag of the key's hash: keys that aren't the one looked for are
// told by it without being touched.
type entry struct {
	next *entry
	val  object
	key  string
}

const (
	tableMin = 4
	// tableEmptyVisits bounds how many empty buckets one resize step skips.
	tableEmptyVisits = 10
)

func newKeytable(seed uint64) *keytable { return &keytable{seed: seed} }

// --- reading ---

func (d *keytable) len() int { return d.used[0] + d.used[1] }

func (d *keytable) resizing() bool { return d.table[1] != nil }

func (d *keytable) find(key []byte) *entry {
	if d.len() == 0 {
		return nil
	}
	return d.lookup(hashKey(d.seed, key), key)
}

// lookup is find for who knows the key's hash.
func (d *keytable) lookup(h uint64, key []byte) *entry {
	for t := range d.table {
		table := d.table[t]
		if len(table) == 0 {
			break
		}
		for e := table[h&uint64(len(table)-1)]; e != nil; e = e.next {
			if e.val.tag == hashTag(h) && e.key == string(key) {
				return e
			}
		}
	}
	return nil
}

// head is an entry that lookup may look at first; nil if there is none.
func (d *keytable) head(h uint64) *entry {
	for t := range d.table {
		if table := d.table[t]; len(table) > 0 {
			if e := table[h&uint64(len(table)-1)]; e != nil {
				return e
			}
		}
	}
	return nil
}

// each calls fn for every entry until it returns false. fn must not add to or remove from the table.
func (d *keytable) each(fn func(*entry) bool) {
	for _, table := range d.table {
		for _, e := range table {
			for ; e != nil; e = e.next {
				if !fn(e) {
					return
				}
			}
		}
	}
}

// random returns an entry chosen at random, nil if there is none. Entries that share a bucket are slightly
// less likely.
func (d *keytable) random() *entry {
	if d.len() == 0 {
		return nil
	}
	n0, n1 := len(d.table[0]), len(d.table[1])
	low := 0
	if d.resizing() {
		low = d.moved
	}
	for {
		i := low + rand.IntN(n0-low+n1)
		var head *entry
		if i < n0 {
			head = d.table[0][i]
		} else {
			head = d.table[1][i-n0]
		}
		if head == nil {
			continue
		}
		n := 0
		for e := head; e != nil; e = e.next {
			n++
		}
		for n = rand.IntN(n); n > 0; n-- {
			head = head.next
		}
		return head
	}
}

// scan calls fn for the entries at the cursor and returns the next cursor, 0 at the end. Whatever is in the
// dict from the first call to the last is reported at least once, however the table is resized in between:
// the cursor counts with its bits reversed, so the buckets that a bucket splits into or is merged with come
// after or before it together. fn must not change the table.
func (d *keytable) scan(cursor uint64, fn func(*entry)) uint64 {
	if d.len() == 0 {
		return 0
	}
	emit := func(e *entry) {
		for ; e != nil; e = e.next {
			fn(e)
		}
	}
	if !d.resizing() {
		mask := uint64(len(d.table[0]) - 1)
		emit(d.table[0][cursor&mask])
		return reverseIncrement(cursor, mask)
	}
	small, large := d.table[0], d.table[1]
	if len(small) > len(large) {
		small, large = large, small
	}
	smallMask, largeMask := uint64(len(small)-1), uint64(len(large)-1)
	emit(small[cursor&smallMask])
	for {
		emit(large[cursor&largeMask])
		cursor = reverseIncrement(cursor, largeMask)
		if cursor&(smallMask^largeMask) == 0 {
			return cursor
		}
	}
}

// reverseIncrement increments the reversed bits of the cursor under the mask.
func reverseIncrement(cursor, mask uint64) uint64 {
	cursor |= ^mask
	cursor = bits.Reverse64(cursor)
	cursor++
	return bits.Reverse64(cursor)
}

// --- changing ---

// add adds an entry for a key that isn't there yet.
func (d *keytable) add(key string) *entry {
	d.grow()
	d.step(1)
	h := hashString(d.seed, key)
	t := 0
	if d.resizing() {
		t = 1
	}
	i := h & uint64(len(d.table[t])-1)
	e := &entry{next: d.table[t][i], key: key}
	e.val.tag = hashTag(h)
	d.table[t][i] = e
	d.used[t]++
	return e
}

// remove takes the key's entry out and returns it, nil if there is none.
func (d *keytable) remove(key []byte) *entry {
	if d.len() == 0 {
		return nil
	}
	d.step(1)
	h := hashKey(d.seed, key)
	for t, table := range d.table {
		if len(table) == 0 {
			continue
		}
		for p := &table[h&uint64(len(table)-1)]; *p != nil; p = &(*p).next {
			if e := *p; e.val.tag == hashTag(h) && e.key == string(key) {
				*p, e.next = e.next, nil
				d.used[t]--
				d.shrink()
				return e
			}
		}
	}
	return nil
}

func tableSize(n int) int {
	if n <= tableMin {
		return tableMin
	}
	return 1 << bits.Len64(uint64(n-1))
}

func (d *keytable) grow() {
	switch {
	case d.resizing():
	case len(d.table[0]) == 0:
		d.table[0] = make([]*entry, tableMin)
	case d.used[0] >= len(d.table[0]) && d.paused == 0:
		d.table[1], d.moved = make([]*entry, tableSize(d.used[0]+1)), 0
	}
}

// sparse tells whether the table is much too large and may be made smaller. Removals see to that, but not those during
// an earlier resize or a pause.
func (d *keytable) sparse() bool {
	n := len(d.table[0])
	return n > tableMin && d.used[0] < n/8 && !d.resizing() && d.paused == 0
}

func (d *keytable) shrink() {
	if d.sparse() {
		d.table[1], d.moved = make([]*entry, tableSize(d.used[0])), 0
	}
}

// step moves up to n buckets of a resize and tells whether there is more to do.
func (d *keytable) step(n int) bool {
	if !d.resizing() || d.paused > 0 {
		return false
	}
	empty := n * tableEmptyVisits
	for ; n > 0 && d.used[0] > 0; n-- {
		for d.table[0][d.moved] == nil {
			d.moved++
			if empty--; empty == 0 {
				return true
			}
		}
		mask := uint64(len(d.table[1]) - 1)
		for e := d.table[0][d.moved]; e != nil; {
			next := e.next
			i := hashString(d.seed, e.key) & mask
			e.next = d.table[1][i]
			d.table[1][i] = e
			d.used[0]--
			d.used[1]++
			e = next
		}
		d.table[0][d.moved] = nil
		d.moved++
	}
	if d.used[0] > 0 {
		return true
	}
	d.table = [2][]*entry{d.table[1], nil}
	d.used = [2]int{d.used[1], 0}
	d.moved = 0
	return false
}

// --- hashing ---

const (
	hashM1 = 0xa0761d6478bd642f
	hashM2 = 0xe7037ed1a0b428db
	hashM3 = 0x8ebc6af09c88c6e3
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hashKey is a multiply-fold hash in the manner of wyhash: fast, the same on every machine. The seed is secret
// to a database, which keeps clients from choosing keys that collide.
func hashKey(seed uint64, p []byte) uint64 {
	n := uint64(len(p))
	h := seed ^ hashM1
	for len(p) > 16 {
		h = mix(binary.LittleEndian.Uint64(p)^hashM2, binary.LittleEndian.Uint64(p[8:])^h)
		p = p[16:]
	}
	var a, b uint64
	switch {
	case len(p) >= 8:
		a, b = binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[len(p)-8:])
	case len(p) >= 4:
		a, b = uint64(binary.LittleEndian.Uint32(p)), uint64(binary.LittleEndian.Uint32(p[len(p)-4:]))
	case len(p) > 0:
		a = uint64(p[0])<<16 | uint64(p[len(p)>>1])<<8 | uint64(p[len(p)-1])
	}
	return mix(hashM3^n, mix(a^hashM2, b^h))
}

// hashTag is what an entry knows of its key's hash: bits that don't choose the bucket.
func hashTag(h uint64) uint16 { return uint16(h >> 48) }

func hashString(seed uint64, s string) uint64 { return hashKey(seed, bytesOf(s)) }
