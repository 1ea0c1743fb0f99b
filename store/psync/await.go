package psync

import (
	"context"

	"respmesh/resp/frame"
)

var getackFrame = frame.AppendCommandString(nil, "REPLCONF", "GETACK", "*")

// Await returns how many replicas have applied offset: as soon as they are n, or
// when the context ends. It asks them to say so at once. This is what WAIT does.
func (p *Primary) Await(ctx context.Context, offset int64, n int) int {
	asked := false
	for {
		p.mu.Lock()
		have := p.ackedLocked(offset)
		p.awaited = true
		changed := p.changed
		p.mu.Unlock()
		if have >= n {
			return have
		}
		if !asked && !p.opt.Log.following.Load() {
			asked = true
			p.opt.Log.Append(getackFrame)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return p.Acked(offset)
		}
	}
}
