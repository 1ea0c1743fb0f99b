package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/netconf"
	"respmesh/proxy"
)

// database is one database on this node: its gateway and, where the region holds a copy, its store, which come and go
// while sessions go on.
type database struct {
	conf    netconf.Database // as it was at the start: what names it and never changes
	node    *Node
	source  *databaseSource
	gateway *proxy.Gateway
	held    atomic.Pointer[heldCopy] // nil: no copy here

	streams    *dialed // from the control API
	rate, sync rate
	carrying   carrying // to other regions

	closeOnce sync.Once
	closeErr  error
	wg        sync.WaitGroup
}

// copy is the embedded store, if there is one.
func (db *database) copy() *store {
	if h := db.held.Load(); h != nil {
		return h.store.Load()
	}
	return nil
}

// outside is the server or cluster that serves the database here, if one does.
func (db *database) outside() *outside {
	if h := db.held.Load(); h != nil {
		return h.outside.Load()
	}
	return nil
}

// serving is what clients and other nodes use here; nil: nothing.
func (db *database) serving() proxy.Store {
	if h := db.held.Load(); h != nil {
		return h.serving()
	}
	return nil
}

// elected is the election about the store, if there is one.
func (db *database) elected() *election {
	if h := db.held.Load(); h != nil {
		return h.election
	}
	return nil
}

// reconcileDatabases starts databases that are new, ends those that are gone, and applies to the others what has changed.
func (n *Node) reconcileDatabases(ctx context.Context, t *netconf.Topology) error {
	var errs []error
	for _, db := range n.all() {
		now, ok := t.Database(db.conf.Org, db.conf.Name)
		if !ok || now.ID != db.conf.ID || now.Address != db.conf.Address {
			n.mu.Lock()
			delete(n.databases, databaseKey{db.conf.Org, db.conf.Name})
			n.mu.Unlock()
			errs = append(errs, db.close())
			n.charges.forget(db.conf.ID)
			continue
		}
		if err := errors.Join(db.carry(ctx, t, now), db.apply(ctx, t, now)); err != nil {
			errs = append(errs, fmt.Errorf("database %s/%s: %w", now.Org, now.Name, err))
		}
	}
	for _, conf := range t.Databases {
		if n.database(conf.Org, conf.Name) != nil {
			continue
		}
		db, err := n.startDatabase(ctx, t, conf)
		if err != nil {
			errs = append(errs, fmt.Errorf("database %s/%s: %w", conf.Org, conf.Name, err))
			continue
		}
		n.mu.Lock()
		n.databases[databaseKey{conf.Org, conf.Name}] = db
		n.mu.Unlock()
	}
	return errors.Join(append(errs, n.removeLeftData(t))...)
}

func (n *Node) startDatabase(ctx context.Context, t *netconf.Topology, conf netconf.Database) (_ *database, err error) {
	db := &database{conf: conf, node: n, streams: newDialed(), source: &databaseSource{source: n.source, org: conf.Org, name: conf.Name, self: n.opts.Name}}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.close())
		}
	}()
	var tracer proxy.Tracer
	if n.tracer != nil {
		tracer = n.tracer
	}
	if db.gateway, err = proxy.New(proxy.Options{
		Org: conf.Org, Database: conf.Name, Node: n.opts.Name, Region: n.opts.Region,
		Mesh: (*nodeMesh)(n), Source: db.source,
		Log: n.log, Metrics: n.opts.Metrics, Usage: n.charges.of(conf.ID), Peer: db.peerOf, Turns: n.turns, Loops: n.loops, Tracer: tracer,
	}); err != nil {
		return nil, err
	}
	if err := db.apply(ctx, t, conf); err != nil {
		return nil, err
	}
	listeners, err := db.listen()
	if err != nil {
		return nil, err
	}
	if err := db.carry(ctx, t, conf); err != nil {
		closeAll(listeners)
		return nil, err
	}
	for _, l := range listeners {
		db.wg.Go(func() {
			if err := db.gateway.Serve(ctx, l); err != nil && !errors.Is(err, proxy.ErrClosed) && ctx.Err() == nil {
				n.log.Error("listener stopped", "org", conf.Org, "database", conf.Name, "addr", l.Addr(), "err", err)
			}
		})
	}
	return db, nil
}

// leaveWait bounds the wait for sessions to leave a copy that is about to go. They need it for the command at hand.
const leaveWait = 2 * time.Second

// apply makes the database what its record says: who leads is the election's.
func (db *database) apply(ctx context.Context, t *netconf.Topology, conf netconf.Database) error {
	held := db.held.Load()
	switch wanted := conf.Holds(db.node.opts.Region) || conf.Engine.Kind == netconf.EngineCluster; {
	case wanted && held == nil:
		h, err := db.openCopy(ctx, t, conf)
		if err != nil {
			return err
		}
		db.held.Store(h)
		if s := h.serving(); s != nil {
			err = db.gateway.SetStore(ctx, s)
		}
		h.start(conf)
		return err
	case wanted:
		return held.apply(t, conf)
	case held != nil:
		db.held.Store(nil)
		leave, cancel := context.WithTimeout(ctx, leaveWait)
		defer cancel()
		err := db.gateway.SetStore(leave, nil)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // they find out with their next command
		}
		return errors.Join(err, held.close(), db.removeData())
	}
	return nil
}

// listen opens the service address and the region's own on the mesh, and adds the node's local listeners.
func (db *database) listen() ([]net.Listener, error) {
	service, err := db.node.device.ListenTCP(netip.AddrPortFrom(db.conf.Address, redisPort))
	if err != nil {
		return nil, fmt.Errorf("service address: %w", err)
	}
	listeners := []net.Listener{service, db.streams}
	topology, _ := db.node.source.Current()
	if addr, ok := topology.RegionalAddress(db.conf, db.node.opts.Region); ok {
		regional, err := db.node.device.ListenTCP(netip.AddrPortFrom(addr, redisPort))
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("regional address: %w", err)
		}
		listeners = append(listeners, regional)
		carried, err := db.node.carrier.Listen(netip.AddrPortFrom(addr, redisPort))
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, carried)
	}
	if db.node.opts.Local != nil {
		listeners = append(listeners, db.node.opts.Local(db.conf)...)
	}
	return listeners, nil
}

// primaryReachable tells whether the primary's node answers probes.
func (db *database) primaryReachable() bool {
	topology, _ := db.source.Current()
	_, ok := (*nodeMesh)(db.node).RTT(topology.Primary)
	return ok
}

const (
	// handOverTimeout bounds the wait for another node to have everything.
	handOverTimeout = 2 * time.Second
	// releaseTimeout bounds the word to the control plane that the lead is free; without it the lease runs out.
	releaseTimeout = time.Second
)

// handOver gives the lead to another node of the region that has everything. Where there is none it changes nothing.
func (db *database) handOver(ctx context.Context) {
	if h := db.held.Load(); h == nil || db.node.session == nil || !h.leads.Load() || !db.yield(ctx, h) {
		return
	}
	say, stop := context.WithTimeout(ctx, releaseTimeout)
	defer stop()
	if err := db.node.session.Release(say, db.conf.ID); err != nil {
		db.node.log.Warn("the lead couldn't be given up at once; its lease runs out", "database", db.conf.Org+"/"+db.conf.Name, "err", err)
	}
}

// yield takes no writes any more, if another node can lead.
func (db *database) yield(ctx context.Context, h *heldCopy) bool {
	if o := h.outside.Load(); o != nil {
		if h.stake() != ofAll || !db.othersAlive() {
			return false
		}
		h.fence()
		return true
	}
	s := h.store.Load()
	if s == nil || !s.leads() || !s.hasCandidate() {
		return false
	}
	wait, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	switch {
	case !db.awaitSuccessor(wait, s):
	case s.handover(wait):
		return true
	case !db.node.leaving.Load(): // it was fenced in vain: nobody has everything in time
		h.election.leadAgain(ctx)
	}
	return false
}

// othersAlive tells whether there is another node in the region that could lead.
func (db *database) othersAlive() bool {
	t, _ := db.node.source.Current()
	for _, other := range t.NodesIn(db.conf.Primary) {
		if _, alive := t.Live.Nodes[other.Name]; alive && other.Name != db.node.opts.Name && !other.Draining {
			return true
		}
	}
	return false
}

// awaitSuccessor waits until another node can take the lead: it has the data of this term.
func (db *database) awaitSuccessor(ctx context.Context, s *store) bool {
	for {
		t, _ := db.node.source.Current()
		for _, other := range t.NodesIn(db.node.opts.Region) {
			if other.Name == db.node.opts.Name || other.Draining {
				continue
			}
			if its, err := db.node.others.standing(ctx, other.Name, db.conf.ID); err == nil && its.Term == s.standing().Term {
				return true
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(lookAgain):
		}
	}
}

// close ends the gateway, then the store.
func (db *database) close() error {
	db.closeOnce.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // sessions are cut: who wants to drain calls the gateway's Close first
		db.carrying.close()
		if db.gateway != nil {
			if err := db.gateway.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
				db.closeErr = err
			}
		}
		if h := db.held.Swap(nil); h != nil {
			db.closeErr = errors.Join(db.closeErr, h.close())
		}
		db.wg.Wait()
	})
	return db.closeErr
}
