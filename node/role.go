package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"respmesh/store/psync"
)

// role is what a store is to the other copies; replaced as a whole.
//
//	waiting ──follow──▶ following ◀──follow── leading
//	   └──────lead────────▶ │ ──────lead──────▶ ▲
//
// Leading, a store may be fenced at any time: it accepts no client's write from then on. Only lead ends that.
type role struct {
	leads       bool
	term        int64
	replica     *psync.Replica // nil unless it follows
	primaryAddr string         // on the mesh, of whom it follows
	heardBefore time.Time      // when it last heard a primary, or was it, in the role before
	stop        func()         // ends the following, and waits for it
	current     *atomic.Uint64 // of replica's full resynchronisations, the latest after which it had what came meanwhile; nil: it isn't known
}

// replica is the store's replica side; nil if it doesn't follow.
func (s *store) replica() *psync.Replica { return s.role.Load().replica }

// following is the state of that.
func (s *store) following() (psync.ReplicaState, bool) {
	if r := s.replica(); r != nil {
		return r.State(), true
	}
	return psync.ReplicaState{}, false
}

// kick has the replica side try again at once.
func (s *store) kick() {
	if r := s.replica(); r != nil {
		r.Kick()
	}
}

// leads tells whether the store takes writes.
func (s *store) leads() bool { return s.role.Load().leads && !s.fenced.Load() }

// standing is how far the copy is, for those who choose a primary. It survives a restart as far as the data do.
func (s *store) standing() standing {
	p := s.log.Standing()
	if !s.log.Synced() { // what it has is of no use
		p.Term = 0
	}
	return standing{Replid: p.Replid, Offset: p.Offset, Term: p.Term}
}

var errUnsound = errors.New("the data here are only part of a primary's")

// lead makes the store the primary. When it returns nil, writes are accepted and what is acknowledged is as safe as the
// append-only file's policy says. The caller makes sure that nobody else leads.
func (s *store) lead(ctx context.Context, term int64) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.gone.Load() {
		return errors.New("can't lead: the data have moved to another engine")
	}
	old := s.role.Load()
	if old.leads && !s.fenced.Load() {
		if old.term != term {
			s.log.SetTerm(term)
			s.tellCandidates()
			s.role.Store(&role{leads: true, term: term, stop: func() {}})
		}
		return nil
	}
	if old.replica != nil && old.replica.State().Phase == psync.Broken || !s.log.Synced() && !s.log.Fresh() {
		return fmt.Errorf("can't lead: %w", errUnsound)
	}
	old.end()
	if err := s.awaitBase(ctx); err != nil {
		s.role.Store(&role{heardBefore: s.heard(old), stop: func() {}})
		return fmt.Errorf("can't lead: %w", err)
	}
	replid := s.log.Promote(term)
	s.engine.SetReplica(false)
	if s.aof != nil {
		if err := s.aof.Commit(s.aof.Appended()); err != nil { // writes are refused until that works
			s.opts.log.Warn("the new primary's term isn't on disk yet", "err", err)
		}
	}
	s.synced.Store(true)
	s.role.Store(&role{leads: true, term: term, stop: func() {}})
	s.release() // a move that was under way has ended: see hold.go
	s.fenced.Store(false)
	_, offset := s.log.Position()
	s.opts.log.Info("this copy is the primary", "term", term, "replid", replid, "offset", offset)
	return nil
}

// fence ends the acceptance of clients' writes at once. What was executed before and isn't acknowledged yet is
// acknowledged only if a candidate for the primary has it.
func (s *store) fence() {
	s.fenced.Store(true)
	s.log.Fence()
	select {
	case s.wasFenced <- struct{}{}:
	default:
	}
}

// demoteFenced makes the engine of a fenced store a replica's: it deletes nothing of its own accord, and refuses those who
// wait to write.
func (s *store) demoteFenced() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wasFenced:
		}
		s.changing.Lock()
		if s.fenced.Load() {
			s.engine.SetReplica(true)
		}
		s.changing.Unlock()
	}
}

// follow makes the store a replica of a node. The data that only it has are counted, logged and given up. It doesn't wait for
// the primary. ask is how far that is; nil: it can't be asked.
func (s *store) follow(ctx context.Context, dial dialFunc, ask func(context.Context) (standing, error), primaryAddr string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	old := s.role.Load()
	if old.replica != nil && old.primaryAddr == primaryAddr && old.replica.State().Phase != psync.Broken {
		return nil
	}
	s.fence()
	s.engine.SetReplica(true)
	old.end()
	opts := psync.ReplicaOptions{
		Log: s.log, Target: s.engine, Dial: dial, Pipeline: true, Timeout: replicaTimeout, Logger: s.opts.log,
	}
	if s.aof != nil {
		opts.BeforeAck = s.kept
	}
	replica := psync.NewReplica(opts)
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan struct{})
	is := &role{replica: replica, primaryAddr: primaryAddr, heardBefore: s.heard(old), stop: func() {
		cancel()
		<-ended
	}}
	if ask != nil {
		is.current = new(atomic.Uint64)
	}
	s.role.Store(is)
	s.wg.Go(func() {
		defer close(ended)
		s.attend(ctx, is, ask)
	})
	return nil
}

// end stops following.
func (r *role) end() {
	if r.stop != nil {
		r.stop()
	}
}

// heard is when the store last heard a primary or was it.
func (s *store) heard(r *role) time.Time {
	switch {
	case r.leads:
		return time.Now()
	case r.replica != nil:
		if at := r.replica.State().LastHeard; at.After(r.heardBefore) {
			return at
		}
	}
	return r.heardBefore
}

// attend runs the replica until ctx ends, and notes when it has all of the primary's data.
func (s *store) attend(ctx context.Context, is *role, ask func(context.Context) (standing, error)) {
	run := make(chan struct{})
	s.wg.Go(func() {
		defer close(run)
		if err := is.replica.Run(ctx); err != nil && ctx.Err() == nil {
			s.opts.log.Error("replica stopped; it is out of routing until it can follow again", "err", err)
		}
	})
	for {
		changed := is.replica.Changed()
		if now := is.replica.State(); now.Phase == psync.Online {
			if is.current != nil && now.FullSyncs != is.current.Load() {
				s.catchUp(ctx, ask)
				is.current.Store(now.FullSyncs)
			}
			s.synced.Store(true)
		}
		select {
		case <-changed:
		case <-run:
			return
		}
	}
}

const (
	// almost is how little time the way to the primary's position may have taken for a copy to be current.
	almost = 200 * time.Millisecond
	// unanswered is how long a primary is asked for its position in vain before the copy is taken as it is.
	unanswered = 2 * time.Second
	// running is how often a copy runs after a primary that writes faster than it can follow.
	running = 20
)

// catchUp waits, after a full resynchronisation, until the copy has what its primary has: while the snapshot was on its way as much may have
// been written.
func (s *store) catchUp(ctx context.Context, ask func(context.Context) (standing, error)) {
	giveUp := time.Now().Add(unanswered)
	for range running {
		began := time.Now()
		asking, cancel := context.WithTimeout(ctx, unanswered)
		its, err := ask(asking)
		cancel()
		if err == nil && its.Replid != "" {
			if err = s.log.Wait(ctx, its.Replid, its.Offset); err == nil {
				if giveUp = time.Now().Add(unanswered); time.Since(began) < almost {
					return
				}
				continue
			}
		}
		if ctx.Err() != nil || time.Now().After(giveUp) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain):
		}
	}
}
