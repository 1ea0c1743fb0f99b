package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/frame"
)

// link is one connection to another node's LinkServer. Commands are appended to a buffer, in an order in which
// their replies come back; one goroutine writes the buffer, so that everything appended during a write travels
// with the next, and one reads.
//
//	dialing ──handshake sent──▶ up ──▶ down
//	   └──────────────────────────────▶ down
//
// Commands are accepted while dialing and up. Once down, each unanswered command is answered by what is known of
// it: none of its bytes was taken by the socket (not executed), or some were (unknown). A link isn't revived.
type link struct {
	g      *Gateway
	remote *remote
	proto  int
	db     int
	pinned bool
	onPush func([]byte) // takes the frames that aren't replies

	cancel context.CancelFunc
	done   chan struct{} // the link's goroutines have ended

	mu      sync.Mutex
	wake    sync.Cond // the writer waits for buf
	room    sync.Cond // senders wait for the queue to shrink
	blocked int       // senders waiting
	buf     []byte
	spare   []byte
	queue   []*call // unanswered, in order; queue[first:]
	first   int
	end     int64 // stream offset of the end of buf
	written int64 // stream offset up to which the socket took the bytes
	conn    net.Conn
	state   linkState
	cause   error
	onDown  func()      // called once everything unanswered was answered
	idleAt  func(*link) // pinned: called when the last call was answered

	hedge   *time.Timer // calls hedgeLate
	hedging bool        // it is set
	hedged  int64       // start of the last call that was looked at

	sour     atomic.Bool  // the other end refused a write as a replica: nothing new is sent, see switch.go
	answered atomic.Int64 // unix nano of the last sign of life, or of the first command after idleness

	// of the reading goroutine
	replid *string
	offset int64
	dirty  []*output
	now    time.Time
}

type linkState uint8

const (
	linkDialing linkState = iota
	linkUp
	linkDown
)

const (
	linkMaxCalls = 65536
	linkMaxBytes = 32 << 20
	linkKeep     = 256 << 10 // the most that a link keeps for its next write
	linkPiece    = 256 << 10 // the most that is written at once
)

var (
	errNotSent = errors.New("not sent")                   // no byte was taken by a socket
	errUnknown = errors.New("sent, outcome unknown")      //
	errFull    = errors.New("link full")                  //
	errGone    = errors.New("node unreachable")           // cause of a link's end
	errStalled = errors.New("no answer")                  //
	errClosing = errors.New("closed by its owner")        //
	errRefused = errors.New("link refused by the node")   //
	errFrame   = errors.New("unexpected frame on a link") //
)

// newLinkLocked starts a link; linkMu is held.
func (g *Gateway) newLinkLocked(r *remote, proto, db int, pinned bool, setup func(*link)) *link {
	ctx, cancel := context.WithCancel(g.ctx)
	l := &link{g: g, remote: r, proto: proto, db: db, pinned: pinned, cancel: cancel, done: make(chan struct{})}
	l.wake.L, l.room.L = &l.mu, &l.mu
	mode := "shared"
	if pinned {
		mode = "pinned"
	}
	l.buf = frame.AppendCommandString(nil, "RESPMESH", "LINK", g.opt.Org+"/"+g.opt.Database,
		fmt.Sprint(proto), fmt.Sprint(db), mode)
	l.end = int64(len(l.buf))
	l.answered.Store(time.Now().UnixNano())
	if setup != nil {
		setup(l)
	}
	g.open[l] = struct{}{}
	g.countLink(l, 1)
	g.wg.Go(func() { l.run(ctx) })
	return l
}

func (l *link) run(ctx context.Context) {
	defer close(l.done)
	defer l.cancel()
	err := l.connect(ctx)
	if err == nil {
		var writer sync.WaitGroup
		writer.Go(l.write)
		err = l.read()
		l.close(err)
		writer.Wait()
	} else {
		if l.alive() { // not closed by its owner meanwhile
			l.g.dialFailed(l.remote.node)
		}
		l.close(err)
	}
	l.g.removeLink(l)
	l.fail()
}

func (l *link) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.g.opt.DialTimeout)
	defer cancel()
	conn, err := l.g.opt.Mesh.Dial(ctx, l.remote.node)
	if err != nil {
		return fmt.Errorf("dial %s: %w", l.remote.node, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkDown {
		conn.Close()
		return l.cause
	}
	l.conn, l.state = conn, linkUp
	return nil
}

// close ends the link; its goroutines answer what is unanswered. It doesn't wait.
func (l *link) close(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkDown {
		return
	}
	l.state, l.cause = linkDown, cause
	if !errors.Is(cause, errClosing) {
		l.remote.at.forget()
	}
	if l.conn != nil {
		// What is still underway mustn't arrive once the path has healed: newer writes may have been executed by then.
		if c, ok := l.conn.(interface{ SetLinger(sec int) error }); ok {
			c.SetLinger(0)
		}
		l.conn.Close()
	}
	l.cancel()
	l.wake.Broadcast()
	l.room.Broadcast()
}

func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state != linkDown
}

// send appends a command; kick makes it travel. It waits while the link is full. After an error the call is still the
// caller's, and no byte of it has left.
func (l *link) send(c *call, raw []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state != linkDown && len(l.queue)-l.first > 0 &&
		(len(l.queue)-l.first >= linkMaxCalls || l.end-l.written+int64(len(raw)) > linkMaxBytes) {
		if c.noWait {
			return errFull
		}
		l.wake.Signal()
		l.blocked++
		l.room.Wait()
		l.blocked--
	}
	if l.state == linkDown {
		return errNotSent
	}
	l.appendLocked(c, raw)
	return nil
}

// sendAll appends commands that don't wait, all of them or none.
func (l *link) sendAll(calls []*call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state == linkDown:
		return errNotSent
	case len(l.queue)-l.first+len(calls) > linkMaxCalls || l.end-l.written > linkMaxBytes/2:
		return errFull
	}
	for _, c := range calls {
		l.appendLocked(c, c.raw)
	}
	return nil
}

func (l *link) appendLocked(c *call, raw []byte) {
	if l.first == len(l.queue) {
		l.answered.Store(time.Now().UnixNano())
	}
	if l.buf == nil {
		l.buf, l.spare = l.spare, nil
	}
	c.start = l.end
	if c.last > 0 {
		c.start += int64(len(raw) - c.last)
	}
	l.buf = append(l.buf, raw...)
	l.end += int64(len(raw))
	l.queue = append(l.queue, c)
	if c.hedge {
		l.watchReadLocked()
	}
}

// sendBare appends a command whose replies come as pushes.
func (l *link) sendBare(raw []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkDown {
		return errNotSent
	}
	l.buf = append(l.buf, raw...)
	l.end += int64(len(raw))
	l.wake.Signal()
	return nil
}

func (l *link) kick() { l.wake.Signal() }

func (l *link) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.buf) == 0 && l.state == linkUp {
			l.wake.Wait()
		}
		if l.state != linkUp {
			return
		}
		if !l.pinned && len(l.queue)-l.first > 1 { // others are at it too: what they are about to send may travel with this
			l.mu.Unlock()
			runtime.Gosched()
			l.mu.Lock()
		}
		p := l.buf
		l.buf, l.spare = l.spare, nil
		err := l.writeLocked(p)
		if cap(p) <= linkKeep {
			l.spare = p[:0]
		}
		if err != nil {
			l.mu.Unlock()
			l.close(fmt.Errorf("write: %w", err))
			l.mu.Lock()
			return
		}
	}
}

// writeLocked writes p without holding the lock, in pieces: a big command that makes progress isn't stalled.
func (l *link) writeLocked(p []byte) error {
	for {
		piece := p[:min(len(p), linkPiece)]
		l.mu.Unlock()
		n, err := l.conn.Write(piece)
		l.mu.Lock()
		l.written += int64(n)
		if l.blocked > 0 {
			l.room.Broadcast()
		}
		if p = p[n:]; err != nil || len(p) == 0 {
			return err
		}
		l.answered.Store(time.Now().UnixNano())
	}
}

// fail answers what is left when both goroutines are done with the connection.
func (l *link) fail() {
	l.mu.Lock()
	left := l.queue[l.first:]
	l.queue, l.first, l.buf = nil, 0, nil
	written, cause, onDown := l.written, l.cause, l.onDown
	if l.hedge != nil {
		l.hedge.Stop()
	}
	l.mu.Unlock()
	if len(left) > 0 || !errors.Is(cause, errClosing) {
		l.g.meters.linkFailures.Inc()
	}
	executed := -1 // up to here what was queued in a transaction may have been executed by its EXEC
	for i, c := range left {
		if c.start < written && !c.queued {
			executed = i
		}
	}
	for i, c := range left {
		err := errUnknown
		if c.start >= written || c.queued && i > executed {
			err = errNotSent
		}
		l.g.answerFailed(c, l.remote, err)
	}
	if onDown != nil {
		onDown()
	}
}

// done says that the link is of no use any more: it is sour, and everything is answered.
func (l *link) finished() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sour.Load() && l.first == len(l.queue)
}

// whenIdle has f called once, when no call is unanswered, by the goroutine that answers the last one or at once.
func (l *link) whenIdle(f func(*link)) {
	l.mu.Lock()
	l.idleAt = f
	l.mu.Unlock()
	l.checkIdle()
}

func (l *link) checkIdle() {
	l.mu.Lock()
	f := l.idleAt
	if f == nil || l.first < len(l.queue) {
		l.mu.Unlock()
		return
	}
	l.idleAt = nil
	l.mu.Unlock()
	f(l)
}

// quietAfter is how long a link may be silent before it is asked for a sign of life.
const quietAfter = 2 * time.Second

// quiet says that the link has been silent, and nothing is expected on it.
func (l *link) quiet(now time.Time) bool {
	if now.Sub(time.Unix(0, l.answered.Load())) < quietAfter {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == linkUp && l.first == len(l.queue)
}

// stalled says that the oldest command has been waiting for longer than limit.
func (l *link) stalled(now time.Time, limit time.Duration) bool {
	if now.Sub(time.Unix(0, l.answered.Load())) < limit {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state != linkDown && l.first < len(l.queue) && !l.queue[l.first].blocks
}
