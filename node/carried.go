package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"respmesh/mesh"
	"respmesh/netconf"
)

// A database's address in another region is answered here, for the peers that are attached here, and each connection is carried
// to the nearest node of that region (see mesh.CarryPort).

// serveCarried takes the connections that other nodes carry here.
func (n *Node) serveCarried(ctx context.Context) error {
	n.carrier = mesh.NewCarrier(func(ctx context.Context, node netip.Addr) (net.Conn, error) {
		return n.device.DialTCP(ctx, n.infra, netip.AddrPortFrom(node, mesh.CarryPort))
	}, n.log)
	l, err := n.device.ListenTCP(netip.AddrPortFrom(n.infra, mesh.CarryPort))
	if err != nil {
		return err
	}
	n.wg.Go(func() {
		if err := n.carrier.Serve(ctx, l); err != nil && ctx.Err() == nil {
			n.log.Error("carried connections aren't taken any more", "err", err)
		}
	})
	return nil
}

// carriedTo are the other regions whose addresses of a database this node answers.
func (n *Node) carriedTo(db netconf.Database) []string {
	var others []string
	for _, region := range db.Regions() {
		if region != n.opts.Region {
			others = append(others, region)
		}
	}
	return others
}

// carrying are the other regions' addresses of a database that are answered.
type carrying struct {
	mu     sync.Mutex
	closed bool
	to     map[string]context.CancelFunc // by region
}

func (c *carrying) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, stop := range c.to {
		stop()
	}
}

// carry answers the addresses of the other regions that hold the database, and of those only.
func (db *database) carry(ctx context.Context, t *netconf.Topology, conf netconf.Database) error {
	c := &db.carrying
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	if c.to == nil {
		c.to = make(map[string]context.CancelFunc)
	}
	wanted := make(map[string]bool)
	var errs []error
	for _, region := range db.node.carriedTo(conf) {
		wanted[region] = true
		if c.to[region] != nil {
			continue
		}
		addr, ok := t.RegionalAddress(conf, region)
		if !ok {
			continue
		}
		l, err := db.node.device.ListenTCP(netip.AddrPortFrom(addr, redisPort))
		if err != nil {
			errs = append(errs, fmt.Errorf("address in %s: %w", region, err))
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		c.to[region] = cancel
		db.wg.Go(func() {
			err := db.node.carrier.Forward(ctx, l, func() (netip.Addr, bool) { return db.node.nearestIn(region) })
			if err != nil && ctx.Err() == nil {
				db.node.log.Error("connections to another region aren't carried any more", "database", conf.Org+"/"+conf.Name, "region", region, "err", err)
			}
		})
	}
	for region, cancel := range c.to {
		if !wanted[region] {
			cancel()
			delete(c.to, region)
		}
	}
	return errors.Join(errs...)
}

// nearestIn is the node of a region that answers probes the fastest.
func (n *Node) nearestIn(region string) (addr netip.Addr, found bool) {
	topology, _ := n.source.Current()
	var best time.Duration
	for _, other := range topology.NodesIn(region) {
		if rtt, ok := n.prober.RTT(other.Addr); ok && (!found || rtt < best) {
			addr, best, found = other.Addr, rtt, true
		}
	}
	return addr, found
}
