package netconf

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/quick"
)

// key makes a public key that is unique for a seed.
func key(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(h[:])
}

// sample is a registry with three nodes, two orgs, two databases and a peer.
func sample(t testing.TB) *Registry {
	t.Helper()
	r := NewRegistry()
	err := r.Update(func(d *Draft) error {
		for _, region := range []string{"mad", "ams", "nrt"} {
			if _, err := d.AddNode(Node{Name: region + "-1", Region: region, Key: key(region)}); err != nil {
				return err
			}
		}
		for _, org := range []string{"personal", "acme"} {
			if _, err := d.AddOrg(org); err != nil {
				return err
			}
			db := Database{Org: org, Name: "demo", Primary: "mad", Replicas: []string{"nrt", "ams"}}
			if _, err := d.AddDatabase(db); err != nil {
				return err
			}
		}
		_, err := d.AddPeer(Peer{Org: "personal", Name: "laptop", Region: "nrt", Key: key("laptop")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAddressPlan(t *testing.T) {
	o := Org{Prefix: netip.MustParsePrefix("fd12:3456:789a::/48")}
	for _, c := range []struct{ got, want any }{
		{o.Resolver().String(), "fd12:3456:789a::3"},
		{o.Service(1).String(), "fd12:3456:789a:0:1::1"},
		{o.Service(0x10002).String(), "fd12:3456:789a:0:1:0:1:2"},
		{o.RegionalService(23, 5).String(), "fd12:3456:789a:0:2:17:0:5"},
		{o.PeerAddr(23, 7).String(), "fd12:3456:789a:117::7"},
		{o.PeerPrefix(23).String(), "fd12:3456:789a:117::/64"},
		{nodeAddr(o.Prefix, 1, 2).String(), "fd12:3456:789a:101::2"},
		{orgPrefix(o.PeerAddr(96, 1)), o.Prefix},
		{orgPrefix(netip.MustParseAddr("fd12:3456:789b::1")) == o.Prefix, false},
		{orgPrefix(netip.MustParseAddr("192.0.2.1")) == o.Prefix, false},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

func TestAddressesNeverMeet(t *testing.T) {
	o := Org{Prefix: RandomPrefix()}
	if err := quick.Check(func(region uint8, n, m uint32) bool {
		all := []netip.Addr{o.Resolver(), o.Service(n), o.RegionalService(uint16(region), n), o.PeerAddr(uint16(region), m)}
		slices.SortFunc(all, netip.Addr.Compare)
		return len(slices.Compact(all)) == 4 && number(o.PeerAddr(uint16(region), m)) == m && o.PeerPrefix(uint16(region)).Contains(o.PeerAddr(uint16(region), m))
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestRandomPrefix(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for range 1000 {
		p := RandomPrefix()
		if p.Bits() != 48 || p.Masked() != p || !ulaPrefix.Contains(p.Addr()) || seen[p] {
			t.Fatal(p)
		}
		seen[p] = true
	}
}

func TestValidateName(t *testing.T) {
	for _, good := range []string{"a", "demo", "my-db-2", "a--b", strings.Repeat("x", 63)} {
		if err := ValidateName(good); err != nil {
			t.Error(err)
		}
	}
	for bad, reason := range map[string]string{
		"":                       "it is empty",
		"Demo":                   "lower-case letter",
		"1st":                    "lower-case letter",
		"-a":                     "lower-case letter",
		"_peer":                  "lower-case letter",
		"a-":                     "ends with a dash",
		"a_b":                    `'_' isn't allowed`,
		"a.b":                    `'.' isn't allowed`,
		"aé":                     `'é' isn't allowed`,
		"a\x00":                  `'\x00' isn't allowed`,
		"a\xff":                  `isn't allowed`,
		"a b":                    `' ' isn't allowed`,
		"deMo":                   `'M' isn't allowed`,
		strings.Repeat("x", 64):  "64 characters",
		strings.Repeat("x", 1e6): "1000000 characters",
	} {
		err := ValidateName(bad)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), reason) || len(err.Error()) > 300 {
			t.Errorf("%.20q: %.200v, want %s", bad, err, reason)
		}
	}
}

func TestLookups(t *testing.T) {
	top, _ := sample(t).Current()
	org, _ := top.Org("personal")
	db, ok := top.Database("personal", "demo")
	if !ok || db.Address != org.Service(1) || db.ID == "" || db.HashSeed == 0 {
		t.Fatalf("%+v", db)
	}
	if !slices.Equal(db.Regions(), []string{"mad", "ams", "nrt"}) || !db.Holds("nrt") || db.Holds("iad") {
		t.Errorf("regions %v", db.Regions())
	}
	if at, ok := top.DatabaseAt(db.Address); !ok || at.ID != db.ID {
		t.Error("not found by address")
	}
	if by, ok := top.DatabaseByID(db.ID); !ok || by.Org != "personal" {
		t.Error("not found by ID")
	}
	if other, _ := top.Database("acme", "demo"); other.ID == db.ID || other.Address == db.Address || other.HashSeed == db.HashSeed {
		t.Error("two databases share what is theirs")
	}
	if _, ok := top.Database("personal", "none"); ok {
		t.Error("found what isn't there")
	}
	if of := top.DatabasesOf("personal"); len(of) != 1 || of[0].ID != db.ID {
		t.Errorf("%v", of)
	}
	if of := top.DatabasesOf("nobody"); len(of) != 0 {
		t.Errorf("%v", of)
	}
	if o, ok := top.OrgOf(org.PeerAddr(23, 99)); !ok || o.Name != "personal" {
		t.Error("org not found by address")
	}
	if _, ok := top.OrgOf(top.Nodes[0].Addr); ok {
		t.Error("a node is in an org")
	}
	node, ok := top.Node("nrt-1")
	if at, found := top.NodeAt(node.Addr); !ok || !found || at != node {
		t.Error("node not found")
	}
	if in := top.NodesIn("nrt"); len(in) != 1 || in[0] != node {
		t.Errorf("%v", in)
	}
	members := top.Members(db)
	if len(members) != 3 || members[0].Region != "mad" {
		t.Errorf("%v", members)
	}
	peer, ok := top.Peer("personal", "laptop")
	if !ok || peer.Addr != org.PeerAddr(23, 1) {
		t.Errorf("%+v", peer)
	}
	if p, ok := top.PeerAt(peer.Addr); !ok || p != peer {
		t.Error("peer not found by address")
	}
	if p, ok := top.PeerByKey(peer.Key); !ok || p != peer {
		t.Error("peer not found by key")
	}
	if len(top.PeersOf("personal")) != 1 || len(top.PeersOf("acme")) != 0 || len(top.PeersIn("nrt")) != 1 || len(top.PeersIn("mad")) != 0 {
		t.Error("peers are listed wrongly")
	}
	roaming, err := top.Change(func(d *Draft) error {
		d.State.Peers[0].Roaming = true
		return nil
	})
	if err != nil || len(roaming.PeersIn("nrt")) != 1 || len(roaming.PeersIn("mad")) != 1 {
		t.Errorf("a roaming peer is accepted in nrt %v, mad %v (%v)", roaming.PeersIn("nrt"), roaming.PeersIn("mad"), err)
	}
	if what := Diff(top, roaming); len(what) != 1 || what[0] != "peer personal/laptop: roaming no → yes" {
		t.Errorf("%q", what)
	}
	if a, ok := top.RegionalAddress(db, "nrt"); !ok || a != org.RegionalService(23, 1) {
		t.Error(a)
	}
	if _, ok := top.RegionalAddress(db, "moon"); ok {
		t.Error("an address on the moon")
	}
}

func TestPasswordHashStaysOutOfLogs(t *testing.T) {
	db := Database{Org: "o", Name: "n", PasswordHash: "secret"}
	if s := db.LogValue().String(); strings.Contains(s, "secret") || !strings.Contains(s, "name=n") {
		t.Error(s)
	}
}

// The state survives its JSON form: that is how it is kept.
func TestStateJSON(t *testing.T) {
	top, _ := sample(t).Current()
	data, err := json.Marshal(top.State)
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	again, err := NewTopology(top.Revision, s)
	if err != nil || !reflect.DeepEqual(again, top) {
		t.Fatalf("%v\n%s", err, data)
	}
}

func TestTopologyIsACopy(t *testing.T) {
	top, _ := sample(t).Current()
	s := top.clone()
	next, err := NewTopology(9, s)
	if err != nil {
		t.Fatal(err)
	}
	s.Databases[0].Replicas[0] = "iad"
	s.Nodes[0].Name = "changed"
	if next.Databases[0].Replicas[0] != "ams" || next.Nodes[0].Name == "changed" {
		t.Error("a topology changed with the state it was made from")
	}
}

func passwordHash() string {
	h := sha256.Sum256([]byte("pw"))
	return hex.EncodeToString(h[:])
}

func TestUpdates(t *testing.T) {
	db := func(d *Draft) *Database { return must(d.Database("personal", "demo")) }
	for _, c := range []struct {
		name   string
		change func(*Draft) error
		kind   error  // nil: it succeeds
		text   string // in the error
	}{
		{"replicas replaced", func(d *Draft) error { return d.SetReplicas("personal", "demo", []string{"nrt"}) }, nil, ""},
		{"replicas cleared", func(d *Draft) error { return d.SetReplicas("personal", "demo", nil) }, nil, ""},
		{"limits", func(d *Draft) error {
			x := db(d)
			x.MaxMemory, x.Eviction, x.Plan, x.Near, x.MaxLag, x.Hedge, x.PasswordHash = 1<<27, true, "250mb", 1, 1, 1, passwordHash()
			return nil
		}, nil, ""},
		{"peer moves", func(d *Draft) error {
			d.Peers[0].Region = "ams"
			d.Peers[0].Addr = d.Orgs[1].PeerAddr(1, 1)
			return nil
		}, nil, ""},
		{"peer removed", func(d *Draft) error { return d.RemovePeer("personal", "laptop") }, nil, ""},
		{"node removed, its databases stay", func(d *Draft) error { return d.RemoveNode("nrt-1") }, nil, ""},
		{"database removed", func(d *Draft) error { return d.RemoveDatabase("personal", "demo") }, nil, ""},
		{"org emptied and removed", func(d *Draft) error {
			return errors.Join(d.RemoveDatabase("acme", "demo"), d.RemoveOrg("acme"))
		}, nil, ""},
		{"second node of a region", func(d *Draft) error {
			_, err := d.AddNode(Node{Name: "mad-2", Region: "mad", Key: key("mad-2")})
			return err
		}, nil, ""},

		{"primary region changes", func(d *Draft) error {
			x := db(d)
			x.Primary, x.Replicas = "ams", []string{"mad", "nrt"}
			return nil
		}, ErrConflict, "database personal/demo: conflict: the primary region can't change (it is mad)"},
		{"primary region changes under a new ID", func(d *Draft) error {
			x := db(d)
			x.Primary, x.Replicas, x.ID = "ams", nil, "new"
			return nil
		}, ErrConflict, "its address"},
		{"renamed", func(d *Draft) error { db(d).Name = "other"; return nil }, ErrConflict, "renamed"},
		{"address changes", func(d *Draft) error {
			d.Orgs[1].Services++
			db(d).Address = d.Orgs[1].Service(d.Orgs[1].Services)
			return nil
		}, ErrConflict, "service address"},
		{"seed changes", func(d *Draft) error { db(d).HashSeed++; return nil }, ErrConflict, "hash seed"},
		{"org's prefix changes", func(d *Draft) error {
			for i := range d.Orgs {
				if d.Orgs[i].Name == "acme" {
					d.Databases = slices.DeleteFunc(d.Databases, func(x Database) bool { return x.Org == "acme" })
					d.Orgs[i].Prefix = RandomPrefix()
				}
			}
			return nil
		}, ErrConflict, "its prefix can't change"},
		{"infrastructure's prefix changes", func(d *Draft) error { d.Infra = RandomPrefix(); d.Nodes = nil; return nil }, ErrConflict, "infrastructure"},
		{"numbers shrink", func(d *Draft) error {
			d.Databases = nil
			for i := range d.Orgs {
				d.Orgs[i].Services = 0
			}
			return nil
		}, ErrConflict, "only grow"},
		{"node numbers shrink", func(d *Draft) error { d.Nodes, d.NodeNumbers = nil, 0; return nil }, ErrConflict, "only grow"},

		{"unknown replica region", func(d *Draft) error { return d.SetReplicas("personal", "demo", []string{"amz"}) },
			ErrInvalid, `database personal/demo: unknown region "amz"; did you mean ams (Amsterdam)?`},
		{"unknown node region", func(d *Draft) error { _, err := d.AddNode(Node{Name: "x", Region: "londn", Key: key("x")}); return err },
			ErrInvalid, "lhr (London)"},
		{"region without a node", func(d *Draft) error { return d.SetReplicas("personal", "demo", []string{"iad"}) },
			ErrConflict, "region iad has no node; regions with one: ams, mad, nrt"},
		{"new peer in a region without a node", func(d *Draft) error {
			_, err := d.AddPeer(Peer{Org: "acme", Name: "p", Region: "iad", Key: key("p")})
			return err
		}, ErrConflict, "peer acme/p: conflict: region iad has no node"},
		{"primary's region as a replica", func(d *Draft) error { return d.SetReplicas("personal", "demo", []string{"mad"}) }, ErrInvalid, "it is the primary's"},
		{"replica twice", func(d *Draft) error { return d.SetReplicas("personal", "demo", []string{"ams", "nrt", "ams"}) }, ErrInvalid, "named twice"},

		{"org twice", func(d *Draft) error { _, err := d.AddOrg("acme"); return err }, ErrExists, "org acme already exists"},
		{"org's name", func(d *Draft) error { _, err := d.AddOrg("Acme!"); return err }, ErrInvalid, "org: invalid name"},
		{"org not empty", func(d *Draft) error { return d.RemoveOrg("acme") }, ErrConflict, "org acme: conflict: it still has database demo"},
		{"org with a peer", func(d *Draft) error {
			return errors.Join(d.RemoveDatabase("personal", "demo"), d.RemoveOrg("personal"))
		}, ErrConflict, "it still has peer laptop"},
		{"database twice", func(d *Draft) error {
			_, err := d.AddDatabase(Database{Org: "acme", Name: "demo", Primary: "mad"})
			return err
		},
			ErrExists, "database acme/demo already exists"},
		{"database of no org", func(d *Draft) error {
			_, err := d.AddDatabase(Database{Org: "none", Name: "x", Primary: "mad"})
			return err
		},
			ErrNotFound, `org "none" not found`},
		{"database left without its org", func(d *Draft) error {
			d.Orgs = slices.DeleteFunc(d.Orgs, func(o Org) bool { return o.Name == "acme" })
			return nil
		}, ErrNotFound, `database acme/demo: org "acme" not found`},
		{"database's name", func(d *Draft) error {
			_, err := d.AddDatabase(Database{Org: "acme", Name: "-", Primary: "mad"})
			return err
		}, ErrInvalid, "name"},
		{"database without a primary", func(d *Draft) error { _, err := d.AddDatabase(Database{Org: "acme", Name: "x"}); return err }, ErrInvalid, "unknown region"},
		{"ID twice", func(d *Draft) error { d.Databases[0].ID = d.Databases[1].ID; return nil }, ErrExists, "it is that of database acme/demo"},
		{"no ID", func(d *Draft) error { db(d).ID = ""; return nil }, ErrInvalid, "id"},
		{"address twice", func(d *Draft) error {
			_, err := d.AddDatabase(Database{Org: "personal", Name: "x", Primary: "mad", Address: db(d).Address})
			return err
		}, ErrExists, "it is that of database personal/demo"},
		{"address of another org", func(d *Draft) error { d.Databases[0].Address = d.Databases[1].Address; return nil }, ErrInvalid, "address plan"},
		{"address that wasn't given out", func(d *Draft) error {
			_, err := d.AddDatabase(Database{Org: "personal", Name: "x", Primary: "mad", Address: d.Orgs[1].Service(77)})
			return err
		}, ErrInvalid, "address plan"},
		{"no address", func(d *Draft) error { db(d).Address = netip.Addr{}; return nil }, ErrInvalid, "address"},
		{"negative memory", func(d *Draft) error { db(d).MaxMemory = -1; return nil }, ErrInvalid, "memory"},
		{"negative near", func(d *Draft) error { db(d).Near = -1; return nil }, ErrInvalid, "near"},
		{"negative hedge", func(d *Draft) error { db(d).Hedge = -1; return nil }, ErrInvalid, "hedge"},
		{"negative lag", func(d *Draft) error { db(d).MaxLag = -1; return nil }, ErrInvalid, "lag"},
		{"unknown plan", func(d *Draft) error { db(d).Plan = "gold"; return nil }, ErrInvalid, `plan "gold"`},
		{"plain password", func(d *Draft) error { db(d).PasswordHash = "hunter2"; return nil }, ErrInvalid, "password hash"},

		{"node twice", func(d *Draft) error {
			_, err := d.AddNode(Node{Name: "mad-1", Region: "mad", Key: key("x")})
			return err
		},
			ErrExists, "node mad-1 already exists"},
		{"key of another node", func(d *Draft) error { _, err := d.AddNode(Node{Name: "x", Region: "mad", Key: key("mad")}); return err },
			ErrExists, "node x: its key already exists: it is that of node mad-1"},
		{"key of a peer", func(d *Draft) error {
			_, err := d.AddNode(Node{Name: "x", Region: "mad", Key: key("laptop")})
			return err
		},
			ErrExists, "its key"},
		{"address of another node", func(d *Draft) error {
			_, err := d.AddNode(Node{Name: "x", Region: "mad", Key: key("x"), Addr: nodeAddr(d.Infra, 21, 1)})
			return err
		}, ErrExists, "that of node mad-1"},
		{"node outside its region", func(d *Draft) error { d.Nodes[0].Addr = d.Nodes[1].Addr; return nil }, ErrInvalid, "address plan"},
		{"allowed IP of another peer", func(d *Draft) error {
			_, err := d.AddPeer(Peer{Org: "personal", Name: "thief", Region: "nrt", Key: key("thief"), Addr: d.Peers[0].Addr})
			return err
		}, ErrExists, "that of peer personal/laptop"},
		{"peer with another org's address", func(d *Draft) error {
			d.Peers[0].Addr = d.Orgs[0].PeerAddr(23, 1)
			return nil
		}, ErrInvalid, "address plan"},
		{"peer with the resolver's address", func(d *Draft) error { d.Peers[0].Addr = d.Orgs[1].Resolver(); return nil }, ErrInvalid, "address plan"},
		{"peer twice", func(d *Draft) error {
			_, err := d.AddPeer(Peer{Org: "personal", Name: "laptop", Region: "mad", Key: key("y")})
			return err
		},
			ErrExists, "peer personal/laptop"},
		{"peer's org", func(d *Draft) error {
			_, err := d.AddPeer(Peer{Org: "none", Name: "p", Region: "mad", Key: key("y")})
			return err
		}, ErrNotFound, "org"},
		{"peer's region", func(d *Draft) error {
			_, err := d.AddPeer(Peer{Org: "acme", Name: "p", Region: "maad", Key: key("y")})
			return err
		}, ErrInvalid, "mad (Madrid)"},
		{"peer's name", func(d *Draft) error {
			_, err := d.AddPeer(Peer{Org: "acme", Name: "P", Region: "mad", Key: key("y")})
			return err
		}, ErrInvalid, "name"},
		{"short key", func(d *Draft) error { d.Nodes[0].Key = "AAAA"; return nil }, ErrInvalid, "base64"},
		{"key with junk", func(d *Draft) error { d.Nodes[0].Key = key("mad")[:43] + "!"; return nil }, ErrInvalid, "base64"},
		{"key with a line feed", func(d *Draft) error { d.Nodes[0].Key = key("z")[:20] + "\n" + key("z")[20:]; return nil }, ErrInvalid, "base64"},
		{"no key", func(d *Draft) error { d.Nodes[0].Key = ""; return nil }, ErrInvalid, "base64"},
		{"zero key", func(d *Draft) error { d.Nodes[0].Key = strings.Repeat("A", 43) + "="; return nil }, ErrInvalid, "zero"},
		{"overlapping prefixes", func(d *Draft) error {
			d.Orgs = append(d.Orgs, Org{Name: "x", Prefix: d.Infra})
			return nil
		}, ErrExists, "that of the infrastructure"},
		{"prefix that isn't private", func(d *Draft) error {
			d.Orgs = append(d.Orgs, Org{Name: "x", Prefix: netip.MustParsePrefix("2001:db8::/48")})
			return nil
		}, ErrInvalid, "want a /48 of fd00::/8"},
		{"prefix with host bits", func(d *Draft) error {
			d.Orgs = append(d.Orgs, Org{Name: "x", Prefix: netip.MustParsePrefix("fd00:1:2:3::/48")})
			return nil
		}, ErrInvalid, "want a /48"},
		{"prefix too wide", func(d *Draft) error {
			d.Orgs = append(d.Orgs, Org{Name: "x", Prefix: netip.MustParsePrefix("fd00::/8")})
			return nil
		}, ErrInvalid, "want a /48"},
		{"nothing to remove", func(d *Draft) error { return d.RemoveNode("none") }, ErrNotFound, "node none not found"},
		{"no such database", func(d *Draft) error { return d.SetReplicas("acme", "none", nil) }, ErrNotFound, "database acme/none not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sample(t)
			before, replaced := r.Current()
			saved := before.clone()
			err := r.Update(c.change)
			after, _ := r.Current()
			if !reflect.DeepEqual(before.State, saved) {
				t.Error("a published topology was changed")
			}
			if c.kind == nil {
				if err != nil || after.Revision != before.Revision+1 {
					t.Fatalf("%v, revision %d", err, after.Revision)
				}
				select {
				case <-replaced:
				default:
					t.Error("nobody was told")
				}
				return
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v with %q", err, c.kind, c.text)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("a secret in an error")
			}
			if after != before {
				t.Error("a refused change was published")
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A removed thing's address isn't given to the next one.
func TestNumbersAreNotReused(t *testing.T) {
	r := sample(t)
	before, _ := r.Current()
	old, _ := before.Database("personal", "demo")
	err := r.Update(func(d *Draft) error {
		if err := d.RemoveDatabase("personal", "demo"); err != nil {
			return err
		}
		_, err := d.AddDatabase(Database{Org: "personal", Name: "demo", Primary: "ams"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	after, _ := r.Current()
	db, _ := after.Database("personal", "demo")
	if db.Address == old.Address || db.ID == old.ID || db.HashSeed == old.HashSeed {
		t.Errorf("%+v was %+v", db, old)
	}
}

func TestUpdateOfNothing(t *testing.T) {
	r := sample(t)
	before, replaced := r.Current()
	if err := r.Update(func(d *Draft) error {
		return d.SetReplicas("personal", "demo", []string{"ams", "nrt"})
	}); err != nil {
		t.Fatal(err)
	}
	if after, _ := r.Current(); after != before {
		t.Error("an unchanged topology got a new revision")
	}
	select {
	case <-replaced:
		t.Error("woken for nothing")
	default:
	}
}

func TestUpdateThatPanics(t *testing.T) {
	r := sample(t)
	func() {
		defer func() { _ = recover() }()
		_ = r.Update(func(*Draft) error { panic("mistake") })
	}()
	if err := r.Update(func(d *Draft) error { _, err := d.AddOrg("after"); return err }); err != nil {
		t.Error(err)
	}
}

// Many writers and followers: every revision is consistent, none is lost, and revisions only grow.
func TestConcurrentUpdates(t *testing.T) {
	r := sample(t)
	const writers, each = 8, 20
	first, _ := r.Current()
	last := first.Revision + writers*each
	done := make(chan error, writers+4)
	for w := range writers {
		go func() {
			for i := range each {
				name := fmt.Sprintf("p%d-%d", w, i)
				if err := r.Update(func(d *Draft) error {
					_, err := d.AddPeer(Peer{Org: "personal", Name: name, Region: "ams", Key: key(name)})
					return err
				}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		go func() {
			seen := uint64(0)
			for {
				top, replaced := r.Current()
				if top.Revision <= seen {
					done <- fmt.Errorf("revision %d after %d", top.Revision, seen)
					return
				}
				seen = top.Revision
				if got, want := len(top.PeersOf("personal")), int(1+seen-first.Revision); got != want {
					done <- fmt.Errorf("revision %d has %d peers, want %d", seen, got, want)
					return
				}
				if seen == last {
					done <- nil
					return
				}
				<-replaced
			}
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestDestroyedIsRemembered: nodes that were away learn from it that a database's data may go.
func TestDestroyedIsRemembered(t *testing.T) {
	r := NewRegistry()
	var id string
	if err := r.Update(func(d *Draft) error {
		if _, err := d.AddOrg("shop"); err != nil {
			return err
		}
		if _, err := d.AddNode(Node{Name: "mad-1", Region: "mad", Key: key("mad-1")}); err != nil {
			return err
		}
		db, err := d.AddDatabase(Database{Org: "shop", Name: "cart", Primary: "mad"})
		id = db.ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.Update(func(d *Draft) error { return d.RemoveDatabase("shop", "cart") }); err != nil {
		t.Fatal(err)
	}
	topology, _ := r.Current()
	if !topology.WasDestroyed(id) || topology.WasDestroyed("another") {
		t.Errorf("destroyed: %+v", topology.Destroyed)
	}
}
