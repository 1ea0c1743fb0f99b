package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
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
		l.g.dialFailed(l.remote.node)
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
	if l.conn != nil {
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
	if l.first == len(l.queue) {
		l.answered.Store(time.Now().UnixNano())
	}
	if l.buf == nil {
		l.buf, l.spare = l.spare, nil
	}
	c.start = l.end
	l.buf = append(l.buf, raw...)
	l.end += int64(len(raw))
	l.queue = append(l.queue, c)
	return nil
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
		p := l.buf
		l.buf, l.spare = l.spare, nil
		l.mu.Unlock()
		n, err := l.conn.Write(p)
		l.mu.Lock()
		l.written += int64(n)
		if cap(p) <= linkKeep {
			l.spare = p[:0]
		}
		if l.blocked > 0 {
			l.room.Broadcast()
		}
		if err != nil {
			l.mu.Unlock()
			l.close(fmt.Errorf("write: %w", err))
			l.mu.Lock()
			return
		}
	}
}

func (l *link) read() error {
	r := frame.NewReader(l.conn)
	var p frame.Reply
	if err := r.ReadReply(&p); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := l.welcome(p); err != nil {
		l.mu.Lock()
		l.written = 0 // a refused handshake executes nothing of what came with it
		l.mu.Unlock()
		return err
	}
	defer l.flush()
	for {
		l.now = time.Now()
		l.answered.Store(l.now.UnixNano())
		for {
			ok, err := r.NextReply(&p)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := l.receive(p); err != nil {
				return err
			}
		}
		l.flush()
		if err := r.Fill(); err != nil {
			return err
		}
	}
}

// welcome reads "+OK role replid offset".
func (l *link) welcome(p frame.Reply) error {
	words := bytes.Fields(p.Text())
	if p.IsError() || len(words) != 4 || string(words[0]) != "OK" {
		return fmt.Errorf("%w: %q", errRefused, p.Text())
	}
	offset, ok := frame.ParseInt(words[3])
	if !ok {
		return errFrame
	}
	replid := string(words[2])
	l.position(&replid, offset)
	return nil
}

func (l *link) position(replid *string, offset int64) {
	l.replid, l.offset = replid, offset
	l.remote.observe(replid, offset)
}

func (l *link) receive(p frame.Reply) error {
	switch p.Kind() {
	case frame.Attribute:
		return l.attribute(p)
	case frame.Push:
		if l.onPush != nil {
			l.onPush(p.Raw)
		}
		return nil
	}
	c := l.pop()
	if c == nil {
		return errFrame
	}
	l.answer(c, p.Raw)
	return nil
}

// attribute takes the position that comes before a batch's replies.
func (l *link) attribute(p frame.Reply) error {
	replid, offset := l.replid, l.offset
	var key []byte
	p.Each(func(v frame.Reply) bool {
		switch {
		case key == nil:
			key = v.Text()
			return true
		case string(key) == "offset":
			offset, _ = v.Int()
		case string(key) == "replid":
			s := string(v.Text())
			replid = &s
		}
		key = nil
		return true
	})
	l.position(replid, offset)
	return nil
}

func (l *link) pop() *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == len(l.queue) {
		return nil
	}
	c := l.queue[l.first]
	l.queue[l.first] = nil
	l.first++
	switch {
	case l.first == len(l.queue):
		l.queue, l.first = l.queue[:0], 0
		if cap(l.queue) > 4096 {
			l.queue = nil
		}
	case l.first >= 1024 && l.first*2 >= len(l.queue):
		n := copy(l.queue, l.queue[l.first:])
		clear(l.queue[n:])
		l.queue, l.first = l.queue[:n], 0
	}
	if l.blocked > 0 {
		l.room.Broadcast()
	}
	return c
}

// answer hands a reply to its call. What the reply promises is remembered before anybody can see it.
func (l *link) answer(c *call, raw []byte) {
	if c.read && !c.retried && tryElsewhere(raw) && l.g.retry(c, l.remote.node) {
		return
	}
	l.g.remember(l, c)
	if c.class < classCount && c.out != nil {
		l.g.meters.cell(c.class, c.route).seconds.Observe(l.now.Sub(c.started).Seconds())
	}
	if c.tap != nil {
		c.tap(raw)
	}
	if c.replace != nil {
		raw = c.replace
	}
	if c.fn != nil {
		fn := c.fn
		fn(raw, nil)
		c.free()
	} else {
		if len(raw) > 9 && raw[0] == '-' && bytes.HasPrefix(raw, []byte("-READONLY")) {
			l.g.nudge()
		}
		out := c.out // c may be another's once it is completed
		out.complete(c, raw)
		if len(l.dirty) == 0 || l.dirty[len(l.dirty)-1] != out {
			l.dirty = append(l.dirty, out)
		}
		if len(l.dirty) >= 256 {
			l.flush()
		}
	}
	if l.pinned {
		l.checkIdle()
	}
}

// tryElsewhere says whether a reply only means that this copy doesn't serve reads.
func tryElsewhere(raw []byte) bool {
	return raw[0] == '-' && (bytes.HasPrefix(raw, []byte("-MASTERDOWN")) || bytes.HasPrefix(raw, []byte("-LOADING")))
}

func (l *link) flush() {
	for i, o := range l.dirty {
		o.flush()
		l.dirty[i] = nil
	}
	l.dirty = l.dirty[:0]
}

// fail answers what is left when both goroutines are done with the connection.
func (l *link) fail() {
	l.mu.Lock()
	left := l.queue[l.first:]
	l.queue, l.first, l.buf = nil, 0, nil
	written, cause, onDown := l.written, l.cause, l.onDown
	l.mu.Unlock()
	if len(left) > 0 || !errors.Is(cause, errClosing) {
		l.g.meters.linkFailures.Inc()
	}
	for _, c := range left {
		err := errUnknown
		if c.start >= written || c.queued {
			err = errNotSent
		}
		l.g.answerFailed(c, l.remote, err)
	}
	if onDown != nil {
		onDown()
	}
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
