package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/proxy"
	"respmesh/store/aof"
	"respmesh/store/embedded"
	"respmesh/store/psync"
)

const (
	// backlogSize is how much of the replication stream a copy keeps for replicas that come back: at 1 MB/s of writes,
	// 16 s of a cut link heal without a full resync.
	backlogSize = 16 << 20
	// replicaPing is how often an idle primary writes to its replicas; it bounds how stale "last heard" is.
	replicaPing = time.Second
	// replicaTimeout drops a replica, or a primary, that has been silent for so long.
	replicaTimeout = 10 * time.Second
	// aloneAfter is how long a copy that was loaded from the disk waits for its primary before it is read as it is.
	aloneAfter = 5 * time.Second
)

// store is one database's copy on this node: the engine, its replication log, and both sides of PSYNC. It is what
// the proxy calls a Store. What it is to the other copies changes while it runs (see role.go).
type store struct {
	opts    storeOptions
	engine  *embedded.Engine
	log     *psync.Log
	aof     *aof.Writer    // nil: nothing is kept on disk
	keep    *keeper        // nil with aof
	saver   *saver         // nil with aof
	primary *psync.Primary // serves replicas; a replica's log can feed others too

	role        atomic.Pointer[role]
	fenced      atomic.Bool  // no client's write is accepted, whatever the role
	held        atomic.Bool  // as above, for as long as the data move to another engine: see hold.go
	holds       atomic.Int64 // how often
	gone        atomic.Bool  // they have moved
	sessions    sessions
	feeding     context.Context // of replicas in other nodes; ends when the data have moved
	cutReplicas context.CancelFunc
	wasFenced   chan struct{} // has one: the engine is still a primary's
	quorum      atomic.Pointer[quorum]
	short       chan struct{}            // a write waits for replicas
	away        map[netip.Addr]time.Time // since when candidates hold up writes; the election's
	synced      atomic.Bool              // it has had all of a primary's data once, or was the primary
	unbased     atomic.Bool              // the data were copied anew, and the disk refuses them
	opened      time.Time
	loaded      bool // data were found on disk

	ctx      context.Context // ends with close
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	changing sync.Mutex // held to change the role
}

type storeOptions struct {
	seed      uint64 // the database's hash seed, the same on every node
	maxMemory int64
	eviction  embedded.Policy
	data      string // directory where the data are kept; "" for none
	fsync     aof.Policy
	fs        aof.FS // nil: the operating system's
	version   string
	log       *slog.Logger
	overdue   *overdue      // whether it may still lead; nil: nobody minds
	short     chan struct{} // has room for one: told when a write waits for replicas; nil: nobody asks
}

// openStore makes the copy, with the data that are on disk. It waits to be told whether to lead or to follow.
func openStore(ctx context.Context, o storeOptions) (*store, error) {
	s := &store{opts: o, opened: time.Now(), log: psync.NewLog(backlogSize), short: o.short, away: make(map[netip.Addr]time.Time)}
	if s.short == nil {
		s.short = make(chan struct{}, 1)
	}
	s.role.Store(&role{})
	s.fenced.Store(true)
	s.wasFenced = make(chan struct{}, 1)
	s.quorum.Store(&quorum{})
	engine := embedded.Options{
		HashSeed: o.seed, MaxMemory: o.maxMemory, Eviction: o.eviction,
		Replica:  true,
		Forwards: true,
		Sink:     s.log,
		Log:      o.log,
		Version:  o.version, Replication: s.replication, Await: s.await, Refuse: s.refuse,
	}
	if o.data != "" {
		if err := s.openLog(); err != nil {
			return nil, err
		}
		s.saver = newSaver(s)
		engine.LogFailure, engine.Persistence, engine.Saver = s.aof.Err, s.persistence, s.saver
	}
	s.engine = embedded.New(engine)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.feeding, s.cutReplicas = context.WithCancel(s.ctx)
	if s.aof != nil {
		if err := s.load(); err != nil {
			s.cancel()
			return nil, errors.Join(err, s.aof.Close(), s.engine.Close())
		}
		s.wg.Go(s.writeBases)
	}
	s.wg.Go(s.demoteFenced)
	s.log.Fence()
	s.primary = psync.NewPrimary(psync.PrimaryOptions{
		Log: s.log, Source: s.engine, PingEvery: replicaPing, Timeout: replicaTimeout, Logger: o.log,
		Telling: s.include,
	})
	return s, nil
}

// close stops following, brings to the disk what is to be kept, and frees the engine.
func (s *store) close() error {
	s.changing.Lock()
	s.fence()
	s.role.Load().end()
	s.changing.Unlock()
	s.cancel()
	if s.saver != nil {
		s.saver.close()
	}
	s.wg.Wait()
	s.sessions.end()
	err := s.engine.Close()
	if s.aof != nil {
		err = errors.Join(err, s.aof.Close())
	}
	return err
}

// NewConn implements proxy.Store.
func (s *store) NewConn(push func([]byte)) proxy.StoreConn {
	return &storeConn{store: s, conn: s.engine.NewConn(embedded.ConnOptions{Push: push})}
}

// Position implements proxy.Store.
func (s *store) Position() (string, int64) { return s.log.Position() }

// Wait implements proxy.Store.
func (s *store) Wait(ctx context.Context, replid string, offset int64) error {
	return s.log.Wait(ctx, replid, offset)
}

// State implements proxy.Store. A replica is usable once it has all of its primary's data; cut off from the
// primary it stays so (a region that is alone goes on reading), but not while it copies the data anew, since the
// old data may be far behind then.
func (s *store) State() proxy.StoreState {
	r := s.role.Load()
	switch {
	case s.gone.Load():
		return proxy.StoreState{Reason: "the data have moved to another engine"}
	case r.leads && !s.fenced.Load():
		return proxy.StoreState{Primary: !s.held.Load(), Usable: true, Term: r.term + s.holds.Load(), LastHeard: time.Now()}
	}
	var state proxy.StoreState
	switch {
	case s.synced.Load(): // before that there is nothing to read, however stale
		state.LastHeard = r.heardBefore
	case s.loaded:
		state.LastHeard = time.Unix(1, 0) // nobody knows
	}
	if r.replica == nil {
		state.Usable, state.Reason = s.synced.Load(), "the copy waits to be told which node is the primary"
		return state
	}
	is := r.replica.State()
	if s.synced.Load() && is.LastHeard.After(state.LastHeard) {
		state.LastHeard = is.LastHeard
	}
	switch {
	case is.Phase == psync.Broken:
		state.Reason = fmt.Sprintf("replica is broken: %v", is.Err)
	case is.Phase == psync.Syncing:
		state.Reason = "replica is copying the data"
	case r.current != nil && is.FullSyncs != r.current.Load():
		state.Reason = "replica is taking what was written while it copied the data"
	case s.synced.Load():
		state.Usable = true
	case s.loaded && s.log.Synced() && time.Since(s.opened) > aloneAfter:
		state.Usable = true // cut off since its start: what it had before is better than nothing
	default:
		state.Reason = "replica hasn't caught up since its start"
	}
	return state
}

// online tells whether a replica is in its primary's stream.
func (s *store) online() bool {
	r, follows := s.following()
	return follows && r.Phase == psync.Online
}

// replication is what the engine's INFO and ROLE say.
func (s *store) replication() embedded.Replication {
	var r embedded.Replication
	r.Replid, r.Offset = s.log.Position()
	r.SyncFull, r.SyncPartialOK, r.SyncPartialErr = s.primary.Syncs()
	if former := s.log.Standing().Former; len(former) > 0 {
		r.Replid2, r.SecondOffset = former[0].Replid, former[0].UpTo+1
	}
	for _, info := range s.primary.Replicas() {
		r.Replicas = append(r.Replicas, embedded.ReplicaLink{
			Addr: info.Addr, State: info.State.String(), Offset: info.Acked, Lag: time.Since(info.LastAck),
		})
	}
	if is := s.role.Load(); is.replica != nil {
		state := is.replica.State()
		r.LinkUp, r.Syncing, r.LastHeard = state.Phase == psync.Online, state.Phase == psync.Syncing, state.LastHeard
		r.PrimaryHost, r.PrimaryPort = is.primaryAddr, linkPort
	}
	return r
}

// dialFunc connects to where the primary's node speaks PSYNC.
type dialFunc = func(ctx context.Context) (net.Conn, error)
