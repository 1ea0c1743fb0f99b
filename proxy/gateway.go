package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/frame"
)

// Gateway serves the clients of one database on one node.
type Gateway struct {
	opt    Options
	log    *slog.Logger
	meters *meters
	table  *table
	ryw    *ryw

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // everything but sessions

	users     atomic.Pointer[accounts]
	wrong     failures                 // passwords
	own       atomic.Pointer[ownStore] // nil: no copy here
	view      atomic.Pointer[view]
	viewMu    sync.Mutex                    // of those who make a new one
	published atomic.Pointer[chan struct{}] // closed when the view is replaced by one that differs

	parkMu    sync.Mutex
	parked    []*call // see switch.go
	unparking bool

	remotes atomic.Pointer[map[string]*remote]
	nudged  chan struct{}
	seen    seenPosition // the highest that other nodes' replicas have shown: one that isn't as far mustn't serve

	linkMu sync.Mutex
	links  map[linkKey]*link
	open   map[*link]struct{}
	idle   map[string][]*link   // pinned links that nobody uses, by node
	failed map[string]time.Time // when a dial failed

	mu        sync.Mutex
	sessions  map[int64]*session
	listeners map[net.Listener]struct{}
	closed    bool
	running   sync.WaitGroup // sessions
	monitors  map[*session]struct{}
	monitored atomic.Int32 // len(monitors)
	paused    atomic.Pointer[pause]
	slow      slowlog
	acl       acllog
	hot       hotkeys
	bigTold   atomic.Int64 // unix nano
	rate      rate
	slots     slots
	share     *share
	left      sync.Once
	hedges    allowance
	memory    atomic.Int64  // that clients leave untaken
	requests  atomic.Int64  // that requests take which aren't complete yet
	pressed   time.Duration // for so long that has been too much; of follow
	policed   time.Time
	draining  atomic.Bool
	nextID    atomic.Int64
}

// New starts a gateway; it serves nobody until Serve.
func New(opt Options) (*Gateway, error) {
	if err := opt.setDefaults(); err != nil {
		return nil, err
	}
	g := &Gateway{
		opt: opt, log: opt.Log.With("database", opt.Database, "region", opt.Region),
		meters: opt.Metrics.resolve(opt.Org+"/"+opt.Database, opt.Region), table: newTable(), ryw: newRYW(),
		nudged: make(chan struct{}, 1),
		links:  make(map[linkKey]*link), open: make(map[*link]struct{}),
		idle: make(map[string][]*link), failed: make(map[string]time.Time),
		sessions: make(map[int64]*session), listeners: make(map[net.Listener]struct{}),
	}
	g.slots.free.L = &g.slots.mu
	g.share = opt.Turns.of(opt.Org + "/" + opt.Database)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if opt.Store != nil {
		g.own.Store(&ownStore{opt.Store})
	}
	topology, _ := opt.Source.Current()
	g.rebuild(topology)
	g.wg.Go(g.follow)
	return g, nil
}

// Serve accepts clients until ctx ends or the gateway is closed. Their sessions go on until Close.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		ln.Close()
		return ErrClosed
	}
	g.listeners[ln] = struct{}{}
	g.mu.Unlock()
	defer func() {
		ln.Close()
		g.mu.Lock()
		delete(g.listeners, ln)
		g.mu.Unlock()
	}()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	pause := 5 * time.Millisecond
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			g.accept(conn)
		case ctx.Err() != nil || g.draining.Load():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // such as too many open files: goes by
			g.log.Warn("accept failed", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, time.Second)
		}
	}
}

func (g *Gateway) accept(conn net.Conn) {
	var peer string
	if g.opt.Peer != nil {
		var allowed bool
		if peer, allowed = g.opt.Peer(conn); !allowed {
			g.meters.cutForeign.Inc()
			conn.Close()
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		conn.Close()
		return
	}
	g.meters.sessionsAll.Inc()
	if len(g.sessions) >= g.maxSessions() {
		g.meters.cutFull.Inc()
		g.running.Go(func() {
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			conn.Write(frame.AppendError(nil, "ERR max number of clients reached"))
			conn.Close()
		})
		return
	}
	if c, ok := conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok && g.opt.KeepAlive > 0 {
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: g.opt.KeepAlive, Interval: max(g.opt.KeepAlive/4, time.Second), Count: 4})
	}
	s := newSession(g, g.nextID.Add(1), conn)
	s.peer = peer
	g.sessions[s.id] = s
	g.meters.sessions.Inc()
	g.running.Add(1)
	if s.polled != nil {
		s.polled.Start()
	} else {
		go s.run()
	}
}

// forget is called when a session has ended.
func (g *Gateway) forget(s *session) {
	g.mu.Lock()
	delete(g.sessions, s.id)
	g.mu.Unlock()
	g.meters.sessions.Dec()
	g.running.Done()
}

// Close stops accepting, lets the sessions finish what they were asked, and closes them. When ctx ends it stops
// waiting for them.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	g.draining.Store(true)
	for ln := range g.listeners {
		ln.Close()
	}
	for _, s := range g.sessions {
		s.conn.SetReadDeadline(longAgo)
	}
	g.mu.Unlock()

	drained := make(chan struct{})
	go func() { g.running.Wait(); close(drained) }()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = ctx.Err()
		for _, s := range g.snapshot() {
			s.kill(cutLocal)
		}
	}
	g.cancel()
	g.linkMu.Lock()
	for l := range g.open {
		l.close(errClosing)
	}
	g.linkMu.Unlock()
	<-drained
	g.wg.Wait()
	g.left.Do(g.share.leave)
	g.meters.metrics.latency.remove(g.meters.latency)
	return err
}

// longAgo is the deadline that interrupts a read.
var longAgo = time.Unix(1, 0)

// Peers counts the sessions by who is at their other end, where that is known.
func (g *Gateway) Peers() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	peers := make(map[string]int)
	for _, s := range g.sessions {
		if s.peer != "" {
			peers[s.peer]++
		}
	}
	return peers
}

func (g *Gateway) snapshot() []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*session, 0, len(g.sessions))
	for _, s := range g.sessions {
		all = append(all, s)
	}
	return all
}

// nudge has the view rebuilt soon.
func (g *Gateway) nudge() {
	select {
	case g.nudged <- struct{}{}:
	default:
	}
}

// followEvery is how often the view takes in new round-trip times and the state of the local store.
const followEvery = 250 * time.Millisecond

// follow keeps the view up to date.
func (g *Gateway) follow() {
	tick := time.NewTicker(min(followEvery, g.opt.StatusEvery))
	defer tick.Stop()
	var asked time.Time
	for {
		topology, replaced := g.opt.Source.Current()
		changed := g.opt.Mesh.Changed()
		now := time.Now()
		v := g.rebuild(topology)
		g.tend(now)
		g.police(now, &v.settings, min(followEvery, g.opt.StatusEvery))
		if now.Sub(asked) >= g.opt.StatusEvery-followEvery/8 {
			asked = now
			g.ask(topology, v)
		}
		g.warm(v)
		if history := g.ryw.replid.Load(); history != nil {
			g.ryw.sweep(*history, g.applied(v, history))
		}
		g.meters.pending.Set(float64(g.ryw.count.Load()))
		select {
		case <-g.ctx.Done():
			return
		case <-replaced:
		case <-changed:
		case <-g.nudged:
		case <-tick.C:
		}
	}
}

// rebuild publishes a new view.
func (g *Gateway) rebuild(topology *Topology) *view {
	g.viewMu.Lock()
	defer g.viewMu.Unlock()
	if old := g.view.Load(); old != nil && topology.Revision < old.revision {
		topology, _ = g.opt.Source.Current() // somebody has seen a newer one meanwhile
	}
	known := g.remotes.Load()
	next := make(map[string]*remote, len(topology.Members))
	same := known != nil && len(*known) == len(topology.Members)
	for _, m := range topology.Members {
		if known != nil {
			next[m.Node] = (*known)[m.Node]
		}
		if next[m.Node] == nil || next[m.Node].region != m.Region {
			next[m.Node] = &remote{node: m.Node, region: m.Region}
			same = false
		}
	}
	if !same {
		g.remotes.Store(&next)
	}
	in := viewInput{
		topology: topology, self: g.opt.Node, store: g.own.Load(), now: time.Now(), rtt: g.opt.Mesh.RTT, remotes: *g.remotes.Load(), previous: g.view.Load(),
	}
	if in.store != nil {
		in.state = in.store.State()
	}
	g.setUsers(&topology.Settings)
	v := buildView(in)
	g.moved(in.previous, v)
	old := g.view.Swap(v)
	g.moved(old, v) // what was shown meanwhile, too
	if !v.same(old) {
		next := make(chan struct{})
		if before := g.published.Swap(&next); before != nil {
			close(*before)
		}
		d := route(classRead, 0, false, sessionView{}, v)
		g.log.Info("routing changed", "primary", v.primaryRegion, "reachable", v.primaryReachable,
			"reads", d.node, "reason", d.reason, "revision", v.revision)
	}
	return v
}

func (g *Gateway) remote(node string) *remote { return (*g.remotes.Load())[node] }

// applied is how far in a history every copy is that reads here may use.
func (g *Gateway) applied(v *view, history *string) int64 {
	if v.store != nil {
		if replid, offset := v.store.Position(); replid == *history {
			if !v.localUsable {
				g.seen.raise(history, offset) // reads go elsewhere, and what is forgotten by this must be had there
			}
			return offset
		}
		return 0
	}
	var least int64
	for i, c := range v.reads {
		replid, offset := c.remote.at.get()
		if replid == nil || *replid != *history {
			return 0
		}
		if i == 0 || offset < least {
			least = offset
		}
	}
	if least > 0 {
		g.seen.raise(history, least) // what is forgotten by this must be had by a replica that joins them, too
	}
	return least
}

// moved keeps reads monotonic when they move between the local store and others.
func (g *Gateway) moved(old, v *view) {
	if old == nil || v.localPrimary || old.localUsable == v.localUsable {
		return
	}
	var replid string
	var offset int64
	if v.store != nil {
		replid, offset = v.store.Position()
	} else if old.store != nil {
		replid, offset = old.store.Position()
	}
	if !v.localUsable {
		g.seen.raise(&replid, offset)
		return
	}
	if seenReplid, seenOffset := g.seen.get(); seenReplid != nil {
		var applied int64
		if *seenReplid == replid {
			applied = offset
		}
		g.ryw.record(seenReplid, seenOffset, applied, true, nil)
	}
}
