package node

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf"
)

// giveLeadTimeout bounds the time in which the control plane has no leader since it is given away.
const giveLeadTimeout = 2 * time.Second

// keepApart gives the lead of the control plane away where this node takes writes of databases, too, that another one would take over: a
// kill of both at once would cost an election, and then a whole lease, since a new leader doesn't know how old leases are. It
// goes to the nearest member whose node takes no such writes; where all do, it stays.
func (s *Server) keepApart(ctx context.Context) error {
	if s.control.member == nil || !s.control.member.Leads() {
		return nil
	}
	t, _ := s.control.registry.Current()
	busy := takesWrites(t)
	if !busy[s.opts.Name] {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, giveLeadTimeout)
	defer cancel()
	list, err := s.control.client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return err
	}
	var to uint64
	var name string
	var nearest time.Duration
	for _, m := range list.Members {
		n, ok := t.Node(m.Name)
		if !ok || m.IsLearner || busy[n.Name] || n.Draining {
			continue
		}
		_, alive := t.Live.Nodes[n.Name]
		if rtt, reachable := s.node.prober.RTT(n.Addr); alive && reachable && (to == 0 || rtt < nearest) {
			to, name, nearest = m.ID, m.Name, rtt
		}
	}
	if to == 0 {
		return nil
	}
	s.opts.Log.Info("gives the lead of the control plane to a node that takes no writes", "member", name)
	return s.control.member.GiveLead(ctx, to)
}

// takesWrites are the nodes that lead a database which another node would take over.
func takesWrites(t *netconf.Topology) map[string]bool {
	nodes := make(map[string]bool)
	for _, p := range t.Live.Primaries {
		if n, ok := t.Node(p.Node); ok && p.Held && len(t.NodesIn(n.Region)) > 1 {
			nodes[p.Node] = true
		}
	}
	return nodes
}
