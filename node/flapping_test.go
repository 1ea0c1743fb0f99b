package node

import (
	"testing"
	"time"

	"respmesh/mesh/wan"
)

// TestReadsStayWhileRoundTripsFlap: two copies are about as near, now this one is the nearer one, now that one. Reads stay where they
// are. They move when the other copy has become much nearer, and stay there.
func TestReadsStayWhileRoundTripsFlap(t *testing.T) {
	o := options(t)
	o.Regions, o.Primary, o.Replicas, o.ReplicasSet = []string{"mad", "ams", "fra", "nrt"}, "mad", []string{"ams", "fra"}, true
	d := startDev(t, o)
	path := func(to string, rtt time.Duration) {
		t.Helper()
		for _, way := range [][2]string{{"nrt-1", to + "-1"}, {to + "-1", "nrt-1"}} {
			if err := d.relay.Set(way[0], way[1], wan.Conditions{Delay: rtt / 2}); err != nil {
				t.Fatal(err)
			}
		}
	}
	const base = 150 * time.Millisecond
	gateway := d.nodes[3].database("personal", "demo").gateway
	reads := func() string { return gateway.Status().ReadsFrom }
	known := func(node string, rtt time.Duration) bool { // by most of the probes
		for _, n := range gateway.Status().Nodes {
			if n.Node == node {
				return n.RTT >= rtt && n.RTT < rtt+rtt/4
			}
		}
		return false
	}
	path("mad", 2*base)
	path("ams", base/3)
	path("fra", base)
	eventually(t, "nrt reads from ams", func() bool { return reads() == "ams-1" && known("ams-1", base/3) && known("fra-1", base) })

	flap := func(stays string) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for i := range 60 { // for 3 s
			if i%8 == 0 { // longer than it takes to probe, shorter than the window
				near := base - base/10
				path([]string{"ams", "fra"}[i/8%2], near)
				path([]string{"fra", "ams"}[i/8%2], base)
			}
			<-tick.C
			if at := reads(); at != stays {
				t.Fatalf("reads went from %s to %s, which is nearer by a tenth at most", stays, at)
			}
		}
	}
	path("ams", base)
	flap("ams-1")
	path("ams", 2*base)
	path("fra", base/3)
	eventually(t, "nrt reads from fra", func() bool { return reads() == "fra-1" && known("fra-1", base/3) && known("ams-1", 2*base) })
	path("fra", base)
	path("ams", base)
	flap("fra-1")
}
