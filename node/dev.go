package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"respmesh/mesh"
	"respmesh/mesh/wan"
	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/proxy"
	"respmesh/store/aof"
	"respmesh/store/redis"
)

// readyTimeout bounds the start of `dev`: the first sync over the slowest path takes under two seconds.
const readyTimeout = 30 * time.Second

// Dev is several nodes in one process: each with its own key, UDP socket, TCP stack, gateway and store. They meet
// only by UDP, through a relay that delays packets as the distance between their regions would.
type Dev struct {
	opts    DevOptions
	data    string
	keep    bool     // the data directory is the user's
	lock    *os.File // held in it
	fsync   aof.Policy
	started time.Time
	control *control
	relay   *wan.Relay
	// endpoints is where a node (first) finds another (second): a socket of the relay. Constant once connected.
	endpoints map[[2]string]netip.AddrPort
	nodes     []*Node          // in the order of opts.Regions
	resp      [][]net.Listener // per region, until its gateway takes them
	addrs     []string         // per region: where Redis clients connect
	admin     *admin
	fleets    []*api.MeshFleet
	tun       *mesh.TUN
	metrics   *prometheus.Registry
	cluster   *redis.ServerCluster // nil: none was started

	closeOnce sync.Once
	closeErr  error
}

// StartDev starts the nodes and waits until every replica is in sync. Mistakes in the options are UsageErrors.
func StartDev(ctx context.Context, o DevOptions) (_ *Dev, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	d := &Dev{opts: o, fsync: o.fsync(), started: time.Now(), metrics: prometheus.NewRegistry(), endpoints: make(map[[2]string]netip.AddrPort)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close(ctx))
		}
	}()
	if d.resp, err = listenRESP(o); err != nil {
		return nil, err
	}
	for _, listeners := range d.resp {
		d.addrs = append(d.addrs, listeners[0].Addr().String())
	}
	if d.admin, err = listenAdmin(o.HTTP); err != nil {
		return nil, err
	}
	if err := d.openData(); err != nil {
		return nil, err
	}
	if err := d.startCluster(ctx); err != nil {
		return nil, err
	}
	if err := d.openNodes(); err != nil {
		return nil, err
	}
	if err := d.describe(ctx); err != nil {
		return nil, err
	}
	if err := d.connect(ctx); err != nil {
		return nil, err
	}
	if err := d.startAdmin(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := d.awaitReady(ctx); err != nil {
		return nil, err
	}
	if o.TUN {
		if d.tun, err = joinHost(ctx, d); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// kept is the directory for a node's data: none if it wouldn't outlive this process.
func (d *Dev) kept(dir string) string {
	if !d.keep {
		return ""
	}
	return dir
}

// openData makes the data directory.
func (d *Dev) openData() (err error) {
	d.keep = d.opts.Data != ""
	if d.data = d.opts.Data; d.keep {
		err = os.MkdirAll(d.data, 0o700)
	} else {
		d.data, err = os.MkdirTemp("", "respmesh-dev-")
	}
	if err == nil && d.keep {
		d.lock, err = lockDir(d.data, "--data")
	}
	var usage *UsageError
	if err != nil && !errors.As(err, &usage) {
		return fmt.Errorf("data directory: %w", err)
	}
	return err
}

// startCluster starts the servers of a cluster, where one is wanted.
func (d *Dev) startCluster(ctx context.Context) (err error) {
	if !d.opts.Cluster {
		return nil
	}
	o := redis.SuperviseOptions{Dir: filepath.Join(d.data, "cluster"), Fsync: d.fsync.String(), Log: d.opts.Log}
	if !d.keep {
		o.Fsync = "off"
	}
	if d.cluster, err = redis.SuperviseCluster(ctx, o); err != nil {
		return fmt.Errorf("--engine cluster: %w", err)
	}
	d.opts.Engine = netconf.Engine{Kind: netconf.EngineCluster, URL: d.cluster.URL()}
	return nil
}

// openNodes opens one WireGuard device per region, each with a key that is kept with the data.
func (d *Dev) openNodes() error {
	metrics, err := proxy.NewMetrics(d.metrics)
	if err != nil {
		return err
	}
	d.relay = wan.New(wan.Options{Log: d.opts.Log})
	for i, region := range d.opts.Regions {
		dir := filepath.Join(d.data, region)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		key, err := mesh.LoadOrCreateKey(filepath.Join(dir, "wireguard.key"))
		if err != nil {
			return err
		}
		name := nodeName(region)
		n, err := New(Options{
			Name: name, Region: region, Key: key,
			Listen:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0),
			Endpoint: func(other string) netip.AddrPort { return d.endpoints[[2]string{name, other}] },
			Local:    func(netconf.Database) []net.Listener { return d.takeListeners(i) },
			Data:     d.kept(dir), Fsync: d.fsync, Version: d.opts.Version, Metrics: metrics, Trace: d.opts.Trace, Log: d.opts.Log,
		})
		if err != nil {
			return err
		}
		d.nodes = append(d.nodes, n)
	}
	return nil
}

// nodeName is the name of a region's only node.
func nodeName(region string) string { return region + "-1" }

// takeListeners hands a region's listeners to its gateway, which closes them from then on.
func (d *Dev) takeListeners(i int) []net.Listener {
	listeners := d.resp[i]
	d.resp[i] = nil
	return listeners
}

// connect lays the relay's paths between all nodes, with the delays of their places, and starts the nodes.
func (d *Dev) connect(ctx context.Context) error {
	for i, a := range d.nodes {
		for _, b := range d.nodes[i+1:] {
			if err := d.lay(a, b); err != nil {
				return err
			}
		}
	}
	for _, n := range d.nodes {
		session, err := d.control.enter(ctx, n)
		if err != nil {
			return err
		}
		if err := n.Start(ctx, d.control.registry, session); err != nil {
			return err
		}
	}
	return nil
}

// lay lays the path between two nodes.
func (d *Dev) lay(a, b *Node) error {
	nameA, nameB := a.opts.Name, b.opts.Name
	toB, toA, err := d.relay.Path(nameA, nameB, a.WireGuard(), b.WireGuard())
	if err != nil {
		return err
	}
	d.endpoints[[2]string{nameA, nameB}], d.endpoints[[2]string{nameB, nameA}] = toB, toA
	if d.opts.WAN == "none" {
		return nil
	}
	c := wan.Conditions{Delay: pathDelay(a.opts.Region, b.opts.Region)}
	return errors.Join(d.relay.Set(nameA, nameB, c), d.relay.Set(nameB, nameA, c))
}

// pathDelay is the one-way delay between two regions.
func pathDelay(a, b string) time.Duration {
	from, _ := netconf.LookupRegion(a)
	to, _ := netconf.LookupRegion(b)
	return wan.RTT(from.Lat, from.Lon, to.Lat, to.Lon) / 2
}

// awaitReady waits until every gateway reaches the primary and every replica is in sync.
func (d *Dev) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := d.Healthy()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-tick.C:
		}
	}
}

// Healthy is nil when each region reaches the primary and each replica is in sync.
func (d *Dev) Healthy() error {
	for _, n := range d.nodes {
		db := n.database(d.opts.Org, d.opts.Name)
		switch {
		case db == nil:
			return fmt.Errorf("%s doesn't serve the database", n.opts.Region)
		case !db.primaryReachable():
			return fmt.Errorf("%s doesn't reach the primary", n.opts.Region)
		case db.usable() != nil:
			return fmt.Errorf("%s: %w", n.opts.Region, db.usable())
		case db.copy() != nil && !db.copy().leads() && !db.copy().online():
			return fmt.Errorf("%s: replica isn't connected to the primary", n.opts.Region)
		case db.serving() != nil && db.gateway.Status().ReadsFrom != n.opts.Name:
			return fmt.Errorf("%s: reads don't come from its own copy: %s", n.opts.Region, db.gateway.Status().Reason)
		}
	}
	return nil
}

// Wait returns when ctx ends, or with an error when the admin server fails.
func (d *Dev) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.admin.failed:
		return err
	}
}

// Close drains the sessions within ctx, then ends everything and removes temporary data.
func (d *Dev) Close(ctx context.Context) error {
	d.closeOnce.Do(func() {
		var errs []error
		if d.tun != nil {
			errs = append(errs, d.tun.Close())
		}
		// All nodes drain before one is closed: a session waits for another node's replies.
		each(d.nodes, func(n *Node) error {
			if err := n.Drain(ctx); err != nil {
				d.opts.Log.Warn("sessions were cut at exit", "region", n.opts.Region, "err", err)
			}
			return nil
		})
		for _, f := range d.fleets {
			errs = append(errs, f.Close())
		}
		errs = append(errs, each(d.nodes, (*Node).Close))
		if d.control != nil {
			errs = append(errs, d.control.close())
		}
		if d.admin != nil {
			errs = append(errs, d.admin.close())
		}
		if d.relay != nil {
			errs = append(errs, d.relay.Close())
		}
		for _, listeners := range d.resp {
			for _, l := range listeners {
				errs = append(errs, l.Close())
			}
		}
		if d.cluster != nil {
			errs = append(errs, d.cluster.Close())
		}
		if d.lock != nil {
			errs = append(errs, d.lock.Close())
		}
		if d.data != "" && !d.keep {
			errs = append(errs, os.RemoveAll(d.data))
		}
		d.closeErr = errors.Join(errs...)
	})
	return d.closeErr
}
