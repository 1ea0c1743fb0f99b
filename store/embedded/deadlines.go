package embedded

import "unsafe"

// deadlines is a binary heap of the keys with a TTL, the soonest at 1; object.vol is a key's place in it. Nothing is ever
// at 0, so that vol 0 means none. It is in chunks, since making one array of millions larger would hold everybody up.
type deadlines struct {
	chunks [][]deadline // all full but the last
	room   int          // what they could hold
}

type deadline struct {
	at  int64 // unix ms
	ent *entry
}

const (
	deadlineChunk = 256
	// deadlineSize is what a TTL costs.
	deadlineSize = int64(unsafe.Sizeof(deadline{}))
)

func (h *deadlines) at(i int) *deadline { return &h.chunks[i/deadlineChunk][i%deadlineChunk] }

// end is the place after the last.
func (h *deadlines) end() int {
	n := len(h.chunks)
	if n == 0 {
		return 1
	}
	return (n-1)*deadlineChunk + len(h.chunks[n-1])
}

// due tells whether the soonest was before now.
func (h *deadlines) due(now int64) bool { return h.end() > 1 && h.at(1).at < now }

// add gives a key a place, out of order as yet.
func (h *deadlines) add(d deadline) int {
	if len(h.chunks) == 0 {
		h.push(deadline{})
	}
	h.push(d)
	return h.end() - 1
}

func (h *deadlines) push(d deadline) {
	last := len(h.chunks) - 1
	if last < 0 || len(h.chunks[last]) == deadlineChunk {
		var chunk []deadline
		if last >= 0 { // the first one grows with what is there
			chunk = make([]deadline, 0, deadlineChunk)
			h.room += deadlineChunk
		}
		h.chunks = append(h.chunks, chunk)
		last++
	}
	c := h.chunks[last]
	before := cap(c)
	c = append(c, d)
	h.room += cap(c) - before
	h.chunks[last] = c
}

// pop takes the last place away.
func (h *deadlines) pop() deadline {
	last := len(h.chunks) - 1
	c := h.chunks[last]
	d := c[len(c)-1]
	c[len(c)-1] = deadline{}
	h.chunks[last] = c[:len(c)-1]
	if len(c) == 1 {
		h.room -= cap(c)
		h.chunks[last] = nil
		h.chunks = h.chunks[:last]
	}
	return d
}

// size is the memory of the chunks.
func (h *deadlines) size() int64 { return int64(h.room) * deadlineSize }

// sift moves the deadline at i to its place in the heap.
func (h *deadlines) sift(i int) {
	d, end := *h.at(i), h.end()
	put := func(d deadline) {
		*h.at(i) = d
		d.ent.val.vol = uint32(i)
	}
	for i > 1 && h.at(i/2).at > d.at {
		put(*h.at(i / 2))
		i /= 2
	}
	for {
		child := 2 * i
		if child >= end {
			break
		}
		if child+1 < end && h.at(child+1).at < h.at(child).at {
			child++
		}
		if h.at(child).at >= d.at {
			break
		}
		put(*h.at(child))
		i = child
	}
	put(d)
}
