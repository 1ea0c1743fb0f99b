package netconf

import "testing"

func TestModified(t *testing.T) {
	top, _ := NewRegistry().Current()
	change := func(f func(*Draft) error) {
		t.Helper()
		next, err := top.Change(f)
		if err != nil {
			t.Fatal(err)
		}
		top = next
	}
	change(func(d *Draft) error {
		if _, err := d.AddOrg("acme"); err != nil {
			return err
		}
		for _, region := range []string{"mad", "nrt", "ams"} {
			if _, err := d.AddNode(Node{Name: region + "-1", Region: region, Key: key(region)}); err != nil {
				return err
			}
		}
		_, err := d.AddDatabase(Database{Org: "acme", Name: "a", Primary: "mad", Replicas: []string{"nrt", "ams"}})
		return err
	})
	change(func(d *Draft) error {
		_, err := d.AddDatabase(Database{Org: "acme", Name: "b", Primary: "mad"})
		return err
	})
	change(func(d *Draft) error {
		db, err := d.Database("acme", "a")
		if err == nil {
			db.Replicas = []string{"ams", "nrt"} // as it was
			db.Modified = 77                     // not for callers
			for i := range d.Nodes {
				d.Nodes[i].Draining = d.Nodes[i].Name == "mad-1"
			}
		}
		return err
	})
	a, _ := top.Database("acme", "a")
	b, _ := top.Database("acme", "b")
	org, _ := top.Org("acme")
	node, _ := top.Node("mad-1")
	for what, got := range map[string][2]uint64{"a": {a.Modified, 2}, "b": {b.Modified, 3}, "org": {org.Modified, 3}, "node": {node.Modified, 4}} {
		if got[0] != got[1] {
			t.Errorf("%s is of revision %d, want %d", what, got[0], got[1])
		}
	}
	before := top
	change(func(d *Draft) error {
		d.Databases[0].Modified = 5
		return nil
	})
	if top != before {
		t.Error("a revision was set by hand")
	}
}
