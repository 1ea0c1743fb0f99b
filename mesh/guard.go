package mesh

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/tun"
)

// guard keeps the rest of a host apart from a node's kernel TUN. The filter knows prefixes and ports; with the kernel's stack
// behind them that is not enough:
//
//   - A program of the host that listens on all addresses would answer at an organisation's service port.
//   - Any user of the host could connect to other nodes with the node's address.
//   - A host that forwards would carry packets of others.
//
// So packets pass only to and from the device's own addresses, and what opens a connection (and every datagram) only to or
// from a socket that this process opened through the device. Established TCP isn't looked up.
type guard struct {
	tun.Device
	filter *Filter
	log    *dropLog

	addrs atomic.Pointer[map[[16]byte]struct{}]

	mu   sync.RWMutex
	open map[socketKey]int // guarded by mu
}

// socketKey is one end of a socket.
type socketKey struct {
	addr  [16]byte
	port  uint16
	proto Proto
}

func newGuard(d tun.Device, f *Filter, log *slog.Logger) *guard {
	g := &guard{Device: d, filter: f, log: &dropLog{log: log}, open: make(map[socketKey]int)}
	g.setAddrs(nil)
	return g
}

func (g *guard) setAddrs(addrs map[netip.Addr]struct{}) {
	own := make(map[[16]byte]struct{}, len(addrs))
	for a := range addrs {
		own[a.As16()] = struct{}{}
	}
	g.addrs.Store(&own)
}

// admit notes a socket until the function it gives is called.
func (g *guard) admit(proto Proto, at netip.AddrPort) (forget func()) {
	key := socketKey{at.Addr().As16(), at.Port(), proto}
	g.mu.Lock()
	g.open[key]++
	g.mu.Unlock()
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.open[key]--; g.open[key] == 0 {
			delete(g.open, key)
		}
	})
}

// Read leaves the size of a dropped packet at zero, which WireGuard skips.
func (g *guard) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := g.Device.Read(bufs, sizes, offset)
	for i := range n {
		if sizes[i] > 0 && !g.allow(Outbound, bufs[i][offset:offset+sizes[i]]) {
			sizes[i] = 0
		}
	}
	return n, err
}

// Write compacts the packets that pass to the front of bufs, as filtered does.
func (g *guard) Write(bufs [][]byte, offset int) (int, error) {
	kept := bufs[:0]
	for _, b := range bufs {
		if g.allow(Inbound, b[offset:]) {
			kept = append(kept, b)
		}
	}
	if len(kept) == 0 {
		return len(bufs), nil
	}
	return g.Device.Write(kept, offset)
}

func (g *guard) allow(d Direction, packet []byte) bool {
	if g.filter.rules.Load().role == RoleNode && !g.ours(d, packet) {
		g.filter.count(d, Closed, packet)
		// Outbound it is the host's programs, that look for each other everywhere. What another node asks for here is about to
		// open, or was a moment ago.
		if d == Inbound && !g.filter.fromInfra(packet) {
			g.log.note(d, Closed, packet)
		}
		return false
	}
	return true
}

// ours judges a packet by our end of it. What isn't a whole packet is the filter's matter: it comes first inbound, and
// last outbound.
func (g *guard) ours(d Direction, b []byte) bool {
	if len(b) < ipv6HeaderLen || b[0]>>4 != 6 {
		return d == Outbound
	}
	at, port := 8, 0 // of the source
	if d == Inbound {
		at, port = 24, 2
	}
	own := [16]byte(b[at:])
	if _, ok := (*g.addrs.Load())[own]; !ok {
		return false
	}
	proto, p := Proto(b[6]), b[ipv6HeaderLen:]
	switch {
	case proto == TCP && len(p) >= tcpHeaderLen:
		if p[13]&(tcpSYN|tcpACK) != tcpSYN {
			return true
		}
	case proto == UDP && len(p) >= udpHeaderLen:
	default:
		return true
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.open[socketKey{own, binary.BigEndian.Uint16(p[port:]), proto}] > 0
}
