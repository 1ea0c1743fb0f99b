package mesh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// CarryPort is the TCP port of carried connections on the nodes' infrastructure addresses.
//
// A database has an address in each region. WireGuard knows a peer at one node only, so packets for another region's address
// can't be routed there and back; the node that the peer is attached to answers the address itself, and carries each
// connection to a node of the region. There it starts with a header of the PROXY protocol, version 2
// (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt): the client's address and the regional one. Only nodes reach
// the port, so the header is believed, as far as both addresses are of one organisation.
const CarryPort = 7381

const (
	carryHeaderLen = 16 + 36
	carryWait      = 5 * time.Second // for the other node, and for a header
	carryHeaders   = 1024            // that are waited for at a time
)

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24") // version 2, PROXY, TCP over IPv6, 36 bytes

// Carrier carries connections between nodes.
type Carrier struct {
	dial func(ctx context.Context, node netip.Addr) (net.Conn, error)
	log  *slog.Logger

	mu        sync.Mutex
	listeners map[netip.AddrPort]*carriedListener // guarded by mu
}

// NewCarrier makes one. dial connects to CarryPort of a node.
func NewCarrier(dial func(ctx context.Context, node netip.Addr) (net.Conn, error), log *slog.Logger) *Carrier {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Carrier{dial: dial, log: log, listeners: make(map[netip.AddrPort]*carriedListener)}
}

// Listen gives the connections that other nodes carry here for an address.
func (c *Carrier) Listen(at netip.AddrPort) (net.Listener, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners[at] != nil {
		return nil, fmt.Errorf("carried connections to %s are taken already", at)
	}
	l := &carriedListener{carrier: c, at: at, conns: make(chan net.Conn), closed: make(chan struct{})}
	c.listeners[at] = l
	return l, nil
}

// Serve takes carried connections on a listener at CarryPort, until ctx ends or the listener is closed. It closes the
// listener, and waits for what it started.
func (c *Carrier) Serve(ctx context.Context, l net.Listener) error {
	return accept(ctx, l, carryHeaders, c.take)
}

// Forward carries the connections of a listener at another region's address to the node that to says, until ctx ends or the
// listener is closed. It closes the listener, and waits for the connections, which end with ctx.
func (c *Carrier) Forward(ctx context.Context, l net.Listener, to func() (node netip.Addr, ok bool)) error {
	return accept(ctx, l, 0, func(ctx context.Context, client net.Conn) {
		defer client.Close()
		if err := c.forward(ctx, client, to); err != nil && ctx.Err() == nil {
			c.log.Debug("connection not carried", "client", client.RemoteAddr(), "to", client.LocalAddr(), "err", err)
		}
	})
}

// accept serves each connection in a goroutine of its own, at most so many (0: any number), and waits for them.
func accept(ctx context.Context, l net.Listener, most int, serve func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, max(most, 1))
	for {
		conn, err := l.Accept()
		if err != nil {
			_ = l.Close()
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("carried connections: %w", err)
		}
		if most > 0 {
			select {
			case slots <- struct{}{}:
			default:
				_ = conn.Close()
				continue
			}
		}
		running.Go(func() {
			serve(ctx, conn)
			if most > 0 {
				<-slots
			}
		})
	}
}

func (c *Carrier) forward(ctx context.Context, client net.Conn, to func() (netip.Addr, bool)) error {
	from, at, err := endsOf(client)
	if err != nil {
		return err
	}
	node, ok := to()
	if !ok {
		return errors.Join(errors.New("no node of the region can be reached"), reset(client))
	}
	dctx, cancel := context.WithTimeout(ctx, carryWait)
	server, err := c.dial(dctx, node)
	cancel()
	if err != nil {
		return errors.Join(err, reset(client))
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = reset(client), reset(server) })
	defer stop()
	if _, err := server.Write(carryHeader(from, at)); err != nil {
		return errors.Join(err, reset(client))
	}
	back := make(chan error, 1)
	go func() { back <- pipe(client, server) }()
	err = pipe(server, client)
	return errors.Join(err, <-back)
}

// pipe copies one way, and passes the end on: an orderly one as such, any other as a reset of both.
func pipe(to, from net.Conn) error {
	_, err := io.Copy(to, from)
	if err != nil {
		return errors.Join(err, reset(to), reset(from))
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return to.Close()
}

func reset(c net.Conn) error {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // else the end is an orderly one
	}
	return c.Close()
}

func endsOf(c net.Conn) (from, at netip.AddrPort, err error) {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	local, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return from, at, errors.New("the connection has ended")
	}
	return remote.AddrPort(), local.AddrPort(), nil
}

func carryHeader(from, at netip.AddrPort) []byte {
	b := bytes.Clone(proxySignature)
	src, dst := from.Addr().As16(), at.Addr().As16()
	b = append(append(b, src[:]...), dst[:]...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, at.Port())
}

// parseCarryHeader reads what carryHeader writes.
func parseCarryHeader(b []byte) (from, at netip.AddrPort, err error) {
	if len(b) != carryHeaderLen || !bytes.HasPrefix(b, proxySignature) {
		return from, at, errors.New("no header of a carried connection")
	}
	if b = b[len(proxySignature):]; high48(b) != high48(b[16:]) {
		return from, at, errors.New("the client's address and the database's are of different organisations")
	}
	from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), binary.BigEndian.Uint16(b[32:]))
	at = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[16:])), binary.BigEndian.Uint16(b[34:]))
	return from, at, nil
}

// take reads the header of a connection, and gives it to who listens at its address.
func (c *Carrier) take(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	header := make([]byte, carryHeaderLen)
	_ = conn.SetReadDeadline(time.Now().Add(carryWait)) // fails only when it has ended
	_, err := io.ReadFull(conn, header)
	var from, at netip.AddrPort
	if err == nil {
		from, at, err = parseCarryHeader(header)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	c.mu.Lock()
	l := c.listeners[at]
	c.mu.Unlock()
	if err == nil && l == nil {
		err = fmt.Errorf("nobody here serves %s", at)
	}
	if err != nil {
		c.log.Debug("carried connection refused", "from", conn.RemoteAddr(), "err", err)
		_ = reset(conn)
		return
	}
	select {
	case l.conns <- &carriedConn{conn, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(at)}:
	case <-l.closed:
		_ = reset(conn)
	case <-ctx.Done():
		_ = reset(conn)
	}
}

// carriedConn has the addresses that the client sees.
type carriedConn struct {
	net.Conn
	remote, local net.Addr
}

func (c *carriedConn) RemoteAddr() net.Addr { return c.remote }
func (c *carriedConn) LocalAddr() net.Addr  { return c.local }

// SetLinger is as of the connection between the nodes.
func (c *carriedConn) SetLinger(sec int) error {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(sec)
	}
	return nil
}

type carriedListener struct {
	carrier *Carrier
	at      netip.AddrPort
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *carriedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *carriedListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.carrier.mu.Lock()
		defer l.carrier.mu.Unlock()
		delete(l.carrier.listeners, l.at)
	})
	return nil
}

func (l *carriedListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
