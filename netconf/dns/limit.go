package dns

import (
	"net/netip"
	"sync"
	"time"
)

// limit bounds how fast one asker may ask, so that one can't take a node's time from the others. A source address can be
// trusted: WireGuard has checked it.
type limit struct {
	rate float64 // per second; 0: none. Twice as many may come at once.

	mu      sync.Mutex
	sources map[netip.Addr]bucket // guarded by mu
}

type bucket struct {
	left float64
	at   time.Time
}

const maxLimited = 4096

func (l *limit) admit(from netip.Addr, now time.Time) bool {
	if l.rate <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.sources[from]
	if !ok {
		if len(l.sources) >= maxLimited {
			for a, b := range l.sources {
				if now.Sub(b.at) > 2*time.Second { // as good as new
					delete(l.sources, a)
				}
			}
			if len(l.sources) >= maxLimited {
				clear(l.sources)
			}
		}
		b = bucket{2 * l.rate, now}
	}
	b.left = min(b.left+now.Sub(b.at).Seconds()*l.rate, 2*l.rate)
	b.at = now
	if ok = b.left >= 1; ok {
		b.left--
	}
	l.sources[from] = b
	return ok
}
