// Command forward measures what sharing links is worth: clients of a region without a copy, whose commands all cross a userspace
// WireGuard tunnel on loopback. It compares the gateway, which sends them over a few shared links, with a relay that opens one TCP
// connection through the same tunnel for each client, to the same primary, and prints Markdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"respmesh/mesh"
	"respmesh/proxy"
	"respmesh/proxy/poll"
	"respmesh/resp/frame"
	"respmesh/store/embedded"
	"respmesh/test/bench/figures"
)

const (
	linkPort   = 7000
	clientPort = 6379
)

func main() {
	var o options
	flag.IntVar(&o.clients, "clients", 50, "connections")
	flag.IntVar(&o.repeats, "repeats", 5, "runs of each, alternating")
	flag.DurationVar(&o.time, "time", time.Second, "of a run")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1)
	}
}

type options struct {
	clients, repeats int
	time             time.Duration
}

// ends are two devices that know each other.
func ends() (a, b *mesh.Device, err error) {
	addrs := []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}
	var devices [2]*mesh.Device
	for i := range devices {
		key, err := mesh.NewPrivateKey()
		if err != nil {
			return nil, nil, err
		}
		filter, err := mesh.NewFilter(mesh.FilterRules{Infra: netip.MustParsePrefix("fd00::/48")})
		if err != nil {
			return nil, nil, err
		}
		if devices[i], err = mesh.Open(mesh.Config{
			PrivateKey: key, Tunnel: mesh.TunnelUserspace, Filter: filter, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Addrs: addrs[i : i+1],
		}); err != nil {
			return nil, nil, err
		}
	}
	for i, d := range devices {
		other := devices[1-i]
		if err := d.SetPeers([]mesh.Peer{{
			PublicKey: other.PublicKey(), Endpoint: other.ListenPort(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(addrs[1-i], 128)},
		}}); err != nil {
			return nil, nil, err
		}
	}
	return devices[0], devices[1], nil
}

// way is what a gateway needs of the mesh.
type way struct{ d *mesh.Device }

func (w way) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return w.d.DialTCP(ctx, netip.Addr{}, netip.AddrPortFrom(netip.MustParseAddr("fd00::1"), linkPort))
}
func (way) RTT(string) (time.Duration, bool) { return time.Millisecond, true }
func (way) Changed() <-chan struct{}         { return nil }

type fixed struct{ t *proxy.Topology }

func (f fixed) Current() (*proxy.Topology, <-chan struct{}) { return f.t, nil }

type store struct{ *embedded.Engine }

func (s store) NewConn(push func([]byte)) proxy.StoreConn {
	return s.Engine.NewConn(embedded.ConnOptions{Push: push})
}
func (s store) State() proxy.StoreState                   { return proxy.StoreState{Primary: true, Usable: true} }
func (s store) Wait(context.Context, string, int64) error { return nil }
func (s store) Position() (string, int64)                 { return "one", 1 }

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, b, err := ends()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	topology := fixed{&proxy.Topology{Revision: 1, Primary: "a", Members: []proxy.Member{{Node: "a", Region: "mad"}, {Node: "b", Region: "ams"}}}}
	data := store{embedded.New(embedded.Options{})}
	at := netip.MustParseAddr("fd00::1")
	links, err := a.ListenTCP(netip.AddrPortFrom(at, linkPort))
	if err != nil {
		return err
	}
	direct, err := a.ListenTCP(netip.AddrPortFrom(at, clientPort))
	if err != nil {
		return err
	}
	primary, err := proxy.New(proxy.Options{Org: "o", Database: "d", Node: "a", Region: "mad", Mesh: way{a}, Source: topology, Store: data})
	if err != nil {
		return err
	}
	loops, err := poll.Start(1) // as a node of two processors has
	if err != nil {
		return err
	}
	defer loops.Close()
	gateway, err := proxy.New(proxy.Options{Org: "o", Database: "d", Node: "b", Region: "ams", Mesh: way{b}, Source: topology, Loops: loops})
	if err != nil {
		return err
	}
	clients, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	each, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := proxy.NewLinkServer(proxy.LinkOptions{Lookup: func(string, string) (proxy.Store, bool) { return data, true }})
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(ctx, links) })
	wg.Go(func() { _ = primary.Serve(ctx, direct) })
	wg.Go(func() { _ = gateway.Serve(ctx, clients) })
	wg.Go(func() { relay(each, b) })
	defer func() {
		each.Close()
		end, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		_ = errors.Join(gateway.Close(end), primary.Close(end))
		cancel()
		wg.Wait()
	}()
	fmt.Printf("%d connections, 64-byte values, commands per second: median (lowest – highest) of %d runs, alternating.\n\n", o.clients, o.repeats)
	fmt.Println("| | respmesh: shared links | a connection each | |\n|---|---|---|---|")
	for _, depth := range []int{1, 16} {
		for _, name := range []string{"GET", "SET"} {
			var shared, single []float64
			for range o.repeats {
				for _, m := range []struct {
					addr string
					into *[]float64
				}{{clients.Addr().String(), &shared}, {each.Addr().String(), &single}} {
					rate, err := load(m.addr, name, depth, o)
					if err != nil {
						return err
					}
					*m.into = append(*m.into, rate)
				}
			}
			say := func(runs []float64) string { return figures.Spread(runs, figures.Format("%.0f")) }
			fmt.Printf("| %s, P=%d | %s | %s | × %.2f |\n", name, depth, say(shared), say(single), figures.Median(shared)/figures.Median(single))
		}
	}
	return nil
}

// relay gives each client a connection of its own through the tunnel.
func relay(ln net.Listener, d *mesh.Device) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer conn.Close()
			far, err := d.DialTCP(context.Background(), netip.Addr{}, netip.AddrPortFrom(netip.MustParseAddr("fd00::1"), clientPort))
			if err != nil {
				return
			}
			defer far.Close()
			wg.Go(func() { _, _ = io.Copy(far, conn); far.Close() })
			_, _ = io.Copy(conn, far)
		})
	}
}

// load has all clients ask for a while.
func load(addr, name string, depth int, o options) (perSecond float64, err error) {
	var out []byte
	value := make([]byte, 64)
	for range depth {
		if name == "SET" {
			out = frame.AppendCommand(out, []byte("SET"), []byte("key"), value)
		} else {
			out = frame.AppendCommand(out, []byte("GET"), []byte("key"))
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var total int
	began := time.Now()
	for range o.clients {
		wg.Go(func() {
			n, e := ask(addr, out, depth, began.Add(o.time))
			mu.Lock()
			defer mu.Unlock()
			total += n
			err = errors.Join(err, e)
		})
	}
	wg.Wait()
	return float64(total) / time.Since(began).Seconds(), err
}

func ask(addr string, out []byte, depth int, until time.Time) (n int, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	r := frame.NewReader(conn)
	var p frame.Reply
	for time.Now().Before(until) {
		if _, err := conn.Write(out); err != nil {
			return n, err
		}
		for range depth {
			if err := r.ReadReply(&p); err != nil {
				return n, err
			}
			if p.IsError() {
				return n, fmt.Errorf("%s", p.Text())
			}
		}
		n += depth
	}
	return n, nil
}
