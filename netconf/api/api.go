// Package api is the control API: HTTP and JSON under /v1, its server, its client and the types that both share.
//
// The routes are one table (routes.go); openapi.json, which the server gives away, is made from that table and the types
// by this package's tests, which also hold real requests and answers against it. A body is one JSON object of at most
// 1 MiB; unknown fields and nulls are refused. Errors are {"error":{"code":"not_found","message":"…"}} with the HTTP
// status that fits; the message is for people and says what to do next.
//
// # Who may do what
//
// A Server makes handlers that differ in whom they trust (see Trust); the routes are the same. A token is written
// rm_<id>.<secret>, with 130 random bits of secret, of which only the SHA-256 is kept; it comes in the Authorization
// header, never in a URL. Scopes: admin may do everything, org everything in its org, read-only look, node only join.
// Failed attempts are limited by source.
//
// # Changes
//
// Every change is one transaction of the registry, with an audit record. If-Match: "<revision>" makes it conditional:
// 412 if what it is about has been changed since. An org, a database, a user and a peer have revisions of their own, so that
// people who change different ones don't get in each other's way; lists, nodes and tokens have the whole state's. Answers
// carry the revision as ETag.
//
// # Enrolment
//
// See enrol.go: a node joins with a token that is used up in the transaction that adds the node, and proves by X25519
// that it holds its WireGuard key.
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"respmesh/netconf"
)

// Control is where the state is kept.
type Control interface {
	Current() (*netconf.Topology, <-chan struct{})
	// Update runs a change as one transaction and gives the revision that it made.
	Update(ctx context.Context, actor string, change func(*netconf.Draft) error) (revision uint64, err error)
	// Audit gives at most limit records older than a revision (0: all), newest first.
	Audit(ctx context.Context, limit int, before uint64) ([]netconf.AuditRecord, error)
	Connected() bool
}

// Fleet is the running mesh. Its answers include the nodes that don't answer, with an error text. NewFleet makes one
// that asks the nodes' own APIs.
type Fleet interface {
	DatabaseStatus(ctx context.Context, org, db string) ([]NodeDatabaseStatus, error)
	Explain(ctx context.Context, org, db string, in ExplainRequest) (Explanation, error)
	Latency(ctx context.Context) (Latency, error)
	// RotateKey has a node make a new WireGuard key.
	RotateKey(ctx context.Context, node string) error
	Backup(ctx context.Context, w io.Writer) error
}

// Local is the node that the API runs on, as the other nodes ask it.
type Local interface {
	DatabaseStatus(ctx context.Context, org, db string) (NodeDatabaseStatus, error)
	Explain(ctx context.Context, org, db string, args []string) (Explanation, error)
	// Latency gives the round trips from this node's region.
	Latency(ctx context.Context) ([]LatencyRow, error)
	// RotateKey makes a new WireGuard key for this node.
	RotateKey(ctx context.Context) error
}

// Trust is what a handler takes a request without a token for.
type Trust int

// Trusts. A token always counts more.
const (
	// TrustToken wants a token for all but what is public.
	TrustToken Trust = iota
	// TrustLoopback takes requests from this machine for an admin's: `respmesh dev`. Requests that a browser sends for
	// another site, or under another host name (DNS rebinding), are refused.
	TrustLoopback
	// TrustMesh takes requests from a node's infrastructure address for that node's: WireGuard has checked the source.
	TrustMesh
)

// Options of a server. Control is needed.
type Options struct {
	Control  Control
	Fleet    Fleet    // nil: questions about the running mesh are unavailable
	Local    Local    // nil: so are the other nodes' questions about this one
	Enroller Enroller // nil: nodes can't join here
	// Connect opens a stream to a database's gateway on this node, as a client of its would; nil: there is none.
	Connect func(ctx context.Context, org, db string) (net.Conn, error)
	// ControlPlane says who carries the control plane; nil: this process does.
	ControlPlane func(ctx context.Context) (ControlPlane, error)
	// CheckRules says what is wrong with a user's ACL rules; nil: only their form is checked.
	CheckRules func(rules string) error
	Version    string // of respmesh
	Node       string // the node's name
	Log        *slog.Logger
}

// Bounds.
const (
	maxBody        = 1 << 20
	maxInFlight    = 256
	requestTimeout = 30 * time.Second
	contentJSON    = "application/json"
)

// Server holds what its handlers share: the limit of failed attempts, and the key that joining nodes prove theirs to.
type Server struct {
	opt      Options
	log      *slog.Logger
	mux      *http.ServeMux
	failures *failures
	joins    *challenges
	inFlight chan struct{}
	streams  chan struct{} // those of connect, which last

	ofDatabases streamCounts // of these
}

// NewServer makes a server. It starts nothing and needs no Close.
func NewServer(opt Options) (*Server, error) {
	if opt.Control == nil {
		return nil, errors.New("api: Options.Control is nil")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	joins, err := newChallenges()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt:      opt,
		log:      opt.Log,
		mux:      http.NewServeMux(),
		failures: newFailures(),
		joins:    joins,
		inFlight: make(chan struct{}, maxInFlight),
		streams:  make(chan struct{}, maxStreams),

		ofDatabases: streamCounts{of: make(map[string]int)},
	}
	for _, r := range routes() {
		s.mux.Handle(r.method+" "+r.path, s.endpoint(r))
	}
	return s, nil
}

// HTTPServer wraps a handler with bounds on slow and large requests. The caller serves and shuts it down.
func HTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // strangers' TLS mistakes
	}
}
