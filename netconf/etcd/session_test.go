package etcd

import (
	"errors"
	"sync"
	"testing"
	"time"

	"respmesh/netconf"
)

func newSession(t *testing.T, r *Registry, node string) *Session {
	t.Helper()
	s, err := r.NewSession(t.Context(), node, netconf.NodeLive{Since: time.Unix(1e9, 0).UTC(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func claim(t *testing.T, s *Session, db netconf.Database, seen netconf.Primary) int64 {
	t.Helper()
	term, err := s.Claim(t.Context(), db.ID, seen)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func TestLiveNodes(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		a, b := s.registry(t, Options{}), s.registry(t, Options{})
		fillMesh(t, a)
		session := newSession(t, a, "mad-1")
		saw := func(revision uint64) func(*netconf.Topology) bool {
			return func(t *netconf.Topology) bool {
				n, ok := t.Live.Nodes["mad-1"]
				return ok && n.Version == "test" && n.Revision == revision
			}
		}
		until(t, b, "the node", saw(0))
		if err := session.Report(netconf.NodeLive{Version: "test", Revision: 7}); err != nil {
			t.Fatal(err)
		}
		until(t, b, "what it reports", saw(7))
		if err := session.Close(); err != nil {
			t.Fatal(err)
		}
		if session.Running() {
			t.Error("a closed session has a lease")
		}
		until(t, b, "the node away", func(t *netconf.Topology) bool { return len(t.Live.Nodes) == 0 })
	})
}

// Who is the primary can change the state on that condition; the one before can't any more.
func TestUpdateAsPrimary(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		r := s.registry(t, Options{})
		db := fillMesh(t, r)
		one, two := newSession(t, r, "mad-1"), newSession(t, r, "mad-2")
		move := func(s *Session, kind string) error {
			return s.Update(t.Context(), db.ID, "test", func(d *netconf.Draft) error {
				rec, err := d.Database(db.Org, db.Name)
				if err == nil {
					rec.Engine.Kind = kind
				}
				return err
			})
		}
		if err := move(one, netconf.EngineRedis); !errors.Is(err, ErrHeld) {
			t.Errorf("changed before the claim: %v", err)
		}
		term := claim(t, one, db, netconf.Primary{})
		if err := move(one, netconf.EngineRedis); err != nil {
			t.Fatal(err)
		}
		if _, err := r.client.Delete(t.Context(), liveHeld+db.ID); err != nil { // as when its lease ends unnoticed
			t.Fatal(err)
		}
		claim(t, two, db, netconf.Primary{Node: "mad-1", Term: term})
		if err := move(one, ""); !errors.Is(err, ErrHeld) {
			t.Errorf("changed after another's claim: %v", err)
		}
		if now, _ := r.Current(); now.Databases[0].Engine.Kind != netconf.EngineRedis {
			t.Errorf("the record has %+v", now.Databases[0].Engine)
		}
	})
}

// Of many that claim at once one is the primary; the term grows with each.
func TestClaims(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		a, b := s.registry(t, Options{}), s.registry(t, Options{})
		db := fillMesh(t, a)
		until(t, b, "the mesh", hasOrg("acme"))
		one, two := newSession(t, a, "mad-1"), newSession(t, b, "mad-2")
		var seen netconf.Primary
		for round := range 20 {
			var wg sync.WaitGroup
			terms, errs := make([]int64, 2), make([]error, 2)
			for i, session := range []*Session{one, two} {
				wg.Go(func() { terms[i], errs[i] = session.Claim(t.Context(), db.ID, seen) })
			}
			wg.Wait()
			winner, name := 0, "mad-1"
			if errs[0] != nil {
				winner, name = 1, "mad-2"
			}
			if errs[winner] != nil || !errors.Is(errs[1-winner], ErrHeld) || terms[winner] != int64(round+1) {
				t.Fatalf("round %d: terms %v, errors %v", round, terms, errs)
			}
			session := []*Session{one, two}[winner]
			if again := claim(t, session, db, seen); again != terms[winner] {
				t.Errorf("claimed again: term %d after %d", again, terms[winner])
			}
			if got := session.Claims()[db.ID]; got != terms[winner] {
				t.Errorf("claims: term %d", got)
			}
			seen = netconf.Primary{Node: name, Term: terms[winner]}
			for _, r := range []*Registry{a, b} {
				until(t, r, "the primary", func(t *netconf.Topology) bool {
					return t.Live.Primaries[db.ID] == netconf.Primary{Node: name, Term: terms[winner], Held: true}
				})
			}
			if err := session.Release(t.Context(), db.ID); err != nil {
				t.Fatal(err)
			}
			for _, r := range []*Registry{a, b} {
				until(t, r, "nobody", func(t *netconf.Topology) bool { return t.Live.Primaries[db.ID] == seen })
			}
		}
		// Who saw an older primary has missed something.
		if _, err := one.Claim(t.Context(), db.ID, netconf.Primary{Node: "mad-1", Term: 1}); !errors.Is(err, ErrHeld) {
			t.Errorf("claimed over an old sight: %v", err)
		}
		if _, err := one.Claim(t.Context(), "nosuch", netconf.Primary{}); !errors.Is(err, netconf.ErrNotFound) {
			t.Errorf("claimed what isn't there: %v", err)
		}
		// Another's release changes nothing.
		claim(t, one, db, seen)
		if err := two.Release(t.Context(), db.ID); err != nil {
			t.Fatal(err)
		}
		// With the database goes who was its primary.
		update(t, a, func(d *netconf.Draft) error { return d.RemoveDatabase("acme", "cart") })
		until(t, b, "no primary", func(t *netconf.Topology) bool { return len(t.Live.Primaries) == 0 })
	})
}

// A node that is cut off loses its lease. Before anybody else can claim, its own deadline has passed.
func TestLostLease(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		c := &cable{}
		cut, r := s.registry(t, Options{Client: s.client(t, c)}), s.registry(t, Options{})
		db := fillMesh(t, r)
		until(t, cut, "the mesh", hasOrg("acme"))
		old, next := newSession(t, cut, "mad-1"), newSession(t, r, "mad-2")
		term := claim(t, old, db, netconf.Primary{})
		for range 2 { // kept alive: the deadline moves
			before := old.Deadline()
			<-old.Renewed()
			if !old.Deadline().After(before) {
				t.Error("a renewal didn't move the deadline")
			}
		}
		c.set(true)
		start := time.Now()
		deadline := old.Deadline()
		if deadline.After(time.Now().Add(2 * time.Second)) {
			t.Errorf("the deadline is %s away, later than the lease lives", time.Until(deadline))
		}
		until(t, r, "the primary gone", func(t *netconf.Topology) bool { return !t.Live.Primaries[db.ID].Held })
		claim(t, next, db, netconf.Primary{Node: "mad-1", Term: term})
		if !time.Now().After(deadline) || old.Running() {
			t.Errorf("taken over %s before the deadline", time.Until(deadline))
		}
		t.Logf("taken over %s after the cut", time.Since(start))
		c.set(false)
		eventually(t, "a new lease", old.Running)
		if claims := old.Claims(); len(claims) != 0 {
			t.Errorf("claims of a lost lease: %v", claims)
		}
		until(t, r, "both nodes", func(t *netconf.Topology) bool { return len(t.Live.Nodes) == 2 })
		if _, err := old.Claim(t.Context(), db.ID, netconf.Primary{Node: "mad-1", Term: term}); !errors.Is(err, ErrHeld) {
			t.Errorf("claimed what another has: %v", err)
		}
	})
}

// A short interruption costs no claim; nor does a release that doesn't get through stay undone.
func TestInterruptedSession(t *testing.T) {
	s := startEmbedded(t)
	c := &cable{}
	r := s.registry(t, Options{Client: s.client(t, c)})
	db := fillMesh(t, r)
	session := newSession(t, r, "mad-1")
	claim(t, session, db, netconf.Primary{})
	began := time.Now()
	s.stop()                                             // at once, though a client watches
	if took := time.Since(began); took > 5*time.Second { // it would wait for the watches otherwise, for 7
		t.Errorf("the member took %s to stop", took)
	}
	s.start()
	<-session.Renewed()
	if !session.Running() || session.Claims()[db.ID] != 1 {
		t.Errorf("after a restart of etcd: running %v, claims %v", session.Running(), session.Claims())
	}
	c.set(true)
	if err := session.Release(short(t), db.ID); !errors.Is(err, netconf.ErrUnavailable) {
		t.Errorf("released without control: %v", err)
	}
	if _, err := session.Claim(t.Context(), db.ID, netconf.Primary{}); !errors.Is(err, netconf.ErrUnavailable) {
		t.Errorf("claimed while its release is under way: %v", err)
	}
	c.set(false)
	until(t, r, "the release", func(t *netconf.Topology) bool {
		p := t.Live.Primaries[db.ID]
		return p.Term == 1 && !p.Held
	})
	eventually(t, "a claim", func() bool {
		term, err := session.Claim(t.Context(), db.ID, netconf.Primary{Node: "mad-1", Term: 1})
		return err == nil && term == 2
	})
}
