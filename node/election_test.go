package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"respmesh/netconf"
)

const leaseTTL = 3 * time.Second

// fakeControl is a control plane in memory, with leases that end three seconds after they were last renewed.
type fakeControl struct {
	t        *testing.T
	registry *netconf.Registry
	db       string

	mu      sync.Mutex
	record  netconf.Primary
	ends    time.Time // of the lease
	cut     map[string]bool
	down    bool
	topo    *netconf.Topology
	changed chan struct{}
	alive   map[string]netconf.NodeLive
}

func newControl(t *testing.T, nodes ...string) *fakeControl {
	t.Helper()
	c := &fakeControl{t: t, registry: netconf.NewRegistry(), cut: map[string]bool{}, changed: make(chan struct{}), alive: map[string]netconf.NodeLive{}}
	err := c.registry.Update(func(d *netconf.Draft) error {
		if _, err := d.AddOrg("shop"); err != nil {
			return err
		}
		for i, n := range nodes {
			key := fmt.Sprintf("%043d=", i)
			key = key[:42] + "A="
			key = fmt.Sprintf("%c", 'A'+i) + key[1:]
			if _, err := d.AddNode(netconf.Node{Name: n, Region: "mad", Key: key}); err != nil {
				return err
			}
		}
		db, err := d.AddDatabase(netconf.Database{Org: "shop", Name: "cart", Primary: "mad"})
		c.db = db.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.topo, _ = c.registry.Current()
	for _, n := range nodes {
		c.alive[n] = netconf.NodeLive{}
	}
	c.publish()
	return c
}

// publish is called with mu held, or before anybody else knows c.
func (c *fakeControl) publish() {
	primaries := map[string]netconf.Primary{}
	if c.record.Node != "" {
		primaries[c.db] = c.record
	}
	alive := map[string]netconf.NodeLive{}
	for n, l := range c.alive {
		alive[n] = l
	}
	c.topo = c.topo.WithLive(netconf.Live{Nodes: alive, Primaries: primaries})
	close(c.changed)
	c.changed = make(chan struct{})
}

// expire ends the lease when it is over. A control plane that is down does nothing.
func (c *fakeControl) expire(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
		c.mu.Lock()
		if !c.down && c.record.Held && time.Now().After(c.ends) {
			c.record.Held = false
			c.publish()
		}
		c.mu.Unlock()
	}
}

// seat is one node's access to the control plane, and its copy of the data.
type seat struct {
	*fakeControl
	name string
	e    *election

	mu       sync.Mutex
	deadline time.Time
	claimed  bool // by the process that runs; guarded by the control's mu
	leads    bool
	follows  string
	behind   bool              // never gets the leader's data
	snapshot *netconf.Topology // what it knows while control is down; nil: what it last heard
	at       standing
	whose    stake
	impaired atomic.Bool

	cancel context.CancelFunc
	done   chan struct{}
}

func (s *seat) reaches() bool { return !s.down && !s.cut[s.name] }

func (s *seat) Current() (*netconf.Topology, <-chan struct{}) {
	s.fakeControl.mu.Lock()
	defer s.fakeControl.mu.Unlock()
	if s.down && s.snapshot != nil {
		return s.snapshot, s.changed
	}
	return s.topo, s.changed
}

func (s *seat) Claim(_ context.Context, _ string, seen netconf.Primary) (claim, error) {
	s.fakeControl.mu.Lock()
	defer s.fakeControl.mu.Unlock()
	switch {
	case !s.reaches():
		return claim{}, errors.New("control is out of reach")
	case s.record.Held && s.record.Node != s.name:
		return claim{}, errors.New("held")
	case s.record.Term != seen.Term:
		return claim{}, errors.New("changed meanwhile")
	}
	s.record = netconf.Primary{Node: s.name, Term: s.record.Term + 1, Held: true}
	term := s.record.Term
	s.ends = time.Now().Add(leaseTTL)
	s.deadline, s.claimed = s.ends, true
	s.publish()
	return claim{term: term, until: func() time.Time {
		s.fakeControl.mu.Lock()
		defer s.fakeControl.mu.Unlock()
		if s.record.Term == term {
			return s.deadline
		}
		return time.Time{}
	}}, nil
}

func (s *seat) Advance(context.Context, string, claim) (claim, error) {
	return claim{}, errors.New("not asked for")
}

func (s *seat) stragglers() ([]netip.Addr, time.Duration) { return nil, 0 }

func (s *seat) exclude([]netip.Addr) {}

func (s *seat) renew(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(leaseTTL / 3):
		}
		s.fakeControl.mu.Lock()
		if s.reaches() && s.claimed && s.record.Held && s.record.Node == s.name {
			s.ends = time.Now().Add(leaseTTL)
			s.deadline = s.ends
		}
		s.fakeControl.mu.Unlock()
	}
}

func (s *seat) lead(_ context.Context, term int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads, s.follows, s.at.Term = true, "", term
	return nil
}

func (s *seat) follow(_ context.Context, node string, term int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads, s.follows = false, node
	if !s.behind {
		s.at.Term = term
	}
	return nil
}

func (s *seat) fence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = false
}

func (s *seat) stake() stake { return s.whose }

func (s *seat) standing() standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *seat) leading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads
}

func (s *seat) following() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.follows
}

type region struct {
	*fakeControl
	seats []*seat
	dead  map[string]bool // doesn't answer other nodes; guarded by the control's mu
}

func (r *region) isDead(name string) bool {
	r.fakeControl.mu.Lock()
	defer r.fakeControl.mu.Unlock()
	return r.dead[name]
}

func (r *region) setDead(name string, dead bool) {
	r.fakeControl.mu.Lock()
	defer r.fakeControl.mu.Unlock()
	r.dead[name] = dead
}

func newRegion(t *testing.T, names ...string) *region {
	c := newControl(t, names...)
	r := &region{fakeControl: c, dead: map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	go c.expire(ctx)
	t.Cleanup(func() {
		for _, s := range r.seats {
			s.stop()
		}
		cancel()
		synctest.Wait()
	})
	for _, n := range names {
		s := &seat{fakeControl: c, name: n, at: standing{Replid: "r", Offset: 100}}
		r.seats = append(r.seats, s)
	}
	for _, s := range r.seats {
		r.start(s)
	}
	return r
}

func (r *region) start(s *seat) {
	e := &election{
		db: r.db, self: s.name, region: "mad", leases: s, copy: s, log: slog.New(slog.DiscardHandler),
		drained:  func(*netconf.Topology) bool { return false },
		impaired: s.impaired.Load,
		ask: func(_ context.Context, node string) (standing, error) {
			o := r.seat(node)
			if r.isDead(node) {
				return standing{}, errors.New("no answer")
			}
			return o.standing(), nil
		},
		hold: func(_ context.Context, node string, term int64) (time.Duration, error) {
			if r.isDead(node) {
				return 0, errors.New("no answer")
			}
			r.fakeControl.mu.Lock()
			other := r.seat(node).e
			r.fakeControl.mu.Unlock()
			d, ok := other.promise(term)
			if !ok {
				return 0, errors.New("refused")
			}
			return d, nil
		},
	}
	s.fakeControl.mu.Lock()
	s.e, s.claimed = e, false
	s.fakeControl.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.cancel, s.done = cancel, done
	go s.renew(ctx)
	go func() { defer close(done); e.run(ctx, s, nil) }()
}

// stop kills the node's process.
func (s *seat) stop() {
	s.cancel()
	<-s.done
	s.fence()
}

func (r *region) seat(name string) *seat {
	for _, s := range r.seats {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (r *region) kill(name string) {
	r.setDead(name, true)
	r.seat(name).stop()
	r.fakeControl.mu.Lock()
	delete(r.alive, name)
	r.publish()
	r.fakeControl.mu.Unlock()
}

func (r *region) topology() *netconf.Topology {
	r.fakeControl.mu.Lock()
	defer r.fakeControl.mu.Unlock()
	return r.topo.WithLive(netconf.Live{Primaries: map[string]netconf.Primary{r.db: {Node: r.record.Node, Term: r.record.Term}}})
}

// leader advances time until one node leads, and checks all the time that no two do.
func (r *region) leader(within time.Duration) string {
	r.t.Helper()
	for range int(within / (10 * time.Millisecond)) {
		if l := r.leaders(); l != "" {
			return l
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	r.t.Fatalf("nobody leads after %v", within)
	return ""
}

func (r *region) leaders() string {
	r.t.Helper()
	var l string
	for _, s := range r.seats {
		if s.leading() {
			if l != "" {
				r.t.Fatalf("%s and %s lead at once", l, s.name)
			}
			l = s.name
		}
	}
	return l
}

// stays checks for a while that one node leads without a break.
func (r *region) stays(name string, d time.Duration) {
	r.t.Helper()
	for range int(d / (10 * time.Millisecond)) {
		if l := r.leaders(); l != name {
			r.t.Fatalf("%q leads, want %q", l, name)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
}

func TestElectionTheFirstLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2", "mad-3")
		if l := r.leader(time.Second); l != "mad-1" {
			t.Fatalf("%s leads", l)
		}
		r.stays("mad-1", time.Minute)
		if f := r.seat("mad-2").following(); f != "mad-1" {
			t.Fatalf("mad-2 follows %q", f)
		}
	})
}

func TestElectionTheMostAdvancedTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2", "mad-3")
		r.leader(time.Second)
		synctest.Wait()
		r.seat("mad-3").mu.Lock()
		r.seat("mad-3").at.Offset = 200
		r.seat("mad-3").mu.Unlock()
		r.kill("mad-1")
		if l := r.leader(5 * time.Second); l != "mad-3" {
			t.Fatalf("%s leads, though mad-3 has more", l)
		}
		r.setDead("mad-1", false)
		r.start(r.seat("mad-1")) // comes back
		r.stays("mad-3", 10*time.Second)
		if f := r.seat("mad-1").following(); f != "mad-3" {
			t.Fatalf("the old primary follows %q", f)
		}
	})
}

func TestElectionNobodyWithoutTheLastTermsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2")
		r.seat("mad-2").mu.Lock()
		r.seat("mad-2").behind = true
		r.seat("mad-2").mu.Unlock()
		r.leader(time.Second)
		r.kill("mad-1")
		r.stays("", time.Minute)
		r.setDead("mad-1", false)
		r.start(r.seat("mad-1"))
		r.leader(time.Second)
	})
}

func TestElectionPrimaryCutOffFromControlIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2")
		r.leader(time.Second)
		r.fakeControl.mu.Lock()
		r.cut["mad-1"] = true
		r.fakeControl.mu.Unlock()
		r.setDead("mad-2", true) // as mad-1 sees it: it is alone
		began := time.Now()
		for r.leaders() != "mad-2" {
			if time.Since(began) > 5*time.Second {
				t.Fatal("nobody took over in time")
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
	})
}

func TestElectionControlAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2")
		r.leader(time.Second)
		r.fakeControl.mu.Lock()
		r.down = true
		r.fakeControl.mu.Unlock()
		r.stays("mad-1", time.Minute) // by the promise of mad-2
		r.fakeControl.mu.Lock()
		r.down, r.record.Held = false, false // all leases were lost
		r.publish()
		r.fakeControl.mu.Unlock()
		r.stays("mad-1", time.Minute)
	})
}

func TestElectionAloneWithoutControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1")
		r.leader(time.Second)
		r.fakeControl.mu.Lock()
		r.down = true
		r.fakeControl.mu.Unlock()
		r.stays("mad-1", time.Hour)
		r.seat("mad-1").stop() // a new process, still without control
		r.start(r.seat("mad-1"))
		r.leader(3 * time.Second)
		r.stays("mad-1", time.Minute)
	})
}

// TestElectionTheFormerPrimaryDoesntLeadByAnOldSnapshot: it was away while another node led, and knows nothing of it.
func TestElectionTheFormerPrimaryDoesntLeadByAnOldSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2")
		r.leader(time.Second)
		old := r.topology()
		r.kill("mad-1")
		if l := r.leader(5 * time.Second); l != "mad-2" {
			t.Fatalf("%s leads", l)
		}
		r.fakeControl.mu.Lock()
		r.down = true
		r.fakeControl.mu.Unlock()
		time.Sleep(10 * time.Second) // mad-2 is fenced: mad-1 promises nothing
		mad1 := r.seat("mad-1")
		mad1.snapshot = old
		r.setDead("mad-1", false)
		r.start(mad1)
		r.leader(10 * time.Second)
		r.stays("mad-2", 30*time.Second)
	})
}

// TestElectionTheFormerPrimaryLostItsDisk: it comes back before its lease is over, with nothing.
func TestElectionTheFormerPrimaryLostItsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2")
		r.leader(time.Second)
		synctest.Wait()
		mad1 := r.seat("mad-1")
		mad1.stop()
		mad1.mu.Lock()
		mad1.at = standing{Replid: "fresh"}
		mad1.mu.Unlock()
		r.start(mad1)
		if l := r.leader(6 * time.Second); l != "mad-2" {
			t.Fatalf("%s leads, and has nothing", l)
		}
	})
}

// TestElectionAcknowledgedWritesAreAmongWhatIsKnown: with min-replicas 1 a write may be on the killed primary and on one other
// node only. As long as that one doesn't say what it has, nobody takes over.
func TestElectionAcknowledgedWritesAreAmongWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2", "mad-3")
		err := r.registry.Update(func(d *netconf.Draft) error {
			d.Databases[0].MinReplicas = 1
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		r.fakeControl.mu.Lock()
		r.topo, _ = r.registry.Current()
		r.publish()
		r.fakeControl.mu.Unlock()
		r.leader(time.Second)
		synctest.Wait()
		r.seat("mad-3").mu.Lock()
		r.seat("mad-3").at.Offset = 200
		r.seat("mad-3").mu.Unlock()
		r.setDead("mad-3", true) // doesn't answer, for a while
		r.fakeControl.mu.Lock()
		r.cut["mad-3"] = true
		r.fakeControl.mu.Unlock()
		r.kill("mad-1")
		r.stays("", 20*time.Second)
		r.setDead("mad-3", false)
		r.fakeControl.mu.Lock()
		r.cut["mad-3"] = false
		r.fakeControl.mu.Unlock()
		if l := r.leader(5 * time.Second); l != "mad-3" {
			t.Fatalf("%s leads, though mad-3 has more", l)
		}
	})
}

// name has an operator say which node is to lead next.
func (r *region) name(node string, force bool) {
	r.t.Helper()
	r.fakeControl.mu.Lock()
	defer r.fakeControl.mu.Unlock()
	err := r.registry.Update(func(d *netconf.Draft) error {
		db, err := d.Database("shop", "cart")
		if err == nil {
			db.Lead = netconf.Lead{Node: node, Term: r.record.Term, Force: force}
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.topo, _ = r.registry.Current()
	r.publish()
}

// By an operator's word a copy of an older term takes over, once; the primary that was comes back as a replica.
func TestElectionForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2", "mad-3")
		for _, n := range []string{"mad-2", "mad-3"} {
			r.seat(n).mu.Lock()
			r.seat(n).behind = true
			r.seat(n).mu.Unlock()
		}
		r.leader(time.Second)
		r.kill("mad-1")
		r.stays("", time.Minute)
		r.name("mad-3", true)
		if l := r.leader(2 * time.Second); l != "mad-3" {
			t.Fatalf("%s leads", l)
		}
		r.setDead("mad-1", false)
		r.start(r.seat("mad-1"))
		r.stays("mad-3", 10*time.Second)
		if f := r.seat("mad-1").following(); f != "mad-3" {
			t.Errorf("the primary that was follows %q", f)
		}
		r.kill("mad-3") // the word was about one term: who has the next one is a candidate as ever
		if l := r.leader(5 * time.Second); l != "mad-1" {
			t.Errorf("%s leads", l)
		}
	})
}

// A free lease is left to the node that an operator named, and only for a while.
func TestElectionNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2", "mad-3")
		r.leader(time.Second)
		time.Sleep(2 * time.Second) // all have the term
		r.name("mad-3", false)
		r.kill("mad-1")
		if l := r.leader(5 * time.Second); l != "mad-3" {
			t.Fatalf("%s leads", l)
		}
		r.setDead("mad-1", false)
		r.start(r.seat("mad-1"))
		time.Sleep(2 * time.Second)
		r.name("mad-1", false)
		r.seat("mad-1").mu.Lock()
		r.seat("mad-1").at.Term, r.seat("mad-1").behind = 0, true // it can't
		r.seat("mad-1").mu.Unlock()
		r.kill("mad-3")
		if l := r.leader(20 * time.Second); l != "mad-2" {
			t.Fatalf("%s leads", l)
		}
	})
}

// Who can't keep what is written leaves the lead to another one, and takes it where there is none.
func TestElectionImpaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, "mad-1", "mad-2", "mad-3")
		r.leader(time.Second)
		time.Sleep(2 * time.Second) // all have the term
		r.seat("mad-2").impaired.Store(true)
		r.kill("mad-1")
		if l := r.leader(5 * time.Second); l != "mad-3" {
			t.Fatalf("%s leads", l)
		}
		time.Sleep(2 * time.Second)
		r.kill("mad-3")
		if l := r.leader(15 * time.Second); l != "mad-2" {
			t.Fatalf("%s leads", l)
		}
	})
}
