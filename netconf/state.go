// Package netconf says what the mesh should look like: orgs, nodes, databases and peers, and their addresses.
//
// A State is plain data, one record per thing. It is validated as a whole and becomes a Topology: an immutable
// snapshot with a revision and the lookups that nodes need. A Registry holds the current Topology; Update changes
// a copy, validates it globally and publishes it with the next revision. Readers take Current, which never blocks,
// and wait on the channel that it returns: nothing polls.
//
// The rules that reach across records are in validate.go, the address plan (RFC 4193) in addresses.go.
package netconf

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// The kinds of failure of a change. Every error of this package that is about a change wraps one of them.
var (
	ErrInvalid  = errors.New("invalid")        // a value that is never right
	ErrExists   = errors.New("already exists") // a name, key or address that something else has
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict") // a change that contradicts what there is
)

// Org is a tenant: it owns a prefix, databases and peers.
type Org struct {
	Name   string       `json:"name"`
	Prefix netip.Prefix `json:"prefix"` // a random RFC 4193 /48
	// Services and Peers count the numbers given out in the address plan. They only grow.
	Services uint32 `json:"services"`
	Peers    uint32 `json:"peers"`
	Modified uint64 `json:"modified,omitempty"` // see modified.go
}

// Node is one respmesh process in a region.
type Node struct {
	Name   string     `json:"name"`
	Region string     `json:"region"`
	Key    string     `json:"key"`  // WireGuard public key, base64
	Addr   netip.Addr `json:"addr"` // below the infrastructure's prefix
	// NextKey is the one that the node is about to have: the others take it from either.
	NextKey string `json:"next_key,omitempty"`
	// Endpoint is where the other nodes find its WireGuard by UDP, as host:port; empty: it isn't known, and the
	// node has to call the others.
	Endpoint string `json:"endpoint,omitempty"`
	Draining bool   `json:"draining,omitempty"` // takes no new sessions and holds no lease
	Modified uint64 `json:"modified,omitempty"` // see modified.go
}

// Database is what a user creates.
type Database struct {
	ID       string     `json:"id"`
	Org      string     `json:"org"`
	Name     string     `json:"name"`
	Primary  string     `json:"primary"`            // region; never changes
	Replicas []string   `json:"replicas,omitempty"` // regions, sorted, without the primary's
	Address  netip.Addr `json:"address"`            // the service address, the same in every region
	// HashSeed orders the keys of SCAN: the same on every node, so that a cursor means the same everywhere.
	HashSeed uint64 `json:"hash_seed"`
	// PasswordHash is the SHA-256 of the password in hexadecimal digits, as in Redis's ACLs; empty: no password.
	PasswordHash string        `json:"password_hash,omitempty"`
	Near         time.Duration `json:"near,omitempty"`       // a replica further than this isn't near; 0: the node's default
	MaxLag       time.Duration `json:"max_lag,omitempty"`    // a replica further behind isn't read; 0: no bound
	Hedge        time.Duration `json:"hedge,omitempty"`      // a remote read that takes longer beyond the round trip is sent to a second copy; 0: none is
	MaxMemory    int64         `json:"max_memory,omitempty"` // bytes; 0: no limit
	Eviction     bool          `json:"eviction,omitempty"`
	Plan         string        `json:"plan,omitempty"` // free, payg or a fixed size such as 250mb
	// MinReplicas is how many replicas must have a write before it is acknowledged.
	MinReplicas int    `json:"min_replicas,omitempty"`
	Limits      Limits `json:"limits,omitzero"`
	Engine      Engine `json:"engine,omitzero"` // where the data are
	// Pending is the engine that the data are to be moved to; zero: none. The node that leads moves them.
	Pending Engine `json:"pending_engine,omitzero"`
	// Lead is which node is to be the primary next, by an operator's word.
	Lead     Lead      `json:"lead,omitzero"`
	Created  time.Time `json:"created,omitzero"`
	Modified uint64    `json:"modified,omitempty"` // see modified.go
}

// Lead is an operator's word about who is to take writes next. It is about one term, and means nothing after that.
type Lead struct {
	Node string `json:"node"`
	Term int64  `json:"term"` // the last one before
	// Force has the node take over without having all that was acknowledged in that term.
	Force bool `json:"force,omitempty"`
}

// Limits bound what the clients of a database take of each node; zero is the node's default. What a plan bounds, the size of
// a request and the commands of a day, isn't here.
type Limits struct {
	MaxSessions       int           `json:"max_sessions,omitempty"`
	CommandsPerSecond int           `json:"commands_per_second,omitempty"` // what is more is delayed
	Concurrency       int           `json:"concurrency,omitempty"`         // sessions at work at the same time
	IdleTimeout       time.Duration `json:"idle_timeout,omitempty"`        // sessions that say nothing for longer are closed
	MaxValue          int64         `json:"max_value,omitempty"`           // bytes of one argument
}

// User is a user of a database beside the default one.
type User struct {
	Org      string `json:"org"`
	Database string `json:"database"`
	Name     string `json:"name"`
	// PasswordHash is the SHA-256 of the password in hexadecimal digits.
	PasswordHash string `json:"password_hash"`
	// Rules are Redis ACL rules without the password: "~cache:* +@read". See https://redis.io/docs/management/security/acl/.
	Rules    string `json:"rules"`
	Modified uint64 `json:"modified,omitempty"` // see modified.go
}

// Scope is what a token may do.
type Scope string

// Scopes.
const (
	ScopeAdmin    Scope = "admin"     // everything
	ScopeOrg      Scope = "org"       // everything in one org
	ScopeReadOnly Scope = "read-only" // look at everything, or at one org's things
	ScopeNode     Scope = "node"      // join as a node, once unless said otherwise
)

// Token lets its holder use the control API. Only the hash of its secret is kept.
type Token struct {
	ID       string    `json:"id"`
	Name     string    `json:"name,omitempty"` // what it is for
	Hash     string    `json:"hash"`           // SHA-256 of the secret, hexadecimal digits
	Scope    Scope     `json:"scope"`
	Org      string    `json:"org,omitempty"`    // of scope org, and of scope read-only if it is about one
	Region   string    `json:"region,omitempty"` // of scope node: where it may join; empty: anywhere
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`   // zero: never
	Reusable bool      `json:"reusable,omitempty"` // of scope node
	UsedBy   string    `json:"used_by,omitempty"`  // public key of the node that joined with it
}

// Regions lists the regions that hold a copy, the primary's first.
func (d *Database) Regions() []string {
	return append([]string{d.Primary}, d.Replicas...)
}

// Holds tells whether a region holds a copy.
func (d *Database) Holds(region string) bool {
	return region == d.Primary || slices.Contains(d.Replicas, region)
}

// LogValue keeps the password's hash out of logs.
func (d Database) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", d.ID), slog.String("org", d.Org), slog.String("name", d.Name))
}

// Peer is an app VM, sidecar or person that joined an org's network.
type Peer struct {
	Org    string     `json:"org"`
	Name   string     `json:"name"`
	Region string     `json:"region"` // where it is attached
	Key    string     `json:"key"`    // WireGuard public key, base64
	Addr   netip.Addr `json:"addr"`   // its only allowed IP, as a /128
	// Roaming peers, such as sidecars, are accepted by the nodes of all regions: they choose their node themselves.
	Roaming  bool   `json:"roaming,omitempty"`
	Modified uint64 `json:"modified,omitempty"` // see modified.go
}

// State is all that the control plane keeps.
type State struct {
	Infra netip.Prefix `json:"infra"` // the nodes' own /48
	// NodeNumbers counts the numbers given out to nodes. It only grows.
	NodeNumbers uint32     `json:"node_numbers"`
	Orgs        []Org      `json:"orgs"`
	Nodes       []Node     `json:"nodes"`
	Databases   []Database `json:"databases"`
	Peers       []Peer     `json:"peers"`
	Users       []User     `json:"users,omitempty"`
	Tokens      []Token    `json:"tokens,omitempty"`
	// Destroyed are the databases that were: nodes remove their data only on its word. That a database isn't in a state
	// says nothing: the state may come from an older backup.
	Destroyed []Destroyed `json:"destroyed,omitempty"`
}

// Destroyed is a database that was destroyed.
type Destroyed struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// Live is what is known of the running mesh: kept under leases, so that it goes away with who said it.
type Live struct {
	Nodes     map[string]NodeLive `json:"nodes,omitempty"`     // by name; a node that isn't in it is away
	Primaries map[string]Primary  `json:"primaries,omitempty"` // by the database's ID
}

// NodeLive is what a node says of itself.
type NodeLive struct {
	Since    time.Time `json:"since"` // its start
	Version  string    `json:"version"`
	Tunnel   string    `json:"tunnel"`   // "userspace" or "tun"
	Revision uint64    `json:"revision"` // the topology that it runs on
	// Narrow are the paths to other nodes on which packets of the mesh's MTU are lost, and smaller ones pass.
	Narrow []NarrowPath `json:"narrow,omitempty"`
}

// NarrowPath is a path to another node that large packets don't pass.
type NarrowPath struct {
	Node string `json:"node"`
	MTU  int    `json:"mtu,omitempty"` // of the largest packet that is known to pass, inside the tunnel; 0: not known yet
}

// Equal tells whether two say the same.
func (l NodeLive) Equal(o NodeLive) bool {
	return l.Since.Equal(o.Since) && l.Version == o.Version && l.Tunnel == o.Tunnel && l.Revision == o.Revision && slices.Equal(l.Narrow, o.Narrow)
}

// Primary says which node takes the writes of a database.
type Primary struct {
	Node string `json:"node"`
	// Term grows with each change of the primary: what was written under an older one doesn't count.
	Term int64 `json:"term"`
	Held bool  `json:"held"` // its lease runs; if not, it was the last one to hold it
}

// clone copies a state so deeply that nothing is shared.
func (s *State) clone() State {
	c := *s
	c.Orgs = slices.Clone(s.Orgs)
	c.Nodes = slices.Clone(s.Nodes)
	c.Peers = slices.Clone(s.Peers)
	c.Users = slices.Clone(s.Users)
	c.Tokens = slices.Clone(s.Tokens)
	c.Destroyed = slices.Clone(s.Destroyed)
	c.Databases = slices.Clone(s.Databases)
	for i := range c.Databases {
		c.Databases[i].Replicas = slices.Clone(c.Databases[i].Replicas)
	}
	return c
}
