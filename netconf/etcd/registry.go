// Package etcd keeps the state of a mesh in etcd, and what is known of the running one, and follows both.
//
// # Keys
//
// Everything is below /respmesh/v1/, one JSON value per record (types of package netconf):
//
//	meta                    the revision, the infrastructure's prefix, the node numbers given out
//	orgs/<org>  nodes/<node>  databases/<org>/<db>  peers/<org>/<peer>  users/<org>/<db>/<user>  tokens/<id>
//	destroyed/<db id>       that a database was destroyed
//	audit/<revision>        who changed what; the last 10,000
//	live/nodes/<node>       what a node says of itself, under its session's lease
//	live/held/<db id>       who takes the writes of a database, under its session's lease
//	live/primaries/<db id>  who took them last: stays, its term only grows
//
// The 1 is the version of this layout. Where a later one is found, this program refuses to work: it would overwrite
// what it doesn't know.
//
// # Changes
//
// Update validates the whole state that a change would lead to and writes the records that differ in one transaction,
// which compares meta with what the change was made from: of two changes at once one is made again on top of the
// other. Every transaction carries a random mark, so that one whose answer got lost is recognised and not made twice.
//
// # Following
//
// A registry reads everything at one revision of etcd and watches from there. Where the watch can have missed
// something (it was compacted, it lags behind what a read says, or control was away) it reads everything again. It never gives
// up a good state for nothing: an etcd that is empty, or that holds another mesh, is refused.
//
// See https://etcd.io/docs/v3.6/learning/api/ and .../api_guarantees/ for what the protocol promises.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf"
)

// What can be wrong with control itself. Changes fail with the errors of package netconf otherwise.
var (
	ErrNewer     = errors.New("the control state was written by a newer respmesh; upgrade this one")
	ErrEmpty     = errors.New("the control state is empty; start the first node with --init")
	ErrOtherMesh = errors.New("control holds the state of another mesh")
	ErrHeld      = errors.New("another node is the primary")
)

// Options of a Registry.
type Options struct {
	Client *clientv3.Client // stays the caller's: close it after the registry
	// Snapshot is the file that the last good state is kept in, for a start without control; "": none.
	Snapshot string
	// Wait bounds how long Open waits for control; 0: 3 s.
	Wait time.Duration
	// TTL of sessions' leases, in whole seconds; 0: 2 s.
	TTL time.Duration
	Log *slog.Logger
}

// Registry follows the state of one mesh. Close it.
type Registry struct {
	client   *clientv3.Client
	log      *slog.Logger
	snapshot string
	ttl      time.Duration

	current   atomic.Pointer[published]
	connected atomic.Bool
	updating  chan struct{} // capacity 1: one Update at a time

	mu       sync.Mutex
	model    *model // what etcd was last seen to hold
	commits  int    // counts the changes that Update has made
	sessions map[*Session]struct{}
	closed   bool

	save   chan struct{} // capacity 1: the snapshot file is to be written
	cancel context.CancelFunc
	done   sync.WaitGroup
	ctx    context.Context // of the goroutines
}

// published is a topology with the channel that is closed when another one takes its place.
type published struct {
	topology *netconf.Topology
	replaced chan struct{}
}

// Open reads the state and follows it until Close. When control can't be reached it starts with the snapshot file, if
// there is one, and goes on trying. An etcd that holds nothing yet is no error: the topology is empty and has revision 0
// until somebody calls Init.
func Open(ctx context.Context, o Options) (*Registry, error) {
	if o.Wait == 0 {
		o.Wait = 3 * time.Second
	}
	if o.TTL == 0 {
		o.TTL = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		client:   o.Client,
		log:      o.Log,
		snapshot: o.Snapshot,
		ttl:      o.TTL,
		updating: make(chan struct{}, 1),
		model:    newModel(),
		sessions: map[*Session]struct{}{},
		save:     make(chan struct{}, 1),
	}
	r.current.Store(&published{&netconf.Topology{}, make(chan struct{})})
	saved := r.readSnapshot() // also with control there: it tells which mesh this is
	lctx, cancel := context.WithTimeout(ctx, o.Wait)
	rev, err := r.reload(lctx)
	cancel()
	switch {
	case err == nil:
		r.connected.Store(true)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !saved || errors.Is(err, ErrNewer) || errors.Is(err, ErrOtherMesh):
		return nil, err
	default:
		r.log.Warn("starting from the last good snapshot of the control state", "error", err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.done.Go(func() { r.follow(r.ctx, rev) })
	if r.snapshot != "" {
		r.done.Go(func() { r.saveSnapshots(r.ctx) })
	}
	return r, nil
}

// Current gives the current topology, with what is live, and a channel that is closed when another takes its place. It
// never blocks.
func (r *Registry) Current() (*netconf.Topology, <-chan struct{}) {
	p := r.current.Load()
	return p.topology, p.replaced
}

// Connected tells whether control answers. While it doesn't, Current is the last good state: it may be old.
func (r *Registry) Connected() bool { return r.connected.Load() }

// Close ends all sessions and stops following.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	open := make([]*Session, 0, len(r.sessions))
	for s := range r.sessions {
		open = append(open, s)
	}
	r.mu.Unlock()
	for _, s := range open {
		_ = s.Close() // its lease expires if it can't be revoked
	}
	r.cancel()
	r.done.Wait()
	return nil
}

// publishLocked makes a topology the current one.
func (r *Registry) publishLocked(t *netconf.Topology) {
	p := r.current.Load()
	r.current.Store(&published{t, make(chan struct{})})
	close(p.replaced)
	if r.snapshot != "" {
		select {
		case r.save <- struct{}{}:
		default: // one is on its way and will take this topology
		}
	}
}

// unavailable wraps an error of etcd's client.
func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", netconf.ErrUnavailable, doing, err)
}
