package hosts

import (
	"errors"
	"testing"
	"time"
)

// TestForcedFailover loses the only node that has everything. The other one has nothing that an operator didn't ask it for:
// without --force nothing leads, with it writes go on with what is left.
func TestForcedFailover(t *testing.T) {
	m := newMesh(t, "ams") // carries the control plane
	m.join(t, "mad", "mad-1")
	m.join(t, "mad", "mad-2")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	leader := m.leader(t)
	for _, n := range m.Nodes[1:] {
		m.awaitUse(t, n, n)
	}
	other := m.Nodes[1]
	if other == leader {
		other = m.Nodes[2]
	}
	c := m.dial(t, leader, "shop", "cart", password)
	c.want(t, "OK", "SET", "k", "old")
	c.want(t, "1", "WAIT", "1", "10000") // the other one has it
	other.Kill()
	leader.Kill() // so that it begins another term, which the other one doesn't know
	if err := m.Start(t.Context(), leader); err != nil {
		t.Fatal(err)
	}
	eventually(t, slower(20*time.Second), func() error { return m.leads(t, leader, true) })
	m.dial(t, leader, "shop", "cart", password).want(t, "OK", "SET", "k", "new")
	leader.Kill() // for good
	if err := m.Start(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	c = m.dial(t, other, "shop", "cart", password)
	eventually(t, slower(20*time.Second), func() error { // once it is sure that nobody has more
		reply, err := c.Do("GET", "k")
		if err == nil && reply != "old" {
			err = errors.New(reply)
		}
		return err
	})
	if out, err := m.CLI(t.Context(), "redis", "failover", "cart", "--to", other.Name, "--yes"); err == nil {
		t.Errorf("it takes the lead without having everything: %s", out)
	} else {
		t.Logf("without --force: %v", err)
	}
	if err := m.leads(t, other, false); err != nil {
		t.Error(err)
	}
	t.Log(m.cli(t, "redis", "failover", "cart", "--to", other.Name, "--force", "--yes"))
	eventually(t, slower(20*time.Second), func() error {
		reply, err := c.Do("SET", "k", "newer")
		if err == nil && reply != "OK" {
			err = errors.New(reply)
		}
		return err
	})
	if err := m.leads(t, other, true); err != nil {
		t.Error(err)
	}
	c.want(t, "newer", "GET", "k")
}
