package embedded

import (
	"slices"
	"sort"
	"unsafe"
)

// streamValue is Redis's: entries ordered by id, packed in chunks, and the consumer groups that read them. An empty one
// stays, with what it knows of its past.
type streamValue struct {
	chunks     []streamChunk  // ordered by master
	length     uint64         // entries that aren't deleted
	first      streamID       // of the first entry
	last       streamID       // ever added
	maxDeleted streamID       // by XDEL
	added      uint64         // entries ever
	groups     []*streamGroup // ordered by name

	bytes   int // of the chunks
	pending int // of all groups
	members int // bytes of groups and consumers with their names
}

// streamChunk is a node of Redis's radix tree, byte for byte, since DUMP and snapshots have it so: a listpack that
// begins with
//
//	entries  deleted  n  field 1 … field n  0
//
// followed by the entries, each
//
//	flags  ms-master.ms  seq-master.seq  [n  field 1] value 1 … value n  number of elements before this one
//
// Fields are left out when they are those at the beginning (sameFields). A deleted entry keeps its place with
// a flag, until all entries of the chunk are deleted.
type streamChunk struct {
	master streamID
	pack   listpack
	shared bool // a snapshot reads the pack: its bytes aren't changed
}

// own gives the chunk a pack that may be changed.
func (c *streamChunk) own() {
	if c.shared {
		c.pack, c.shared = slices.Clone(c.pack), false
	}
}

const (
	entryDeleted = 1
	sameFields   = 2

	// Redis's defaults: stream-node-max-bytes and stream-node-max-entries.
	chunkBytes   = 4096
	chunkEntries = 100
)

func newStream() *streamValue { return &streamValue{} }

func (s *streamValue) len() int         { return int(s.length) }
func (s *streamValue) encoding() string { return "stream" }

// memory is what the stream holds, in bytes.
func (s *streamValue) memory() int {
	return int(unsafe.Sizeof(*s)) + cap(s.chunks)*int(unsafe.Sizeof(streamChunk{})) + s.bytes +
		s.pending*nackMemory + s.members
}

// --- chunks ---

// chunkHead is what a chunk begins with.
type chunkHead struct {
	entries, deleted int64
	fields           int
	fieldsAt, first  int // positions of the first field and the first entry
}

func (c *streamChunk) head() (h chunkHead) {
	v, at := lpDecode(c.pack, lpHeader)
	h.entries = v.n
	v, at = lpDecode(c.pack, at)
	h.deleted = v.n
	v, at = lpDecode(c.pack, at)
	h.fields, h.fieldsAt = int(v.n), at
	for range h.fields + 1 {
		at = lpSkip(c.pack, at)
	}
	h.first = at
	return h
}

// streamEntry is one entry, valid until its chunk changes.
type streamEntry struct {
	id     streamID
	chunk  *streamChunk
	flags  int64
	fields int
	at     int // of the flags
	names  int // of the first field: in the chunk's head or before the first value
	values int // of the first field or value
}

func (e *streamEntry) deleted() bool { return e.flags&entryDeleted != 0 }

// entry decodes the entry at a position.
func (c *streamChunk) entry(h *chunkHead, at int) (e streamEntry) {
	e.chunk, e.at = c, at
	v, at := lpDecode(c.pack, at)
	e.flags = v.n
	v, at = lpDecode(c.pack, at)
	e.id.ms = c.master.ms + uint64(v.n)
	v, at = lpDecode(c.pack, at)
	e.id.seq = c.master.seq + uint64(v.n)
	e.fields, e.names = h.fields, h.fieldsAt
	if e.flags&sameFields == 0 {
		v, at = lpDecode(c.pack, at)
		e.fields, e.names = int(v.n), at
	}
	e.values = at
	return e
}

// end is the position after the entry.
func (e *streamEntry) end() int {
	n := e.fields
	if e.flags&sameFields == 0 {
		n *= 2
	}
	at := e.values
	for range n + 1 {
		at = lpSkip(e.chunk.pack, at)
	}
	return at
}

// entryBefore is where the entry that ends at a position begins; false at the chunk's head.
func (c *streamChunk) entryBefore(end int) (at int, ok bool) {
	at = lpPrev(c.pack, end)
	v, _ := lpDecode(c.pack, at)
	for range v.n {
		at = lpPrev(c.pack, at)
	}
	return at, v.n > 0
}

// lastID is the id of the chunk's last entry, deleted or not.
func (c *streamChunk) lastID() streamID {
	at, ok := c.entryBefore(len(c.pack) - 1)
	if !ok {
		return c.master
	}
	return c.entry(&chunkHead{}, at).id
}

// each visits fields and values.
func (e *streamEntry) each(visit func(field, value lpValue)) {
	pack, name, value := e.chunk.pack, e.names, e.values
	same := e.flags&sameFields != 0
	for range e.fields {
		f, next := lpDecode(pack, name)
		if !same {
			value = next
		}
		var v lpValue
		v, value = lpDecode(pack, value)
		if name = next; !same {
			name = value
		}
		visit(f, v)
	}
}

// setInt replaces the integer at a position.
func (l listpack) setInt(at int, n int64) listpack {
	var scratch [16]byte
	return l.splice(at, lpSkip(l, at), lpAppendInt(scratch[:0], n), 0)
}

// remark changes an entry's flags and the counts of the head.
func (c *streamChunk) remark(e *streamEntry, h *chunkHead) {
	c.own()
	deletedAt := lpSkip(c.pack, lpHeader)
	h.entries--
	h.deleted++
	// Backwards: positions before a change stay.
	c.pack = c.pack.setInt(e.at, e.flags|entryDeleted)
	c.pack = c.pack.setInt(deletedAt, h.deleted)
	c.pack = c.pack.setInt(lpHeader, h.entries)
}

// --- entries ---

// chunkOf is the index of the chunk in which an id would be.
func (s *streamValue) chunkOf(id streamID) int {
	return max(sort.Search(len(s.chunks), func(i int) bool { return id.before(s.chunks[i].master) })-1, 0)
}

// walk visits the entries from one id to another, both included, backwards if reverse, until visit returns false. Deleted
// ones are left out unless all. visit must not change the stream.
func (s *streamValue) walk(from, to streamID, reverse, all bool, visit func(e *streamEntry) bool) {
	if reverse {
		s.walkBack(from, to, all, visit)
		return
	}
	var e streamEntry // one for all: visit makes it escape
	for i := s.chunkOf(from); i < len(s.chunks); i++ {
		c := &s.chunks[i]
		h := c.head()
		for at := h.first; !c.pack.atEnd(at); {
			e = c.entry(&h, at)
			if to.before(e.id) {
				return
			}
			if !e.id.before(from) && (all || !e.deleted()) && !visit(&e) {
				return
			}
			at = e.end()
		}
	}
}

func (s *streamValue) walkBack(from, to streamID, all bool, visit func(e *streamEntry) bool) {
	if len(s.chunks) == 0 {
		return
	}
	var e streamEntry
	for i := s.chunkOf(to); i >= 0; i-- {
		c := &s.chunks[i]
		h := c.head()
		for end := len(c.pack) - 1; ; {
			at, ok := c.entryBefore(end)
			if !ok {
				break
			}
			e = c.entry(&h, at)
			if e.id.before(from) {
				return
			}
			if !to.before(e.id) && (all || !e.deleted()) && !visit(&e) {
				return
			}
			end = at
		}
	}
}

// find looks an entry up that isn't deleted.
func (s *streamValue) find(id streamID) (found streamEntry, ok bool) {
	s.walk(id, id, false, false, func(e *streamEntry) bool {
		found, ok = *e, true
		return false
	})
	return found, ok
}

// firstID is the id of the first entry, the highest id if there is none.
func (s *streamValue) firstID(all bool) streamID {
	id := streamMax
	s.walk(streamID{}, streamMax, false, all, func(e *streamEntry) bool {
		id = e.id
		return false
	})
	return id
}

// lastID is the id of the last entry, 0-0 if there is none; last may be of a deleted one.
func (s *streamValue) lastID() (id streamID) {
	s.walk(streamID{}, streamMax, true, false, func(e *streamEntry) bool {
		id = e.id
		return false
	})
	return id
}

// add appends an entry of fields and values by turns; id is greater than last.
func (s *streamValue) add(id streamID, pairs [][]byte) {
	size := 0
	for _, p := range pairs {
		size += len(p)
	}
	var c *streamChunk
	var h chunkHead
	if n := len(s.chunks); n > 0 {
		c = &s.chunks[n-1]
		if h = c.head(); len(c.pack)+size >= chunkBytes || h.entries+h.deleted >= chunkEntries {
			c = nil
		}
	}
	var scratch [512]byte
	added := scratch[:0]
	count := len(pairs)/2 + 4
	flags := int64(sameFields)
	if c == nil {
		c = s.newChunk(id, pairs)
	} else {
		s.bytes -= cap(c.pack)
		c.own()
		c.pack = c.pack.setInt(lpHeader, h.entries+1)
		if !c.sameFields(&h, pairs) {
			flags = 0
			count += len(pairs)/2 + 1
		}
	}
	added = lpAppendInt(added, flags)
	added = lpAppendInt(added, int64(id.ms-c.master.ms))
	added = lpAppendInt(added, int64(id.seq-c.master.seq))
	if flags == 0 {
		added = lpAppendInt(added, int64(len(pairs)/2))
	}
	for i, p := range pairs {
		if flags == 0 || i%2 == 1 {
			added = lpAppend(added, p)
		}
	}
	added = lpAppendInt(added, int64(count-1))
	end := len(c.pack) - 1
	c.pack = c.pack.splice(end, end, added, count)
	s.bytes += cap(c.pack)
	s.length++
	s.added++
	s.last = id
	if s.length == 1 {
		s.first = id
	}
}

// newChunk begins a chunk with the fields of its first entry. Its memory isn't counted yet.
func (s *streamValue) newChunk(id streamID, pairs [][]byte) *streamChunk {
	size := 64
	if n := len(s.chunks); n > 0 { // the next chunk will be as large as the one before
		size = len(s.chunks[n-1].pack)
	}
	pack := append(make(listpack, 0, size), newListpack()...)
	var scratch [128]byte
	head := lpAppendInt(scratch[:0], 1)
	head = lpAppendInt(head, 0)
	head = lpAppendInt(head, int64(len(pairs)/2))
	for i := 0; i < len(pairs); i += 2 {
		head = lpAppend(head, pairs[i])
	}
	head = lpAppendInt(head, 0)
	pack = pack.splice(lpHeader, lpHeader, head, len(pairs)/2+4)
	s.chunks = append(s.chunks, streamChunk{master: id, pack: pack})
	return &s.chunks[len(s.chunks)-1]
}

// sameFields tells whether an entry has the fields of the chunk's head.
func (c *streamChunk) sameFields(h *chunkHead, pairs [][]byte) bool {
	if h.fields != len(pairs)/2 {
		return false
	}
	var scratch [24]byte
	// The head's count has just been set: positions may have moved by a byte.
	_, at := lpDecode(c.pack, lpHeader)
	at = lpSkip(c.pack, lpSkip(c.pack, at))
	for i := 0; i < len(pairs); i += 2 {
		var v lpValue
		if v, at = lpDecode(c.pack, at); string(v.bytes(&scratch)) != string(pairs[i]) {
			return false
		}
	}
	return true
}

// dropChunks takes chunks out.
func (s *streamValue) dropChunks(from, to int) {
	for i := from; i < to; i++ {
		s.bytes -= cap(s.chunks[i].pack)
		s.chunks[i] = streamChunk{}
	}
	if from == 0 {
		s.chunks = s.chunks[to:]
	} else {
		s.chunks = slices.Delete(s.chunks, from, to)
	}
}

// remove deletes an entry.
func (s *streamValue) remove(id streamID) bool {
	e, ok := s.find(id)
	if !ok {
		return false
	}
	i := s.chunkOf(id)
	c := &s.chunks[i]
	h := c.head()
	if h.entries == 1 {
		s.dropChunks(i, i+1)
	} else {
		s.bytes -= cap(c.pack)
		c.remark(&e, &h)
		s.bytes += cap(c.pack)
	}
	s.length--
	return true
}

// settleFirst finds the first entry again after some were removed.
func (s *streamValue) settleFirst() {
	s.first = streamID{}
	if s.length > 0 {
		s.first = s.firstID(false)
	}
}
