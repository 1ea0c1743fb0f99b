package mesh

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// gaps measures the longest time between two answers on a connection while something happens.
func gaps(t testing.TB, c net.Conn, happen func()) (usual, longest time.Duration) {
	t.Helper()
	pingPong(t, c, 100)
	start := time.Now()
	pingPong(t, c, 100)
	usual = time.Since(start) / 100
	done := make(chan struct{})
	go func() {
		defer close(done)
		happen()
	}()
	after := 0
	for after < 100 {
		start := time.Now()
		pingPong(t, c, 1)
		longest = max(longest, time.Since(start))
		select {
		case <-done:
			after++
		default:
		}
	}
	return usual, longest
}

// strangers are peers that never come.
func strangers(t testing.TB, n int) []Peer {
	t.Helper()
	peers := make([]Peer, n)
	for i := range peers {
		a := addr(orgA, 0).As16()
		a[13], a[14], a[15] = 1, byte(i>>8), byte(i)
		peers[i] = Peer{PublicKey: newKey(t).Public(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom16(a), 128)}, Keepalive: -1}
	}
	return peers
}

// allow is how long a gap may be here: the race detector and a busy machine make everything longer. What it
// is on a quiet one is BenchmarkGaps' matter.
func allow(usual, gap time.Duration) time.Duration { return max(20*gap, 50*usual) }

func TestManyPeersComeAndGo(t *testing.T) {
	a, b := pair(t)
	client, server := connect(t, a, b)
	go echoConn(server)
	with := append([]Peer{asPeer(a, addr(infraPrefix, 1))}, strangers(t, 200)...)
	usual, longest := gaps(t, client, func() {
		if err := b.SetPeers(with); err != nil {
			t.Error(err)
		}
		if err := b.SetPeers(with[:1]); err != nil {
			t.Error(err)
		}
	})
	t.Logf("usually %s, longest gap %s", usual, longest)
	if most := allow(usual, 20*time.Millisecond); longest > most {
		t.Errorf("a gap of %s, allowed are %s", longest, most)
	}
}

// rotate gives the second of two nodes a new key, and measures the gap in a conversation that goes on.
func rotate(t testing.TB) time.Duration {
	t.Helper()
	a, b := pair(t)
	client, server := connect(t, a, b)
	go echoConn(server)
	fresh := newKey(t)
	_, longest := gaps(t, client, func() {
		if err := b.SetPrivateKey(fresh); err != nil {
			t.Error(err)
		}
		p := asPeer(b, addr(infraPrefix, 2))
		if err := a.SetPeers([]Peer{p}); err != nil {
			t.Error(err)
		}
	})
	if s := a.Stats(); len(s) != 1 || s[0].PublicKey != fresh.Public() {
		t.Errorf("%+v", s)
	}
	return longest
}

func TestKeyRotation(t *testing.T) {
	took := rotate(t)
	t.Logf("the new key took over in %s", took)
	if took > 5*time.Second {
		t.Errorf("the new key took over in %s", took)
	}
}

// TestKeyRotationUnderLoad gives a node that sends all the time one key after the other.
func TestKeyRotationUnderLoad(t *testing.T) {
	a, b := pair(t)
	there, here := connect(t, a, b)
	must(t, b.SetPeers(append([]Peer{asPeer(a, addr(infraPrefix, 1))}, strangers(t, 200)...)))
	go func() { _, _ = io.Copy(io.Discard, there) }()
	var wg sync.WaitGroup
	wg.Go(func() {
		for { // until the connection is closed
			if _, err := here.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	defer wg.Wait()
	defer here.Close()
	for range 20 {
		fresh := newKey(t)
		old := asPeer(b, addr(infraPrefix, 2))
		next := old
		next.PublicKey, next.AllowedIPs, next.Keepalive = fresh.Public(), nil, -1
		must(t, a.SetPeers([]Peer{old, next}))
		began := time.Now()
		must(t, b.SetPrivateKey(fresh))
		eventually(t, func() bool {
			return slices.ContainsFunc(a.Stats(), func(s PeerStats) bool { return s.PublicKey == fresh.Public() && !s.LastHandshake.IsZero() })
		}, "a handshake with the new key")
		if took := time.Since(began); took > 3*time.Second { // WireGuard tries again after 5
			t.Fatalf("a handshake with the new key took %s", took)
		}
		must(t, a.SetPeers([]Peer{asPeer(b, addr(infraPrefix, 2))}))
	}
}

// How a node that starts anew knows where another one is.
type knows int

const (
	knowsNothing  knows = iota
	knowsEndpoint       // by configuration
	knowsHeard          // as it was before
)

// restart ends a node and starts it again, with the same key and port, and measures how long the others are without it.
func restart(t testing.TB, knows knows) time.Duration {
	t.Helper()
	a := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 1)}})
	key := newKey(t)
	b := newTestDevice(t, Config{PrivateKey: key, Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	listen := b.ListenPort()
	fromA := asPeer(a, addr(infraPrefix, 1))
	if knows != knowsEndpoint {
		fromA.Endpoint = netip.AddrPort{}
	}
	must(t, a.SetPeers([]Peer{asPeer(b, addr(infraPrefix, 2))}))
	must(t, b.SetPeers([]Peer{fromA}))
	var here net.PacketConn
	here, err := a.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 1), ProbePort))
	must(t, err)
	defer here.Close()
	answers := func(d *Device) {
		there, err := d.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, 2), ProbePort))
		must(t, err)
		go func() {
			buf := make([]byte, 64)
			for {
				n, from, err := there.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = there.WriteTo(buf[:n], from)
			}
		}()
		t.Cleanup(func() { there.Close() })
	}
	probe := func() time.Duration {
		start := time.Now()
		for time.Since(start) < 20*time.Second {
			_, err := here.WriteTo([]byte("probe"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(infraPrefix, 2), ProbePort)))
			must(t, err)
			must(t, here.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			if _, _, err := here.ReadFrom(make([]byte, 64)); err == nil {
				break
			}
		}
		return time.Since(start)
	}
	answers(b)
	probe()
	heard := b.Heard()
	must(t, b.Close())
	// WireGuard takes no two handshakes of a peer within 20 ms; no process restarts that fast.
	<-time.After(40 * time.Millisecond)
	b = newTestDevice(t, Config{PrivateKey: key, Listen: listen, Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	answers(b)
	must(t, b.SetPeers([]Peer{fromA}))
	if knows == knowsHeard {
		b.Recall(t.Context(), heard)
	}
	return probe()
}

func TestRestartedNode(t *testing.T) {
	for _, k := range []knows{knowsEndpoint, knowsHeard} {
		if took := restart(t, k); took > 2*time.Second {
			t.Errorf("a restarted node was found after %s", took)
		} else {
			t.Logf("a restarted node was found after %s", took)
		}
	}
	// The restarted one waits to be called: the other side has to notice, and WireGuard starts a handshake only every 5 s.
	if took := restart(t, knowsNothing); took > 10*time.Second {
		t.Errorf("a restarted node that can't call was found after %s", took)
	}
}

// BenchmarkGaps measures what the tests above allow much more for.
func BenchmarkGaps(b *testing.B) {
	for _, n := range []int{200, 1000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			x, y := pair(b)
			client, server := connect(b, x, y)
			go echoConn(server)
			with := append([]Peer{asPeer(x, addr(infraPrefix, 1))}, strangers(b, n)...)
			var worst time.Duration
			for b.Loop() {
				_, longest := gaps(b, client, func() { must(b, y.SetPeers(with)) })
				worst = max(worst, longest)
				must(b, y.SetPeers(with[:1]))
			}
			b.ReportMetric(worst.Seconds()*1000, "gap-ms")
		})
	}
	b.Run("rotation", func(b *testing.B) {
		var worst time.Duration
		for b.Loop() {
			worst = max(worst, rotate(b))
		}
		b.ReportMetric(worst.Seconds()*1000, "gap-ms")
	})
	for name, k := range map[string]knows{"restart": knowsEndpoint, "recall": knowsHeard} {
		b.Run(name, func(b *testing.B) {
			var worst time.Duration
			for b.Loop() {
				worst = max(worst, restart(b, k))
			}
			b.ReportMetric(worst.Seconds()*1000, "gap-ms")
		})
	}
}

func echoConn(c net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
