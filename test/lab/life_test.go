package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNodesListShowsHowEachNodeTunnels: with privilege through the kernel, without in user space, without being told.
func TestNodesListShowsHowEachNodeTunnels(t *testing.T) {
	w := world(t)
	var nodes []struct {
		Name, Tunnel, Endpoint string
		Online                 bool
	}
	if err := json.Unmarshal([]byte(w.cli(t, "nodes", "list", "--json")), &nodes); err != nil {
		t.Fatal(err)
	}
	if len(nodes) != len(order) {
		t.Fatalf("%d nodes, want %d", len(nodes), len(order))
	}
	for _, n := range nodes {
		want := "userspace"
		if slices.Contains(tuns, n.Name) {
			want = "tun"
		}
		if n.Tunnel != want || !n.Online || n.Endpoint != w.lab.Node(n.Name).Endpoint() {
			t.Errorf("nodes list says %+v, want tunnel %s, endpoint %s", n, want, w.lab.Node(n.Name).Endpoint())
		}
	}
}

// TestLifeOfADatabase goes from nothing to a database that is used from a VM and from a laptop behind NAT, by address and by
// name, through its changes to its end.
func TestLifeOfADatabase(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	d, err := w.lab.CreateDatabase(ctx, "shop", "stock", "--region", "mad", "--replica-regions", "nrt")
	if err != nil {
		t.Fatal(err)
	}
	redis := func(p *Peer, host string, want string, args ...string) {
		t.Helper()
		eventually(t, 8*time.Second, func() error { // names have a TTL of 5 s
			got, err := p.Redis(ctx, host, d, args...)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("redis-cli -h %s %v on %s prints %q, want %q", host, args, p.Name, got, want)
			}
			return nil
		})
	}
	redis(w.ShopApp, d.Host(), "OK", "SET", "k", "v")
	redis(w.ShopApp, d.Address.String(), "v", "GET", "k")
	for _, host := range []string{d.Host(), "primary." + d.Host(), "nrt." + d.Host(), "nearest.of." + d.Host(), d.Address.String()} {
		redis(w.Laptop, host, "v", "GET", "k")
	}
	if out, err := w.ShopApp.Redis(ctx, d.Host(), Database{Password: "wrong"}, "GET", "k"); err == nil && !strings.Contains(out, "WRONGPASS") && !strings.Contains(out, "NOAUTH") {
		t.Errorf("with a wrong password: %s", out)
	}
	if out := w.cli(t, "redis", "list", "--org", "shop"); !strings.Contains(out, "stock") || !strings.Contains(out, "PRIMARY REGION") {
		t.Errorf("redis list prints\n%s", out)
	}

	// A session goes on through all changes.
	s := session(t, w.Laptop.Host, d)
	w.cli(t, "redis", "update", "stock", "--org", "shop", "--replica-regions", "ams")
	s.want(t, "v", "GET", "k")
	w.cli(t, "redis", "update", "stock", "--org", "shop", "--enable-eviction")
	s.want(t, "OK", "SET", "k", "w")
	eventually(t, 10*time.Second, func() error {
		got, err := w.status(ctx, d)
		if err != nil {
			return err
		}
		for _, n := range got.Nodes {
			region, _, _ := strings.Cut(n.Node, "-")
			if holds := n.Role != "none"; holds != (region != "nrt") {
				return fmt.Errorf("%s is %s", n.Node, n.Role)
			}
		}
		return nil
	})
	var reset struct{ Password string }
	if err := json.Unmarshal([]byte(w.cli(t, "redis", "reset", "stock", "--org", "shop", "--json")), &reset); err != nil {
		t.Fatal(err)
	}
	old := d
	d.Password = reset.Password
	eventually(t, 5*time.Second, func() error {
		if s, err := w.Laptop.Session(ctx, old); err == nil {
			s.Close()
			return errors.New("the old password still works")
		}
		return nil
	})
	redis(w.Laptop, d.Host(), "w", "GET", "k")

	w.cli(t, "redis", "destroy", "stock", "--org", "shop", "--yes")
	for _, p := range []*Peer{w.ShopApp, w.Laptop} {
		eventually(t, 8*time.Second, func() error {
			if out, err := p.Run(ctx, "getent", "ahostsv6", d.Host()); err == nil {
				return fmt.Errorf("%s still resolves to %s on %s", d.Host(), out, p.Name)
			}
			return nil
		})
	}
	if _, err := s.DoWithin(5*time.Second, "GET", "k"); err == nil {
		t.Error("a session of the destroyed database goes on")
	}
	if w.ShopApp.Reaches(ctx, d) == nil {
		t.Error("the destroyed database still answers")
	}
	for _, n := range w.lab.Nodes {
		eventually(t, 10*time.Second, func() error {
			left, err := filepath.Glob(filepath.Join(n.Data, "databases", "*"))
			if len(left) > 2 { // cart and posts
				err = errors.Join(err, fmt.Errorf("%s keeps %v", n.Name, left))
			}
			return err
		})
	}
}

// TestNames asks an org's resolver as an app does.
func TestNames(t *testing.T) {
	w := world(t)
	dig := func(p *Peer, args ...string) string {
		t.Helper()
		out, err := p.Run(t.Context(), append([]string{"dig", "+time=2", "+tries=2"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	cart := w.Cart.Host()
	if got := dig(w.ShopApp, "+short", "AAAA", cart); got != w.Cart.Address.String() {
		t.Errorf("%s is %q, want %s", cart, got, w.Cart.Address)
	}
	// A region's name is an address of its own, which is reached wherever the app is attached.
	for _, name := range []string{"mad." + cart, "ams." + cart, "primary." + cart, "nearest.of." + cart} {
		got := dig(w.ShopApp, "+short", "AAAA", name)
		if a, err := netip.ParseAddr(got); err != nil || a == w.Cart.Address || !w.ShopApp.Prefix.Contains(a) {
			t.Errorf("%s is %q, want an address of one region", name, got)
			continue
		}
		if out, err := w.ShopApp.Redis(t.Context(), got, w.Cart, "PING"); err != nil || out != "PONG" {
			t.Errorf("PING at %s: %q, %v", name, out, err)
		}
	}
	if got := dig(w.ShopApp, "+tcp", "+short", "AAAA", cart); got != w.Cart.Address.String() {
		t.Errorf("by TCP %s is %q", cart, got)
	}
	if got := dig(w.ShopApp, "A", cart); !strings.Contains(got, "status: NOERROR") || !strings.Contains(got, "ANSWER: 0") {
		t.Errorf("A isn't NODATA:\n%s", got)
	}
	if got := dig(w.ShopApp, "AAAA", "nosuch.shop.internal"); !strings.Contains(got, "status: NXDOMAIN") {
		t.Errorf("a name that isn't there isn't NXDOMAIN:\n%s", got)
	}
	// A VM without its own resolver settings keeps them: wg-quick gave it the org's.
	raw, err := os.ReadFile(w.ShopApp.resolvConf())
	if err != nil || !strings.Contains(string(raw), w.ShopApp.DNS.String()) {
		t.Errorf("resolv.conf of %s: %q, %v", w.ShopApp.Name, raw, err)
	}
}
