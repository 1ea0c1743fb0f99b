package embedded

import "sort"

// trimming says what XADD and XTRIM shall remove.
type trimming struct {
	byLength, byID bool
	approx         bool // only whole chunks
	limit          int64
	length         uint64
	minID          streamID
	valueAt        int // of the length or id among the arguments
}

func (t *trimming) on() bool { return t.byLength || t.byID }

// trim removes from the beginning and returns how many.
func (s *streamValue) trim(t *trimming) (removed int64) {
	n := 0
	for ; n < len(s.chunks); n++ {
		if t.byLength && s.length <= t.length {
			break
		}
		c := &s.chunks[n]
		h := c.head()
		if t.limit > 0 && removed+h.entries > t.limit {
			break
		}
		whole := t.byLength && s.length-uint64(h.entries) >= t.length || t.byID && c.lastID().before(t.minID)
		if !whole {
			if !t.approx {
				removed += s.trimChunk(c, &h, t)
			}
			break
		}
		s.length -= uint64(h.entries)
		removed += h.entries
	}
	s.dropChunks(0, n)
	if removed > 0 || s.length == 0 {
		s.settleFirst()
	}
	return removed
}

// trimChunk removes entries from the beginning of a chunk.
func (s *streamValue) trimChunk(c *streamChunk, h *chunkHead, t *trimming) (removed int64) {
	s.bytes -= cap(c.pack)
	for at := h.first; !c.pack.atEnd(at); {
		e := c.entry(h, at)
		if t.byLength && s.length <= t.length || t.byID && !e.id.before(t.minID) {
			break
		}
		size := len(c.pack)
		next := e.end()
		if !e.deleted() {
			c.remark(&e, h)
			s.length--
			removed++
		}
		at = next + len(c.pack) - size // the head may have grown by a byte
		*h = c.head()
	}
	s.bytes += cap(c.pack)
	return removed
}

// treeNodes is how many nodes Redis's radix tree would have, which XINFO tells.
func (s *streamValue) treeNodes() int {
	keys := make([][16]byte, len(s.chunks))
	for i := range s.chunks {
		keys[i] = s.chunks[i].master.key()
	}
	return radixNodes(keys, 0)
}

// radixNodes counts the nodes below a prefix of depth bytes that the ordered keys share: what they share beyond it is
// one node, where they part is one, and each ends with one.
func radixNodes(keys [][16]byte, depth int) int {
	switch {
	case len(keys) == 0:
		return 1
	case len(keys) == 1 && depth == 16:
		return 1
	case len(keys) == 1:
		return 2
	}
	first, last := &keys[0], &keys[len(keys)-1]
	part := depth
	for first[part] == last[part] {
		part++
	}
	n := 1
	if part > depth {
		n++
	}
	for len(keys) > 0 {
		same := sort.Search(len(keys), func(i int) bool { return keys[i][part] > keys[0][part] })
		n += radixNodes(keys[:same], part+1)
		keys = keys[same:]
	}
	return n
}
