package node

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// controlConns are the connections over the mesh to the members of the control plane. What goes over one to a node that has
// died waits: a watch that shows nothing more, a lease that isn't renewed. etcd's client gives such a connection up after 8
// seconds; the prober knows after 1.5.
type controlConns struct {
	mu   sync.Mutex
	open map[*controlConn]struct{} // guarded by mu
}

type controlConn struct {
	net.Conn
	to  netip.Addr
	set *controlConns
}

func newControlConns() *controlConns { return &controlConns{open: make(map[*controlConn]struct{})} }

func (c *controlConns) add(conn net.Conn, to netip.Addr) net.Conn {
	tracked := &controlConn{conn, to, c}
	c.mu.Lock()
	c.open[tracked] = struct{}{}
	c.mu.Unlock()
	return tracked
}

// Close implements net.Conn.
func (c *controlConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// drop ends the connections to a node, so that what waits on them goes on with another.
func (c *controlConns) drop(to netip.Addr) int {
	var lost []*controlConn
	c.mu.Lock()
	for conn := range c.open {
		if conn.to == to {
			lost = append(lost, conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range lost {
		_ = conn.Close()
	}
	return len(lost)
}

// dropLost drops the connections to nodes that stop answering probes, until ctx ends.
func (s *Server) dropLost(ctx context.Context) {
	answered := make(map[netip.Addr]bool)
	for {
		changed := s.node.prober.Changed()
		topology, _ := s.control.registry.Current()
		for _, other := range topology.Nodes {
			_, answers := s.node.prober.RTT(other.Addr)
			if answered[other.Addr] && !answers {
				if n := s.conns.drop(other.Addr); n > 0 {
					s.opts.Log.Info("connections to a control member that doesn't answer are dropped", "member", other.Name, "connections", n)
				}
			}
			answered[other.Addr] = answers
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
