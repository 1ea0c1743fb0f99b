package proxy

import (
	"bytes"
	"context"
	"sync"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// What a session reads doesn't go back, for two reasons. What it has in flight is on one link, so at one copy, in order. And it
// moves to another copy when nothing is in flight: which then is as far as everything that was seen, see [Gateway.current].
//
// A read that must be asked again elsewhere would break the first: what is in flight behind it may be answered by a copy
// that isn't as far, or before it. So all of that takes the detour that the first one takes, whatever was answered to it, and the session
// sends nothing new until nothing is in flight (see output.enqueue).
type detour struct {
	g  *Gateway
	mu sync.Mutex
	l  *link // where the reads go; nil: to the local store

	store   *ownStore
	stale   bool    // the local store answers as it is
	waiting []*call // for the local store
	running bool
}

// retry asks a read again, not at the node that failed, but where the session's earlier ones went if these had to be asked again,
// too. False: there is nowhere else.
func (g *Gateway) retry(c *call, failed string) bool {
	if c.route == routePrimary && c.out.followsWrite(c) {
		g.park(c)
		return true
	}
	c.retried, c.noWait = true, true
	g.meters.retries.Inc()
	if d := c.out.detour.Load(); d != nil {
		return !c.fetched && d.take(c)
	}
	v := g.view.Load()
	d := &detour{g: g}
	c.out.detour.Store(d)
	if c.fetched && !c.out.isLast(c) {
		return false // what is behind it may have been answered
	}
	if v.localUsable {
		d.store = v.store
		return d.take(c)
	}
	for _, r := range v.reads {
		if r.node != failed && g.current(r.remote, g.ryw.needAll()) && d.over(r.node, c) {
			return true
		}
	}
	if v.primary != failed && v.primaryReachable && !v.localPrimary && d.over(v.primary, c) {
		return true
	}
	return g.readStale(c)
}

// over begins the detour over a node; false: it can't be reached.
func (d *detour) over(node string, c *call) bool {
	l := d.g.shared(linkKey{node: node, proto: c.proto, db: c.db, read: true})
	if l == nil || l.send(c, c.raw) != nil {
		return false
	}
	d.mu.Lock()
	d.l = l
	d.mu.Unlock()
	l.kick()
	return true
}

// take sends a call after those before it; false: the way that they took is closed.
func (d *detour) take(c *call) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.l == nil && d.store != nil:
		d.waitLocked(c)
	case d.l == nil || d.l.send(c, c.raw) != nil:
		return false
	default:
		d.l.kick()
	}
	return true
}

// readStale answers a read from the local store as it is. False: there is none.
func (g *Gateway) readStale(c *call) bool {
	v := g.view.Load()
	d := c.out.detour.Load()
	if !v.localAny || d == nil {
		return false
	}
	g.meters.waitStale.Inc()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.store, d.stale = v.store, true
	d.waitLocked(c)
	return true
}

func (d *detour) waitLocked(c *call) {
	d.waiting = append(d.waiting, c)
	if !d.running {
		d.running = true
		d.g.wg.Go(d.run)
	}
}

// run has the local store answer what waits for it, in order, once it has what the node's clients wrote. When it doesn't get that
// in time, all goes to the primary; when that is out of reach, the local store answers as it is.
func (d *detour) run() {
	for {
		d.mu.Lock()
		if len(d.waiting) == 0 {
			d.running = false
			d.mu.Unlock()
			return
		}
		c, store, stale := d.waiting[0], d.store, d.stale
		d.mu.Unlock()
		if !stale && !d.g.caughtUp(store, c) {
			if d.leave() {
				continue
			}
			d.g.meters.waitStale.Inc()
			stale = true // and so are those behind
		}
		d.mu.Lock()
		d.stale = stale
		d.waiting = d.waiting[1:]
		d.mu.Unlock()
		d.g.readHere(c, store, stale) // which may end the detour
	}
}

// caughtUp waits until the local store has what the node's clients know of the call's keys.
func (g *Gateway) caughtUp(store *ownStore, c *call) bool {
	need, other := g.lacking(store, c.keys, c.all)
	if need == 0 && !other {
		return true
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.view.Load().waitBound(g.opt.WaitBoundMin, g.opt.WaitBoundMax))
	defer cancel()
	return store.Wait(ctx, g.ryw.history(), need) == nil
}

// leave sends what waits to the primary. False: it can't be reached.
func (d *detour) leave() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, c := d.g.view.Load(), d.waiting[0]
	if !v.primaryReachable || v.localPrimary {
		return false
	}
	l := d.g.shared(linkKey{node: v.primary, proto: c.proto, db: c.db, read: true})
	if l == nil || l.sendAll(d.waiting) != nil {
		return false
	}
	l.kick()
	d.l, d.waiting = l, nil
	return true
}

// readHere answers a read that failed elsewhere from the local store.
func (g *Gateway) readHere(c *call, store *ownStore, stale bool) {
	sc := store.NewConn(func([]byte) {})
	defer sc.Close()
	prepare(g.ctx, sc, c.proto, c.db)
	var req command.Request
	var reply []byte
	if err := frame.NewReader(bytes.NewReader(c.raw)).ReadCommand(&req.Command); err != nil {
		reply = downText(nil, g.view.Load().primaryRegion)
	} else {
		req.Spec = command.Lookup(req.Args)
		reply = sc.Do(g.ctx, nil, []command.Request{req})
		if !stale {
			replid, offset := store.Position()
			g.seen.raise(&replid, offset)
		}
	}
	out := c.out
	out.complete(c, reply)
	out.flush()
}
