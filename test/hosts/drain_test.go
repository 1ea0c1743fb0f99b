package hosts

import (
	"testing"
	"time"
)

// TestDrainHandsOver drains the node that leads: the other one of the region takes its databases, under load and without an
// error. The only node of a region goes on with what nobody else can take.
func TestDrainHandsOver(t *testing.T) {
	m := newMesh(t, "ams")
	mad1 := m.join(t, "mad", "mad-1")
	mad2 := m.join(t, "mad", "mad-2")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas", "--min-replicas", "1")
	alone := m.create(t, "shop", "alone", "--region", "ams", "--no-replicas")
	for _, n := range []*Node{mad1, mad2} {
		m.dial(t, n, "shop", "cart", password).want(t, "OK", "SET", "k", "v")
		m.awaitUse(t, n, n)
	}
	load := m.StartLoad(t.Context(), "shop", "cart", password, m.Nodes[0])
	load.wrote(t, 20)
	for range 2 {
		for _, n := range []*Node{mad1, mad2} {
			m.cli(t, "nodes", "drain", n.Name)
			load.wrote(t, 50)
			m.cli(t, "nodes", "undrain", n.Name)
			m.awaitUse(t, n, n)
		}
	}
	clean(t, load.Stop())
	m.cli(t, "nodes", "drain", "ams-1")
	c := m.dial(t, mad1, "shop", "alone", alone)
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		c.want(t, "OK", "SET", "k", "2")
	}
}
