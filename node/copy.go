package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"respmesh/netconf"
	"respmesh/resp/frame"
	"respmesh/store/embedded"
)

// heldCopy is a database's store on this node with the election that decides what it is.
type heldCopy struct {
	db       *database
	store    *store
	election *election
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// openCopy opens the store with what is on disk, and has it elected or follow.
func (db *database) openCopy(ctx context.Context, t *netconf.Topology, conf netconf.Database) (*heldCopy, error) {
	n := db.node
	h := &heldCopy{db: db}
	o := storeOptions{
		seed: conf.HashSeed, maxMemory: conf.MaxMemory, eviction: policyOf(conf), version: n.opts.Version,
		log: n.log.With("database", conf.Org+"/"+conf.Name),
	}
	if n.opts.Data != "" {
		o.data, o.fsync = db.dataDir(), n.opts.Fsync
		if err := os.MkdirAll(o.data, 0o700); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	var err error
	if h.store, err = openStore(ctx, o); err != nil {
		return nil, err
	}
	h.store.setQuorum(conf.MinReplicas, h.candidates(t, conf))
	h.election = &election{
		db: conf.ID, self: n.opts.Name, region: n.opts.Region, leases: n.leases, copy: h, log: o.log,
		ask: func(ctx context.Context, node string) (standing, error) {
			return n.others.standing(ctx, node, conf.ID)
		},
		hold: func(ctx context.Context, node string) (d time.Duration, err error) {
			return n.others.hold(ctx, node, conf.ID)
		},
		drained: n.givesWay,
	}
	ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	h.wg.Go(func() { h.election.run(ctx, n.source, h.store.short) })
	return h, nil
}

// apply makes a change of the record hold.
func (h *heldCopy) apply(t *netconf.Topology, conf netconf.Database) error {
	h.store.engine.SetMaxMemory(conf.MaxMemory)
	h.store.setQuorum(conf.MinReplicas, h.candidates(t, conf))
	return h.store.engine.SetEviction(policyOf(conf))
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

// close ends the election, then the store.
func (h *heldCopy) close() error {
	h.cancel()
	h.wg.Wait()
	return h.store.close()
}

func (h *heldCopy) lead(ctx context.Context, term int64) error {
	defer h.db.gateway.Refresh()
	return h.store.lead(ctx, term)
}

func (h *heldCopy) follow(ctx context.Context, node string, term int64) error {
	addr, ok := (*nodeMesh)(h.db.node).addr(node)
	if !ok {
		return fmt.Errorf("node %s isn't in the topology", node)
	}
	defer h.db.gateway.Refresh()
	if err := h.store.follow(ctx, func(ctx context.Context) (net.Conn, error) { return h.db.dialStream(ctx, node) }, addr.String()); err != nil {
		return err
	}
	if h.store.online() && h.store.standing().Term < term {
		h.store.kick() // it is told the term when it connects
	}
	return nil
}

func (h *heldCopy) stragglers() []netip.Addr { return h.store.stragglers() }

func (h *heldCopy) exclude(away []netip.Addr) { h.store.exclude(away) }

func (h *heldCopy) fence() {
	h.store.fence()
	h.db.gateway.Refresh()
}

func (h *heldCopy) standing() standing { return h.store.standing() }

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

// chargesName is the file of the day's counts, beside the databases' directories.
const chargesName = "usage.json"

// dataFile is a file beside the databases' directories; "" where nothing is kept.
func (n *Node) dataFile(name string) string {
	if n.opts.Data == "" {
		return ""
	}
	return filepath.Join(n.opts.Data, name)
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
	dirs, err := filepath.Glob(filepath.Join(n.opts.Data, "*", "appendonlydir"))
	if err != nil {
		return err
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
