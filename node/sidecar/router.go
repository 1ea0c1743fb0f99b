package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"respmesh/mesh"
)

// router knows which node is used: it gives each region's addresses to one of its nodes, measures these, and chooses.
type router struct {
	opts   routerOptions
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	m       *membership      // guarded by mu
	sites   map[string]*site // by region, guarded by mu
	now     *place           // nil: none, guarded by mu
	changed chan struct{}    // closed when now is replaced, guarded by mu
	moves   uint64           // guarded by mu
	warm    warmth           // guarded by mu
}

// warmth is whether the first choice has been made. It waits a moment for the others after the first answer: the nearest
// node isn't always the first to know a new peer.
type warmth uint8

const (
	cold warmth = iota
	warming
	warmed
)

const warmUp = 1500 * time.Millisecond

// routerOptions are all required but Prefer. None of the functions may call the router.
type routerOptions struct {
	Self     netip.Addr
	Database string // that pings are sent to; set before set is called
	Dial     func(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
	SetPeers func([]mesh.Peer) error
	Lost     func(node string)     // sessions on it have to end
	Busy     func(node string) int // sessions on it
	Prefer   string                // region
	Settle   time.Duration
	Log      *slog.Logger
}

// site is a region. Its mutable fields are guarded by the router's mu.
type site struct {
	region string
	wake   chan struct{}
	end    context.CancelFunc

	nodes    []member
	at       member // the one that has the region's addresses
	healthy  bool
	trying   bool // others of the region are being tried after one failed
	since    time.Time
	rtt      time.Duration
	window   window
	failures int       // lately
	failed   time.Time // the last one
}

// place is a node in use.
type place struct {
	region, name string
	rtt          time.Duration
}

// How often nodes are measured, and how long one may take to answer. A node that dies right after a ping is noticed after
// pingUsed and a timeout; then a sibling may take another one. Together they stay below three seconds.
const (
	pingUsed    = time.Second            // where sessions are
	pingOthers  = 5 * time.Second        //
	pingLost    = 500 * time.Millisecond // while there is no node
	timeoutBase = 700 * time.Millisecond // and two round trips
	timeoutMost = 1200 * time.Millisecond
	siblings    = 3 // that are tried at a time

	failuresFade = 10 * time.Minute
	maxBackoff   = 5 // doublings of the time to settle
)

func newRouter(ctx context.Context, o routerOptions) *router {
	r := &router{opts: o, sites: make(map[string]*site), changed: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

func (r *router) close() {
	r.cancel()
	r.wg.Wait()
}

// set takes a new list of nodes over.
func (r *router) set(m *membership) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.m = m
	byRegion := make(map[string][]member)
	for _, n := range m.Nodes {
		byRegion[n.Region] = append(byRegion[n.Region], n)
	}
	for region, s := range r.sites {
		if len(byRegion[region]) == 0 {
			s.end()
			delete(r.sites, region)
			r.lostLocked(s, "it left the mesh")
		}
	}
	for region, nodes := range byRegion {
		if s := r.sites[region]; s != nil {
			r.updateLocked(s, nodes)
			continue
		}
		ctx, end := context.WithCancel(r.ctx)
		s := &site{region: region, wake: make(chan struct{}, 1), end: end, nodes: nodes, at: nodes[0]}
		for _, n := range nodes {
			if !n.Draining {
				s.at = n
				break
			}
		}
		r.sites[region] = s
		r.wg.Go(func() { r.watch(ctx, s) })
	}
	r.chooseLocked()
	return r.routeLocked()
}

// updateLocked keeps the node in use if it is still there. One that drains is left when nothing is on it.
func (r *router) updateLocked(s *site, nodes []member) {
	s.nodes = nodes
	var here, other *member
	for i := range nodes {
		switch n := &nodes[i]; {
		case n.Name == s.at.Name && n.Key == s.at.Key:
			here = n
		case other == nil || other.Draining:
			other = n
		}
	}
	if here != nil && (!here.Draining || other == nil || other.Draining || r.opts.Busy(here.Name) > 0) {
		s.at = *here // its endpoint may be another
		return
	}
	if here == nil {
		r.lostLocked(s, "it left the mesh")
	}
	r.giveLocked(s, *other)
}

// giveLocked has another node of the region take over its addresses.
func (r *router) giveLocked(s *site, to member) {
	if r.now != nil && r.now.region == s.region {
		r.useLocked(nil)
	}
	s.at, s.healthy, s.rtt, s.window = to, false, 0, window{}
	s.poke()
}

// routeLocked tells WireGuard who has which addresses.
func (r *router) routeLocked() error {
	var peers []mesh.Peer
	for _, s := range r.sites {
		for _, n := range s.nodes {
			key, err := mesh.ParsePublicKey(n.Key)
			if err != nil {
				return fmt.Errorf("node %s: %w", n.Name, err)
			}
			p := mesh.Peer{PublicKey: key, Host: n.Endpoint}
			if n.Name == s.at.Name {
				if prefix, ok := r.m.region(s.region); ok {
					p.AllowedIPs = []netip.Prefix{prefix}
				}
			}
			peers = append(peers, p)
		}
	}
	return r.opts.SetPeers(peers)
}

func (s *site) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// watch measures a region's node until ctx ends.
func (r *router) watch(ctx context.Context, s *site) {
	p := &pinger{dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return r.opts.Dial(ctx, r.opts.Self, to)
	}}
	defer p.close()
	for {
		r.measure(ctx, s, p)
		timer := time.NewTimer(r.interval(s))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (r *router) interval(s *site) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.now == nil:
		return pingLost
	case r.now.region == s.region, r.opts.Busy(s.at.Name) > 0:
		return pingUsed
	}
	return pingOthers
}

// measure pings the region's node, and others of the region if it fails.
func (r *router) measure(ctx context.Context, s *site, p *pinger) {
	for try := 1; ; try++ {
		r.mu.Lock()
		at, rtt, most := s.at, s.rtt, min(siblings, len(s.nodes))
		addr, ok := r.m.regional(r.opts.Database, s.region)
		r.mu.Unlock()
		if !ok {
			return // the database is gone
		}
		rtt, err := p.ping(ctx, at.Key, netip.AddrPortFrom(addr, redisPort), min(timeoutBase+2*rtt, timeoutMost))
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			r.alive(s, at, rtt)
			return
		}
		if !r.dead(s, at, err, try < most) {
			return
		}
	}
}

// alive notes an answer.
func (r *router) alive(s *site, at member, rtt time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.at.Name != at.Name || r.sites[s.region] != s {
		return
	}
	if !s.healthy {
		s.healthy, s.since = true, time.Now()
		r.opts.Log.Debug("node answers", "node", at.Name, "region", s.region, "rtt", rtt)
	}
	if s.failures > 0 && time.Since(s.failed) > failuresFade {
		s.failures = 0
	}
	s.rtt, s.trying = s.window.add(rtt), false
	r.warmLocked(s)
	r.chooseLocked()
}

// warmLocked lets the first choice be made when all nodes have answered, or the preferred one, or enough time has gone by.
func (r *router) warmLocked(s *site) {
	all := true
	for _, other := range r.sites {
		all = all && other.healthy
	}
	if all || s.region == r.opts.Prefer {
		r.warm = warmed
	}
	if r.warm != cold {
		return
	}
	r.warm = warming
	r.wg.Go(func() {
		timer := time.NewTimer(warmUp)
		defer timer.Stop()
		select {
		case <-r.ctx.Done():
		case <-timer.C:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.warm = warmed
			r.chooseLocked()
		}
	})
}

// dead notes that a node doesn't answer: its sessions end. With another one to try it gives that the region's addresses, and
// says so.
func (r *router) dead(s *site, at member, err error, another bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.at.Name != at.Name || r.sites[s.region] != s {
		return true // it was changed meanwhile: measure that one
	}
	r.lostLocked(s, err.Error())
	next, ok := s.next()
	s.trying = false
	if !ok {
		r.chooseLocked()
		return false
	}
	r.giveLocked(s, next)
	if err := r.routeLocked(); err != nil {
		r.opts.Log.Error("the nodes can't be set", "err", err)
		another = false
	}
	s.trying = another
	if !another {
		r.chooseLocked()
	}
	return another
}

// next is the node after the one in use, without those that drain as long as there are others.
func (s *site) next() (member, bool) {
	i := 0
	for k, n := range s.nodes {
		if n.Name == s.at.Name {
			i = k
		}
	}
	var found member
	ok := false
	for k := 1; k < len(s.nodes); k++ {
		n := s.nodes[(i+k)%len(s.nodes)]
		if !n.Draining {
			return n, true
		}
		if !ok {
			found, ok = n, true
		}
	}
	return found, ok
}

// lostLocked ends the sessions on a region's node, and its use.
func (r *router) lostLocked(s *site, why string) {
	if s.healthy {
		s.failures, s.failed = s.failures+1, time.Now()
		r.opts.Log.Warn("node lost", "node", s.at.Name, "region", s.region, "reason", why, "sessions", r.opts.Busy(s.at.Name))
	}
	s.healthy, s.rtt, s.window = false, 0, window{}
	if r.now != nil && r.now.region == s.region {
		r.useLocked(nil)
	}
	r.opts.Lost(s.at.Name)
}

// chooseLocked moves to another region if there is reason to.
func (r *router) chooseLocked() {
	if r.warm != warmed {
		return
	}
	all := make([]candidate, 0, len(r.sites))
	for _, s := range r.sites {
		all = append(all, candidate{
			region: s.region, healthy: s.healthy, draining: s.at.Draining, rtt: s.rtt, since: s.since,
			settle: r.opts.Settle << min(max(s.failures-1, 0), maxBackoff),
		})
	}
	inUse := ""
	if r.now != nil {
		inUse = r.now.region
	}
	for _, s := range r.sites {
		if s.trying && r.now == nil {
			return // it may be the nearest, and it is known within a timeout
		}
	}
	chosen := choose(time.Now(), inUse, r.opts.Prefer, all)
	if chosen == "" {
		if r.now != nil {
			r.useLocked(nil)
		}
		return
	}
	s := r.sites[chosen]
	if r.now != nil && r.now.region == chosen && r.now.name == s.at.Name {
		return
	}
	r.useLocked(&place{region: chosen, name: s.at.Name, rtt: s.rtt})
}

func (r *router) useLocked(p *place) {
	if p != nil {
		r.moves++
		r.opts.Log.Info("node in use", "node", p.name, "region", p.region, "rtt", p.rtt)
	}
	r.now = p
	close(r.changed)
	r.changed = make(chan struct{})
	for _, s := range r.sites {
		if p == nil || s.region == p.region {
			s.poke() // it is measured more often now
		}
	}
}

// current is the node in use, or nil, and a channel that is closed when that changes.
func (r *router) current() (*place, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now, r.changed
}

// await waits for a node in use.
func (r *router) await(ctx context.Context) (*place, bool) {
	for {
		p, changed := r.current()
		if p != nil {
			return p, true
		}
		select {
		case <-ctx.Done():
			return nil, false
		case <-changed:
		}
	}
}

// holds tells whether a place still is what it was.
func (r *router) holds(p *place) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[p.region]
	return s != nil && s.healthy && s.at.Name == p.name
}

// suspect has a node measured now.
func (r *router) suspect(p *place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sites[p.region]; s != nil && s.at.Name == p.name {
		s.poke()
	}
}

// address is where a database is at a place.
func (r *router) address(database string, p *place) (netip.AddrPort, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.m.regional(database, p.region)
	return netip.AddrPortFrom(a, redisPort), ok
}
