package hosts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLifeOfADatabase goes from three hosts to a database, through its changes, to its end, by the command line alone.
func TestLifeOfADatabase(t *testing.T) {
	m := newMesh(t, "mad")
	ams, nrt := m.join(t, "ams", "ams-1"), m.join(t, "nrt", "nrt-1")
	m.cli(t, "orgs", "create", "shop")
	began := time.Now()
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	if took := time.Since(began); took > slower(2*time.Second) {
		t.Errorf("creating took %v", took)
	}
	anybody := m.dial(t, nrt, "shop", "cart", "")
	anybody.want(t, "NOAUTH Authentication required.", "GET", "k")
	c := m.dial(t, nrt, "shop", "cart", password)
	c.want(t, "OK", "SET", "k", "v")
	c.want(t, "v", "GET", "k")
	m.dial(t, ams, "shop", "cart", password).want(t, "v", "GET", "k")

	if out := m.cli(t, "redis", "list"); !strings.Contains(out, "PRIMARY REGION") || !strings.Contains(out, "cart") {
		t.Errorf("redis list prints\n%s", out)
	}
	m.cli(t, "redis", "update", "cart", "--replica-regions", "nrt")
	eventually(t, slower(10*time.Second), func() error { return m.readsFrom(t, nrt, "nrt-1") })
	c.want(t, "v", "GET", "k") // the session is still the first one
	m.cli(t, "redis", "update", "cart", "--enable-eviction")
	eventually(t, slower(5*time.Second), func() error {
		if got, err := c.Do("INFO", "memory"); err != nil || !strings.Contains(got, "maxmemory_policy:") || strings.Contains(got, "maxmemory_policy:noeviction") {
			return fmt.Errorf("INFO says %q, %v", got, err)
		}
		return nil
	})

	out := m.cli(t, "redis", "reset", "cart", "--json")
	var reset struct{ Password string }
	if err := json.Unmarshal([]byte(out), &reset); err != nil || reset.Password == "" || reset.Password == password {
		t.Fatalf("redis reset prints %q, %v", out, err)
	}
	eventually(t, slower(5*time.Second), func() error {
		old, err := m.Dial(t.Context(), nrt, "shop", "cart", password)
		if err == nil {
			old.Close()
			return fmt.Errorf("the old password still works")
		}
		return nil
	})
	m.dial(t, nrt, "shop", "cart", reset.Password).want(t, "v", "GET", "k")

	for _, n := range m.Nodes {
		if n.Region == "mad" && len(m.dataOf(t, n)) == 0 {
			t.Errorf("%s keeps no data", n.Name)
		}
	}
	m.cli(t, "redis", "destroy", "cart", "--yes")
	for _, n := range m.Nodes {
		eventually(t, slower(5*time.Second), func() error {
			if left := m.dataOf(t, n); len(left) > 0 {
				return fmt.Errorf("%s still has %v", n.Name, left)
			}
			return nil
		})
	}
	m.cli(t, "orgs", "destroy", "shop", "--yes")
}

// readsFrom asks which node reads go to.
func (m *Mesh) readsFrom(t *testing.T, n *Node, want string) error {
	out, err := m.CLIAt(t.Context(), n, "explain", "--json", "cart", "GET", "k")
	if err != nil {
		return err
	}
	var x struct{ Node string }
	if err := json.Unmarshal([]byte(out), &x); err != nil || x.Node != want {
		return fmt.Errorf("reads go to %s (%v): %s", x.Node, err, out)
	}
	return nil
}

// dataOf lists the files of databases on a node.
func (m *Mesh) dataOf(t *testing.T, n *Node) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.Data, "databases", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(files, func(f string) bool { _, err := os.Stat(f); return err != nil })
}

// TestDestroyedWhileAway: a node that was away when a database was destroyed removes its data when it comes back.
func TestDestroyedWhileAway(t *testing.T) {
	m := newMesh(t, "ams")
	mad := m.join(t, "mad", "mad-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	m.dial(t, m.Nodes[0], "shop", "cart", password).want(t, "OK", "SET", "k", "v")
	mad.Kill()
	m.cli(t, "redis", "destroy", "cart", "--yes")
	if err := m.Start(t.Context(), mad); err != nil {
		t.Fatal(err)
	}
	eventually(t, slower(10*time.Second), func() error {
		if left := m.dataOf(t, mad); len(left) > 0 {
			return fmt.Errorf("it still has %v", left)
		}
		return nil
	})
}

// TestStartedWhileCutOff: a replica that is started while its primary is away reads what it has.
func TestStartedWhileCutOff(t *testing.T) {
	m := newMesh(t, "ams")
	mad := m.join(t, "mad", "mad-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	ams := m.Nodes[0]
	c := m.dial(t, ams, "shop", "cart", password)
	c.want(t, "OK", "SET", "k", "v")
	c.want(t, "v", "GET", "k")
	c.want(t, "1", "WAIT", "1", "10000") // it is here, and in the file: a kill takes what a copy has only in its memory
	mad.Kill()
	ams.Kill()
	if err := m.Start(t.Context(), ams); err != nil {
		t.Fatal(err)
	}
	eventually(t, slower(20*time.Second), func() error {
		c, err := m.Dial(t.Context(), ams, "shop", "cart", password)
		if err != nil {
			return err
		}
		defer c.Close()
		if got, err := c.Do("GET", "k"); err != nil || got != "v" {
			return fmt.Errorf("GET: %q, %v", got, err)
		}
		return nil
	})
	if err := m.Start(t.Context(), mad); err != nil {
		t.Fatal(err)
	}
	eventually(t, slower(20*time.Second), func() error {
		c, err := m.Dial(t.Context(), ams, "shop", "cart", password)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Do("SET", "k", "w")
		return err
	})
}

// TestControlAway: without the control plane nodes go on, also when they are started again.
func TestControlAway(t *testing.T) {
	m := newMesh(t, "nrt")
	mad, ams := m.join(t, "mad", "mad-1"), m.join(t, "ams", "ams-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	c := m.dial(t, ams, "shop", "cart", password)
	c.want(t, "OK", "SET", "k", "1")
	m.Nodes[0].Kill()
	// Longer than a lease: the only node of the primary's region goes on.
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		c.want(t, "OK", "SET", "k", "2")
		c.want(t, "2", "GET", "k")
	}
	for _, n := range []*Node{ams, mad} {
		if err := n.Stop(slower(15 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, slower(20*time.Second), func() error {
		c, err := m.Dial(t.Context(), ams, "shop", "cart", password)
		if err != nil {
			return err
		}
		defer c.Close()
		if got, err := c.Do("GET", "k"); err != nil || got != "2" {
			return fmt.Errorf("GET: %q, %v", got, err)
		}
		_, err = c.Do("SET", "k", "3")
		return err
	})
	if err := m.Start(t.Context(), m.Nodes[0]); err != nil {
		t.Fatal(err)
	}
	m.cli(t, "redis", "update", "cart", "--replica-regions", "ams,nrt")
	eventually(t, slower(20*time.Second), func() error { return m.readsFrom(t, m.Nodes[0], "nrt-1") })
}
