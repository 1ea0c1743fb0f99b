package embedded

import (
	"slices"
	"unsafe"
)

// listValue is a list: chunks of packed entries (see listpack) with room to grow at both ends, so that pushing and
// popping cost O(1) at either end. Redis calls the same thing a quicklist.
type listValue struct {
	chunks []listChunk // those in use are chunks[first:]
	first  int
	count  int
	bytes  int // capacity of all chunks' buffers
}

// listChunk holds n entries in buf[lo:]. While the buffer is shared, its bytes aren't changed: a snapshot reads them.
type listChunk struct {
	buf    []byte
	lo     int32
	n      int16 // a chunk of listChunkSize has room for no more: an entry takes two bytes at least
	shared bool
}

// own gives the chunk a buffer that may be changed, with the same positions.
func (c *listChunk) own() {
	if !c.shared {
		return
	}
	buf := growTo(len(c.buf))
	copy(buf[c.lo:], c.buf[c.lo:])
	c.buf, c.shared = buf, false
}

const (
	listChunkSize  = 8192 // Redis's list-max-listpack-size of -2
	listShrinkFrom = 256
)

func newList() *listValue { return &listValue{} }

func (l *listValue) len() int { return l.count }

func (l *listValue) encoding() string { return "quicklist" }

// memory is what the list holds, in bytes.
func (l *listValue) memory() int {
	return int(unsafe.Sizeof(*l)) + cap(l.chunks)*int(unsafe.Sizeof(listChunk{})) + l.bytes
}

func (l *listValue) clone() *listValue {
	n := &listValue{count: l.count, chunks: slices.Clone(l.live())}
	for i := range n.chunks {
		c := &n.chunks[i]
		buf := growTo(c.used())
		copy(buf, c.buf[c.lo:])
		c.buf, c.lo, c.shared = buf, 0, false
		n.bytes += cap(buf)
	}
	return n
}

func (l *listValue) live() []listChunk { return l.chunks[l.first:] }

func (c *listChunk) used() int { return len(c.buf) - int(c.lo) }

// takes tells whether the chunk may grow by size bytes.
func (c *listChunk) takes(size int) bool { return c.n == 0 || c.used()+size <= listChunkSize }

// roomFor is the capacity for a chunk that has to hold need bytes now.
func roomFor(need int) int {
	if need >= listChunkSize {
		return need
	}
	return min(need+need/4, listChunkSize)
}

// pushBack appends to the chunk and returns by how much its capacity changed.
func (c *listChunk) pushBack(entry []byte) int {
	old, used := cap(c.buf), c.used()
	before := old
	if c.shared {
		c.own()
		old = cap(c.buf)
	}
	if len(c.buf)+len(entry) > old {
		if need := used + len(entry); need <= old && used <= old/2 {
			copy(c.buf, c.buf[c.lo:])
			c.buf = c.buf[:used]
		} else {
			buf := growTo(roomFor(need))
			copy(buf, c.buf[c.lo:])
			c.buf = buf[:used]
		}
		c.lo = 0
	}
	c.buf = append(c.buf, entry...)
	c.n++
	return cap(c.buf) - before
}

func (c *listChunk) pushFront(entry []byte) int {
	old, used := cap(c.buf), c.used()
	before := old
	if c.shared {
		c.own()
		old = cap(c.buf)
	}
	if int(c.lo) < len(entry) {
		need := used + len(entry)
		buf := c.buf[:old]
		if need > old || used > old/2 {
			buf = growTo(roomFor(need))
			buf = buf[:cap(buf)]
		}
		copy(buf[len(buf)-used:], c.buf[c.lo:])
		c.buf, c.lo = buf, int32(len(buf)-used)
	}
	c.lo -= int32(len(entry))
	copy(c.buf[c.lo:], entry)
	c.n++
	return cap(c.buf) - before
}

// splice replaces the bytes [from,to) by an entry or none; dn is the change of the count.
func (c *listChunk) splice(from, to int, entry []byte, dn int) int {
	before := cap(c.buf)
	c.own()
	old := cap(c.buf)
	c.n += int16(dn)
	d := len(entry) - (to - from)
	size := len(c.buf) + d
	switch {
	case from == int(c.lo) && d <= 0:
		c.lo -= int32(d)
		from -= d
	case size > old:
		buf := growTo(size - int(c.lo))
		n := copy(buf, c.buf[c.lo:from])
		copy(buf[n+len(entry):], c.buf[to:])
		from -= int(c.lo)
		c.buf, c.lo = buf, 0
	case d > 0:
		c.buf = c.buf[:size]
		copy(c.buf[from+len(entry):], c.buf[to:size-d])
	default:
		copy(c.buf[from+len(entry):], c.buf[to:])
		c.buf = c.buf[:size]
	}
	copy(c.buf[from:], entry)
	return cap(c.buf) - before
}

func (l *listValue) pushBack(v []byte) {
	var scratch [128]byte
	entry := lpAppend(scratch[:0], v)
	if n := len(l.chunks); n == l.first || !l.chunks[n-1].takes(len(entry)) {
		l.chunks = append(l.chunks, listChunk{})
		l.makeRoom(n, len(entry), false)
	}
	l.bytes += l.chunks[len(l.chunks)-1].pushBack(entry)
	l.count++
}

func (l *listValue) pushFront(v []byte) {
	var scratch [128]byte
	entry := lpAppend(scratch[:0], v)
	if len(l.chunks) == l.first || !l.chunks[l.first].takes(len(entry)) {
		l.addFront()
		l.makeRoom(l.first, len(entry), true)
	}
	l.bytes += l.chunks[l.first].pushFront(entry)
	l.count++
}

// makeRoom gives a new chunk all its memory at once when there are others: a long list that grows by an entry of size bytes
// goes on growing.
func (l *listValue) makeRoom(i, size int, front bool) {
	if len(l.live()) == 1 || size > listChunkSize {
		return
	}
	c := &l.chunks[i]
	c.buf = growTo(listChunkSize)
	if front {
		c.lo = int32(len(c.buf))
	} else {
		c.buf = c.buf[:0]
	}
	l.bytes += cap(c.buf)
}

// addFront adds an empty chunk before the first.
func (l *listValue) addFront() {
	if l.first == 0 {
		live := l.live()
		if len(live) == 0 {
			l.chunks = make([]listChunk, 1)
			return
		}
		room := len(live)/2 + 1
		chunks := make([]listChunk, room+len(live), 2*room+len(live))
		copy(chunks[room:], live)
		l.chunks, l.first = chunks, room
	}
	l.first--
	l.chunks[l.first] = listChunk{}
}

// dropChunk removes the i-th chunk (of l.chunks).
func (l *listValue) dropChunk(i int) {
	l.bytes -= cap(l.chunks[i].buf)
	switch i {
	case l.first:
		l.chunks[i] = listChunk{}
		l.first++
	default:
		l.chunks = slices.Delete(l.chunks, i, i+1)
	}
	if l.first == len(l.chunks) {
		l.chunks, l.first = nil, 0
	}
}

// front and back are the values at the ends of a list that isn't empty; good until the next change.
func (l *listValue) front() lpValue {
	c := &l.chunks[l.first]
	v, _ := lpDecode(c.buf, int(c.lo))
	return v
}

func (l *listValue) back() lpValue {
	c := &l.chunks[len(l.chunks)-1]
	v, _ := lpDecode(c.buf, lpPrev(c.buf, len(c.buf)))
	return v
}

func (l *listValue) dropFront() {
	c := &l.chunks[l.first]
	c.lo = int32(lpSkip(c.buf, int(c.lo)))
	c.n--
	l.count--
	l.shrink(l.first)
}

func (l *listValue) dropBack() {
	i := len(l.chunks) - 1
	c := &l.chunks[i]
	c.buf = c.buf[:lpPrev(c.buf, len(c.buf))]
	c.n--
	l.count--
	l.shrink(i)
}

// shrink drops an empty chunk, and gives memory back when the list's only chunk has become mostly empty. (With more
// chunks the waste at the ends is small beside them.)
func (l *listValue) shrink(i int) {
	c := &l.chunks[i]
	if c.n == 0 {
		l.dropChunk(i)
		return
	}
	if len(l.chunks)-l.first == 1 && cap(c.buf) >= listShrinkFrom && c.used() < cap(c.buf)/4 {
		l.bytes -= cap(c.buf)
		buf := growTo(roomFor(c.used()))[:c.used()]
		copy(buf, c.buf[c.lo:])
		c.buf, c.lo, c.shared = buf, 0, false
		l.bytes += cap(c.buf)
	}
}

// seek returns the chunk and the position of the entry with this index (0 <= index < count).
func (l *listValue) seek(index int) (chunk, pos int) {
	if index < l.count/2 {
		chunk = l.first
		for index >= int(l.chunks[chunk].n) {
			index -= int(l.chunks[chunk].n)
			chunk++
		}
	} else {
		chunk = len(l.chunks) - 1
		left := l.count - index // entries from index to the end
		for left > int(l.chunks[chunk].n) {
			left -= int(l.chunks[chunk].n)
			chunk--
		}
		index = int(l.chunks[chunk].n) - left
	}
	c := &l.chunks[chunk]
	if index < int(c.n)/2 {
		pos = int(c.lo)
		for range index {
			pos = lpSkip(c.buf, pos)
		}
		return chunk, pos
	}
	pos = len(c.buf)
	for range int(c.n) - index {
		pos = lpPrev(c.buf, pos)
	}
	return chunk, pos
}

// at returns the value with this index, good until the next change.
func (l *listValue) at(index int) lpValue {
	i, pos := l.seek(index)
	v, _ := lpDecode(l.chunks[i].buf, pos)
	return v
}

// set replaces the value with this index.
func (l *listValue) set(index int, v []byte) {
	var scratch [128]byte
	entry := lpAppend(scratch[:0], v)
	i, pos := l.seek(index)
	c := &l.chunks[i]
	l.bytes += c.splice(pos, lpSkip(c.buf, pos), entry, 0)
}

// insert puts a value before the one with this index (index <= count).
func (l *listValue) insert(index int, v []byte) {
	switch index {
	case 0:
		l.pushFront(v)
		return
	case l.count:
		l.pushBack(v)
		return
	}
	var scratch [128]byte
	entry := lpAppend(scratch[:0], v)
	i, pos := l.seek(index)
	c := &l.chunks[i]
	if !c.takes(len(entry)) {
		if pos > int(c.lo) {
			i, pos = l.split(i, pos), 0
			pos = int(l.chunks[i].lo)
		}
		if c = &l.chunks[i]; !c.takes(len(entry)) {
			l.chunks = slices.Insert(l.chunks, i, listChunk{})
			c, pos = &l.chunks[i], 0
		}
	}
	l.bytes += c.splice(pos, pos, entry, 1)
	l.count++
}

// split cuts chunk i in two before pos and returns the index of the second.
func (l *listValue) split(i, pos int) int {
	c := &l.chunks[i]
	var n int16
	for p := int(c.lo); p < pos; p = lpSkip(c.buf, p) {
		n++
	}
	buf := growTo(len(c.buf) - pos)
	copy(buf, c.buf[pos:])
	second := listChunk{buf: buf, n: c.n - n}
	c.buf, c.n = c.buf[:pos], n
	l.bytes += cap(buf)
	l.chunks = slices.Insert(l.chunks, i+1, second)
	return i + 1
}

// removeRange removes n values from this index on.
func (l *listValue) removeRange(index, n int) {
	if n <= 0 {
		return
	}
	i, pos := l.seek(index)
	l.count -= n
	for n > 0 {
		c := &l.chunks[i]
		if pos == int(c.lo) && n >= int(c.n) {
			n -= int(c.n)
			atFront := i == l.first
			l.dropChunk(i)
			if n > 0 {
				if atFront {
					i = l.first
				}
				pos = int(l.chunks[i].lo)
			}
			continue
		}
		end, gone := pos, 0
		for n > 0 && end < len(c.buf) {
			end = lpSkip(c.buf, end)
			n--
			gone++
		}
		l.bytes += c.splice(pos, end, nil, -gone)
		if n > 0 {
			i++
			pos = int(l.chunks[i].lo)
		}
	}
	if len(l.chunks)-l.first == 1 {
		l.shrink(l.first)
	}
}

// removeEqual removes up to limit values (0: all) that equal v, from the end if reverse.
func (l *listValue) removeEqual(v []byte, limit int, reverse bool) (removed int) {
	k := newLPKey(v)
	if reverse {
		for i := len(l.chunks) - 1; i >= l.first; i-- {
			c := &l.chunks[i]
			for pos := len(c.buf); pos > int(c.lo) && (limit == 0 || removed < limit); {
				start := lpPrev(c.buf, pos)
				if e, _ := lpDecode(c.buf, start); e.is(&k) {
					l.bytes += c.splice(start, pos, nil, -1)
					removed++
					if start < int(c.lo) { // it was the first: the chunk begins later now
						break
					}
				}
				pos = start
			}
		}
	} else {
		for i := l.first; i < len(l.chunks); i++ {
			c := &l.chunks[i]
			for pos := int(c.lo); pos < len(c.buf) && (limit == 0 || removed < limit); {
				e, next := lpDecode(c.buf, pos)
				if !e.is(&k) {
					pos = next
					continue
				}
				l.bytes += c.splice(pos, next, nil, -1)
				removed++
				pos = max(pos, int(c.lo))
			}
		}
	}
	l.count -= removed
	for i := len(l.chunks) - 1; i >= l.first && removed > 0; i-- {
		if l.chunks[i].n == 0 {
			l.dropChunk(i)
		}
	}
	return removed
}

// walk visits n values from this index on, towards the front if reverse, until visit returns false. The values are
// good during the visit only.
func (l *listValue) walk(index, n int, reverse bool, visit func(lpValue) bool) {
	if n <= 0 {
		return
	}
	i, pos := l.seek(index)
	for {
		c := &l.chunks[i]
		v, next := lpDecode(c.buf, pos)
		if n--; !visit(v) || n <= 0 {
			return
		}
		if reverse {
			if pos == int(c.lo) {
				i--
				c = &l.chunks[i]
				pos = len(c.buf)
			}
			pos = lpPrev(c.buf, pos)
		} else if pos = next; pos == len(c.buf) {
			i++
			pos = int(l.chunks[i].lo)
		}
	}
}

// each visits every value until visit returns false.
func (l *listValue) each(visit func(lpValue) bool) { l.walk(0, l.count, false, visit) }
