package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/frame"
)

// Cluster is a database on a Redis or Valkey Cluster. Its sessions see one plain server. Each node of the cluster is an
// [Engine] of its own, made when it is needed.
//
// Reads go to the nearest node of the shard. A replica is read only when it is known to have what was written to the
// slot through here, and its link to the primary is up.
type Cluster struct {
	opt    Options
	target *target
	table  *table
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{}
	close  func()

	slots  atomic.Pointer[slotMap]
	need   [slotCount]atomic.Int64 // offset of the shard's primary after the last write
	reason atomic.Pointer[string]

	mu      sync.Mutex
	members map[memberKey]*Engine
}

// memberKey: what reads replicas has connections of its own, so that a primary that was demoted doesn't answer on others.
type memberKey struct {
	addr     string
	readonly bool
}

const (
	clusterName    = "cluster" // stands for the history: there are as many as shards
	refreshEvery   = 2 * time.Second
	refreshSoonest = 20 * time.Millisecond
	heardWithin    = 3 * time.Second
)

// OpenCluster makes an engine on a cluster, of which the URL (redis+cluster://[user:password@]host,host, or rediss+cluster://)
// names some nodes. The cluster must be reachable.
func OpenCluster(ctx context.Context, opt Options) (*Cluster, error) {
	t, err := parseURL(opt.URL)
	if err != nil {
		return nil, err
	}
	if t.network != "tcp" || t.master != "" {
		return nil, fmt.Errorf("engine URL %s: a cluster's looks like redis+cluster://host:port,host:port", Redact(opt.URL))
	}
	if t.tls != nil && opt.TLS != nil {
		t.tls = opt.TLS
	}
	cl := &Cluster{opt: opt.withDefaults(), target: t, table: newTable(), kick: make(chan struct{}, 1), members: make(map[memberKey]*Engine)}
	cl.ctx, cl.cancel = context.WithCancel(context.WithoutCancel(ctx))
	cl.close = sync.OnceFunc(func() {
		cl.cancel()
		cl.wg.Wait()
		cl.mu.Lock()
		members := cl.members
		cl.members = nil
		cl.mu.Unlock()
		for _, e := range members {
			_ = e.Close()
		}
	})
	if err := cl.refresh(ctx); err != nil {
		cl.close()
		return nil, err
	}
	cl.wg.Go(cl.watch)
	return cl, nil
}

// Close ends all connections.
func (cl *Cluster) Close() error {
	cl.close()
	return nil
}

// member is the engine of a node. Nil: the cluster is closed.
func (cl *Cluster) member(addr string, readonly bool) *Engine {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.members == nil {
		return nil
	}
	k := memberKey{addr, readonly}
	e := cl.members[k]
	if e == nil {
		t := &target{network: "tcp", addrs: []string{addr}, tls: cl.target.tls, user: cl.target.user, pass: cl.target.pass}
		opt := cl.opt
		opt.URL = "redis://" + addr
		opt.ProbeEvery = min(opt.ProbeEvery, 200*time.Millisecond) // a replica's offset is what decides whether it is read
		e = newEngine(cl.ctx, opt, t, greeting{info: true, member: true, readonly: readonly}, cl.table)
		cl.members[k] = e
	}
	return e
}

// refresh asks the nodes, those known and those of the URL, for the slots.
func (cl *Cluster) refresh(ctx context.Context) error {
	var addrs []string
	if m := cl.slots.Load(); m != nil {
		for _, s := range m.shards {
			addrs = append(append(addrs, s.primary), s.replicas...)
		}
	}
	var errs []error
	for _, addr := range append(addrs, cl.target.addrs...) {
		m, err := cl.ask(ctx, addr)
		if err == nil {
			cl.slots.Store(m)
			cl.retire(m)
			return nil
		}
		errs = append(errs, fmt.Errorf("node %s: %w", addr, err))
	}
	return fmt.Errorf("no node of the cluster tells its slots: %w", errors.Join(errs...))
}

func (cl *Cluster) ask(ctx context.Context, addr string) (*slotMap, error) {
	ctx, cancel := context.WithTimeout(ctx, cl.opt.DialTimeout)
	defer cancel()
	conn, err := dialAddr(ctx, "tcp", addr, cl.target.tls)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r, _, err := greet(ctx, conn, greeting{user: cl.target.user, pass: cl.target.pass})
	if err != nil {
		return nil, err
	}
	f, err := askConn(ctx, conn, r, "CLUSTER", "SLOTS")
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(addr)
	return parseSlots(f, host)
}

// retire closes the engines of nodes that the cluster has no more.
func (cl *Cluster) retire(m *slotMap) {
	known := make(map[string]bool)
	for _, s := range m.shards {
		known[s.primary] = true
		for _, r := range s.replicas {
			known[r] = true
		}
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for k, e := range cl.members {
		if !known[k.addr] {
			delete(cl.members, k)
			cl.wg.Go(func() { _ = e.Close() })
		}
	}
}

// moved takes what a server said of one slot, and has all asked for.
func (cl *Cluster) moved(slot uint16, addr string) {
	for {
		m := cl.slots.Load()
		if m.slots[slot] != nil && m.slots[slot].primary == addr || cl.slots.CompareAndSwap(m, m.withMoved(slot, addr)) {
			break
		}
	}
	cl.refreshSoon()
}

func (cl *Cluster) refreshSoon() {
	select {
	case cl.kick <- struct{}{}:
	default:
	}
}

func (cl *Cluster) watch() {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-cl.kick:
		case <-cl.ctx.Done():
			return
		}
		err := cl.refresh(cl.ctx)
		if err != nil && cl.ctx.Err() == nil {
			text := err.Error()
			cl.reason.Store(&text)
			cl.opt.Log.Warn("cluster isn't reachable", "error", err)
		} else {
			cl.reason.Store(nil)
		}
		select { // not more often than this
		case <-time.After(refreshSoonest):
		case <-cl.ctx.Done():
			return
		}
	}
}

// State says whether the cluster can be used.
func (cl *Cluster) State() State {
	if r := cl.reason.Load(); r != nil {
		return State{Reason: *r}
	}
	return State{Primary: true, Usable: true, LastHeard: time.Now()}
}

// Position has no meaning across shards, each of which has a history of its own: it is always the same.
func (cl *Cluster) Position() (replid string, offset int64) { return clusterName, 0 }

// Wait returns at once: what was acknowledged is seen by the cluster's own rules.
func (cl *Cluster) Wait(_ context.Context, replid string, _ int64) error {
	if replid != clusterName {
		return ErrOtherHistory
	}
	return nil
}

// reader is the node that serves reads of a slot: the nearest that has what was written there through here.
func (cl *Cluster) reader(slot uint16, s *shard) (addr string, readonly bool) {
	if len(s.replicas) == 0 {
		return s.primary, false
	}
	primary := cl.member(s.primary, false)
	best, ok := cl.distance(s.primary, primary)
	if !ok {
		best = time.Hour
	}
	best -= max(time.Millisecond, best/5) // a replica must be nearer by more than measurements differ
	addr = s.primary
	if primary == nil {
		return addr, false
	}
	replid, _ := primary.Position()
	for _, a := range s.replicas {
		e := cl.member(a, true)
		d, ok := cl.distance(a, e)
		if !ok || d >= best || !e.linked.Load() || time.Since(time.Unix(0, e.heard.Load())) > heardWithin {
			continue
		}
		if id, at := e.Position(); id != replid || at < cl.need[slot].Load() {
			continue
		}
		addr, readonly, best = a, true, d
	}
	return addr, readonly
}

// distance is the round-trip time to a node.
func (cl *Cluster) distance(addr string, e *Engine) (time.Duration, bool) {
	if e == nil {
		return 0, false
	}
	if cl.opt.RTT != nil {
		return cl.opt.RTT(addr)
	}
	d := e.rtt.Load()
	return time.Duration(d), d > 0
}

// home is the node for what isn't about keys.
func (cl *Cluster) home() string {
	m := cl.slots.Load()
	return slices.MinFunc(m.shards, func(a, b *shard) int {
		da, oka := cl.distance(a.primary, cl.member(a.primary, false))
		db, okb := cl.distance(b.primary, cl.member(b.primary, false))
		if !oka || !okb || (da-db).Abs() < time.Millisecond {
			return strings.Compare(a.primary, b.primary)
		}
		return int(da - db)
	}).primary
}

// wrote notes, before a write is answered, what replicas must have before they are read.
func (cl *Cluster) wrote(slot uint16, e *Engine) {
	_, offset := e.Position()
	for {
		old := cl.need[slot].Load()
		if old >= offset || cl.need[slot].CompareAndSwap(old, offset) {
			return
		}
	}
}

const crossSlot = "CROSSSLOT Keys in request don't hash to the same slot"

func appendCrossSlot(dst []byte) []byte { return frame.AppendError(dst, crossSlot) }
