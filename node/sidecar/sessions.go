package sidecar

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sessions are the connections of apps that are open.
type sessions struct {
	max     int
	buffers sync.Pool

	mu     sync.Mutex
	open   map[*session]struct{} // guarded by mu
	byNode map[string]int        // guarded by mu
	gone   chan struct{}         // closed when one ends, guarded by mu

	total, refused, lost atomic.Uint64
	up, down             atomic.Uint64 // bytes
}

// session is one connection of an app.
type session struct {
	client     net.Conn
	asked, got atomic.Int64 // when bytes last went to the node and came from it, Unix nanoseconds

	// Guarded by the sessions' mu.
	node   string
	cancel context.CancelFunc // of a connection to the node that is being opened
	conn   net.Conn           // to the node
	ended  bool
}

func newSessions(most int) *sessions {
	return &sessions{
		max: most, buffers: sync.Pool{New: func() any { return new([buffer]byte) }},
		open: make(map[*session]struct{}), byNode: make(map[string]int), gone: make(chan struct{}),
	}
}

// add counts a client in, if there is room.
func (s *sessions) add(client net.Conn) (*session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.max {
		s.refused.Add(1)
		return nil, false
	}
	s.total.Add(1)
	x := &session{client: client}
	s.open[x] = struct{}{}
	return x, true
}

func (s *sessions) remove(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, x)
	s.leaveLocked(x)
	x.ended = true
	close(s.gone)
	s.gone = make(chan struct{})
}

func (s *sessions) leaveLocked(x *session) {
	if x.node == "" {
		return
	}
	if s.byNode[x.node]--; s.byNode[x.node] == 0 {
		delete(s.byNode, x.node)
	}
	x.node = ""
}

// dialling notes which node a session is about to be on: cancel is called if that is lost.
func (s *sessions) dialling(x *session, node string, cancel context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(x)
	x.node, x.cancel, x.conn = node, cancel, nil
	s.byNode[node]++
}

// dialled gives it its connection to the node.
func (s *sessions) dialled(x *session, conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.cancel, x.conn = nil, conn
}

// on counts the sessions on a node.
func (s *sessions) on(node string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byNode[node]
}

// count is how many there are.
func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// reset ends the sessions on a node with a reset. Those that are being opened are opened elsewhere.
func (s *sessions) reset(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.open {
		switch {
		case x.node != node:
		case x.cancel != nil:
			x.cancel()
		case x.conn != nil:
			s.lost.Add(1)
			reset(x.client)
			reset(x.conn)
		}
	}
}

// endAll ends what is left, at once.
func (s *sessions) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.open {
		if x.cancel != nil {
			x.cancel()
		}
		reset(x.client)
		if x.conn != nil {
			reset(x.conn)
		}
	}
}

// quiet is how long nothing may have come for a session to count as answered: replies come in several pieces.
const quiet = 50 * time.Millisecond

// drain ends sessions that don't wait for an answer, and the others when they have it, until ctx ends; then all.
func (s *sessions) drain(ctx context.Context) {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for {
		s.mu.Lock()
		gone := s.gone
		left := len(s.open)
		for x := range s.open {
			if x.answered() && x.conn != nil {
				x.client.Close() // what is carried ends with it
			}
		}
		s.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			s.endAll()
			return
		case <-gone:
		case <-tick.C: // sessions get quiet without an event
		}
	}
}

func (x *session) answered() bool {
	asked, got := x.asked.Load(), x.got.Load()
	return asked <= got && time.Since(time.Unix(0, got)) >= quiet
}
