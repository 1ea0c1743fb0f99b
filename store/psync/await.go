package psync

import (
	"context"

	"respmesh/resp/frame"
)

var getackFrame = frame.AppendCommandString(nil, "REPLCONF", "GETACK", "*")

// Await returns how many replicas have applied offset: as soon as they are n, or
// when the context ends. It asks them to say so at once. This is what WAIT does.
func (p *Primary) Await(ctx context.Context, offset int64, n int) int {
	p.AwaitFunc(ctx, offset, func() bool { return p.ackedLocked(offset) >= n })
	return p.Acked(offset)
}

// AwaitFunc returns true as soon as enough says so, false when the context ends
// before. It is asked whenever replicas have come, gone or acknowledged, under the
// lock that guards them; HaveLocked counts them for it.
func (p *Primary) AwaitFunc(ctx context.Context, offset int64, enough func() bool) bool {
	asked := false
	for {
		p.mu.Lock()
		done := enough()
		p.awaited = true
		changed := p.changed
		p.mu.Unlock()
		if done {
			return true
		}
		if !asked {
			asked = true
			p.askFor(offset)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// Recount has AwaitFunc's callers look again: what is enough for them has changed.
func (p *Primary) Recount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changedLocked()
}

// Drop ends the connections of replicas whose address passes. They come back, and are told what is new.
func (p *Primary) Drop(passes func(addr string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if passes(s.addr) {
			s.cancel(errTerm)
		}
	}
}

// Changed is closed when a replica comes, goes or acknowledges something.
func (p *Primary) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited = true
	return p.changed
}

// HaveLocked counts the replicas that are in the stream and have applied offset,
// or all in the stream if that is negative; only those whose address passes. Who
// has never acknowledged anything isn't counted: it loads, or can't keep what comes.
func (p *Primary) HaveLocked(offset int64, passes func(addr string) bool) int {
	n := 0
	for _, s := range p.sessions {
		if s.state.Load() == int32(Streaming) && s.acks.Load() != 0 && s.acked.Load() >= offset && (passes == nil || passes(s.addr)) {
			n++
		}
	}
	return n
}

// Have is HaveLocked for others.
func (p *Primary) Have(offset int64, passes func(addr string) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.HaveLocked(offset, passes)
}

// askFor has the replicas acknowledge an offset, unless they have been asked since
// it was reached.
func (p *Primary) askFor(offset int64) {
	log := p.opt.Log
	if log.following.Load() {
		return
	}
	for {
		before := p.askedAt.Load()
		if before > offset {
			return
		}
		_, now := log.Position()
		if p.askedAt.CompareAndSwap(before, max(now, offset)+1) {
			log.append(getackFrame, false)
			return
		}
	}
}
