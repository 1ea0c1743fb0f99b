package proxy

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// remote is what is known of another node's store, from STATUS and from the positions on links.
type remote struct {
	node   string
	region string
	usable atomic.Bool
	at     position     // where it was last
	heard  atomic.Int64 // unix ms when it last heard the primary; 0: never
	asking atomic.Bool  // a STATUS is on its way
}

func raise(a *atomic.Int64, to int64) {
	for {
		old := a.Load()
		if old >= to || a.CompareAndSwap(old, to) {
			return
		}
	}
}

// candidate is a replica that reads may use.
type candidate struct {
	node   string
	rtt    time.Duration
	remote *remote
}

// view is what routing looks at: immutable, replaced as a whole.
type view struct {
	revision uint64
	self     string

	settings     Settings
	store        *ownStore
	hasStore     bool
	localPrimary bool
	localUsable  bool // reads may use the local store (it is the primary, or a usable replica)
	localAny     bool // the local store holds data, however stale
	localReason  string

	primary          string
	primaryRegion    string
	primaryReachable bool
	primaryRTT       time.Duration
	lostAt           time.Time // when the primary was out of reach first; zero: it isn't

	replicas   bool        // there is one anywhere
	reads      []candidate // remote replicas near enough, the nearest first
	whyPrimary string      // why reads go to the primary when reads is empty
}

// viewInput is everything a view is made from.
type viewInput struct {
	topology *Topology
	self     string
	store    *ownStore // nil: none
	state    StoreState
	now      time.Time
	rtt      func(node string) (time.Duration, bool)
	remotes  map[string]*remote
	previous *view
}

// buildView is pure but for the clock and the measurements in its input.
func buildView(in viewInput) *view {
	v := &view{revision: in.topology.Revision, self: in.self, primary: in.topology.Primary,
		settings: in.topology.Settings, store: in.store, hasStore: in.store != nil}
	if m, ok := in.topology.member(v.primary); ok {
		v.primaryRegion = m.Region
	}
	v.localPrimary = v.hasStore && v.primary == in.self && in.state.Primary
	switch {
	case v.localPrimary:
		v.primaryReachable = true
	case v.primary == in.self: // it is about to lead, or has just been told not to
	default:
		v.primaryRTT, v.primaryReachable = in.rtt(v.primary)
	}
	if !v.primaryReachable {
		if v.lostAt = in.now; in.previous != nil && !in.previous.lostAt.IsZero() {
			v.lostAt = in.previous.lostAt
		}
	}
	v.setLocal(in)
	v.whyPrimary = "no replica is near"
	for _, m := range in.topology.Members {
		v.replicas = v.replicas || m.Replica && m.Node != v.primary
		if !m.Replica || m.Node == in.self || m.Node == v.primary {
			continue
		}
		if c, ok := v.candidate(in, m); ok {
			v.reads = append(v.reads, c)
		}
	}
	slices.SortFunc(v.reads, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.node, b.node))
	})
	v.keepFirst(in.previous)
	return v
}

func (v *view) setLocal(in viewInput) {
	s := in.state
	switch {
	case !v.hasStore:
		v.localReason = "no copy on this node"
	case v.localPrimary:
		v.localUsable, v.localAny = true, true
	case !s.Usable:
		v.localAny = !s.LastHeard.IsZero()
		v.localReason = cmp.Or(s.Reason, "the local replica isn't usable")
	case v.settings.MaxLag > 0 && !s.Primary && in.now.Sub(s.LastHeard) > v.settings.MaxLag:
		v.localAny = true
		v.localReason = "the local replica hasn't heard the primary within max_lag"
	default:
		v.localUsable, v.localAny = true, true
	}
}

// candidate applies the rules of nearness: usable, reachable, within near, and nearer than the primary.
func (v *view) candidate(in viewInput, m Member) (candidate, bool) {
	r := in.remotes[m.Node]
	if r == nil || !r.usable.Load() {
		return candidate{}, false
	}
	if v.settings.MaxLag > 0 && in.now.Sub(time.UnixMilli(r.heard.Load())) > v.settings.MaxLag {
		return candidate{}, false
	}
	rtt, ok := in.rtt(m.Node)
	if !ok || v.settings.Near > 0 && rtt > v.settings.Near || v.primaryReachable && !v.nearer(in.previous, m.Node, rtt) {
		return candidate{}, false
	}
	return candidate{node: m.Node, rtt: rtt, remote: r}, true
}

// nearer tells whether a replica is nearer than the primary. One that is about as far, such as another node of the primary's
// region, would come and go with each measurement: who comes has to be nearer by a margin, who leaves further by one.
func (v *view) nearer(previous *view, node string, rtt time.Duration) bool {
	margin := max(500*time.Microsecond, v.primaryRTT/20)
	if previous != nil && slices.ContainsFunc(previous.reads, func(c candidate) bool { return c.node == node }) {
		margin = -margin
	}
	return rtt+margin < v.primaryRTT
}

// keepFirst is the hysteresis: who served the reads until now stays, unless another is nearer by more than the band.
func (v *view) keepFirst(previous *view) {
	if previous == nil || len(previous.reads) == 0 || len(v.reads) < 2 {
		return
	}
	i := slices.IndexFunc(v.reads, func(c candidate) bool { return c.node == previous.reads[0].node })
	if i <= 0 || v.reads[i].rtt > v.reads[0].rtt+band(v.reads[0].rtt) {
		return
	}
	c := v.reads[i]
	v.reads = slices.Insert(slices.Delete(v.reads, i, i+1), 0, c)
}

// band is the difference in round-trip times that isn't worth a change of node.
func band(best time.Duration) time.Duration { return max(time.Millisecond, best/5) }

// switching says that this node is to be the primary, and its store doesn't lead, yet or any more.
func (v *view) switching() bool { return v.primary == v.self && v.hasStore && !v.localPrimary }

// lostLately is how long after the loss of the primary it may be expected back at any moment: it may be starting again, or
// another node about to take its place. Later, commands are told at once.
const lostLately = 8 * time.Second

// patience is how long a command waits for the primary that it needs before it is told that there is none.
func (v *view) patience(o *Options, now time.Time) time.Duration {
	switch {
	case v.switching():
		return o.SwitchTimeout
	case !v.primaryReachable && now.Sub(v.lostAt) < lostLately:
		return o.LostTimeout
	}
	return 0
}

func (v *view) waitBound(lo, hi time.Duration) time.Duration {
	return min(max(2*v.primaryRTT, lo), hi)
}

// same says whether nothing changed that anybody would want to be told of.
func (v *view) same(o *view) bool {
	return o != nil && v.revision == o.revision && v.store == o.store && v.localUsable == o.localUsable && v.localPrimary == o.localPrimary &&
		v.primary == o.primary && v.primaryReachable == o.primaryReachable &&
		slices.EqualFunc(v.reads, o.reads, func(a, b candidate) bool { return a.node == b.node })
}
