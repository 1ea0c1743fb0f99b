package proxy

import (
	"bytes"
	"context"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// When the primary changes, nodes learn of it at different times. A write that reaches a node which isn't the primary any
// more, or not yet, is answered READONLY there: it was certainly not executed. The gateway keeps it, waits for a node that
// says itself that it leads, and sends it there, once. Nothing of this touches a write whose outcome isn't known.
//
// Order is kept: a link on which a READONLY came is used for nothing new, the node at its other end refuses everything but
// reads that comes over it from then on, and a session moves to another link only when all it has asked for is answered.

// readonlyText is what a store answers that doesn't lead.
const readonlyText = "READONLY You can't write against a read only replica."

// keepForSwitch is the biggest write that is kept for another node. For bigger ones the client is told.
const keepForSwitch = 16 << 10

// refusedAsReplica says whether a reply means that the store doesn't lead, so that nothing was executed.
func refusedAsReplica(raw []byte) bool {
	return len(raw) > 9 && raw[0] == '-' && (bytes.HasPrefix(raw, []byte("-READONLY")) || bytes.HasPrefix(raw, []byte("-MASTERDOWN")))
}

// switched handles a reply that may come from a node which doesn't lead any more. True: the call is parked.
func (l *link) switched(c *call, raw []byte) bool {
	if l.pinned || c.out == nil {
		return false
	}
	refused := refusedAsReplica(raw) || c.why != nil && refusedAsReplica(c.why)
	if refused {
		l.sour.Store(true)
	}
	// A read behind a refused write follows it.
	if !refused && !(c.read && l.sour.Load()) || c.route != routePrimary || len(c.raw) == 0 {
		return false
	}
	if !c.until.IsZero() && time.Now().After(c.until) {
		if refused {
			l.g.meters.masterdown.Inc()
			c.replace = downText(nil, l.g.view.Load().primaryRegion)
		}
		return false
	}
	l.g.park(c)
	return true
}

// park keeps a call that wasn't executed for the node that leads next.
func (g *Gateway) park(c *call) {
	if c.until.IsZero() {
		c.until = time.Now().Add(g.opt.SwitchTimeout)
	}
	g.nudge()
	g.parkMu.Lock()
	defer g.parkMu.Unlock()
	g.parked = append(g.parked, c)
	if !g.unparking {
		g.unparking = true
		g.wg.Go(g.unpark)
	}
}

// unpark sends what is parked, in order.
func (g *Gateway) unpark() {
	for {
		g.parkMu.Lock()
		calls := g.parked
		g.parked = nil
		g.unparking = len(calls) > 0
		g.parkMu.Unlock()
		if len(calls) == 0 {
			return
		}
		ctx, cancel := context.WithDeadline(g.ctx, calls[len(calls)-1].until)
		v := g.awaitLeader(ctx)
		cancel()
		used := make(map[*link]bool)
		for _, c := range calls {
			if v == nil || !g.toLeader(c, v, used) {
				g.meters.masterdown.Inc()
				out := c.out
				out.complete(c, downText(nil, g.view.Load().primaryRegion))
				out.flush()
			}
		}
		for l := range used {
			l.kick()
		}
	}
}

// toLeader has the leader execute a call that was parked; false: it couldn't be sent.
func (g *Gateway) toLeader(c *call, v *view, used map[*link]bool) bool {
	if v.localPrimary {
		g.runHere(c, v)
		return true
	}
	l := g.shared(linkKey{node: v.primary, proto: c.proto, db: c.db})
	if l == nil {
		return false
	}
	c.lead, c.why = c.led, nil
	if l.send(c, c.raw) != nil {
		return false
	}
	used[l] = true
	return true
}

// runHere executes a parked call on the local store, which leads now.
func (g *Gateway) runHere(c *call, v *view) {
	sc := v.store.NewConn(func([]byte) {})
	defer sc.Close()
	prepare(g.ctx, sc, c.proto, c.db)
	r := frame.NewReader(bytes.NewReader(c.raw))
	reply := downText(nil, v.primaryRegion)
	for {
		var req command.Request
		if r.ReadCommand(&req.Command) != nil {
			break
		}
		req.Spec = command.Lookup(req.Args)
		reply = sc.Do(g.ctx, nil, []command.Request{req}) // the last one's is the call's
	}
	out := c.out
	out.complete(c, reply)
	out.flush()
}

// awaitLeader returns a view whose primary says itself that it leads; nil: ctx ended before.
func (g *Gateway) awaitLeader(ctx context.Context) *view {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		published := *g.published.Load()
		v := g.view.Load()
		if v.localPrimary && v.store.State().Primary || v.primary != v.self && v.primaryReachable && g.leads(ctx, v.primary) {
			return v
		}
		g.nudge()
		pause.Reset(20 * time.Millisecond)
		select {
		case <-published:
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// leads asks a node whether it leads.
func (g *Gateway) leads(ctx context.Context, node string) bool {
	l := g.shared(linkKey{node: node, proto: 2})
	if l == nil {
		return false
	}
	answer := make(chan bool, 1)
	c := newCall()
	c.noWait = true
	c.fn = func(reply []byte, err error) {
		st, ok := parseStatus(reply)
		answer <- err == nil && ok && st.role == "primary"
	}
	if l.send(c, frame.AppendCommandString(nil, "RESPMESH", "STATUS", g.opt.Org+"/"+g.opt.Database)) != nil {
		c.free()
		return false
	}
	l.kick()
	select {
	case yes := <-answer:
		return yes
	case <-ctx.Done():
		return false
	}
}

// awaitSwitch waits until some node leads; false: none does within the bound, or the client is gone.
func (s *session) awaitSwitch(w *work, bound time.Duration) bool {
	s.commit(w)
	s.kick()
	ctx, cancel := context.WithTimeout(s.ctx, bound)
	defer cancel()
	defer s.away()()
	return s.g.awaitLeader(ctx) != nil
}

// reroute goes through the replies to a batch of the local store, which was fenced meanwhile: what it refused is routed
// again, and with it the reads behind.
func (s *session) reroute(w *work, from int, reqs []command.Request) {
	replies := frame.NewReader(bytes.NewReader(bytes.Clone(w.out[from:])))
	var r frame.Reply
	first, at := -1, from
	rest := make([][]byte, 0, len(reqs))
	for i := range reqs {
		if replies.ReadReply(&r) != nil {
			break
		}
		if first < 0 && refusedAsReplica(r.Raw) {
			first = i
		}
		if first < 0 {
			at += len(r.Raw)
			continue
		}
		rest = append(rest, bytes.Clone(r.Raw))
	}
	if first < 0 {
		return
	}
	held := make([]command.Request, len(rest)) // reqs' memory is used again
	for i := range held {
		held[i] = clone(&reqs[first+i])
	}
	w.out = w.out[:at]
	s.rerouting = true
	defer func() { s.rerouting = false }()
	if !s.awaitSwitch(w, s.g.opt.SwitchTimeout) {
		for range rest {
			s.g.meters.masterdown.Inc()
			w.out = downText(w.out, s.g.view.Load().primaryRegion)
		}
		return
	}
	cur := w.cur
	defer func() { w.cur = cur }()
	for i, raw := range rest {
		if !refusedAsReplica(raw) && s.g.table.of(held[i].Spec).class != classRead {
			w.out = append(s.begin(w), raw...)
			continue
		}
		w.cur = held[i]
		s.handle(w, &w.cur)
	}
	s.execute(w) // what is for the local store again: nobody else does, if this was the end of what the client has sent
}
