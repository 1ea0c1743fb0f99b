package node

import (
	"context"
	"fmt"
	"time"

	"respmesh/console"
	"respmesh/netconf"
	"respmesh/netconf/api"
)

// statusTimeout bounds how long the console waits for the other nodes.
const statusTimeout = 1500 * time.Millisecond

// status is what the console shows: all databases as all nodes see them, and this node's tunnels.
func (s *Server) status() console.Status {
	topology, _ := s.control.registry.Current()
	status := console.Status{Version: s.opts.Version, Revision: topology.Revision, Uptime: time.Since(s.started), Peers: s.node.peerStatus(topology)}
	ctx, cancel := context.WithTimeout(s.node.ctx, statusTimeout)
	defer cancel()
	status.Databases = make([]console.Database, len(topology.Databases))
	indices := make([]int, len(topology.Databases))
	for i := range indices {
		indices[i] = i
	}
	_ = each(indices, func(i int) error {
		status.Databases[i] = s.databaseView(ctx, topology.Databases[i])
		return nil
	})
	return status
}

func (s *Server) databaseView(ctx context.Context, db netconf.Database) console.Database {
	view := console.Database{
		Org: db.Org, Name: db.Name, Plan: db.Plan, Address: db.Address.String(), DNS: dnsName(db), Primary: db.Primary,
		Password: db.PasswordHash != "",
	}
	nodes, err := s.fleet.DatabaseStatus(ctx, db.Org, db.Name)
	if err != nil {
		s.opts.Log.Warn("the nodes weren't asked how they see a database", "database", db.Org+"/"+db.Name, "err", err)
	}
	for _, n := range nodes {
		view.Regions = append(view.Regions, regionView(n))
	}
	return view
}

// regionView puts what a node says into the console's words.
func regionView(n api.NodeDatabaseStatus) console.Region {
	region, _ := netconf.LookupRegion(n.Region)
	r := console.Region{
		Code: n.Region, City: region.City, Role: n.Role, RTT: fromMillis(n.RTTMS), Lag: fromMillis(n.LagMS),
		Reachable: n.State != api.StateAway, Usable: n.State == api.StateReady || n.State == api.StateStale,
		State: n.State, LagBytes: n.LagBytes, Offset: n.Offset, Keys: n.Keys, Sessions: n.Sessions, PerSecond: &n.Commands,
	}
	switch {
	case n.Error != "":
		r.State = n.State + ": " + n.Error
	case n.Sync != nil && n.Sync.Total > 0:
		r.State = fmt.Sprintf("sync %d%%", 100*n.Sync.Bytes/n.Sync.Total)
	case n.Role == api.RoleNone:
		r.State = "forwards"
	}
	if n.Role == api.RolePrimary {
		r.Lag = console.Unknown
	}
	return r
}

func fromMillis(ms float64) time.Duration {
	if ms < 0 {
		return console.Unknown
	}
	return time.Duration(ms * float64(time.Millisecond))
}
