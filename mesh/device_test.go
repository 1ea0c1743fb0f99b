package mesh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	wgdevice "golang.zx2c4.com/wireguard/device"

	"respmesh/mesh/wan"
)

func dial(t testing.TB, d *Device, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := d.DialTCP(ctx, from, to)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// refused says that nothing answers within a moment.
func refused(t testing.TB, d *Device, from netip.Addr, to netip.AddrPort) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if c, err := d.DialTCP(ctx, from, to); err == nil {
		c.Close()
		t.Errorf("%s reached %s", from, to)
	}
}

func TestPingPong(t *testing.T) {
	a, b := pair(t)
	at := netip.AddrPortFrom(addr(infraPrefix, 2), 7379)
	l, err := b.ListenTCP(at)
	must(t, err)
	if l.Addr().String() != at.String() {
		t.Errorf("listens on %s", l.Addr())
	}
	echo(t, l)
	c := dial(t, a, addr(infraPrefix, 1), at)
	pingPong(t, c, 200)
	if c.LocalAddr().(*net.TCPAddr).AddrPort().Addr() != addr(infraPrefix, 1) || c.RemoteAddr().String() != at.String() {
		t.Errorf("from %s to %s", c.LocalAddr(), c.RemoteAddr())
	}

	s := a.Stats()
	if len(s) != 1 || s[0].PublicKey != b.PublicKey() || s[0].Endpoint != b.ListenPort() || s[0].RxBytes < 200*14 ||
		s[0].TxBytes < 200*14 || time.Since(s[0].LastHandshake) > time.Minute || s[0].Keepalive != DefaultKeepalive || len(s[0].AllowedIPs) != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestDialErrors(t *testing.T) {
	a, _ := pair(t)
	_, err := a.DialTCP(context.Background(), addr(infraPrefix, 1), netip.AddrPortFrom(addr(infraPrefix, 2), 9))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err = a.DialTCP(ctx, netip.Addr{}, netip.AddrPortFrom(addr(infraPrefix, 2), 9)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err = a.DialTCP(context.Background(), addr(infraPrefix, 7), netip.AddrPortFrom(addr(infraPrefix, 2), 9)); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("from an address of somebody else: %v", err)
	}
	at := netip.AddrPortFrom(addr(infraPrefix, 1), 7379)
	l, err := a.ListenTCP(at)
	must(t, err)
	defer l.Close()
	if _, err := a.ListenTCP(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	a, b := pair(t)
	client, _ := connect(t, a, b)
	must(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err := client.Read(make([]byte, 1))
	var nerr net.Error
	if !errors.As(err, &nerr) || !nerr.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	udp, err := a.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 1), ProbePort))
	must(t, err)
	defer udp.Close()
	must(t, udp.SetReadDeadline(time.Unix(1, 0)))
	if _, _, err := udp.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("UDP: got %v", err)
	}
}

func TestUDP(t *testing.T) {
	a, b := pair(t)
	pa, err := a.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 1), ProbePort))
	must(t, err)
	defer pa.Close()
	pb, err := b.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 2), ProbePort))
	must(t, err)
	defer pb.Close()
	_, err = pa.WriteTo([]byte("hello"), pb.LocalAddr())
	must(t, err)
	must(t, pb.SetReadDeadline(time.Now().Add(20*time.Second)))
	buf := make([]byte, 64)
	n, from, err := pb.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "hello" || from.String() != pa.LocalAddr().String() {
		t.Errorf("%q from %s, %v", buf[:n], from, err)
	}
}

// hostile is a peer without a filter of its own, as anybody can build one.
func hostile(t *testing.T, addrs ...netip.Addr) *Device {
	t.Helper()
	ns, err := newNetstack(DefaultMTU, rtoBounds{DefaultMinRTO, DefaultMaxRTO})
	must(t, err)
	key := newKey(t)
	d := &Device{
		key: key.Public(), tunnel: ns, conns: newConns(DefaultConnsPerPeer, newTestFilter(t, nodeRules), slog.New(slog.DiscardHandler)), peers: make(map[PublicKey]Peer), addrs: make(map[netip.Addr]struct{}),
		wg: wgdevice.NewDevice(ns.link(), newHandshakes(newBind(netip.MustParseAddrPort("127.0.0.1:0")), nil), wgLogger(slog.New(slog.DiscardHandler))),
	}
	t.Cleanup(func() { d.Close() })
	d.watch = newWatcher(d, nil)
	must(t, d.wg.IpcSet("private_key="+key.hex()+"\n"))
	must(t, d.SetAddrs(addrs))
	must(t, d.wg.Up())
	state, err := d.wg.IpcGet()
	must(t, err)
	port, _ := parseState(state)
	d.listen = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	return d
}

// TestOrgsAreApart has a peer of organisation A try everything.
func TestOrgsAreApart(t *testing.T) {
	filter := newTestFilter(t, nodeRules)
	infra, serviceA, serviceB := addr(infraPrefix, 1), addr(orgA, 100), addr(orgB, 100)
	node := newTestDevice(t, Config{Filter: filter, Addrs: []netip.Addr{infra, serviceA, serviceB}})
	own, stolen := addr(orgA, 1), addr(orgB, 66)
	peer := hostile(t, own, stolen)
	must(t, node.SetPeers([]Peer{asPeer(peer, own)}))
	must(t, peer.SetPeers([]Peer{{PublicKey: node.PublicKey(), Endpoint: node.ListenPort(), AllowedIPs: []netip.Prefix{orgA, orgB, infraPrefix}}}))
	for _, at := range []netip.AddrPort{
		netip.AddrPortFrom(serviceA, 6379), netip.AddrPortFrom(serviceA, 7379),
		netip.AddrPortFrom(serviceB, 6379), netip.AddrPortFrom(infra, 7379),
	} {
		l, err := node.ListenTCP(at)
		must(t, err)
		echo(t, l)
	}
	pingPong(t, dial(t, peer, own, netip.AddrPortFrom(serviceA, 6379)), 5)

	for _, c := range []struct {
		name   string
		from   netip.Addr
		to     netip.Addr
		port   uint16
		reason Reason
	}{
		{"a port that isn't declared", own, serviceA, 7379, Port},
		{"another organisation's service", own, serviceB, 6379, CrossPrefix},
		{"the infrastructure", own, infra, 7379, CrossPrefix},
	} {
		before := filter.Drops(Inbound, c.reason)
		refused(t, peer, c.from, netip.AddrPortFrom(c.to, c.port))
		if filter.Drops(Inbound, c.reason) == before {
			t.Errorf("%s: not dropped by the filter as %s", c.name, c.reason)
		}
	}
	// A stolen source address doesn't even get past WireGuard.
	refused(t, peer, stolen, netip.AddrPortFrom(serviceB, 6379))

	// An organisation that leaves is cut off at once.
	must(t, filter.SetRules(FilterRules{Infra: infraPrefix, Orgs: []netip.Prefix{orgB}}))
	refused(t, peer, own, netip.AddrPortFrom(serviceA, 6379))
	if filter.Drops(Inbound, Unknown) == 0 {
		t.Error("an organisation that was removed: not dropped by the filter")
	}
}

func TestPeersAreChecked(t *testing.T) {
	d := newTestDevice(t, Config{})
	k1, k2 := newKey(t).Public(), newKey(t).Public()
	ip := []netip.Prefix{netip.PrefixFrom(addr(orgA, 1), 128)}
	must(t, d.SetPeers([]Peer{{PublicKey: k1, AllowedIPs: ip}}))
	for name, peers := range map[string][]Peer{
		"theft":            {{PublicKey: k1, AllowedIPs: ip}, {PublicKey: k2, AllowedIPs: ip}},
		"overlap":          {{PublicKey: k1, AllowedIPs: ip}, {PublicKey: k2, AllowedIPs: []netip.Prefix{orgA}}},
		"no key":           {{AllowedIPs: ip}},
		"own key":          {{PublicKey: d.PublicKey()}},
		"twice":            {{PublicKey: k1}, {PublicKey: k1}},
		"IPv4":             {{PublicKey: k1, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		"no such port":     {{PublicKey: k1, Endpoint: netip.MustParseAddrPort("127.0.0.1:0")}},
		"no host":          {{PublicKey: k1, Host: ":51820"}},
		"no port":          {{PublicKey: k1, Host: "mad.example.org"}},
		"a wrong port":     {{PublicKey: k1, Host: "mad.example.org:65536"}},
		"two endpoints":    {{PublicKey: k1, Host: "mad.example.org:1", Endpoint: netip.MustParseAddrPort("127.0.0.1:1")}},
		"a long name":      {{PublicKey: k1, Host: strings.Repeat("x", 254) + ":1"}},
		"a smuggled line":  {{PublicKey: k1, Host: "[fe80::1%x\nremove=true]:1"}},
		"a line in a zone": {{PublicKey: k1, Endpoint: netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone("x\ny"), 1)}},
		"eternal sleep":    {{PublicKey: k1, Keepalive: 100 * time.Hour}},
	} {
		if err := d.SetPeers(peers); !errors.Is(err, ErrPeers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := d.Stats(); len(s) != 1 || s[0].PublicKey != k1 || len(s[0].AllowedIPs) != 1 {
		t.Errorf("a refused list changed something: %+v", s)
	}
}

func TestPeerDiff(t *testing.T) {
	k := []PublicKey{{1}, {2}, {3}}
	ip := func(n byte) netip.Prefix { return netip.PrefixFrom(addr(orgA, n), 128) }
	list := func(peers ...Peer) map[PublicKey]Peer {
		m, err := normalizePeers(PublicKey{9}, peers)
		must(t, err)
		return m
	}
	ep := netip.MustParseAddrPort("127.0.0.1:1")
	have := list(
		Peer{PublicKey: k[0], Endpoint: ep, AllowedIPs: []netip.Prefix{ip(1), ip(2)}},
		Peer{PublicKey: k[1], Endpoint: ep, AllowedIPs: []netip.Prefix{ip(3)}})
	if got := diffPeers(have, have); got != "" {
		t.Errorf("nothing changed: %q", got)
	}
	want := list(
		Peer{PublicKey: k[0], Endpoint: ep, AllowedIPs: []netip.Prefix{ip(2), ip(4)}},
		Peer{PublicKey: k[2], Endpoint: ep, AllowedIPs: []netip.Prefix{ip(3)}, Keepalive: -1})
	expect := "public_key=" + k[0].hex() + "\nupdate_only=true\nallowed_ip=fd00:a:a::4/128\nallowed_ip=-fd00:a:a::1/128\n" +
		"public_key=" + k[2].hex() + "\nendpoint=127.0.0.1:1\nallowed_ip=fd00:a:a::3/128\npersistent_keepalive_interval=0\n" +
		"public_key=" + k[1].hex() + "\nremove=true\n"
	if got := diffPeers(have, want); got != expect {
		t.Errorf("got\n%s\nwant\n%s", got, expect)
	}
}

// TestPeerReplaced gives a node a new key while a third one talks on undisturbed.
func TestPeerReplaced(t *testing.T) {
	ip := func(n byte) netip.Addr { return addr(infraPrefix, n) }
	hub := newTestDevice(t, Config{Addrs: []netip.Addr{ip(1)}})
	old := newTestDevice(t, Config{Addrs: []netip.Addr{ip(2)}})
	third := newTestDevice(t, Config{Addrs: []netip.Addr{ip(3)}})
	at := netip.AddrPortFrom(ip(1), 7379)
	l, err := hub.ListenTCP(at)
	must(t, err)
	echo(t, l)
	must(t, hub.SetPeers([]Peer{asPeer(old, ip(2)), asPeer(third, ip(3))}))
	for _, d := range []*Device{old, third} {
		must(t, d.SetPeers([]Peer{asPeer(hub, ip(1))}))
	}
	steady := dial(t, third, ip(3), at)
	pingPong(t, steady, 5)
	pingPong(t, dial(t, old, ip(2), at), 5)

	fresh := newTestDevice(t, Config{Addrs: []netip.Addr{ip(2)}})
	must(t, fresh.SetPeers([]Peer{asPeer(hub, ip(1))}))
	must(t, hub.SetPeers([]Peer{asPeer(fresh, ip(2)), asPeer(third, ip(3))}))
	pingPong(t, dial(t, fresh, ip(2), at), 5)
	pingPong(t, steady, 5)
	refused(t, old, ip(2), at)
	for _, s := range hub.Stats() {
		if s.PublicKey == old.PublicKey() {
			t.Error("the old key is still known")
		}
	}
}

func TestAddressesChangeLive(t *testing.T) {
	a, b := pair(t)
	more := addr(infraPrefix, 20)
	pb := asPeer(b, addr(infraPrefix, 2), more)
	must(t, a.SetPeers([]Peer{pb}))
	at := netip.AddrPortFrom(more, 7379)
	if _, err := b.ListenTCP(at); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listen on an address it hasn't: %v", err)
	}
	must(t, b.SetAddrs([]netip.Addr{addr(infraPrefix, 2), more}))
	l, err := b.ListenTCP(at)
	must(t, err)
	echo(t, l)
	pingPong(t, dial(t, a, netip.Addr{}, at), 3)
	must(t, b.SetAddrs([]netip.Addr{addr(infraPrefix, 2)}))
	refused(t, a, netip.Addr{}, at)
	if b.SetAddrs([]netip.Addr{netip.MustParseAddr("10.0.0.1")}) == nil {
		t.Error("an IPv4 address was accepted")
	}
}

func TestClose(t *testing.T) {
	a, b := pair(t)
	client, server := connect(t, a, b)
	l, err := a.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 1), 7379))
	must(t, err)
	accepted, read := make(chan error, 1), make(chan error, 1)
	go func() { _, err := l.Accept(); accepted <- err }()
	go func() { _, err := client.Read(make([]byte, 1)); read <- err }()
	for range 2 {
		must(t, a.Close())
	}
	if err := <-read; err == nil {
		t.Error("a read on a closed device")
	}
	must(t, l.Close())
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed device: %v", err)
	}
	if err := a.SetPeers(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("set peers of a closed device: %v", err)
	}
	if _, err := a.DialTCP(context.Background(), netip.Addr{}, netip.AddrPortFrom(addr(infraPrefix, 2), 1)); err == nil {
		t.Error("dialled on a closed device")
	}
	server.Close()
}

// TestCloseWhileSending closes while the stack waits for room in the queue.
func TestCloseWhileSending(t *testing.T) {
	a, b := pair(t)
	client, _ := connect(t, a, b)
	must(t, b.Close())
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<20)
		for {
			if _, err := client.Write(buf); err != nil {
				return
			}
		}
	}()
	must(t, a.Close())
	<-done
}

func TestListenerClose(t *testing.T) {
	a, _ := pair(t)
	at := netip.AddrPortFrom(addr(infraPrefix, 1), 0)
	l, err := a.ListenTCP(at)
	must(t, err)
	if l.Addr().(*net.TCPAddr).Port == 0 {
		t.Error("no port")
	}
	got := make(chan error, 1)
	go func() { _, err := l.Accept(); got <- err }()
	for range 2 {
		must(t, l.Close())
	}
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestAllInterfaces(t *testing.T) {
	a := newTestDevice(t, Config{Listen: netip.MustParseAddrPort("0.0.0.0:0"), Addrs: []netip.Addr{addr(infraPrefix, 1)}})
	b := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	pa := asPeer(a, addr(infraPrefix, 1))
	pa.Endpoint = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.ListenPort().Port())
	must(t, b.SetPeers([]Peer{pa}))
	must(t, a.SetPeers([]Peer{{PublicKey: b.PublicKey(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(addr(infraPrefix, 2), 128)}}}))
	at := netip.AddrPortFrom(addr(infraPrefix, 1), 7379)
	l, err := a.ListenTCP(at)
	must(t, err)
	echo(t, l)
	pingPong(t, dial(t, b, netip.Addr{}, at), 3)
}

func TestListensOnlyWhereTold(t *testing.T) {
	d := newTestDevice(t, Config{})
	if a := d.ListenPort(); a.Addr() != netip.MustParseAddr("127.0.0.1") || a.Port() == 0 {
		t.Fatalf("listens on %s", a)
	}
	// The port is free on other addresses of this host.
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: int(d.ListenPort().Port())})
	must(t, err)
	c.Close()
}

func TestTakenPort(t *testing.T) {
	d := newTestDevice(t, Config{})
	if _, err := New(Config{PrivateKey: newKey(t), Listen: d.ListenPort(), Filter: newTestFilter(t, nodeRules)}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{PrivateKey: newKey(t), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Filter: newTestFilter(t, nodeRules)}
	for name, spoil := range map[string]func(*Config){
		"no key":     func(c *Config) { c.PrivateKey = PrivateKey{} },
		"no filter":  func(c *Config) { c.Filter = nil },
		"no address": func(c *Config) { c.Listen = netip.AddrPort{} },
		"small MTU":  func(c *Config) { c.MTU = 1279 },
		"RTO":        func(c *Config) { c.MinRTO = time.Minute },
		"IPv4":       func(c *Config) { c.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.1")} },
	} {
		c := good
		spoil(&c)
		if d, err := New(c); err == nil {
			d.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestLossyTransfer moves a value through a path that loses and reorders.
func TestLossyTransfer(t *testing.T) {
	a, b, _ := far(t, wan.Conditions{Delay: 5 * time.Millisecond, Loss: 0.005, Reorder: 0.005, Duplicate: 0.005})
	client, server := connect(t, a, b)
	want := bytes.Repeat([]byte("0123456789abcdef"), 128<<10/16)
	got := make(chan []byte, 1)
	go func() {
		all := make([]byte, 0, len(want))
		buf := make([]byte, 32<<10)
		for len(all) < len(want) {
			n, err := server.Read(buf)
			if err != nil {
				break
			}
			all = append(all, buf[:n]...)
		}
		got <- all
	}()
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, want) {
		t.Error("arrived differently")
	}
}

// TestCutAndHeal cuts the path and wants the same connection to go on soon after.
func TestCutAndHeal(t *testing.T) {
	a, b, r := far(t, wan.Conditions{Delay: 5 * time.Millisecond})
	l, err := b.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 2), 6000))
	must(t, err)
	echo(t, l)
	c := dial(t, a, netip.Addr{}, netip.AddrPortFrom(addr(infraPrefix, 2), 6000))
	pingPong(t, c, 3)
	r.Cut("b")
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	must(t, c.SetReadDeadline(time.Now().Add(400*time.Millisecond)))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("answered through the cut")
	}
	r.Heal("b")
	start := time.Now()
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("went on %s after the cut had healed", d)
	}
}

func TestClosePeer(t *testing.T) {
	a, b := pair(t)
	client, server := connect(t, a, b)
	if n := b.ClosePeer(addr(infraPrefix, 9)); n != 0 {
		t.Errorf("closed %d connections with nobody", n)
	}
	if n := b.ClosePeer(addr(infraPrefix, 1)); n != 1 {
		t.Errorf("closed %d connections", n)
	}
	for _, c := range []net.Conn{client, server} {
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after ClosePeer: %v", err)
		}
	}
	if n := b.ClosePeer(addr(infraPrefix, 1)); n != 0 {
		t.Errorf("closed %d connections again", n)
	}
}

// TestRevokedPeer loses its connections with its key.
func TestRevokedPeer(t *testing.T) {
	a, b := pair(t)
	client, server := connect(t, a, b)
	start := time.Now()
	must(t, b.SetPeers(nil))
	for _, c := range []net.Conn{client, server} {
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the peer was revoked: %v", err)
		}
	}
	if d := time.Since(start); d > 5*time.Second { // a second is the goal; the machine may be busy
		t.Errorf("the connections ended %s after the peer was revoked", d)
	}
}

func TestConnsPerPeer(t *testing.T) {
	node := newTestDevice(t, Config{Addrs: []netip.Addr{addr(orgA, 100)}, ConnsPerPeer: 2})
	peer := newTestDevice(t, Config{Addrs: []netip.Addr{addr(orgA, 1)}, Filter: newTestFilter(t, FilterRules{Role: RolePeer, Orgs: []netip.Prefix{orgA}})})
	must(t, node.SetPeers([]Peer{asPeer(peer, addr(orgA, 1))}))
	must(t, peer.SetPeers([]Peer{asPeer(node, addr(orgA, 100))}))
	at := netip.AddrPortFrom(addr(orgA, 100), 6379)
	l, err := node.ListenTCP(at)
	must(t, err)
	echo(t, l)
	first := dial(t, peer, netip.Addr{}, at)
	pingPong(t, first, 1)
	pingPong(t, dial(t, peer, netip.Addr{}, at), 1)
	third := dial(t, peer, netip.Addr{}, at)
	must(t, third.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := third.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a third connection: %v", err)
	}
	if n := node.ConnsRefused(); n != 1 {
		t.Errorf("%d connections refused", n)
	}
	// One that ends makes room, as soon as the node has seen its end.
	must(t, first.Close())
	deadline := time.Now().Add(10 * time.Second)
	for {
		c := dial(t, peer, netip.Addr{}, at)
		must(t, c.SetDeadline(deadline))
		if _, err := c.Write([]byte("x")); err == nil {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no room after one connection has ended")
		}
	}
}

func TestParseTunnel(t *testing.T) {
	for in, want := range map[string]Tunnel{"": TunnelAuto, "auto": TunnelAuto, "tun": TunnelTUN, "userspace": TunnelUserspace} {
		if got, err := ParseTunnel(in); err != nil || got != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
	if _, err := ParseTunnel("kernel"); err == nil || err.Error() != `tunnel "kernel": use auto, tun or userspace` {
		t.Error(err)
	}
}
