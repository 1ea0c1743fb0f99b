package node

import (
	"sync"
	"time"
)

const (
	rateShortest = 500 * time.Millisecond // a rate over less than that jumps about
	rateLongest  = time.Minute            // a rate over more than that isn't about now
)

// rate turns a count into a rate, between one look at it and another. All who look share it.
type rate struct {
	mu    sync.Mutex
	at    time.Time
	count uint64
	value float64
}

// perSecond is the growth of the count per second, as of the last looks that were far enough apart; 0 at first.
func (r *rate) perSecond(now time.Time, count uint64) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	past := now.Sub(r.at)
	switch {
	case past > rateLongest || count < r.count: // first seen, not looked at for long, or started again
		r.value = 0
	case past < rateShortest:
		return r.value
	default:
		r.value = float64(count-r.count) / past.Seconds()
	}
	r.at, r.count = now, count
	return r.value
}
