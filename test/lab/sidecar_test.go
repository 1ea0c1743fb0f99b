package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sideSessions is how many sessions the sidecar carries when its node dies.
const sideSessions = 100

// TestSidecar: on a host without WireGuard an unprivileged process brings the database to the app's loopback. Its node dies, then the
// region; it comes back; and it is revoked.
func TestSidecar(t *testing.T) {
	w := world(t)
	w.settle(t)
	t.Parallel()
	ctx := t.Context()
	h := w.lab.Host("side-app")
	token, err := w.lab.OrgToken(ctx, "shop", "side.token")
	if err != nil {
		t.Fatal(err)
	}
	const settle = 3 * time.Second
	s, err := h.Sidecar(ctx, token, "--database", "shop/cart", "--name", "side", "--settle", settle.String(), "--dns", "127.0.0.1:5300")
	if s != nil {
		defer func() {
			if err := s.Stop(); err != nil && !t.Failed() && !strings.Contains(s.Log(), "the peer was removed") {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("log of the sidecar:\n%s", s.Log())
			}
		}()
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Uid": "65534 65534 65534 65534", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1"} {
		if got, err := s.proc(name); err != nil || got != want {
			t.Errorf("the sidecar's %s is %s, %v", name, got, err)
		}
	}
	eventually(t, 10*time.Second, func() error { return s.uses("ams-") })
	for _, host := range []string{"127.0.0.1", "::1"} {
		if out, err := h.Redis(ctx, host, w.Cart, "SET", "side", host); err != nil || out != "OK" {
			t.Errorf("redis-cli -h %s: %q, %v", host, out, err)
		}
	}
	if out, err := w.ShopApp.Redis(ctx, w.Cart.Host(), w.Cart, "GET", "side"); err != nil || out != "::1" {
		t.Errorf("the other app reads %q, %v", out, err)
	}
	if out := mustRun(t, h, "dig", "+short", "@127.0.0.1", "-p", "5300", "AAAA", w.Cart.Host()); out != "::1" {
		t.Errorf("its resolver says %q", out)
	}
	if out := mustRun(t, h, "dig", "@127.0.0.1", "-p", "5300", "AAAA", w.Posts.Host()); !strings.Contains(out, "NXDOMAIN") {
		t.Errorf("of another org its resolver says\n%s", out)
	}
	if out := mustRun(t, h, "respmesh", "sidecar", "health"); !strings.Contains(out, "ok") {
		t.Errorf("sidecar health: %q", out)
	}
	if code, body, err := s.get("/healthz"); err != nil || code != http.StatusOK {
		t.Errorf("/healthz: %d %s %v", code, body, err)
	}

	var all []*Session
	for i := range sideSessions {
		x := s.session(t, w.Cart)
		x.want(t, "OK", "SET", fmt.Sprint("side:", i), strings.Repeat("x", 1000))
		all = append(all, x)
	}
	for range 10 {
		for i, x := range all {
			x.want(t, strings.Repeat("x", 1000), "GET", fmt.Sprint("side:", i))
		}
	}
	resident, own, err := s.Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("with %d sessions %.1f MiB are resident, %.1f of them its own", sideSessions, float64(resident)/(1<<20), float64(own)/(1<<20))
	if resident >= 40<<20 {
		t.Errorf("with %d sessions %d KiB are resident", sideSessions, resident>>10)
	}

	// The node in use dies: to the other one of the region, then the region's last: to another region.
	var dead []*Node
	for _, next := range []string{"ams-", "mad-"} {
		node := w.lab.Node(s.used())
		dead = append(dead, node)
		node.Kill()
		killed := time.Now()
		moved := make(chan time.Duration, 1)
		go func() {
			_ = Eventually(ctx, time.Minute, func() error { return s.answers(ctx, w.Cart) })
			moved <- time.Since(killed)
		}()
		slowest := reset(t, all, killed)
		took := <-moved
		t.Logf("%s was killed: its %d sessions ended within %v, new ones were served after %v, by %s", node.Name, len(all), slowest, took, s.used())
		if slowest > 3*time.Second || took > 3*time.Second {
			t.Errorf("%s was killed: its sessions ended within %v, new ones were served after %v", node.Name, slowest, took)
		}
		eventually(t, 5*time.Second, func() error { return s.uses(next) })
		all = []*Session{s.session(t, w.Cart), s.session(t, w.Cart)}
	}

	// Back, but not at once, and without ending a session.
	for _, n := range dead {
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	back := time.Now()
	if err := s.uses("mad-"); err != nil {
		t.Errorf("it came back before the node had been well for %v: %v", settle, err)
	}
	eventually(t, 30*time.Second, func() error { return s.uses("ams-") })
	t.Logf("it used the region again %v after its nodes were ready", time.Since(back))
	for _, x := range all {
		x.want(t, "PONG", "PING")
	}
	if code, body, err := s.get("/metrics"); err != nil || code != http.StatusOK || !strings.Contains(body, "\nrespmesh_sidecar_sessions_lost_total 102\n") {
		t.Errorf("/metrics: %d %v, sessions lost: want 102\n%s", code, err, body)
	}

	w.cli(t, "wireguard", "remove", "shop", "side")
	removed := time.Now()
	slowest := reset(t, all, removed)
	t.Logf("after its peer was removed its sessions ended within %v", slowest)
	if slowest > time.Second {
		t.Errorf("after its peer was removed its sessions ended within %v", slowest)
	}
	w.settle(t)
}

// reset waits until all sessions have ended with a reset, a part of them while they wait for an answer, and says how long after
// a moment the last one did.
func reset(t *testing.T, all []*Session, since time.Time) time.Duration {
	t.Helper()
	var wg sync.WaitGroup
	took := make([]time.Duration, len(all))
	for i, x := range all {
		wg.Go(func() {
			command := []string{"BLPOP", "nothing", "0"}
			if i%2 == 0 {
				command = nil // idle
			}
			err := x.ends(command...)
			took[i] = time.Since(since)
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("a session ended with %v, want a reset", err)
			}
		})
	}
	wg.Wait()
	var slowest time.Duration
	for _, d := range took {
		slowest = max(slowest, d)
	}
	return slowest
}

// ends waits until a session has, after a command or idle.
func (s *Session) ends(command ...string) error {
	if command != nil {
		_, err := s.Do(command...)
		return err
	}
	if err := s.Conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	_, err := s.Conn.Read(make([]byte, 1))
	return err
}

// session connects through the sidecar as an app on its host does.
func (s *Sidecar) session(t *testing.T, d Database) *Session {
	t.Helper()
	d.Address = netip.IPv6Loopback()
	return session(t, s.Host, d)
}

// answers tries whether a new session is served.
func (s *Sidecar) answers(ctx context.Context, d Database) error {
	d.Address = netip.IPv6Loopback()
	x, err := s.Session(ctx, d)
	if err != nil {
		return err
	}
	defer x.Close()
	_, err = x.DoWithin(5*time.Second, "GET", "side")
	return err
}

func (s *Sidecar) get(path string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, s.Ready.HTTP+path, nil)
	if err != nil {
		return 0, "", err
	}
	return s.HTTP(req)
}

// used is the node that new sessions go to.
func (s *Sidecar) used() string {
	_, body, _ := s.get("/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, `respmesh_sidecar_node_used{node="`); ok && strings.HasSuffix(line, " 1\n") {
			name, _, _ := strings.Cut(rest, `"`)
			return name
		}
	}
	return ""
}

// uses tells whether that is a node whose name begins so.
func (s *Sidecar) uses(prefix string) error {
	if now := s.used(); !strings.HasPrefix(now, prefix) {
		return fmt.Errorf("the sidecar uses %q, want one of %s*", now, prefix)
	}
	return nil
}
