package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf"
)

// Session is a node's presence in the running mesh: a lease that is kept alive, what the node says of itself, and the
// databases that it has claimed to be the primary of. When the lease is lost, a new one takes its place; the claims
// are gone then and have to be made anew.
type Session struct {
	r    *Registry
	node string

	mu       sync.Mutex
	live     netconf.NodeLive
	lease    clientv3.LeaseID // 0: none now
	deadline time.Time
	claims   map[string]int64 // by database ID: the term
	// unreleased are databases whose Release hasn't got through.
	unreleased map[string]bool
	said       netconf.NodeLive // what control has
	saidBy     clientv3.LeaseID // and under which lease
	renewed    chan struct{}

	report chan struct{} // capacity 1: live has changed
	cancel context.CancelFunc
	ctx    context.Context
	done   chan struct{}
	close  sync.Once
}

// NewSession makes the node known as live. While control is away it tries on: then the session has no lease yet and
// its Deadline is over. ctx bounds the wait for the first attempt only.
func (r *Registry) NewSession(ctx context.Context, node string, live netconf.NodeLive) (*Session, error) {
	if err := netconf.ValidateName(node); err != nil {
		return nil, fmt.Errorf("session of node: %w", err)
	}
	s := &Session{
		r:          r,
		node:       node,
		live:       live,
		claims:     map[string]int64{},
		unreleased: map[string]bool{},
		renewed:    make(chan struct{}),
		report:     make(chan struct{}, 1),
		done:       make(chan struct{}),
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errors.New("session: the registry is closed")
	}
	r.sessions[s] = struct{}{}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	r.mu.Unlock()
	tried := make(chan struct{})
	go s.run(tried)
	select {
	case <-tried:
		return s, nil
	case <-ctx.Done():
		_ = s.Close()
		return nil, ctx.Err()
	}
}

// Report changes what the node says of itself.
func (s *Session) Report(live netconf.NodeLive) error {
	if s.ctx.Err() != nil {
		return errors.New("report: the session is closed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live.Equal(live) {
		s.live = live
		select {
		case s.report <- struct{}{}:
		default:
		}
	}
	return nil
}

// Deadline is until when the lease certainly runs: its time to live after the last renewal was sent. Behind it others
// may take over, so a primary takes no writes any more. It is zero before there is a lease. The time has a monotonic
// reading, which stands still on some systems while they are suspended: see Running.
func (s *Session) Deadline() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline
}

// Running tells whether the lease certainly runs now, by the monotonic clock and by the wall clock.
func (s *Session) Running() bool {
	d, now := s.Deadline(), time.Now()
	return now.Before(d) && now.Round(0).Before(d.Round(0))
}

// Renewed gives a channel that is closed when the lease is next renewed or lost: Deadline, or Claims, has changed.
func (s *Session) Renewed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed
}

// Claims are the terms of the databases that were claimed under the present lease and not released.
func (s *Session) Claims() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.claims)
}

// Claim makes the node the primary of a database if nobody is and the last one was still the one `seen` (zero: none yet).
// Node and Term count of it, not Held. The term is greater than any before. What is claimed already stays claimed, under
// its term; otherwise ErrHeld. After netconf.ErrUnavailable the claim may have been made: claim again to know. Claims and releases
// of one database are made one after the other.
func (s *Session) Claim(ctx context.Context, database string, seen netconf.Primary) (term int64, err error) {
	s.mu.Lock()
	lease, leaving := s.lease, s.unreleased[database]
	s.mu.Unlock()
	if lease == 0 {
		return 0, fmt.Errorf("claim %s: no lease: %w", database, netconf.ErrUnavailable)
	}
	if leaving { // the release under way would take away what is claimed now
		return 0, fmt.Errorf("claim %s: its release hasn't got through: %w", database, netconf.ErrUnavailable)
	}
	t, _ := s.r.Current()
	d, ok := t.DatabaseByID(database)
	if !ok {
		return 0, fmt.Errorf("claim %s: database %w", database, netconf.ErrNotFound)
	}
	if seen.Term < 0 || seen.Term == math.MaxInt64 {
		return 0, fmt.Errorf("claim %s: %w term %d", database, netconf.ErrInvalid, seen.Term)
	}
	held, record := liveHeld+database, livePrimaries+database
	value, err := json.Marshal(holder{s.node, seen.Term + 1})
	if err != nil {
		return 0, err
	}
	last := clientv3.Compare(clientv3.CreateRevision(record), "=", 0)
	if seen.Term > 0 {
		before, err := json.Marshal(holder{seen.Node, seen.Term})
		if err != nil {
			return 0, err
		}
		last = clientv3.Compare(clientv3.Value(record), "=", string(before))
	}
	resp, err := s.r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(held), "=", 0), last,
			clientv3.Compare(clientv3.CreateRevision(databaseKey(d)), ">", 0)).
		Then(clientv3.OpPut(held, string(value), clientv3.WithLease(lease)), clientv3.OpPut(record, string(value))).
		Else(clientv3.OpGet(held)).
		Commit()
	if err != nil {
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.lost(lease)
		}
		return 0, unavailable("claim "+database, err)
	}
	term = seen.Term + 1
	if !resp.Succeeded {
		kvs := resp.Responses[0].GetResponseRange().GetKvs()
		var h holder
		if len(kvs) == 0 || json.Unmarshal(kvs[0].GetValue(), &h) != nil || h.Node != s.node {
			return 0, fmt.Errorf("claim %s: %w", database, ErrHeld)
		}
		term = h.Term
		if clientv3.LeaseID(kvs[0].GetLease()) != lease { // this node's before it was started anew: its lease still runs
			if term, err = s.replace(ctx, database, lease, h, clientv3.Compare(clientv3.ModRevision(held), "=", kvs[0].GetModRevision())); err != nil {
				return 0, fmt.Errorf("claim %s: %w", database, err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != lease {
		return 0, fmt.Errorf("claim %s: the lease was lost: %w", database, netconf.ErrUnavailable)
	}
	s.claims[database] = term
	return term, nil
}

// Advance begins a new term of a database that is held: nobody who knows only the old one can take over from then on.
func (s *Session) Advance(ctx context.Context, database string, term int64) (next int64, err error) {
	s.mu.Lock()
	lease, held := s.lease, s.claims[database]
	s.mu.Unlock()
	if lease == 0 || held != term {
		return 0, fmt.Errorf("advance %s: term %d isn't held: %w", database, term, netconf.ErrConflict)
	}
	next, err = s.replace(ctx, database, lease, holder{s.node, term}, clientv3.Compare(clientv3.LeaseValue(liveHeld+database), "=", lease))
	if err != nil {
		return 0, fmt.Errorf("advance %s: %w", database, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != lease {
		return 0, fmt.Errorf("advance %s: the lease was lost: %w", database, netconf.ErrUnavailable)
	}
	s.claims[database] = next
	return next, nil
}

// replace begins a new term of what this node holds, under a lease, if a condition still holds.
func (s *Session) replace(ctx context.Context, database string, lease clientv3.LeaseID, old holder, still clientv3.Cmp) (int64, error) {
	before, err := json.Marshal(old)
	if err != nil {
		return 0, err
	}
	after, err := json.Marshal(holder{s.node, old.Term + 1})
	if err != nil {
		return 0, err
	}
	held, record := liveHeld+database, livePrimaries+database
	resp, err := s.r.client.Txn(ctx).
		If(still, clientv3.Compare(clientv3.Value(held), "=", string(before)), clientv3.Compare(clientv3.Value(record), "=", string(before))).
		Then(clientv3.OpPut(held, string(after), clientv3.WithLease(lease)), clientv3.OpPut(record, string(after))).
		Commit()
	if err != nil {
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.lost(lease)
		}
		return 0, unavailable("begin a term of "+database, err)
	}
	if !resp.Succeeded {
		return 0, ErrHeld
	}
	return old.Term + 1, nil
}

// Update is the registry's, in one transaction with the condition that the node is the primary of a database, by the lease
// that it has now: otherwise ErrHeld. So who is the primary next finds the change made, or it isn't made any more.
func (s *Session) Update(ctx context.Context, database, actor string, change func(*netconf.Draft) error) error {
	s.mu.Lock()
	lease, claimed := s.lease, s.claims[database] > 0
	s.mu.Unlock()
	if lease == 0 || !claimed {
		return fmt.Errorf("change database %s as its primary: %w", database, ErrHeld)
	}
	_, err := s.r.update(ctx, actor, change, []clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(liveHeld+database), "=", lease)})
	return err
}

// Release gives a database up at once, for another to claim. That it was the last primary stays known. The caller takes no
// writes any more when it calls. After an error the session tries on.
func (s *Session) Release(ctx context.Context, database string) error {
	s.mu.Lock()
	delete(s.claims, database)
	if s.lease != 0 {
		s.unreleased[database] = true
	}
	s.mu.Unlock()
	return s.release(ctx, database)
}

func (s *Session) release(ctx context.Context, database string) error {
	s.mu.Lock()
	lease, held := s.lease, liveHeld+database
	s.mu.Unlock()
	if lease == 0 {
		return nil // what was held under it is free
	}
	_, err := s.r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.LeaseValue(held), "=", lease)).
		Then(clientv3.OpDelete(held)).
		Commit()
	if err != nil {
		return unavailable("release "+database, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unreleased, database)
	return nil
}

// Close revokes the lease: the node is away at once, and what it held is free. If control doesn't answer, the lease
// expires.
func (s *Session) Close() error {
	var err error
	s.close.Do(func() {
		s.cancel()
		<-s.done
		s.r.mu.Lock()
		delete(s.r.sessions, s)
		s.r.mu.Unlock()
		s.mu.Lock()
		lease := s.lease
		s.forgetLocked()
		s.mu.Unlock()
		if lease != 0 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, rerr := s.r.client.Revoke(ctx, lease); rerr != nil && !errors.Is(rerr, rpctypes.ErrLeaseNotFound) {
				err = unavailable("end the session", rerr)
			}
		}
	})
	return err
}

// run keeps the lease alive. It closes tried after the first attempt.
func (s *Session) run(tried chan struct{}) {
	defer close(s.done)
	next, first := time.Now(), true
	for {
		select {
		case <-s.ctx.Done():
			if first {
				close(tried)
			}
			return
		case <-s.report:
			s.catchUp() // what fails is done with the next renewal
			continue
		case <-time.After(time.Until(next)):
		}
		began := time.Now()
		switch err := s.renew(); {
		case err == nil:
			next = began.Add(s.r.ttl / 4) // from when it was sent: the way may take as long as that again
			s.catchUp()
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			next = time.Now()
		default:
			next = time.Now().Add(200 * time.Millisecond)
		}
		if first {
			first = false
			close(tried)
		}
	}
}

// catchUp writes what is still to be written: what the node says of itself, and releases that didn't get through.
func (s *Session) catchUp() {
	s.mu.Lock()
	lease, live, unsaid := s.lease, s.live, !s.said.Equal(s.live) || s.saidBy != s.lease
	unreleased := slices.Collect(maps.Keys(s.unreleased))
	s.mu.Unlock()
	if lease == 0 {
		return
	}
	if unsaid && s.say(lease, live) == nil {
		s.mu.Lock()
		s.said, s.saidBy = live, lease
		s.mu.Unlock()
	}
	for _, database := range unreleased {
		ctx, cancel := context.WithTimeout(s.ctx, s.r.ttl/2)
		err := s.release(ctx, database)
		cancel()
		if err != nil {
			return
		}
	}
}

// renew keeps the lease alive, or makes one.
func (s *Session) renew() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.r.ttl/2)
	defer cancel()
	s.mu.Lock()
	lease := s.lease
	s.mu.Unlock()
	sent := time.Now() // the lease runs from when the server gets it, which is later
	if lease == 0 {
		resp, err := s.r.client.Grant(ctx, int64(s.r.ttl.Seconds()))
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.lease, s.deadline = resp.ID, sent.Add(time.Duration(resp.TTL)*time.Second)
		s.changedLocked()
		s.mu.Unlock()
		return nil
	}
	resp, err := s.r.client.KeepAliveOnce(ctx, lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.lost(lease)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == lease {
		s.deadline = sent.Add(time.Duration(resp.TTL) * time.Second)
		s.changedLocked()
	}
	return nil
}

// say writes what the node says of itself under the lease.
func (s *Session) say(lease clientv3.LeaseID, live netconf.NodeLive) error {
	value, err := json.Marshal(live)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.r.ttl/2)
	defer cancel()
	_, err = s.r.client.Put(ctx, liveNodes+s.node, string(value), clientv3.WithLease(lease))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.lost(lease)
	}
	return err
}

// lost forgets a lease that has ended.
func (s *Session) lost(lease clientv3.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != lease {
		return
	}
	s.r.log.Warn("the session's lease was lost", "node", s.node, "claims", len(s.claims))
	s.forgetLocked()
}

func (s *Session) forgetLocked() {
	s.lease, s.deadline = 0, time.Time{}
	clear(s.claims)
	clear(s.unreleased)
	s.changedLocked()
}

func (s *Session) changedLocked() {
	close(s.renewed)
	s.renewed = make(chan struct{})
}
