package proxy

import (
	"sort"
	"sync/atomic"
	"time"
)

// A hedged read is one that the chosen replica hasn't answered for longer than the round trip and Settings.Hedge: it is sent
// to the next nearest copy that may serve it, too, and with it what the session has in flight behind it. The first answer decides
// which of the two copies is listened to, the other's answers are dropped.
//
// Reads keep going forward. Only what is its session's oldest is hedged, so that the session has seen nothing since the second
// copy was known to be as far as all that was seen; all that is in flight then takes part; and until all of it is answered the session
// sends nothing more. So one copy answers all of it, and what comes next is routed by what was seen of that. Who reads with CLIENT
// TRACKING isn't helped: invalidations come from the copy that was asked.
//
// The additional load is bounded: each read that could be hedged earns a tenth of one more, and at most [hedgeSaved] are saved.

// race is between two copies for the reads that a session has in flight. Two calls stand for each of them, one on each link.
type race struct{ chosen atomic.Int32 } // 0: neither yet

const (
	firstCopy  = 1
	secondCopy = 2
)

const (
	hedgeCost  = 10 // reads that earn a hedge
	hedgeSaved = 20
)

// allowance counts in reads.
type allowance struct{ spent atomic.Int64 } // below the most that is saved

func (a *allowance) earn() {
	if n := a.spent.Load(); n > 0 {
		a.spent.CompareAndSwap(n, n-1) // one that is lost to another's doesn't matter
	}
}

func (a *allowance) spend(reads int) bool {
	for {
		n := a.spent.Load()
		if n+int64(reads)*hedgeCost > hedgeSaved*hedgeCost {
			return false
		}
		if a.spent.CompareAndSwap(n, n+int64(reads)*hedgeCost) {
			return true
		}
	}
}

// hedgeAfter is how long a read waits for a node before another is asked as well; 0: for ever.
func (g *Gateway) hedgeAfter(v *view, node string) time.Duration {
	if v.settings.Hedge <= 0 {
		return 0
	}
	rtt, ok := g.opt.Mesh.RTT(node)
	if !ok {
		return 0
	}
	return v.settings.Hedge + rtt
}

// secondFor is the copy that is asked when one doesn't answer: the nearest that is as far as it must be.
func (g *Gateway) secondFor(v *view, not string, need func() int64) (node string, ok bool) {
	for _, r := range v.reads {
		if r.node != not && g.current(r.remote, need()) {
			return r.node, true
		}
	}
	if !v.primaryReachable || v.localPrimary || v.primary == not {
		return "", false
	}
	return v.primary, true
}

// watchReadLocked sees to it that somebody looks whether the call is answered in time; l.mu is held.
func (l *link) watchReadLocked() {
	if l.hedging {
		return
	}
	after := l.g.hedgeAfter(l.g.view.Load(), l.remote.node)
	if after <= 0 {
		return
	}
	l.hedging = true
	if l.hedge == nil {
		l.hedge = time.AfterFunc(after, l.hedgeLate)
	} else {
		l.hedge.Reset(after)
	}
}

// hedgeLate sends what this link's node hasn't answered in time to others too.
func (l *link) hedgeLate() {
	v, now := l.g.view.Load(), time.Now()
	after := l.g.hedgeAfter(v, l.remote.node)
	type group struct {
		calls []*call
		node  string
	}
	var groups []group
	l.mu.Lock()
	l.hedging = false
	if l.state == linkDown {
		l.mu.Unlock()
		return
	}
	for i := l.indexLocked(l.hedged + 1); after > 0 && i < len(l.queue); i++ {
		c := l.queue[i]
		if !c.hedge {
			continue
		}
		if wait := after - now.Sub(c.started); wait > 0 {
			l.hedging = true
			l.hedge.Reset(wait)
			break
		}
		l.hedged = c.start
		var node string
		reads := c.out.race(c, func(reads []*call) (ok bool) {
			for _, k := range reads {
				if i := l.indexLocked(k.start); i == len(l.queue) || l.queue[i] != k {
					return false // it isn't sent yet, or is being answered
				}
			}
			node, ok = l.g.secondFor(v, l.remote.node, func() int64 { return l.g.needOf(reads) })
			return ok && l.g.hedges.spend(len(reads))
		})
		if len(reads) > 0 {
			groups = append(groups, group{l.raceLocked(reads), node})
		}
	}
	l.mu.Unlock()
	for _, r := range groups {
		l.g.sendSecond(r.calls, r.node, l.remote)
	}
}

// indexLocked is where in the queue the first call is that begins at start or later.
func (l *link) indexLocked(start int64) int {
	return l.first + sort.Search(len(l.queue)-l.first, func(i int) bool { return l.queue[l.first+i].start >= start })
}

// raceLocked puts stand-ins into the queue, and returns those for the other link.
func (l *link) raceLocked(reads []*call) (second []*call) {
	r := &race{}
	for _, c := range reads {
		a, b := newCall(), newCall()
		a.race, a.runner, a.read, a.start, a.started = r, c, true, c.start, c.started
		b.race, b.runner, b.read, b.second, b.noWait, b.started = r, c, true, true, true, c.started
		b.raw, b.proto, b.db = append(b.raw[:0], c.raw...), c.proto, c.db
		l.queue[l.indexLocked(c.start)] = a
		second = append(second, b)
	}
	return second
}

// sendSecond sends a race's calls to the second copy, all of them or none.
func (g *Gateway) sendSecond(calls []*call, node string, first *remote) {
	g.meters.hedgesSent.Add(float64(len(calls)))
	l := g.shared(linkKey{node: node, proto: calls[0].proto, db: calls[0].db, read: true})
	if l == nil || l.sendAll(calls) != nil {
		for _, c := range calls {
			g.answerFailed(c, first, errNotSent)
		}
		return
	}
	l.kick()
}

// needOf is how far a copy must be to answer calls of one session.
func (g *Gateway) needOf(reads []*call) (need int64) {
	for _, c := range reads {
		switch {
		case c.any:
		case c.all:
			need = g.ryw.needAll()
		default:
			need = max(need, g.ryw.need(c.keys))
		}
	}
	return need
}

// arrive is told that one of the two calls that stand for a read has been answered, or (not good) won't be. It returns the
// read if that is the answer to it; nil: the other copy is listened to.
func (g *Gateway) arrive(k *call, good bool) *call {
	r, c, second := k.race, k.runner, k.second
	k.free()
	if second == good {
		r.chosen.CompareAndSwap(0, secondCopy)
	} else {
		r.chosen.CompareAndSwap(0, firstCopy)
	}
	if second != (r.chosen.Load() == secondCopy) {
		return nil
	}
	if good && second {
		g.meters.hedgesWon.Inc()
	}
	return c
}

// race begins a race for c and what is in flight behind it, if c is the oldest, all of it can be hedged, it isn't too much, and start agrees.
func (o *output) race(c *call, start func([]*call) bool) (reads []*call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.head != c || o.racing || o.detour.Load() != nil {
		return nil
	}
	for k := c; k != nil; k = k.next {
		if !k.hedge || k.retried || k.done || len(reads) == hedgeSaved {
			return nil
		}
		reads = append(reads, k)
	}
	if !start(reads) {
		return nil
	}
	o.racing = true
	return reads
}
