package sidecar

import (
	"slices"
	"time"
)

// candidate is a region's node in use, as it was last measured.
type candidate struct {
	region   string
	healthy  bool
	draining bool
	rtt      time.Duration
	since    time.Time     // healthy since
	settle   time.Duration // how long it must have been healthy to be moved to from one that works
}

// A node is nearer than another if it is so by this part of the time, and by this much: two in one city aren't worth a move.
const (
	nearerPart = 5
	nearerBy   = 2 * time.Millisecond
)

// choose says which region to use: the one in use stays unless it failed, drains, or another is better and has been healthy
// for a while. Better is: doesn't drain; then the preferred region; then nearer. "": none is healthy.
func choose(now time.Time, inUse, prefer string, all []candidate) string {
	var best, current *candidate
	for i := range all {
		c := &all[i]
		if !c.healthy {
			continue
		}
		if c.region == inUse {
			current = c
		}
		if best == nil || ahead(c, best, prefer) {
			best = c
		}
	}
	switch {
	case best == nil:
		return ""
	case current == nil:
		return best.region
	case current.draining && !best.draining:
		return best.region
	}
	// The best of those that have settled, and are better by enough.
	settled := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool {
		return !c.healthy || c.draining || now.Sub(c.since) < c.settle || !worthIt(c, *current, prefer)
	})
	for i := range settled {
		if i == 0 || ahead(&settled[i], &settled[0], prefer) {
			settled[0] = settled[i]
		}
	}
	if len(settled) > 0 {
		return settled[0].region
	}
	return inUse
}

func ahead(a, b *candidate, prefer string) bool {
	switch {
	case a.draining != b.draining:
		return b.draining
	case (a.region == prefer) != (b.region == prefer):
		return a.region == prefer
	}
	return a.rtt < b.rtt
}

func worthIt(c, current candidate, prefer string) bool {
	switch {
	case current.region == prefer:
		return false
	case c.region == prefer:
		return c.region != current.region
	}
	return c.rtt+max(nearerBy, current.rtt/nearerPart) <= current.rtt
}

// window keeps the last round trips. The least of them is the way's length; the rest of the others is waiting.
type window struct {
	last [5]time.Duration
	n    int
}

func (w *window) add(rtt time.Duration) time.Duration {
	w.last[w.n%len(w.last)] = rtt
	w.n++
	return slices.Min(w.last[:min(w.n, len(w.last))])
}
