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

	"respmesh/netconf"
	"respmesh/proxy"
	"respmesh/resp/frame"
)

// database is one database on this node: its gateway and, where the region holds a copy, its store.
type database struct {
	conf    netconf.Database
	node    *Node
	source  *databaseSource
	gateway *proxy.Gateway
	store   *store // nil: no copy here

	election   *election // nil: no copy here
	streams    *dialed   // from the control API
	rate, sync rate

	closeOnce sync.Once
	closeErr  error
	wg        sync.WaitGroup
}

// reconcileDatabases starts databases that are new and ends those that are gone. One whose copy here came, went
// or changed sides is started anew: its sessions reconnect.
func (n *Node) reconcileDatabases(ctx context.Context, t *netconf.Topology) error {
	var errs []error
	for _, db := range n.all() {
		now, ok := t.Database(db.conf.Org, db.conf.Name)
		if ok && now.ID == db.conf.ID && now.Primary == db.conf.Primary && now.Holds(n.opts.Region) == (db.store != nil) {
			continue
		}
		n.mu.Lock()
		delete(n.databases, databaseKey{db.conf.Org, db.conf.Name})
		n.mu.Unlock()
		errs = append(errs, db.close())
	}
	for _, conf := range t.Databases {
		if n.database(conf.Org, conf.Name) != nil {
			continue
		}
		db, err := n.startDatabase(ctx, conf)
		if err != nil {
			errs = append(errs, fmt.Errorf("database %s/%s: %w", conf.Org, conf.Name, err))
			continue
		}
		n.mu.Lock()
		n.databases[databaseKey{conf.Org, conf.Name}] = db
		n.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (n *Node) startDatabase(ctx context.Context, conf netconf.Database) (_ *database, err error) {
	db := &database{conf: conf, node: n, streams: newDialed(), source: &databaseSource{source: n.source, org: conf.Org, name: conf.Name}}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.close())
		}
	}()
	if conf.Holds(n.opts.Region) {
		if err := db.openStore(ctx); err != nil {
			return nil, err
		}
	}
	options := proxy.Options{
		Org: conf.Org, Database: conf.Name, Node: n.opts.Name, Region: n.opts.Region,
		Mesh: (*nodeMesh)(n), Source: db.source,
		Log: n.log, Metrics: n.opts.Metrics,
	}
	if db.store != nil {
		options.Store = db.store // never a nil *store in the interface
	}
	if db.gateway, err = proxy.New(options); err != nil {
		return nil, err
	}
	listeners, err := db.listen()
	if err != nil {
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

func (db *database) openStore(ctx context.Context) (err error) {
	o := storeOptions{seed: db.conf.HashSeed, version: db.node.opts.Version, log: db.node.log.With("database", db.conf.Org+"/"+db.conf.Name)}
	if topology, _ := db.source.Current(); topology.Primary != db.node.opts.Name {
		o.dial = db.dialPrimary
		addr, _ := (*nodeMesh)(db.node).addr(topology.Primary)
		o.primaryAddr = addr.String()
	} else if db.node.opts.Data != "" {
		dir := filepath.Join(db.node.opts.Data, db.conf.ID)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		o.data, o.fsync = dir, db.node.opts.Fsync
	}
	db.store, err = openStore(ctx, o)
	return err
}

// listen opens the service address on the mesh, and adds the node's local listeners.
func (db *database) listen() ([]net.Listener, error) {
	service, err := db.node.device.ListenTCP(netip.AddrPortFrom(db.conf.Address, redisPort))
	if err != nil {
		return nil, fmt.Errorf("service address: %w", err)
	}
	listeners := []net.Listener{service, db.streams}
	if db.node.opts.Local != nil {
		listeners = append(listeners, db.node.opts.Local(db.conf)...)
	}
	return listeners, nil
}

// dialPrimary opens a connection on which the primary's node speaks PSYNC.
func (db *database) dialPrimary(ctx context.Context) (net.Conn, error) {
	topology, _ := db.source.Current()
	conn, err := (*nodeMesh)(db.node).Dial(ctx, topology.Primary)
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
		return nil, errors.Join(fmt.Errorf("ask %s to replicate: %w", topology.Primary, err), conn.Close())
	}
	return conn, nil
}

// primaryReachable tells whether the primary's node answers probes.
func (db *database) primaryReachable() bool {
	topology, _ := db.source.Current()
	_, ok := (*nodeMesh)(db.node).RTT(topology.Primary)
	return ok
}

// close ends the gateway, then the store.
func (db *database) close() error {
	db.closeOnce.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // sessions are cut: who wants to drain calls the gateway's Close first
		if db.gateway != nil {
			if err := db.gateway.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
				db.closeErr = err
			}
		}
		if db.store != nil {
			db.closeErr = errors.Join(db.closeErr, db.store.close())
		}
		db.wg.Wait()
	})
	return db.closeErr
}
