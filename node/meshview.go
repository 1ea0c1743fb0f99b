package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"respmesh/netconf"
	"respmesh/proxy"
)

// nodeMesh is the mesh as a gateway sees it: nodes by name.
type nodeMesh Node

// Dial implements proxy.Mesh: it connects to a node's link server.
func (m *nodeMesh) Dial(ctx context.Context, node string) (net.Conn, error) {
	addr, ok := m.addr(node)
	if !ok {
		return nil, fmt.Errorf("node %s isn't in the topology", node)
	}
	conn, err := m.device.DialTCP(ctx, m.infra, netip.AddrPortFrom(addr, linkPort))
	if err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", node, err)
	}
	return conn, nil
}

// RTT implements proxy.Mesh.
func (m *nodeMesh) RTT(node string) (time.Duration, bool) {
	if node == m.opts.Name {
		return 0, true
	}
	addr, ok := m.addr(node)
	if !ok {
		return 0, false
	}
	return m.prober.RTT(addr)
}

// Changed implements proxy.Mesh.
func (m *nodeMesh) Changed() <-chan struct{} { return m.prober.Changed() }

func (m *nodeMesh) addr(node string) (netip.Addr, bool) {
	topology, _ := m.source.Current()
	n, ok := topology.Node(node)
	return n.Addr, ok
}

// regionRTT is the measured time to the nearest node of a region.
func (n *Node) regionRTT(region string) (time.Duration, bool) {
	if region == n.opts.Region {
		return 0, true
	}
	topology, _ := n.source.Current()
	best, found := time.Duration(0), false
	for _, other := range topology.NodesIn(region) {
		if rtt, ok := (*nodeMesh)(n).RTT(other.Name); ok && (!found || rtt < best) {
			best, found = rtt, true
		}
	}
	return best, found
}

// healthy tells the resolver whether a database's copy in a region can be used from here.
func (n *Node) healthy(d *netconf.Database, region string) bool {
	if region != n.opts.Region {
		_, ok := n.regionRTT(region)
		return ok
	}
	db := n.database(d.Org, d.Name)
	return db != nil && db.serving() != nil && db.serving().State().Usable
}

// databaseSource shows one database of the topology to its gateway.
type databaseSource struct {
	source    Source
	org, name string
	self      string // node
}

// Current implements proxy.Source.
func (s *databaseSource) Current() (*proxy.Topology, <-chan struct{}) {
	topology, changed := s.source.Current()
	t := &proxy.Topology{Revision: topology.Revision}
	db, ok := topology.Database(s.org, s.name)
	if !ok {
		return t, changed
	}
	t.Settings = settingsOf(&db)
	for _, u := range topology.UsersOf(s.org, s.name) {
		t.Settings.Users = append(t.Settings.Users, proxy.User{Name: u.Name, PasswordHash: u.PasswordHash, Rules: u.Rules})
	}
	if db.Engine.Kind == netconf.EngineCluster { // each node has its own way to it, and needs no other
		self, _ := topology.Node(s.self)
		t.Primary, t.Members = self.Name, []proxy.Member{{Node: self.Name, Region: self.Region}}
		return t, changed
	}
	t.Settings.ForeignCursors = !db.Engine.Embedded()
	primary, _ := topology.Primary(db)
	for _, region := range db.Regions() {
		for _, n := range topology.NodesIn(region) {
			if n.Name == primary.Name {
				t.Primary = n.Name
				t.Members = append(t.Members, proxy.Member{Node: n.Name, Region: region})
				continue
			}
			t.Members = append(t.Members, proxy.Member{Node: n.Name, Region: region, Replica: true})
		}
	}
	return t, changed
}

// settingsOf is what a database's record, and its plan, say to a gateway.
func settingsOf(db *netconf.Database) proxy.Settings {
	plan, _ := netconf.LookupPlan(db.Plan) // without one there are no limits
	return proxy.Settings{
		PasswordHash: db.PasswordHash, Near: db.Near, MaxLag: db.MaxLag, Hedge: db.Hedge,
		MaxRequest: int(plan.MaxRequest), DailyCommands: plan.CommandsPerDay,
		MaxSessions: db.Limits.MaxSessions, CommandsPerSecond: db.Limits.CommandsPerSecond, Concurrency: db.Limits.Concurrency,
		IdleTimeout: db.Limits.IdleTimeout, MaxValue: int(db.Limits.MaxValue),
		ForeignCursors: !db.Engine.Embedded(),
	}
}
