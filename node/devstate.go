package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"respmesh/netconf"
	"respmesh/proxy"
)

// describe starts the control plane and makes its state, the one kept with the data if there is one, what the flags say.
// Prefixes, addresses, and what was made by the API, survive a restart.
func (d *Dev) describe(ctx context.Context) (err error) {
	if d.control, err = embedControl(ctx, filepath.Join(d.data, "control"), !d.keep, d.opts.Log); err != nil {
		return err
	}
	_, err = d.control.registry.Update(ctx, "dev", d.draft)
	if errors.Is(err, netconf.ErrConflict) || errors.Is(err, netconf.ErrInvalid) {
		return Usagef("%s: %v", d.data, err)
	}
	return err
}

// draft writes the nodes and the database of the flags into a state.
func (d *Dev) draft(draft *netconf.Draft) error {
	o := d.opts
	draft.Nodes = slices.DeleteFunc(draft.Nodes, func(n netconf.Node) bool { return !slices.Contains(o.Regions, n.Region) })
	draft.Peers = slices.DeleteFunc(draft.Peers, func(p netconf.Peer) bool { return p.Org == o.Org && p.Name == hostName }) // of --tun: comes anew
	for _, n := range d.nodes {
		at := slices.IndexFunc(draft.Nodes, func(have netconf.Node) bool { return have.Name == n.opts.Name })
		if at >= 0 {
			draft.Nodes[at].Key = n.PublicKey().String()
			continue
		}
		if _, err := draft.AddNode(netconf.Node{Name: n.opts.Name, Region: n.opts.Region, Key: n.PublicKey().String()}); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(draft.Orgs, func(org netconf.Org) bool { return org.Name == o.Org }) {
		if _, err := draft.AddOrg(o.Org); err != nil {
			return err
		}
	}
	for _, db := range draft.Databases {
		if !slices.Contains(o.Regions, db.Primary) {
			return fmt.Errorf("%w: it holds database %s of org %s, whose primary is in %s: add that region to --regions, or use another --data", netconf.ErrConflict, db.Name, db.Org, db.Primary)
		}
	}
	replicas := slices.DeleteFunc(slices.Clone(o.Replicas), func(r string) bool { return r == o.Primary })
	if db, err := draft.Database(o.Org, o.Name); err == nil {
		if db.Primary != o.Primary {
			return fmt.Errorf("%w: the primary of %s is in %s and can't move: use --primary %s, or another --data or --name", netconf.ErrConflict, o.Name, db.Primary, db.Primary)
		}
		db.PasswordHash = proxy.HashPassword(o.Password)
		if o.Engine != (netconf.Engine{}) {
			if err := db.SetEngine(o.Engine); err != nil {
				return err
			}
		}
		return draft.SetReplicas(o.Org, o.Name, replicas)
	}
	engine := o.Engine
	if engine.Embedded() {
		engine = netconf.Engine{}
	}
	_, err := draft.AddDatabase(netconf.Database{
		Org: o.Org, Name: o.Name, Primary: o.Primary, Replicas: replicas, PasswordHash: proxy.HashPassword(o.Password), Engine: engine,
	})
	return err
}
