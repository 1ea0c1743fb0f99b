package hosts

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestChangesWithoutDowntime changes all that can be changed of a database while clients write and read at every node.
// No command may fail, no connection be lost, no read be older than the client's own write.
func TestChangesWithoutDowntime(t *testing.T) {
	m := newMesh(t, "mad")
	ams, nrt := m.join(t, "ams", "ams-1"), m.join(t, "nrt", "nrt-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	c := m.dial(t, m.Nodes[0], "shop", "cart", password)
	for i := range 200 { // some megabytes, so that a first sync takes a moment
		c.want(t, "OK", "SET", fmt.Sprint("big:", i), string(make([]byte, 100<<10)))
	}
	load := m.StartLoad(t.Context(), "shop", "cart", password, m.Nodes...)
	load.wrote(t, 20)
	for _, step := range [][]string{
		{"--replica-regions", "ams,nrt"}, // a region comes
		{"--replica-regions", "nrt"},     // one goes
		{"--enable-eviction"},
		{"--plan", "1gb"},
		{"--replica-regions", "ams,nrt", "--disable-eviction"},
	} {
		m.cli(t, append([]string{"redis", "update", "cart"}, step...)...)
		load.wrote(t, 20)
	}
	m.awaitUse(t, nrt, nrt)
	m.awaitUse(t, ams, ams)
	for _, n := range m.Nodes {
		m.cli(t, "nodes", "rotate-key", n.Name)
		load.wrote(t, 20)
	}
	clean(t, load.Stop())
}

// awaitUse waits until reads of one node go to another.
func (m *Mesh) awaitUse(t *testing.T, at, from *Node) {
	t.Helper()
	eventually(t, slower(10*time.Second), func() error { return m.readsFrom(t, at, from.Name) })
}

// TestRollingRestart starts all nodes again, one by one, while clients write and read at every node: a client may have to
// reconnect to its own node, and sees nothing else.
func TestRollingRestart(t *testing.T) {
	m := newMesh(t, "mad")
	mad2 := m.join(t, "mad", "mad-2")
	ams := m.join(t, "ams", "ams-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	for _, n := range m.Nodes {
		m.dial(t, n, "shop", "cart", password).want(t, "OK", "SET", "k", "v")
		m.awaitUse(t, n, n)
	}
	load := m.StartLoad(t.Context(), "shop", "cart", password, m.Nodes...)
	load.wrote(t, 20)
	for _, n := range []*Node{m.Nodes[0], mad2} { // each leads, then the other
		m.cli(t, "nodes", "drain", n.Name)
		eventually(t, slower(10*time.Second), func() error { return m.leads(t, n, false) })
		load.wrote(t, 20)
		m.cli(t, "nodes", "undrain", n.Name)
	}
	for _, n := range []*Node{ams, mad2, m.Nodes[0]} {
		began := time.Now()
		if err := n.Stop(slower(15 * time.Second)); err != nil {
			t.Fatal(err)
		}
		stopped := time.Since(began)
		if err := m.Start(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s was stopped in %v and is ready after %v", n.Name, stopped, time.Since(began))
		load.wrote(t, 20)
		m.awaitUse(t, n, n)
	}
	clean(t, load.Stop(), "mad-1", "mad-2", "ams-1")
}

// leads asks whether a node takes the writes.
func (m *Mesh) leads(t *testing.T, n *Node, want bool) error {
	var s struct {
		Primary struct {
			Node string
			Held bool
		}
	}
	out := m.cli(t, "redis", "status", "cart", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return err
	}
	if leads := s.Primary.Held && s.Primary.Node == n.Name; leads != want {
		return fmt.Errorf("%s leads: %v; status: %+v", n.Name, leads, s)
	}
	return nil
}

// TestFailover kills the primary's node under load: another node of the region takes over in time, nothing acknowledged is
// lost, and the old one comes back as a replica.
func TestFailover(t *testing.T) {
	m := newMesh(t, "ams") // carries the control plane, and isn't touched
	mad1, mad2 := m.join(t, "mad", "mad-1"), m.join(t, "mad", "mad-2")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams", "--min-replicas", "1")
	for _, n := range m.Nodes {
		m.dial(t, n, "shop", "cart", password).want(t, "OK", "SET", "k", "v")
		m.awaitUse(t, n, n)
	}
	primary, other := mad1, mad2
	for round := range 3 {
		if m.leads(t, primary, true) != nil {
			primary, other = other, primary
		}
		load := m.StartLoad(t.Context(), "shop", "cart", password, m.Nodes[0])
		load.wrote(t, 20)
		primary.Kill()
		began := time.Now()
		c := m.dial(t, m.Nodes[0], "shop", "cart", password)
		eventually(t, slower(10*time.Second), func() error {
			_, err := c.Do("SET", "round", fmt.Sprint(round))
			return err
		})
		took := time.Since(began)
		t.Logf("writes go on %v after the kill", took)
		if took > slower(5*time.Second) {
			t.Errorf("the other node took over after %v", took)
		}
		load.wrote(t, 5)
		r := load.Stop()
		t.Logf("errors in between: %q", r.Errors)
		// What was acknowledged last is there.
		got, err := c.Do("GET", "load:ams-1")
		if err != nil {
			t.Fatal(err)
		}
		if got < fmt.Sprint(r.Writes["ams-1"]) && len(got) <= len(fmt.Sprint(r.Writes["ams-1"])) {
			t.Errorf("write %d was acknowledged; the new primary has %s", r.Writes["ams-1"], got)
		}
		if err := m.Start(t.Context(), primary); err != nil {
			t.Fatal(err)
		}
		m.awaitUse(t, primary, primary)
		m.dial(t, primary, "shop", "cart", password).want(t, fmt.Sprint(round), "GET", "round")
		primary, other = other, primary
	}
}
