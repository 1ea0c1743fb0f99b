package rdb

import (
	"encoding/binary"
	"math"
)

// A StreamID names an entry of a stream.
type StreamID struct{ MS, Seq uint64 }

// A Stream is a stream with its consumer groups. Its entries are in nodes, listpacks as t_stream.c describes them;
// a Reader has checked their structure, so that they can be walked in both directions without looking at bounds.
type Stream struct {
	Nodes  []StreamNode // ordered
	Length uint64       // entries that aren't marked as deleted
	Last   StreamID
	// What follows isn't known of a stream written before Redis 7.0.
	Legacy            bool
	First, MaxDeleted StreamID
	Added             uint64

	Groups []StreamGroup
}

func (*Stream) value() {}

// A StreamNode is a part of a stream: the id that its entries' ids are relative to, and the listpack of the entries.
type StreamNode struct {
	Master StreamID
	Pack   []byte
}

// A StreamGroup is a consumer group. Read is -1 when unknown, as it is in a Legacy stream.
type StreamGroup struct {
	Name      []byte
	Last      StreamID
	Read      int64
	Pending   []StreamPending // ordered by id
	Consumers []StreamConsumer
}

// A StreamPending is an entry delivered and not acknowledged.
type StreamPending struct {
	ID        StreamID
	Delivered int64 // Unix milliseconds
	Count     uint64
}

// A StreamConsumer is a member of a group with its pending entries, each of which is in the group's list too.
type StreamConsumer struct {
	Name    []byte
	Seen    int64 // Unix milliseconds
	Pending []StreamID
}

// --- writing ---

// WriteStream writes a key that holds a stream, as Redis 7.0 does.
func (w *Writer) WriteStream(key []byte, expireAt int64, s *Stream) error {
	_ = w.BeginStream(key, expireAt, len(s.Nodes)) // errors stick
	for _, n := range s.Nodes {
		_ = w.Node(n)
	}
	return w.EndStream(s)
}

// BeginStream starts a key that holds a stream of n nodes, to be given by Node, and by EndStream what comes after them.
func (w *Writer) BeginStream(key []byte, expireAt int64, n int) error {
	w.key(typeStream2, key, expireAt)
	w.length(uint64(n))
	w.open, w.left = typeStream2, int64(n)+1
	return w.err
}

// Node writes the next node of a stream.
func (w *Writer) Node(n StreamNode) error {
	if w.elem(w.open == typeStream2 && w.left > 1) {
		w.length(16)
		w.rawID(n.Master)
		w.string(n.Pack)
	}
	return w.err
}

// EndStream writes all of a stream but its nodes.
func (w *Writer) EndStream(s *Stream) error {
	if !w.elem(w.open == typeStream2 && w.left == 1) {
		return w.err
	}
	w.length(s.Length)
	w.id(s.Last)
	w.id(s.First)
	w.id(s.MaxDeleted)
	w.length(s.Added)
	w.length(uint64(len(s.Groups)))
	for i := range s.Groups {
		w.group(&s.Groups[i])
	}
	return w.err
}

func (w *Writer) group(g *StreamGroup) {
	w.string(g.Name)
	w.id(g.Last)
	w.length(uint64(g.Read))
	w.length(uint64(len(g.Pending)))
	for _, p := range g.Pending {
		w.rawID(p.ID)
		w.uint64(uint64(p.Delivered))
		w.length(p.Count)
	}
	w.length(uint64(len(g.Consumers)))
	for _, c := range g.Consumers {
		w.string(c.Name)
		w.uint64(uint64(c.Seen))
		w.length(uint64(len(c.Pending)))
		for _, id := range c.Pending {
			w.rawID(id)
		}
	}
}

func (w *Writer) id(id StreamID) {
	w.length(id.MS)
	w.length(id.Seq)
}

func (w *Writer) rawID(id StreamID) {
	w.flushFor(16)
	w.buf = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(w.buf, id.MS), id.Seq)
}

func (w *Writer) uint64(n uint64) {
	w.flushFor(8)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, n)
}

// --- reading ---

func (in *input) stream(typ byte) (Value, error) {
	s := &Stream{Legacy: typ == typeStream1}
	n, err := in.length()
	if err != nil {
		return nil, err
	}
	entries := uint64(0)
	for ; n > 0; n-- {
		node, live, err := in.streamNode()
		if err != nil {
			return nil, err
		}
		if k := len(s.Nodes); k > 0 && !s.Nodes[k-1].Master.before(node.Master) {
			return nil, corrupt("stream nodes out of order")
		}
		s.Nodes = append(s.Nodes, node)
		entries += live
	}
	fields := []*uint64{&s.Length, &s.Last.MS, &s.Last.Seq}
	if !s.Legacy {
		fields = append(fields, &s.First.MS, &s.First.Seq, &s.MaxDeleted.MS, &s.MaxDeleted.Seq, &s.Added)
	}
	for _, f := range fields {
		if *f, err = in.length(); err != nil {
			return nil, err
		}
	}
	if s.Length != entries {
		return nil, corrupt("stream of %d entries has %d", s.Length, entries)
	}
	groups, err := in.length()
	if err != nil {
		return nil, err
	}
	for ; groups > 0; groups-- {
		g, err := in.streamGroup(typ)
		if err != nil {
			return nil, err
		}
		s.Groups = append(s.Groups, g)
	}
	return s, nil
}

func (id StreamID) before(o StreamID) bool { return id.MS < o.MS || id.MS == o.MS && id.Seq < o.Seq }

func (in *input) streamNode() (node StreamNode, live uint64, err error) {
	key, err := in.string()
	if err != nil {
		return node, 0, err
	}
	if len(key) != 16 {
		return node, 0, corrupt("stream node of an id of %d bytes", len(key))
	}
	node.Master = StreamID{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
	if node.Pack, err = in.string(); err != nil {
		return node, 0, err
	}
	live, ok := checkStreamPack(node.Pack)
	if !ok {
		return node, 0, corrupt("stream node of %d bytes is damaged", len(node.Pack))
	}
	return node, live, nil
}

func (in *input) rawID() (StreamID, error) {
	p, err := in.take(16)
	if err != nil {
		return StreamID{}, err
	}
	return StreamID{binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])}, nil
}

func (in *input) millis() (int64, error) {
	p, err := in.take(8)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(p)), nil
}

func (in *input) streamGroup(typ byte) (g StreamGroup, err error) {
	g.Read = -1
	if g.Name, err = in.string(); err != nil {
		return g, err
	}
	read := uint64(math.MaxUint64)
	fields := []*uint64{&g.Last.MS, &g.Last.Seq}
	if typ != typeStream1 {
		fields = append(fields, &read)
	}
	for _, f := range fields {
		if *f, err = in.length(); err != nil {
			return g, err
		}
	}
	g.Read = int64(read)
	n, err := in.length()
	if err != nil {
		return g, err
	}
	pending := map[StreamID]bool{} // false: still without a consumer
	for ; n > 0; n-- {
		var p StreamPending
		if p.ID, err = in.rawID(); err != nil {
			return g, err
		}
		if p.Delivered, err = in.millis(); err != nil {
			return g, err
		}
		if p.Count, err = in.length(); err != nil {
			return g, err
		}
		if k := len(g.Pending); k > 0 && !g.Pending[k-1].ID.before(p.ID) {
			return g, corrupt("pending entries out of order")
		}
		g.Pending = append(g.Pending, p)
		pending[p.ID] = false
	}
	if n, err = in.length(); err != nil {
		return g, err
	}
	names := map[string]bool{}
	owned := 0
	for ; n > 0; n-- {
		c, err := in.streamConsumer(typ)
		if err != nil {
			return g, err
		}
		if names[string(c.Name)] {
			return g, corrupt("consumer %.64q twice", c.Name)
		}
		names[string(c.Name)] = true
		for _, id := range c.Pending {
			if taken, ok := pending[id]; !ok || taken {
				return g, corrupt("a consumer's pending entry is not the group's, or another's")
			}
			pending[id] = true
		}
		owned += len(c.Pending)
		g.Consumers = append(g.Consumers, c)
	}
	if owned != len(g.Pending) {
		return g, corrupt("pending entries without a consumer")
	}
	return g, nil
}

func (in *input) streamConsumer(typ byte) (c StreamConsumer, err error) {
	if c.Name, err = in.string(); err != nil {
		return c, err
	}
	if c.Seen, err = in.millis(); err != nil {
		return c, err
	}
	if typ == typeStream3 {
		if _, err = in.millis(); err != nil { // when it last got something
			return c, err
		}
	}
	n, err := in.length()
	if err != nil {
		return c, err
	}
	for ; n > 0; n-- {
		id, err := in.rawID()
		if err != nil {
			return c, err
		}
		c.Pending = append(c.Pending, id)
	}
	return c, nil
}

// streamPack walks the listpack of a stream's node.
type streamPack struct {
	b  []byte // up to the end byte
	at int
	n  int // elements read
	ok bool
}

// checkStreamPack checks a node from end to end and counts the entries that aren't deleted.
func checkStreamPack(b []byte) (live uint64, ok bool) {
	const header = 6
	if len(b) < header+1 || b[len(b)-1] != 0xff || binary.LittleEndian.Uint32(b) != uint32(len(b)) {
		return 0, false
	}
	p := streamPack{b: b[:len(b)-1], at: header, ok: true}
	entries, deleted, fields := p.int(), p.int(), p.int()
	p.skip(fields)
	if p.int() != 0 || !p.ok || entries < 0 || deleted < 0 {
		return 0, false
	}
	seen, dead := int64(0), int64(0)
	for ; p.ok && p.at < len(p.b); seen++ {
		elements := int64(3)
		flags := p.int()
		p.int()
		p.int()
		if flags&1 != 0 {
			dead++
		}
		if flags&2 != 0 {
			p.skip(fields)
			elements += fields
		} else {
			n := p.int()
			if n > int64(len(b)) {
				return 0, false
			}
			p.skip(2 * n)
			elements += 2*n + 1
		}
		if p.int() != elements {
			return 0, false
		}
	}
	n := int(binary.LittleEndian.Uint16(b[4:]))
	counted := n == math.MaxUint16 || n == p.n
	return uint64(entries), p.ok && counted && seen == entries+deleted && dead == deleted
}

// skip passes n elements.
func (p *streamPack) skip(n int64) {
	if n < 0 || n > int64(len(p.b)) {
		p.ok = false
	}
	for ; n > 0 && p.ok; n-- {
		p.next()
	}
}

// int reads an element that has to be an integer.
func (p *streamPack) int() int64 {
	n, isInt := p.next()
	if !isInt {
		p.ok = false
	}
	return n
}

// next reads an element with its backward length.
func (p *streamPack) next() (n int64, isInt bool) {
	if !p.ok || p.at >= len(p.b) {
		p.ok = false
		return 0, false
	}
	b := p.b[p.at:]
	size := 0
	switch e := b[0]; {
	case e < 0x80:
		n, size, isInt = int64(e), 1, true
	case e>>6 == 2:
		size = 1 + int(e&0x3f)
	case e>>5 == 6 && len(b) >= 2:
		n, size, isInt = int64(int16(uint16(e&0x1f)<<11|uint16(b[1])<<3)>>3), 2, true
	case e>>4 == 0xe && len(b) >= 2:
		size = 2 + (int(e&0x0f)<<8 | int(b[1]))
	case e == 0xf0 && len(b) >= 5:
		size = 5 + int(binary.LittleEndian.Uint32(b[1:]))
	case e == 0xf1 && len(b) >= 3:
		n, size, isInt = int64(int16(binary.LittleEndian.Uint16(b[1:]))), 3, true
	case e == 0xf2 && len(b) >= 4:
		n, size, isInt = int24(b[1:]), 4, true
	case e == 0xf3 && len(b) >= 5:
		n, size, isInt = int64(int32(binary.LittleEndian.Uint32(b[1:]))), 5, true
	case e == 0xf4 && len(b) >= 9:
		n, size, isInt = int64(binary.LittleEndian.Uint64(b[1:])), 9, true
	}
	back := backLen(size)
	if size == 0 || size+back > len(b) {
		p.ok = false
		return 0, false
	}
	// Backwards, in 7-bit groups, all but the first byte marked.
	length, shift := 0, 0
	for i := size + back - 1; i >= size; i-- {
		if (b[i]&0x80 != 0) != (i > size) {
			p.ok = false
		}
		length |= int(b[i]&0x7f) << shift
		shift += 7
	}
	p.ok = p.ok && length == size
	p.at += size + back
	p.n++
	return n, isInt
}
