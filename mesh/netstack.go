package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	nicID = 1

	// A window has to hold what is under way: 5 MB/s over 220 ms are 1.1 MB, and
	// the stack counts buffers, not bytes. Sockets start small and grow.
	tcpBufferDefault = 256 << 10
	tcpBufferMax     = 8 << 20

	// A dead host is noticed after about 15 s on an idle connection.
	keepaliveIdle     = 5 * time.Second
	keepaliveInterval = 2 * time.Second
	keepaliveCount    = 5

	listenBacklog = 1024
)

// netstack is the userspace tunnel: a gVisor stack with one interface.
type netstack struct {
	queue *queue
	stack *stack.Stack
	once  sync.Once
}

func newNetstack(mtu int, rto rtoBounds) (*netstack, error) {
	quietStack()
	n := &netstack{
		queue: newQueue(mtu),
		stack: stack.New(stack.Options{
			// The zero options leave out duplicate address detection, link-local
			// addresses, router solicitation and MLD: a tunnel has no neighbours.
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv6.NewProtocolWithOptions(ipv6.Options{})},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol6},
			HandleLocal:        true,
		}),
	}
	if err := n.setup(rto); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *netstack) setup(rto rtoBounds) error {
	sack := tcpip.TCPSACKEnabled(true)
	// With RACK a lost tail of a small request waits for its timer: p99 was 270 ms
	// instead of 63-87 at 20 ms RTT and 1 % loss.
	recovery := tcpip.TCPRecovery(0)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	congestion := tcpip.CongestionControlOption("cubic")
	// A minute's worth of links that came and went would be much to keep.
	timeWait := tcpip.TCPTimeWaitTimeoutOption(10 * time.Second)
	minRTO, maxRTO := tcpip.TCPMinRTOOption(rto.min), tcpip.TCPMaxRTOOption(rto.max)
	for _, opt := range []tcpip.SettableTransportProtocolOption{
		&sack, &recovery, &moderate, &congestion, &timeWait, &minRTO, &maxRTO,
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcpBufferDefault, Max: tcpBufferMax},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcpBufferDefault, Max: tcpBufferMax},
	} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("set TCP option %T: %w", opt, stackError(err))
		}
	}
	if err := n.stack.CreateNIC(nicID, link{n.queue}); err != nil {
		return fmt.Errorf("create the stack's interface: %w", stackError(err))
	}
	n.stack.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicID})
	return nil
}

func (n *netstack) link() tun.Device { return device{n.queue} }

func (n *netstack) kind() Tunnel { return TunnelUserspace }

// setRoutes has nothing to do: whatever leaves the stack goes into the tunnel.
func (n *netstack) setRoutes([]netip.Prefix) error { return nil }

func (n *netstack) addAddr(a netip.Addr) error {
	err := n.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          ipv6.ProtocolNumber,
		AddressWithPrefix: tcpip.AddrFrom16(a.As16()).WithPrefix(),
	}, stack.AddressProperties{})
	return stackError(err)
}

func (n *netstack) removeAddr(a netip.Addr) error {
	return stackError(n.stack.RemoveAddress(nicID, tcpip.AddrFrom16(a.As16())))
}

// Close aborts every connection and waits for the stack's goroutines.
func (n *netstack) Close() error {
	n.once.Do(func() {
		n.queue.stop()
		n.stack.Destroy()
	})
	return nil
}

func (n *netstack) dialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (meshConn, error) {
	fail := func(err error) error {
		op := &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
		if from.IsValid() {
			op.Source = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
		return op
	}
	if err := ctx.Err(); err != nil {
		return nil, fail(err)
	}
	wq := new(waiter.Queue)
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, ipv6.ProtocolNumber, wq)
	if terr != nil {
		return nil, fail(stackError(terr))
	}
	if err := setKeepalive(ep); err != nil {
		ep.Close()
		return nil, fail(err)
	}
	if from.IsValid() {
		if terr := ep.Bind(fullAddr(netip.AddrPortFrom(from, 0))); terr != nil {
			ep.Close()
			return nil, fail(stackError(terr))
		}
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr = ep.Connect(fullAddr(to))
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			ep.Abort()
			return nil, fail(ctx.Err())
		case <-ready:
		}
		terr = ep.LastError()
	}
	if terr != nil {
		ep.Close()
		return nil, fail(stackError(terr))
	}
	return &tcpConn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}, nil
}

func (n *netstack) listenTCP(at netip.AddrPort) (net.Listener, error) {
	fail := func(err error) error {
		return &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: err}
	}
	l := &listener{closed: make(chan struct{})}
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, ipv6.ProtocolNumber, &l.wq)
	if terr != nil {
		return nil, fail(stackError(terr))
	}
	l.ep = ep
	terr = ep.Bind(fullAddr(at))
	if terr == nil {
		terr = ep.Listen(listenBacklog)
	}
	if terr != nil {
		ep.Close()
		return nil, fail(stackError(terr))
	}
	bound, terr := ep.GetLocalAddress()
	if terr != nil {
		ep.Close()
		return nil, fail(stackError(terr))
	}
	l.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), bound.Port))
	return l, nil
}

func (n *netstack) listenUDP(at netip.AddrPort) (net.PacketConn, error) {
	local := fullAddr(at)
	c, err := gonet.DialUDP(n.stack, &local, nil, ipv6.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("listen on UDP %s: %w", at, err)
	}
	return udpConn{c}, nil
}

// listener accepts connections and sets their options; gonet's gives no access
// to the endpoint, and its Accept outlives its Close.
type listener struct {
	ep     tcpip.Endpoint
	wq     waiter.Queue
	addr   net.Addr
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a connection or for Close.
func (l *listener) Accept() (net.Conn, error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		select {
		case <-l.closed:
			return nil, l.fail(net.ErrClosed)
		default:
		}
		ep, wq, terr := l.ep.Accept(nil)
		if terr == nil {
			if err := setKeepalive(ep); err != nil {
				ep.Close()
				continue // it ended before we had it
			}
			return &tcpConn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}, nil
		}
		if _, block := terr.(*tcpip.ErrWouldBlock); !block {
			// A listening endpoint fails only when it, or its stack, is closed.
			return nil, l.fail(fmt.Errorf("%w (%w)", net.ErrClosed, stackError(terr)))
		}
		select {
		case <-l.closed:
		case <-ready:
		}
	}
}

func (l *listener) fail(err error) error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: err}
}

// Close ends the listener; connections already accepted go on.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.ep.Close()
	})
	return nil
}

// Addr is the address listened on, with the port that was chosen.
func (l *listener) Addr() net.Addr { return l.addr }

func setKeepalive(ep tcpip.Endpoint) error {
	idle, interval := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveInterval)
	for _, o := range []tcpip.SettableSocketOption{&idle, &interval} {
		if err := ep.SetSockOpt(o); err != nil {
			return stackError(err)
		}
	}
	if err := ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount); err != nil {
		return stackError(err)
	}
	ep.SocketOptions().SetKeepAlive(true)
	return nil
}

func fullAddr(a netip.AddrPort) tcpip.FullAddress {
	f := tcpip.FullAddress{NIC: nicID, Port: a.Port()}
	if a.Addr().IsValid() && !a.Addr().IsUnspecified() {
		f.Addr = tcpip.AddrFrom16(a.Addr().As16())
	}
	return f
}

// stackError turns gVisor's errors into those that callers of package net test for.
func stackError(err tcpip.Error) error {
	switch err.(type) {
	case nil:
		return nil
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrConnectionAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrPortInUse:
		return syscall.EADDRINUSE
	case *tcpip.ErrBadLocalAddress:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrClosedForSend, *tcpip.ErrClosedForReceive:
		return os.ErrClosed
	default:
		return errors.New(err.String())
	}
}
