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
// and read without a lock; what neither they nor the backlog need any more is
// left to the garbage collector.
type Log struct {
	hist atomic.Pointer[history]

	mu       sync.Mutex
	loaded   bool   // Reset has given the position, so the data is known to be at it
	second   string // the history's former name,
	upTo     int64  // and the offset up to which it holds
	head     *chunk // the oldest chunk kept; nil before the first byte
	tail     *chunk // the one being filled
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
func (l *Log) Append(p []byte) {
	if len(p) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hist.Load()
	offset := h.offset.Load()
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
	c := &chunk{base: at, buf: make([]byte, min(max(l.backlog/16, 64), 256<<10))}
	if l.tail == nil {
		l.head = c
	} else {
		l.tail.next.Store(c)
	}
	l.tail = c
	for l.head != c && at-l.head.next.Load().base >= l.backlog {
		l.head = l.head.next.Load()
	}
	for _, cu := range l.cursors {
		if before-cu.sent.Load() > cu.limit {
			cu.cut(errOverrun)
		}
	}
	return c
}

// Reset starts the log anew at a position, as after loading the data of that
// position: the backlog is empty, replicas are cut, waiters look again.
func (l *Log) Reset(replid string, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = true
	l.second, l.upTo = "", 0
	l.head, l.tail = nil, nil
	l.renameLocked(replid, offset)
}

// Promote makes the log a primary's: it starts a name of its own, under which
// the stream goes on at the same offset, and remembers the old one. Replicas are
// cut, so that they learn of it. The Replica that has fed the log must have
// stopped.
func (l *Log) Promote() (replid string) {
	l.following.Store(false)
	l.gate.Lock()
	l.unsynced = false
	l.gate.Unlock()
	replid = newReplid()
	l.shift(replid)
	return replid
}

// shift gives the history a new name at the present offset.
func (l *Log) shift(replid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hist.Load()
	l.second, l.upTo = h.id, h.offset.Load()
	l.renameLocked(replid, l.upTo)
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
	case replid == l.second && offset <= l.upTo:
		return true, nil
	}
	return false, ErrOtherHistory
}

// resumableLocked says whether the stream can be given from after offset on.
func (l *Log) resumableLocked(replid string, offset int64) bool {
	h := l.hist.Load()
	now := h.offset.Load()
	if replid != h.id && (replid != l.second || l.second == "" || offset > l.upTo) {
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
	l.following.Store(true)
	l.gate.Lock()
	defer l.gate.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loaded && l.hist.Load().offset.Load() == 0 {
		l.unsynced = true
	}
}

// synced says whether the data is at the log's position.
func (l *Log) synced() bool {
	l.gate.Lock()
	defer l.gate.Unlock()
	return !l.unsynced
}
