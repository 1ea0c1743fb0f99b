package netconf

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Topology is an immutable snapshot of a valid State. Its slices are sorted by name and shared by all readers:
// nobody changes them.
type Topology struct {
	Revision uint64
	State
	Live Live

	orgs      map[string]int       // by name
	prefixes  map[netip.Prefix]int // orgs by /48
	nodes     map[string]int       // by name
	databases map[[2]string]int    // by org and name
	ids       map[string]int       // databases by ID
	services  map[netip.Addr]int   // databases by service address
	peers     map[[2]string]int    // by org and name
	keys      map[string]int       // peers by key
	addrs     map[netip.Addr]int   // peers by address
	infra     map[netip.Addr]int   // nodes by address
}

// NewTopology validates a state and indexes it. The state is copied.
func NewTopology(revision uint64, s State) (*Topology, error) {
	s = s.clone()
	normalise(&s)
	if err := validate(&s); err != nil {
		return nil, err
	}
	t := &Topology{
		Revision:  revision,
		State:     s,
		orgs:      make(map[string]int, len(s.Orgs)),
		prefixes:  make(map[netip.Prefix]int, len(s.Orgs)),
		nodes:     make(map[string]int, len(s.Nodes)),
		databases: make(map[[2]string]int, len(s.Databases)),
		ids:       make(map[string]int, len(s.Databases)),
		services:  make(map[netip.Addr]int, len(s.Databases)),
		peers:     make(map[[2]string]int, len(s.Peers)),
		keys:      make(map[string]int, len(s.Peers)),
		addrs:     make(map[netip.Addr]int, len(s.Peers)),
		infra:     make(map[netip.Addr]int, len(s.Nodes)),
	}
	for i, o := range s.Orgs {
		t.orgs[o.Name], t.prefixes[o.Prefix] = i, i
	}
	for i, n := range s.Nodes {
		t.nodes[n.Name], t.infra[n.Addr] = i, i
	}
	for i, d := range s.Databases {
		t.databases[[2]string{d.Org, d.Name}], t.ids[d.ID], t.services[d.Address] = i, i, i
	}
	for i, p := range s.Peers {
		t.peers[[2]string{p.Org, p.Name}], t.keys[p.Key], t.addrs[p.Addr] = i, i, i
	}
	return t, nil
}

// WithLive is the same topology with what is known of the running mesh. The maps are shared: nobody changes them.
func (t *Topology) WithLive(live Live) *Topology {
	c := *t
	c.Live = live
	return &c
}

// Primary is the node that takes a database's writes: the one whose lease runs; where no node of the primary region
// ever held one, its first node.
func (t *Topology) Primary(d Database) (Node, bool) {
	if p, ok := t.Live.Primaries[d.ID]; ok {
		if n, ok := t.Node(p.Node); ok && n.Region == d.Primary {
			return n, true
		}
	}
	if in := t.NodesIn(d.Primary); len(in) > 0 {
		return in[0], true
	}
	return Node{}, false
}

// WasDestroyed tells whether a database was destroyed.
func (t *Topology) WasDestroyed(id string) bool {
	_, found := slices.BinarySearchFunc(t.Destroyed, id, func(d Destroyed, id string) int { return strings.Compare(d.ID, id) })
	return found
}

// UsersOf lists the users of a database by name.
func (t *Topology) UsersOf(org, database string) []User {
	var of []User
	for _, u := range t.Users {
		if u.Org == org && u.Database == database {
			of = append(of, u)
		}
	}
	return of
}

// Token finds a token by its ID.
func (t *Topology) Token(id string) (Token, bool) {
	for _, k := range t.Tokens {
		if k.ID == id {
			return k, true
		}
	}
	return Token{}, false
}

// normalise sorts what has no order of its own, so that equal states are equal.
func normalise(s *State) {
	slices.SortFunc(s.Orgs, func(a, b Org) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Databases, func(a, b Database) int {
		return cmp.Or(strings.Compare(a.Org, b.Org), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Peers, func(a, b Peer) int {
		return cmp.Or(strings.Compare(a.Org, b.Org), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Users, func(a, b User) int {
		return cmp.Or(strings.Compare(a.Org, b.Org), strings.Compare(a.Database, b.Database), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Tokens, func(a, b Token) int { return strings.Compare(a.ID, b.ID) })
	for i := range s.Databases {
		db := &s.Databases[i]
		slices.Sort(db.Replicas)
		noneIsNil(&db.Replicas)
		db.Created = plainTime(db.Created)
	}
	noneIsNil(&s.Orgs)
	noneIsNil(&s.Nodes)
	noneIsNil(&s.Databases)
	noneIsNil(&s.Peers)
	noneIsNil(&s.Users)
	noneIsNil(&s.Tokens)
	slices.SortFunc(s.Destroyed, func(a, b Destroyed) int { return strings.Compare(a.ID, b.ID) })
	noneIsNil(&s.Destroyed)
	for i := range s.Destroyed {
		s.Destroyed[i].At = plainTime(s.Destroyed[i].At)
	}
	for i := range s.Tokens {
		k := &s.Tokens[i]
		k.Created, k.Expires = plainTime(k.Created), plainTime(k.Expires)
	}
}

func noneIsNil[T any](s *[]T) {
	if len(*s) == 0 {
		*s = nil
	}
}

// plainTime is a time as JSON gives it back: without a clock reading, in UTC.
func plainTime(t time.Time) time.Time { return t.Round(0).UTC() }

func at[K comparable, V any](index map[K]int, key K, values []V) (V, bool) {
	i, ok := index[key]
	if !ok {
		var none V
		return none, false
	}
	return values[i], true
}

// Org finds an org by its name.
func (t *Topology) Org(name string) (Org, bool) { return at(t.orgs, name, t.Orgs) }

// OrgOf finds the org whose prefix an address lies in.
func (t *Topology) OrgOf(addr netip.Addr) (Org, bool) {
	return at(t.prefixes, orgPrefix(addr), t.Orgs)
}

// Node finds a node by its name.
func (t *Topology) Node(name string) (Node, bool) { return at(t.nodes, name, t.Nodes) }

// NodeAt finds a node by its infrastructure address.
func (t *Topology) NodeAt(addr netip.Addr) (Node, bool) { return at(t.infra, addr, t.Nodes) }

// NodesIn lists the nodes of a region by name.
func (t *Topology) NodesIn(region string) []Node {
	var in []Node
	for _, n := range t.Nodes {
		if n.Region == region {
			in = append(in, n)
		}
	}
	return in
}

// Database finds a database by its org and name.
func (t *Topology) Database(org, name string) (Database, bool) {
	return at(t.databases, [2]string{org, name}, t.Databases)
}

// DatabaseByID finds a database by its ID.
func (t *Topology) DatabaseByID(id string) (Database, bool) { return at(t.ids, id, t.Databases) }

// DatabaseAt finds a database by its service address.
func (t *Topology) DatabaseAt(addr netip.Addr) (Database, bool) {
	return at(t.services, addr, t.Databases)
}

// DatabasesOf lists the databases of an org by name.
func (t *Topology) DatabasesOf(org string) []Database {
	lo, _ := slices.BinarySearchFunc(t.Databases, org, func(d Database, o string) int { return strings.Compare(d.Org, o) })
	hi := lo
	for hi < len(t.Databases) && t.Databases[hi].Org == org {
		hi++
	}
	return t.Databases[lo:hi:hi]
}

// RegionalAddress is the address of a database in one region: what only the nodes there answer.
func (t *Topology) RegionalAddress(d Database, region string) (netip.Addr, bool) {
	org, ok := t.Org(d.Org)
	r, known := LookupRegion(region)
	if !ok || !known {
		return netip.Addr{}, false
	}
	return org.RegionalService(r.Index, number(d.Address)), true
}

// DatabaseAtRegional finds the database, and the region, whose regional address it is.
func (t *Topology) DatabaseAtRegional(addr netip.Addr) (d Database, region string, ok bool) {
	org, ok := t.OrgOf(addr)
	if !ok {
		return d, "", false
	}
	n := number(addr)
	if d, ok = t.DatabaseAt(org.Service(n)); !ok {
		return d, "", false
	}
	for _, code := range d.Regions() {
		if r, known := LookupRegion(code); known && org.RegionalService(r.Index, n) == addr {
			return d, code, true
		}
	}
	return Database{}, "", false
}

// Members lists the nodes in the regions that hold a copy of a database, those of the primary's region first.
func (t *Topology) Members(d Database) []Node {
	var members []Node
	for _, region := range d.Regions() {
		members = append(members, t.NodesIn(region)...)
	}
	return members
}

// Peer finds a peer by its org and name.
func (t *Topology) Peer(org, name string) (Peer, bool) {
	return at(t.peers, [2]string{org, name}, t.Peers)
}

// PeerAt finds a peer by its address.
func (t *Topology) PeerAt(addr netip.Addr) (Peer, bool) { return at(t.addrs, addr, t.Peers) }

// PeerByKey finds a peer by its public key.
func (t *Topology) PeerByKey(key string) (Peer, bool) { return at(t.keys, key, t.Peers) }

// PeersOf lists the peers of an org by name.
func (t *Topology) PeersOf(org string) []Peer {
	lo, _ := slices.BinarySearchFunc(t.Peers, org, func(p Peer, o string) int { return strings.Compare(p.Org, o) })
	hi := lo
	for hi < len(t.Peers) && t.Peers[hi].Org == org {
		hi++
	}
	return t.Peers[lo:hi:hi]
}

// PeersIn lists the peers that the nodes of a region accept: those attached there and those that roam, by org and name.
func (t *Topology) PeersIn(region string) []Peer {
	var in []Peer
	for _, p := range t.Peers {
		if p.Region == region || p.Roaming {
			in = append(in, p)
		}
	}
	return in
}
