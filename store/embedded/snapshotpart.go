package embedded

import (
	"time"
	"unsafe"

	"respmesh/store/rdb"
)

// part is a key that is too big to be written in one stay under the lock: its value is taken as it was when the part was begun,
// some elements, or bytes, at a time. It holds on to the value, not to the key, which may be gone meanwhile.
type part struct {
	db     *keyspace
	key    []byte
	at     int64 // when it ends
	begun  bool  // its head has been written
	head   func(w *rdb.Writer)
	some   func(w *rdb.Writer) (more bool) // writes a few elements
	finish func()                          // lets go of the value
}

const (
	// partSize is from how many bytes on a value is written in parts.
	partSize = 512 << 10
	// partBytes is how many bytes of a string are written at once.
	partBytes = 64 << 10
	// partChunks is how many chunks of a list or nodes of a stream, partBuckets how many buckets of a dict are written at once.
	partChunks  = 8
	partBuckets = 16
)

// element is one of a hash, set or sorted set. The bytes are never changed.
type element struct {
	name, value []byte
	score       float64
}

// newPart begins a part. It costs little: for lists and streams a copy of what says where their chunks are, and of a stream's
// groups. nil: the value is none that can be written in parts.
func newPart(ks *keyspace, ent *entry) *part {
	o := &ent.val
	p := &part{db: ks, key: bytesOf(ent.key), at: ks.expireAt(o)}
	switch {
	case o.mem < partSize:
		return nil
	case o.kind == kindString:
		p.ofString(o)
	case o.kind == kindList:
		p.ofList(o.list())
	case o.kind == kindSet && o.set().big() != nil:
		d := &o.set().big().dict
		n := d.len()
		p.head = func(w *rdb.Writer) { _ = w.BeginSet(p.key, p.at, n) } // the writer's errors stick
		ofDict(p, d, func(m string) element { return element{name: bytesOf(m)} },
			func(w *rdb.Writer, e element) { _ = w.Elem(e.name) })
	case o.kind == kindHash && o.hash().big != nil:
		d := &o.hash().big.dict
		n := d.len()
		p.head = func(w *rdb.Writer) { _ = w.BeginHash(p.key, p.at, n) }
		ofDict(p, d, func(f hashField) element {
			field, value := f.split()
			return element{name: field, value: value}
		}, func(w *rdb.Writer, e element) { _ = w.Field(e.name, e.value) })
	case o.kind == kindZSet && o.zset().big != nil:
		d := o.zset().big.members
		n := d.len()
		p.head = func(w *rdb.Writer) { _ = w.BeginZSet(p.key, p.at, n) }
		ofDict(p, d, func(m *zmember) element { return element{name: bytesOf(m.member), score: m.score} },
			func(w *rdb.Writer, e element) { _ = w.Member(e.name, e.score) })
	case o.kind == kindStream:
		p.ofStream(o.stream())
	default:
		return nil
	}
	return p
}

// ofDict writes what a walk takes. What others took before their changes waits until it is this part's turn.
func ofDict[T any](p *part, d *dict[T], of func(T) element, write func(*rdb.Writer, element)) {
	var taken []element
	walk := d.beginWalk(func(v T) { taken = append(taken, of(v)) })
	p.finish = walk.end
	done := 0
	p.some = func(w *rdb.Writer) bool {
		more := true
		for n := 0; n < partBuckets && more && len(taken) < partBuckets*bucketSlots; n++ {
			more = walk.next()
		}
		upTo := min(done+partBuckets*bucketSlots, len(taken))
		for ; done < upTo; done++ {
			write(w, taken[done])
			taken[done] = element{}
		}
		if done < len(taken) {
			return true
		}
		taken, done = taken[:0], 0
		return more
	}
}

// ofString writes the bytes as they are; who changes them makes a copy first. Appending isn't changing.
func (p *part) ofString(o *object) {
	b := o.raw()
	rest := b[:len(b):len(b)]
	o.enc = encShared
	p.head = func(w *rdb.Writer) { _ = w.BeginString(p.key, p.at, len(b)) }
	p.finish = func() {
		if ent := p.db.keys.find(p.key); ent != nil && ent.val.enc == encShared && ent.val.ptr == unsafe.Pointer(unsafe.SliceData(b)) {
			ent.val.enc = encRaw
		}
	}
	p.some = func(w *rdb.Writer) bool {
		n := min(len(rest), partBytes)
		_ = w.Bytes(rest[:n])
		rest = rest[n:]
		return len(rest) > 0
	}
}

// ofList writes from a copy of the chunks' headers; who changes a chunk's bytes makes a copy of them first.
func (p *part) ofList(l *listValue) {
	live := l.live()
	chunks := make([]listChunk, len(live))
	for i := range live {
		live[i].shared = true
		chunks[i] = live[i]
	}
	n := l.len()
	p.head = func(w *rdb.Writer) { _ = w.BeginList(p.key, p.at, n) }
	p.finish = func() {}
	p.some = func(w *rdb.Writer) bool {
		var scratch [24]byte
		for range min(partChunks, len(chunks)) {
			c := &chunks[0]
			for pos := int(c.lo); pos < len(c.buf); {
				var v lpValue
				v, pos = lpDecode(c.buf, pos)
				_ = w.Elem(v.bytes(&scratch))
			}
			chunks[0] = listChunk{}
			chunks = chunks[1:]
		}
		return len(chunks) > 0
	}
}

// ofStream does the same with the nodes of a stream. Its groups, with what is pending, are copied whole.
func (p *part) ofStream(s *streamValue) {
	for i := range s.chunks {
		s.chunks[i].shared = true
	}
	whole := s.toRDB()
	nodes := whole.Nodes
	p.head = func(w *rdb.Writer) { _ = w.BeginStream(p.key, p.at, len(whole.Nodes)) }
	p.finish = func() {}
	p.some = func(w *rdb.Writer) bool {
		for range min(partChunks, len(nodes)) {
			_ = w.Node(nodes[0])
			nodes[0] = rdb.StreamNode{}
			nodes = nodes[1:]
		}
		if len(nodes) > 0 {
			return true
		}
		_ = w.EndStream(whole)
		return false
	}
}

// aside is a small key that was about to be changed while a part was being written: a copy of it.
type aside struct {
	db  *keyspace
	key []byte
	at  int64
	val object
}

// setAside keeps a key for the time after the part.
func (s *snapshot) setAside(ks *keyspace, ent *entry) {
	a := &aside{db: ks, key: bytesOf(ent.key), at: ks.expireAt(&ent.val)}
	a.val.put(ent.val.clone())
	s.asides = append(s.asides, a)
}

// partStep goes on with the first part, and writes what waited for its end.
func (s *snapshot) partStep() {
	p := s.parts[0]
	if !p.begun {
		p.begun = true
		s.selectDB(p.db)
		p.head(s.w)
	}
	if p.some(s.w) {
		return
	}
	p.finish()
	s.parts[0] = nil
	s.parts = s.parts[1:]
}

// asidesStep writes some of the keys that waited, between two parts.
func (s *snapshot) asidesStep() {
	for start := time.Now(); len(s.asides) > 0 && s.out.Len() <= snapshotSlice && time.Since(start) <= snapshotSliceTime; {
		a := s.asides[0]
		s.asides[0] = nil
		s.asides = s.asides[1:]
		s.selectDB(a.db)
		s.value(a.key, a.at, &a.val)
	}
}
