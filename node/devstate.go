package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"respmesh/netconf"
	"respmesh/proxy"
)

// describe makes the topology: the one kept with the data if there is one, changed to what the flags say, so that
// prefixes, addresses and databases survive a restart.
func (d *Dev) describe() error {
	path := filepath.Join(d.data, "topology.json")
	topology, err := loadTopology(path)
	if err != nil {
		return err
	}
	if topology != nil {
		d.registry = netconf.RegistryOf(topology)
	} else {
		d.registry = netconf.NewRegistry()
	}
	if err := d.registry.Update(d.draft); err != nil {
		return Usagef("%s: %v", path, err)
	}
	if !d.keep {
		return nil
	}
	topology, _ = d.registry.Current()
	return saveTopology(path, topology)
}

// draft writes the nodes and the database of the flags into a topology.
func (d *Dev) draft(draft *netconf.Draft) error {
	o := d.opts
	draft.Nodes = slices.DeleteFunc(draft.Nodes, func(n netconf.Node) bool { return !slices.Contains(o.Regions, n.Region) })
	draft.Peers = nil // peers of --tun come anew with each run
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
		if db.Org != o.Org || db.Name != o.Name {
			return fmt.Errorf("holds database %s of org %s: use --org %s --name %s, or another --data", db.Name, db.Org, db.Org, db.Name)
		}
	}
	replicas := slices.DeleteFunc(slices.Clone(o.Replicas), func(r string) bool { return r == o.Primary })
	if db, err := draft.Database(o.Org, o.Name); err == nil {
		if db.Primary != o.Primary {
			return fmt.Errorf("the primary of %s is in %s and can't move: use --primary %s, or another --data or --name", o.Name, db.Primary, db.Primary)
		}
		db.PasswordHash = proxy.HashPassword(o.Password)
		return draft.SetReplicas(o.Org, o.Name, replicas)
	}
	_, err := draft.AddDatabase(netconf.Database{
		Org: o.Org, Name: o.Name, Primary: o.Primary, Replicas: replicas, PasswordHash: proxy.HashPassword(o.Password),
	})
	return err
}

func loadTopology(path string) (*netconf.Topology, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var kept struct {
		Revision uint64
		State    netconf.State
	}
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	topology, err := netconf.NewTopology(kept.Revision, kept.State)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return topology, nil
}

// saveTopology replaces the file at once, so that a crash leaves the old or the new one.
func saveTopology(path string, t *netconf.Topology) error {
	raw, err := json.MarshalIndent(struct {
		Revision uint64
		State    netconf.State
	}{t.Revision, t.State}, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
