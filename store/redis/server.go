package redis

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"respmesh/resp/frame"
)

// server keeps the connections to one server: those that sessions share, and warm ones for who needs one alone.
type server struct {
	ctx      context.Context
	opt      *Options
	greeting greeting
	dial     func(ctx context.Context) (net.Conn, error)
	learn    func(info) (moved func(int64), err error) // what a connection's server says of itself; may refuse it

	loads func() // it answers, but that it is loading its data

	slots [2][]slot // by protocol, 2 and 3

	mu      sync.Mutex
	idle    [2][]*pipe
	open    map[*pipe]struct{}
	own     int // of open, those that aren't shared
	warming [2]bool
	retryAt time.Time // no attempt before
	backoff time.Duration
	lastErr error
	closed  bool
	wg      sync.WaitGroup
}

// slot is a place for a shared pipe.
type slot struct {
	p  atomic.Pointer[pipe]
	mu sync.Mutex // held to replace p
}

const (
	backoffMin = 20 * time.Millisecond
	backoffMax = time.Second
	maxIdle    = 32
)

var errTooMany = errors.New("too many connections of their own")

func newServer(ctx context.Context, opt *Options, g greeting, dial func(ctx context.Context) (net.Conn, error),
	learn func(info) (func(int64), error)) *server {
	s := &server{ctx: ctx, opt: opt, greeting: g, dial: dial, learn: learn, open: make(map[*pipe]struct{})}
	for i := range s.slots {
		s.slots[i] = make([]slot, opt.Conns)
	}
	return s
}

// connect opens a pipe, if the last attempt didn't fail just now.
func (s *server) connect(proto int, own bool) (*pipe, error) {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return nil, ErrClosed
	case time.Now().Before(s.retryAt):
		defer s.mu.Unlock()
		return nil, s.lastErr
	case own && s.own >= s.opt.MaxOwn:
		s.mu.Unlock()
		return nil, errTooMany
	}
	if own {
		s.own++
	}
	s.wg.Add(1) // until the pipe has ended
	s.mu.Unlock()
	p, err := s.attempt(proto, own)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.wg.Done()
		if own {
			s.own--
		}
		s.backoff = min(max(2*s.backoff, backoffMin), backoffMax)
		s.retryAt, s.lastErr = time.Now().Add(s.backoff), err
		return nil, err
	}
	s.backoff, s.retryAt = 0, time.Time{}
	s.open[p] = struct{}{}
	if s.closed {
		p.close(ErrClosed)
	}
	return p, nil
}

func (s *server) attempt(proto int, own bool) (*pipe, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.opt.DialTimeout)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	g := s.greeting
	g.proto = proto
	r, in, err := greet(ctx, conn, g)
	var moved func(int64)
	if errors.Is(err, errLoading) && s.loads != nil {
		s.loads()
	}
	if err == nil && s.learn != nil {
		moved, err = s.learn(in)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	var p *pipe
	ready := make(chan struct{})
	p = preparePipe(conn, r, moved, func() {
		<-ready
		s.ended(p, own)
	})
	if _, kernel := conn.(syscall.Conn); kernel && !own {
		p.lent = true
	}
	p.start()
	close(ready)
	return p, nil
}

// ended forgets a pipe.
func (s *server) ended(p *pipe, own bool) {
	defer s.wg.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, p)
	if own {
		s.own--
	}
	for i := range s.idle {
		for j, o := range s.idle[i] {
			if o == p {
				s.idle[i] = append(s.idle[i][:j], s.idle[i][j+1:]...)
				break
			}
		}
	}
}

// shared gives a shared pipe; not is one that was found to be down.
func (s *server) shared(proto, i int, not *pipe) (*pipe, error) {
	sl := &s.slots[proto-2][i%len(s.slots[0])]
	if p := sl.p.Load(); p != nil && p != not {
		return p, nil
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if p := sl.p.Load(); p != nil && p != not && p.alive() {
		return p, nil
	}
	p, err := s.connect(proto, false)
	if err != nil {
		return nil, err
	}
	sl.p.Store(p)
	return p, nil
}

// take gives a pipe for one session alone: a warm one if there is one and fresh isn't asked for.
func (s *server) take(proto int, fresh bool) (*pipe, error) {
	s.mu.Lock()
	idle := &s.idle[proto-2]
	for n := len(*idle); n > 0 && !fresh; n = len(*idle) {
		p := (*idle)[n-1]
		(*idle)[n-1] = nil
		*idle = (*idle)[:n-1]
		if p.alive() {
			s.warmLocked(proto)
			s.mu.Unlock()
			return p, nil
		}
	}
	s.warmLocked(proto)
	s.mu.Unlock()
	return s.connect(proto, true)
}

// warmLocked has one more idle pipe made, once sessions have begun to ask for them.
func (s *server) warmLocked(proto int) {
	if s.closed || s.warming[proto-2] || len(s.idle[proto-2]) >= s.opt.Warm {
		return
	}
	s.warming[proto-2] = true
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		p, err := s.connect(proto, true)
		if err == nil {
			s.give(proto, p)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.warming[proto-2] = false
	}()
}

// give takes back a pipe that is as it was after its greeting.
func (s *server) give(proto int, p *pipe) {
	p.onPush.Store(nil)
	p.onDown.Store(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle[proto-2]) >= max(maxIdle, s.opt.Warm) || !p.alive() {
		p.close(errLeft)
		return
	}
	s.idle[proto-2] = append(s.idle[proto-2], p)
}

// drop closes all connections: the server is another now, or has to be looked for.
func (s *server) drop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.open {
		p.close(cause)
	}
	s.retryAt, s.backoff = time.Time{}, 0
}

// closeStalled closes the connections that give no sign of life.
func (s *server) closeStalled(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.open {
		if p.stalled(now, s.opt.StallTimeout) && !p.patient.Load() {
			p.close(errStalled)
		}
	}
}

// close closes all connections and waits until what was unanswered has been answered.
func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	for p := range s.open {
		p.close(ErrClosed)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// ask sends a command of the engine's own and waits for the reply.
func ask(ctx context.Context, p *pipe, args ...string) (frame.Reply, error) {
	if err := ctx.Err(); err != nil {
		return frame.Reply{}, err // readFor doesn't look
	}
	c := newCall()
	c.need = 1
	if err := p.exchange(ctx, c, requests(args)); errors.Is(err, errLeft) {
		return frame.Reply{}, ctx.Err()
	} else if err != nil {
		return frame.Reply{}, err
	}
	return frame.Reply{Raw: c.dst}, c.err
}
