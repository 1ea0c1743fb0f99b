package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// silence is how long an attempt to connect may wait for an answer that mustn't come.
const silence = 1200 * time.Millisecond

// attempt is a try to connect to where the attacker mustn't get.
type attempt struct {
	what string
	from netip.Addr // its own address if not valid
	zone string
	to   netip.AddrPort
}

// mustFail tries all at once.
func mustFail(t *testing.T, h *Host, tries []attempt) {
	t.Helper()
	var wg sync.WaitGroup
	for _, a := range tries {
		wg.Go(func() {
			d := net.Dialer{Timeout: silence}
			if a.from.IsValid() {
				d.LocalAddr = &net.TCPAddr{IP: a.from.AsSlice(), Zone: a.zone}
			}
			if c, err := h.Dial(context.WithoutCancel(t.Context()), d, a.to); err == nil {
				c.Close()
				t.Errorf("%s: %s answers %s", a.what, a.to, h.Name)
			} else if strings.Contains(err.Error(), "assign requested") || strings.Contains(err.Error(), "unreachable") {
				t.Errorf("%s: the attempt itself failed: %v", a.what, err)
			}
		})
	}
	wg.Wait()
}

func prefix48(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 48).Masked() }

// TestOneOrgCantReachAnother: blog's VM, whose owner is root there, tries to reach org shop and the nodes, through a node with
// a TUN interface and through one in user space.
func TestOneOrgCantReachAnother(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	attacker := w.BlogApp
	infra := prefix48(w.lab.Node("ams-1").Ready.Address)
	t.Cleanup(func() {
		if err := attacker.Attach(context.WithoutCancel(ctx), "ams-1"); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"ams-1", "ams-2"} {
		node := w.lab.Node(name)
		t.Run(name+" "+node.Ready.Tunnel, func(t *testing.T) {
			if err := attacker.Attach(ctx, name, w.ShopApp.Prefix, infra); err != nil {
				t.Fatal(err)
			}
			var own *Session
			eventually(t, 10*time.Second, func() (err error) {
				own, err = attacker.Session(ctx, w.Posts)
				return err
			})
			defer own.Close()
			own.want(t, "PONG", "PING")
			before, err := node.Filtered(ctx, "cross_prefix")
			if err != nil {
				t.Fatal(err)
			}
			at := netip.AddrPortFrom
			tries := []attempt{
				{what: "the other org's database", to: at(w.Cart.Address, redisPort)},
				{what: "the other org's resolver", to: at(w.ShopApp.DNS, 53)},
				{what: "the other org's app", to: at(w.ShopApp.Address, 22)},
				{what: "the other org's laptop", to: at(w.Laptop.Address, redisPort)},
			}
			for _, port := range []uint16{22, 53, 2379, 2380, 6379, 7379, 7380, 17379, 17380} {
				tries = append(tries, attempt{what: "the infrastructure prefix", to: at(node.Ready.Address, port)},
					attempt{what: "another node", to: at(w.lab.Node("mad-1").Ready.Address, port)})
				if port != redisPort && port != 53 {
					tries = append(tries, attempt{what: "another port of its own database", to: at(w.Posts.Address, port)})
				}
				if port != 53 && port != controlPort { // the API at the resolver asks for a token: TestControlAPIInsideAnOrg
					tries = append(tries, attempt{what: "another port of its own resolver", to: at(attacker.DNS, port)})
				}
			}
			mustFail(t, attacker.Host, tries)
			after, err := node.Filtered(ctx, "cross_prefix")
			if err != nil {
				t.Fatal(err)
			}
			if after <= before {
				t.Errorf("the node's filter counted %v packets before and %v after: nothing came to it", before, after)
			}
			if out, err := attacker.Run(ctx, "dig", "+time=1", "+tries=1", "+short", "@"+w.ShopApp.DNS.String(), "AAAA", w.Cart.Host()); err == nil {
				t.Errorf("the other org's resolver answers %q", out)
			}
			// With the source of somebody else: WireGuard lets each key send from its own address only.
			victims := []netip.Addr{w.ShopApp.Address, w.Laptop.Address, w.lab.Node("mad-1").Ready.Address}
			var s, undo script
			for _, v := range victims {
				s.add("ip -6 addr add %s/128 dev %s nodad", v, attacker.Interface)
				undo.add("ip -6 addr del %s/128 dev %s", v, attacker.Interface)
			}
			if err := attacker.script(ctx, s); err != nil {
				t.Fatal(err)
			}
			tries = nil
			for _, v := range victims {
				tries = append(tries, attempt{what: "as " + v.String(), from: v, to: at(w.Cart.Address, redisPort)},
					attempt{what: "as " + v.String(), from: v, to: at(w.Posts.Address, redisPort)},
					attempt{what: "as " + v.String(), from: v, to: at(node.Ready.Address, 2379)})
			}
			mustFail(t, attacker.Host, tries)
			if err := attacker.script(ctx, undo); err != nil {
				t.Fatal(err)
			}
			own.want(t, "PONG", "PING") // and all the time its own goes on
		})
	}
	session(t, w.ShopApp.Host, w.Cart).want(t, "PONG", "PING")
}

// TestNamesOfAnotherOrg: its own resolver tells an org nothing about others.
func TestNamesOfAnotherOrg(t *testing.T) {
	w := world(t)
	cart := w.Cart.Host()
	for _, q := range [][]string{{"AAAA", cart}, {"AAAA", "nearest.of." + cart}, {"TXT", "regions." + cart}, {"SRV", cart}, {"AAAA", "shop.internal"}, {"-x", w.Cart.Address.String()}} {
		out, err := w.BlogApp.Run(t.Context(), append([]string{"dig", "+time=2", "+tries=2"}, q...)...)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "ANSWER: 0,") || !strings.Contains(out, "status: NXDOMAIN") && !strings.Contains(out, "status: REFUSED") {
			t.Errorf("dig %v as blog says\n%s", q, out)
		}
	}
	out, err := w.BlogApp.Run(t.Context(), "dig", "+short", "TXT", "_databases.internal")
	if err != nil || strings.Contains(out, "cart") {
		t.Errorf("_databases.internal as blog: %q, %v", out, err)
	}
	if out, err := w.BlogApp.Run(t.Context(), "dig", "+short", "AAAA", w.Posts.Host()); err != nil || out != w.Posts.Address.String() {
		t.Errorf("its own database is %q, %v", out, err)
	}
}

// TestControlAPIInsideAnOrg: the API that an org's peers find at _api asks for a token, which says what may be seen and done.
func TestControlAPIInsideAnOrg(t *testing.T) {
	w := world(t)
	h := w.BlogApp
	if got := mustRun(t, h.Host, "dig", "+short", "AAAA", "_api.internal"); got != h.DNS.String() {
		t.Errorf("_api.internal is %q, want %s", got, h.DNS)
	}
	token := w.cli(t, "token", "create", "--scope", "org", "--org", "blog")
	ask := func(path, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+netip.AddrPortFrom(h.DNS, controlPort).String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		code, body, err := h.HTTP(req)
		if err != nil {
			t.Fatal(err)
		}
		return code, body
	}
	for _, path := range []string{"/v1/databases", "/v1/orgs", "/v1/nodes", "/v1/audit", "/v1/backup", "/v1/orgs/shop/peers", "/v1/orgs/blog/peers", "/v1/tokens"} {
		for _, token := range []string{"", "rm_nobody.nothing", token[:len(token)-1]} {
			if code, body := ask(path, token); code != http.StatusUnauthorized {
				t.Errorf("GET %s without a good token: %d %s", path, code, body)
			}
		}
	}
	// The token was made at another node: this one may hear of it a moment later.
	eventually(t, 10*time.Second, func() error {
		if code, body := ask("/v1/databases", token); code == http.StatusUnauthorized || code == http.StatusTooManyRequests {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	if code, body := ask("/v1/databases", token); code != http.StatusOK || !strings.Contains(body, "posts") || strings.Contains(body, "cart") {
		t.Errorf("its own databases: %d %s", code, body)
	}
	file := filepath.Join(w.lab.Dir, "blog-inside.token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), "respmesh", "redis", "list") // as docs/dns.md has it
	cmd.Env = append(cmd.Env, "RESPMESH_TOKEN_FILE="+file, "RESPMESH_API=http://"+netip.AddrPortFrom(h.DNS, controlPort).String())
	if out, err := run(cmd); err != nil || !strings.Contains(out, "posts") || strings.Contains(out, "cart") {
		t.Errorf("redis list inside the org: %q, %v", out, err)
	}
	for _, path := range []string{"/v1/orgs/shop/databases/cart", "/v1/orgs/shop/peers", "/v1/audit", "/v1/backup"} {
		if code, body := ask(path, token); code != http.StatusForbidden && code != http.StatusNotFound {
			t.Errorf("GET %s with the token of another org: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/"} { // the host's, on loopback only
		if code, body := ask(path, token); code != http.StatusNotFound {
			t.Errorf("GET %s: %d %.100s", path, code, body)
		}
	}
}

// TestFromTheNetworkOutside: a host beside a node, without WireGuard, sends to the private addresses that the node's kernel
// has, and to the node's own services.
func TestFromTheNetworkOutside(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	h, node := w.BlogApp.Host, w.lab.Node("ams-1")
	linkLocal := func(h *Host) netip.Addr {
		out, err := h.Run(ctx, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link")
		if err != nil {
			t.Fatal(err)
		}
		for f := range strings.FieldsSeq(out) {
			if p, err := netip.ParsePrefix(f); err == nil {
				return p.Addr()
			}
		}
		t.Fatalf("%s has no link-local address: %s", h.Name, out)
		return netip.Addr{}
	}
	from, via := linkLocal(h), linkLocal(node.Host)
	targets := []netip.AddrPort{
		netip.AddrPortFrom(w.Cart.Address, redisPort), netip.AddrPortFrom(w.Posts.Address, redisPort), netip.AddrPortFrom(w.ShopApp.DNS, 53),
		netip.AddrPortFrom(node.Ready.Address, 2379), netip.AddrPortFrom(node.Ready.Address, 7379),
	}
	var s, undo script
	var tries []attempt
	for _, to := range targets {
		tries = append(tries, attempt{what: "past WireGuard", from: from, zone: "eth0", to: to})
		s.add("ip -6 route replace %s via %s dev eth0 src %s", to.Addr(), via, from)
		undo.add("ip -6 route del %s via %s dev eth0 || true", to.Addr(), via)
	}
	for i := range s {
		s[i] = strings.Replace(s[i], " src "+from.String(), "", 1) // a route can't prefer a link-local source
	}
	if err := h.script(ctx, s); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.script(ctx, undo); err != nil {
			t.Error(err)
		}
	}()
	mustFail(t, h, tries)
	// What a node has on its own address: WireGuard, and the API where it was asked for.
	tries = nil
	for _, port := range []uint16{53, 2379, 2380, 6379, 7379, 7380, 17379} {
		tries = append(tries, attempt{what: "the node's own address", to: netip.AddrPortFrom(node.Addr, port)})
	}
	mustFail(t, h, tries)
}

// TestRevokedKey: a peer that is removed loses its sessions within a second, and can't come back.
func TestRevokedKey(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	p := w.BlogApp
	s := session(t, p.Host, w.Posts)
	s.want(t, "OK", "SET", "revoked", "no")
	sessions := func() int64 {
		st, err := w.status(ctx, w.Posts)
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		for _, node := range st.Nodes {
			n += node.Sessions
		}
		return n
	}
	if n := sessions(); n != 1 {
		t.Fatalf("%d sessions, want 1", n)
	}
	w.cli(t, "wireguard", "remove", "blog", p.PeerName)
	removed := time.Now()
	for {
		if _, err := s.DoWithin(300*time.Millisecond, "INCR", "after"); err != nil {
			break
		}
		if time.Since(removed) > 3*time.Second {
			t.Fatal("the session goes on")
		}
	}
	if took := time.Since(removed); took > time.Second+300*time.Millisecond {
		t.Errorf("the session ended %v after the peer was removed", took)
	}
	if n := sessions(); n != 0 {
		t.Errorf("the node still has %d sessions", n)
	}
	mustFail(t, p.Host, []attempt{{what: "with a revoked key", to: netip.AddrPortFrom(w.Posts.Address, redisPort)}})

	// Back with a new key, for the tests that follow.
	if err := p.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p.File); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.BlogApp, err = w.lab.AddPeer(ctx, p.PeerName, "blog", "ams"); err != nil {
		t.Fatal(err)
	}
	session(t, w.BlogApp.Host, w.Posts).want(t, "no", "GET", "revoked")
}

// TestForgedUpdates: who may change all of org blog tries to change others' things.
func TestForgedUpdates(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	token := filepath.Join(w.lab.Dir, "blog.token")
	if err := os.WriteFile(token, []byte(w.cli(t, "token", "create", "--scope", "org", "--org", "blog")), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(args ...string) (string, error) {
		cmd := w.BlogApp.Command(ctx, append([]string{"respmesh"}, args...)...)
		cmd.Env = append(cmd.Env, "RESPMESH_TOKEN_FILE="+token, "RESPMESH_API="+w.lab.API(), "RESPMESH_API_PIN="+w.lab.Pin)
		return run(cmd)
	}
	if out, err := try("redis", "list"); err != nil || !strings.Contains(out, "posts") || strings.Contains(out, "cart") {
		t.Fatalf("its own databases: %s, %v", out, err)
	}
	nodes, err := w.lab.NodeList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(mustRun(t, w.ShopApp.Host, "wg", "show", w.ShopApp.Interface, "public-key"))
	for _, args := range [][]string{
		{"wireguard", "create", "shop", "ams", "evil"},
		{"wireguard", "reset", "shop", "shop-app"},
		{"wireguard", "remove", "shop", "shop-app"},
		{"wireguard", "list", "shop"},
		{"wireguard", "create", "blog", "ams", "twin", "--public-key", key},
		{"wireguard", "create", "blog", "ams", "twin", "--public-key", nodes[0].PublicKey},
		{"wireguard", "create", "blog", "ams", "twin", "--public-key", "AAAA"},
		{"redis", "status", "cart", "--org", "shop"},
		{"redis", "reset", "cart", "--org", "shop"},
		{"redis", "destroy", "cart", "--org", "shop", "--yes"},
		{"redis", "create", "--org", "shop", "--name", "mine", "--region", "mad", "--no-replicas", "--plan", "payg", "--disable-eviction"},
		{"token", "create", "--scope", "admin"},
		{"token", "create", "--scope", "node"},
		{"token", "create", "--scope", "org", "--org", "shop"},
		{"nodes", "drain", "mad-1"},
		{"nodes", "remove", "mad-1", "--yes", "--force"},
		{"orgs", "destroy", "shop", "--yes"},
		{"control", "audit"},
	} {
		if out, err := try(args...); err == nil {
			t.Errorf("%v was allowed: %s", args, out)
		} else if strings.Contains(err.Error(), "unknown flag") || strings.Contains(err.Error(), "unknown command") {
			t.Errorf("%v: %v", args, err)
		}
	}
	session(t, w.ShopApp.Host, w.Cart).want(t, "PONG", "PING")
	// A key that the mesh doesn't know is no peer.
	c := w.BlogApp
	fresh := filepath.Join(w.lab.Dir, "fresh.key")
	own := filepath.Join(w.lab.Dir, "own.key")
	for file, key := range map[string]string{fresh: mustRun(t, c.Host, "wg", "genkey"), own: privateKey(t, c.File)} {
		if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, c.Host, "wg", "set", c.Interface, "private-key", fresh)
	mustFail(t, c.Host, []attempt{{what: "with a key of its own", to: netip.AddrPortFrom(w.Posts.Address, redisPort)}})
	mustRun(t, c.Host, "wg", "set", c.Interface, "private-key", own)
	eventually(t, 10*time.Second, func() error {
		s, err := c.Session(ctx, w.Posts)
		if err != nil {
			return err
		}
		return s.Close()
	})
}

func privateKey(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "PrivateKey = ")
	key, _, _ := strings.Cut(rest, "\n")
	return key
}

func mustRun(t *testing.T, h *Host, args ...string) string {
	t.Helper()
	out, err := h.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMetrics: every node tells Prometheus about itself, about all the other nodes and about its databases.
func TestMetrics(t *testing.T) {
	w := world(t)
	for _, n := range w.lab.Nodes {
		out, err := n.Metrics(t.Context())
		if err != nil {
			t.Error(err)
			continue
		}
		for _, other := range w.lab.Nodes {
			if label := `respmesh_mesh_reachable{peer="` + other.Name + `"`; other != n && !strings.Contains(out, label) {
				t.Errorf("%s has no %s", n.Name, label)
			}
		}
	}
}

// TestAddressConflict: a host has an address that the mesh gives to a new database, and then two nodes.
func TestAddressConflict(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	node := w.lab.Node("nrt-2")
	var s, undo script
	base := w.Cart.Address.As16()
	for n := byte(2); n < 8; n++ {
		base[15] = n
		s.add("ip -6 addr add %s/128 dev lo", netip.AddrFrom16(base))
		undo.add("ip -6 addr del %s/128 dev lo", netip.AddrFrom16(base))
	}
	if err := node.script(ctx, s); err != nil {
		t.Fatal(err)
	}
	d, err := w.lab.CreateDatabase(ctx, "shop", "clash", "--region", "mad", "--replica-regions", "nrt")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		if !node.Logged("this host has it already, on interface lo") {
			return errors.New("the node doesn't say what is wrong")
		}
		return nil
	})
	session(t, w.ShopApp.Host, d).want(t, "OK", "SET", "k", "v") // elsewhere it works
	if err := node.script(ctx, undo); err != nil {
		t.Fatal(err)
	}
	if err := w.Laptop.Attach(ctx, "nrt-2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, func() error {
		s, err := w.Laptop.Session(ctx, d)
		if err != nil {
			return err
		}
		defer s.Close()
		if got, err := s.Do("GET", "k"); got != "v" {
			return fmt.Errorf("GET answers %q, %w", got, err)
		}
		return nil
	})
	if err := w.Laptop.Attach(ctx, "nrt-1"); err != nil {
		t.Fatal(err)
	}
	w.cli(t, "redis", "destroy", "clash", "--org", "shop", "--yes")
}
