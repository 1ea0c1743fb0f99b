package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/proxy"
	"respmesh/store/aof"
	"respmesh/store/embedded"
	"respmesh/store/psync"
)

const (
	// backlogSize is how much of the replication stream a primary keeps for replicas that come back: at
	// 1 MB/s of writes, 16 s of a cut link heal without a full resync.
	backlogSize = 16 << 20
	// replicaPing is how often an idle primary writes to its replicas; it bounds how stale "last heard" is.
	replicaPing = time.Second
	// replicaTimeout drops a replica, or a primary, that has been silent for so long.
	replicaTimeout = 10 * time.Second
)

// store is one database's copy on this node: the engine, its replication log, and both sides of PSYNC. It is
// what the proxy calls a Store.
type store struct {
	engine      *embedded.Engine
	log         *psync.Log
	aof         *aof.Writer    // nil: nothing is kept on disk
	primary     *psync.Primary // serves replicas; a replica's log can feed others too
	replica     *psync.Replica // nil on the primary
	primaryAddr string         // on the mesh, for INFO
	synced      atomic.Bool    // a replica has had all of its primary's data once

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type storeOptions struct {
	seed        uint64                                      // the database's hash seed, the same on every node
	dial        func(ctx context.Context) (net.Conn, error) // to the primary's PSYNC; nil makes this the primary
	primaryAddr string                                      // of that node on the mesh
	data        string                                      // directory where a primary keeps its data; "" for none
	fsync       aof.Policy
	fs          aof.FS // nil: the operating system's
	version     string
	log         *slog.Logger
}

// openStore makes the copy and, on a replica, starts to follow the primary.
func openStore(ctx context.Context, o storeOptions) (*store, error) {
	s := &store{log: psync.NewLog(backlogSize), primaryAddr: o.primaryAddr}
	durable := o.dial == nil && o.data != ""
	engine := embedded.Options{
		HashSeed:    o.seed,
		Replica:     o.dial != nil || durable, // while it loads, a primary expires nothing on its own account
		Forwards:    true,
		Sink:        s.log,
		Log:         o.log,
		Version:     o.version,
		Replication: s.replication,
		Await:       s.await,
	}
	if durable {
		if err := s.openLog(o); err != nil {
			return nil, err
		}
		engine.Sink, engine.LogFailure, engine.Persistence = bothLogs{s.aof, s.log}, s.aof.Err, s.persistence
	}
	s.engine = embedded.New(engine)
	if durable {
		if err := s.load(o); err != nil {
			return nil, errors.Join(err, s.aof.Close(), s.engine.Close())
		}
	}
	s.primary = psync.NewPrimary(psync.PrimaryOptions{
		Log: s.log, Source: s.engine, PingEvery: replicaPing, Timeout: replicaTimeout, Logger: o.log,
	})
	ctx, s.cancel = context.WithCancel(ctx)
	if o.dial != nil {
		s.replica = psync.NewReplica(psync.ReplicaOptions{
			Log: s.log, Target: s.engine, Dial: o.dial, Pipeline: true, Timeout: replicaTimeout, Logger: o.log,
		})
		s.wg.Go(func() { s.awaitFirstSync(ctx) })
		s.wg.Go(func() {
			if err := s.replica.Run(ctx); err != nil && ctx.Err() == nil {
				o.log.Error("replica stopped; it is out of routing until the node restarts", "err", err)
			}
		})
	}
	return s, nil
}

// close stops following, brings to the disk what is to be kept, and frees the engine.
func (s *store) close() error {
	s.cancel()
	s.wg.Wait()
	err := s.engine.Close()
	if s.aof != nil {
		err = errors.Join(err, s.aof.Close())
	}
	return err
}

// await is WAIT: it counts the replicas that have all that has been written so far.
func (s *store) await(ctx context.Context, n int) int {
	_, offset := s.log.Position()
	return s.primary.Await(ctx, offset, n)
}

// NewConn implements proxy.Store.
func (s *store) NewConn(push func([]byte)) proxy.StoreConn {
	conn := s.engine.NewConn(embedded.ConnOptions{Push: push})
	if s.aof == nil {
		return conn
	}
	return &loggedConn{conn: conn, aof: s.aof, always: s.aof.Info().Policy == aof.Always}
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
	if s.replica == nil {
		return proxy.StoreState{Primary: true, Usable: true}
	}
	r := s.replica.State()
	var state proxy.StoreState
	if s.synced.Load() { // before that there is nothing to read, however stale
		state.LastHeard = r.LastHeard
	}
	switch {
	case r.Phase == psync.Broken:
		state.Reason = fmt.Sprintf("replica is broken: %v", r.Err)
	case r.Phase == psync.Syncing:
		state.Reason = "replica is copying the data"
	case !s.synced.Load():
		state.Reason = "replica has no data yet"
	default:
		state.Usable = true
	}
	return state
}

// awaitFirstSync notes when the replica has had all data for the first time.
func (s *store) awaitFirstSync(ctx context.Context) {
	for {
		changed := s.replica.Changed()
		if s.online() {
			s.synced.Store(true)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// online tells whether a replica is in its primary's stream.
func (s *store) online() bool { return s.replica.State().Phase == psync.Online }

// replication is what the engine's INFO and ROLE say.
func (s *store) replication() embedded.Replication {
	var r embedded.Replication
	r.Replid, r.Offset = s.log.Position()
	for _, info := range s.primary.Replicas() {
		r.Replicas = append(r.Replicas, embedded.ReplicaLink{
			Addr: info.Addr, State: info.State.String(), Offset: info.Acked, Lag: time.Since(info.LastAck),
		})
	}
	if s.replica != nil {
		state := s.replica.State()
		r.LinkUp, r.Syncing, r.LastHeard = state.Phase == psync.Online, state.Phase == psync.Syncing, state.LastHeard
		r.PrimaryHost, r.PrimaryPort = s.primaryAddr, linkPort
	}
	return r
}
