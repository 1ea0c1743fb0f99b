package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/mesh/wan"
	"respmesh/test/dev"
)

// primary is the node that takes a database's writes.
func (w *World) primary(t *testing.T, d Database) *Node {
	t.Helper()
	s, err := w.status(t.Context(), d)
	if err != nil || s.Primary == nil {
		t.Fatalf("no primary: %+v, %v", s, err)
	}
	return w.lab.Node(s.Primary.Node)
}

// writes tries until a write is acknowledged, and says how long that took. Errors until then have to be the documented ones.
func (s *Session) writes(t *testing.T, within time.Duration, key, value string) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, within, func() error {
		_, err := s.Do("SET", key, value)
		var reply dev.Reply
		if errors.As(err, &reply) && !documented(string(reply)) {
			t.Errorf("SET answers %q", reply)
		} else if err != nil && reply == "" {
			t.Fatalf("the session was lost: %v", err)
		}
		return err
	})
	return time.Since(began)
}

// documented are the errors that a write may get while its primary is away.
func documented(reply string) bool {
	for _, p := range []string{"MASTERDOWN ", "UNKNOWNOUTCOME ", "READONLY ", "NOREPLICAS "} {
		if strings.HasPrefix(reply, p) {
			return true
		}
	}
	return false
}

// TestNodeKilled: the node of the primary dies, another one of the region takes over, a session in another region goes on.
func TestNodeKilled(t *testing.T) {
	w := world(t)
	w.settle(t)
	s := session(t, w.Laptop.Host, w.Cart)
	s.want(t, "OK", "SET", "kept", "1")
	dead := w.primary(t, w.Cart)
	dead.Kill()
	app := make(chan time.Time, 1) // when an app attached to the node gets through again
	go func() {
		_ = Eventually(t.Context(), time.Minute, func() error {
			return w.ShopApp.Reaches(t.Context(), w.Cart)
		})
		app <- time.Now()
	}()
	took := s.writes(t, 20*time.Second, "after", "1")
	t.Logf("%s was killed; writes went on after %v", dead.Name, took)
	limit := 7 * time.Second
	if dead.Name == order[0] {
		limit = 12 * time.Second // it may have led the control plane, too: its members choose another first, which waits for all leases anew
	}
	if took > limit {
		t.Errorf("writes went on only after %v", took)
	}
	if now := w.primary(t, w.Cart); now == dead || now.Region != dead.Region {
		t.Errorf("the primary is on %s now", now.Name)
	}
	s.want(t, "1", "GET", "kept")
	if err := dead.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	reached := w.reached(t, dead)
	t.Logf("the other nodes reached it %v after it was ready", reached.Sub(up))
	if took := reached.Sub(up); took > 3*time.Second {
		t.Errorf("the other nodes reached it only %v after it was ready", took)
	}
	w.settle(t)
	// By itself the app's WireGuard takes 5 to 15 s: the node calls it.
	took = (<-app).Sub(up)
	t.Logf("an app attached to the node got through %v after that was ready", took)
	if took > 3*time.Second {
		t.Errorf("an app attached to the node got through only %v after that was ready", took)
	}
}

// reached waits until all others can reach a node, and says since when.
func (w *World) reached(t *testing.T, n *Node) time.Time {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		for _, other := range w.lab.Nodes {
			if other == n {
				continue
			}
			out, err := other.Metrics(t.Context())
			if err != nil {
				return err
			}
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, `respmesh_mesh_reachable{peer="`+n.Name+`"`) && !strings.HasSuffix(line, " 1\n") {
					return fmt.Errorf("%s doesn't reach %s", other.Name, n.Name)
				}
			}
		}
		return nil
	})
	return time.Now()
}

// TestControlMemberKilled: with three members of the control plane, one may die: changes go on at once by the others.
func TestControlMemberKilled(t *testing.T) {
	w := world(t)
	w.settle(t)
	ctx := t.Context()
	dead := w.lab.Node(order[0]) // the first one, that made the CA
	dead.Kill()
	began := time.Now()
	eventually(t, 20*time.Second, func() error {
		_, err := w.lab.Node("ams-2").CLI(ctx, "orgs", "create", "during")
		return err
	})
	t.Logf("%s was killed; a change was made %v later", dead.Name, time.Since(began))
	w.joinThrough(t, w.lab.Node("ams-1"))
	eventually(t, 10*time.Second, func() error {
		out, err := w.lab.Node("nrt-2").CLI(ctx, "control", "members")
		if err == nil && (!regexp.MustCompile(`(?m)^mad-1 +mad +member +away`).MatchString(out) || !regexp.MustCompile(`(?m)^(ams-1|nrt-1) .*leader +online`).MatchString(out)) {
			err = fmt.Errorf("control members says\n%s", out)
		}
		return err
	})
	if err := dead.Start(ctx); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	if out := w.cli(t, "orgs", "list"); !strings.Contains(out, "during") {
		t.Errorf("after its start it doesn't know of the change:\n%s", out)
	}
	w.cli(t, "orgs", "destroy", "during", "--yes")
}

// joinThrough has a node enter by a member of the control plane, and leave.
func (w *World) joinThrough(t *testing.T, member *Node) {
	t.Helper()
	ctx := t.Context()
	const port = 51997
	host := w.lab.Node("nrt-2").Host
	n := &Node{Host: host, Data: filepath.Join(w.lab.Dir, "nodes", "late"), LogFile: filepath.Join(w.lab.Dir, "late.log")}
	if err := os.MkdirAll(n.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := n.own(n.Data); err != nil {
		t.Fatal(err)
	}
	token, err := w.lab.NodeToken(ctx, n, "--region", "nrt")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = n.Start(ctx, append(member.JoinHere(n, token), "--name", "late", "--wireguard", "[::]:"+strconv.Itoa(port), "--http", "0",
		"--endpoint", netip.AddrPortFrom(host.Addr, port).String())...)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Kill()
	t.Logf("a node joined through %s in %v", member.Name, time.Since(began))
	if _, err := os.Stat(filepath.Join(n.Data, "pki", "ca.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a node that doesn't carry the control plane has the key of its CA: %v", err)
	}
	info, err := os.Stat(filepath.Join(member.Data, "pki", "ca.key"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the CA's key on %s: %v, %v", member.Name, info, err)
	}
	eventually(t, 10*time.Second, func() error {
		out, err := member.CLI(ctx, "nodes", "list")
		if err == nil && !regexp.MustCompile(`(?m)^late +nrt +online`).MatchString(out) {
			err = fmt.Errorf("nodes list says\n%s", out)
		}
		return err
	})
	if _, err := member.CLI(ctx, "nodes", "remove", "late", "--yes", "--force"); err != nil {
		t.Error(err)
	}
}

// TestControlKilled: without the control plane what runs goes on, and a node that starts serves what it knew last.
func TestControlKilled(t *testing.T) {
	w := world(t)
	w.settle(t)
	ctx := t.Context()
	if err := w.Laptop.Attach(ctx, "nrt-2"); err != nil {
		t.Fatal(err)
	}
	var s *Session
	eventually(t, 10*time.Second, func() (err error) {
		s, err = w.Laptop.Session(ctx, w.Cart)
		return err
	})
	defer s.Close()
	s.want(t, "OK", "SET", "control", "here")
	dead := []*Node{w.lab.Node("mad-1"), w.lab.Node("ams-1"), w.lab.Node("nrt-1")}
	for _, n := range dead {
		n.Kill()
	}
	change := make(chan error, 1)
	go func() {
		_, err := w.lab.Node("mad-2").CLI(ctx, "orgs", "create", "nobody")
		change <- err
	}()
	deadline := time.Now().Add(5 * time.Second) // longer than any lease
	for time.Now().Before(deadline) {
		s.want(t, "here", "GET", "control")
		if _, err := s.Do("SET", "without", "control"); err != nil && !documented(err.Error()) {
			t.Fatalf("SET without control: %v", err)
		}
	}
	alone := w.lab.Node("nrt-2")
	alone.Kill()
	start := time.Now()
	if err := alone.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("a node started without control in %v", time.Since(start))
	up := time.Now()
	eventually(t, 15*time.Second, func() error { return w.Laptop.Reaches(ctx, w.Cart) })
	t.Logf("the laptop got through %v after that", time.Since(up))
	eventually(t, 15*time.Second, func() error {
		again, err := w.Laptop.Session(ctx, w.Cart)
		if err != nil {
			return err
		}
		defer again.Close()
		if got, err := again.Do("GET", "control"); got != "here" {
			return fmt.Errorf("GET after a start without control answers %q, %w", got, err)
		}
		return nil
	})
	if <-change == nil {
		t.Error("a change without control")
	}
	began := time.Now()
	errs := make(chan error, len(dead))
	for _, n := range dead { // all at once: each needs another one
		go func() { errs <- n.Start(ctx) }()
	}
	for range dead {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	w.settle(t)
	t.Logf("all was well again %v after the start of the control plane", time.Since(began))
	if err := w.Laptop.Attach(ctx, "nrt-1"); err != nil {
		t.Fatal(err)
	}
}

// TestRegionCut: the primary's region is cut off. There all goes on; elsewhere reads do, and writes say why they can't.
func TestRegionCut(t *testing.T) {
	w := world(t)
	w.settle(t)
	far, near := session(t, w.Laptop.Host, w.Cart), session(t, w.ShopApp.Host, w.Cart)
	far.want(t, "OK", "SET", "cut", "before")
	far.want(t, "5", "WAIT", "5", "10000") // or a replica may be cut off from the write that it is asked for
	w.lab.WAN.Cut("mad")
	defer w.lab.WAN.Heal("mad")
	began := time.Now()
	for i := 0; time.Since(began) < 6*time.Second; i++ { // longer than leases and what notices
		at := time.Now()
		if _, err := far.Do("SET", "cut", "lost"); err == nil {
			t.Fatal("a write passed the cut")
		} else if !documented(err.Error()) {
			t.Fatalf("SET across the cut: %v", err)
		} else if took := time.Since(at); took > 6*time.Second {
			t.Errorf("the answer took %v", took)
		}
		if got, err := far.Do("GET", "cut"); err != nil || got != "before" {
			t.Fatalf("GET of the replica answers %q, %v", got, err)
		}
		near.want(t, "OK", "SET", "cut", fmt.Sprint(i))
		near.want(t, "OK", "SET", "last", fmt.Sprint(i))
		near.want(t, fmt.Sprint(i), "GET", "last")
	}
	last, err := near.Do("GET", "last")
	if err != nil {
		t.Fatal(err)
	}
	w.lab.WAN.Heal("mad")
	healed := time.Now()
	eventually(t, 20*time.Second, func() error {
		if got, err := far.Do("GET", "last"); got != last {
			return fmt.Errorf("GET answers %q, want %q, %w", got, last, err)
		}
		return nil
	})
	t.Logf("the replica was current %v after the cut", time.Since(healed))
	far.writes(t, 10*time.Second, "cut", "after")
	w.settle(t)
}

// TestOneWay: what a region sends is lost, what is sent to it arrives; first some of it, then all.
func TestOneWay(t *testing.T) {
	w := world(t)
	w.settle(t)
	s := session(t, w.Laptop.Host, w.Cart)
	s.want(t, "OK", "SET", "oneway", "0")
	usual := w.lab.WAN.Conditions("nrt", "mad")
	defer func() {
		if err := w.lab.WAN.Set("nrt", "mad", usual); err != nil {
			t.Error(err)
		}
	}()
	if err := w.lab.WAN.Set("nrt", "mad", wan.Conditions{Delay: usual.Delay, Loss: 0.1}); err != nil {
		t.Fatal(err)
	}
	var slowest time.Duration
	for i := range 20 {
		began := time.Now()
		s.want(t, "OK", "SET", "oneway", fmt.Sprint(i))
		s.want(t, fmt.Sprint(i), "GET", "oneway")
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("with a loss of 10 %% one way, the slowest write and read took %v", slowest)
	if err := w.lab.WAN.Set("nrt", "mad", wan.Conditions{Cut: true}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < 5*time.Second {
		at := time.Now()
		if _, err := s.Do("SET", "oneway", "lost"); err != nil && !documented(err.Error()) {
			t.Fatalf("SET: %v", err)
		}
		if _, err := s.Do("GET", "other"); err != nil && !documented(err.Error()) {
			t.Fatalf("GET: %v", err)
		}
		if took := time.Since(at); took > 8*time.Second {
			t.Errorf("the answers took %v", took)
		}
	}
	if err := w.lab.WAN.Set("nrt", "mad", usual); err != nil {
		t.Fatal(err)
	}
	t.Logf("writes went on %v after", s.writes(t, 15*time.Second, "oneway", "healed"))
	w.settle(t)
}

// TestEndpointMoved: a node starts again at another address, and a laptop gets another one from its network.
func TestEndpointMoved(t *testing.T) {
	w := world(t)
	w.settle(t)
	ctx := t.Context()
	n := w.lab.Node("ams-2")
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	old, moved := n.Addr, regionAddr("ams", 12)
	var s script
	s.add("ip addr del %s/24 dev eth0", old)
	s.add("ip addr add %s/24 dev eth0", moved)
	s.add("ip route replace default via %s", regionAddr("ams", gateway))
	if err := n.script(ctx, s); err != nil {
		t.Fatal(err)
	}
	n.Addr = moved
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	list, err := w.lab.NodeList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, have := range list {
		if have.Name == n.Name && have.Endpoint != n.Endpoint() {
			t.Errorf("nodes list has %s at %s, want %s", have.Name, have.Endpoint, n.Endpoint())
		}
	}

	laptop := session(t, w.Laptop.Host, w.Cart)
	laptop.want(t, "OK", "SET", "roams", "1")
	nat := w.lab.Host("nat")
	another := regionAddr("nrt", 31)
	var r script
	r.add("ip addr del %s/24 dev eth0", nat.Addr)
	r.add("ip addr add %s/24 dev eth0", another)
	r.add("ip route replace default via %s", regionAddr("nrt", gateway))
	if err := nat.script(ctx, r); err != nil {
		t.Fatal(err)
	}
	nat.Addr = another
	began := time.Now()
	laptop.want(t, "OK", "SET", "roams", "2") // the same session
	t.Logf("the laptop's session went on after %v", time.Since(began))
}

// TestTwoNodesOnOneHost: the second one with a TUN interface says what is in its way, and changes nothing.
func TestTwoNodesOnOneHost(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	first := w.lab.Node("nrt-2")
	second := &Node{Host: first.Host, TUN: true, Data: first.Data + "-twin", LogFile: first.LogFile + ".twin"}
	token, err := w.lab.NodeToken(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	err = second.Start(ctx, "--join", w.lab.API(), "--pin", w.lab.Pin, "--token-file", token, "--region", "nrt", "--name", "nrt-3",
		"--wireguard", "[::]:51999", "--http", "0", "--endpoint", netip.AddrPortFrom(first.Addr, 51999).String(), "--tunnel", "tun")
	refused(t, "", err, "is another node running here?")
	eventually(t, 10*time.Second, func() error {
		_, err := w.lab.CLI(ctx, "nodes", "remove", "nrt-3", "--yes", "--force")
		return err
	})
	w.settle(t)
}

// TestNarrowPath: between two nodes large packets vanish. `nodes list` says so, and no more once they pass again. Neither carries
// the control plane: with a path like that between its members, that may stand still.
func TestNarrowPath(t *testing.T) {
	w := world(t)
	w.settle(t)
	t.Parallel() // mostly waits, and TestSidecar has nothing to do with these two
	ctx := t.Context()
	from, to := w.lab.Node("nrt-2"), w.lab.Node("mad-2")
	var s, undo script
	s.add("nft add table ip narrow")
	s.add("nft add chain ip narrow out { type filter hook output priority 0 ; }")
	s.add("nft add rule ip narrow out ip daddr %s meta length gt 1290 drop", to.Addr) // 60 bytes are WireGuard's
	undo.add("nft delete table ip narrow")
	if err := from.script(ctx, s); err != nil {
		t.Fatal(err)
	}
	widen := sync.OnceFunc(func() {
		if err := from.script(context.WithoutCancel(ctx), undo); err != nil {
			t.Error(err)
		}
	})
	defer widen()
	narrowed := time.Now()
	paths := func() (map[string]int, error) {
		list, err := w.lab.NodeList(ctx)
		found := make(map[string]int)
		for _, n := range list {
			for _, p := range n.NarrowPaths {
				found[n.Name+" "+p.Node] = p.MTU
			}
		}
		return found, err
	}
	eventually(t, 30*time.Second, func() error {
		found, err := paths()
		if want := map[string]int{"mad-2 nrt-2": 1200, "nrt-2 mad-2": 1200}; err != nil || !maps.Equal(found, want) {
			return fmt.Errorf("nodes list says %v, want %v, %w", found, want, err)
		}
		return nil
	})
	t.Logf("nodes list has the narrow path after %v", time.Since(narrowed))
	if out := w.cli(t, "nodes", "list"); !strings.Contains(out, "between nrt-2 and mad-2: those of 1200 bytes pass") {
		t.Errorf("nodes list prints\n%s", out)
	}
	widen()
	widened := time.Now()
	eventually(t, 30*time.Second, func() error {
		if found, err := paths(); err != nil || len(found) > 0 {
			return fmt.Errorf("nodes list still says %v, %w", found, err)
		}
		return nil
	})
	t.Logf("and no more %v after large packets pass again", time.Since(widened))
}
