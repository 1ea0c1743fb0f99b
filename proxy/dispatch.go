package proxy

import (
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// handle routes one command. What it is given aliases the reader's buffer: valid until the next Fill.
func (s *session) handle(w *work, req *command.Request) {
	e := s.g.table.of(req.Spec)
	if req.Spec == nil {
		switch {
		case command.EqualFold(req.Args[0], "respmesh"):
			e = &s.g.table.respmesh
			req.Spec = s.g.table.container
		case command.IsHTTP(req.Args): // a browser was made to send this; what follows may be commands
			s.leave = true
			return
		}
	}
	if s.user == nil && !(req.Spec != nil && req.Is(command.FlagNoAuth)) {
		s.reply(w, frame.AppendError(s.begin(w), "NOAUTH Authentication required."))
		return
	}
	if s.user != nil && !s.user.free && !s.allowed(w, req, e) {
		return
	}
	s.sample(w, req)
	if len(req.Raw) >= s.g.opt.BigValue {
		s.g.bigValue(req.Args, req.Spec, len(req.Raw), "in")
	}
	if s.bounded && !s.rerouting && !s.within(w, req, e, &s.g.view.Load().settings) {
		return
	}
	if s.g.paused.Load() != nil {
		s.heed(w, req, e)
	}
	if s.g.monitored.Load() > 0 {
		s.show(req, e)
	}
	if s.sub.restricts(s, e, req.Spec) {
		s.execute(w)
		s.sub.refuse(s, w, req)
		return
	}
	if s.tx.active() || e.is(traitTx) {
		if s.transaction(w, req, e) {
			return
		}
	}
	s.dispatch(w, req, e, true)
}

// dispatch decides where a command goes, and sends it there; first: it hasn't been decided before.
func (s *session) dispatch(w *work, req *command.Request, e *entry, first bool) {
	c, t := e.class, e.traits
	if t&traitBlockOption != 0 && command.HasBlock(req.Args) {
		t |= traitBlocking
	}
	v := s.g.view.Load()
	sv := sessionView{mode: s.mode, pinned: s.tx.pin.live()}
	if s.last != nil {
		if all, writes := s.out.look(); writes > 0 {
			sv.unanswered = true
		} else if all == 0 {
			s.last, s.kickme = nil, false // somebody else's kick carried them
		}
	}
	d := route(c, t, e.self != nil, sv, v)
	if first {
		w.tally.add(c, d.kind, idOf(req.Spec))
	}
	// Writes that went to another node may be parked and come back, once this node leads.
	if s.last != nil && (d.kind == routeStore && (c == classRead || v.localPrimary) || t&traitBlocking != 0) {
		s.anew(w, req)
		return
	}
	switch d.kind {
	case routeSelf:
		if t&(traitAuth|traitHello) != 0 {
			s.commit(w) // what comes may be delayed
		}
		s.execute(w)
		s.answer(w, req, e)
	case routeNone:
		if bound := v.patience(&s.g.opt, time.Now()); c != classRefused && bound > 0 && !s.switched && !w.patient {
			s.switched, w.patient = true, true
			defer func() { s.switched = false }()
			held := clone(req)
			if s.awaitSwitch(w, bound) {
				w.patient = false
				s.handle(w, &held)
				return
			}
		}
		s.nowhere(w, req, c, v)
	case routeStore:
		s.local(w, req, c, t, v)
	case routeReplica:
		s.replica(w, req, c, t, v)
	case routePrimary:
		s.forward(w, req, c, t, d)
	case routePinned:
		switch {
		case t&(traitSubscribe|traitUnsubscribe) != 0:
			s.subscribeRemote(w, req, t, d)
		case t&traitBlocking != 0:
			s.blockRemote(w, req, c, t, d)
		case s.tx.pin.live():
			s.forward(w, req, c, t, d)
		case sv.pinned: // lost this moment
			s.nowhere(w, req, c, v)
		default:
			s.reply(w, frame.AppendError(s.begin(w), "ERR "+req.Name+" is not available on a node without a copy"))
		}
	}
}

// behind waits for what is in flight on another node, before the local store executes more. Reads there may show more than the
// copy here has, and then the read at hand must know; it costs no time, since the replies keep their order anyway. Writes that
// went there may be parked and come back, once this node leads. False: the client is gone.
func (s *session) behind(w *work) bool {
	s.commit(w)
	return s.settle()
}

// begin is where the session's next own reply is appended, after those of the batch.
func (s *session) begin(w *work) []byte {
	s.execute(w)
	return w.out
}

// reply takes back what begin gave, with one reply more.
func (s *session) reply(w *work, out []byte) {
	if s.silent() {
		return
	}
	w.out = out
}

// silent says whether the command at hand gets no reply (CLIENT REPLY).
func (s *session) silent() bool {
	if s.skip {
		s.skip = false
		return true
	}
	return s.mute
}

// answer has the session itself answer, and takes the reply back if the client doesn't want it.
func (s *session) answer(w *work, req *command.Request, e *entry) {
	muted, skip, n := s.mute, s.skip, len(w.out)
	s.skip = false
	if !req.ArityOK(len(req.Args)) {
		w.out = frame.AppendError(w.out, command.ArityError(req.Spec))
	} else {
		e.self(s, w, req.Args)
	}
	if muted && s.mute || skip {
		w.out = w.out[:min(n, len(w.out))]
	}
}

// nowhere answers a command that has no route.
func (s *session) nowhere(w *work, req *command.Request, c class, v *view) {
	if c == classRefused {
		s.tx.spoil()
		s.reply(w, frame.AppendError(s.begin(w), "NOPERM this user has no permissions to run the '"+req.Name+"' command"))
		return
	}
	s.g.meters.masterdown.Inc()
	s.reply(w, downText(s.begin(w), v.primaryRegion))
}
