// Package node is one region node: it wires the mesh, the stores and the gateways into a process.
//
// A Node follows a topology. For every revision it reconciles what it runs with what the topology says: its
// WireGuard peers, the addresses it answers, and per database a gateway and, where its region holds a copy, a
// store. On the mesh it serves
//
//	infrastructure address, TCP 7379   links of other nodes' gateways, PSYNC, state (proxy's link protocol)
//	infrastructure address, UDP 7380   round-trip probes
//	each service address, TCP 6379     Redis clients among the org's peers
//	each regional address, TCP 6379    the same, by region: those of other regions are carried there
//	each org's resolver, port 53       DNS, by UDP and TCP
//	each org's resolver, TCP 17379     the control API, for those with a token
//	infrastructure address, TCP 7381   connections carried here from another region's node (package mesh)
//
// [Dev] runs several nodes in one process, with a WAN between them.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/mesh"
	"respmesh/netconf"
	"respmesh/netconf/dns"
	"respmesh/netconf/etcd"
	"respmesh/proxy"
	"respmesh/proxy/poll"
	"respmesh/resp/frame"
	"respmesh/store/aof"
)

// Ports on the mesh.
const (
	redisPort = 6379
	linkPort  = 7379
	dnsPort   = 53
)

// Options say which node this is.
type Options struct {
	Name   string // in the topology
	Region string
	Key    mesh.PrivateKey
	Listen netip.AddrPort // WireGuard's UDP address; port 0 takes a free one
	Tunnel mesh.Tunnel    // "": userspace
	// Endpoint says where another node's WireGuard is reached from here; nil: where the topology says.
	Endpoint func(node string) netip.AddrPort
	// Local gives further listeners for a database's Redis clients, beside its service address. The node closes them.
	Local func(db netconf.Database) []net.Listener
	Data  string // directory for what primaries keep; empty keeps nothing
	Fsync aof.Policy
	Usage string // file that keeps the day's counts of commands; empty keeps none
	Heard string // file that keeps where peers were last heard; empty keeps none
	// Upstreams are asked about names of other zones; without them such questions are refused.
	Upstreams []netip.AddrPort
	Version   string
	Metrics   *proxy.Metrics
	Trace     TraceOptions
	// LimitMemory is told how much memory the process may need in all; nil: nobody is.
	LimitMemory func(bytes int64)
	Log         *slog.Logger
}

// Source publishes the topology: the present one and a channel that is closed when it is replaced.
type Source interface {
	Current() (*netconf.Topology, <-chan struct{})
}

// Node is one respmesh process in a region.
type Node struct {
	opts    Options
	device  *mesh.Device
	filter  *mesh.Filter
	log     *slog.Logger
	started time.Time

	// Set by Start, then constant.
	source    Source
	leases    leases // nil: the topology says who leads
	session   *etcd.Session
	rotateKey func(ctx context.Context) error // nil: keys stay
	others    *candidates
	infra     netip.Addr
	prober    *mesh.Prober
	links     *proxy.LinkServer
	dns       *dns.Server
	charges   *charges
	tracer    *tracer // nil: there are no traces
	turns     *proxy.Turns
	loops     *poll.Loops
	carrier   *mesh.Carrier
	api       *http.Server // at the orgs' resolvers
	apiFor    atomic.Pointer[http.Handler]
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	following sync.WaitGroup // what starts databases
	leaving   atomic.Bool    // gives up what it leads, and takes nothing

	memory    int64 // what LimitMemory was told
	reporting sync.Mutex
	revision  uint64     // applied, guarded by reporting
	applying  sync.Mutex // the device's peers
	mu        sync.Mutex
	databases map[databaseKey]*database
	resolvers map[netip.Addr]bool // org resolvers that are served
}

type databaseKey struct{ org, name string }

// New opens the node's WireGuard device, so that others can be told its key and address. Start makes it work.
func New(o Options) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("node", o.Name)
	filter, err := mesh.NewFilter(mesh.FilterRules{Role: mesh.RoleNode})
	if err != nil {
		return nil, err
	}
	device, err := mesh.Open(mesh.Config{
		PrivateKey: o.Key, Listen: o.Listen, Tunnel: cmp.Or(o.Tunnel, mesh.TunnelUserspace), Filter: filter, Log: o.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", o.Name, err)
	}
	return &Node{
		opts: o, device: device, filter: filter, log: o.Log,
		started: time.Now(), databases: make(map[databaseKey]*database), resolvers: make(map[netip.Addr]bool),
	}, nil
}

// WireGuard is the device's UDP address.
func (n *Node) WireGuard() netip.AddrPort { return n.device.ListenPort() }

// PublicKey is what the other nodes know this one by.
func (n *Node) PublicKey() mesh.PublicKey { return n.device.PublicKey() }

// Start follows the topology, which must contain the node. When it returns the first revision has been applied. The session
// is for elections; without one the topology says who leads.
func (n *Node) Start(ctx context.Context, source Source, session *etcd.Session) error {
	topology, changed := source.Current()
	self, ok := topology.Node(n.opts.Name)
	if !ok {
		return fmt.Errorf("node %s isn't in the topology", n.opts.Name)
	}
	n.source, n.infra, n.others = source, self.Addr, newCandidates(n)
	n.charges = openCharges(n.opts.Usage, n.log)
	n.turns = proxy.NewTurns()
	var err error
	if n.loops, err = poll.Start(max(1, runtime.GOMAXPROCS(0)/2)); err != nil { // engine, tunnel and kernel want processors, too
		return fmt.Errorf("node %s: %w", n.opts.Name, err)
	}
	if n.tracer, err = openTracer(ctx, n.opts.Trace, &n.opts); err != nil {
		return fmt.Errorf("node %s: %w", n.opts.Name, err)
	}
	if session != nil {
		n.session, n.leases = session, sessionLeases{session, source}
	}
	ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.ctx = ctx
	if err := n.device.SetAddrs([]netip.Addr{n.infra}); err != nil {
		return fmt.Errorf("node %s: %w", n.opts.Name, err)
	}
	if err := n.serveMesh(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.opts.Name, err)
	}
	if err := n.apply(ctx, topology); err != nil {
		return fmt.Errorf("node %s: %w", n.opts.Name, err)
	}
	n.following.Go(func() { n.follow(ctx, changed) })
	n.wg.Go(func() { n.charges.run(ctx) })
	n.wg.Go(func() { openHeard(n.opts.Heard, n.device, n.log).run(ctx) })
	n.wg.Go(func() { n.kickReplicas(ctx) })
	n.wg.Go(func() { n.endLostWaits(ctx) })
	n.wg.Go(func() { n.followKeys(ctx) })
	n.wg.Go(func() { n.followPaths(ctx) })
	n.wg.Go(func() { n.followDraining(ctx) })
	return nil
}

// serveMesh starts what serves the other nodes and the orgs' peers whatever the databases: probes, links, DNS.
func (n *Node) serveMesh(ctx context.Context) error {
	probes, err := n.device.ListenUDP(netip.AddrPortFrom(n.infra, mesh.ProbePort))
	if err != nil {
		return err
	}
	if n.prober, err = mesh.NewProber(mesh.ProberOptions{Conn: probes, Log: n.log}); err != nil {
		return err
	}
	n.wg.Go(func() {
		if err := n.prober.Run(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("round-trip probes stopped", "err", err)
		}
	})
	n.links = proxy.NewLinkServer(proxy.LinkOptions{Lookup: n.lookup, Replicate: n.replicate, Turns: n.turns, Charged: n.charged, Log: n.log})
	listener, err := n.device.ListenTCP(netip.AddrPortFrom(n.infra, linkPort))
	if err != nil {
		return err
	}
	n.wg.Go(func() {
		if err := n.links.Serve(ctx, listener); err != nil && ctx.Err() == nil {
			n.log.Error("link server stopped", "err", err)
		}
	})
	if err := n.serveCandidates(ctx); err != nil {
		return err
	}
	if err := n.serveCarried(ctx); err != nil {
		return err
	}
	n.api = n.peersAPI(ctx)
	n.dns, err = dns.New(dns.Options{
		Source: n.source, Region: n.opts.Region, Healthy: n.healthy, RTT: n.regionRTT, Log: n.log,
		Regional: true, API: true, Forward: dns.Forward{Upstreams: n.opts.Upstreams},
	})
	return err
}

// What couldn't be applied is tried again after applyAgain, then after twice that and so on: the host may have changed.
const (
	applyAgain     = time.Second
	applyAgainMost = 30 * time.Second
)

// follow applies each new revision until ctx ends. What fails is logged, once, and tried again.
func (n *Node) follow(ctx context.Context, changed <-chan struct{}) {
	var again <-chan time.Time
	wait, said := applyAgain, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			wait = applyAgain
		case <-again:
			wait = min(2*wait, applyAgainMost)
		}
		var topology *netconf.Topology
		topology, changed = n.source.Current()
		err := n.apply(ctx, topology)
		switch {
		case err == nil && said != "":
			n.log.Info("topology applied", "revision", topology.Revision)
			said, again = "", nil
		case err == nil:
		default:
			again = time.After(wait)
			if err.Error() != said {
				said = err.Error()
				n.log.Error("topology not fully applied; trying again", "revision", topology.Revision, "err", err)
			}
		}
	}
}

// apply reconciles the node with a topology: filter first, so that nothing new is open before it is filtered. What fails of
// one org or database doesn't keep the others from theirs.
func (n *Node) apply(ctx context.Context, t *netconf.Topology) error {
	if _, ok := t.Node(n.opts.Name); !ok && t.Revision > 0 {
		return fmt.Errorf("node %s was removed from the mesh: the others don't let it in any more; stop it, and to enter again give another data directory and --join", n.opts.Name)
	}
	rules, addrs, peers := n.wanted(t)
	if err := n.filter.SetRules(rules); err != nil {
		return err
	}
	n.applying.Lock()
	err := errors.Join(n.device.SetAddrs(addrs), n.device.SetPeers(peers))
	n.applying.Unlock()
	n.prober.SetTargets(n.probeTargets(t))
	n.fitPaths(t)
	n.followMemory(t)
	err = errors.Join(err, n.serveResolvers(t), n.reconcileDatabases(ctx, t))
	n.report(t.Revision)
	return err
}

// wanted derives what the device should be from the topology.
func (n *Node) wanted(t *netconf.Topology) (mesh.FilterRules, []netip.Addr, []mesh.Peer) {
	rules := mesh.FilterRules{Role: mesh.RoleNode, Infra: t.Infra, Services: append(mesh.DefaultServices(), mesh.Service{Proto: mesh.TCP, Port: apiPort})}
	addrs := []netip.Addr{n.infra}
	for _, org := range t.Orgs {
		rules.Orgs = append(rules.Orgs, org.Prefix)
		addrs = append(addrs, org.Resolver())
	}
	for _, db := range t.Databases {
		addrs = append(addrs, db.Address)
		for _, region := range append(n.carriedTo(db), n.opts.Region) {
			if regional, ok := t.RegionalAddress(db, region); ok {
				addrs = append(addrs, regional)
			}
		}
	}
	peers := n.nodePeers(t)
	for _, p := range t.PeersIn(n.opts.Region) {
		key, err := mesh.ParsePublicKey(p.Key)
		if err != nil {
			n.log.Error("peer left out of the mesh", "org", p.Org, "peer", p.Name, "err", err)
			continue
		}
		// A peer calls its node, and one that roams each of them: the node can't know where it is, and so doesn't keep the path alive from its side.
		peers = append(peers, mesh.Peer{PublicKey: key, AllowedIPs: hostRoutes(p.Addr), Keepalive: -1})
	}
	return rules, addrs, peers
}

func hostRoutes(addr netip.Addr) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
}

// probeTargets are all other nodes.
func (n *Node) probeTargets(t *netconf.Topology) []netip.Addr {
	var targets []netip.Addr
	for _, other := range t.Nodes {
		if other.Name != n.opts.Name {
			targets = append(targets, other.Addr)
		}
	}
	return targets
}

// serveResolvers answers DNS at the ::3 of every org.
func (n *Node) serveResolvers(t *netconf.Topology) error {
	var errs []error
	for _, org := range t.Orgs {
		at := org.Resolver()
		if n.resolvers[at] {
			continue
		}
		udp, err := n.device.ListenUDP(netip.AddrPortFrom(at, dnsPort))
		if err != nil {
			errs = append(errs, fmt.Errorf("resolver of org %s: %w", org.Name, err))
			continue
		}
		tcp, err := n.device.ListenTCP(netip.AddrPortFrom(at, dnsPort))
		if err != nil {
			errs = append(errs, fmt.Errorf("resolver of org %s: %w", org.Name, err), udp.Close())
			continue
		}
		control, err := n.device.ListenTCP(netip.AddrPortFrom(at, apiPort))
		if err != nil {
			errs = append(errs, fmt.Errorf("API of org %s: %w", org.Name, err), udp.Close(), tcp.Close())
			continue
		}
		n.resolvers[at] = true
		n.serveDNS(func() error { return n.dns.ServePacket(udp) })
		n.serveDNS(func() error { return n.dns.Serve(tcp) })
		n.wg.Go(func() {
			if err := n.api.Serve(control); !errors.Is(err, http.ErrServerClosed) && n.ctx.Err() == nil {
				n.log.Error("the API isn't served to an org any more", "org", org.Name, "err", err)
			}
		})
	}
	return errors.Join(errs...)
}

func (n *Node) serveDNS(serve func() error) {
	n.wg.Go(func() {
		if err := serve(); err != nil && !errors.Is(err, net.ErrClosed) {
			n.log.Error("resolver stopped", "err", err)
		}
	})
}

// lookup finds the store that a link asks for.
func (n *Node) lookup(org, name string) (proxy.Store, bool) {
	db := n.database(org, name)
	if db == nil {
		return nil, false
	}
	s := db.serving()
	return s, s != nil
}

// replicate serves a replica of another node.
func (n *Node) replicate(ctx context.Context, org, name string, conn net.Conn, r *frame.Reader) error {
	db := n.database(org, name)
	if db != nil {
		if o := db.outside(); o != nil {
			return o.replicate(ctx, conn, r)
		}
		if s := db.copy(); s != nil {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(s.feeding, cancel)()
			return s.primary.ServeConn(ctx, conn, r)
		}
	}
	return fmt.Errorf("database %s/%s has no copy on this node", org, name)
}

func (n *Node) database(org, name string) *database {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.databases[databaseKey{org, name}]
}

func (n *Node) databaseByID(id string) *database {
	for _, db := range n.all() {
		if db.conf.ID == id {
			return db
		}
	}
	return nil
}

// all lists the databases that run here.
func (n *Node) all() []*database {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]*database, 0, len(n.databases))
	for _, db := range n.databases {
		list = append(list, db)
	}
	return list
}

// kickReplicas makes replicas drop their connection when the primary's node can't be reached any more, and try again at
// once when it comes back, instead of at the next retry. The first contact needs no kick: a replica is dialling then.
func (n *Node) kickReplicas(ctx context.Context) {
	reachable := make(map[*database]bool) // as last seen
	for {
		changed := n.prober.Changed()
		for _, db := range n.all() {
			if db.copy() == nil || db.copy().replica() == nil {
				continue
			}
			now := db.primaryReachable()
			before, seen := reachable[db]
			if seen || now {
				reachable[db] = now
			}
			if seen && before != now {
				db.copy().kick()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// endLostWaits has the commands of other nodes' clients that wait here end with the node they came from.
func (n *Node) endLostWaits(ctx context.Context) {
	for {
		changed := n.prober.Changed()
		topology, _ := n.source.Current()
		for _, other := range topology.Nodes {
			if _, reachable := n.prober.RTT(other.Addr); !reachable && other.Name != n.opts.Name {
				n.links.Lost(other.Addr)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Drain ends the sessions of Redis clients gracefully, within ctx. The mesh goes on, so that other nodes can drain
// too.
func (n *Node) Drain(ctx context.Context) error {
	return each(n.all(), func(db *database) error { return db.gateway.Close(ctx) })
}

// Close cuts the sessions that Drain has left, ends everything and waits for it.
func (n *Node) Close() error {
	ctx, cancel := context.WithDeadline(context.Background(), time.Now())
	defer cancel()
	err := n.Drain(ctx) // before the links go, so that no session sees them fail
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // sessions were cut, as Close says
	}
	if n.cancel != nil {
		n.cancel()
	}
	n.following.Wait() // or a revision that comes now would open again what is closed
	err = errors.Join(err, each(n.all(), (*database).close))
	if n.dns != nil {
		err = errors.Join(err, n.dns.Close())
	}
	if n.others != nil {
		n.others.close()
	}
	err = errors.Join(err, n.device.Close())
	n.wg.Wait()
	n.loops.Close()
	if n.tracer != nil {
		err = errors.Join(err, n.tracer.close())
	}
	return err
}

// each calls f for all items at once and waits for all.
func each[T any](items []T, f func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = f(item) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
