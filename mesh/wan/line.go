package wan

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// Conditions are those of one direction. The zero value passes everything on at once.
type Conditions struct {
	Delay  time.Duration
	Jitter time.Duration // evenly up to this much more; keeps the order
	// Loss, Reorder and Duplicate are chances from 0 to 1. A reordered datagram is
	// held back a quarter of the delay, at least 1 ms, and overtaken by those behind it.
	Loss, Reorder, Duplicate float64
	RateBytes                int  // bytes per second; 0: no limit
	QueueBytes               int  // that may wait; 0: DefaultQueueBytes
	MaxDatagram              int  // larger ones vanish; 0: no limit but the relay's own of 2 KiB
	Cut                      bool // nothing arrives any more, also of what is under way
}

// DefaultQueueBytes hold 220 ms at 145 MB/s.
const DefaultQueueBytes = 32 << 20

func (c Conditions) validate() error {
	for _, p := range [...]float64{c.Loss, c.Reorder, c.Duplicate} {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("wan: a chance of %v: want 0 to 1", p)
		}
	}
	if c.Delay < 0 || c.Jitter < 0 || c.RateBytes < 0 || c.QueueBytes < 0 || c.MaxDatagram < 0 {
		return fmt.Errorf("wan: negative conditions %+v", c)
	}
	return nil
}

// Stats count the datagrams of one direction.
type Stats struct {
	Packets, Bytes     uint64 // that the sender sent
	Delivered          uint64 // duplicates count twice
	DeliveredBytes     uint64
	Lost               uint64 // by chance
	CutOff             uint64
	Oversize           uint64
	Overflow           uint64 // the queue was full
	Reordered, Doubled uint64
	Waiting            int // in the queue now
}

// line is one direction between two nodes: it decides, and does no I/O.
type line struct {
	mu       sync.Mutex
	c        Conditions // guarded by mu, as all below
	rng      *rand.Rand
	nodeCuts int           // how many of the two nodes are cut off
	last     time.Duration // deadline of the last datagram that keeps the order
	free     time.Duration // when the last byte before has left at the limited rate
	waiting  int           // bytes under way
	queued   int           // datagrams in the schedule
	stats    Stats

	out exit // where it leaves; nil until the path exists
}

func newLine(seed uint64, from, to string) *line {
	h := fnv.New64a()
	_, _ = h.Write([]byte(from + "\x00" + to))
	return &line{rng: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// fate is what becomes of a datagram: up to two deliveries, at once or queued.
type fate struct {
	n      int
	at     [2]time.Duration
	queued bool
}

// admit decides about a datagram that arrives at now. Times are counted from the
// relay's start.
func (l *line) admit(now time.Duration, size int) (f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.c
	l.stats.Packets++
	l.stats.Bytes += uint64(size)
	// Every datagram draws each chance that is set, so that the fate of the next
	// doesn't depend on this one's.
	lost := l.chance(c.Loss)
	late := l.chance(c.Reorder)
	twice := l.chance(c.Duplicate)
	var jitter time.Duration
	if c.Jitter > 0 {
		jitter = time.Duration(l.rng.Int64N(int64(c.Jitter)))
	}
	limit := c.QueueBytes
	if limit == 0 {
		limit = DefaultQueueBytes
	}
	switch {
	case l.blockedLocked():
		l.stats.CutOff++
		return f
	case size > maxDatagram || c.MaxDatagram > 0 && size > c.MaxDatagram:
		l.stats.Oversize++
		return f
	case lost:
		l.stats.Lost++
		return f
	case l.waiting+size > limit:
		l.stats.Overflow++
		return f
	}
	leave := now
	if c.RateBytes > 0 {
		l.free = max(l.free, now) + time.Duration(float64(size)/float64(c.RateBytes)*float64(time.Second))
		leave = l.free
	}
	at := leave + c.Delay + jitter
	if late {
		l.stats.Reordered++
		at += max(c.Delay/4, time.Millisecond)
	} else {
		at = max(at, l.last)
		l.last = at
	}
	f.n, f.at[0] = 1, at
	if twice {
		l.stats.Doubled++
		f.n, f.at[1] = 2, at
	}
	// Behind one that is queued, also what could go at once has to queue.
	f.queued = at > now || l.queued > 0
	if f.queued {
		l.queued += f.n
	}
	l.waiting += f.n * size
	l.stats.Waiting += f.n
	return f
}

// leave says whether a datagram whose time has come may still go, and counts it.
func (l *line) leave(size int, queued bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if queued {
		l.queued--
	}
	l.waiting -= size
	l.stats.Waiting--
	if l.blockedLocked() {
		l.stats.CutOff++
		return false
	}
	l.stats.Delivered++
	l.stats.DeliveredBytes += uint64(size)
	return true
}

func (l *line) blockedLocked() bool { return l.c.Cut || l.nodeCuts > 0 }

func (l *line) chance(p float64) bool { return p > 0 && l.rng.Float64() < p }
