package mesh

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// meshConn is a TCP connection of either tunnel.
type meshConn interface {
	net.Conn
	abort() // ends it with a reset, at once
	hold(release func())
}

// held is the part of a connection that says that it has ended.
type held struct {
	mu   sync.Mutex
	done func() // guarded by mu
}

func (h *held) hold(release func()) {
	h.mu.Lock()
	h.done = release
	h.mu.Unlock()
}

func (h *held) release() {
	h.mu.Lock()
	done := h.done
	h.done = nil
	h.mu.Unlock()
	if done != nil {
		done()
	}
}

// conns knows the TCP connections of a device by their other end, so that a peer that is removed loses them, and one peer
// can't take all there are.
type conns struct {
	limit   int
	filter  *Filter
	log     *slog.Logger
	refused atomic.Uint64

	mu     sync.Mutex
	byPeer map[netip.Addr]map[meshConn]struct{} // guarded by mu
	warned map[netip.Addr]bool                  // above the limit and said so, guarded by mu
	barred map[netip.Addr]bool                  // about to lose their key, guarded by mu
}

func newConns(limit int, f *Filter, log *slog.Logger) *conns {
	return &conns{
		limit: limit, filter: f, log: log,
		byPeer: make(map[netip.Addr]map[meshConn]struct{}), warned: make(map[netip.Addr]bool),
		barred: make(map[netip.Addr]bool),
	}
}

// ConnsRefused counts the connections refused since the start because a peer had too many.
func (d *Device) ConnsRefused() uint64 { return d.conns.refused.Load() }

func remoteAddr(c net.Conn) netip.Addr {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{} // it ended before we looked
	}
	return a.AddrPort().Addr().Unmap().WithZone("")
}

// add notes a connection until it ends.
func (s *conns) add(c meshConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(remoteAddr(c), c)
}

func (s *conns) addLocked(peer netip.Addr, c meshConn) {
	of := s.byPeer[peer]
	if of == nil {
		of = make(map[meshConn]struct{})
		s.byPeer[peer] = of
	}
	of[c] = struct{}{}
	c.hold(func() { s.remove(peer, c) })
}

// admit is add for a connection that somebody else opened: false if it has too many. Nodes have no limit: they carry the
// sessions of many.
func (s *conns) admit(c meshConn) bool {
	peer := remoteAddr(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.barred[peer] {
		return false
	}
	if len(s.byPeer[peer]) >= s.limit && !s.filter.inInfra(peer) {
		s.refused.Add(1)
		if !s.warned[peer] {
			s.warned[peer] = true
			s.log.Warn("connections refused: too many from one peer", "peer", peer, "limit", s.limit)
		}
		return false
	}
	s.addLocked(peer, c)
	return true
}

func (s *conns) remove(peer netip.Addr, c meshConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.byPeer[peer]
	delete(of, c)
	if len(of) == 0 {
		delete(s.byPeer, peer)
		delete(s.warned, peer)
	}
}

// bar refuses connections from some addresses until it is lifted.
func (s *conns) bar(peers []netip.Addr) (lift func()) {
	set := func(barred bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range peers {
			if barred {
				s.barred[p.Unmap().WithZone("")] = true
			} else {
				delete(s.barred, p.Unmap().WithZone(""))
			}
		}
	}
	set(true)
	return func() { set(false) }
}

// abort ends the connections with some addresses, and says how many there were.
func (s *conns) abort(peers []netip.Addr) int {
	var all []meshConn
	s.mu.Lock()
	for _, p := range peers {
		for c := range s.byPeer[p.Unmap().WithZone("")] {
			all = append(all, c)
		}
	}
	s.mu.Unlock()
	for _, c := range all {
		c.abort()
	}
	return len(all)
}

// countedListener notes the connections that it accepts, and refuses those above the limit.
type countedListener struct {
	net.Listener
	conns *conns
}

func (l countedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if m := c.(meshConn); l.conns.admit(m) {
			return m, nil
		}
		c.(meshConn).abort()
	}
}
