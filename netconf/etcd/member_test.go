package etcd

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"respmesh/netconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	start := time.Now()
	dir := t.TempDir()
	m, err := StartMember(ctx, MemberOptions{Dir: dir, Temporary: true, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("member", time.Since(start))
	c, err := m.Client(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(ctx, Options{Client: c, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("open", time.Since(start))
	if err := r.Init(ctx, "init"); err != nil {
		t.Fatal(err)
	}
	t.Log("init", time.Since(start))
	rev, err := r.Update(ctx, "me", func(d *netconf.Draft) error { _, err := d.AddOrg("acme"); return err })
	t.Log("update", time.Since(start), rev, err)
	s, err := r.NewSession(ctx, "mad-1", netconf.NodeLive{})
	t.Log("session", time.Since(start), err, time.Until(s.Deadline()))
	t.Log(r.Audit(ctx, 0, 0))
	a := time.Now()
	r.Close()
	c.Close()
	m.Close()
	t.Log("close", time.Since(a))
	a = time.Now()
	m, err = StartMember(ctx, MemberOptions{Dir: dir, Temporary: true, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("member again", time.Since(a))
	m.Close()
}
