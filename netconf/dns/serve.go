package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ServePacket answers datagrams until Close (then nil) or until the connection fails. It closes the connection.
//
// A fixed number of workers read, resolve and write: resolving does no I/O, so nothing else needs bounding but what is
// forwarded.
func (s *Server) ServePacket(pc net.PacketConn) error {
	if err := s.ahead.itself(pc.LocalAddr); err != nil {
		return errors.Join(err, pc.Close())
	}
	var running sync.WaitGroup
	running.Add(s.opt.Workers)
	failed := make(chan error, s.opt.Workers)
	worker := func() {
		defer running.Done()
		failed <- s.packets(pc)
		_ = pc.Close() // one worker's end is everyone's
	}
	if !s.start(pc, s.opt.Workers, worker) {
		_ = pc.Close()
		return nil
	}
	running.Wait()
	s.finished(pc)
	if err := s.done(<-failed); err != nil { // the first is the cause
		return fmt.Errorf("dns: %w", err)
	}
	return nil
}

func (s *Server) packets(pc net.PacketConn) error {
	buf := make([]byte, 4096) // longer queries are cut, and then malformed
	failures := 0
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			if !s.retry(err, &failures) {
				return err
			}
			continue
		}
		failures = 0
		reply, later := s.answer(buf[:n], source(from), false)
		if later != nil {
			// As many as the forwarder admits. Close waits for them.
			s.wg.Go(func() { s.reply(pc, later(), from) })
			continue
		}
		s.reply(pc, reply, from)
	}
}

func (s *Server) reply(pc net.PacketConn, reply []byte, to net.Addr) {
	if reply == nil {
		return
	}
	if _, err := pc.WriteTo(reply, to); err != nil {
		s.stats.dropped.Add(1)
	}
}

// Serve answers TCP connections until Close (then nil) or until the listener fails. It closes the listener, and
// waits for the connections it accepted only in Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.ahead.itself(l.Addr); err != nil {
		return errors.Join(err, l.Close())
	}
	result := make(chan error, 1)
	if !s.start(l, 1, func() { result <- s.accept(l) }) {
		_ = l.Close()
		return nil
	}
	err := <-result
	s.finished(l)
	if err = s.done(err); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	return nil
}

func (s *Server) accept(l net.Listener) error {
	failures := 0
	for {
		c, err := l.Accept()
		if err != nil {
			if !s.retry(err, &failures) {
				return err
			}
			continue
		}
		failures = 0
		from := source(c.RemoteAddr())
		if !s.admit(from) {
			s.stats.connRefused.Add(1)
			_ = c.Close()
			continue
		}
		serve := func() {
			s.stream(c, from)
			s.finished(c)
			s.release(from)
		}
		if !s.start(c, 1, serve) {
			_ = c.Close()
			return net.ErrClosed
		}
	}
}

// admit counts a TCP connection in, if the bounds allow it.
func (s *Server) admit(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count >= s.opt.Conns || s.conns[from] >= s.opt.ConnsPerPeer {
		return false
	}
	s.count++
	s.conns[from]++
	return true
}

func (s *Server) release(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	if s.conns[from]--; s.conns[from] == 0 {
		delete(s.conns, from)
	}
}

// stream answers the queries of one TCP connection in order.
func (s *Server) stream(c net.Conn, from netip.Addr) {
	var length [2]byte
	var buf []byte
	for {
		// One deadline for the whole query: a byte now and then doesn't keep a connection.
		if err := c.SetReadDeadline(time.Now().Add(s.opt.Idle)); err != nil {
			return
		}
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if n > 4096 {
			s.stats.dropped.Add(1)
			return // no question is that long
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(c, buf[:n]); err != nil {
			return
		}
		reply := s.handle(buf[:n], from, true)
		if reply == nil {
			return
		}
		if err := c.SetWriteDeadline(time.Now().Add(s.opt.Idle)); err != nil {
			return
		}
		framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply))), reply...)
		if _, err := c.Write(framed); err != nil {
			s.stats.dropped.Add(1)
			return
		}
	}
}

// source is the address of an asker, without port, zone or IPv4 mapping.
func source(a net.Addr) netip.Addr {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return ap.Addr().Unmap().WithZone("")
}
