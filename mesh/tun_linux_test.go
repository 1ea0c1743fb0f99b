package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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
