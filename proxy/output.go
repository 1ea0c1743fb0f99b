package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"respmesh/proxy/poll"
)

// output is what goes to one client, in the order of its requests.
//
//	buf | head call (unanswered), its after | next call, its after | …
//
// buf is ready to be written. Each call in flight holds its place in the order; what the session answers itself while
// calls are in flight waits behind the last of them (call.after). Whoever answers the head call moves what became
// ready into buf.
//
// The session's own goroutine writes while nothing is in flight. Only when the socket would block, or when
// replies come in from links, does a writer goroutine run, as long as there is something to write.
type output struct {
	conn  net.Conn
	spawn func(func()) // starts a goroutine that the owner waits for
	limit int          // bytes ready but not taken by the client
	onCut func(reason cutReason)

	try      func(p []byte) (int, error) // writes what can be written without waiting; nil: there is no such thing
	raw      syscall.RawConn
	rawWrite func(fd uintptr) bool
	rawBuf   []byte // argument and results of rawWrite; owned by whoever set writing
	rawN     int
	rawErr   error

	mu      sync.Mutex
	changed sync.Cond // pending shrank, buf was written out, or closed
	waiting int       // goroutines in changed.Wait
	buf     []byte
	spare   []byte
	head    *call // unanswered calls in order
	tail    *call
	pending int // calls in the list
	writes  int // of them, those that aren't plain reads
	behind  int // bytes in answered calls and in call.after
	writing bool
	handed  int // bytes that the writer is at
	closed  bool
	hold    bool // pushes wait in held, for the confirmation of the SUBSCRIBE at work
	held    []byte
	written int64
	racing  bool                   // the reads in flight are asked twice: see hedge.go
	detour  atomic.Pointer[detour] // …or were asked again elsewhere; nil: they weren't. Set by who answers the oldest
	sum     *atomic.Int64          // of all outputs of the gateway; nil: not kept
	counted int                    // of this one in sum
	most    int64                  // that sum should be
}

type cutReason string

const (
	cutSlow   cutReason = "client doesn't read its replies"
	cutWrite  cutReason = "write failed"
	cutLocal  cutReason = "closed by the node"
	cutKilled cutReason = "killed"
	cutUser   cutReason = "user removed"
	cutIdle   cutReason = "idle for too long"
)

// keepBuffer is the most that a session keeps for its next replies.
const keepBuffer = 16 << 10

func newOutput(conn net.Conn, limit int, spawn func(func()), onCut func(cutReason)) *output {
	o := &output{conn: conn, limit: limit, spawn: spawn, onCut: onCut}
	o.changed.L = &o.mu
	switch c := conn.(type) {
	case *poll.Conn:
		o.try = c.TryWrite
	case syscall.Conn:
		if raw, err := c.SyscallConn(); err == nil {
			o.raw, o.rawWrite, o.try = raw, o.writeFD, o.tryRaw
		}
	}
	return o
}

// writeFD writes what a non-blocking socket takes at once.
func (o *output) writeFD(fd uintptr) bool {
	for o.rawN < len(o.rawBuf) {
		n, err := syscall.Write(int(fd), o.rawBuf[o.rawN:])
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			o.rawErr = err
			break
		}
		o.rawN += n
	}
	return true
}

// tryWrite writes what can be written without waiting (for other than kernel sockets: without waiting long).
func (o *output) tryWrite(p []byte) (int, error) {
	if o.try != nil {
		return o.try(p)
	}
	o.conn.SetWriteDeadline(time.Now().Add(2 * time.Millisecond))
	n, err := o.conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	o.conn.SetWriteDeadline(time.Time{})
	return n, err
}

func (o *output) tryRaw(p []byte) (int, error) {
	o.rawBuf, o.rawN, o.rawErr = p, 0, nil
	err := o.raw.Write(o.rawWrite)
	o.rawBuf = nil
	return o.rawN, errors.Join(err, o.rawErr)
}

// deliver adds the session's own replies, which come after everything asked for before. p may be reused afterwards.
func (o *output) deliver(p []byte) {
	if len(p) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return
	case o.tail != nil:
		o.tail.after = append(o.tail.after, p...)
		o.behind += len(p)
		o.checkLocked(len(p))
		return
	case o.writing || len(o.buf) > 0:
		o.buf = append(o.buf, p...)
		o.checkLocked(len(p))
		o.flushLocked()
		return
	}
	o.writing = true
	o.mu.Unlock()
	n, err := o.tryWrite(p)
	o.mu.Lock()
	o.writing = false
	o.written += int64(n)
	if err != nil {
		o.cutLocked(cutWrite)
		return
	}
	if n < len(p) {
		o.buf = append(append(o.takeSpare(), p[n:]...), o.buf...)
		o.countLocked()
	}
	o.flushLocked()
}

func (o *output) takeSpare() []byte {
	p := o.spare
	o.spare = nil
	return p[:0]
}

// push adds a frame that isn't a reply. It never waits and never writes.
func (o *output) push(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if o.hold {
		o.held = append(o.held, p...)
		o.behind += len(p)
		o.checkLocked(len(p))
		return
	}
	if o.sum != nil && o.sum.Load() > o.most && o.sizeLocked() > o.limit/64 {
		o.cutLocked(cutSlow) // who publishes can't be made to wait
		return
	}
	o.buf = append(o.buf, p...)
	o.checkLocked(len(p))
	o.flushLocked()
}

// holdPushes keeps pushes back until release: a message mustn't come before the confirmation of its subscription.
func (o *output) holdPushes() {
	o.mu.Lock()
	o.hold = true
	o.mu.Unlock()
}

func (o *output) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hold = false
	held := o.held
	o.held = nil
	o.behind -= len(held)
	if o.tail != nil {
		o.tail.after = append(o.tail.after, held...)
		o.behind += len(held)
		return
	}
	o.buf = append(o.buf, held...)
	o.flushLocked()
}

// flush writes what is ready, without waiting.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.try == nil || o.writing || o.closed || len(o.buf) == 0 {
		o.flushLocked()
		return
	}
	p := o.buf
	o.buf = nil
	o.writing = true
	o.mu.Unlock()
	n, err := o.tryWrite(p)
	o.mu.Lock()
	o.writing = false
	o.written += int64(n)
	if err != nil {
		o.cutLocked(cutWrite)
		return
	}
	if n < len(p) {
		o.buf = append(p[n:], o.buf...)
	} else {
		o.keepLocked(p)
	}
	o.flushLocked()
}

func (o *output) keepLocked(p []byte) {
	o.countLocked()
	if cap(p) <= keepBuffer && o.spare == nil {
		o.spare = p[:0]
	}
}

// flushLocked starts the writer if there is something to write and nobody does.
func (o *output) flushLocked() {
	if o.writing || o.closed || len(o.buf) == 0 {
		if o.waiting > 0 {
			o.changed.Broadcast()
		}
		return
	}
	o.writing = true
	o.spawn(o.write)
}

// write is the writer goroutine.
func (o *output) write() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buf) > 0 && !o.closed {
		p := o.buf
		o.buf = o.takeSpare()
		o.handed = len(p)
		o.mu.Unlock()
		n, err := o.writeAll(p)
		o.mu.Lock()
		o.handed = 0
		if n < len(p) && err == nil {
			err = io.ErrShortWrite
		}
		o.keepLocked(p)
		if err != nil {
			o.cutLocked(cutWrite)
		}
	}
	o.writing = false
	if o.waiting > 0 {
		o.changed.Broadcast()
	}
}

// outPiece is the most that is written at once: a client that takes a long reply slowly makes progress.
const outPiece = 256 << 10

// writeAll writes without the lock, and notes what was taken.
func (o *output) writeAll(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = o.conn.Write(p[n:min(len(p), n+outPiece)])
		n += m
		o.mu.Lock()
		o.written += int64(m)
		o.handed -= m
		if o.waiting > 0 {
			o.changed.Broadcast()
		}
		o.mu.Unlock()
	}
	return n, err
}

// checkLocked cuts a client that leaves too much untaken. What was added last doesn't count: one reply may be larger.
func (o *output) checkLocked(added int) {
	if o.sizeLocked()-added > o.limit {
		o.cutLocked(cutSlow)
		return
	}
	o.countLocked()
}

func (o *output) cutLocked(reason cutReason) {
	if o.closed {
		return
	}
	o.closed = true
	o.buf, o.spare, o.held, o.behind = nil, nil, nil, 0
	o.countLocked()
	o.head, o.tail = nil, nil // their links still answer them
	o.changed.Broadcast()
	o.conn.Close()
	if o.onCut != nil {
		o.onCut(reason)
	}
}

// cut closes the client's connection at once.
func (o *output) cut(reason cutReason) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cutLocked(reason)
}

func (o *output) waitLocked() {
	o.waiting++
	o.changed.Wait()
	o.waiting--
}

// drain waits until no call is in flight; false: the client is gone.
func (o *output) drain() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.pending > 0 && !o.closed {
		o.waitLocked()
	}
	o.straightLocked()
	return !o.closed
}

// finish waits until everything was answered and written, at most for the given time, then closes.
func (o *output) finish(limit time.Duration) {
	t := time.AfterFunc(limit, func() { o.cut(cutLocal) })
	defer t.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for (o.pending > 0 || len(o.buf) > 0 || o.writing) && !o.closed {
		o.waitLocked()
	}
	o.cutLocked(cutLocal)
}

// inFlight returns how many calls are unanswered, and how many of them aren't plain reads.
func (o *output) inFlight() (all, writes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pending, o.writes
}

// untaken is what the client hasn't taken yet, for CLIENT LIST.
func (o *output) untaken() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) + o.handed + o.behind
}

// total is how many bytes the client took.
func (o *output) total() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written
}
