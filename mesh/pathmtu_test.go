package mesh

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"respmesh/mesh/wan"
)

// TestPathMTU narrows the path between two nodes to one that carries 1,230 bytes inside the tunnel, and widens it again.
func TestPathMTU(t *testing.T) {
	a, b, relay := far(t, wan.Conditions{})
	probers := make([]*Prober, 2)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i, d := range []*Device{a, b} {
		c, err := d.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, byte(i+1)), ProbePort))
		must(t, err)
		defer c.Close()
		probers[i], err = NewProber(ProberOptions{Conn: c, Every: 10 * time.Millisecond, DeadAfter: 5 * time.Second, BigEvery: 50 * time.Millisecond})
		must(t, err)
		running.Go(func() { _ = probers[i].Run(ctx) })
	}
	probers[0].SetTargets([]netip.Addr{addr(infraPrefix, 2)})
	stats := func() ProbeStats { return probers[0].Stats()[0] }
	eventually(t, func() bool { s := stats(); return s.Reachable && s.PathMTU == DefaultMTU && !s.MTUTrouble }, "the full MTU isn't seen to pass")
	// WireGuard adds 32 bytes and pads to 16.
	narrow := wan.Conditions{MaxDatagram: 1232 + 32}
	must(t, relay.Set("b", "a", narrow)) // one way is enough
	eventually(t, func() bool { s := stats(); return s.MTUTrouble && s.PathMTU == 1200 }, "the narrow path isn't noticed")
	if s := stats(); !s.Reachable || s.RTT <= 0 || s.Sent == 0 {
		t.Errorf("%+v", s)
	}
	must(t, relay.Set("b", "a", wan.Conditions{}))
	eventually(t, func() bool { s := stats(); return !s.MTUTrouble && s.PathMTU == DefaultMTU }, "the wide path isn't noticed")
}
