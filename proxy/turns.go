package proxy

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Turns shares the processors of a node among its databases: who executes commands has a turn. As long as one database
// alone is asked, everybody gets one at once. With others about, the sessions of all databases together have one turn less than there
// are processors, and the database that has had the least time comes first; a database that takes little of its share doesn't wait at
// all. So however much one asks for, another finds a processor that is free.
//
// A turn is from a wake-up of a session to the end of what it was asked by then, or to the end of a batch after quantum. It is given
// back while its holder waits for something else than a processor; a holder that is stuck, as behind a script, is left out of the
// count after a while, or nobody could end the script.
type Turns struct {
	processors int
	limits     turnLimits
	now        func() time.Time

	sole   atomic.Pointer[share] // the only database that was asked of late; nil: there are several, or none
	queued atomic.Int32          // turns waited for

	mu     sync.Mutex
	shares map[string]*share
	active []*share // asked of late
	fresh  int      // of those, asked a moment ago
	swept  time.Time
	held   []*turn // ordinary ones
	behind *time.Timer
	clock  time.Duration // the time that the one who came last to a turn has had
}

type turnLimits struct {
	quantum time.Duration // after so long a turn ends with the batch if somebody waits
	burst   time.Duration // what a database that was quiet may use at once without waiting
	debt    time.Duration // the most by which it waits longer than it would have to
	fresh   time.Duration // who was asked within counts for the processor that is kept free
	active  time.Duration // who was asked within is counted at all
	stuck   time.Duration // a turn that takes so long isn't counted any more
}

var defaultTurns = turnLimits{
	quantum: time.Millisecond, burst: 10 * time.Millisecond, debt: time.Second, fresh: time.Second, active: time.Minute, stuck: time.Second,
}

// NewTurns makes what the gateways and the link server of a node share.
func NewTurns() *Turns { return newTurns(runtime.GOMAXPROCS(0), defaultTurns) }

func newTurns(processors int, limits turnLimits) *Turns {
	return &Turns{processors: processors, limits: limits, now: time.Now, shares: make(map[string]*share)}
}

// share is a database's part. All but free is guarded by Turns.mu.
type share struct {
	turns *Turns
	name  string
	users int          // gateways and links
	free  atomic.Int32 // turns taken without being counted

	asked   time.Time // last
	listed  bool      // in active
	used    time.Duration
	credit  time.Duration // may be used without waiting
	filled  time.Time     // when credit was
	light   int           // turns that run on credit
	waiting []*turn
}

// of finds a database's share; leave gives it back.
func (t *Turns) of(name string) *share {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.shares[name]
	if s == nil {
		s = &share{turns: t, name: name, credit: t.limits.burst, filled: t.now()}
		t.shares[name] = s
	}
	s.users++
	return s
}

func (s *share) leave() {
	if s == nil {
		return
	}
	t := s.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	delete(t.shares, s.name)
	t.active = slices.DeleteFunc(t.active, func(o *share) bool { return o == s })
	s.listed = false
	t.sole.CompareAndSwap(s, nil)
}

type turnKind int8

const (
	turnNone  turnKind = iota
	turnFree           // nobody else is about
	turnHeld           // counted
	turnLight          // on the database's credit
)

// turn is a session's, or a link's. Its owner calls take and give; what Turns changes is guarded by Turns.mu.
type turn struct {
	share *share
	kind  turnKind
	since time.Time
	await chan struct{} // has one when it was granted
	yield func()        // is called before the owner waits; nil: nobody wants to know
}

// take waits for the turn; false: ctx ended.
func (n *turn) take(ctx context.Context) bool {
	s := n.share
	if s == nil || n.kind != turnNone {
		return true
	}
	t := s.turns
	if t.sole.Load() == s {
		s.free.Add(1)
		n.kind = turnFree
		return true
	}
	t.mu.Lock()
	n.since = t.now()
	t.askLocked(s, n.since)
	if t.sole.Load() == s {
		t.mu.Unlock()
		s.free.Add(1)
		n.kind = turnFree
		return true
	}
	switch {
	case s.credit > 0 && s.light < t.processors:
		s.light++
		n.kind = turnLight
	case len(t.held) < t.limitLocked() && len(s.waiting) == 0:
		t.holdLocked(n)
	default:
		if n.await == nil {
			n.await = make(chan struct{}, 1)
		}
		if len(s.waiting) == 0 {
			s.used = max(s.used, t.clock) // what it didn't use before is forfeited
		}
		s.waiting = append(s.waiting, n)
		t.queued.Add(1)
		t.watchLocked()
		t.mu.Unlock()
		return n.wait(ctx)
	}
	t.mu.Unlock()
	return true
}

// wait is for the grant.
func (n *turn) wait(ctx context.Context) bool {
	if n.yield != nil {
		n.yield()
	}
	select {
	case <-n.await:
		return true
	case <-ctx.Done():
	}
	t := n.share.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-n.await: // at the same moment
		t.endLocked(n)
		t.grantLocked()
	default:
		n.share.waiting = slices.DeleteFunc(n.share.waiting, func(o *turn) bool { return o == n })
		t.queued.Add(-1)
	}
	return false
}

// give ends the turn.
func (n *turn) give() {
	switch n.kind {
	case turnNone:
	case turnFree:
		n.kind = turnNone
		n.share.free.Add(-1)
	default:
		t := n.share.turns
		t.mu.Lock()
		defer t.mu.Unlock()
		t.endLocked(n)
		t.grantLocked()
	}
}

// over tells whether the holder shall let somebody else go first.
func (n *turn) over() bool {
	switch n.kind {
	case turnNone:
		return false
	case turnFree:
		return n.share.turns.sole.Load() != n.share
	default:
		t := n.share.turns
		return t.queued.Load() > 0 && t.now().Sub(n.since) > t.limits.quantum
	}
}

// askLocked notes that a database is asked.
func (t *Turns) askLocked(s *share, now time.Time) {
	stale := now.Sub(s.asked) > t.limits.fresh
	s.asked = now
	if !s.listed {
		s.listed = true
		t.active = append(t.active, s)
	}
	if only := t.sole.Load(); only != nil && only != s {
		only.asked = now // it isn't noted while it is alone
	}
	if stale || now.Sub(t.swept) > t.limits.fresh/4 {
		t.sweepLocked(now)
	}
	// The credits of all together grow by a quarter of what there is, so that those who live on them leave each other room.
	s.credit = min(t.limits.burst, s.credit+now.Sub(s.filled)*time.Duration(t.processors)/time.Duration(4*max(t.fresh, 1)))
	s.filled = now
}

// sweepLocked finds out who is about.
func (t *Turns) sweepLocked(now time.Time) {
	t.swept = now
	t.fresh = 0
	t.active = slices.DeleteFunc(t.active, func(s *share) bool {
		if s.free.Load() > 0 || len(s.waiting) > 0 {
			s.asked = now
		}
		age := now.Sub(s.asked)
		if age <= t.limits.fresh {
			t.fresh++
		}
		s.listed = age <= t.limits.active
		return !s.listed
	})
	if len(t.active) == 1 && len(t.active[0].waiting) == 0 {
		t.sole.Store(t.active[0])
	} else {
		t.sole.Store(nil)
	}
}

// limitLocked is how many turns there are.
func (t *Turns) limitLocked() int {
	if t.fresh > 1 {
		return max(1, t.processors-1)
	}
	return t.processors
}

func (t *Turns) holdLocked(n *turn) {
	n.kind = turnHeld
	t.clock = max(t.clock, n.share.used)
	t.held = append(t.held, n)
}

// endLocked ends a turn and charges the database for it.
func (t *Turns) endLocked(n *turn) {
	s := n.share
	took := t.now().Sub(n.since)
	switch n.kind {
	case turnHeld:
		t.held = slices.DeleteFunc(t.held, func(o *turn) bool { return o == n })
	case turnLight:
		s.light--
	}
	n.kind = turnNone
	s.used += took
	s.credit = max(s.credit-took, -t.limits.debt)
}

// grantLocked gives the turns that there are to those who wait.
func (t *Turns) grantLocked() {
	for t.queued.Load() > 0 && len(t.held) < t.limitLocked() {
		var next *share
		for _, s := range t.active {
			if len(s.waiting) > 0 && (next == nil || s.used < next.used) {
				next = s
			}
		}
		if next == nil {
			return
		}
		n := next.waiting[0]
		next.waiting = append(next.waiting[:0], next.waiting[1:]...)
		t.queued.Add(-1)
		n.since = t.now()
		t.holdLocked(n)
		n.await <- struct{}{}
	}
}

// watchLocked looks for turns that take too long, as long as somebody waits.
func (t *Turns) watchLocked() {
	if t.behind == nil {
		t.behind = time.AfterFunc(t.limits.stuck/2, t.unstick)
	}
}

func (t *Turns) unstick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.behind = nil
	now := t.now()
	t.sweepLocked(now)
	// Who ends such a turn finds that it isn't counted any more.
	t.held = slices.DeleteFunc(t.held, func(n *turn) bool { return now.Sub(n.since) >= t.limits.stuck })
	t.grantLocked()
	if t.queued.Load() > 0 {
		t.watchLocked()
	}
}

// worker is who has a turn: a session, or a link.
type worker interface{ away() (back func()) }

type workerKey struct{}

func withWorker(ctx context.Context, w worker) context.Context {
	return context.WithValue(ctx, workerKey{}, w)
}

// Away gives back the turn of who called StoreConn.Do with this ctx. The store calls it, in the same goroutine, before it waits
// for something else than the processor, such as a disk or a replica, and calls back afterwards.
func Away(ctx context.Context) (back func()) {
	if w, ok := ctx.Value(workerKey{}).(worker); ok {
		return w.away()
	}
	return func() {}
}
