// Package poll serves many client connections with one goroutine, as long as nobody has to wait.
//
// With a goroutine for each connection, as is usual in Go, every wake-up costs a second read that finds nothing, and several
// switches of the scheduler: a third more processor time than redis-server takes for a small command. A [Loop] waits for all
// its connections with one epoll(7) descriptor of its own, reads from those that have something, and calls their handlers one after the
// other.
//
// A handler may wait all the same: the loop has a leader, and followers take over from it. Who is about to wait says so with
// [Conn.Yield], and another goroutine leads from there on; the one that yielded ends when its handler returns. A handler that takes
// long without saying so is found by a watchdog, which has somebody else lead.
//
// The loop itself waits in Go's own poller, for the epoll descriptor: so no thread is blocked.
package poll

import (
	"errors"
	"net"
	"sync/atomic"
)

// Handler is served by a [Loop]. Calls don't overlap.
type Handler interface {
	// Ready is called when there may be something to read, and when the connection was closed or has a new deadline. It reads
	// once, and handles what it got; [ErrWait] means that nothing has come yet. False: it isn't called any more.
	Ready() (more bool)
}

// ErrWait is returned by a read that would have to wait.
var ErrWait = errors.New("nothing to read yet")

// Loops share the connections among themselves. A nil *Loops adopts nothing.
type Loops struct {
	all  []*Loop
	last atomic.Uint32
}

// Start starts n loops.
func Start(n int) (*Loops, error) {
	ls := new(Loops)
	for range n {
		l, err := newLoop()
		if err != nil {
			ls.Close()
			return nil, err
		}
		ls.all = append(ls.all, l)
	}
	return ls, nil
}

// Adopt makes a connection of the kernel's one that a loop serves, from [Conn.Start] on; conn isn't to be used any more. False: it
// can't be, and conn is as before.
func (ls *Loops) Adopt(conn net.Conn, h Handler) (*Conn, bool) {
	if ls == nil || len(ls.all) == 0 {
		return nil, false
	}
	return ls.all[int(ls.last.Add(1))%len(ls.all)].adopt(conn, h)
}

// Close ends the loops, and waits for their goroutines. The connections must have been closed, and their handlers have returned
// false: others aren't served any more.
func (ls *Loops) Close() {
	if ls == nil {
		return
	}
	for _, l := range ls.all {
		l.close()
	}
}
