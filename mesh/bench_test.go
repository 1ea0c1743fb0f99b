package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	wgdevice "golang.zx2c4.com/wireguard/device"
	wgnetstack "golang.zx2c4.com/wireguard/tun/netstack"

	"respmesh/mesh/wan"
)

// ends are two ends of a tunnel: how to listen at one and to dial from the other.
type ends struct {
	listen func(port uint16) (net.Listener, error)
	dial   func(port uint16) (net.Conn, error)
}

func ownEnds(b *testing.B) ends {
	x, y := pair(b)
	return ends{
		listen: func(port uint16) (net.Listener, error) {
			return y.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 2), port))
		},
		dial: func(port uint16) (net.Conn, error) {
			return x.DialTCP(context.Background(), netip.Addr{}, netip.AddrPortFrom(addr(infraPrefix, 2), port))
		},
	}
}

// stockEnds is WireGuard's own netstack and Bind, as its examples use them.
func stockEnds(b *testing.B) ends {
	var nets [2]*wgnetstack.Net
	var devs [2]*wgdevice.Device
	keys := []PrivateKey{newKey(b), newKey(b)}
	var ports [2]uint16
	for i := range devs {
		t, n, err := wgnetstack.CreateNetTUN([]netip.Addr{addr(infraPrefix, byte(i+1))}, nil, DefaultMTU)
		must(b, err)
		nets[i] = n
		devs[i] = wgdevice.NewDevice(t, newHandshakes(conn.NewDefaultBind(), nil), wgLogger(slog.New(slog.DiscardHandler)))
		b.Cleanup(devs[i].Close)
		must(b, devs[i].IpcSet("private_key="+keys[i].hex()+"\n"))
		must(b, devs[i].Up())
		state, err := devs[i].IpcGet()
		must(b, err)
		ports[i], _ = parseState(state)
	}
	for i := range devs {
		must(b, devs[i].IpcSet(fmt.Sprintf("public_key=%s\nendpoint=127.0.0.1:%d\nallowed_ip=%s/128\n",
			keys[1-i].Public().hex(), ports[1-i], addr(infraPrefix, byte(2-i)))))
	}
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(addr(infraPrefix, 2), port) }
	return ends{
		listen: func(port uint16) (net.Listener, error) { return nets[1].ListenTCPAddrPort(at(port)) },
		dial: func(port uint16) (net.Conn, error) {
			return nets[0].DialContextTCPAddrPort(context.Background(), at(port))
		},
	}
}

func benchBoth(b *testing.B, run func(*testing.B, ends)) {
	b.Run("own", func(b *testing.B) { run(b, ownEnds(b)) })
	b.Run("stock", func(b *testing.B) { run(b, stockEnds(b)) })
}

func BenchmarkPingPong(b *testing.B) {
	benchBoth(b, func(b *testing.B, e ends) {
		l, err := e.listen(7000)
		must(b, err)
		echo(b, l)
		c, err := e.dial(7000)
		must(b, err)
		defer c.Close()
		pingPong(b, c, 10)
		b.ReportAllocs()
		for b.Loop() {
			pingPong(b, c, 1)
		}
	})
}

// Benchmark50Connections has 50 connections ask at the same time.
func Benchmark50Connections(b *testing.B) {
	benchBoth(b, func(b *testing.B, e ends) {
		l, err := e.listen(7000)
		must(b, err)
		echo(b, l)
		const conns = 50
		var cs []net.Conn
		for range conns {
			c, err := e.dial(7000)
			must(b, err)
			defer c.Close()
			pingPong(b, c, 1)
			cs = append(cs, c)
		}
		b.ReportAllocs()
		b.ResetTimer()
		var wg sync.WaitGroup
		for i, c := range cs {
			n := b.N / conns
			if i < b.N%conns {
				n++
			}
			wg.Go(func() { pingPong(b, c, n) })
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	})
}

// BenchmarkBulk moves 8 MB per operation over one connection.
func BenchmarkBulk(b *testing.B) {
	benchBoth(b, func(b *testing.B, e ends) {
		const size = 8 << 20
		l, err := e.listen(7000)
		must(b, err)
		defer l.Close()
		client, err := e.dial(7000)
		must(b, err)
		defer client.Close()
		server, err := l.Accept()
		must(b, err)
		defer server.Close()
		b.SetBytes(size)
		for b.Loop() {
			transfer(b, client, server, size)
		}
	})
}

// BenchmarkTail asks on 50 connections over 20 ms with 1 % loss each way; what
// counts is p99.
func BenchmarkTail(b *testing.B) {
	x, y, _ := far(b, wan.Conditions{Delay: 10 * time.Millisecond, Loss: 0.01})
	at := netip.AddrPortFrom(addr(infraPrefix, 2), 7000)
	l, err := y.ListenTCP(at)
	must(b, err)
	echo(b, l)
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	const conns = 50
	for range conns {
		c := dial(b, x, netip.Addr{}, at)
		wg.Go(func() {
			for range max(1, b.N/conns) {
				start := time.Now()
				pingPong(b, c, 1)
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
}
