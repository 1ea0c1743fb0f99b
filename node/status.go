package node

import (
	"context"
	"fmt"
	"time"

	"respmesh/console"
	"respmesh/mesh"
	"respmesh/netconf"
	"respmesh/store/psync"
)

// status is what the console shows of all nodes.
func (d *Dev) status() console.Status {
	topology, _ := d.control.registry.Current()
	s := console.Status{Version: d.opts.Version, Revision: topology.Revision, Uptime: time.Since(d.started)}
	for _, db := range topology.Databases {
		shown := console.Database{
			Org: db.Org, Name: db.Name, Plan: db.Plan, Address: db.Address.String(), DNS: dnsName(db),
			Primary: db.Primary, Password: d.opts.Password != "",
		}
		for i, n := range d.nodes {
			shown.Regions = append(shown.Regions, n.regionStatus(db, d.addrs[i], d.primaryOffset(db)))
		}
		s.Databases = append(s.Databases, shown)
	}
	for _, n := range d.nodes {
		s.Peers = append(s.Peers, n.peerStatus(topology)...)
	}
	return s
}

// primaryOffset is how far the primary has written.
func (d *Dev) primaryOffset(conf netconf.Database) int64 {
	for _, n := range d.nodes {
		if db := n.database(conf.Org, conf.Name); db != nil && db.serving() != nil && db.serving().State().Primary {
			_, offset := db.serving().Position()
			return offset
		}
	}
	return 0
}

// regionStatus is what this node knows of one database.
func (n *Node) regionStatus(conf netconf.Database, resp string, primaryOffset int64) console.Region {
	region, _ := netconf.LookupRegion(n.opts.Region)
	s := console.Region{
		Code: region.Code, City: region.City, Role: roleOf(conf, region.Code), RESP: resp,
		RTT: console.Unknown, Lag: console.Unknown, State: "stopped",
	}
	db := n.database(conf.Org, conf.Name)
	if db == nil {
		return s
	}
	gateway := db.gateway.Status()
	s.Reachable, s.Sessions, s.State = gateway.PrimaryReachable, int64(gateway.Sessions), "forwards"
	s.Commands = gateway.Commands
	if s.Reachable {
		s.RTT = gateway.PrimaryRTT
	}
	if o := db.outside(); o != nil {
		_, s.Offset = o.Position()
		s.Usable, s.State = o.state().Usable, o.conf.Kind
		ctx, cancel := context.WithTimeout(n.ctx, usageTimeout)
		defer cancel()
		if u, err := o.usage(ctx); err == nil {
			s.Keys = u.Keys
		}
		return s
	}
	if db.copy() == nil {
		return s
	}
	_, s.Offset = db.copy().Position()
	state := db.copy().State()
	s.Usable, s.Keys = state.Usable, int64(db.copy().engine.Info().Keys)
	if db.copy().leads() {
		s.State = "primary"
		return s
	}
	r, _ := db.copy().following()
	s.State = replicaPhase(r)
	s.LagBytes = max(0, primaryOffset-s.Offset)
	s.Lag = db.copy().lag()
	return s
}

// replicaPhase puts a replica's state into a word or two.
func replicaPhase(r psync.ReplicaState) string {
	switch r.Phase {
	case psync.Online:
		return "online"
	case psync.Broken:
		return fmt.Sprintf("broken: %v", r.Err)
	case psync.Syncing:
		if r.Total > 0 {
			return fmt.Sprintf("sync %d%%", 100*r.Received/r.Total)
		}
		return "sync"
	}
	return "connecting"
}

// lag is the time since the replica last had all that its primary had told it: an upper bound of how old its data is.
func (s *store) lag() time.Duration {
	heard := s.State().LastHeard
	if heard.IsZero() {
		return console.Unknown
	}
	return time.Since(heard)
}

// peerStatus is what WireGuard knows of the node's peers, by the names of the topology.
func (n *Node) peerStatus(t *netconf.Topology) []console.Peer {
	names := make(map[mesh.PublicKey]string)
	for _, other := range t.Nodes {
		if key, err := mesh.ParsePublicKey(other.Key); err == nil {
			names[key] = other.Name
		}
	}
	for _, p := range t.Peers {
		if key, err := mesh.ParsePublicKey(p.Key); err == nil {
			names[key] = p.Org + "/" + p.Name
		}
	}
	var peers []console.Peer
	for _, stat := range n.device.Stats() {
		peer := console.Peer{
			From: n.opts.Region, To: names[stat.PublicKey], Handshake: console.Unknown,
			Received: stat.RxBytes, Sent: stat.TxBytes,
		}
		if stat.Endpoint.IsValid() {
			peer.Endpoint = stat.Endpoint.String()
		}
		if !stat.LastHandshake.IsZero() {
			peer.Handshake = time.Since(stat.LastHandshake)
		}
		peers = append(peers, peer)
	}
	return peers
}
