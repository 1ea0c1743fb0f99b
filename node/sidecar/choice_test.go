package sidecar

import (
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	now := time.Now()
	const settle = 10 * time.Second
	node := func(region string, ms float64, age time.Duration) candidate {
		return candidate{region: region, healthy: true, rtt: time.Duration(ms * float64(time.Millisecond)), since: now.Add(-age), settle: settle}
	}
	sick := func(c candidate) candidate { c.healthy = false; return c }
	drains := func(c candidate) candidate { c.draining = true; return c }
	for _, c := range []struct {
		what, inUse, prefer string
		all                 []candidate
		want                string
	}{
		{"nothing", "", "", nil, ""},
		{"none healthy", "mad", "", []candidate{sick(node("mad", 1, 0))}, ""},
		{"the nearest first", "", "", []candidate{node("mad", 20, 0), node("ams", 5, 0)}, "ams"},
		{"the preferred first", "", "mad", []candidate{node("mad", 20, 0), node("ams", 5, 0)}, "mad"},
		{"not the preferred when it is sick", "mad", "mad", []candidate{sick(node("mad", 20, 0)), node("ams", 5, 0)}, "ams"},
		{"a failed one is left at once", "ams", "", []candidate{node("mad", 20, 0), sick(node("ams", 5, 0))}, "mad"},
		{"no return before it has settled", "mad", "", []candidate{node("mad", 20, time.Hour), node("ams", 5, settle-1)}, "mad"},
		{"return after", "mad", "", []candidate{node("mad", 20, time.Hour), node("ams", 5, settle)}, "ams"},
		{"not for a fifth", "mad", "", []candidate{node("mad", 20, time.Hour), node("ams", 16.1, time.Hour)}, "mad"},
		{"for more", "mad", "", []candidate{node("mad", 20, time.Hour), node("ams", 15.9, time.Hour)}, "ams"},
		{"not for a millisecond", "mad", "", []candidate{node("mad", 2.5, time.Hour), node("ams", 1, time.Hour)}, "mad"},
		{"to the preferred however far", "ams", "nrt", []candidate{node("ams", 5, time.Hour), node("nrt", 200, time.Hour)}, "nrt"},
		{"from the preferred never", "nrt", "nrt", []candidate{node("ams", 5, time.Hour), node("nrt", 200, time.Hour)}, "nrt"},
		{"one that drains is left at once", "ams", "", []candidate{drains(node("ams", 5, time.Hour)), node("nrt", 200, 0)}, "nrt"},
		{"and isn't moved to", "nrt", "", []candidate{drains(node("ams", 5, time.Hour)), node("nrt", 200, time.Hour)}, "nrt"},
		{"but used where there is no other", "", "", []candidate{drains(node("ams", 5, time.Hour)), sick(node("nrt", 200, 0))}, "ams"},
		{"the best of those that settled", "nrt", "", []candidate{node("nrt", 200, time.Hour), node("ams", 5, 0), node("mad", 9, time.Hour)}, "mad"},
	} {
		if got := choose(now, c.inUse, c.prefer, c.all); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestWindowKeepsTheLeast(t *testing.T) {
	var w window
	for i, c := range []struct{ add, want time.Duration }{{9, 9}, {5, 5}, {7, 5}, {8, 5}, {9, 5}, {9, 5}, {9, 7}} {
		if got := w.add(c.add); got != c.want {
			t.Errorf("%d: %d, want %d", i, got, c.want)
		}
	}
}
