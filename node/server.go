package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"respmesh/console"
	"respmesh/mesh"
	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/proxy"
	"respmesh/store/aof"
)

// Server is one node on a host of its own: its device, its way to the control plane, and its API.
//
// Its data directory holds who it is (node.json), its keys, the last state of the mesh (topology.json), where peers were last
// heard (heard.json), the data of its databases, and on members of the control plane that plane's data. Everything in it is the node's alone: mode 0700.
type Server struct {
	opts     ServerOptions
	id       *identity
	lock     *os.File
	started  time.Time
	streams  context.Context // of the API: ends once the sessions are drained
	cut      context.CancelFunc
	node     *Node
	keys     *serverKeys
	control  *control
	conns    *controlConns
	relays   []*relay
	peers    map[string]*relay        // to and from the other members of the control plane
	others   atomic.Pointer[[]string] // their endpoints, for nodes that join
	cancel   context.CancelFunc       // ends wg
	wg       sync.WaitGroup
	fleet    *api.MeshFleet
	admin    *admin
	moving   sync.Mutex // public and opts.API
	public   *admin
	handler  http.Handler // the API for other hosts
	metrics  *prometheus.Registry
	renewals *prometheus.CounterVec // of the node's certificate, by outcome

	closeOnce sync.Once
	closeErr  error
}

// ServerReady says what runs.
type ServerReady struct {
	Ready     bool   `json:"ready"`
	Node      string `json:"node"`
	Region    string `json:"region"`
	Tunnel    string `json:"tunnel"`
	WireGuard string `json:"wireguard"`
	Address   string `json:"address"` // inside the mesh
	API       string `json:"api"`
	Public    string `json:"public,omitempty"` // the API for other hosts
	Pin       string `json:"pin,omitempty"`
	// AdminTokenFile is set where a mesh was made.
	AdminTokenFile string `json:"admin_token_file,omitempty"`
}

// Files of the data directory.
const (
	wireguardKeyName = "wireguard.key"
	topologyName     = "topology.json"
	chargesName      = "usage.json"
	heardName        = "heard.json"
	controlDir       = "control"
	databasesDir     = "databases"
	adminTokenName   = "admin.token"
)

// apiDrain bounds the wait for the API's requests when its address changes.
const apiDrain = 5 * time.Second

// StartServer starts the node. Mistakes in the options are UsageErrors.
func StartServer(ctx context.Context, o ServerOptions) (_ *Server, err error) {
	known, err := loadIdentity(o.Data)
	if err != nil {
		return nil, err
	}
	first := o
	if err := first.check(known); err != nil { // before anything is made
		return nil, err
	}
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	s := &Server{started: time.Now(), metrics: prometheus.NewRegistry(), peers: make(map[string]*relay), conns: newControlConns()}
	s.streams, s.cut = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(ctx))
		}
	}()
	if s.lock, err = lockDir(o.Data, "--data"); err != nil {
		return nil, err
	}
	if s.id, err = loadIdentity(o.Data); err != nil {
		return nil, err
	}
	if err := o.check(s.id); err != nil {
		return nil, err
	}
	s.opts = o
	if s.admin, err = listenAdmin(o.HTTP); err != nil {
		return nil, err
	}
	if o.API != "" {
		if s.public, err = listenPublic(o.API); err != nil {
			return nil, err
		}
	}
	if err := s.openNode(); err != nil {
		return nil, err
	}
	if err := s.belong(ctx); err != nil {
		return nil, err
	}
	return s, s.run(ctx)
}

// openNode opens the WireGuard device with the node's own key.
func (s *Server) openNode() error {
	metrics, err := proxy.NewMetrics(s.metrics)
	if err != nil {
		return err
	}
	key, err := mesh.LoadOrCreateKey(s.path(wireguardKeyName))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.path(databasesDir), 0o700); err != nil {
		return err
	}
	fsync := aof.EverySec
	if s.opts.AppendFsync != "" {
		fsync, _ = aof.ParsePolicy(s.opts.AppendFsync) // checked
	}
	s.node, err = New(Options{
		Name: s.opts.Name, Region: s.opts.Region, Key: key, Listen: s.opts.WireGuard, Tunnel: mesh.Tunnel(s.opts.Tunnel),
		Data: s.path(databasesDir), Fsync: fsync, Version: s.opts.Version, Metrics: metrics, LimitMemory: limitMemory,
		Usage: s.path(chargesName), Heard: s.path(heardName), Upstreams: s.opts.upstreams, Trace: s.opts.Trace, Log: s.opts.Log,
	})
	return err
}

func (s *Server) path(name string) string { return filepath.Join(s.opts.Data, name) }

// belong gives the node its place in a mesh, and a way to the control plane. What --init and --join make is written down
// before it is used, so that a crash in between is mended by the same command.
func (s *Server) belong(ctx context.Context) error {
	switch {
	case s.id != nil:
	case s.opts.Init:
		return s.found(ctx)
	default:
		if err := s.join(ctx); err != nil {
			return err
		}
	}
	return s.openControl(ctx)
}

// meet makes the node's device what a topology says, so that the control plane can be reached before it is followed.
func (s *Server) meet(t *netconf.Topology) error {
	self, ok := t.Node(s.opts.Name)
	if !ok {
		return fmt.Errorf("node %s isn't in the mesh any more: it was removed; to enter again, give another --data and --join", s.opts.Name)
	}
	if err := s.finishRotation(t); err != nil {
		return err
	}
	s.node.infra = self.Addr
	s.node.fitPaths(t)
	rules, addrs, peers := s.node.wanted(t)
	return errors.Join(s.node.filter.SetRules(rules), s.node.device.SetAddrs(addrs), s.node.device.SetPeers(peers))
}

// dialControl connects to a member of the control plane: over the mesh, but for the one in this process, which the node may
// have become since it made its client.
func (s *Server) dialControl(ctx context.Context, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	if to.Addr().IsLoopback() {
		return dialKernel(addr)(ctx)
	}
	conn, err := s.node.device.DialTCP(ctx, s.node.infra, to)
	if err != nil {
		return nil, err
	}
	return s.conns.add(conn, to.Addr()), nil
}

// run starts the node's work.
func (s *Server) run(ctx context.Context) error {
	registry := s.control.registry
	session, err := s.control.enter(ctx, s.node)
	if err != nil {
		return err
	}
	if err := s.node.Start(ctx, registry, session); err != nil {
		return err
	}
	s.node.rotateKey = s.rotate
	others := slices.Clone(s.id.Control)
	s.others.Store(&others)
	if s.fleet, err = s.node.fleet(s.control); err != nil {
		return err
	}
	server, err := api.NewServer(api.Options{
		Control: registry, Fleet: s.fleet, Local: (*local)(s.node), Connect: s.node.connect, CheckRules: checkRules, Enroller: enroller{s}, ControlPlane: s.controlPlane,
		Version: s.opts.Version, Node: s.opts.Name, Log: s.opts.Log,
	})
	if err != nil {
		return err
	}
	if err := s.node.serveAPI(server); err != nil {
		return err
	}
	if err := s.metrics.Register(newCollector([]*Node{s.node})); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", server.Handler(api.TrustToken))
	mux.Handle("/", console.Handler(console.Options{
		Status:  s.status,
		Metrics: promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}),
		Ready:   s.node.Healthy,
		Log:     s.opts.Log,
	}))
	s.admin.streams = s.streams
	s.admin.serve(loopbackOnly(mux), nil)
	if !s.outsideControl() {
		ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if err := s.certificateMetrics(); err != nil {
			return err
		}
		s.wg.Go(func() { s.keepMembers(ctx) })
		s.wg.Go(func() { s.keepCertificate(ctx) })
		s.wg.Go(func() { s.dropLost(ctx) })
	}
	s.handler = server.Handler(api.TrustToken)
	if s.public != nil {
		s.public.streams = s.streams
		s.public.serve(s.handler, s.keys.api.Config())
	}
	return nil
}

// ListenAPI moves the API for other hosts to another address; empty: it ends. Requests that run finish.
func (s *Server) ListenAPI(addr string) error {
	s.moving.Lock()
	defer s.moving.Unlock()
	if addr == s.opts.API {
		return nil
	}
	var next *admin
	if addr != "" {
		var err error
		if next, err = listenPublic(addr); err != nil {
			return err
		}
		next.streams = s.streams
		next.serve(s.handler, s.keys.api.Config())
	}
	old := s.public
	s.public, s.opts.API = next, addr
	if old == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiDrain)
	defer cancel()
	return errors.Join(old.server.Shutdown(ctx), old.close())
}

// listenPublic opens the API's listener for other hosts.
func listenPublic(addr string) (*admin, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, Usagef("--api-listen: %v", err)
	}
	return &admin{url: "https://" + l.Addr().String(), listeners: []net.Listener{l}, failed: make(chan error, 1)}, nil
}

// Ready describes what runs.
func (s *Server) Ready() ServerReady {
	r := ServerReady{
		Ready: true, Node: s.opts.Name, Region: s.opts.Region, Tunnel: string(s.node.device.Kind()),
		WireGuard: s.node.WireGuard().String(), Address: s.node.infra.String(), API: s.admin.url,
	}
	if s.public != nil {
		r.Public, r.Pin = reachableURL(s.public.url, s.opts.Endpoint), s.keys.api.Pin()
	}
	if s.opts.Init {
		r.AdminTokenFile = s.path(adminTokenName)
	}
	return r
}

// reachableURL puts the endpoint's host in place of "all addresses", which nobody can connect to.
func reachableURL(listening, endpoint string) string {
	u, err := url.Parse(listening)
	if err != nil {
		return listening
	}
	host, _, err := net.SplitHostPort(endpoint)
	if addr, aerr := netip.ParseAddr(u.Hostname()); err != nil || aerr != nil || !addr.IsUnspecified() {
		return listening
	}
	u.Host = net.JoinHostPort(host, u.Port())
	return u.String()
}

// Wait returns when ctx ends, or with an error when a listener fails.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.admin.failed:
		return err
	}
}

// Close hands over what the node leads and drains its sessions within ctx, then ends everything.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		var errs []error
		if s.cancel != nil {
			s.cancel()
			s.wg.Wait()
		}
		if s.node != nil {
			s.node.HandOver(ctx)
			if err := s.node.Drain(ctx); err != nil {
				s.opts.Log.Warn("sessions were cut at exit", "err", err)
			}
		}
		s.cut()
		s.moving.Lock()
		defer s.moving.Unlock()
		for _, a := range []*admin{s.public, s.admin} {
			if a != nil {
				errs = append(errs, a.close())
			}
		}
		if s.fleet != nil {
			errs = append(errs, s.fleet.Close())
		}
		if s.control != nil {
			errs = append(errs, s.control.close()) // while the device is there: its requests go over it
		}
		for _, r := range slices.Concat(s.relays, slices.Collect(maps.Values(s.peers))) {
			errs = append(errs, r.close())
		}
		if s.node != nil {
			errs = append(errs, s.node.Close())
		}
		if s.lock != nil {
			errs = append(errs, s.lock.Close())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}
