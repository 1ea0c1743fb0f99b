package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"respmesh/netconf"
	"respmesh/resp/frame"
)

// talker is one session that stays open.
type talker struct {
	t    *testing.T
	conn net.Conn
	r    *frame.Reader
}

func talk(t *testing.T, d *Dev, region int) *talker {
	conn, err := net.Dial("tcp", d.addrs[region])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &talker{t, conn, frame.NewReader(conn)}
}

func (c *talker) do(args ...string) string {
	c.t.Helper()
	if err := c.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		c.t.Fatal(err)
	}
	var reply frame.Reply
	if err := c.r.ReadReply(&reply); err != nil {
		c.t.Fatalf("%v: %v", args, err)
	}
	return string(reply.Text())
}

// Regions come and go, limits and the password change, and the sessions that are open notice nothing but that.
func TestDatabaseChangesUnderItsSessions(t *testing.T) {
	o := options(t)
	o.Replicas, o.ReplicasSet = nil, true
	d := startDev(t, o)
	change := func(f func(*netconf.Database)) {
		t.Helper()
		_, err := d.control.registry.Update(t.Context(), "test", func(draft *netconf.Draft) error {
			db, err := draft.Database(o.Org, o.Name)
			if err == nil {
				f(db)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	nrt := d.nodes[2]
	db := nrt.database(o.Org, o.Name)
	c := talk(t, d, 2)
	for round := range 3 {
		v := fmt.Sprint(round)
		if got := c.do("SET", "k", v); got != "OK" {
			t.Fatal(got)
		}
		change(func(db *netconf.Database) { db.Replicas = []string{"ams", "nrt"} })
		for db.gateway.Status().ReadsFrom != nrt.opts.Name {
			if got := c.do("GET", "k"); got != v {
				t.Fatalf("while the copy comes: %q", got)
			}
		}
		if got := c.do("GET", "k"); got != v {
			t.Fatalf("from the copy: %q", got)
		}
		v += "+"
		c.do("SET", "k", v)
		change(func(db *netconf.Database) { db.Replicas = nil })
		for db.copy() != nil {
			if got := c.do("GET", "k"); got != v {
				t.Fatalf("while the copy goes: %q", got)
			}
		}
		if got := c.do("GET", "k"); got != v {
			t.Fatalf("without the copy: %q", got)
		}
	}

	change(func(db *netconf.Database) { db.MaxMemory = 1 })
	mad := d.nodes[0].database(o.Org, o.Name)
	eventually(t, "the limit holds", func() bool { return strings.HasPrefix(c.do("SET", "k", "x"), "OOM") })
	change(func(db *netconf.Database) { db.MaxMemory = 0 })
	eventually(t, "the limit is gone", func() bool { return c.do("SET", "k", "x") == "OK" })
	change(func(db *netconf.Database) { db.MinReplicas = 1; db.Replicas = []string{"ams"} })
	eventually(t, "a replica is there", func() bool { return mad.copy().quorum.Load().replicas == 1 && c.do("SET", "k", "y") == "OK" })
	if got := do(t, d, 1, "GET", "k"); got != "y" {
		t.Errorf("%q", got)
	}

	_, err := d.control.registry.Update(t.Context(), "test", func(draft *netconf.Draft) error { return draft.RemoveDatabase(o.Org, o.Name) })
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(o.Data, "mad", mad.conf.ID)
	eventually(t, "its data are removed", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) })
}
