package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"respmesh/resp/command"
)

const (
	// quorumWait bounds the wait for min-replicas: before a write for replicas to be there, after it for them to have it.
	quorumWait = 2 * time.Second
	// handoverWait bounds the wait for a candidate to have what was executed before the fence.
	handoverWait = time.Second
)

// quorum says which replicas must have a write before it is acknowledged. The nodes of the primary's region come first: one
// of them will be the primary when this one fails.
type quorum struct {
	replicas   int
	candidates map[netip.Addr]bool // the other nodes of the primary's region
}

func (q *quorum) passes(addr string) bool {
	at, err := netip.ParseAddrPort(addr)
	return err == nil && q.candidates[at.Addr().Unmap()]
}

// setQuorum says how many replicas must have a write, and who the candidates are.
func (s *store) setQuorum(replicas int, candidates map[netip.Addr]bool) {
	s.quorum.Store(&quorum{replicas: replicas, candidates: candidates})
}

// haveLocked says whether enough replicas have an offset, or are in the stream if that is negative.
func (s *store) haveLocked(q *quorum, offset int64) bool {
	return s.primary.HaveLocked(offset, nil) >= q.replicas &&
		s.primary.HaveLocked(offset, q.passes) >= min(q.replicas, len(q.candidates))
}

func (s *store) have(q *quorum, offset int64) bool {
	return s.primary.Have(offset, nil) >= q.replicas && s.primary.Have(offset, q.passes) >= min(q.replicas, len(q.candidates))
}

// errFenced is Redis's answer of a replica.
var errFenced = errors.New("READONLY You can't write against a read only replica.")

// errNoReplicas is Redis's answer where min-replicas-to-write isn't met.
var errNoReplicas = errors.New("NOREPLICAS Not enough good replicas to write.")

// refuse is asked by the engine before each client's write.
func (s *store) refuse() error {
	if s.fenced.Load() {
		return errFenced
	}
	if q := s.quorum.Load(); q.replicas > 0 && !s.have(q, -1) {
		return errNoReplicas
	}
	return nil
}

// awaitReplicas waits a while for as many replicas as a write will need.
func (s *store) awaitReplicas(ctx context.Context, q *quorum) {
	if s.have(q, -1) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, quorumWait)
	defer cancel()
	s.primary.AwaitFunc(ctx, 0, func() bool { return s.fenced.Load() || s.haveLocked(q, -1) })
}

// awaitSafe waits until what was written up to an offset is as safe as the database wants it. The error says what isn't
// known.
func (s *store) awaitSafe(ctx context.Context, q *quorum, offset int64) error {
	if q.replicas > 0 {
		wait, cancel := context.WithTimeout(ctx, quorumWait)
		defer cancel()
		if !s.primary.AwaitFunc(wait, offset, func() bool { return s.haveLocked(q, offset) }) {
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
