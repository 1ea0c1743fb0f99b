package node

import (
	"maps"
	"slices"
	"sync"

	"respmesh/resp/frame"
)

// While a database moves to another engine its store holds: writes are refused as by a replica, so that gateways keep them,
// and reads go on. Unlike a fence that loses nothing: what was executed before stays, here or there, and is acknowledged.
// When the data have moved the store is gone: it answers nothing any more, and gateways send all of it where the data are.

// hold returns when no write is under way and none is accepted any more.
func (s *store) hold() {
	s.holds.Add(1) // so that it is another primary afterwards: links that were told READONLY must not go on
	s.held.Store(true)
	s.engine.Info() // behind who is at work now
}

// release undoes hold.
func (s *store) release() { s.held.Store(false) }

// leave is called when the data have moved. Who waits in the store to write is refused.
func (s *store) leave() {
	s.gone.Store(true)
	s.fence()
	s.cutReplicas()
}

// appendGone answers commands that weren't executed since the data have moved.
func appendGone(dst []byte, n int) []byte {
	for range n {
		dst = frame.AppendError(dst, "MASTERDOWN the data have moved to another engine; the command was not executed")
	}
	return dst
}

// sessions are those of a store, which are told when it ends.
type sessions struct {
	mu   sync.Mutex
	lost map[any]func()
}

func (l *sessions) add(conn any, lost func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = make(map[any]func())
	}
	l.lost[conn] = lost
}

func (l *sessions) remove(conn any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lost, conn)
}

func (l *sessions) end() {
	l.mu.Lock()
	left := slices.Collect(maps.Values(l.lost))
	l.lost = nil
	l.mu.Unlock()
	for _, lost := range left {
		lost()
	}
}
