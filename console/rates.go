package console

import (
	"slices"
	"sync"
	"time"
)

const (
	shortest = 900 * time.Millisecond // a rate over less than that jumps about
	longest  = time.Minute            // a rate over more than that isn't about now
)

// rates turns counts into rates, between one look at the status and another. All who look share them.
type rates struct {
	mu   sync.Mutex
	last map[string]sample // by database and region; what isn't in a status any more is dropped
}

type sample struct {
	at    time.Time
	count uint64
	rate  *float64
}

// fill sets PerSecond of all regions. It leaves the caller's slices as they are.
func (r *rates) fill(s *Status) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[string]sample, len(r.last))
	s.Databases = slices.Clone(s.Databases)
	for i := range s.Databases {
		d := &s.Databases[i]
		d.Regions = slices.Clone(d.Regions)
		for j := range d.Regions {
			region := &d.Regions[j]
			key := d.Org + "/" + d.Name + "/" + region.Code
			sm := r.last[key].next(now, region.Commands)
			next[key] = sm
			region.PerSecond = sm.rate
		}
	}
	r.last = next
}

// next is the sample after a count was seen.
func (s sample) next(now time.Time, count uint64) sample {
	past := now.Sub(s.at)
	switch {
	case past > longest || count < s.count: // first seen, not looked at for long, or started again
		return sample{at: now, count: count}
	case past < shortest:
		return s
	}
	rate := float64(count-s.count) / past.Seconds()
	return sample{at: now, count: count, rate: &rate}
}
