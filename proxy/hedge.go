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
// copy was known to be as far as all that was seen; and once that is listened to, what is still answered by the first must be of a
// copy that is as far: see [strictness]. Until nothing is in flight the session sends nothing more then. Who reads with CLIENT
// TRACKING isn't helped: invalidations come from the copy that was asked.
//
// The additional load is bounded: each read that could be hedged earns a tenth of one more, and at most [hedgeSaved] are saved.

// race is between two copies for reads of one session.
type race struct{ chosen atomic.Int32 } // 0: neither yet

const (
	firstCopy  = 1
	secondCopy = 2
)

// lap is one read of a race: two calls stand for it, one on each link.
type lap struct {
	race *race
	c    *call // what the session waits for; it belongs to who sets done
	left atomic.Int32
	done atomic.Bool
}

// choose says whether a copy is the one that is listened to. The second is, or was just before, at the given position.
func (p *lap) choose(which int32, replid *string, offset int64) bool {
	if which == secondCopy && p.race.chosen.Load() == 0 && !p.done.Load() {
		p.c.out.begin(p.c, replid, offset) // before anything of the first copy can be taken for newer
	}
	return p.race.chosen.CompareAndSwap(0, which) || p.race.chosen.Load() == which
}

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
		reads := c.out.oldest(c, hedgeSaved)
		if len(reads) == 0 {
			continue
		}
		node, ok := l.g.secondFor(v, l.remote.node, func() int64 { return l.g.needOf(reads) })
		if ok && l.g.hedges.spend(len(reads)) {
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
		i := l.indexLocked(c.start)
		if i == len(l.queue) || l.queue[i] != c {
			break // it isn't sent yet
		}
		p := &lap{race: r, c: c}
		p.left.Store(2)
		a, b := newCall(), newCall()
		a.lap, a.read, a.start, a.started = p, true, c.start, c.started
		b.lap, b.read, b.second, b.noWait, b.started = p, true, true, true, c.started
		b.raw, b.proto, b.db = append(b.raw[:0], c.raw...), c.proto, c.db
		l.queue[i] = a
		second = append(second, b)
	}
	return second
}

// sendSecond sends a race's calls to the second copy.
func (g *Gateway) sendSecond(calls []*call, node string, first *remote) {
	l := g.shared(linkKey{node: node, proto: calls[0].proto, db: calls[0].db, read: true})
	for _, c := range calls {
		g.meters.hedgesSent.Inc()
		if l == nil || l.send(c, c.raw) != nil {
			g.leaveRace(c, first, errNotSent)
		}
	}
	if l != nil {
		l.kick()
	}
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

// arrive takes the answer to one of a race's calls. True: what the session waits for is c, and this is its answer.
func (l *link) arrive(k *call, raw []byte) (c *call, won bool) {
	p, mine, other := k.lap, int32(firstCopy), int32(secondCopy)
	if k.second {
		mine, other = other, mine
	}
	k.free()
	good := !tryElsewhere(raw) && !isTooBig(raw)
	last := p.left.Add(-1) == 0
	if !good && !last { // the other may do better
		p.choose(other, nil, 0)
		return nil, false
	}
	chosen := p.choose(mine, l.replid, l.offset)
	if !chosen && !last || !p.done.CompareAndSwap(false, true) {
		return nil, false
	}
	if good && mine == secondCopy {
		l.g.meters.hedgesWon.Inc()
	}
	if good && !chosen && mine == secondCopy && l.redo(p.c) { // the first copy was, and has left since
		return nil, false
	}
	return p.c, true
}

// leaveRace is told that a call won't be answered by this link.
func (g *Gateway) leaveRace(k *call, at *remote, err error) {
	p, other := k.lap, int32(secondCopy)
	if k.second {
		other = firstCopy
	}
	k.free()
	if p.left.Add(-1) > 0 {
		p.choose(other, nil, 0)
	} else if p.done.CompareAndSwap(false, true) {
		g.answerFailed(p.c, at, err)
	}
}

// inOrder sees to it that a session doesn't get what is older than what another copy has shown it meanwhile. False: the reply is
// dropped, and the primary is asked.
func (l *link) inOrder(c *call) bool {
	if c.any || c.retried || l.remote.node == l.g.view.Load().primary || !c.out.mustRedo(l.before, l.beforeOffset) {
		return true
	}
	return !l.redo(c)
}

// redo asks again, the primary if it can be reached. False: nobody can be asked.
func (l *link) redo(c *call) bool {
	if v := l.g.view.Load(); v.primaryReachable && !v.localPrimary && !c.retried {
		c.retried, c.noWait = true, true
		if l.g.resend(c, v.primary) {
			return true
		}
		c.retried = false
	}
	return !c.retried && l.g.retry(c, l.remote.node)
}

// strictness is what holds for a session from when a second copy is listened to until nothing is in flight: no answer may be from
// before this position. Once one had to be asked for again, those behind it are, too: they follow it.
type strictness struct {
	on     atomic.Bool
	nth    atomic.Uint32 // how often it has begun
	redo   bool          // guarded by output.mu, like the rest
	replid *string       // nil: no answer is good enough but the primary's
	offset int64
}

// begin has the session be strict. The copy that it listens to is at this position.
func (o *output) begin(c *call, replid *string, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || c.any {
		return
	}
	s := &o.strict
	if s.replid == nil || replid == nil || *s.replid != *replid || offset > s.offset {
		s.replid, s.offset = replid, offset
	}
	s.nth.Add(1)
	s.on.Store(true)
}

// mustRedo says whether the answer of a copy at this position, or later, may be older than what the session has seen.
func (o *output) mustRedo(replid *string, offset int64) bool {
	s := &o.strict
	if !s.on.Load() {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if s.on.Load() && (s.redo || replid == nil || s.replid == nil || *replid != *s.replid || offset < s.offset) {
		s.redo = true
	}
	return s.redo
}

// joinLocked is told of a read that was routed before the strictness began the last time, and is in flight after that.
func (s *strictness) joinLocked(c *call) {
	if c.hedge && !c.any && c.nth != s.nth.Load() {
		s.on.Store(true)
	}
}

// relaxLocked ends the strictness: nothing is in flight.
func (s *strictness) relaxLocked() {
	if s.on.Load() {
		s.redo = false
		s.on.Store(false)
	}
}

// oldest returns c and what is in flight behind it, if c is the oldest, all of it can be hedged, and it isn't too much.
func (o *output) oldest(c *call, most int) (reads []*call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.head != c || o.strict.on.Load() {
		return nil
	}
	for k := c; k != nil; k = k.next {
		if !k.hedge || k.retried || k.done || len(reads) == most {
			return nil
		}
		reads = append(reads, k)
	}
	return reads
}
