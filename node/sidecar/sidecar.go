// Package sidecar puts an org's databases on the loopback addresses of a machine, or of a pod, without any privilege.
//
// A Sidecar registers itself as a roaming peer of the org by the control API, so that the nodes of all regions accept its
// WireGuard key, and opens one userspace device with all of them as peers. Since a prefix belongs to one WireGuard peer
// only, it doesn't use a database's service address, which is the same in every region, but the regional ones: those of
// region R lie in a /96 that is given to one node of R (package netconf has the address plan).
//
//	an app → [::1]:6379 → a byte stream → P:0:2:R::N, port 6379, at the node chosen
//
// It measures all nodes by a RESP PING through the regional address, uses the nearest that answers (see choice.go), moves
// when that one fails, and comes back. Sessions on a node that failed end with a reset; what runs on a node that is only
// no longer the nearest stays there. Streams aren't parsed: clients authenticate themselves.
//
// With a data directory it keeps its key and the last list of nodes, and so starts while the API is away.
package sidecar

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"respmesh/mesh"
)

// Options say what a sidecar is.
type Options struct {
	API       API
	Org       string     // "": the only one whose databases the API shows
	Databases []Database // none: the org's only one
	Name      string     // of the peer; "": as it was, or made of the host's name
	// Region is used as long as a node there is healthy; "": the nearest one.
	Region string
	Data   string // directory, made if need be; "": nothing is kept, and the peer is removed at the end
	HTTP   string // address of /healthz and /metrics; "": none
	DNS    string // address of the resolver; "": none
	// Settle is how long a better node must have been healthy before it is used; 0: 10 s.
	Settle time.Duration
	// Sessions bounds those that are open at a time; 0: 1000.
	Sessions int
	Log      *slog.Logger
}

// Database is one to be served.
type Database struct {
	Name string
	Port int // on loopback; 0: 6379 for the first, 6380 for the second, and so on; negative: any that is free
}

const (
	redisPort       = 6379
	defaultSettle   = 10 * time.Second
	defaultSessions = 1000

	startWait   = 5 * time.Second // for a first node, before Start returns without one
	refreshWait = 10 * time.Second
	farewell    = 3 * time.Second // for the API, at the end
)

// Sidecar is a running one.
type Sidecar struct {
	opts     Options
	log      *slog.Logger
	keeper   *keeper // nil without a data directory
	key      mesh.PrivateKey
	device   *mesh.Device
	router   *router
	sessions *sessions
	services []*service
	http     *httpServer
	dns      *resolver
	metrics  *prometheus.Registry

	name, org string
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	failed    chan error // what a sidecar can't go on with

	apiMu    sync.Mutex
	apiErr   error     // of the last refresh, guarded by apiMu
	apiHeard time.Time // the last one that worked, guarded by apiMu

	closeOnce sync.Once
	closeErr  error
}

// Start registers the sidecar and opens its ports. It waits a moment for a first node, and returns without one too: sessions
// wait themselves.
func Start(ctx context.Context, o Options) (_ *Sidecar, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Settle = cmp.Or(o.Settle, defaultSettle)
	o.Sessions = cmp.Or(o.Sessions, defaultSessions)
	s := &Sidecar{opts: o, log: o.Log, failed: make(chan error, 1), metrics: prometheus.NewRegistry()}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(ctx))
		}
	}()
	if o.Data != "" {
		if s.keeper, err = openKeeper(o.Data); err != nil {
			return nil, err
		}
		s.key, err = s.keeper.key()
	} else {
		s.key, err = mesh.NewPrivateKey()
	}
	if err != nil {
		return nil, err
	}
	m, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.open(m); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if _, ok := s.router.await(wait); !ok && ctx.Err() == nil {
		s.log.Warn("no node answers yet; the sidecar goes on trying")
	}
	return s, ctx.Err()
}

// open makes all that a membership needs.
func (s *Sidecar) open(m *membership) error {
	filter, err := mesh.NewFilter(mesh.FilterRules{Role: mesh.RolePeer, Orgs: []netip.Prefix{m.Prefix}})
	if err != nil {
		return err
	}
	if s.device, err = mesh.New(mesh.Config{
		PrivateKey: s.key, Filter: filter, Log: s.log, Addrs: []netip.Addr{m.Address},
		Listen: netip.AddrPortFrom(netip.IPv6Unspecified(), 0),
	}); err != nil {
		return err
	}
	s.sessions = newSessions(s.opts.Sessions)
	s.router = newRouter(s.ctx, routerOptions{
		Self: m.Address, Dial: s.device.DialTCP, SetPeers: s.device.SetPeers, Lost: s.sessions.reset, Busy: s.sessions.on,
		Prefer: s.opts.Region, Settle: s.opts.Settle, Log: s.log,
	})
	if err := s.serve(m); err != nil {
		return err
	}
	if err := s.router.set(m); err != nil {
		return err
	}
	if err := s.measure(); err != nil {
		return err
	}
	if s.opts.HTTP != "" {
		if s.http, err = s.serveHTTP(s.opts.HTTP); err != nil {
			return err
		}
	}
	if s.opts.DNS != "" {
		if s.dns, err = startResolver(s.opts.DNS, s.records(), s.log); err != nil {
			return err
		}
	}
	s.wg.Go(func() { s.refresh(m) })
	return nil
}

// Ready says where what is served is.
type Ready struct {
	Ready     bool            `json:"ready"`
	Peer      string          `json:"peer"` // org/name
	Address   string          `json:"address"`
	Node      string          `json:"node,omitempty"` // in use; empty: none answers yet
	Databases []ReadyDatabase `json:"databases"`
	HTTP      string          `json:"http,omitempty"`
	DNS       string          `json:"dns,omitempty"`
}

// ReadyDatabase is one database with its ports on this machine.
type ReadyDatabase struct {
	Database  string   `json:"database"` // org/name
	Addresses []string `json:"addresses"`
}

// Ready describes what runs.
func (s *Sidecar) Ready() Ready {
	r := Ready{Ready: true, Peer: s.org + "/" + s.name, Address: s.router.opts.Self.String()}
	if now, _ := s.router.current(); now != nil {
		r.Node = now.name
	}
	for _, v := range s.services {
		d := ReadyDatabase{Database: s.org + "/" + v.name}
		for _, l := range v.listeners {
			d.Addresses = append(d.Addresses, l.Addr().String())
		}
		r.Databases = append(r.Databases, d)
	}
	if s.http != nil {
		r.HTTP = "http://" + s.http.addr.String()
	}
	if s.dns != nil {
		r.DNS = s.dns.addr.String()
	}
	return r
}

// Healthy is nil while a node answers.
func (s *Sidecar) Healthy() error {
	if s.ctx.Err() != nil {
		return errors.New("the sidecar is ending")
	}
	if now, _ := s.router.current(); now == nil {
		return errors.New("no node answers")
	}
	return nil
}

// Wait returns when ctx ends, or with an error when the sidecar can't go on.
func (s *Sidecar) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

func (s *Sidecar) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first is the cause
	}
}

// Close takes no more sessions, lets those that wait for an answer have it, within ctx, and ends.
func (s *Sidecar) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		for _, v := range s.services {
			v.close()
		}
		if s.sessions != nil {
			s.sessions.drain(ctx)
		}
		s.cancel()
		var errs []error
		if s.dns != nil {
			errs = append(errs, s.dns.close())
		}
		if s.http != nil {
			errs = append(errs, s.http.close())
		}
		if s.router != nil {
			s.router.close()
		}
		s.wg.Wait()
		if s.device != nil {
			errs = append(errs, s.device.Close())
		}
		if s.keeper != nil {
			errs = append(errs, s.keeper.close())
		} else {
			s.leave()
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// service is a database on its ports.
type service struct {
	name      string
	port      int
	listeners []net.Listener
}

func (v *service) close() {
	for _, l := range v.listeners {
		l.Close()
	}
}
