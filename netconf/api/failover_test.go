package api

import (
	"testing"

	"respmesh/netconf"
)

// led says who leads the org's database, or did.
func (m *mesh) led(t *testing.T, org string, p netconf.Primary) {
	t.Helper()
	topo, _ := m.control.Current()
	d, ok := topo.Database(org, "demo")
	if !ok {
		t.Fatal("no database")
	}
	live := topo.Live
	live.Primaries = map[string]netconf.Primary{d.ID: p}
	m.control.Registry = netconf.RegistryOf(topo.WithLive(live))
}

func TestFailover(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	for _, n := range []string{"mad-2", "mad-3"} {
		err := m.control.Registry.Update(func(d *netconf.Draft) error {
			_, err := d.AddNode(netconf.Node{Name: n, Region: "mad", Key: wgKey(n), Endpoint: "192.0.2.1:51820"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	nodes := []NodeDatabaseStatus{
		{Node: "mad-1", Region: "mad", Role: RolePrimary, State: StateReady, Term: 5, Replid: "a", Offset: 300},
		{Node: "mad-2", Region: "mad", Role: RoleReplica, State: StateReady, Term: 5, Replid: "a", Offset: 300},
		{Node: "mad-3", Region: "mad", Role: RoleReplica, State: StateStale, Term: 4, Replid: "b", Offset: 200},
		{Node: "nrt-1", Region: "nrt", Role: RoleNone, State: StateReady},
	}
	m.fleet.status = func(string, string) ([]NodeDatabaseStatus, error) { return nodes, nil }
	c := m.client(TrustToken, "org")
	over := func(node string, force bool) (Failover, error) {
		return c.Failover(ctx, "acme", "demo", FailoverRequest{Node: node, Force: force})
	}
	_, err := over("mad-2", false)
	want(t, err, CodeConflict, "no node has led demo yet")
	m.led(t, "acme", netconf.Primary{Node: "mad-1", Term: 5, Held: true})
	for _, bad := range []struct {
		node  string
		force bool
		code  Code
		text  string
	}{
		{"", false, CodeInvalid, "node is missing"},
		{"lhr-1", false, CodeNotFound, "there is no node lhr-1"},
		{"nrt-1", true, CodeInvalid, "node nrt-1 is in region nrt; the primary stays in mad"},
		{"mad-1", true, CodeExists, "node mad-1 is the primary of demo already"},
		{"mad-3", true, CodeConflict, "node mad-3 hasn't all that mad-1 has"},
	} {
		_, err := over(bad.node, bad.force)
		want(t, err, bad.code, bad.text)
	}
	if f, err := over("mad-2", true); err != nil || f.From != "mad-1" || f.Force || len(f.Copies) != 3 { // nothing needs force
		t.Errorf("%+v, %v", f, err)
	}
	lead := func() netconf.Lead {
		topo, _ := m.control.Current()
		d, _ := topo.Database("acme", "demo")
		return d.Lead
	}
	if got := lead(); got != (netconf.Lead{Node: "mad-2", Term: 5}) {
		t.Errorf("%+v", got)
	}

	// The primary is gone; another copy has all.
	m.led(t, "acme", netconf.Primary{Node: "mad-1", Term: 5})
	nodes[0].State, nodes[0].Role = StateAway, RoleNone
	_, err = over("mad-3", false)
	want(t, err, CodeConflict, "no node leads demo")
	_, err = over("mad-3", true)
	want(t, err, CodeConflict, "node mad-2 can be reached and has more: term 5, offset 300; mad-3 is at term 4, offset 200")

	nodes[1].State, nodes[1].Role = StateAway, RoleNone
	_, err = over("mad-2", true)
	want(t, err, CodeUnavailable, "node mad-2 doesn't answer")
	if f, err := over("mad-3", true); err != nil || !f.Force || f.Term != 5 {
		t.Errorf("%+v, %v", f, err)
	}
	if got := lead(); got != (netconf.Lead{Node: "mad-3", Term: 5, Force: true}) {
		t.Errorf("%+v", got)
	}
	nodes[2].State = StateSyncing
	_, err = over("mad-3", true)
	want(t, err, CodeConflict, "the copy on node mad-3 is only part of one")
}
