package redis

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// pipe is one connection to a server, past its handshake. Batches of many sessions are appended to a buffer, in the order
// in which their replies come back. Who finds nobody writing writes what there is, at once; what is appended meanwhile
// is left to the pipe's own writer, so that all of it travels with the next write. One goroutine reads at a time: see lend.
//
//	up ──▶ down
//
// Once down, each unanswered call is told how many of its bytes the socket had taken. A pipe isn't revived.
type pipe struct {
	conn  net.Conn
	done  chan struct{} // both goroutines have ended, everything was answered
	moved func(int64)   // is told the server's offset
	ended func()        // called once, at the end

	onPush  atomic.Pointer[func([]byte)] // takes frames that aren't replies
	onDown  atomic.Pointer[func()]       // called at the end, if it is set then
	stray   atomic.Bool                  // what comes unasked goes to onPush too (MONITOR)
	patient atomic.Bool                  // a call on it may wait for as long as it takes

	mu      sync.Mutex
	wake    sync.Cond // the writer waits for something to do
	room    sync.Cond // senders wait for the buffer to shrink
	blocked int       // senders waiting
	buf     []byte
	spare   []byte
	queue   []*call // sent or to be sent, not taken by the reader yet
	wants   bool    // an offset is wanted behind buf
	writing bool    // somebody writes
	handed  bool    // …and that is the writer
	inWrite bool    // the socket has the bytes, and hasn't said how many it took
	end     int64   // stream offset of the end of buf
	written int64   // stream offset up to which the socket took the bytes
	down    bool
	cause   error

	r       *frame.Reader
	lent    bool          // sessions may read: the pipe is shared, and its socket the kernel's
	reading sync.Mutex    // held by who reads
	wanted  chan struct{} // has room for one: the pipe's goroutine is to read
	reads   atomic.Uint32 // how often a session has read

	role    call         // stands for each ROLE of the pipe's own
	waiting atomic.Int64 // calls unanswered
	heard   atomic.Int64 // unix nano of the last sign of life, or of the first call after idleness

	// Of who reads.
	taken []*call // in order; taken[at:] are unanswered
	at    int
	held  []*call // answered, but an offset is to come first
}

const (
	pipeMaxBytes = 32 << 20  // unwritten: more waits
	pipeKeep     = 256 << 10 // the most that a pipe keeps for its next write
)

var roleRaw = frame.AppendCommandString(nil, "ROLE")

// call is what a session waits for: the replies to a batch. It belongs to the pipe from send until done has a value, or
// for good if the session left it.
type call struct {
	dst      []byte
	need     int  // replies to come
	got      int  // replies that came
	last     int  // where in dst the last one begins
	changes  bool // is answered only with an offset of after it
	confirms bool // its replies are confirmations of subscriptions, which come as pushes
	state    atomic.Int32
	start    int64 // where its bytes begin in the stream
	sent     int64 // how many of them were taken, after an error
	err      error
	done     chan struct{} // has room for one
}

// The states of a call. The reader holds it while it appends replies that are there; between reads, anyone may.
const (
	callWaits int32 = iota
	callHeld
	callLeft
)

func newCall() *call { return &call{done: make(chan struct{}, 1)} }

// preparePipe takes over a connection that is past its handshake; r is its reader.
func preparePipe(conn net.Conn, r *frame.Reader, moved func(int64), ended func()) *pipe {
	return &pipe{conn: conn, r: r, done: make(chan struct{}), wanted: make(chan struct{}, 1), moved: moved, ended: ended}
}

func (p *pipe) start() {
	p.wake.L, p.room.L = &p.mu, &p.mu
	p.heard.Store(time.Now().UnixNano())
	p.reading.Lock()
	go func() {
		defer close(p.done)
		var writer sync.WaitGroup
		writer.Go(p.write)
		p.close(p.read())
		writer.Wait()
		p.fail()
		if down := p.onDown.Load(); down != nil {
			(*down)()
		}
		p.reading.Unlock()
		if p.ended != nil {
			p.ended()
		}
	}()
}

// exchange sends a batch and waits until it is answered. errNotSent: no byte has left; errLeft: ctx has ended, and the call is the
// pipe's; otherwise the call says how it went.
func (p *pipe) exchange(ctx context.Context, c *call, reqs []command.Request) error {
	alone, err := p.send(c, reqs)
	if err != nil || alone && p.readFor(c) {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.leave() {
			return errLeft
		}
	}
	return nil
}

// send appends a batch and has it travel; alone: nothing else is unanswered. After an error the call is still the caller's, and
// no byte of it has left.
func (p *pipe) send(c *call, reqs []command.Request) (alone bool, err error) {
	c.got, c.err, c.sent = 0, nil, 0
	c.state.Store(callWaits)
	p.mu.Lock()
	for !p.down && p.end-p.written > pipeMaxBytes {
		p.blocked++
		p.room.Wait()
		p.blocked--
	}
	if p.down {
		p.mu.Unlock()
		return false, errNotSent
	}
	if alone = p.waiting.Add(1) == 1; alone {
		p.heard.Store(time.Now().UnixNano())
	}
	c.start = p.end
	if p.buf == nil {
		p.buf, p.spare = p.spare, nil
	}
	before := len(p.buf)
	for i := range reqs {
		p.buf = append(p.buf, reqs[i].Raw...)
	}
	p.end += int64(len(p.buf) - before)
	p.queue = append(p.queue, c)
	p.wants = p.wants || c.changes
	if p.writing {
		p.mu.Unlock()
		return false, nil
	}
	p.writing = true
	if !alone { // others are at it too: what they are about to send may travel with this
		p.mu.Unlock()
		runtime.Gosched()
		p.mu.Lock()
	}
	p.flushLocked()
	if len(p.buf) > 0 && !p.down {
		p.handed = true
		p.wake.Signal()
	} else {
		p.writing = false
	}
	p.mu.Unlock()
	return alone, nil
}

// flushLocked writes what is in the buffer, without holding the lock meanwhile.
func (p *pipe) flushLocked() {
	if p.down {
		return
	}
	if p.wants {
		p.wants = false
		p.buf = append(p.buf, roleRaw...)
		p.end += int64(len(roleRaw))
		p.queue = append(p.queue, &p.role)
		p.waiting.Add(1)
	}
	b := p.buf
	p.buf, p.spare = p.spare, nil
	p.inWrite = true
	p.mu.Unlock()
	n, err := p.conn.Write(b)
	p.mu.Lock()
	p.inWrite = false
	p.written += int64(n)
	if cap(b) <= pipeKeep {
		p.spare = b[:0]
	}
	if p.blocked > 0 || p.down {
		p.room.Broadcast()
	}
	if err != nil {
		p.closeLocked(fmt.Errorf("write: %w", err))
	}
}

// write is the pipe's own writer: it takes over from sessions while there is more than they have to do themselves.
func (p *pipe) write() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for !p.handed && !p.down {
			p.wake.Wait()
		}
		if p.down {
			return
		}
		for len(p.buf) > 0 && !p.down {
			p.flushLocked()
		}
		p.handed, p.writing = false, false
	}
}

// close ends the pipe; its goroutines answer what is unanswered. It doesn't wait.
func (p *pipe) close(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeLocked(cause)
}

func (p *pipe) closeLocked(cause error) {
	if p.down {
		return
	}
	p.down, p.cause = true, cause
	p.conn.Close()
	p.wake.Broadcast()
	p.room.Broadcast()
}

func (p *pipe) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.down
}

// stalled says that the oldest call has been waiting for longer than limit without a sign of life.
func (p *pipe) stalled(now time.Time, limit time.Duration) bool {
	return p.waiting.Load() > 0 && now.Sub(time.Unix(0, p.heard.Load())) > limit
}

// leave takes the call away from the pipe, which will drop its replies. False: it was answered at this moment; the value of
// done has been taken.
func (c *call) leave() bool {
	for !c.state.CompareAndSwap(callWaits, callLeft) {
		select {
		case <-c.done:
			return false
		default:
			runtime.Gosched() // the reader holds it for as long as it takes to copy what is there
		}
	}
	return true
}
