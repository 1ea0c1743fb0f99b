package mesh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	// bindBatch is how many datagrams one system call moves. WireGuard keeps 64 KiB
	// for each of them, so a process with many devices wants it small; 32 was as
	// fast as 128.
	bindBatch = 32

	// socketBuffer holds a burst of a TCP window while the receiver is away from
	// its processor. The kernel gives less without privilege (net.core.rmem_max).
	socketBuffer = 7 << 20

	maxEndpoints = 4096
)

// bind is WireGuard's UDP socket on one address. WireGuard's own Bind listens on
// all interfaces, which a development machine must not.
type bind struct {
	at netip.AddrPort

	mu   sync.Mutex
	open *bindSocket // guarded by mu

	socket atomic.Pointer[bindSocket] // the same, for Send
	msgs   sync.Pool
}

// bindSocket is an open socket. ipv4.PacketConn and ipv6.PacketConn have the
// same batch calls, with the same message type.
type bindSocket struct {
	*net.UDPConn
	batch interface {
		ReadBatch([]ipv6.Message, int) (int, error)
		WriteBatch([]ipv6.Message, int) (int, error)
	}
	is4 bool
}

// endpoint is where a peer is. It is immutable, so one value serves many packets.
type endpoint struct {
	netip.AddrPort
	udp *net.UDPAddr
}

func newBind(at netip.AddrPort) *bind {
	return &bind{
		at: at,
		msgs: sync.Pool{New: func() any {
			m := make([]ipv6.Message, bindBatch)
			for i := range m {
				m[i].Buffers = make(net.Buffers, 1)
			}
			return &m
		}},
	}
}

// Open listens. WireGuard gives the port 0 the first time, and then the one it
// was told.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if port == 0 {
		port = b.at.Port()
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.at.Addr(), port)))
	if err != nil {
		return nil, 0, fmt.Errorf("listen for WireGuard: %w", err)
	}
	growBuffers(c)
	s := &bindSocket{UDPConn: c, is4: b.at.Addr().Is4()}
	if s.is4 {
		s.batch = ipv4.NewPacketConn(c)
	} else {
		s.batch = ipv6.NewPacketConn(c)
	}
	b.open = s
	b.socket.Store(s)
	return []conn.ReceiveFunc{s.receiver()}, c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}

// receiver makes the function in which WireGuard waits for datagrams. Only one
// goroutine calls it.
func (s *bindSocket) receiver() conn.ReceiveFunc {
	msgs := make([]ipv6.Message, bindBatch)
	for i := range msgs {
		msgs[i].Buffers = make(net.Buffers, 1)
	}
	known := make(map[netip.AddrPort]*endpoint)
	return func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		use := msgs[:min(len(bufs), len(msgs))]
		for i := range use {
			use[i].Buffers[0] = bufs[i]
		}
		n, err := s.batch.ReadBatch(use, 0)
		if err != nil {
			return 0, err
		}
		for i := range n {
			sizes[i] = use[i].N
			from := use[i].Addr.(*net.UDPAddr).AddrPort()
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			ep := known[from]
			if ep == nil {
				if len(known) >= maxEndpoints {
					clear(known) // anybody can send from many addresses
				}
				ep = newEndpoint(from)
				known[from] = ep
			}
			eps[i] = ep
		}
		return n, nil
	}
}

// Close ends the socket; WireGuard may Open it again.
func (b *bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		return nil
	}
	s := b.open
	b.open = nil
	b.socket.Store(nil)
	return s.UDPConn.Close()
}

// Send sends datagrams to one peer.
func (b *bind) Send(bufs [][]byte, to conn.Endpoint) error {
	ep, ok := to.(*endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	s := b.socket.Load()
	if s == nil {
		return net.ErrClosed
	}
	if s.is4 != ep.Addr().Is4() {
		return syscall.EAFNOSUPPORT
	}
	msgs := b.msgs.Get().(*[]ipv6.Message)
	defer b.msgs.Put(msgs)
	for len(bufs) > 0 {
		n := min(len(bufs), len(*msgs))
		use := (*msgs)[:n]
		for i := range use {
			use[i].Buffers[0], use[i].Addr = bufs[i], ep.udp
		}
		bufs = bufs[n:]
		for len(use) > 0 {
			sent, err := s.batch.WriteBatch(use, 0)
			switch {
			case errors.Is(err, syscall.ECONNREFUSED):
				sent = 1 // the answer to an earlier datagram; it says nothing about this one
			case err != nil:
				return err
			}
			use = use[sent:]
		}
	}
	return nil
}

// SetMark isn't used: nothing here marks packets.
func (b *bind) SetMark(uint32) error { return nil }

// BatchSize is how many datagrams WireGuard gives and takes at once.
func (b *bind) BatchSize() int { return bindBatch }

// ParseEndpoint reads "address:port".
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	return newEndpoint(netip.AddrPortFrom(a.Addr().Unmap(), a.Port())), nil
}

func newEndpoint(a netip.AddrPort) *endpoint {
	return &endpoint{AddrPort: a, udp: net.UDPAddrFromAddrPort(a)}
}

func (e *endpoint) ClearSrc()           {}
func (e *endpoint) SrcToString() string { return "" }
func (e *endpoint) DstToString() string { return e.AddrPort.String() }
func (e *endpoint) DstIP() netip.Addr   { return e.Addr() }
func (e *endpoint) SrcIP() netip.Addr   { return netip.Addr{} }
func (e *endpoint) DstToBytes() []byte {
	b, _ := e.AddrPort.MarshalBinary() // never fails
	return b
}
