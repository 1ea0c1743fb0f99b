package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// names is a resolver that tests change.
type names struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	asked map[string]int
}

func (n *names) set(host string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addrs == nil {
		n.addrs, n.asked = make(map[string][]netip.Addr), make(map[string]int)
	}
	n.addrs[host] = addrs
}

func (n *names) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[host]++
	if a := n.addrs[host]; len(a) > 0 {
		return a, nil
	}
	if host == "hangs.example" {
		n.mu.Unlock()
		<-ctx.Done()
		n.mu.Lock()
		return nil, ctx.Err()
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func byHost(d *Device, host string, ips ...netip.Addr) Peer {
	p := asPeer(d, ips...)
	p.Host, p.Endpoint = net.JoinHostPort(host, p.endpointPort()), netip.AddrPort{}
	return p
}

func (p Peer) endpointPort() string {
	_, port, _ := net.SplitHostPort(p.Endpoint.String())
	return port
}

// TestEndpointByName has a node found by its name, and again after it has moved to another address.
func TestEndpointByName(t *testing.T) {
	var dns names
	home, away := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	// The first of the two addresses is wrong, and one is of a family that the device has no socket for.
	dns.set("b.example", netip.MustParseAddr("fd00::1"), netip.MustParseAddr("127.0.0.9"), home)
	a := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 1)}, Resolve: dns.resolve})
	bKey := newKey(t)
	b := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}, PrivateKey: bKey})
	// b doesn't know where a is.
	fromA := Peer{PublicKey: a.PublicKey(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(addr(infraPrefix, 1), 128)}, Keepalive: -1}
	must(t, b.SetPeers([]Peer{fromA}))
	must(t, a.SetPeers([]Peer{byHost(b, "b.example", addr(infraPrefix, 2))}))
	at := netip.AddrPortFrom(addr(infraPrefix, 2), 7379)
	l, err := b.ListenTCP(at)
	must(t, err)
	echo(t, l)
	pingPong(t, dial(t, a, netip.Addr{}, at), 5)

	// It moves: another process with the same key elsewhere, that doesn't call.
	listen := netip.AddrPortFrom(away, b.ListenPort().Port())
	must(t, b.Close())
	dns.set("b.example", away)
	b = newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}, PrivateKey: bKey, Listen: listen})
	must(t, b.SetPeers([]Peer{fromA}))
	l, err = b.ListenTCP(at)
	must(t, err)
	echo(t, l)
	start := time.Now()
	pingPong(t, dial(t, a, netip.Addr{}, at), 5)
	t.Logf("found again after %s", time.Since(start))
	if s := a.Stats(); s[0].Endpoint != listen || s[0].ResolveErr != nil {
		t.Errorf("%+v", s)
	}
}

// TestEndpointsThatDontResolve leave the other peers alone, say so, and work when they do resolve.
func TestEndpointsThatDontResolve(t *testing.T) {
	var dns names
	dns.set("good.example", netip.MustParseAddr("127.0.0.1"))
	a := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 1)}, Resolve: dns.resolve})
	b := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	c := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 3)}})
	must(t, b.SetPeers([]Peer{asPeer(a, addr(infraPrefix, 1))}))
	must(t, c.SetPeers([]Peer{asPeer(a, addr(infraPrefix, 1))}))
	bad := byHost(c, "bad.example", addr(infraPrefix, 3))
	peers := []Peer{byHost(b, "good.example", addr(infraPrefix, 2)), bad}
	for i := range byte(lookups / 2) {
		k := newKey(t).Public()
		peers = append(peers, Peer{PublicKey: k, Host: "hangs.example:1", AllowedIPs: []netip.Prefix{netip.PrefixFrom(addr(infraPrefix, 100+i), 128)}})
	}
	must(t, a.SetPeers(peers))
	l, err := b.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 2), 7379))
	must(t, err)
	echo(t, l)
	pingPong(t, dial(t, a, netip.Addr{}, netip.AddrPortFrom(addr(infraPrefix, 2), 7379)), 5)
	eventually(t, func() bool {
		for _, s := range a.Stats() {
			var dnsErr *net.DNSError
			if s.PublicKey == c.PublicKey() && s.Host == bad.Host && errors.As(s.ResolveErr, &dnsErr) {
				return true
			}
		}
		return false
	}, "the failed lookup isn't shown")
	dns.set("bad.example", netip.MustParseAddr("127.0.0.1"))
	l, err = c.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 3), 7379))
	must(t, err)
	echo(t, l)
	pingPong(t, dial(t, a, netip.Addr{}, netip.AddrPortFrom(addr(infraPrefix, 3), 7379)), 5)
}

// TestHostIsAnAddress is no name, and isn't looked up.
func TestHostIsAnAddress(t *testing.T) {
	p, err := Peer{PublicKey: PublicKey{1}, Host: "[::1]:51820"}.normalize()
	if err != nil || p.Host != "" || p.Endpoint != netip.MustParseAddrPort("[::1]:51820") {
		t.Errorf("%+v, %v", p, err)
	}
}

// eventually waits for what a device does in its own time.
func eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what)
		}
	}
}
