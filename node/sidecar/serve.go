package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// connectWait is how long a client waits for a node: longer than a move takes.
	connectWait = 6 * time.Second
	// dialWait is for one try. A SYN that is lost is sent again after a second.
	dialWait = 3 * time.Second
	// retryWait is before the next try at a node that refused.
	retryWait = 250 * time.Millisecond

	// buffer is for one direction of a session; it decides what memory a thousand of them take.
	buffer = 16 << 10
)

// Replies to clients that can't be served, as Redis itself tells them before the first command.
const (
	replyFull = "-ERR max number of clients reached\r\n"
	replyNone = "-ERR no node of the mesh can be reached; try again\r\n"
)

// serve opens the ports of all databases, and takes clients.
func (s *Sidecar) serve(m *membership) error {
	s.router.opts.Database = s.opts.Databases[0].Name
	for i, d := range s.opts.Databases {
		if d.Port == 0 {
			d.Port = redisPort + i
		}
		listeners, err := listenLoopback(max(d.Port, 0))
		if err != nil {
			return fmt.Errorf("database %s/%s: %w", m.Org, d.Name, err)
		}
		port := listeners[0].Addr().(*net.TCPAddr).Port
		s.services = append(s.services, &service{name: d.Name, port: port, listeners: listeners})
	}
	for _, v := range s.services {
		for _, l := range v.listeners {
			s.wg.Go(func() { s.accept(v, l) })
		}
	}
	return nil
}

// ErrPort is what a port that can't be had is refused with.
var ErrPort = errors.New("port")

// listenLoopback opens a port on 127.0.0.1 and ::1; a machine without one of the two does with the other. Port 0 takes one that
// is free on both.
func listenLoopback(port int) ([]net.Listener, error) {
	for tries := 0; ; tries++ {
		at := port
		var listeners []net.Listener
		var taken, missing error
		for _, host := range []string{"127.0.0.1", "::1"} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(at)))
			switch {
			case err == nil:
				listeners = append(listeners, l)
				at = l.Addr().(*net.TCPAddr).Port
			case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
				missing = err
			default:
				taken = err
			}
		}
		if taken == nil && len(listeners) > 0 {
			return listeners, nil
		}
		for _, l := range listeners {
			l.Close()
		}
		switch {
		case taken == nil:
			return nil, fmt.Errorf("this machine has no loopback address: %w", missing)
		case port != 0 || tries == 8:
			return nil, portError(port, taken)
		}
	}
}

func portError(port int, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w %d is in use on this machine; choose another with --database NAME=PORT", ErrPort, port)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w %d needs privileges; choose one above 1023 with --database NAME=PORT", ErrPort, port)
	}
	return fmt.Errorf("%w %d: %w", ErrPort, port, err)
}

// accept takes the clients of a listener, until it is closed.
func (s *Sidecar) accept(v *service, l net.Listener) {
	for {
		client, err := l.Accept()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return
		default: // such as too many open files
			s.log.Warn("a client couldn't be taken", "err", err)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		x, ok := s.sessions.add(client)
		if !ok {
			s.wg.Go(func() { refuse(client, replyFull) })
			continue
		}
		s.wg.Go(func() {
			defer s.sessions.remove(x)
			s.carry(v, x)
		})
	}
}

func refuse(client net.Conn, reply string) {
	_ = client.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(client, reply)
	client.Close()
}

// carry serves one client.
func (s *Sidecar) carry(v *service, x *session) {
	conn, err := s.connect(v, x)
	if err != nil {
		refuse(x.client, replyNone)
		return
	}
	defer conn.Close()
	defer x.client.Close()
	stop := context.AfterFunc(s.ctx, func() { reset(x.client); reset(conn) })
	defer stop()
	x.got.Store(time.Now().UnixNano())
	var wg sync.WaitGroup
	wg.Go(func() {
		read, write := s.sessions.pump(conn, x.client, &x.asked, &s.sessions.up)
		switch {
		case read != nil:
			reset(conn) // the client is gone
		case write != nil:
			reset(x.client)
		default: // it has said all; the answers may be under way
			closeWrite(conn)
		}
	})
	read, write := s.sessions.pump(x.client, conn, &x.got, &s.sessions.down)
	switch {
	case read != nil:
		reset(x.client) // the node, or the way to it
	case write != nil:
		reset(conn)
	}
	x.client.Close() // nobody answers what it says from now on
	wg.Wait()
}

// connect opens a connection to the database at the node in use, and waits for one if there is none.
func (s *Sidecar) connect(v *service, x *session) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, connectWait)
	defer cancel()
	for {
		p, ok := s.router.await(ctx)
		if !ok {
			return nil, context.Cause(ctx)
		}
		conn, err := s.dial(ctx, v, x, p)
		if err == nil {
			return conn, nil
		}
		// Either the node is gone, which its measurement says, or it doesn't serve the database yet.
		s.router.suspect(p)
		_, changed := s.router.current()
		select {
		case <-ctx.Done():
			return nil, err
		case <-changed:
		case <-time.After(retryWait):
		}
	}
}

var errMoved = errors.New("the node was lost meanwhile")

func (s *Sidecar) dial(ctx context.Context, v *service, x *session, p *place) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	s.sessions.dialling(x, p.name, cancel)
	if !s.router.holds(p) { // lost before the session was known to be on it
		return nil, errMoved
	}
	addr, ok := s.router.address(v.name, p)
	if !ok {
		return nil, fmt.Errorf("database %s isn't there any more", v.name)
	}
	conn, err := s.device.DialTCP(ctx, s.router.opts.Self, addr)
	if err != nil {
		return nil, err
	}
	s.sessions.dialled(x, conn)
	if !s.router.holds(p) {
		reset(conn)
		return nil, errMoved
	}
	return conn, nil
}

// pump copies one way until the end. It notes when and how much.
func (s *sessions) pump(to, from net.Conn, when *atomic.Int64, count *atomic.Uint64) (read, write error) {
	buf := s.buffers.Get().(*[buffer]byte)
	defer s.buffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			when.Store(time.Now().UnixNano())
			count.Add(uint64(n))
			if _, err := to.Write(buf[:n]); err != nil {
				return nil, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return err, nil
		}
	}
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
