package embedded

import (
	"encoding/binary"
	"slices"
	"sort"
	"strings"
	"unsafe"
)

// key is the id as Redis's radix trees have it.
func (id streamID) key() (k [16]byte) {
	binary.BigEndian.PutUint64(k[:], id.ms)
	binary.BigEndian.PutUint64(k[8:], id.seq)
	return k
}

// streamGroup is a consumer group.
type streamGroup struct {
	name      string
	last      streamID // delivered
	read      int64    // entries read up to last, readUnknown if that isn't known
	pel       pendingList
	consumers []*streamConsumer // ordered by name
}

// readUnknown: the number of entries read can't be told.
const readUnknown = -1

// streamConsumer is a member of a group; its pending entries are in the group's list too.
type streamConsumer struct {
	name string
	seen int64 // unix ms
	pel  pendingList
}

// nack is an entry delivered and not acknowledged.
type nack struct {
	consumer  *streamConsumer // nil while it is being made
	delivered int64           // unix ms, the last time
	count     int64           // deliveries
}

// nackMemory is a nack with its places in two lists.
const nackMemory = int(unsafe.Sizeof(nack{})) + 2*int(unsafe.Sizeof(pendingItem{})) + 8

func (s *streamValue) group(name []byte) *streamGroup {
	if i, ok := s.groupAt(name); ok {
		return s.groups[i]
	}
	return nil
}

func (s *streamValue) groupAt(name []byte) (int, bool) {
	return slices.BinarySearchFunc(s.groups, name, func(g *streamGroup, name []byte) int { return strings.Compare(g.name, string(name)) })
}

// addGroup makes a group; nil if there is one of this name.
func (s *streamValue) addGroup(name []byte, last streamID, read int64) *streamGroup {
	i, ok := s.groupAt(name)
	if ok {
		return nil
	}
	g := &streamGroup{name: string(name), last: last, read: read}
	s.groups = slices.Insert(s.groups, i, g)
	s.members += groupMemory(g)
	return g
}

func groupMemory(g *streamGroup) int { return int(unsafe.Sizeof(*g)) + 8 + allocated(len(g.name)) }

func consumerMemory(c *streamConsumer) int {
	return int(unsafe.Sizeof(*c)) + 8 + allocated(len(c.name))
}

func (s *streamValue) removeGroup(name []byte) bool {
	i, ok := s.groupAt(name)
	if !ok {
		return false
	}
	g := s.groups[i]
	s.pending -= g.pel.n
	s.members -= groupMemory(g)
	for _, c := range g.consumers {
		s.members -= consumerMemory(c)
	}
	s.groups = slices.Delete(s.groups, i, i+1)
	return true
}

func (g *streamGroup) consumer(name []byte) *streamConsumer {
	if i, ok := g.consumerAt(name); ok {
		return g.consumers[i]
	}
	return nil
}

func (g *streamGroup) consumerAt(name []byte) (int, bool) {
	return slices.BinarySearchFunc(g.consumers, name, func(c *streamConsumer, name []byte) int { return strings.Compare(c.name, string(name)) })
}

// addConsumer makes a consumer; created is false if there is one of this name.
func (s *streamValue) addConsumer(g *streamGroup, name []byte, now int64) (c *streamConsumer, created bool) {
	i, ok := g.consumerAt(name)
	if ok {
		return g.consumers[i], false
	}
	c = &streamConsumer{name: string(name), seen: now}
	g.consumers = slices.Insert(g.consumers, i, c)
	s.members += consumerMemory(c)
	return c, true
}

// removeConsumer removes a consumer with its pending entries.
func (s *streamValue) removeConsumer(g *streamGroup, c *streamConsumer) {
	for _, b := range c.pel.blocks {
		for _, it := range b {
			g.pel.remove(it.id)
		}
	}
	s.pending -= c.pel.n
	s.members -= consumerMemory(c)
	i, _ := g.consumerAt(bytesOf(c.name))
	g.consumers = slices.Delete(g.consumers, i, i+1)
}

// deliver makes an entry pending for a consumer, whoever had it.
func (s *streamValue) deliver(g *streamGroup, c *streamConsumer, id streamID, now int64) *nack {
	n := g.pel.find(id)
	if n == nil {
		n = &nack{}
		g.pel.insert(id, n)
		s.pending++
	}
	n.give(id, c)
	n.delivered, n.count = now, 1
	return n
}

// give changes the owner of a pending entry.
func (n *nack) give(id streamID, c *streamConsumer) {
	if n.consumer == c {
		return
	}
	if n.consumer != nil {
		n.consumer.pel.remove(id)
	}
	n.consumer = c
	c.pel.insert(id, n)
}

// acknowledge forgets a pending entry.
func (s *streamValue) acknowledge(g *streamGroup, id streamID, n *nack) {
	g.pel.remove(id)
	n.consumer.pel.remove(id)
	s.pending--
}

// hasTombstones tells whether an entry at or after from has been deleted by XDEL.
func (s *streamValue) hasTombstones(from streamID) bool {
	if s.length == 0 || s.maxDeleted.zero() || s.maxDeleted.before(s.first) {
		return false
	}
	return !s.maxDeleted.before(from)
}

// readUpTo estimates how many entries there have been up to an id, from the ends of the stream.
func (s *streamValue) readUpTo(id streamID) int64 {
	last := id.compare(s.last)
	switch {
	case s.added == 0:
		return 0
	case s.length == 0 && last <= 0, last == 0:
		return int64(s.added)
	case last > 0:
		return readUnknown
	}
	if s.maxDeleted.zero() || s.maxDeleted.before(s.first) {
		switch c := id.compare(s.first); {
		case c < 0:
			return int64(s.added - s.length)
		case c == 0:
			return int64(s.added - s.length + 1)
		}
	}
	return readUnknown
}

// lag is how many entries a group has still to read, if that is known.
func (s *streamValue) lag(g *streamGroup) (n int64, ok bool) {
	switch {
	case s.added == 0:
		return 0, true
	case g.read != readUnknown && !s.hasTombstones(g.last):
		return int64(s.added) - g.read, true
	}
	if read := s.readUpTo(g.last); read != readUnknown {
		return int64(s.added) - read, true
	}
	return 0, false
}

func (s *streamValue) clone() *streamValue {
	c := *s
	c.chunks = make([]streamChunk, len(s.chunks))
	c.bytes = 0
	for i, ch := range s.chunks {
		c.chunks[i] = streamChunk{master: ch.master, pack: slices.Clone(ch.pack)}
		c.bytes += cap(c.chunks[i].pack)
	}
	c.groups = nil
	for _, g := range s.groups {
		to := &streamGroup{name: g.name, last: g.last, read: g.read}
		for _, m := range g.consumers {
			copied := &streamConsumer{name: m.name, seen: m.seen}
			to.consumers = append(to.consumers, copied)
			m.pel.each(func(id streamID, n *nack) bool {
				copied.pel.insert(id, &nack{copied, n.delivered, n.count})
				return true
			})
		}
		g.pel.each(func(id streamID, n *nack) bool {
			i, _ := to.consumerAt(bytesOf(n.consumer.name))
			to.pel.insert(id, to.consumers[i].pel.find(id))
			return true
		})
		c.groups = append(c.groups, to)
	}
	return &c
}

// pendingList is a list of nacks ordered by id, in blocks: most come at the end and go at the beginning.
type pendingList struct {
	blocks [][]pendingItem // none is empty
	n      int
}

type pendingItem struct {
	id streamID
	*nack
}

const pendingBlock = 128

func compareItem(it pendingItem, id streamID) int { return it.id.compare(id) }

// seek is the block in which an id is or would be, and its place there.
func (p *pendingList) seek(id streamID) (block, at int, ok bool) {
	block = max(sort.Search(len(p.blocks), func(i int) bool { return id.before(p.blocks[i][0].id) })-1, 0)
	if block < len(p.blocks) {
		at, ok = slices.BinarySearchFunc(p.blocks[block], id, compareItem)
	}
	return block, at, ok
}

func (p *pendingList) find(id streamID) *nack {
	if b, at, ok := p.seek(id); ok {
		return p.blocks[b][at].nack
	}
	return nil
}

// insert adds an id that isn't there.
func (p *pendingList) insert(id streamID, n *nack) {
	p.n++
	it := pendingItem{id, n}
	b, at, _ := p.seek(id)
	switch {
	case len(p.blocks) == 0:
		p.blocks = [][]pendingItem{{it}}
		return
	case len(p.blocks[b]) < pendingBlock:
	case at == pendingBlock && b == len(p.blocks)-1:
		p.blocks = append(p.blocks, append(make([]pendingItem, 0, pendingBlock), it))
		return
	default:
		const half = pendingBlock / 2
		right := append(make([]pendingItem, 0, pendingBlock), p.blocks[b][half:]...)
		clear(p.blocks[b][half:])
		p.blocks[b] = p.blocks[b][:half]
		p.blocks = slices.Insert(p.blocks, b+1, right)
		if at > half {
			b, at = b+1, at-half
		}
	}
	p.blocks[b] = slices.Insert(p.blocks[b], at, it)
}

func (p *pendingList) remove(id streamID) {
	b, at, ok := p.seek(id)
	if !ok {
		return
	}
	p.n--
	p.blocks[b] = slices.Delete(p.blocks[b], at, at+1)
	switch {
	case len(p.blocks[b]) == 0:
		p.blocks = slices.Delete(p.blocks, b, b+1)
	case b+1 < len(p.blocks) && len(p.blocks[b])+len(p.blocks[b+1]) <= pendingBlock/2:
		p.blocks[b] = append(p.blocks[b], p.blocks[b+1]...)
		p.blocks = slices.Delete(p.blocks, b+1, b+2)
	}
}

// from is the first item at or after an id.
func (p *pendingList) from(id streamID) (it pendingItem, ok bool) {
	b, at, _ := p.seek(id)
	if b < len(p.blocks) && at == len(p.blocks[b]) {
		b, at = b+1, 0
	}
	if b >= len(p.blocks) {
		return it, false
	}
	return p.blocks[b][at], true
}

// after is the first item after an id.
func (p *pendingList) after(id streamID) (it pendingItem, ok bool) {
	if id, ok = id.next(); !ok {
		return it, false
	}
	return p.from(id)
}

func (p *pendingList) last() pendingItem {
	b := p.blocks[len(p.blocks)-1]
	return b[len(b)-1]
}

func (p *pendingList) each(visit func(id streamID, n *nack) bool) {
	for _, b := range p.blocks {
		for _, it := range b {
			if !visit(it.id, it.nack) {
				return
			}
		}
	}
}
