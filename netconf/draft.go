package netconf

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Draft is a private copy of the state, to be changed by the function given to Update. Its fields may be changed
// directly; the methods fill in what is allocated: prefixes, addresses, IDs, seeds. Validation comes at the end,
// over everything.
type Draft struct {
	State
	Revision uint64 // of the topology that the draft was copied from: compare it to change only what was seen
}

// Change runs a change on a copy of the topology's state and gives the topology that follows, validated as a whole and
// against this one; or this one, if nothing has changed. Registries publish what it gives.
func (t *Topology) Change(change func(*Draft) error) (*Topology, error) {
	draft := &Draft{State: t.clone(), Revision: t.Revision}
	if err := change(draft); err != nil {
		return nil, err
	}
	next, err := NewTopology(t.Revision+1, draft.State)
	if err != nil {
		return nil, err
	}
	if err := validateChange(t, next); err != nil {
		return nil, err
	}
	next.State.stamp(&t.State, next.Revision)
	if reflect.DeepEqual(t.State, next.State) {
		return t, nil
	}
	return next.WithLive(t.Live), nil
}

// AddOrg makes an org with a random prefix.
func (d *Draft) AddOrg(name string) (Org, error) {
	if err := ValidateName(name); err != nil {
		return Org{}, fmt.Errorf("org: %w", err)
	}
	o := Org{Name: name, Prefix: RandomPrefix()}
	d.Orgs = append(d.Orgs, o)
	return o, nil
}

// RemoveOrg removes an org, which has to be empty, and its tokens.
func (d *Draft) RemoveOrg(name string) error {
	for _, db := range d.Databases {
		if db.Org == name {
			return fmt.Errorf("org %s: %w: it still has database %s", name, ErrConflict, db.Name)
		}
	}
	for _, p := range d.Peers {
		if p.Org == name {
			return fmt.Errorf("org %s: %w: it still has peer %s", name, ErrConflict, p.Name)
		}
	}
	if _, err := d.org(name); err != nil {
		return err
	}
	d.Tokens = slices.DeleteFunc(d.Tokens, func(k Token) bool { return k.Org == name })
	return remove(&d.Orgs, "org "+name, func(o Org) bool { return o.Name == name })
}

// AddNode adds a node and gives it the next address of its region, unless it has one.
func (d *Draft) AddNode(n Node) (Node, error) {
	r, err := CheckRegion(n.Region)
	if err != nil {
		return Node{}, fmt.Errorf("node %s: %w", n.Name, err)
	}
	if !n.Addr.IsValid() {
		d.NodeNumbers++
		n.Addr = nodeAddr(d.Infra, r.Index, d.NodeNumbers)
	}
	d.Nodes = append(d.Nodes, n)
	return n, nil
}

// RemoveNode removes a node. Databases keep the region: another node may take its place.
func (d *Draft) RemoveNode(name string) error {
	return remove(&d.Nodes, "node "+name, func(n Node) bool { return n.Name == name })
}

// AddDatabase adds a database to an org that exists, and gives it an ID, a service address and a hash seed, as far
// as it has none.
func (d *Draft) AddDatabase(db Database) (Database, error) {
	org, err := d.org(db.Org)
	if err != nil {
		return Database{}, fmt.Errorf("database %s/%s: %w", db.Org, db.Name, err)
	}
	if db.ID == "" {
		db.ID = strings.ToLower(rand.Text()[:16]) // 80 bits
	}
	for db.HashSeed == 0 {
		var seed [8]byte
		_, _ = rand.Read(seed[:])
		db.HashSeed = binary.BigEndian.Uint64(seed[:])
	}
	if !db.Address.IsValid() {
		org.Services++
		db.Address = org.Service(org.Services)
	}
	db.Replicas = slices.Clone(db.Replicas)
	d.Databases = append(d.Databases, db)
	return db, nil
}

// Database gives the record of a database, to be changed in place.
func (d *Draft) Database(org, name string) (*Database, error) {
	for i := range d.Databases {
		if db := &d.Databases[i]; db.Org == org && db.Name == name {
			return db, nil
		}
	}
	if _, err := d.org(org); err != nil {
		return nil, err
	}
	var have []string
	for _, db := range d.Databases {
		if db.Org == org {
			have = append(have, db.Name)
		}
	}
	return nil, fmt.Errorf("database %s/%s %w%s", org, name, ErrNotFound, didYouMean(name, have))
}

// SetReplicas replaces the read regions of a database. None is allowed: all reads go to the primary then.
func (d *Draft) SetReplicas(org, name string, regions []string) error {
	db, err := d.Database(org, name)
	if err != nil {
		return err
	}
	db.Replicas = slices.Clone(regions)
	return nil
}

const (
	// keepDestroyed is how long a node may be away and still remove the data of what was destroyed meanwhile.
	keepDestroyed = 365 * 24 * time.Hour
	// maxDestroyed bounds how many are kept; the oldest go first.
	maxDestroyed = 5000
)

// RemoveDatabase removes a database and its users. Its address isn't given out again.
func (d *Draft) RemoveDatabase(org, name string) error {
	db, err := d.Database(org, name)
	if err != nil {
		return err
	}
	now := plainTime(time.Now().Truncate(time.Second))
	d.Destroyed = slices.DeleteFunc(d.Destroyed, func(x Destroyed) bool { return now.Sub(x.At) > keepDestroyed })
	slices.SortFunc(d.Destroyed, func(a, b Destroyed) int { return a.At.Compare(b.At) })
	if extra := len(d.Destroyed) - maxDestroyed + 1; extra > 0 {
		d.Destroyed = slices.Delete(d.Destroyed, 0, extra)
	}
	d.Destroyed = append(d.Destroyed, Destroyed{ID: db.ID, At: now})
	d.Users = slices.DeleteFunc(d.Users, func(u User) bool { return u.Org == org && u.Database == name })
	return remove(&d.Databases, "database "+org+"/"+name, func(db Database) bool { return db.Org == org && db.Name == name })
}

// AddPeer adds a peer to an org that exists and gives it the next address of its region, unless it has one.
func (d *Draft) AddPeer(p Peer) (Peer, error) {
	what := "peer " + p.Org + "/" + p.Name
	org, err := d.org(p.Org)
	if err != nil {
		return Peer{}, fmt.Errorf("%s: %w", what, err)
	}
	r, err := CheckRegion(p.Region)
	if err != nil {
		return Peer{}, fmt.Errorf("%s: %w", what, err)
	}
	if !p.Addr.IsValid() {
		org.Peers++
		p.Addr = org.PeerAddr(r.Index, org.Peers)
	}
	d.State.Peers = append(d.State.Peers, p)
	return p, nil
}

// RemovePeer removes a peer. Its address isn't given out again.
func (d *Draft) RemovePeer(org, name string) error {
	return remove(&d.Peers, "peer "+org+"/"+name, func(p Peer) bool { return p.Org == org && p.Name == name })
}

func (d *Draft) org(name string) (*Org, error) {
	for i := range d.Orgs {
		if d.Orgs[i].Name == name {
			return &d.Orgs[i], nil
		}
	}
	return nil, noOrg(name, d.Orgs)
}

// noOrg is the error of a name that no org has.
func noOrg(name string, orgs []Org) error {
	have := make([]string, len(orgs))
	for i, o := range orgs {
		have[i] = o.Name
	}
	return fmt.Errorf("org %q %w%s", name, ErrNotFound, didYouMean(name, have))
}

func remove[T any](list *[]T, what string, is func(T) bool) error {
	before := len(*list)
	*list = slices.DeleteFunc(*list, is)
	if len(*list) == before {
		return fmt.Errorf("%s %w", what, ErrNotFound)
	}
	return nil
}
