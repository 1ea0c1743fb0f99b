package node

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"respmesh/netconf"
)

// Which node of the primary's region takes a database's writes is decided by a lease: the control plane keeps, per
// database, who holds it and in which term. The rules:
//
//   - Who holds the lease leads, until the moment from which on another might hold it (claim.until): then it fences
//     itself, whatever it knows of the others.
//   - With control out of reach at that moment it goes on if it is the only node of the region, since nobody else could
//     take over; or as long as all other nodes of the region promise not to take over (hold).
//   - Everybody else follows the node that holds it, or held it last.
//   - When nobody holds it, the node that held it last takes it at once, unless another one still has what it has lost.
//   - Another one may if it was in the stream of the last term, and no other such node that can be asked has more of it.
//     Where writes wait for replicas, so many must have said what they have that all that was acknowledged is among it.
//   - An operator may name the node that is to lead after a term. The others leave the lease to it for a while, and who holds it
//     hands it over. Forced, that node takes over although it hasn't all that was acknowledged in that term.
//   - Of data that are on a server elsewhere, any node has all; of those on a server that the node runs itself, no other has
//     any.
//
// A node that finds itself replaced becomes a replica: what it had written beyond its successor's history is counted and
// logged by the store, and never merged.

// leases is what elections need of the control plane.
type leases interface {
	// Claim makes this node the primary if no other node is and the record is still the one seen. The node that is the
	// primary may claim again.
	Claim(ctx context.Context, db string, seen netconf.Primary) (claim, error)
	// Advance begins a new term of what this node has claimed.
	Advance(ctx context.Context, db string, held claim) (claim, error)
}

// claim is a lease on a database.
type claim struct {
	term int64
	// until is when the lease may be over: another node can take over from then on. It moves on as the lease is renewed;
	// it is in the past for good once the lease was lost. Nil is a lead without a lease.
	until func() time.Time
}

// electable is what an election decides about: the database's copy on this node.
type electable interface {
	// lead makes the copy take writes. While it does so already, a new term is cheap.
	lead(ctx context.Context, term int64) error
	// follow makes the copy a replica of the node that leads in a term. The same node and term again is cheap.
	follow(ctx context.Context, node string, term int64) error
	// fence refuses writes from now on; those on their way get no good answer any more. It doesn't block.
	fence()
	standing() standing
	// stragglers are other candidates that hold up writes since they have left the stream, and after which time there may be
	// more, if that isn't 0; exclude has writes not wait for them any more.
	stragglers() ([]netip.Addr, time.Duration)
	exclude([]netip.Addr)
	// stake says whose the data are: who may take over.
	stake() stake
}

// stake is who has a database's data.
type stake int

const (
	ofCopies stake = iota // each copy: who has all of it
	ofAll                 // a server elsewhere has: any node may lead
	ofLast                // the node that led last, and nobody else
)

// standing is a copy's claim to lead.
type standing struct {
	Replid string `json:"replid"`
	Offset int64  `json:"offset"`
	Term   int64  `json:"term"` // the last in which it led, or had all of the leader's data; 0: none
}

const (
	// claimAgain is how long a candidate waits before it looks again at who is further.
	claimAgain = 250 * time.Millisecond
	// tieBreak is how long equals leave the lease to the first by name.
	tieBreak = time.Second
	// leaveTo is for how long a free lease is left to the node that an operator has named.
	leaveTo = 5 * time.Second
	// askTimeout bounds a question to another candidate. One that doesn't answer in that time doesn't count.
	askTimeout = 700 * time.Millisecond
	// holdFor is how long a node promises not to take over; who asked counts from before its question.
	holdFor = 4 * time.Second
	// askBefore is how long before the end of its lease a node asks for promises. Leases are renewed long before.
	askBefore = 700 * time.Millisecond
	// claimTimeout bounds a transaction with the control plane.
	claimTimeout = time.Second
	// retryRole is when a change of role that failed is tried again.
	retryRole = time.Second
)

// election is one database's on one node. One goroutine runs it.
type election struct {
	db     string // ID
	self   string
	region string
	leases leases // nil: no elections, the topology says who leads
	copy   electable
	// ask gives the standing of the copy on another node.
	ask func(ctx context.Context, node string) (standing, error)
	// hold asks another node for the promise not to take over, on behalf of data of a term.
	hold func(ctx context.Context, node string, term int64) (time.Duration, error)
	// drained tells that this node takes no lease, since it is ending or another one is to have it.
	drained func(t *netconf.Topology) bool
	// impaired tells that the copy can't keep what is written; another one should lead, if it can. May be nil.
	impaired func() bool
	log      *slog.Logger

	vacant time.Time // since when nobody holds the lease

	mu        sync.Mutex
	leading   claim       // term 0: it doesn't lead
	heldUntil time.Time   // by the others' promises
	claiming  bool        // a claim is on its way, or was successful
	promised  time.Time   // this node claims nothing before
	guard     *time.Timer // fences when the time is over
	overdue   *overdue    // who may not wait for the guard; may be nil
}

// run follows the topology until ctx ends. What stirs it makes it look again.
func (e *election) run(ctx context.Context, source Source, stir <-chan struct{}) {
	defer e.stopGuard()
	for {
		t, changed := source.Current()
		var again <-chan time.Time
		if wait := e.step(ctx, t); wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		case <-stir:
		}
	}
}

// step does what the topology asks for now, and says after which time to look again at the latest; 0: with the next
// topology.
func (e *election) step(ctx context.Context, t *netconf.Topology) time.Duration {
	db, ok := t.DatabaseByID(e.db)
	if !ok {
		return 0
	}
	record := t.Live.Primaries[e.db]
	if e.leases == nil || db.Primary != e.region {
		return e.appointed(ctx, t, db, record)
	}
	if e.current().term > 0 {
		if again, leads := e.stay(ctx, t, record); leads {
			return again
		}
	}
	if record.Held && record.Node != e.self {
		e.vacant = time.Time{}
		return e.follow(ctx, record)
	}
	return e.candidate(ctx, t, record)
}

// appointed is the way without an election: in other regions, and where there is no control plane.
func (e *election) appointed(ctx context.Context, t *netconf.Topology, db netconf.Database, record netconf.Primary) time.Duration {
	primary, ok := t.Primary(db)
	switch {
	case !ok:
		e.resign()
		return 0
	case primary.Name != e.self:
		e.resign()
		return e.follow(ctx, netconf.Primary{Node: primary.Name, Term: record.Term})
	}
	return e.lead(ctx, claim{term: max(record.Term, 1)})
}

// stay tells whether this node may go on leading, and fences it if not.
func (e *election) stay(ctx context.Context, t *netconf.Topology, record netconf.Primary) (time.Duration, bool) {
	c := e.current()
	left := time.Until(c.over())
	switch {
	case record.Term > c.term && record.Node != e.self, left <= 0 && e.gives(t, record): // the lease was handed over
		e.log.Info("gives up the lead", "term", c.term, "successor", record.Node, "successorTerm", record.Term)
		e.resign()
		return 0, false
	case left > askBefore:
		e.extend(time.Time{})
		away, after := e.copy.stragglers()
		switch {
		case after > 0:
			return min(after, left-askBefore), true
		case len(away) > 0:
			return e.leaveBehind(ctx, away), true
		}
		return left - askBefore, true
	}
	// The lease is over, or about to be. As long as nobody else can have it, go on, and try to have it again.
	until := e.promises(ctx, t)
	if !until.After(time.Now()) {
		if left = time.Until(c.over()); left > 0 {
			return left, true // renewed meanwhile, or soon over
		}
		e.log.Warn("fences itself: its lease is over", "term", c.term)
		e.resign()
		return 0, false
	}
	e.extend(until)
	if !e.gives(t, record) {
		if again := e.claim(ctx, record); e.current().leased() {
			return again, true
		}
	}
	return min(time.Until(until)/2, retryRole), true
}

// leaveBehind begins a new term, which the candidates that have left the stream don't have: they can't take over until they
// are back in it. So what is written from now on needn't wait for them.
func (e *election) leaveBehind(ctx context.Context, away []netip.Addr) time.Duration {
	bounded, cancel := context.WithTimeout(ctx, claimTimeout)
	c, err := e.leases.Advance(bounded, e.db, e.current())
	cancel()
	if err != nil {
		e.log.Warn("another candidate is out of the stream, and holds up writes", "candidates", away, "err", err)
		return claimAgain
	}
	e.log.Info("goes on without candidates that left the stream", "candidates", away, "term", c.term)
	e.copy.exclude(away) // before the copy knows the term: who is told it isn't excluded any more
	return e.lead(ctx, c)
}

// promises asks all other nodes of the region not to take over. Where there is none, nobody can.
func (e *election) promises(ctx context.Context, t *netconf.Topology) time.Time {
	until, term := time.Now().Add(holdFor), e.copy.standing().Term
	for _, other := range t.NodesIn(e.region) {
		if other.Name == e.self {
			continue
		}
		asked := time.Now()
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		d, err := e.hold(ask, other.Name, term)
		cancel()
		if err != nil {
			e.log.Warn("control is out of reach, and another candidate doesn't promise to hold still", "candidate", other.Name, "err", err)
			return time.Time{}
		}
		if h := asked.Add(d); h.Before(until) {
			until = h
		}
	}
	return until
}

// promise is the other side of promises: unless this node leads or is about to, it claims nothing for some time. It refuses
// who has only an earlier term's data than there are here: that one doesn't know of the primary there was meanwhile.
func (e *election) promise(term int64) (time.Duration, bool) {
	own := e.copy.standing().Term
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.claiming || own > term {
		return 0, false
	}
	e.promised = time.Now().Add(holdFor)
	return holdFor, true
}

// candidate takes the lease, or waits for one that should have it.
func (e *election) candidate(ctx context.Context, t *netconf.Topology, record netconf.Primary) time.Duration {
	if e.vacant.IsZero() {
		e.vacant = time.Now()
	}
	if e.gives(t, record) {
		if record.Node != "" && record.Node != e.self {
			e.follow(ctx, record)
		}
		return claimAgain
	}
	if !e.eligible(ctx, t, record) {
		if record.Node != "" && record.Node != e.self {
			e.follow(ctx, record) // it may come back
		}
		return claimAgain
	}
	again := e.claim(ctx, record)
	if e.current().term == 0 && record.Node == e.self {
		// It led last and can't get the lease: control may be away for long, and this node may just have been started.
		if until := e.promises(ctx, t); until.After(time.Now()) {
			e.log.Warn("leads without the control plane", "term", record.Term)
			e.extend(until)
			return cmp.Or(e.lead(ctx, claim{term: max(record.Term, 1)}), retryRole)
		}
	}
	return again
}

// gives tells whether this node leaves the lead to others: it ends or is drained, an operator has named another one to lead
// next, or it can't keep what is written.
func (e *election) gives(t *netconf.Topology, record netconf.Primary) bool {
	if e.drained(t) {
		return true
	}
	if !e.vacant.IsZero() && time.Since(e.vacant) > leaveTo {
		return false
	}
	if l := e.named(t, record); l.Node != "" {
		_, alive := t.Live.Nodes[l.Node]
		return alive && l.Node != e.self
	}
	return e.impaired != nil && e.impaired() && e.othersAlive(t)
}

// named is an operator's word about who leads after the last term; zero: there is none.
func (e *election) named(t *netconf.Topology, record netconf.Primary) netconf.Lead {
	if db, _ := t.DatabaseByID(e.db); db.Lead.Term == record.Term {
		return db.Lead
	}
	return netconf.Lead{}
}

// othersAlive tells whether there is another node in the region that could lead.
func (e *election) othersAlive(t *netconf.Topology) bool {
	for _, other := range t.NodesIn(e.region) {
		if _, alive := t.Live.Nodes[other.Name]; alive && other.Name != e.self && !other.Draining {
			return true
		}
	}
	return false
}

// claim takes the lease and leads, if it gets it.
func (e *election) claim(ctx context.Context, record netconf.Primary) time.Duration {
	if record.Held && record.Node != e.self || !e.beginClaim() {
		return claimAgain
	}
	bounded, cancel := context.WithTimeout(ctx, claimTimeout)
	c, err := e.leases.Claim(bounded, e.db, record)
	cancel()
	if err != nil {
		e.endClaim()
		if ctx.Err() == nil {
			e.log.Info("can't claim the lead", "err", err)
		}
		return claimAgain
	}
	e.vacant = time.Time{}
	e.log.Info("leads", "term", c.term)
	return e.lead(ctx, c)
}

// eligible tells whether this node may take over from the last one to hold the lease.
func (e *election) eligible(ctx context.Context, t *netconf.Topology, record netconf.Primary) bool {
	switch e.copy.stake() {
	case ofAll:
		return true
	case ofLast:
		return record.Node == "" || record.Node == e.self
	}
	own := e.copy.standing()
	word := e.named(t, record)
	named := word.Node == e.self
	if named && word.Force {
		e.log.Warn("takes the lead by an operator's word: what it lacks is given up", "replid", own.Replid, "offset", own.Offset, "term", own.Term, "lastTerm", record.Term)
		return true
	}
	if record.Node == e.self {
		return !e.lacks(ctx, t, record, own)
	}
	if record.Node != "" && own.Term != record.Term {
		return false // it hasn't all that was acknowledged in the last term
	}
	db, _ := t.DatabaseByID(e.db)
	safe, candidates, silent := db.MinReplicas, 1, 0
	if record.Node == "" {
		safe = 0
	}
	late := time.Since(e.vacant) > tieBreak
	for _, other := range t.NodesIn(e.region) {
		_, alive := t.Live.Nodes[other.Name]
		if other.Name == e.self || safe == 0 && (other.Draining || !alive) {
			continue
		}
		its, err := e.askOf(ctx, other.Name)
		if other.Name != record.Node {
			candidates++
		} else if err == nil {
			safe = 0 // it has all
		}
		if err != nil && other.Name != record.Node {
			silent++
		}
		switch {
		case err != nil || its.Term < own.Term:
		case its.Term > own.Term, its.Replid == own.Replid && its.Offset > own.Offset:
			e.log.Info("leaves the lead to a copy that is further", "candidate", other.Name, "offset", its.Offset, "own", own.Offset)
			return false
		case its.Replid == own.Replid && its.Offset < own.Offset:
		case other.Name < e.self && !late && !named:
			return false
		}
	}
	if safe > 0 && silent >= min(safe, candidates) {
		e.log.Warn("can't take the lead: other candidates don't say what they have, and may have acknowledged writes that aren't here", "silent", silent)
		return false
	}
	return true
}

// lacks tells whether another node that can take the lead has what this one, the last to lead, has lost since: its disk, or
// the end of it in a power cut.
func (e *election) lacks(ctx context.Context, t *netconf.Topology, record netconf.Primary, own standing) bool {
	db, _ := t.DatabaseByID(e.db)
	for _, other := range t.NodesIn(e.region) {
		if _, alive := t.Live.Nodes[other.Name]; other.Name == e.self || other.Draining || !alive {
			continue
		}
		its, err := e.askOf(ctx, other.Name)
		if err != nil || its.Term != record.Term {
			continue
		}
		if own.Term < its.Term || db.MinReplicas > 0 && its.Replid == own.Replid && its.Offset > own.Offset {
			e.log.Warn("leaves the lead to a copy that has what is lost here", "candidate", other.Name, "offset", its.Offset, "own", own.Offset)
			return true
		}
	}
	return false
}

func (e *election) askOf(ctx context.Context, node string) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return e.ask(ctx, node)
}

// lead makes the copy lead. From before it does, the guard watches the end of the lease.
func (e *election) lead(ctx context.Context, c claim) time.Duration {
	e.mu.Lock()
	e.leading, e.claiming = c, true
	if c.leased() {
		e.heldUntil = time.Time{}
	}
	e.watch()
	e.mu.Unlock()
	if err := e.copy.lead(ctx, c.term); err != nil {
		if ctx.Err() == nil {
			e.log.Error("can't lead", "term", c.term, "err", err)
		}
		e.resign() // step claims and tries again
		return retryRole
	}
	if e.current().term == 0 {
		e.copy.fence() // the guard was faster
		return claimAgain
	}
	if c.until == nil {
		return 0
	}
	return max(time.Until(c.until())-askBefore, time.Millisecond)
}

// leadAgain has the copy lead after it was fenced in vain, if it still may.
func (e *election) leadAgain(ctx context.Context) {
	if c := e.current(); c.leased() {
		e.lead(ctx, c)
	}
}

func (e *election) follow(ctx context.Context, record netconf.Primary) time.Duration {
	if err := e.copy.follow(ctx, record.Node, record.Term); err != nil {
		if ctx.Err() == nil {
			e.log.Error("can't follow the primary", "primary", record.Node, "err", err)
		}
		return retryRole
	}
	if record.Held && e.copy.standing().Term != record.Term {
		return retryRole // until it is in the stream of that term
	}
	return 0
}

// resign stops taking writes at once.
func (e *election) resign() {
	e.mu.Lock()
	leading := e.leading.term != 0
	e.leading, e.heldUntil, e.claiming = claim{}, time.Time{}, false
	e.mu.Unlock()
	if leading {
		e.copy.fence()
	}
}

func (e *election) beginClaim() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.promised.After(time.Now()) && e.leading.term == 0 {
		return false
	}
	e.claiming = true
	return true
}

func (e *election) endClaim() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.claiming = e.leading.term != 0
}

func (e *election) current() claim {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leading
}

// extend sets until when the others' promises hold; zero: the lease alone counts.
func (e *election) extend(until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heldUntil = until
}

// over is the end of the lease as it is known now.
func (c claim) over() time.Time {
	if c.until == nil {
		return time.Time{}
	}
	return c.until()
}

// leased tells a lead with a lease from one by promises.
func (c claim) leased() bool { return c.until != nil && c.until().After(time.Now()) }

// watch arms the guard: whatever the goroutine of the election waits for, at the end of the lease the copy is fenced.
// Called with mu held.
func (e *election) watch() {
	if e.leases == nil || e.guard != nil {
		return
	}
	left := e.end()
	e.overdue.in(left)
	e.guard = time.AfterFunc(left, e.check)
}

// end is how long this node may lead, as known now. Called with mu held.
func (e *election) end() time.Duration {
	until := e.leading.over()
	if e.heldUntil.After(until) {
		until = e.heldUntil
	}
	return time.Until(until)
}

// check is the guard.
func (e *election) check() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.guard == nil || e.leading.term == 0 {
		e.guard = nil
		return
	}
	left := e.end()
	if left > 0 {
		e.overdue.in(left)
		e.guard.Reset(left)
		return
	}
	e.guard = nil
	e.leading, e.heldUntil, e.claiming = claim{}, time.Time{}, false
	e.copy.fence()
}

func (e *election) stopGuard() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.guard != nil {
		e.guard.Stop()
		e.guard = nil
	}
}
