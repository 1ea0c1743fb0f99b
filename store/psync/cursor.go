package psync

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

var (
	errOverrun = errors.New("replica is too far behind the stream")
	errRenamed = errors.New("replication history has changed")
	errTerm    = errors.New("a new term has begun")
)

// cursor is a replica's place in the stream. One goroutine reads by it.
type cursor struct {
	log   *Log
	chunk *chunk
	at    int64 // in chunk
	limit int64 // how far sent may stay behind
	sent  atomic.Int64

	idle atomic.Bool // the reader has found nothing and waits for wake
	wake chan struct{}

	once  sync.Once
	gone  chan struct{} // closed when cut
	cause error         // why, once gone is closed
	onCut func(cause error)
}

// subscribe gives a cursor after offset, if that position can be served. onCut
// is called, under the log's lock, when the cursor loses its place.
func (l *Log) subscribe(replid string, offset, limit int64, onCut func(cause error)) (*cursor, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.resumableLocked(replid, offset) {
		return nil, false
	}
	return l.subscribeLocked(offset, limit, onCut), true
}

func (l *Log) subscribeLocked(offset, limit int64, onCut func(cause error)) *cursor {
	if l.tail == nil {
		l.roomLocked(offset, offset)
	}
	c := &cursor{log: l, limit: limit, onCut: onCut, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	c.sent.Store(offset)
	ch := l.head
	for offset > ch.base+ch.n.Load() {
		ch = ch.next.Load()
	}
	c.chunk, c.at = ch, offset-ch.base
	l.cursors = append(l.cursors, c)
	return c
}

// subscribeHere gives a cursor after what has been appended so far.
func (l *Log) subscribeHere(limit int64, onCut func(cause error)) (c *cursor, replid string, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	replid, offset = l.Position()
	return l.subscribeLocked(offset, limit, onCut), replid, offset
}

// close gives the place up.
func (c *cursor) close() {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if i := slices.Index(c.log.cursors, c); i >= 0 {
		c.log.cursors = slices.Delete(c.log.cursors, i, i+1)
	}
}

// cut takes the place away. The caller holds the log's lock.
func (c *cursor) cut(cause error) {
	c.once.Do(func() {
		c.cause = cause
		close(c.gone)
		c.onCut(cause)
	})
}

// notify wakes the reader if it waits; cheap if not.
func (c *cursor) notify() {
	if c.idle.Load() && c.idle.CompareAndSwap(true, false) {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// ready returns what there is to send, a piece at a time, or nothing after
// having asked to be woken when there is.
func (c *cursor) ready() []byte {
	if p := c.available(); p != nil {
		return p
	}
	c.idle.Store(true)
	p := c.available() // what came before idle was seen
	if p != nil {
		c.idle.Store(false)
	}
	return p
}

func (c *cursor) available() []byte {
	for {
		next := c.chunk.next.Load() // before n: a chunk with a successor is full
		if n := c.chunk.n.Load(); c.at < n {
			return c.chunk.buf[c.at:n:n]
		}
		if next == nil {
			return nil
		}
		c.chunk, c.at = next, 0
	}
}

// advance says that n bytes of ready have been sent.
func (c *cursor) advance(n int) {
	c.at += int64(n)
	c.sent.Add(int64(n))
}
