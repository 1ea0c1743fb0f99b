package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/proxy"
	"respmesh/resp/frame"
	"respmesh/store/embedded"
)

// heldCopy is what this node has of a database, with the election that decides what it is: the embedded store, or in its place,
// on the node that leads a database with another engine, the way to a server (see outside.go). A cluster has no election: every
// node uses it.
type heldCopy struct {
	db       *database
	election *election     // nil: a cluster
	overdue  *overdue      // the election's
	stir     chan struct{} // has the election look again
	log      *slog.Logger
	ctx      context.Context // ends with close
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	leaving  sync.WaitGroup // stores that were left

	changing  sync.Mutex // held to change what follows
	store     atomic.Pointer[store]
	outside   atomic.Pointer[outside]
	leads     atomic.Bool            // as the election says
	term      atomic.Int64           // in which it does, if the store doesn't know
	trouble   atomic.Pointer[string] // why the engine can't be used
	moving    atomic.Pointer[api.Moving]
	unsettled atomic.Bool   // a move has ended of which it isn't known whether it was made
	turned    chan struct{} // has room for one: leads has changed
}

// openCopy makes the copy what its record says. Who leads is decided from start on.
func (db *database) openCopy(ctx context.Context, t *netconf.Topology, conf netconf.Database) (*heldCopy, error) {
	n := db.node
	h := &heldCopy{db: db, stir: make(chan struct{}, 1), turned: make(chan struct{}, 1), log: n.log.With("database", conf.Org+"/"+conf.Name)}
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if conf.Engine.Kind == netconf.EngineCluster {
		return h, nil
	}
	h.overdue = newOverdue(func() { h.election.check() })
	if conf.Engine.Embedded() || !h.candidate(conf) {
		if _, err := h.openStore(conf); err != nil {
			return nil, err
		}
	}
	h.election = &election{
		overdue: h.overdue,
		db:      conf.ID, self: n.opts.Name, region: n.opts.Region, leases: n.leases, copy: h, log: h.log,
		ask: func(ctx context.Context, node string) (standing, error) {
			return n.others.standing(ctx, node, conf.ID)
		},
		hold: func(ctx context.Context, node string, term int64) (d time.Duration, err error) {
			return n.others.hold(ctx, node, conf.ID, term)
		},
		impaired: func() bool {
			s := h.store.Load()
			return s != nil && s.diskErr() != nil
		},
		drained: func(t *netconf.Topology) bool {
			if h.stake() == ofLast { // nobody else could take over
				return n.leaving.Load()
			}
			return n.givesWay(t)
		},
	}
	return h, nil
}

// start has the copy elected or follow, or connects to the cluster.
func (h *heldCopy) start(conf netconf.Database) {
	if h.election == nil {
		h.wg.Go(func() { h.joinCluster(h.ctx, conf) })
		return
	}
	h.wg.Go(func() { h.election.run(h.ctx, h.db.node.source, h.stir) })
	if h.db.node.session != nil && h.candidate(conf) {
		h.wg.Go(h.moves)
	}
}

// candidate tells whether this node may lead.
func (h *heldCopy) candidate(conf netconf.Database) bool {
	return conf.Primary == h.db.node.opts.Region
}

// conf is the record as it is now.
func (h *heldCopy) conf() netconf.Database {
	t, _ := h.db.node.source.Current()
	if conf, ok := t.DatabaseByID(h.db.conf.ID); ok {
		return conf
	}
	return h.db.conf
}

// serving is what gateways and links use; nil: nothing yet.
func (h *heldCopy) serving() proxy.Store {
	if o := h.outside.Load(); o != nil {
		return o
	}
	if s := h.store.Load(); s != nil {
		return s
	}
	return nil
}

// openStore opens the embedded store with what is on disk.
func (h *heldCopy) openStore(conf netconf.Database) (*store, error) {
	h.leaving.Wait() // one may still be about to end
	n := h.db.node
	o := storeOptions{
		seed: conf.HashSeed, maxMemory: conf.MaxMemory, eviction: policyOf(conf), version: n.opts.Version, log: h.log,
		short: h.stir, overdue: h.overdue,
	}
	if n.opts.Data != "" {
		o.data, o.fsync = h.db.dataDir(), n.opts.Fsync
		if err := os.MkdirAll(o.data, 0o700); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	s, err := openStore(h.ctx, o)
	if err != nil {
		return nil, err
	}
	t, _ := n.source.Current()
	s.setQuorum(conf.MinReplicas, h.candidates(t, conf))
	h.store.Store(s)
	return s, nil
}

// apply makes a change of the record hold.
func (h *heldCopy) apply(t *netconf.Topology, conf netconf.Database) error {
	if o := h.outside.Load(); o != nil && o.conf != conf.Engine && h.election != nil {
		h.reattach(conf)
	}
	s := h.store.Load()
	if s == nil {
		return nil
	}
	s.engine.SetMaxMemory(conf.MaxMemory)
	s.setQuorum(conf.MinReplicas, h.candidates(t, conf))
	return s.engine.SetEviction(policyOf(conf))
}

// policyOf is what goes when memory is full.
func policyOf(conf netconf.Database) embedded.Policy {
	if conf.Eviction {
		return embedded.VolatileFirst
	}
	return embedded.NoEviction
}

// candidates are the other nodes that may lead.
func (h *heldCopy) candidates(t *netconf.Topology, conf netconf.Database) map[netip.Addr]bool {
	others := make(map[netip.Addr]bool)
	for _, n := range t.NodesIn(conf.Primary) {
		if n.Name != h.db.node.opts.Name {
			others[n.Addr] = true
		}
	}
	return others
}

// close ends the election, then what it was about.
func (h *heldCopy) close() error {
	h.cancel()
	h.wg.Wait()
	var errs []error
	if o := h.outside.Load(); o != nil {
		errs = append(errs, o.close())
	}
	if s := h.store.Load(); s != nil {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// lead makes the node take writes, by the engine that the record names.
func (h *heldCopy) lead(ctx context.Context, term int64) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	defer h.db.gateway.Refresh()
	conf := h.conf()
	if h.unsettled.Swap(false) {
		h.settle(conf)
	}
	if !conf.Engine.Embedded() {
		return h.note(h.leadOutside(ctx, conf, term))
	}
	s, err := h.embed(ctx, conf)
	if err == nil {
		err = s.lead(ctx, term)
	}
	if err == nil {
		h.turn(term, true)
	}
	return h.note(err)
}

// follow makes the node a replica of the one that leads.
func (h *heldCopy) follow(ctx context.Context, node string, term int64) error {
	addr, ok := (*nodeMesh)(h.db.node).addr(node)
	if !ok {
		return fmt.Errorf("node %s isn't in the topology", node)
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	defer h.db.gateway.Refresh()
	h.turn(0, false)
	conf := h.conf()
	s, err := h.embed(ctx, conf)
	if err != nil {
		return h.note(err)
	}
	ask := func(ctx context.Context) (standing, error) { return h.db.node.others.position(ctx, node, h.db.conf.ID) }
	err = s.follow(ctx, func(ctx context.Context) (net.Conn, error) { return h.db.dialStream(ctx, node) }, ask, addr.String())
	if err == nil && conf.Engine.Embedded() && s.online() && s.standing().Term < term {
		s.kick() // it is told the term when it connects
	}
	return h.note(err)
}

// turn notes whether the node leads.
func (h *heldCopy) turn(term int64, leads bool) {
	if leads {
		h.term.Store(term)
	}
	h.leads.Store(leads)
	select {
	case h.turned <- struct{}{}:
	default:
	}
}

// stragglers are the embedded store's: a server elsewhere has none.
func (h *heldCopy) stragglers() ([]netip.Addr, time.Duration) {
	if s := h.store.Load(); s != nil && h.outside.Load() == nil {
		return s.stragglers()
	}
	return nil, 0
}

func (h *heldCopy) exclude(away []netip.Addr) {
	if s := h.store.Load(); s != nil {
		s.exclude(away)
	}
}

// fence refuses writes from now on.
func (h *heldCopy) fence() {
	h.turn(0, false)
	if o := h.outside.Load(); o != nil {
		o.fence()
	}
	if s := h.store.Load(); s != nil {
		s.fence()
	}
	h.db.gateway.Refresh()
}

func (h *heldCopy) standing() standing {
	if s := h.store.Load(); s != nil {
		return s.standing()
	}
	return standing{}
}

// stake says whose the data are.
func (h *heldCopy) stake() stake {
	switch e := h.conf().Engine; {
	case e.Embedded():
		return ofCopies
	case e.Supervised():
		return ofLast
	}
	return ofAll
}

// note keeps why the engine can't be used, for the status.
func (h *heldCopy) note(err error) error {
	if err == nil {
		h.trouble.Store(nil)
		return nil
	}
	text := err.Error()
	h.trouble.Store(&text)
	return err
}

// dialStream opens a connection on which a node speaks PSYNC.
func (db *database) dialStream(ctx context.Context, node string) (net.Conn, error) {
	conn, err := (*nodeMesh)(db.node).Dial(ctx, node)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	name := db.conf.Org + "/" + db.conf.Name
	if _, err = conn.Write(frame.AppendCommandString(nil, "RESPMESH", "REPLICATE", name)); err == nil {
		// The other side says nothing more until it is asked, so that nothing is read too far.
		var line string
		line, err = bufio.NewReaderSize(conn, 512).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "+OK") {
			err = fmt.Errorf("primary refused to replicate: %s", strings.TrimSpace(line))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask %s to replicate: %w", node, err), conn.Close())
	}
	return conn, nil
}

func (db *database) dataDir() string { return filepath.Join(db.node.opts.Data, db.conf.ID) }

// removeData removes what the node kept of a database that it doesn't hold any more.
func (db *database) removeData() error {
	if db.node.opts.Data == "" {
		return nil
	}
	if err := os.RemoveAll(db.dataDir()); err != nil {
		return fmt.Errorf("remove data: %w", err)
	}
	return nil
}

// removeLeftData removes the data of databases that were destroyed or left the region, maybe while the node was away. What the control plane
// has never heard of stays: its state may come from a backup older than the database.
func (n *Node) removeLeftData(t *netconf.Topology) error {
	if n.opts.Data == "" {
		return nil
	}
	var dirs []string
	for _, kept := range []string{"appendonlydir", serverDir} {
		found, err := filepath.Glob(filepath.Join(n.opts.Data, "*", kept))
		if err != nil {
			return err
		}
		dirs = append(dirs, found...)
	}
	var errs []error
	for _, dir := range dirs {
		dir = filepath.Dir(dir)
		id := filepath.Base(dir)
		if conf, known := t.DatabaseByID(id); t.WasDestroyed(id) || known && !conf.Holds(n.opts.Region) {
			n.log.Info("removes the data of a database that isn't here any more", "id", id)
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove data of a database that isn't here any more: %w", err)
	}
	return nil
}
