package rules

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/mesh"
	"respmesh/mesh/wan"
	"respmesh/proxy"
)

// relayed has one node reach another through WireGuard and a relay, which loses what it is told to.
func (h *house) relayed(self, to string) *wan.Relay {
	h.t.Helper()
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	infra := netip.MustParsePrefix("fd00:1:1::/48")
	at := [2]netip.Addr{netip.MustParseAddr("fd00:1:1::1"), netip.MustParseAddr("fd00:1:1::2")}
	var devices [2]*mesh.Device
	for i := range devices {
		key, err := mesh.NewPrivateKey()
		must(err)
		filter, err := mesh.NewFilter(mesh.FilterRules{Infra: infra})
		must(err)
		d, err := mesh.New(mesh.Config{PrivateKey: key, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Addrs: at[i : i+1], Filter: filter})
		must(err)
		h.t.Cleanup(func() { d.Close() })
		devices[i] = d
	}
	relay := wan.New(wan.Options{Seed: 1})
	h.t.Cleanup(func() { relay.Close() })
	second, first, err := relay.Path(self, to, devices[0].ListenPort(), devices[1].ListenPort())
	must(err)
	for i, endpoint := range []netip.AddrPort{second, first} {
		other := 1 - i
		must(devices[i].SetPeers([]mesh.Peer{{PublicKey: devices[other].PublicKey(), Endpoint: endpoint,
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(at[other], 128)}}}))
	}
	ln, err := devices[1].ListenTCP(netip.AddrPortFrom(at[1], 7379))
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	n := h.nodes[to]
	served.Go(func() {
		proxy.NewLinkServer(proxy.LinkOptions{Lookup: func(string, string) (proxy.Store, bool) { return n, true }}).Serve(ctx, ln)
	})
	h.t.Cleanup(func() { cancel(); served.Wait() })
	h.mu.Lock()
	h.paths[self+" "+to] = func(ctx context.Context) (net.Conn, error) {
		return devices[0].DialTCP(ctx, at[0], netip.AddrPortFrom(at[1], 7379))
	}
	h.mu.Unlock()
	h.reach(to, false) // the links are dialled anew
	h.reach(to, true)
	return relay
}

// hedgesWon is how many reads of a node's clients a second copy answered first.
func (h *house) hedgesWon(node string) (n int) {
	families, err := h.nodes[node].metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "respmesh_hedged_reads_total" && l.GetValue() == "won" {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// TestHedgedReadsOverAPoorPath: a region without a copy reads from the nearest one over a path that loses packets, and what is late
// from the next. What each client sees never goes back, nor when the path is cut without a word.
func TestHedgedReadsOverAPoorPath(t *testing.T) {
	h := newHouse(t, proxy.Settings{Hedge: 10 * time.Millisecond})
	relay := h.relayed("iad", "ams")
	poor := wan.Conditions{Delay: 5 * time.Millisecond, Loss: 0.1}
	for _, way := range [][2]string{{"iad", "ams"}, {"ams", "iad"}} {
		if err := relay.Set(way[0], way[1], poor); err != nil {
			t.Fatal(err)
		}
	}
	w := h.connect("mad")
	w.want("SET n 0", "OK")
	g := h.nodes["iad"].gateway
	eventually(t, "iad reads from ams", func() bool { return g.Status().ReadsFrom == "ams" })

	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		for n := 1; ctx.Err() == nil && !t.Failed(); n++ {
			w.want("INCR n", strconv.Itoa(n))
		}
	})
	var reads atomic.Int64
	for i := range 3 {
		c := h.connect("iad")
		all.Go(func() {
			last, burst := 0, 1+2*i
			for ctx.Err() == nil && !t.Failed() {
				c.send(strings.Split(strings.Repeat("GET n|", burst)[:6*burst-1], "|")...)
				for range burst {
					n, err := strconv.Atoi(c.recv())
					if err != nil || n < last {
						t.Errorf("reader %d saw %d after %d: %v", i, n, last, err)
						return
					}
					last = n
					reads.Add(1)
				}
			}
		})
	}
	more := func(n int64, enough func() bool) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		deadline := time.Now().Add(time.Minute)
		for until := reads.Load() + n; !t.Failed() && (reads.Load() < until || !enough()); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("%d reads of %d, %d hedges won", reads.Load(), until, h.hedgesWon("iad"))
			}
		}
	}
	more(200, func() bool { return h.hedgesWon("iad") >= 3 })
	relay.Cut("ams")
	more(10, func() bool { return true })
	h.reach("ams", false) // probes have noticed
	more(50, func() bool { return true })
	relay.Heal("ams")
	h.reach("ams", true)
	more(50, func() bool { return g.Status().ReadsFrom == "ams" })
	t.Log(h.hedgesWon("iad"), "hedges won,", reads.Load(), "reads")
}
