// Package dns is the resolver inside the private network: every node answers at each org's <prefix>::3.
//
// It is authoritative for the zone internal. and for the names of an org's addresses below ip6.arpa. Other zones are
// forwarded to the upstreams that it is given, and REFUSED without any.
// Each asker sees its own org only, found by the source address; names of other orgs don't exist (NXDOMAIN), and
// who is in no org is REFUSED. With org O and database D:
//
//	<D>.<O>.internal                   AAAA   the service address, answered by the asker's own node
//	nearest.of.<D>.<O>.internal        AAAA   the nearest healthy member
//	top<N>.nearest.of.<D>.<O>.internal AAAA   the N nearest healthy members
//	global.<D>.<O>.internal            AAAA   all healthy members
//	primary.<D>.<O>.internal           AAAA   the primary, if it is healthy
//	<region>.<D>.<O>.internal          AAAA   the member in a region that holds a copy, if it is healthy
//	regions.<D>.<O>.internal           TXT    the regions of the healthy members, nearest first, with commas
//	_databases[.<O>].internal          TXT    the org's databases, with commas
//	_peer[.<O>].internal               TXT    the org's peers, with commas
//	<peer>._peer[.<O>].internal        AAAA   a peer's address
//	_redis._tcp.<D>.<O>.internal       SRV    the healthy members, nearest first by priority
//	_api.internal                      AAAA   the control API, where the node serves it
//	internal                           SOA, NS
//	<digits>.ip6.arpa                  PTR    the org's resolver, databases and peers; SOA and NS of its prefix
//
// A member's address is its region's (Org.RegionalService), where nodes carry these across the mesh (Options.Regional).
// Elsewhere it is the service address: then primary and <region> say whether that member is healthy, but don't pin a
// connection to it. <D>.<O> itself is answered whatever the health: it is the node that answers there, with reads
// from elsewhere or a clear error.
//
// Semantics: RFC 1035, RFC 2308 (a name that exists without the type asked is NODATA with the SOA, never NXDOMAIN;
// so are empty non-terminals), RFC 6891 (EDNS, at most 1232 bytes by UDP), RFC 7766 (TCP), RFC 8482 (ANY gets one
// set). Letter case of the question is echoed. TTL and negative TTL are 5 s. SERVFAIL until a topology is loaded.
package dns

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/netconf"
)

// Source gives the topology and a channel that is closed when it is replaced; *netconf.Registry is one. A nil
// topology means that none is loaded yet.
type Source interface {
	Current() (*netconf.Topology, <-chan struct{})
}

// Options configure a Server. Source and Region are required.
type Options struct {
	Source Source
	Region string // the node's own: the nearest
	// Healthy tells whether the member of a database in a region is to be answered; nil: all are. It is called
	// for every query and must be quick.
	Healthy func(d *netconf.Database, region string) bool
	// RTT is the measured round-trip time from this node to a region. Regions without one are ordered by distance,
	// after those with one. It must be quick.
	RTT func(region string) (time.Duration, bool)
	// OrgOf finds the asker's org by its source address; nil: by prefix.
	OrgOf func(t *netconf.Topology, asker netip.Addr) (netconf.Org, bool)
	Log   *slog.Logger

	// Regional: the regional addresses are reachable from here.
	Regional bool
	// API: the control API is served at the resolver's address.
	API     bool
	Forward Forward

	// PerSecond is how many questions one asker may ask, and twice as many at once. What is above is dropped. Default 5000;
	// negative: no bound.
	PerSecond    int
	Workers      int           // goroutines per packet connection; default 4
	Conns        int           // TCP connections at a time; default 128
	ConnsPerPeer int           // … from one address; default 8
	Idle         time.Duration // for a whole TCP query to arrive, and for an answer to leave; default 10 s
}

// Server answers queries on the connections it is given. It is safe for concurrent use.
type Server struct {
	opt    Options
	zone   zone
	ahead  *forwarder
	limit  limit
	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	stats  counters

	mu     sync.Mutex // guards what follows
	closed bool
	open   map[io.Closer]struct{}
	conns  map[netip.Addr]int // TCP connections by source
	count  int                // sum of conns
}

// Stats counts queries since the start.
type Stats struct {
	Answered    uint64 // NOERROR with an answer
	NoData      uint64
	NXDomain    uint64
	Refused     uint64
	Failed      uint64 // SERVFAIL, and errors of the query itself
	Dropped     uint64 // not answered at all: not a query, or the answer couldn't be sent
	Truncated   uint64
	ConnRefused uint64 // TCP connections above the bounds
	Forwarded   uint64 // asked an upstream
	Cached      uint64 // answered from what an upstream said before
	Limited     uint64 // asked too fast, or too much at a time
}

type counters struct {
	answered, noData, nxDomain, refused, failed, dropped, truncated, connRefused, forwarded, cached, limited atomic.Uint64
}

// New makes a Server; ServePacket and Serve start it.
func New(opt Options) (*Server, error) {
	if opt.Source == nil {
		return nil, errors.New("dns: no topology source")
	}
	region, err := netconf.CheckRegion(opt.Region)
	if err != nil {
		return nil, err
	}
	if opt.Healthy == nil {
		opt.Healthy = func(*netconf.Database, string) bool { return true }
	}
	if opt.RTT == nil {
		opt.RTT = func(string) (time.Duration, bool) { return 0, false }
	}
	if opt.OrgOf == nil {
		opt.OrgOf = (*netconf.Topology).OrgOf
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Workers <= 0 {
		opt.Workers = 4
	}
	if opt.Conns <= 0 {
		opt.Conns = 128
	}
	if opt.ConnsPerPeer <= 0 {
		opt.ConnsPerPeer = 8
	}
	if opt.Idle <= 0 {
		opt.Idle = 10 * time.Second
	}
	if opt.PerSecond == 0 {
		opt.PerSecond = 5000
	}
	ahead, err := newForwarder(opt.Forward)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt:   opt,
		zone:  zone{region: region, healthy: opt.Healthy, rtt: opt.RTT, regional: opt.Regional, api: opt.API},
		ahead: ahead,
		limit: limit{rate: float64(max(opt.PerSecond, 0)), sources: map[netip.Addr]bucket{}},
		open:  map[io.Closer]struct{}{},
		conns: map[netip.Addr]int{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Stats gives the counts.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{
		Answered: c.answered.Load(), NoData: c.noData.Load(), NXDomain: c.nxDomain.Load(), Refused: c.refused.Load(),
		Failed: c.failed.Load(), Dropped: c.dropped.Load(), Truncated: c.truncated.Load(), ConnRefused: c.connRefused.Load(),
		Forwarded: c.forwarded.Load(), Cached: c.cached.Load(), Limited: c.limited.Load(),
	}
}

// Close ends all serving: it closes what the server was given and waits for every goroutine.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.cancel()
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// start registers what Close closes and runs the goroutines that serve it. False: the server is closed.
func (s *Server) start(c io.Closer, n int, run func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[c] = struct{}{}
	for range n {
		s.wg.Go(run)
	}
	return true
}

func (s *Server) finished(c io.Closer) {
	_ = c.Close()
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
}

// retry waits after a failed read or accept, longer each time in a row, and tells whether to go on.
func (s *Server) retry(err error, failures *int) bool {
	*failures++
	if errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil || *failures > 10 {
		return false
	}
	wait := time.NewTimer(min(time.Millisecond<<*failures, time.Second))
	defer wait.Stop()
	select {
	case <-s.ctx.Done():
		return false
	case <-wait.C:
		return true
	}
}

// done is the result of serving: nil after Close.
func (s *Server) done(err error) error {
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}
