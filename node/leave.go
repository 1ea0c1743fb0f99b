package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"respmesh/netconf"
)

// HandOver gives what this node leads to other nodes of its region, where there are any that have all of it.
func (n *Node) HandOver(ctx context.Context) {
	n.leaving.Store(true)
	n.handOver(ctx)
}

func (n *Node) handOver(ctx context.Context) {
	_ = each(n.all(), func(db *database) error {
		db.handOver(ctx)
		return nil
	})
}

// givesWay tells whether other nodes are to lead what this one could: it is ending, or it is drained and there is another one
// in the region.
func (n *Node) givesWay(t *netconf.Topology) bool {
	if n.leaving.Load() {
		return true
	}
	if self, _ := t.Node(n.opts.Name); !self.Draining {
		return false
	}
	for _, other := range t.NodesIn(n.opts.Region) {
		if _, alive := t.Live.Nodes[other.Name]; alive && other.Name != n.opts.Name && !other.Draining {
			return true
		}
	}
	return false
}

// followDraining hands over what this node leads whenever it gives way to others. What nobody can take yet it tries again.
func (n *Node) followDraining(ctx context.Context) {
	gave := false
	for {
		t, changed := n.source.Current()
		gives := n.givesWay(t)
		var again <-chan time.Time
		if gives && ctx.Err() == nil && slices.ContainsFunc(n.all(), func(db *database) bool { return db.copy() != nil && db.copy().leads() }) {
			if !gave {
				n.log.Info("drained: hands over what it leads")
			}
			n.handOver(ctx)
			again = time.After(retryRole)
		}
		if !gives && n.session != nil {
			n.handOverNamed(ctx, t)
			n.handOverImpaired(ctx)
			again = time.After(retryRole)
		}
		gave = gives
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// handOverImpaired hands over what this node leads and can't keep on its disk, where another node can.
func (n *Node) handOverImpaired(ctx context.Context) {
	for _, db := range n.all() {
		s := db.copy()
		if s == nil || !s.leads() || s.diskErr() == nil || !s.hasCandidate() {
			continue
		}
		n.log.Warn("hands over the lead: the disk doesn't take what is written", "database", db.conf.Org+"/"+db.conf.Name, "err", s.diskErr())
		db.handOver(ctx)
	}
}

// handOverNamed hands over what an operator wants another node to lead.
func (n *Node) handOverNamed(ctx context.Context, t *netconf.Topology) {
	for _, db := range n.all() {
		conf, ok := t.DatabaseByID(db.conf.ID)
		record := t.Live.Primaries[db.conf.ID]
		if !ok || conf.Lead.Node == "" || conf.Lead.Node == n.opts.Name || conf.Lead.Term != record.Term || !record.Held || record.Node != n.opts.Name {
			continue
		}
		if _, alive := t.Live.Nodes[conf.Lead.Node]; !alive {
			continue
		}
		n.log.Info("hands over the lead by an operator's word", "database", conf.Org+"/"+conf.Name, "to", conf.Lead.Node)
		db.handOver(ctx)
	}
}

// Healthy is nil when the node serves all databases of the topology, and what it holds of them can be read.
func (n *Node) Healthy() error {
	if n.leaving.Load() {
		return errors.New("the node is ending")
	}
	topology, _ := n.source.Current()
	for _, conf := range topology.Databases {
		db := n.database(conf.Org, conf.Name)
		if db == nil {
			return fmt.Errorf("database %s/%s isn't served", conf.Org, conf.Name)
		}
		if err := db.usable(); err != nil {
			return fmt.Errorf("database %s/%s: %w", conf.Org, conf.Name, err)
		}
	}
	return nil
}
