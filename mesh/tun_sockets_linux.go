package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's sockets of a device are bound to its interface: nothing that comes in elsewhere reaches them, and nothing of
// theirs leaves elsewhere.

// tcpRTOMaxMS is TCP_RTO_MAX_MS of Linux 6.15: from 1,000 to 120,000.
const tcpRTOMaxMS = 44

// kernelSocket is what has to be undone when a socket, or the device, ends.
type kernelSocket struct {
	tunnel *kernelTunnel
	once   sync.Once
	forget func() // by the guard
	end    func() // closes the socket
}

func (s *kernelSocket) release() {
	s.once.Do(func() {
		s.forget()
		s.tunnel.mu.Lock()
		delete(s.tunnel.open, s)
		s.tunnel.mu.Unlock()
	})
}

// keep notes an open socket; false: the device is closed.
func (k *kernelTunnel) keep(s *kernelSocket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false
	}
	s.tunnel = k
	k.open[s] = struct{}{}
	return true
}

// owns tells whether an address is the device's.
func (k *kernelTunnel) owns(a netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.addrs[a]
	return ok
}

type kernelConn struct {
	*net.TCPConn
	held
	socket *kernelSocket

	mu      sync.Mutex
	aborted bool
	reset   func() // resets the connection, which is somebody else's; nil: it is ours
}

func (c *kernelConn) Close() error {
	c.forget()
	return c.TCPConn.Close()
}

func (c *kernelConn) forget() {
	c.held.release()
	c.socket.release()
}

func (c *kernelConn) abort() {
	c.mu.Lock()
	reset := c.reset
	c.aborted = true
	c.mu.Unlock()
	if reset != nil {
		reset()
		return
	}
	_ = c.SetLinger(0)
	_ = c.Close()
}

// HandOver gives the connection to somebody who has made a copy of its descriptor with File. The tunnel goes on keeping account of it:
// it calls reset to end it, and is told by closed that it has ended. False: the tunnel has ended it already.
func (c *kernelConn) HandOver(reset func()) (closed func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted {
		return nil, false
	}
	c.reset = reset
	_ = c.TCPConn.Close()
	return c.forget, true
}

type kernelListener struct {
	net.Listener
	tunnel *kernelTunnel
	socket *kernelSocket
}

// Accept also refuses programs of this host: they aren't on the mesh, though the kernel lets them use its addresses.
func (l *kernelListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		k, ok := l.tunnel.conn(c.(*net.TCPConn), func() {})
		if ok && !l.tunnel.owns(remoteAddr(c)) {
			return k, nil
		}
		k.abort()
	}
}

func (l *kernelListener) Close() error {
	l.socket.release()
	return l.Listener.Close()
}

func (k *kernelTunnel) conn(c *net.TCPConn, forget func()) (*kernelConn, bool) {
	kc := &kernelConn{TCPConn: c, socket: &kernelSocket{tunnel: k, forget: forget}}
	kc.socket.end = kc.abort
	return kc, k.keep(kc.socket)
}

type kernelPacketConn struct {
	*net.UDPConn
	socket *kernelSocket
}

func (c *kernelPacketConn) Close() error {
	c.socket.release()
	return c.UDPConn.Close()
}

// control sets what a socket needs before it is bound or connected.
func (k *kernelTunnel) control(bind netip.Addr) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			if err = unix.BindToDevice(int(fd), k.nic.Attrs().Name); err != nil {
				return
			}
			// Only newer kernels know it; without it an old connection takes longer after a cut.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, tcpRTOMaxMS, int(max(k.rto.max, time.Second).Milliseconds()))
			if bind.IsValid() {
				err = unix.Bind(int(fd), &unix.SockaddrInet6{Addr: bind.As16()})
			}
		})
		return errors.Join(cerr, err)
	}
}

// dialTCP binds the socket itself, so that the guard knows its port before the first packet leaves.
func (k *kernelTunnel) dialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (meshConn, error) {
	fail := func(err error) error {
		op := &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
		return op
	}
	if !from.IsValid() {
		from = k.anyAddr(to.Addr())
	}
	if !k.owns(from) {
		return nil, fail(syscall.EADDRNOTAVAIL)
	}
	forget := func() {}
	d := net.Dialer{KeepAliveConfig: kernelKeepalive(), Control: func(network, address string, c syscall.RawConn) error {
		if err := k.control(from)(network, address, c); err != nil {
			return err
		}
		var at *unix.SockaddrInet6
		var err error
		cerr := c.Control(func(fd uintptr) {
			var sa unix.Sockaddr
			if sa, err = unix.Getsockname(int(fd)); err == nil {
				at, _ = sa.(*unix.SockaddrInet6)
			}
		})
		if err = errors.Join(cerr, err); err == nil && at != nil {
			forget()
			forget = k.guard.admit(TCP, netip.AddrPortFrom(from, uint16(at.Port)))
		}
		return err
	}}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp6", to.String())
	if err != nil {
		forget()
		return nil, err
	}
	kc, ok := k.conn(c.(*net.TCPConn), forget)
	if !ok {
		kc.abort()
		return nil, fail(ErrClosed)
	}
	return kc, nil
}

// anyAddr is an address of the device in the same prefix as another.
func (k *kernelTunnel) anyAddr(to netip.Addr) netip.Addr {
	k.mu.Lock()
	defer k.mu.Unlock()
	var best netip.Addr
	for a := range k.addrs {
		if p, err := a.Prefix(48); err == nil && p.Contains(to) && (!best.IsValid() || a.Less(best)) {
			best = a
		}
	}
	return best
}

func (k *kernelTunnel) listenTCP(at netip.AddrPort) (net.Listener, error) {
	fail := func(err error) error {
		return &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: err}
	}
	if !k.owns(at.Addr()) {
		return nil, fail(syscall.EADDRNOTAVAIL)
	}
	lc := net.ListenConfig{KeepAliveConfig: kernelKeepalive(), Control: k.control(netip.Addr{})}
	lc.SetMultipathTCP(false) // there is one path
	l, err := lc.Listen(context.Background(), "tcp6", at.String())
	if err != nil {
		return nil, err
	}
	s := &kernelSocket{tunnel: k, forget: k.guard.admit(TCP, l.Addr().(*net.TCPAddr).AddrPort()), end: func() { _ = l.Close() }}
	if !k.keep(s) {
		s.release()
		return nil, errors.Join(fail(ErrClosed), l.Close())
	}
	return &kernelListener{l, k, s}, nil
}

func (k *kernelTunnel) listenUDP(at netip.AddrPort) (net.PacketConn, error) {
	fail := func(err error) error {
		return &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(at), Err: err}
	}
	if !k.owns(at.Addr()) {
		return nil, fail(syscall.EADDRNOTAVAIL)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), k.nic.Attrs().Name) })
		return errors.Join(cerr, err)
	}}
	pc, err := lc.ListenPacket(context.Background(), "udp6", at.String())
	if err != nil {
		return nil, err
	}
	c := pc.(*net.UDPConn)
	s := &kernelSocket{tunnel: k, forget: k.guard.admit(UDP, c.LocalAddr().(*net.UDPAddr).AddrPort()), end: func() { _ = c.Close() }}
	if !k.keep(s) {
		s.release()
		return nil, errors.Join(fail(ErrClosed), c.Close())
	}
	return &kernelPacketConn{c, s}, nil
}

func kernelKeepalive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: keepaliveIdle, Interval: keepaliveInterval, Count: keepaliveCount}
}
