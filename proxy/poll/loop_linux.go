package poll

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a handler may take before somebody else leads.
const patience = time.Millisecond

// maxEvents are taken at once.
const maxEvents = 128

// Loop is one epoll descriptor and who leads it.
type Loop struct {
	epoll *os.File
	raw   syscall.RawConn
	wg    sync.WaitGroup

	// The leader's number, doubled, and one more while a handler is at work. Only then somebody else may begin to lead, with
	// the next number. All below belongs to the leader.
	leader atomic.Uint64
	events [maxEvents]syscall.EpollEvent
	conns  [maxEvents]*Conn // what they are about; nil: closed
	n      int              // events taken
	next   int              // of them, the first that isn't handled
	later  []*Conn          // have more to read
	ready  []*Conn          // the ones of later that are being handled

	served  atomic.Uint64 // calls of handlers
	watched atomic.Bool   // the watchdog is set
	seen    uint64        // served, as the watchdog saw it; of the watchdog
	dog     *time.Timer

	mu     sync.Mutex
	closed bool
	nextID uint64
	all    map[uint64]*Conn
}

func newLoop() (*Loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that Go's poller takes it
		syscall.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &Loop{epoll: os.NewFile(uintptr(fd), "epoll"), all: make(map[uint64]*Conn)}
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		l.epoll.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l.dog = time.AfterFunc(time.Hour, l.watch)
	l.dog.Stop()
	l.wg.Go(func() { l.lead(0) })
	return l, nil
}

func (l *Loop) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.epoll.Close()
	l.dog.Stop()
	l.wg.Wait()
}

// filed is a connection of the kernel's, or one that has it within.
type filed interface{ File() (*os.File, error) }

// accounted is a filed connection of which somebody keeps account.
type accounted interface {
	HandOver(reset func()) (closed func(), ok bool)
}

func (l *Loop) adopt(conn net.Conn, h Handler) (*Conn, bool) {
	has, ok := conn.(filed)
	if !ok {
		return nil, false
	}
	f, err := has.File()
	if err != nil {
		return nil, false
	}
	defer f.Close()
	// f is in blocking mode, and closes its descriptor when it is collected: another one is needed.
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, false
	}
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		syscall.Close(int(fd))
		return nil, false
	}
	c := newConn(l, int(fd), conn, h)
	if a, ok := conn.(accounted); !ok {
		conn.Close() // takes the socket from Go's poller
	} else if c.closed, ok = a.HandOver(c.reset); !ok {
		syscall.Close(int(fd))
		return nil, false
	}
	return c, true
}

// add begins to wait for a connection. One that is closed already isn't added: its descriptor may be another's by now.
func (l *Loop) add(c *Conn) error {
	if !c.acquire() {
		return net.ErrClosed
	}
	defer c.release()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.nextID++
	c.id = l.nextID
	l.all[c.id] = c
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edges, Fd: int32(c.id), Pad: int32(c.id >> 32)}
	if err := l.control(syscall.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
		delete(l.all, c.id)
		return err
	}
	return nil
}

// edges is syscall.EPOLLET, which is negative there.
const edges = 1 << 31

func (l *Loop) control(op, fd int, ev *syscall.EpollEvent) error {
	var err error
	if e := l.raw.Control(func(epoll uintptr) { err = syscall.EpollCtl(int(epoll), op, fd, ev) }); e != nil {
		return e
	}
	return err
}

func (l *Loop) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[c.id] == c {
		delete(l.all, c.id)
		l.control(syscall.EPOLL_CTL_DEL, c.fd, &syscall.EpollEvent{})
	}
}

// lead handles what comes, until somebody else leads or the loop is closed.
func (l *Loop) lead(number uint64) {
	take := func(fd uintptr) bool {
		l.n, l.next = epollNow(int(fd), l.events[:]), 0
		return l.n > 0 || len(l.later) > 0
	}
	for {
		for l.next < l.n {
			c, events := l.conns[l.next], l.events[l.next].Events
			l.next++
			if c != nil && c.event(events) && !l.serve(c, number) {
				return
			}
		}
		for len(l.ready) > 0 {
			c := l.ready[0]
			l.ready = l.ready[1:]
			if !l.serve(c, number) {
				return
			}
		}
		if err := l.raw.Read(take); err != nil {
			return
		}
		l.find()
		l.ready, l.later = l.later, l.ready[:0]
	}
}

// find looks up whom the events are for.
func (l *Loop) find() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, ev := range l.events[:l.n] {
		l.conns[i] = l.all[uint64(uint32(ev.Fd))|uint64(uint32(ev.Pad))<<32]
	}
}

// serve has one connection handled by the leader. False: it doesn't lead any more.
func (l *Loop) serve(c *Conn, number uint64) bool {
	l.served.Add(1)
	if !l.watched.Load() && l.watched.CompareAndSwap(false, true) {
		l.dog.Reset(patience)
	}
	l.leader.Store(number + 1)
	more := c.handle(number + 1)
	if l.leader.CompareAndSwap(number+1, number) {
		if more {
			l.later = append(l.later, c)
		}
		return true
	}
	for more {
		more = c.handle(0)
	}
	return false
}

// succeed has somebody else lead if the leader with this number is at work in a handler.
func (l *Loop) succeed(number uint64) {
	if number&1 == 1 && l.leader.CompareAndSwap(number, number+1) {
		l.wg.Go(func() { l.lead(number + 1) })
	}
}

// watch is the watchdog. It runs as long as there is something to do.
func (l *Loop) watch() {
	number, served := l.leader.Load(), l.served.Load()
	switch {
	case served != l.seen:
		l.seen = served
	case number&1 == 1:
		l.succeed(number)
	default:
		l.watched.Store(false)
		if l.served.Load() == served || !l.watched.CompareAndSwap(false, true) {
			return
		}
	}
	l.dog.Reset(patience)
}
