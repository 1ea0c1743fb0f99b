package api

import (
	"slices"

	"respmesh/netconf"
)

// failoverDatabase names the node that leads next. The nodes do the rest: who holds the lease hands it over, or the one that is
// named takes it.
func failoverDatabase(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	var in FailoverRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if c.s.opt.Fleet == nil {
		return nil, errNoFleet
	}
	target, ok := c.topo.Node(in.Node)
	switch {
	case in.Node == "":
		return nil, failf(CodeInvalid, "node is missing; respmesh redis status %s/%s shows the nodes", d.Org, d.Name)
	case !ok:
		return nil, failf(CodeNotFound, "there is no node %s; respmesh nodes list shows which there are", in.Node)
	case target.Region != d.Primary:
		return nil, failf(CodeInvalid, "node %s is in region %s; the primary stays in %s", in.Node, target.Region, d.Primary)
	case target.Draining:
		return nil, failf(CodeConflict, "node %s is drained; respmesh nodes undrain %s comes first", in.Node, in.Node)
	case !d.Engine.Embedded():
		return nil, failf(CodeConflict, "the data of %s are on a server: the nodes only pass writes on to it", d.Name)
	}
	record, known := c.topo.Live.Primaries[d.ID]
	if !known {
		return nil, failf(CodeConflict, "no node has led %s yet", d.Name)
	}
	nodes, err := c.s.opt.Fleet.DatabaseStatus(c.Context(), d.Org, d.Name)
	if err != nil {
		return nil, err
	}
	copies := slices.DeleteFunc(slices.Clone(nodes), func(n NodeDatabaseStatus) bool { return n.Role == RoleNone && n.State != StateAway })
	if err := mayFailOver(d, record, in, copies); err != nil {
		return nil, err
	}
	_, err = c.update(func(draft *netconf.Draft) error {
		db, err := draft.Database(d.Org, d.Name)
		if err != nil {
			return noDatabase(d.Org, d.Name)
		}
		db.Lead = netconf.Lead{Node: in.Node, Term: record.Term, Force: in.Force && !record.Held}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return Failover{Node: in.Node, From: record.Node, Term: record.Term, Force: in.Force && !record.Held, Copies: copies}, nil
}

// mayFailOver says why a node can't be made the primary, by what the copies say of themselves.
func mayFailOver(d netconf.Database, record netconf.Primary, in FailoverRequest, copies []NodeDatabaseStatus) error {
	at := slices.IndexFunc(copies, func(n NodeDatabaseStatus) bool { return n.Node == in.Node })
	if at < 0 || copies[at].State == StateAway {
		return failf(CodeUnavailable, "node %s doesn't answer", in.Node)
	}
	target := copies[at]
	full := target.Term == record.Term
	switch {
	case record.Held && record.Node == in.Node:
		return failf(CodeExists, "node %s is the primary of %s already", in.Node, d.Name)
	case record.Held && (!full || target.State != StateReady):
		return failf(CodeConflict, "node %s hasn't all that %s has: it can take over when respmesh redis status %s/%s shows it ready", in.Node, record.Node, d.Org, d.Name)
	case record.Held:
		return nil
	case !in.Force:
		return failf(CodeConflict, "no node leads %s, so none can hand it over: one that has all of term %d takes over by itself, and --force has %s take over with what it has",
			d.Name, record.Term, in.Node)
	case target.State == StateSyncing || target.State == StateBroken:
		return failf(CodeConflict, "the copy on node %s is only part of one; take another node", in.Node)
	}
	for _, other := range copies {
		if other.Node == in.Node || other.Region != d.Primary || other.State == StateAway || other.State == StateSyncing || other.State == StateBroken {
			continue
		}
		if other.Term > target.Term || other.Term == target.Term && other.Replid == target.Replid && other.Offset > target.Offset {
			return failf(CodeConflict, "node %s can be reached and has more: term %d, offset %d; %s is at term %d, offset %d. Name that one", other.Node, other.Term, other.Offset,
				in.Node, target.Term, target.Offset)
		}
	}
	return nil
}
