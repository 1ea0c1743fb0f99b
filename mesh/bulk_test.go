package mesh

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"respmesh/mesh/wan"
)

// far is two nodes with a relay between them, with half of rtt each way.
func far(t testing.TB, c wan.Conditions) (a, b *Device, r *wan.Relay) {
	t.Helper()
	a = newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 1)}})
	b = newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	r = wan.New(wan.Options{Seed: 1})
	t.Cleanup(func() { r.Close() })
	bForA, aForB, err := r.Path("a", "b", a.ListenPort(), b.ListenPort())
	must(t, err)
	must(t, r.Set("a", "b", c))
	must(t, r.Set("b", "a", c))
	pa, pb := asPeer(a, addr(infraPrefix, 1)), asPeer(b, addr(infraPrefix, 2))
	pa.Endpoint, pb.Endpoint = aForB, bForA
	must(t, a.SetPeers([]Peer{pb}))
	must(t, b.SetPeers([]Peer{pa}))
	return a, b, r
}

// connect opens a connection from a to b; the server's end comes second.
func connect(t testing.TB, a, b *Device) (client, server net.Conn) {
	t.Helper()
	at := netip.AddrPortFrom(addr(infraPrefix, 2), 7379)
	l, err := b.ListenTCP(at)
	must(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client, err = a.DialTCP(ctx, addr(infraPrefix, 1), at)
	must(t, err)
	server, err = l.Accept()
	must(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// transfer moves n bytes and says how long that took, until the last has arrived.
func transfer(t testing.TB, from, to net.Conn, n int64) time.Duration {
	t.Helper()
	start := time.Now()
	sent := make(chan error, 1)
	go func() {
		buf := make([]byte, 256<<10)
		for left := n; left > 0; {
			k, err := from.Write(buf[:min(left, int64(len(buf)))])
			if err != nil {
				sent <- err
				return
			}
			left -= int64(k)
		}
		sent <- nil
	}()
	if _, err := io.CopyN(io.Discard, to, n); err != nil {
		t.Fatal(err)
	}
	must(t, <-sent)
	return time.Since(start)
}

// TestBigValueFarAway moves 16 MB over 220 ms. How fast is BenchmarkFarAway's matter.
func TestBigValueFarAway(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 16 MB")
	}
	const size = 16 << 20
	a, b, r := far(t, wan.Conditions{Delay: 110 * time.Millisecond})
	client, server := connect(t, a, b)
	must(t, client.SetDeadline(time.Now().Add(2*time.Minute)))
	must(t, server.SetDeadline(time.Now().Add(2*time.Minute)))
	d := transfer(t, client, server, size)
	t.Logf("%.1f MB/s", size/1e6/d.Seconds())
	if s := r.Stats("a", "b"); s.Overflow > 0 {
		t.Errorf("the relay dropped: %+v", s)
	}
}

// BenchmarkFarAway moves 64 MB per operation over 220 ms; the first one starts slowly.
func BenchmarkFarAway(b *testing.B) {
	x, y, _ := far(b, wan.Conditions{Delay: 110 * time.Millisecond})
	client, server := connect(b, x, y)
	b.SetBytes(64 << 20)
	for b.Loop() {
		transfer(b, client, server, 64<<20)
	}
}
