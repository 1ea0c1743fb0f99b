package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf"
)

func TestEmpty(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		r := s.registry(t, Options{})
		if top, _ := r.Current(); top.Revision != 0 || len(top.Orgs) != 0 {
			t.Errorf("an empty etcd gives revision %d", top.Revision)
		}
		if _, err := r.Update(t.Context(), "x", addOrg("acme")); !errors.Is(err, ErrEmpty) {
			t.Errorf("Update before Init: %v", err)
		}
		// Two nodes that both think they are the first.
		other := s.registry(t, Options{})
		for _, r := range []*Registry{r, other, r} {
			if err := r.Init(t.Context(), "init"); err != nil {
				t.Fatal(err)
			}
		}
		a, _ := r.Current()
		b := until(t, other, "the first state", func(t *netconf.Topology) bool { return t.Revision == 1 })
		if a.Revision != 1 || a.Infra != b.Infra {
			t.Errorf("revisions %d and %d, prefixes %s and %s", a.Revision, b.Revision, a.Infra, b.Infra)
		}
	})
}

// Every kind of record comes back as it was written, in another registry and after a start.
func TestRoundTrip(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		r := s.registry(t, Options{})
		other := s.registry(t, Options{})
		fillMesh(t, r)
		rev := update(t, r, func(d *netconf.Draft) error {
			if _, err := d.AddPeer(netconf.Peer{Org: "acme", Name: "laptop", Region: "ams", Key: key("laptop")}); err != nil {
				return err
			}
			if err := d.SetUser(netconf.User{Org: "acme", Database: "cart", Name: "reader", PasswordHash: hash("r"), Rules: "~* +@read"}); err != nil {
				return err
			}
			return d.AddToken(netconf.Token{ID: "abcd", Hash: hash("t"), Scope: netconf.ScopeOrg, Org: "acme", Created: time.Now(), Expires: time.Now().Add(time.Hour)})
		})
		here, _ := r.Current()
		if here.Revision != rev {
			t.Errorf("after an update to %d Current is at %d", rev, here.Revision)
		}
		there := until(t, other, "the update", func(t *netconf.Topology) bool { return t.Revision == rev })
		later, _ := s.registry(t, Options{}).Current()
		for name, top := range map[string]*netconf.Topology{"watched": there, "read": later} {
			if !reflect.DeepEqual(here.State, top.State) || top.Revision != rev {
				t.Errorf("%s:\n%+v\nwritten:\n%+v", name, top.State, here.State)
			}
		}
		// Nothing changed: no revision, nobody is woken.
		_, changed := other.Current()
		if again := update(t, r, func(*netconf.Draft) error { return nil }); again != rev {
			t.Errorf("a change of nothing made revision %d", again)
		}
		// What belongs to a database and an org goes with them.
		update(t, r, func(d *netconf.Draft) error {
			return errors.Join(d.RemoveDatabase("acme", "cart"), d.RemovePeer("acme", "laptop"), d.RemoveOrg("acme"))
		})
		<-changed
		end := until(t, other, "the end", func(t *netconf.Topology) bool { return t.Revision == rev+1 })
		if len(end.Users)+len(end.Tokens)+len(end.Databases)+len(end.Peers)+len(end.Orgs) != 0 {
			t.Errorf("left: %+v", end.State)
		}
	})
}

// Two registries change the same counter as fast as they can: nothing is lost, every revision is one change.
func TestRacingUpdates(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		a, b := s.registry(t, Options{}), s.registry(t, Options{})
		fillMesh(t, a)
		start, _ := a.Current()
		const each = 50
		var mu sync.Mutex
		seen := map[uint64]bool{}
		var wg sync.WaitGroup
		for i, r := range []*Registry{a, b, a, b} {
			wg.Go(func() {
				for n := range each {
					rev, err := r.Update(t.Context(), "racer", func(d *netconf.Draft) error {
						_, err := d.AddPeer(netconf.Peer{Org: "acme", Name: fmt.Sprintf("p%d-%d", i, n), Region: "mad", Key: key(fmt.Sprint(i, n))})
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if seen[rev] {
						t.Errorf("revision %d was made twice", rev)
					}
					seen[rev] = true
					mu.Unlock()
				}
			})
		}
		began := time.Now()
		wg.Wait()
		t.Logf("%d racing updates in %s", 4*each, time.Since(began))
		for _, r := range []*Registry{a, b} {
			top := until(t, r, "all changes", func(t *netconf.Topology) bool { return t.Revision == start.Revision+4*each })
			if len(top.Peers) != 4*each {
				t.Errorf("%d peers of %d", len(top.Peers), 4*each)
			}
		}
		// One record per revision, in pages.
		var revisions []uint64
		for before := uint64(0); ; before = revisions[len(revisions)-1] {
			page, err := a.Audit(t.Context(), 30, before)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range page {
				revisions = append(revisions, rec.Revision)
			}
			if len(page) < 30 {
				break
			}
		}
		want := make([]uint64, 0, start.Revision+4*each)
		for rev := start.Revision + 4*each; rev > 0; rev-- {
			want = append(want, rev)
		}
		if !slices.Equal(revisions, want) {
			t.Errorf("audit has %d records: %v", len(revisions), revisions)
		}
	})
}

func TestConflictOnRevision(t *testing.T) {
	s := startEmbedded(t)
	a, b := s.registry(t, Options{}), s.registry(t, Options{})
	fillMesh(t, a)
	seen, _ := a.Current()
	// "Only if it is still the revision that I saw" is for the function to say: it is called with the newest.
	update(t, b, addOrg("other"))
	_, err := a.Update(t.Context(), "late", func(d *netconf.Draft) error {
		if d.Revision != seen.Revision {
			return netconf.ErrConflict
		}
		return addOrg("late")(d)
	})
	if !errors.Is(err, netconf.ErrConflict) {
		t.Errorf("a change of an old revision: %v", err)
	}
	// What the validation refuses isn't written.
	before, _ := a.Current()
	if _, err := a.Update(t.Context(), "x", func(d *netconf.Draft) error { return d.SetReplicas("acme", "cart", []string{"amd"}) }); !errors.Is(err, netconf.ErrInvalid) ||
		!strings.Contains(err.Error(), "ams (Amsterdam)") {
		t.Errorf("an unknown region: %v", err)
	}
	if after, _ := a.Current(); after.Revision != before.Revision {
		t.Error("a refused change made a revision")
	}
}

// A node that hasn't seen yet what another has just changed doesn't refuse a change because of that.
func TestUpdateSeesOthers(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		a, b := s.registry(t, Options{}), s.registry(t, Options{})
		fillMesh(t, a)
		for i := range 30 {
			org := fmt.Sprintf("o%d", i)
			update(t, a, addOrg(org))
			update(t, b, func(d *netconf.Draft) error { return d.RemoveOrg(org) }) // at once
			if rev := update(t, b, func(*netconf.Draft) error { return nil }); rev != uint64(2+2*(i+1)) {
				t.Fatalf("a change of nothing says revision %d", rev)
			}
		}
	})
}

func TestAuditHasNoSecrets(t *testing.T) {
	s := startEmbedded(t)
	r := s.registry(t, Options{})
	fillMesh(t, r)
	update(t, r, func(d *netconf.Draft) error {
		db, err := d.Database("acme", "cart")
		if err != nil {
			return err
		}
		db.PasswordHash, db.Replicas, db.Plan = hash("new"), nil, "1gb"
		db.Engine = netconf.Engine{Kind: netconf.EngineRedis, URL: "redis://u:engine-secret@host:1"}
		return d.AddToken(netconf.Token{ID: "abcd", Hash: hash("t"), Scope: netconf.ScopeAdmin})
	})
	records, err := r.Audit(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"database acme/cart: replicas ams → none", "database acme/cart: plan none → 1gb", "database acme/cart: password changed",
		"database acme/cart: engine none → redis", "database acme/cart: engine URL changed", "token abcd: added, scope admin"}
	if len(records) != 1 || records[0].Actor != "test" || !slices.Equal(records[0].What, want) || time.Since(records[0].Time) > time.Minute {
		t.Errorf("%+v", records)
	}
}

func TestWatchLatency(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		a, b := s.registry(t, Options{}), s.registry(t, Options{})
		fillMesh(t, a)
		var all []time.Duration
		for i := range 20 {
			start := time.Now()
			name := fmt.Sprintf("o%d", i)
			update(t, a, addOrg(name))
			until(t, b, name, hasOrg(name))
			all = append(all, time.Since(start))
		}
		slices.Sort(all)
		t.Logf("update until seen by another registry: median %s, longest %s", all[10], all[19])
		if all[10] > time.Second { // the longest is the machine's, when it is busy
			t.Errorf("a change took %s to be seen", all[10])
		}
	})
}

// A registry that was cut off while the revisions it missed were compacted reads everything again.
func TestCompacted(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		c := &cable{}
		cut := s.registry(t, Options{Client: s.client(t, c)})
		r := s.registry(t, Options{})
		db := fillMesh(t, r)
		until(t, cut, "the mesh", hasOrg("acme"))
		c.set(true)
		update(t, r, addOrg("one"))
		update(t, r, func(d *netconf.Draft) error { return errors.Join(d.RemoveDatabase("acme", "cart"), addOrg("two")(d)) })
		client := s.client(t, nil)
		resp, err := client.Get(t.Context(), metaKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		if _, err := cut.Update(short(t), "cut", addOrg("three")); !errors.Is(err, netconf.ErrUnavailable) {
			t.Errorf("a change without control: %v", err)
		}
		if top, _ := cut.Current(); top.Revision != 2 {
			t.Errorf("cut off it is at %d", top.Revision)
		}
		eventually(t, "it notices", func() bool { return !cut.Connected() })
		c.set(false)
		top := until(t, cut, "both changes", hasOrg("two"))
		if _, ok := top.DatabaseByID(db.ID); ok {
			t.Error("a database that was removed meanwhile is still there")
		}
		eventually(t, "it is connected", cut.Connected)
	})
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// An etcd that is killed and comes back costs nobody anything, and a change that runs meanwhile is made once.
func TestServerRestarts(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		a, b := s.registry(t, Options{}), s.registry(t, Options{})
		fillMesh(t, a)
		until(t, b, "the mesh", hasOrg("acme"))
		for i := range 3 {
			s.stop()
			done := make(chan error, 1)
			name := fmt.Sprintf("o%d", i)
			go func() {
				_, err := a.Update(t.Context(), "patient", addOrg(name))
				done <- err
			}()
			if top, _ := b.Current(); top.Revision == 0 {
				t.Error("without control the topology is gone")
			}
			s.start()
			back := time.Now()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			until(t, b, name, hasOrg(name))
			t.Logf("changed and followed %s after the start", time.Since(back))
		}
		if top, _ := a.Current(); top.Revision != 2+3 {
			t.Errorf("3 changes led to revision %d", top.Revision)
		}
	})
}

// Control that is silent, with its connections open, is found to be away; what was claimed ends by the node's own clock.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	s := startDebian(t)
	r := s.registry(t, Options{})
	db := fillMesh(t, r)
	session := newSession(t, r, "mad-1")
	claim(t, session, db, netconf.Primary{})
	s.freeze(true)
	eventually(t, "the claim has ended", func() bool { return !session.Running() })
	eventually(t, "it notices", func() bool { return !r.Connected() })
	start := time.Now()
	if _, err := r.Update(short(t), "x", addOrg("x")); !errors.Is(err, netconf.ErrUnavailable) || time.Since(start) > patience {
		t.Errorf("a change after %s: %v", time.Since(start), err)
	}
	s.freeze(false)
	eventually(t, "it is connected", r.Connected)
	eventually(t, "the session is back", session.Running)
	update(t, r, addOrg("y"))
}

// The audit log has the last 10,000 changes.
func TestAuditIsBounded(t *testing.T) {
	s := startEmbedded(t)
	r := s.registry(t, Options{})
	if err := r.Init(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	top, _ := r.Current()
	client := s.client(t, nil)
	for k, v := range map[string]string{
		auditKey(2): `{"revision":2}`,
		metaKey:     fmt.Sprintf(`{"revision":%d,"infra":%q}`, keepAudit, top.Infra),
	} {
		if _, err := client.Put(t.Context(), k, v); err != nil {
			t.Fatal(err)
		}
	}
	until(t, r, "the revision", func(t *netconf.Topology) bool { return t.Revision == keepAudit })
	update(t, r, addOrg("a"))
	update(t, r, addOrg("b"))
	resp, err := client.Get(t.Context(), audit, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || resp.Count != 2 {
		t.Errorf("%d records: %v", resp.Count, err)
	}
	page, err := r.Audit(t.Context(), 5000, 0)
	if err != nil || len(page) != 2 || page[0].Revision != keepAudit+2 {
		t.Errorf("%v %v", page, err)
	}
}

// The connection breaks while a change is under way: it is made once, whether it was the question or the answer that
// got lost.
func TestLostAnswer(t *testing.T) {
	s := startEmbedded(t)
	r := s.registry(t, Options{})
	fillMesh(t, r)
	c := &cable{}
	flaky := s.registry(t, Options{Client: s.client(t, c)})
	until(t, flaky, "the mesh", hasOrg("acme"))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		wait := time.Duration(rng.IntN(1500)) * time.Microsecond
		var wg sync.WaitGroup
		wg.Go(func() {
			<-time.After(wait)
			c.set(true)
			c.set(false)
		})
		calls := 0
		rev, err := flaky.Update(t.Context(), "flaky", func(d *netconf.Draft) error {
			calls++
			return addOrg(fmt.Sprintf("o%dx%d", i, calls))(d)
		})
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		top := until(t, r, "the change", func(t *netconf.Topology) bool { return t.Revision >= rev })
		if top.Revision != uint64(3+i) || len(top.Orgs) != 2+i {
			t.Fatalf("%d changes led to revision %d and %d orgs", i+1, top.Revision, len(top.Orgs)-1)
		}
	}
}

func TestStartsFromSnapshot(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		file := filepath.Join(t.TempDir(), "topology.json")
		r := s.registry(t, Options{Snapshot: file})
		db := fillMesh(t, r)
		session := newSession(t, r, "mad-1")
		claim(t, session, db, netconf.Primary{})
		until(t, r, "a primary", func(t *netconf.Topology) bool { return t.Live.Primaries[db.ID].Held })
		before, _ := r.Current()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("snapshot: %v %v", info, err)
		}
		s.stop()
		start := time.Now()
		r = s.registry(t, Options{Snapshot: file, Wait: 200 * time.Millisecond})
		if d := time.Since(start); d > loadTimeout {
			t.Errorf("a start without control took %s", d)
		}
		top, _ := r.Current()
		if !reflect.DeepEqual(top.State, before.State) || top.Revision != before.Revision || r.Connected() {
			t.Errorf("snapshot:\n%+v\nwas:\n%+v", top.State, before.State)
		}
		if p := top.Live.Primaries[db.ID]; p.Node != "mad-1" || p.Held {
			t.Errorf("primary of the snapshot: %+v", p)
		}
		// A session begins when control is back.
		session = newSession(t, r, "mad-1")
		if session.Running() {
			t.Error("a lease without control")
		}
		s.start()
		until(t, r, "the node", func(t *netconf.Topology) bool { _, ok := t.Live.Nodes["mad-1"]; return ok })
		update(t, r, addOrg("back"))
		if !r.Connected() {
			t.Error("control is back, and it isn't connected")
		}
	})
}

func TestNoSnapshot(t *testing.T) {
	s := startEmbedded(t)
	s.stop()
	for name, content := range map[string]string{"missing": "", "broken": `{"format":1,"rev`, "other format": `{"format":2}`, "invalid": `{"format":1,"revision":3}`} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "topology.json")
			if content != "" {
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Open(t.Context(), Options{Client: s.client(t, nil), Snapshot: file, Wait: 50 * time.Millisecond}); !errors.Is(err, netconf.ErrUnavailable) {
				t.Errorf("opened without control: %v", err)
			}
		})
	}
}

// A node never takes an empty or a foreign state for its own: it would delete its data.
func TestKeepsGoodState(t *testing.T) {
	s := startEmbedded(t)
	file := filepath.Join(t.TempDir(), "topology.json")
	r := s.registry(t, Options{Snapshot: file})
	fillMesh(t, r)
	client := s.client(t, nil)
	del := func() {
		t.Helper()
		if _, err := client.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
	}
	good := func() {
		t.Helper()
		eventually(t, "it notices", func() bool { return !r.Connected() })
		if top, _ := r.Current(); top.Revision != 2 || len(top.Databases) != 1 {
			t.Fatalf("the good state is gone: %+v", top.State)
		}
	}
	saved := func() map[string]string {
		t.Helper()
		resp, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, kv := range resp.Kvs {
			all[string(kv.Key)] = string(kv.Value)
		}
		return all
	}
	all := saved()
	del()
	good()
	if revision, err := r.reload(t.Context()); revision != 0 || !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty state is read: revision %d, %v; it must not be followed", revision, err)
	}
	if _, err := r.Update(t.Context(), "x", addOrg("x")); !errors.Is(err, ErrEmpty) {
		t.Errorf("a change of an empty state: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// Another mesh, also seen at the start.
	other := s.registry(t, Options{})
	if err := other.Init(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Client: s.client(t, nil), Snapshot: file}); !errors.Is(err, ErrOtherMesh) {
		t.Errorf("opened another mesh: %v", err)
	}
	// The right state again, with a record that nobody can read.
	del()
	r = s.registry(t, Options{Snapshot: file})
	good()
	var puts []clientv3.Op // at once, as every change is: parts of a state can be one, too
	for k, v := range all {
		puts = append(puts, clientv3.OpPut(k, v))
	}
	if _, err := client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", r.Connected)
	if _, err := client.Put(t.Context(), orgs+"acme", "{"); err != nil {
		t.Fatal(err)
	}
	good()
	if _, err := r.Update(t.Context(), "x", addOrg("x")); err == nil {
		t.Error("a change of a state that can't be read")
	}
	if _, err := client.Put(t.Context(), orgs+"acme", all[orgs+"acme"]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", r.Connected)
	update(t, r, addOrg("x"))
}

func TestNewerLayout(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		r := s.registry(t, Options{})
		fillMesh(t, r)
		client := s.client(t, nil)
		for _, k := range []string{"/respmesh/v2/meta", "/respmesh/v10/meta"} {
			if _, err := client.Put(t.Context(), k, "{}"); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), Options{Client: client})
			if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("with %s: %v", k, err)
			}
			if _, err := client.Delete(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		// What is beside is nobody's business.
		if _, err := client.Put(t.Context(), "/respmesh2/x", "{}"); err != nil {
			t.Fatal(err)
		}
		s.registry(t, Options{Client: client})
	})
}

func TestCloseTwice(t *testing.T) {
	s := startEmbedded(t)
	r := s.registry(t, Options{})
	fillMesh(t, r)
	session := newSession(t, r, "mad-1")
	for range 2 {
		if err := errors.Join(r.Close(), session.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.NewSession(t.Context(), "mad-1", netconf.NodeLive{}); err == nil {
		t.Error("a session of a closed registry")
	}
}
