package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"respmesh/resp/command"
	"respmesh/store/psync"
)

const (
	// quorumWait bounds the wait for min-replicas: before a write for replicas to be there, after it for them to have it.
	quorumWait = 2 * time.Second
	// handoverWait bounds the wait for a candidate to have what was executed before the fence.
	handoverWait = time.Second
	// straggles is for how long a candidate must be out of the stream before it is left behind: who just reconnects isn't.
	straggles = 300 * time.Millisecond
	// silentFor is how long a candidate that is in the stream may confirm nothing: each does so every second. Its host may be
	// gone, which its connection doesn't tell.
	silentFor = 2 * time.Second
	// lookAgain is how soon a candidate is asked again what it has.
	lookAgain = 50 * time.Millisecond
)

// quorum says which replicas must have a write before it is acknowledged. The nodes of the primary's region come first: one
// of them will be the primary when this one fails.
//
// One of them that has left the stream would hold up all writes. So it is excluded: the election begins a new term first,
// which it doesn't have, so that it can't become the primary with what it has; it counts again from before it is told the
// term. So writes wait for every candidate that has been told the term, and nobody else can take over.
type quorum struct {
	replicas   int
	candidates map[netip.Addr]bool // the other nodes of the primary's region
	excluded   map[netip.Addr]bool // of those
}

// wanted is how many candidates must have a write.
func (q *quorum) wanted() int { return min(q.replicas, len(q.candidates)-len(q.excluded)) }

// passes tells the candidates that can become the primary. An excluded one may be in the stream, with the former term.
func (q *quorum) passes(addr string) bool {
	at, ok := hostOf(addr)
	return ok && q.candidates[at] && !q.excluded[at]
}

func hostOf(addr string) (netip.Addr, bool) {
	at, err := netip.ParseAddrPort(addr)
	return at.Addr().Unmap(), err == nil
}

// once lets each node pass once: of one that came back the former connection may still be there.
func once(passes func(addr string) bool) func(addr string) bool {
	var seen []netip.Addr
	return func(addr string) bool {
		if passes != nil && !passes(addr) {
			return false
		}
		at, ok := hostOf(addr)
		if ok && slices.Contains(seen, at) {
			return false
		}
		seen = append(seen, at)
		return true
	}
}

// setQuorum says how many replicas must have a write, and who the candidates are.
func (s *store) setQuorum(replicas int, candidates map[netip.Addr]bool) {
	s.changeQuorum(func(q *quorum) {
		q.replicas, q.candidates = replicas, candidates
		maps.DeleteFunc(q.excluded, func(a netip.Addr, _ bool) bool { return !candidates[a] })
	})
}

func (s *store) changeQuorum(change func(*quorum)) {
	for {
		old := s.quorum.Load()
		next := &quorum{replicas: old.replicas, candidates: old.candidates, excluded: maps.Clone(old.excluded)}
		if next.excluded == nil {
			next.excluded = make(map[netip.Addr]bool)
		}
		change(next)
		if s.quorum.CompareAndSwap(old, next) {
			return
		}
	}
}

// stragglers are the candidates that hold up writes: they have left the stream, and there are enough replicas without
// them. Some may become so after a while, if that isn't 0.
func (s *store) stragglers() (away []netip.Addr, after time.Duration) {
	q := s.quorum.Load()
	if q.replicas == 0 || !s.leads() {
		clear(s.away)
		return nil, 0
	}
	here, first := s.inStream()
	for a := range q.excluded {
		if here[a] { // it has come back without having been told the term
			s.primary.Drop(from(a))
		}
	}
	if s.enough(q, here) {
		clear(s.away)
		return nil, first
	}
	for a := range q.candidates {
		if q.excluded[a] || here[a] {
			delete(s.away, a)
			continue
		}
		if _, ok := s.away[a]; !ok {
			s.away[a] = time.Now()
		}
		if left := straggles - time.Since(s.away[a]); left > 0 {
			after = max(after, left)
		} else {
			away = append(away, a)
		}
	}
	if len(here) < q.replicas {
		return nil, straggles
	}
	return away, after
}

// from lets a host pass.
func from(host netip.Addr) func(addr string) bool {
	return func(addr string) bool {
		at, ok := hostOf(addr)
		return ok && at == host
	}
}

// inStream are the hosts that are in the stream and confirm what they get. The first of them to have been silent for too long
// may be so after a while, if that isn't 0.
func (s *store) inStream() (here map[netip.Addr]bool, first time.Duration) {
	here = make(map[netip.Addr]bool)
	for _, r := range s.primary.Replicas() {
		at, ok := hostOf(r.Addr)
		if !ok || r.State != psync.Streaming || r.LastAck.IsZero() {
			continue
		}
		left := silentFor - time.Since(r.LastAck)
		if left <= 0 {
			continue
		}
		here[at] = true
		if first == 0 || left < first {
			first = left
		}
	}
	return here, first
}

// enough tells whether as many candidates are here as writes wait for.
func (s *store) enough(q *quorum, here map[netip.Addr]bool) bool {
	n := 0
	for a := range here {
		if q.candidates[a] && !q.excluded[a] {
			n++
		}
	}
	return n >= q.wanted()
}

// exclude has writes wait for some candidates no more. They can't become the primary: see quorum.
func (s *store) exclude(away []netip.Addr) {
	s.changeQuorum(func(q *quorum) {
		for _, a := range away {
			q.excluded[a] = true
		}
	})
	s.primary.Recount()
}

// tellCandidates has those in the stream connect anew, so that they are told the term: without it none of them can take over.
// One that was left behind while it copies the data goes on with that, and is told when it is done: see stragglers.
func (s *store) tellCandidates() {
	q := s.quorum.Load()
	here, _ := s.inStream()
	s.primary.Drop(func(addr string) bool {
		at, ok := hostOf(addr)
		return ok && q.candidates[at] && (!q.excluded[at] || here[at])
	})
}

// include has writes wait for a candidate again, from before it is told the term.
func (s *store) include(addr string) {
	at, ok := hostOf(addr)
	if ok && s.quorum.Load().excluded[at] {
		s.changeQuorum(func(q *quorum) { delete(q.excluded, at) })
	}
}

// haveLocked says whether enough replicas have an offset, or are in the stream if that is negative. A fenced store's successor
// may be any of the candidates, so then all of them must have it.
func (s *store) haveLocked(q *quorum, offset int64) bool {
	wanted := q.wanted()
	if offset >= 0 && s.fenced.Load() {
		wanted = len(q.candidates) - len(q.excluded)
	}
	return s.primary.HaveLocked(offset, once(nil)) >= q.replicas && s.primary.HaveLocked(offset, once(q.passes)) >= wanted
}

// manned says whether enough replicas are in the stream.
func (s *store) manned(q *quorum) bool {
	return s.primary.Have(-1, once(nil)) >= q.replicas && s.primary.Have(-1, once(q.passes)) >= q.wanted()
}

// shortOf has the election look for stragglers.
func (s *store) shortOf() {
	select {
	case s.short <- struct{}{}:
	default:
	}
}

//lint:file-ignore ST1005 the errors below are Redis's own texts

// errFenced is Redis's answer of a replica.
var errFenced = errors.New("READONLY You can't write against a read only replica.")

// errNoReplicas is Redis's answer where min-replicas-to-write isn't met.
var errNoReplicas = errors.New("NOREPLICAS Not enough good replicas to write.")

// refuse is asked by the engine before each client's write.
func (s *store) refuse() error {
	if s.fenced.Load() || s.held.Load() {
		return errFenced
	}
	if q := s.quorum.Load(); q.replicas > 0 && !s.manned(q) {
		return errNoReplicas
	}
	return nil
}

// awaitReplicas waits a while for as many replicas as a write will need.
func (s *store) awaitReplicas(ctx context.Context) {
	s.shortOf()
	ctx, cancel := context.WithTimeout(ctx, quorumWait)
	defer cancel()
	s.primary.AwaitFunc(ctx, 0, func() bool { return s.fenced.Load() || s.haveLocked(s.quorum.Load(), -1) })
}

// awaitSafe waits until what was written up to an offset is as safe as the database wants it. The error says what isn't
// known.
func (s *store) awaitSafe(ctx context.Context, q *quorum, offset int64) error {
	if q.replicas > 0 {
		wait, cancel := context.WithTimeout(ctx, quorumWait)
		defer cancel()
		if !s.manned(q) {
			s.shortOf()
		}
		if !s.primary.AwaitFunc(wait, offset, func() bool { return s.haveLocked(s.quorum.Load(), offset) }) {
			return fmt.Errorf("%d of %d replicas have confirmed it", s.primary.Acked(offset), q.replicas)
		}
		return nil
	}
	if s.fenced.Load() && !s.awaitCandidate(ctx, offset) {
		return errors.New("another node is becoming the primary")
	}
	return nil
}

// awaitCandidate waits until one of the candidates for the primary has an offset.
func (s *store) awaitCandidate(ctx context.Context, offset int64) bool {
	q := s.quorum.Load()
	if len(q.candidates) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, handoverWait)
	defer cancel()
	return s.primary.AwaitFunc(ctx, offset, func() bool { return s.primary.HaveLocked(offset, q.passes) > 0 })
}

// hasCandidate tells whether another node could lead.
func (s *store) hasCandidate() bool {
	q := s.quorum.Load()
	return s.primary.Have(-1, q.passes) > 0
}

// handover fences the store and waits until one of the candidates has everything, so that it can lead without a loss. False:
// none has, within ctx; the store stays fenced until lead.
func (s *store) handover(ctx context.Context) bool {
	s.fence()
	q := s.quorum.Load()
	return len(q.candidates) > 0 && s.primary.AwaitFunc(ctx, 0, func() bool {
		return s.primary.HaveLocked(s.log.Standing().Offset, q.passes) > 0
	})
}

// await is WAIT: it counts the replicas that have all that has been written so far.
func (s *store) await(ctx context.Context, n int) int {
	_, offset := s.log.Position()
	return s.primary.Await(ctx, offset, n)
}

// mayWrite tells whether any of the commands may have changed something.
func mayWrite(reqs []command.Request) bool {
	for i := range reqs {
		if changes(reqs[i].Spec) {
			return true
		}
	}
	return false
}

func changes(s *command.Spec) bool {
	return s != nil && (s.Is(command.FlagWrite|command.FlagMayReplicate) || s.Name == "exec")
}
