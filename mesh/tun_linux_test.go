package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestTUN runs the tests below in a network namespace of their own.
func TestTUN(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a TUN interface needs root; run the tests as root to test it")
	}
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skipf("SKIPPED: no TUN interfaces here: %v", err)
	} else {
		f.Close()
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInNamespace$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), namespaceEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skip("SKIPPED: no network namespaces here")
	case err != nil:
		t.Fatal(err)
	case !strings.Contains(string(out), "--- PASS: TestInNamespace"):
		t.Fatal("the tests in the namespace didn't run")
	}
}

func TestInNamespace(t *testing.T) {
	if os.Getenv(namespaceEnv) == "" {
		t.Skip("run by TestTUN")
	}
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	t.Run("a program of the host reaches the node", testTUNReaches)
	t.Run("closing leaves nothing", testTUNCloses)
	t.Run("without the right", testTUNNotPermitted)
	t.Run("a node", testTUNNode)
	t.Run("a node and the rest of its host", testTUNNodeIsApart)
	t.Run("a node that ends", testTUNNodeCloses)
	t.Run("an address that the host has", testTUNAddressTaken)
	t.Run("an interface that was left behind", testTUNLeftBehind)
	t.Run("auto takes what it may", testAuto)
}

var service = netip.MustParseAddr("fd00:a:a:0:1::1")

func tunPair(t *testing.T) (*Device, *TUN) {
	t.Helper()
	node := newTestDevice(t, Config{Addrs: []netip.Addr{service, addr(orgA, 3)}})
	host := addr(orgA, 9)
	tun, err := NewTUN(TUNConfig{
		Config: Config{
			PrivateKey: newKey(t),
			Listen:     netip.MustParseAddrPort("127.0.0.1:0"),
			Addrs:      []netip.Addr{host},
			Filter:     newTestFilter(t, FilterRules{Role: RolePeer, Orgs: []netip.Prefix{orgA}}),
		},
		Routes:     []netip.Prefix{orgA},
		ResolvConf: filepath.Join(t.TempDir(), "resolv.conf"),
	})
	must(t, err)
	t.Cleanup(func() { tun.Close() })
	must(t, node.SetPeers([]Peer{asPeer(tun.Device, host)}))
	must(t, tun.SetPeers([]Peer{{PublicKey: node.PublicKey(), Endpoint: node.ListenPort(), AllowedIPs: []netip.Prefix{orgA}}}))
	return node, tun
}

func testTUNReaches(t *testing.T) {
	node, tun := tunPair(t)
	at := netip.AddrPortFrom(service, 6379)
	l, err := node.ListenTCP(at)
	must(t, err)
	echo(t, l)
	// Not by the device: as any program of this host does.
	c, err := net.DialTimeout("tcp", at.String(), 10*time.Second)
	must(t, err)
	defer c.Close()
	pingPong(t, c, 200)

	nic, err := netlink.LinkByName(tun.Name())
	must(t, err)
	if nic.Attrs().MTU != DefaultMTU {
		t.Errorf("MTU %d", nic.Attrs().MTU)
	}
	routes, err := netlink.RouteListFiltered(unix.AF_INET6, &netlink.Route{LinkIndex: nic.Attrs().Index, RtoMin: 40}, netlink.RT_FILTER_OIF)
	must(t, err)
	found := false
	for _, r := range routes {
		found = found || r.Dst.String() == orgA.String() && r.RtoMin == 40
	}
	if !found {
		t.Errorf("no route to %s with a minimum RTO of 40 ms: %v", orgA, routes)
	}

	// A port that isn't declared: the peer's own filter drops it.
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if c, err := tun.DialTCP(ctx, addr(orgA, 9), netip.AddrPortFrom(service, 22)); err == nil {
		c.Close()
		t.Error("reached port 22")
	}
}

func testTUNCloses(t *testing.T) {
	_, tun := tunPair(t)
	conf := tun.dns.(resolvConf).path
	must(t, tun.SetDNS(addr(orgA, 3), "internal"))
	if b, err := os.ReadFile(conf); err != nil || !strings.HasPrefix(string(b), "nameserver fd00:a:a::3 ") {
		t.Errorf("%q, %v", b, err)
	}
	for range 2 {
		must(t, tun.Close())
	}
	if b, err := os.ReadFile(conf); err != nil || len(b) != 0 {
		t.Errorf("left behind: %q, %v", b, err)
	}
	if _, err := netlink.LinkByName(tun.Name()); err == nil {
		t.Error("the interface is still there")
	}
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
}

func testTUNNotPermitted(t *testing.T) {
	if err := tunError("x", syscall.EPERM); !errors.Is(err, ErrTUNNotPermitted) {
		t.Error(err)
	}
	_, tun := tunPair(t)
	_, err := NewTUN(TUNConfig{Config: Config{PrivateKey: newKey(t), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Filter: newTestFilter(t, nodeRules)}, Name: tun.Name()})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second interface of the same name: %v", err)
	}
}

// tunNode is a node over the kernel, and another one in userspace: ::1 and ::2 of the infrastructure.
func tunNode(t *testing.T) (k, u *Device) {
	t.Helper()
	k, err := Open(Config{
		Tunnel: TunnelTUN, PrivateKey: newKey(t), Listen: netip.MustParseAddrPort("127.0.0.1:0"),
		Addrs: []netip.Addr{addr(infraPrefix, 1), service}, Filter: newTestFilter(t, nodeRules), ConnsPerPeer: 3,
	})
	must(t, err)
	t.Cleanup(func() { k.Close() })
	u = newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	must(t, k.SetPeers([]Peer{asPeer(u, addr(infraPrefix, 2))}))
	must(t, u.SetPeers([]Peer{asPeer(k, addr(infraPrefix, 1))}))
	return k, u
}

func testTUNNode(t *testing.T) {
	k, u := tunNode(t)
	if k.Kind() != TunnelTUN || k.Interface() != "respmesh0" || u.Kind() != TunnelUserspace || u.Interface() != "" {
		t.Errorf("%s %q, %s %q", k.Kind(), k.Interface(), u.Kind(), u.Interface())
	}
	for i, c := range []struct {
		from, to *Device
		src, dst netip.Addr
	}{{u, k, addr(infraPrefix, 2), addr(infraPrefix, 1)}, {k, u, addr(infraPrefix, 1), addr(infraPrefix, 2)}, {k, u, netip.Addr{}, addr(infraPrefix, 2)}} {
		at := netip.AddrPortFrom(c.dst, uint16(7379+i))
		l, err := c.to.ListenTCP(at)
		must(t, err)
		echo(t, l)
		conn := dial(t, c.from, c.src, at)
		pingPong(t, conn, 50)
		if got := remoteAddr(conn); got != c.dst {
			t.Errorf("connected to %s", got)
		}
		if n := c.from.ClosePeer(c.dst); n != 1 {
			t.Errorf("ClosePeer ended %d connections", n)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection goes on after ClosePeer")
		}
		l.Close()
	}
	pk, err := k.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 1), ProbePort))
	must(t, err)
	defer pk.Close()
	pu, err := u.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 2), ProbePort))
	must(t, err)
	defer pu.Close()
	for _, way := range [][2]net.PacketConn{{pk, pu}, {pu, pk}} {
		_, err := way[0].WriteTo([]byte("hello"), way[1].LocalAddr())
		must(t, err)
		must(t, way[1].SetReadDeadline(time.Now().Add(10*time.Second)))
		n, _, err := way[1].ReadFrom(make([]byte, 64))
		if err != nil || n != 5 {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	// A peer that goes takes its route with it.
	must(t, k.SetPeers(nil))
	nic, err := netlink.LinkByName("respmesh0")
	must(t, err)
	routes, err := netlink.RouteListFiltered(unix.AF_INET6, &netlink.Route{LinkIndex: nic.Attrs().Index}, netlink.RT_FILTER_OIF)
	must(t, err)
	for _, r := range routes {
		if r.Dst != nil && r.Dst.String() == infraPrefix.String() {
			t.Errorf("route %v is left", r)
		}
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/respmesh0/forwarding"); err == nil && strings.TrimSpace(string(b)) != "0" {
		t.Errorf("forwarding is %s", b)
	}
}

// testTUNNodeIsApart has programs of a node's host, and a peer, try what only the node may.
func testTUNNodeIsApart(t *testing.T) {
	k, u := tunNode(t)
	closed := func(d Direction) uint64 { return k.filter.Drops(d, Closed) }
	// A peer of an organisation, and a program of the host that listens everywhere at a service's port.
	peer := newTestDevice(t, Config{Addrs: []netip.Addr{addr(orgA, 1)}, Filter: newTestFilter(t, FilterRules{Role: RolePeer, Orgs: []netip.Prefix{orgA}})})
	must(t, k.SetPeers([]Peer{asPeer(u, addr(infraPrefix, 2)), asPeer(peer, addr(orgA, 1))}))
	must(t, peer.SetPeers([]Peer{{PublicKey: k.PublicKey(), Endpoint: k.ListenPort(), AllowedIPs: []netip.Prefix{orgA}}}))
	host, err := net.Listen("tcp6", "[::]:6379")
	must(t, err)
	before := closed(Inbound)
	refused(t, peer, addr(orgA, 1), netip.AddrPortFrom(service, 6379))
	if closed(Inbound) == before {
		t.Error("a program of the host was reached, or it wasn't the guard that kept it apart")
	}
	must(t, host.Close())
	gateway, err := k.ListenTCP(netip.AddrPortFrom(service, 6379))
	must(t, err)
	echo(t, gateway)
	for range 3 {
		pingPong(t, dial(t, peer, addr(orgA, 1), netip.AddrPortFrom(service, 6379)), 3)
	}
	// The fourth is above ConnsPerPeer.
	if c, err := peer.DialTCP(t.Context(), addr(orgA, 1), netip.AddrPortFrom(service, 6379)); err == nil {
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("more connections than a peer may have: %v", err)
		}
		c.Close()
	}
	// A program of the host as a client, of this node and of the other one.
	links, err := u.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 2), 7379))
	must(t, err)
	echo(t, links)
	before = closed(Outbound)
	d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr(infraPrefix, 1), 0))}
	if c, err := d.Dial("tcp6", links.Addr().String()); err == nil {
		c.Close()
		t.Error("a program of the host connected to another node in the name of this one")
	}
	if closed(Outbound) == before {
		t.Error("not dropped by the guard")
	}
	if c, err := net.DialTimeout("tcp6", gateway.Addr().String(), time.Second); err == nil {
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a program of the host is served by the gateway: %v", err)
		}
		c.Close()
	}
	// What comes in elsewhere, here by loopback, isn't for the node either.
	probes, err := k.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 1), ProbePort))
	must(t, err)
	defer probes.Close()
	// Removing the peer ends its connections.
	c := dial(t, k, addr(infraPrefix, 1), netip.AddrPortFrom(addr(infraPrefix, 2), 7379))
	pingPong(t, c, 1)
	must(t, k.SetPeers([]Peer{asPeer(peer, addr(orgA, 1))}))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a removed peer's connection goes on")
	}
}

func testTUNNodeCloses(t *testing.T) {
	k, u := tunNode(t)
	l, err := k.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 1), 7379))
	must(t, err)
	accepted := make(chan net.Conn, 1)
	ended := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		must(t, err)
		accepted <- c
		_, err = l.Accept()
		ended <- err
	}()
	dial(t, u, netip.Addr{}, netip.AddrPortFrom(addr(infraPrefix, 1), 7379))
	server := <-accepted
	for range 2 {
		must(t, k.Close())
	}
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives its device")
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed device: %v", err)
	}
	if _, err := k.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 1), 7379)); err == nil {
		t.Error("listens on a closed device")
	}
	if _, err := netlink.LinkByName("respmesh0"); err == nil {
		t.Error("the interface is still there")
	}
}

func testTUNAddressTaken(t *testing.T) {
	tunNode(t)
	c := Config{Tunnel: TunnelTUN, PrivateKey: newKey(t), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Addrs: []netip.Addr{service}, Filter: newTestFilter(t, nodeRules)}
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "this host has it already, on interface respmesh0") {
		t.Errorf("an address of another interface: %v", err)
	}
	c.Addrs, c.Interface = nil, "a-name-far-too-long"
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "at most 15 bytes") {
		t.Errorf("a long name: %v", err)
	}
	c.Interface = ""
	d, err := Open(c)
	must(t, err)
	defer d.Close()
	if d.Interface() != "respmesh1" {
		t.Errorf("the second interface is %s", d.Interface())
	}
}

// testAuto gives up the right to make interfaces for a moment.
func testAuto(t *testing.T) {
	c := Config{PrivateKey: newKey(t), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Addrs: []netip.Addr{service}, Filter: newTestFilter(t, nodeRules)}
	d, err := Open(c)
	must(t, err)
	if d.Kind() != TunnelTUN {
		t.Errorf("with the right: %s", d.Kind())
	}
	must(t, d.Close())

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	must(t, unix.Capget(&header, &had[0]))
	less := had
	less[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	must(t, unix.Capset(&header, &less[0]))
	defer func() { must(t, unix.Capset(&header, &had[0])) }()
	d, err = Open(c)
	must(t, err)
	defer d.Close()
	if d.Kind() != TunnelUserspace {
		t.Errorf("without the right: %s", d.Kind())
	}
	c.Tunnel = TunnelTUN
	if _, err := Open(c); !errors.Is(err, ErrTUNNotPermitted) {
		t.Errorf("asked for a TUN without the right: %v", err)
	}
}

// testTUNLeftBehind finds a persistent interface of the name, with an address of another time.
func testTUNLeftBehind(t *testing.T) {
	left := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "respmesh0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR}
	must(t, netlink.LinkAdd(left))
	defer func() { must(t, netlink.LinkDel(left)) }()
	must(t, netlink.AddrAdd(left, hostAddr(addr(orgB, 77))))
	c := Config{Tunnel: TunnelTUN, PrivateKey: newKey(t), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Addrs: []netip.Addr{service}, Filter: newTestFilter(t, nodeRules)}
	other, err := Open(c) // takes a free name
	must(t, err)
	if other.Interface() != "respmesh1" {
		t.Errorf("took %s", other.Interface())
	}
	must(t, other.Close())
	c.Interface = "respmesh0"
	d, err := Open(c)
	must(t, err)
	defer d.Close()
	nic, err := netlink.LinkByName("respmesh0")
	must(t, err)
	addrs, err := netlink.AddrList(nic, unix.AF_INET6)
	must(t, err)
	for _, a := range addrs {
		if a.IP.Equal(addr(orgB, 77).AsSlice()) {
			t.Error("the old address is left")
		}
	}
	l, err := d.ListenTCP(netip.AddrPortFrom(service, 6379))
	must(t, err)
	must(t, l.Close())
}
