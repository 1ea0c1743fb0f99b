package mesh

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if run := os.Getenv(namespaceEnv); run != "" {
		// The child that testInNamespace started.
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

const namespaceEnv = "MESH_TEST_IN_NAMESPACE"

var (
	infraPrefix = netip.MustParsePrefix("fd00:1:1::/48")
	orgA        = netip.MustParsePrefix("fd00:a:a::/48")
	orgB        = netip.MustParsePrefix("fd00:b:b::/48")
)

// addr is the n-th address of a prefix.
func addr(p netip.Prefix, n byte) netip.Addr {
	b := p.Addr().As16()
	b[15] = n
	return netip.AddrFrom16(b)
}

func newTestFilter(t testing.TB, r FilterRules) *Filter {
	t.Helper()
	f, err := NewFilter(r)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newKey(t testing.TB) PrivateKey {
	t.Helper()
	k, err := NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var nodeRules = FilterRules{Infra: infraPrefix, Orgs: []netip.Prefix{orgA, orgB}}

func newTestDevice(t testing.TB, c Config) *Device {
	t.Helper()
	if c.PrivateKey.IsZero() {
		c.PrivateKey = newKey(t)
	}
	if !c.Listen.IsValid() {
		c.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if c.Filter == nil {
		c.Filter = newTestFilter(t, nodeRules)
	}
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func asPeer(d *Device, ips ...netip.Addr) Peer {
	p := Peer{PublicKey: d.PublicKey(), Endpoint: d.ListenPort()}
	for _, a := range ips {
		p.AllowedIPs = append(p.AllowedIPs, netip.PrefixFrom(a, 128))
	}
	return p
}

// pair is two nodes that know each other: ::1 and ::2 of the infrastructure.
func pair(t testing.TB) (a, b *Device) {
	t.Helper()
	a = newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 1)}})
	b = newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	must(t, a.SetPeers([]Peer{asPeer(b, addr(infraPrefix, 2))}))
	must(t, b.SetPeers([]Peer{asPeer(a, addr(infraPrefix, 1))}))
	return a, b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo answers on a listener with what it gets, until the listener is closed.
func echo(t testing.TB, l net.Listener) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func pingPong(t testing.TB, c net.Conn, n int) {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	msg, buf := []byte("*1\r\n$4\r\nPING\r\n"), make([]byte, 14)
	for range n {
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(buf); {
			k, err := c.Read(buf[got:])
			if err != nil {
				t.Fatal(err)
			}
			got += k
		}
		if !bytes.Equal(buf, msg) {
			t.Fatalf("got %q", buf)
		}
	}
}
