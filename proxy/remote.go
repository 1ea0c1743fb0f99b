package proxy

import (
	"strconv"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// forward sends a command over a shared link, or over the connection that holds the session's transaction.
func (s *session) forward(w *work, req *command.Request, c class, t trait, d decision) {
	var l *link
	if d.kind == routePinned {
		l = s.tx.pin.l
		s.match(l)
		if s.track.on && c == classRead && req.Is(command.FlagReadonly) {
			defer s.unremembered(keyNames(req))
		}
	} else {
		if len(req.Raw) >= s.g.opt.LargeCommand {
			if s.last != nil {
				s.anew(w, req)
				return
			}
			s.exclusive(w, req, c, t, d, false)
			return
		}
		if s.track.on && c == classRead && req.Is(command.FlagReadonly) {
			if l = s.track.l; l == nil || l.remote.node != d.node || !l.alive() {
				l = s.shared(d.node, true)
				defer s.unremembered(keyNames(req))
			} else {
				s.match(l)
			}
		} else {
			l = s.shared(d.node, c == classRead)
		}
	}
	if l == nil {
		if v := s.g.view.Load(); c == classRead && d.kind == routeReplica && v.primaryReachable && !v.localPrimary {
			s.g.meters.retries.Inc() // it went this moment
			s.forward(w, req, c, t, decision{routePrimary, v.primary, "the replica can't be reached"})
			return
		}
		s.unforwarded(w, req, c)
		return
	}
	if s.last != nil && s.last != l {
		s.anew(w, req)
		return
	}
	s.commit(w)
	s.last = l
	if !s.send(l, s.newCall(w, req, c, t, d), req.Raw) {
		s.anew(w, req)
	}
}

// anew waits until nothing is in flight, and decides then where a command goes. What it follows was on another link, and links keep
// no order among each other. It may have been answered by another copy than it was sent to, or by another primary, and so have
// shown more than the copy has that would have been asked now.
func (s *session) anew(w *work, req *command.Request) {
	s.commit(w)
	if s.settle() {
		s.dispatch(w, req, s.g.table.of(req.Spec), false)
	}
}

// shared is the session's link to a node, for reads or for the rest: always the same, as long as it lives. What
// follows a command in flight takes the same link as that, and so needn't wait for its answer.
func (s *session) shared(node string, read bool) *link {
	fits := func(l *link) bool {
		return l != nil && !l.pinned && l.remote.node == node && l.proto == s.proto && l.db == s.db && l.alive() && !l.sour.Load()
	}
	if fits(s.last) {
		return s.last
	}
	l := &s.links[0]
	if read {
		l = &s.links[1]
	}
	if !fits(*l) {
		*l = s.g.shared(linkKey{node, s.proto, s.db, read, int(s.id)})
	}
	return *l
}

// unforwarded answers what couldn't even be queued. A read is served from the local copy if there is one.
func (s *session) unforwarded(w *work, req *command.Request, c class) {
	v := s.g.view.Load()
	if c == classRead && v.localAny && s.mode != readPrimary && !s.tx.pin.live() {
		s.g.meters.waitStale.Inc()
		if !s.openHere(w, v) {
			return
		}
		if s.mute || s.skip {
			s.executeMute(w, req)
			return
		}
		w.enqueue()
		return
	}
	s.g.meters.masterdown.Inc()
	s.reply(w, downText(s.begin(w), v.primaryRegion))
}

// newCall makes a call of a request, with what is to be remembered when it is answered.
func (s *session) newCall(w *work, req *command.Request, c class, t trait, d decision) *call {
	k := newCall()
	k.out, k.class, k.route, k.started = s.out, c, d.kind, time.Now()
	k.proto, k.db, k.mute = s.proto, s.db, s.silent()
	k.read = c == classRead && t&traitBlocking == 0 && d.kind != routePinned
	k.blocks = t&traitBlocking != 0
	k.fresh, k.any = s.mode == readPrimary, s.mode == readAny
	if k.read && d.kind == routeReplica && !s.track.on && s.g.view.Load().settings.Hedge > 0 {
		k.hedge = true
		s.g.hedges.earn()
	}
	k.retried = k.fresh // there is nowhere else
	k.cmd = idOf(req.Spec)
	k.traced = s.g.sampled()
	if !k.read {
		k.head = append(k.head[:0], req.Raw[:min(len(req.Raw), slowRaw)]...)
	}
	if k.read {
		k.raw = append(k.raw[:0], req.Raw...)
	}
	if t&(traitNoKeys|traitTx) == 0 && s.g.view.Load().replicas {
		var ok bool
		k.keys, w.keys, ok = s.g.keysOf(k.keys[:0], w.keys, req.Spec, req.Args, s.db)
		k.all = !ok || t&traitOtherDB != 0
	}
	return k
}

// moveTo waits, when the commands in flight are on another link, until they are answered: links don't keep order among
// each other. False: the client is gone.
func (s *session) moveTo(l *link) bool {
	if s.last == l || s.last == nil {
		s.last = l
		return true
	}
	if !s.settle() {
		return false
	}
	s.last = l
	return true
}

// settle waits until nothing is in flight.
func (s *session) settle() bool {
	s.kick()
	if all, _ := s.out.inFlight(); all > 0 {
		defer s.away()()
	}
	if !s.out.drain() {
		s.leave = true
		return false
	}
	s.last = nil
	return true
}

// send gives the call its place in the order of replies and in the link. False: it has been overtaken, see output.enqueue, and is
// the caller's no more.
func (s *session) send(l *link, k *call, raw []byte) bool {
	if all, _ := s.out.inFlight(); all >= s.g.opt.SessionWindow || all > 0 && s.out.detour.Load() != nil {
		s.kick()
		defer s.away()()
	}
	switch s.out.enqueue(k, s.g.opt.SessionWindow) {
	case clientGone:
		s.leave = true
		return true
	case overtaken:
		s.skip = k.mute && !s.mute // as it was before the call was made
		k.free()
		return false
	}
	if k.route == routePrimary && !k.read && len(raw) <= keepForSwitch {
		k.raw, k.led = append(k.raw[:0], raw...), k.lead
	}
	if err := l.send(k, raw); err != nil {
		back := s.away()
		s.out.await(k) // those before it may be asked again, and then go first
		back()
		s.g.answerFailed(k, l.remote, err)
		return true
	}
	s.kickme = true
	return true
}

// match brings a connection of the session's own into the session's protocol and database.
func (s *session) match(l *link) { l.become(s.proto, s.db) }

// become brings a connection that nobody else uses into a protocol and a database.
func (l *link) become(proto, db int) {
	if l.proto != proto {
		l.proto = proto
		l.order(false, "HELLO", strconv.Itoa(proto))
	}
	if l.db != db {
		l.db = db
		l.order(false, "SELECT", strconv.Itoa(db))
	}
}

// order sends a command of the gateway's own, whose reply nobody needs.
func (l *link) order(noWait bool, args ...string) {
	c := newCall()
	c.noWait = noWait
	c.fn = func([]byte, error) {}
	if l.send(c, frame.AppendCommandString(nil, args...)) != nil {
		c.free()
	}
}

// blockRemote executes a command that may wait, on a connection of its own.
func (s *session) blockRemote(w *work, req *command.Request, c class, t trait, d decision) {
	s.exclusive(w, req, c, t, d, true)
}

// exclusive executes a command on a connection of its own, alone: after everything before it, before everything after
// it. When the client leaves a command that waits, the connection is closed at once, lest an element be lost to nobody.
func (s *session) exclusive(w *work, req *command.Request, c class, t trait, d decision, watch bool) {
	s.commit(w)
	if !s.settle() {
		return
	}
	l := s.tx.pin.l
	own := !s.tx.pin.live()
	if own {
		l = s.g.takePinned(d.node, s.proto, s.db)
	}
	if l == nil {
		if watch {
			c = classPinned // the copy here isn't to be waited for
		}
		s.unforwarded(w, req, c)
		return
	}
	s.match(l)
	s.last = l
	k := s.newCall(w, req, c, t, d)
	s.send(l, k, req.Raw)
	s.kick()
	if watch {
		stop := s.watch(func() { l.close(errClosing) })
		s.waits.Store(&waiting{end: func(asError bool) { l.unblock(asError) }})
		s.settle()
		s.waits.Store(nil)
		s.leave = stop() || s.leave
	} else {
		s.settle()
	}
	s.last = nil
	switch {
	case s.leave:
		l.close(errClosing)
	case own:
		l.whenIdle(s.g.givePinned)
	}
}

// unblock tells the command that waits on the other side of a link not to. Whether it has taken something at this
// moment is decided there.
func (l *link) unblock(asError bool) {
	how := "TIMEOUT"
	if asError {
		how = "ERROR"
	}
	l.sendBare(frame.AppendCommandString(nil, "RESPMESH", "UNBLOCK", how)) // on a lost link nothing waits
}

// replica sends a read to the nearest replica that is known to be as far as it must.
func (s *session) replica(w *work, req *command.Request, c class, t trait, v *view) {
	var need int64
	if s.sawHere {
		s.execute(w)
		s.noteSeen()
	}
	if s.mode == readNear && req.Is(command.FlagReadonly) {
		var ok bool
		w.hash, w.keys, ok = s.g.keysOf(w.hash[:0], w.keys, req.Spec, req.Args, s.db)
		if ok {
			need = s.g.ryw.need(w.hash)
		} else {
			need = s.g.ryw.needAll()
		}
	}
	for _, r := range v.reads {
		if s.mode == readAny || s.g.current(r.remote, need) {
			s.forward(w, req, c, t, decision{kind: routeReplica, node: r.node})
			return
		}
	}
	if v.primaryReachable {
		s.g.meters.waitPrimary.Inc()
		s.forward(w, req, c, t, decision{kind: routePrimary, node: v.primary})
		return
	}
	s.g.meters.waitStale.Inc()
	s.forward(w, req, c, t, decision{kind: routeReplica, node: v.reads[0].node})
}
