package poll

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a connection that a [Loop] serves. It is a net.Conn whose reads return [ErrWait] rather than wait, unless [Conn.Block]
// says otherwise. One goroutine may read and one may write at a time.
type Conn struct {
	loop    *Loop
	handler Handler
	fd      int
	id      uint64
	local   net.Addr
	remote  net.Addr
	closed  func() // tells who keeps account of the connection; nil: nobody

	// what its handler's goroutine has
	leads   uint64 // the number of the leader that handles it, or 0
	drained bool   // the last read took all there was

	hungUp atomic.Bool // the end of the stream may follow what is there, without another event

	state   atomic.Uint32
	users   atomic.Int32 // of fd; closing is added by Close
	blocks  atomic.Bool
	reading atomic.Bool // somebody waits in readable
	writing atomic.Bool

	readable chan struct{}
	writable chan struct{}

	mu      sync.Mutex
	late    atomic.Bool // the deadline for reads has passed
	timer   *time.Timer
	expires uint64 // counts the deadlines set
}

const (
	idle  = iota // nothing was there to read
	busy         // the handler is at work, or will be
	again        // and something has happened since
)

const closing = -1 << 30

func newConn(l *Loop, fd int, conn net.Conn, h Handler) *Conn {
	c := &Conn{loop: l, handler: h, fd: fd, local: conn.LocalAddr(), remote: conn.RemoteAddr()}
	c.readable, c.writable = make(chan struct{}, 1), make(chan struct{}, 1)
	c.state.Store(busy) // until Start
	return c
}

// Start has the handler called from here on.
func (c *Conn) Start() {
	if c.loop.add(c) != nil {
		c.Close()
	}
	if !c.state.CompareAndSwap(busy, idle) { // something has happened before
		c.spawn()
	}
}

// event takes what epoll says. True: the handler is to be called, by the caller.
func (c *Conn) event(events uint32) bool {
	if events&syscall.EPOLLOUT != 0 && c.writing.Load() {
		signal(c.writable)
	}
	if events&^syscall.EPOLLOUT == 0 {
		return false
	}
	if events&^(syscall.EPOLLOUT|syscall.EPOLLIN) != 0 {
		c.hungUp.Store(true)
	}
	return c.wake()
}

// wake notes that there is something to see for the handler. True: the caller has to call it.
func (c *Conn) wake() bool {
	for {
		switch s := c.state.Load(); s {
		case idle:
			if c.state.CompareAndSwap(idle, busy) {
				c.drained = false
				return true
			}
		case again:
			return false
		default:
			if c.state.CompareAndSwap(busy, again) {
				if c.reading.Load() {
					signal(c.readable)
				}
				return false
			}
		}
	}
}

// poke is wake for those who can't call the handler.
func (c *Conn) poke() {
	if c.wake() {
		c.spawn()
	}
}

// spawn calls the handler in a goroutine of its own.
func (c *Conn) spawn() {
	c.loop.wg.Go(func() {
		for c.handle(0) {
		}
	})
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// handle calls the handler, in the goroutine of the leader with this number if that isn't 0. True: it has to be called again. False: it
// is left alone until something happens, and c belongs to whoever sees that.
func (c *Conn) handle(leads uint64) (more bool) {
	c.leads = leads
	more = c.handler.Ready()
	c.leads = 0
	if !more {
		return false // for ever: the state stays as it is
	}
	if c.drained && c.state.CompareAndSwap(busy, idle) {
		return false
	}
	return true
}

// Yield is called by the handler's goroutine when it is about to wait: others are served meanwhile.
func (c *Conn) Yield() {
	if c == nil || c.leads == 0 {
		return
	}
	c.loop.succeed(c.leads)
	c.leads = 0
}

// Block says whether reads wait from now on.
func (c *Conn) Block(on bool) { c.blocks.Store(on) }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if c.state.Load() == again && c.state.CompareAndSwap(again, busy) {
			c.drained = false
		}
		if c.users.Load() < 0 {
			return 0, net.ErrClosed
		}
		if c.late.Load() {
			return 0, os.ErrDeadlineExceeded
		}
		if !c.drained {
			n, err := c.read(p)
			c.drained = n == 0 || n < len(p) && !c.hungUp.Load()
			if n > 0 || err != nil {
				return n, err
			}
		}
		if !c.blocks.Load() {
			return 0, ErrWait
		}
		c.reading.Store(true)
		if c.state.Load() != again {
			<-c.readable
		}
		c.reading.Store(false)
	}
}

// read returns 0, nil if nothing is there.
func (c *Conn) read(p []byte) (int, error) {
	if !c.acquire() {
		return 0, net.ErrClosed
	}
	defer c.release()
	for len(p) > 0 {
		switch n, err := readNow(c.fd, p); err {
		case 0:
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, c.fail("read", err)
		}
	}
	return 0, nil
}

// TryWrite writes what can be written without waiting.
func (c *Conn) TryWrite(p []byte) (n int, err error) {
	if !c.acquire() {
		return 0, net.ErrClosed
	}
	defer c.release()
	for n < len(p) {
		switch m, err := writeNow(c.fd, p[n:]); err {
		case 0:
			n += m
		case syscall.EINTR:
		case syscall.EAGAIN:
			return n, nil
		default:
			return n, c.fail("write", err)
		}
	}
	return n, nil
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := c.TryWrite(p[n:])
		n += m
		if err != nil {
			return n, err
		}
		if m > 0 {
			continue
		}
		c.writing.Store(true)
		if m, err = c.TryWrite(p[n:]); m == 0 && err == nil {
			<-c.writable
		}
		n += m
		c.writing.Store(false)
	}
	return n, nil
}

func (c *Conn) fail(op string, err syscall.Errno) error {
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: os.NewSyscallError(op, err)}
}

// acquire holds the descriptor; false: it is closed.
func (c *Conn) acquire() bool {
	if c.users.Add(1) > 0 {
		return true
	}
	c.release()
	return false
}

func (c *Conn) release() {
	if c.users.Add(-1) == closing {
		syscall.Close(c.fd)
	}
}

// Close implements net.Conn. Who reads or writes gets net.ErrClosed, the handler is called for that.
func (c *Conn) Close() error {
	for {
		n := c.users.Load()
		if n < 0 {
			return net.ErrClosed
		}
		if c.users.CompareAndSwap(n, n+1+closing) {
			break
		}
	}
	c.loop.remove(c)
	c.release()
	if c.closed != nil {
		c.closed()
	}
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	signal(c.writable)
	c.poke()
	return nil
}

// reset closes the connection at once, whatever is underway.
func (c *Conn) reset() {
	if c.acquire() {
		syscall.SetsockoptLinger(c.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		c.release()
	}
	c.Close()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetReadDeadline implements net.Conn. The handler is called when it passes.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expires++
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.late.Store(false)
	switch d := time.Until(t); {
	case t.IsZero():
	case d <= 0:
		c.late.Store(true)
		c.poke()
	default:
		n := c.expires
		c.timer = time.AfterFunc(d, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if n == c.expires {
				c.late.Store(true)
				c.poke()
			}
		})
	}
	return nil
}

// SetWriteDeadline implements net.Conn: there are none.
func (c *Conn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// SetDeadline implements net.Conn: there are only those for reads.
func (c *Conn) SetDeadline(time.Time) error { return os.ErrNoDeadline }
