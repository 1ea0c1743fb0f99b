package psync

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"sync/atomic"
)

// DefaultBacklog is how many bytes of the stream a Log keeps unless told.
const DefaultBacklog = 16 << 20

// A Log is the replication stream of one store: its position, and its last bytes
// for replicas that were away for a while. On a primary the engine appends to it
// as it changes the data; on a replica the Replica does, with its primary's very
// bytes.
//
// The bytes are a chain of chunks. Those who send them hold a place in the chain
// and read without a lock. The bytes of what neither they nor the backlog need
// any more are used again: a new piece for each old one would be all the garbage
// that a store makes whose keys are overwritten.
type Log struct {
	hist atomic.Pointer[history]

	mu       sync.Mutex
	loaded   bool     // the position was given, so the data is known to be at it
	former   []Former // names of the history, the latest first; the slice never changes
	term     int64
	effects  int64  // offset after the last byte that changed the data
	head     *chunk // the oldest chunk kept; nil before the first byte
	tail     *chunk // the one being filled
	spare    []byte // of a chunk that nobody needs any more
	keeper   Keeper // may be nil
	backlog  int64
	cursors  []*cursor
	waiters  waitHeap
	waitPool sync.Pool

	// gate is held while data and offset disagree: by a Replica from before it
	// applies a batch until the bytes are appended, by a Primary from before a
	// snapshot until its position is known.
	gate      sync.Mutex
	unsynced  bool        // guarded by gate: the data isn't at the position
	following atomic.Bool // the bytes come from a primary, nobody else may add any
}

// history is the present name with its offset. A new name is a new history, so
// that whoever reads the two without a lock gets a pair that belongs together.
type history struct {
	id     string
	offset atomic.Int64
}

// chunk is a piece of the stream. Bytes below n never change.
type chunk struct {
	base int64 // offset before its first byte
	buf  []byte
	n    atomic.Int64
	next atomic.Pointer[chunk] // set once this one is full
}

// NewLog starts a history of its own at offset 0 and keeps at least the last
// backlog bytes (DefaultBacklog if not positive).
func NewLog(backlog int) *Log {
	if backlog <= 0 {
		backlog = DefaultBacklog
	}
	l := &Log{backlog: int64(backlog)}
	l.waitPool.New = func() any { return &waiter{done: make(chan error, 1)} }
	l.hist.Store(&history{id: newReplid()})
	return l
}

func newReplid() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Position returns how far the stream is here: what this copy has written or
// applied. It takes no lock.
func (l *Log) Position() (replid string, offset int64) {
	h := l.hist.Load()
	return h.id, h.offset.Load()
}

// Append adds p to the stream, after its effects have become visible, and wakes
// who waits for it. p is copied. Calls must be in the order of the effects; one
// call holds whole commands, and a transaction whole.
func (l *Log) Append(p []byte) { l.append(p, true) }

// append adds to the stream. What has no effect on the data isn't kept on disk.
func (l *Log) append(p []byte, effect bool) {
	if len(p) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hist.Load()
	offset := h.offset.Load()
	if effect {
		if l.keeper != nil {
			l.keeper.Keep(offset, p)
		}
		l.effects = offset + int64(len(p))
	}
	for at := offset; len(p) > 0; {
		c := l.roomLocked(at, offset)
		n := c.n.Load()
		k := copy(c.buf[n:], p)
		c.n.Store(n + int64(k))
		p = p[k:]
		at += int64(k)
		h.offset.Store(at)
	}
	for _, c := range l.cursors {
		c.notify()
	}
	l.waiters.release(h.offset.Load())
}

// roomLocked returns the chunk for the byte after offset at, a new one if the
// last is full; then it trims, and cuts who was too far behind already at offset
// before, when the present Append began: one huge command is no reason.
func (l *Log) roomLocked(at, before int64) *chunk {
	if l.tail != nil && int(l.tail.n.Load()) < len(l.tail.buf) {
		return l.tail
	}
	for l.head != l.tail && at-l.head.next.Load().base >= l.backlog {
		l.releaseLocked(l.head)
		l.head = l.head.next.Load()
	}
	c := &chunk{base: at, buf: l.spare}
	if l.spare = nil; c.buf == nil {
		c.buf = make([]byte, min(max(l.backlog/16, 64), 256<<10))
	}
	if l.tail == nil {
		l.head = c
	} else {
		l.tail.next.Store(c)
	}
	l.tail = c
	for _, cu := range l.cursors {
		if before-cu.sent.Load() > cu.limit {
			cu.cut(errOverrun)
		}
	}
	return c
}

// releaseLocked keeps the bytes of a chunk that leaves the backlog for the next
// one, unless somebody may be sending them still.
func (l *Log) releaseLocked(c *chunk) {
	for _, cu := range l.cursors {
		if cu.sent.Load() < c.base+int64(len(c.buf)) {
			return
		}
	}
	l.spare = c.buf
}

// Reset starts the log anew at a position, as after loading the data of that
// position: the backlog is empty, replicas are cut, waiters look again.
func (l *Log) Reset(replid string, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resetLocked(replid, offset, 0)
}

func (l *Log) resetLocked(replid string, offset, term int64) {
	l.loaded = true
	l.former, l.term, l.effects = nil, term, offset
	l.head, l.tail = nil, nil
	l.renameLocked(replid, offset)
	if l.keeper != nil {
		l.keeper.Replaced(l.standingLocked())
	}
}

// Promote makes the log a primary's: it starts a name of its own, under which
// the stream goes on at the same offset, and remembers the old one. Replicas are
// cut, so that they learn of it. The Replica that has fed the log must have
// stopped. term is who the primary is among those there were; it only grows.
func (l *Log) Promote(term int64) (replid string) {
	l.gate.Lock()
	l.unsynced = false
	l.gate.Unlock()
	l.rewind() // what it took from the former primary and nobody needs
	replid = newReplid()
	l.shift(replid, term)
	l.following.Store(false)
	return replid
}

// SetTerm says under which term the history goes on.
func (l *Log) SetTerm(term int64) {
	replid, _ := l.Position()
	l.shift(replid, term)
}

// shift gives the history a new name at the present offset.
func (l *Log) shift(replid string, term int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hist.Load()
	l.term = term
	if replid != h.id {
		l.former = append([]Former{{h.id, h.offset.Load()}}, l.former...)
		l.former = l.former[:min(len(l.former), maxFormer)]
		l.renameLocked(replid, h.offset.Load())
	}
	if l.keeper != nil {
		p := l.standingLocked()
		p.Offset = h.offset.Load()
		l.keeper.Moved(p)
	}
}

func (l *Log) renameLocked(replid string, offset int64) {
	h := &history{id: replid}
	h.offset.Store(offset)
	l.hist.Store(h)
	for _, c := range l.cursors {
		c.cut(errRenamed)
	}
	l.waiters.reconsider(l)
}

// reachedLocked says whether a position has been reached, or can't be.
func (l *Log) reachedLocked(replid string, offset int64) (bool, error) {
	h := l.hist.Load()
	switch {
	case replid == h.id:
		return h.offset.Load() >= offset, nil
	case l.formerlyLocked(replid, offset):
		return true, nil
	}
	return false, ErrOtherHistory
}

// formerlyLocked says whether a position of a former name is part of the history.
func (l *Log) formerlyLocked(replid string, offset int64) bool {
	for _, f := range l.former {
		if f.Replid == replid {
			return offset <= f.UpTo
		}
	}
	return false
}

// resumableLocked says whether the stream can be given from after offset on.
func (l *Log) resumableLocked(replid string, offset int64) bool {
	h := l.hist.Load()
	now := h.offset.Load()
	if replid != h.id && !l.formerlyLocked(replid, offset) {
		return false
	}
	oldest := now
	if l.head != nil {
		oldest = l.head.base
	}
	return offset >= oldest && offset <= now
}

// follow says that the bytes come from a primary from now on. A log without any
// history isn't served to replicas until it has been given one.
func (l *Log) follow() {
	fresh := l.Fresh()
	l.following.Store(true)
	l.gate.Lock()
	defer l.gate.Unlock()
	if fresh {
		l.unsynced = true
	}
}

// Synced says whether the data is at the log's position.
func (l *Log) Synced() bool {
	l.gate.Lock()
	defer l.gate.Unlock()
	return !l.unsynced
}
