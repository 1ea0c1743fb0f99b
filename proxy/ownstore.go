package proxy

import (
	"context"
	"time"

	"respmesh/resp/frame"
)

// ownStore is the copy on this node: a new one with each SetStore, so that sessions see that theirs is another.
type ownStore struct{ Store }

// Waiter is a Store whose connections wait for others with each command, such as for a server that they pass it on to. Its sessions
// are better off with a goroutine each.
type Waiter interface{ Waits() }

func waits(s Store) bool {
	_, yes := s.(Waiter)
	return yes
}

// storeGone is what a session is told that had something in a store which isn't here any more.
const storeGone = "ERR this node's copy of the database is gone, and with it what this connection had in it; connect again"

// SetStore gives the gateway the copy that has appeared on this node, or takes it away (nil). Sessions go on, but for those
// that have a subscription, a transaction, a WATCH or a wait in the old copy: they are told so and closed. When SetStore
// returns nil no session uses the old copy any more; with ctx's error, some still do, each until its next command.
func (g *Gateway) SetStore(ctx context.Context, store Store) error {
	var now *ownStore
	if store != nil {
		now = &ownStore{store}
	}
	old := g.own.Swap(now)
	topology, _ := g.opt.Source.Current()
	g.rebuild(topology)
	if old == nil {
		return nil
	}
	sessions := g.snapshot()
	for _, s := range sessions {
		if s.tied.Load() == old {
			g.meters.cutLink.Inc()
			s.out.push(frame.AppendError(nil, storeGone))
			g.wg.Go(func() { s.out.finish(time.Second) })
		}
	}
	left := make(chan struct{})
	g.wg.Go(func() {
		defer close(left)
		for _, s := range sessions {
			s.using.Lock() // a session at work leaves the old copy by itself, when it sees the new view
			if s.scOf == old && s.tied.Load() == nil {
				s.closeStore()
			}
			s.using.Unlock()
		}
	})
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openHere opens the connection to the view's local store, unless it is open; false: the session is lost with another one.
func (s *session) openHere(w *work, v *view) bool {
	if s.openFor(v) {
		return true
	}
	s.execute(w) // in the state that they were sent in
	if s.scOf != v.store && s.tied.Load() != nil {
		s.storeLost(w)
		return false
	}
	s.openStore(v)
	return true
}

// tie notes that something of the session lives in the local store's connection; false: that store has just gone.
func (s *session) tie() bool {
	s.tied.Store(s.scOf)
	return s.g.own.Load() == s.scOf
}

// untie is called when something that lived in the store's connection may have ended.
func (s *session) untie() {
	if s.tied.Load() != nil && !s.tx.here && !s.tx.watchHere && !(s.track.on && s.track.l == nil) && (s.sub.n == 0 || s.sub.remote != nil) {
		s.tied.Store(nil)
	}
}

// leaveWatch drops the WATCHes that the local store's connection keeps, now that transactions are executed elsewhere.
func (s *session) leaveWatch() {
	s.tx.watchHere = false
	if s.sc != nil {
		quiet(s.ctx, s.sc, "UNWATCH")
	}
	s.untie()
}

// storeLost ends a session whose store has gone while it was about to leave something in it.
func (s *session) storeLost(w *work) {
	s.reply(w, frame.AppendError(s.begin(w), storeGone))
	s.closing = true
}

// Refresh has the gateway look again at the store: it leads, or follows, since a moment ago.
func (g *Gateway) Refresh() { g.nudge() }
