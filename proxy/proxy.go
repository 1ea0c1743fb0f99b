// Package proxy is the RESP gateway of one database on one node.
//
// Clients speak RESP2, RESP3 or inline commands to a [Gateway] and see one Redis. The gateway serves reads from
// the nearest usable copy (its own store where there is one), forwards everything else to the primary over warm
// links that its sessions share, and keeps the replies in the order of the requests whatever route each took.
//
// # Promises
//
//   - Replies come in request order; a command never overtakes an earlier one of its own session.
//   - Writes are executed at most once: nothing is sent again after one of its bytes was handed to a socket. A write
//     that didn't leave this node is answered MASTERDOWN, one whose outcome isn't known UNKNOWNOUTCOME.
//   - Reads are tried once more on another node.
//   - Every client of a node sees every write that was acknowledged through the node (see ryw.go), and what the node's
//     clients have seen doesn't go back. READONLY asks for any copy, however stale; READWRITE for the primary; a
//     session that said neither is in between: near, but with these promises. When neither the local copy catches up
//     in time nor the primary can be reached, the read is served from the local copy: a region that was cut off
//     goes on reading.
//   - Memory is bounded: commands in flight per session and per link, and output that a client doesn't take.
//
// # Link protocol
//
// Gateways reach other nodes' stores through [LinkServer], over RESP on a connection of the mesh. The first command is one of
//
//	RESPMESH LINK <org>/<db> <proto> <dbindex> shared|pinned → +OK primary|replica <replid> <offset>
//	RESPMESH REPLICATE <org>/<db>                            → +OK, then the connection speaks PSYNC
//	RESPMESH STATUS <org>/<db>                               → *5: role, usable (0 or 1), replid, offset, ms since the primary was heard (-1: never)
//	RESPMESH STATUS <org>/<db> <node> <day> <n>              → *6: the same, commands that all nodes have charged on that day (node itself n); *5 if the day is another
//
// After LINK ordinary commands follow; they may be sent without waiting for its reply, since a refused LINK closes the
// connection before any of them is executed. A shared link carries commands of many sessions, none of which
// leaves state in the connection. A pinned link is a whole session: transactions, blocking commands, subscriptions.
// Before the replies of a batch the server writes an attribute frame with the store's position if that has changed:
//
//	|1 +offset :<n>   or   |2 +offset :<n> +replid +<replid>
//
// The link takes STATUS at any time. Behind a command that waits, a pinned link takes RESPMESH UNBLOCK TIMEOUT|ERROR, which
// has no reply of its own: it ends the wait. On a shared link a read whose reply is very long is answered by an error that begins with
// "RESPMESH the reply is too long" and ends with a name: RESPMESH FETCH <name> over a pinned one gives it, once, for ten seconds.
package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"respmesh/proxy/poll"
	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Store is the copy of the database on this node.
type Store interface {
	// NewConn opens a connection with Redis's session state of its own (database 0, RESP2). push receives
	// asynchronous frames (messages, invalidations); it doesn't block and may be called from any goroutine.
	NewConn(push func([]byte)) StoreConn
	// Position is what was applied (replica) or written (primary). It is cheap: asked for each read.
	Position() (replid string, offset int64)
	// Wait returns nil once offset of this history is applied, and an error when ctx ends or the history is another.
	Wait(ctx context.Context, replid string, offset int64) error
	// State is cheap: asked for each batch that comes over a link.
	State() StoreState
}

// StoreConn executes commands in order and appends one reply each. A blocking command blocks until it is ready, its
// time-out is over or ctx ends; then it takes nothing, and neither it nor what comes after it is answered.
type StoreConn interface {
	Do(ctx context.Context, dst []byte, reqs []command.Request) []byte
	Close() error
}

// Losable is what a StoreConn may be as well, if it depends on something that can be lost: f is called, from any
// goroutine, when what the session had there can't be brought back, such as its subscriptions. The client is told by the
// end of its connection.
type Losable interface {
	OnLost(f func())
}

// whenLost has f called when the connection has lost what can't be brought back.
func whenLost(sc StoreConn, f func()) {
	if l, ok := sc.(Losable); ok {
		l.OnLost(f)
	}
}

// StoreState says what a store may be asked.
type StoreState struct {
	Primary bool
	Term    int64 // of a primary; grows each time that the store becomes one
	// Usable: a replica that finished its first sync and isn't broken. Being cut off from the primary doesn't end it;
	// LastHeard together with Settings.MaxLag does.
	Usable    bool
	LastHeard time.Time // from the primary; zero: never
	Reason    string    // why it isn't usable
}

// Mesh reaches the other nodes.
type Mesh interface {
	// Dial connects to the node's [LinkServer].
	Dial(ctx context.Context, node string) (net.Conn, error)
	// RTT is the measured round-trip time; false when the node can't be reached at present.
	RTT(node string) (time.Duration, bool)
	// Changed is closed when the reachability of a node changes.
	Changed() <-chan struct{}
}

// Topology says who holds the database. It is immutable.
type Topology struct {
	Revision uint64
	Primary  string // node
	Members  []Member
	Settings Settings
}

// Member is a node of the topology.
type Member struct {
	Node    string
	Region  string
	Replica bool // holds a replica
}

func (t *Topology) member(node string) (Member, bool) {
	for _, m := range t.Members {
		if m.Node == node {
			return m, true
		}
	}
	return Member{}, false
}

// Source publishes the topology: the present one and a channel that is closed when it is replaced.
type Source interface {
	Current() (*Topology, <-chan struct{})
}

// Options configure a [Gateway].
type Options struct {
	Org, Database string
	Node, Region  string
	Store         Store // nil: no copy on this node; see SetStore
	Mesh          Mesh
	Source        Source
	Log           *slog.Logger
	Metrics       *Metrics // nil: not published

	Databases     int           // what SELECT accepts; default 16
	OutputLimit   int           // bytes a client may leave untaken before it is cut; default 256 MiB
	LinksPerNode  int           // shared links per (node, protocol, database index), for reads and for the rest each; default 2
	Limits        frame.Limits  // of commands; default frame.DefaultLimits
	Version       string        // in HELLO; default 7.0.15
	DialTimeout   time.Duration // default 1 s
	StallTimeout  time.Duration // a link whose oldest command has had no answer for so long is given up; default 15 s
	StatusEvery   time.Duration // how often remote replicas are asked for their state; default 250 ms
	WaitBoundMin  time.Duration // bounds of the wait for read-your-writes: 2×RTT to the primary within…
	WaitBoundMax  time.Duration // default 50 ms … 1 s
	LostTimeout   time.Duration // how long a command waits for a primary that was lost a moment ago; default 1 s
	SwitchTimeout time.Duration // how long a write that a node refused waits for another to lead; default 3 s
	LargeCommand  int           // bytes from which a command travels on a connection of its own; default 1 MiB
	WarmPinned    int           // idle connections kept ready for transactions and blocking commands; default 1
	MemoryLimit   int           // bytes that all clients together may leave untaken before they are slowed down; default 1 GiB
	SlowTimeout   time.Duration // a client that takes nothing for so long, while it is waited for, is cut; default 10 s
	KeepAlive     time.Duration // how long a client's connection may be silent before TCP probes it; default 1 min, negative: never
	SlowerThan    time.Duration // commands that take longer are in SLOWLOG; default 10 ms
	BigValue      int           // requests and replies from so many bytes on are told of in the log; default 1 MiB
	// Peer names who is at the other end of a connection, for CLIENT LIST, logs and metrics; "": nobody known. Not allowed: the
	// connection is closed. nil: nobody is known, all are allowed.
	Peer func(conn net.Conn) (name string, allowed bool)

	Turns         *Turns      // shares the processors among the databases of the node; nil: nobody does
	Loops         *poll.Loops // serve clients that come over the kernel's sockets; nil: each has a goroutine
	Tracer        Tracer      // nil: nobody is told
	Usage         Usage       // counts the charged commands; nil: nobody
	SessionWindow int         // forwarded commands in flight per session; default 4096
}

func (o *Options) setDefaults() error {
	if o.Database == "" || o.Node == "" {
		return errors.New("proxy: Options need Database and Node")
	}
	if o.Mesh == nil || o.Source == nil {
		return errors.New("proxy: Options need Mesh and Source")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Limits == (frame.Limits{}) {
		o.Limits = frame.DefaultLimits
	}
	def(&o.Databases, 16)
	def(&o.OutputLimit, 256<<20)
	def(&o.LinksPerNode, 2)
	def(&o.Version, "7.0.15")
	def(&o.DialTimeout, time.Second)
	def(&o.StallTimeout, 15*time.Second)
	def(&o.StatusEvery, 250*time.Millisecond)
	def(&o.WaitBoundMin, 50*time.Millisecond)
	def(&o.WaitBoundMax, time.Second)
	def(&o.LargeCommand, 1<<20)
	def(&o.LostTimeout, time.Second)
	def(&o.SwitchTimeout, 3*time.Second)
	def(&o.WarmPinned, 1)
	def(&o.SessionWindow, 4096)
	def(&o.MemoryLimit, 1<<30)
	def(&o.SlowerThan, 10*time.Millisecond)
	def(&o.BigValue, 1<<20)
	def(&o.SlowTimeout, 10*time.Second)
	def(&o.KeepAlive, time.Minute)
	return nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// LinkOptions configure a [LinkServer].
type LinkOptions struct {
	// Lookup finds the store of a database on this node.
	Lookup func(org, db string) (Store, bool)
	// Replicate serves a replica on a connection from here on; r holds what was read beyond the first command.
	Replicate func(ctx context.Context, org, db string, conn net.Conn, r *frame.Reader) error
	Turns     *Turns // those of the node's gateways
	// Charged is told what another node has charged to a database on a day, and returns what all nodes have; negative: the
	// day is another here. Nil: nothing is counted.
	Charged func(org, db, node, day string, n int64) (all int64)
	Log     *slog.Logger
}

// GatewayStatus is a snapshot for the console.
type GatewayStatus struct {
	Node, Region     string
	Revision         uint64 // of the topology
	Primary          string // node
	PrimaryRegion    string
	PrimaryReachable bool
	PrimaryRTT       time.Duration
	ReadsFrom        string // node that serves plain reads now
	Reason           string // why
	Sessions         int
	Commands         uint64 // since the start
	Links            int
	Pinned           int
	HasStore         bool
	Store            StoreState
	Replid           string
	Offset           int64
	Pending          int // keys whose writes the local replica may not have applied yet
	Nodes            []NodeStatus
}

// NodeStatus is what a gateway knows of another node.
type NodeStatus struct {
	Node, Region string
	Primary      bool
	Replica      bool
	Reachable    bool
	RTT          time.Duration
	Usable       bool  // as last told over a link
	Offset       int64 // as last seen on a link
}

// ErrClosed is returned by Serve on a closed gateway.
var ErrClosed = errors.New("proxy: gateway closed")
