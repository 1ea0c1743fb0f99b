package proxy

import (
	"bytes"
	"strings"
	"sync/atomic"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// outsideMulti handles MULTI, WATCH and UNWATCH, and EXEC and DISCARD where they don't belong.
func (s *session) outsideMulti(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
	if t.watchHere { // this node held the primary then; what has changed since isn't known
		s.execute(w)
		s.leaveWatch()
		t.lost = e.is(traitMulti | traitWatch)
	}
	switch {
	case e.is(traitExec | traitDiscard):
		name := map[bool]string{true: "EXEC", false: "DISCARD"}[e.is(traitExec)]
		s.reply(w, frame.AppendError(s.begin(w), "ERR "+name+" without MULTI"))
		return
	case e.is(traitUnwatch) && !t.watching:
		s.reply(w, frame.AppendSimple(s.begin(w), "OK"))
		return
	case e.is(traitUnwatch):
		if s.pinned(w, req, e, nil) {
			s.unpin()
		} else {
			s.reply(w, frame.AppendSimple(s.begin(w), "OK"))
			s.unpin()
		}
		return
	}
	if e.is(traitWatch) {
		s.takePin(w, v)
		if !s.pinned(w, req, e, nil) {
			s.unpin()
			s.g.meters.masterdown.Inc()
			s.reply(w, downText(s.begin(w), v.primaryRegion))
			return
		}
		t.watching = true
		return
	}
	t.open, t.db = true, -1
	t.buf = append(t.buf[:0], req.Raw...)
	s.reply(w, frame.AppendSimple(s.begin(w), "OK"))
}

// takePin has the session own a link to the primary.
func (s *session) takePin(w *work, v *view) {
	if t := &s.tx; t.pin.l == nil && !t.lost && v.primaryReachable {
		s.commit(w)
		t.pin.l = s.g.takePinned(v.primary, s.proto, s.db)
	}
}

// insideMulti handles what comes between MULTI and its end, and the end.
func (s *session) insideMulti(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
	if !t.streaming && (req.Spec == nil || len(t.buf)+len(req.Raw) > s.g.opt.LargeCommand && !e.is(traitTx)) {
		s.stream(w, v)
	}
	if t.streaming {
		s.streamed(w, req, e, v)
		return
	}
	fail := func(text string) { s.reply(w, frame.AppendError(s.begin(w), text)) }
	switch {
	case e.class == classRefused:
		t.spoil()
		fail("NOPERM this user has no permissions to run the '" + req.Name + "' command")
	case e.is(traitExec) && !req.ArityOK(len(req.Args)):
		fail("EXECABORT Transaction discarded because of: " + strings.TrimPrefix(command.ArityError(req.Spec), "ERR "))
		s.forget()
	case !req.ArityOK(len(req.Args)):
		t.spoil()
		fail(command.ArityError(req.Spec))
	case req.IsContainer() && len(req.Args) > 1:
		t.spoil()
		fail(command.UnknownError(req.Args))
	case e.is(traitMulti):
		fail("ERR MULTI calls can not be nested")
	case e.is(traitWatch):
		fail("ERR WATCH inside MULTI is not allowed")
	case e.is(traitDiscard):
		s.reply(w, frame.AppendSimple(s.begin(w), "OK"))
		s.forget()
	case e.is(traitExec) && t.spoiled:
		fail(abortText)
		s.forget()
	case e.is(traitExec):
		s.sendBatch(w, req, e, v)
	default:
		t.note(s, req, e)
		t.queue(s, w, req, e)
		t.alone = t.alone || e.class == classLocal && req.Parent() != nil // CLIENT
		t.buf = append(t.buf, req.Raw...)
		t.n++
		s.reply(w, frame.AppendSimple(s.begin(w), "QUEUED"))
	}
}

// forget ends a transaction that wasn't sent.
func (s *session) forget() {
	if s.tx.watching && s.tx.pin.live() {
		s.tx.pin.l.order(false, "UNWATCH")
		s.kickme = true
		s.tx.pin.l.kick()
	}
	s.unpin()
}

// queue remembers which keys EXEC will concern. Reads too: what they show mustn't go back.
func (t *tx) queue(s *session, w *work, req *command.Request, e *entry) {
	if e.is(traitNoKeys | traitTx) {
		return
	}
	db := s.db
	if t.db >= 0 {
		db = t.db
	}
	var ok bool
	t.keys, w.keys, ok = s.g.keysOf(t.keys, w.keys, req.Spec, req.Args, db)
	t.all = t.all || !ok && e.class != classLocal || e.is(traitOtherDB) || len(t.keys) > maxTxKeys
	if len(t.keys) > maxTxKeys {
		t.keys = t.keys[:0]
	}
}

// sendBatch is EXEC: the whole transaction travels at once. No other command comes between on a shared link, since one
// send is one piece of it; but what changes the connection's state, or is big, takes one of its own.
func (s *session) sendBatch(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
	raw := append(t.buf, req.Raw...)
	t.buf = raw
	own := t.watching || t.alone || t.changes() || len(raw) >= s.g.opt.LargeCommand
	if s.last != nil && !t.watching && (own || s.last != s.shared(v.primary, false)) {
		s.commit(w)
		if !s.settle() {
			return
		}
		v = s.g.view.Load() // as in anew
	}
	var l *link
	switch {
	case t.lost || t.watching && !t.pin.live():
		s.reply(w, frame.AppendError(s.begin(w), abortText))
		s.unpin()
		return
	case t.watching:
		l = t.pin.l
	case v.localPrimary: // since MULTI
		s.batchHere(w, raw, v)
		s.unpin()
		return
	case own:
		s.takePin(w, v)
		l = t.pin.l
	case v.primaryReachable:
		l = s.shared(v.primary, false)
	}
	if l == nil {
		s.g.meters.masterdown.Inc()
		s.reply(w, downText(s.begin(w), v.primaryRegion))
		s.unpin()
		return
	}
	s.commit(w)
	if !s.moveTo(l) {
		return
	}
	if own && !t.watching {
		s.match(l)
	}
	d := decision{kind: routePrimary}
	if own {
		d.kind = routePinned
	}
	k := s.newCall(w, req, e.class, e.traits, d)
	k.keys, k.all = append(k.keys[:0], t.keys...), t.all
	k.lead, k.last = t.n+1, len(req.Raw)
	var done atomic.Bool
	if t.changes() {
		k.tap = func(reply []byte) { done.Store(executed(reply)) }
	}
	s.send(l, k, raw)
	if s.track.on {
		defer s.unremembered(nil)
	}
	if t.changes() && s.settle() && done.Load() {
		t.take(s, &l.proto, &l.db)
	}
	s.unpin()
}

// batchHere executes a whole transaction on the local store.
func (s *session) batchHere(w *work, raw []byte, v *view) {
	s.commit(w)
	if s.last != nil && !s.settle() {
		return
	}
	if !s.openHere(w, v) {
		return
	}
	r := frame.NewReader(bytes.NewReader(raw))
	r.SetLimits(s.g.opt.Limits)
	var out []byte
	for {
		var req command.Request
		if r.ReadCommand(&req.Command) != nil {
			break
		}
		req.Spec = command.Lookup(req.Args)
		out = s.sc.Do(s.ctx, out[:0], []command.Request{req})
	}
	if s.tx.changes() && executed(out) {
		s.tx.take(s, &s.scProto, &s.scDB)
	}
	s.reply(w, append(s.begin(w), out...))
}

// stream has the transaction go on over a link of the session's own.
func (s *session) stream(w *work, v *view) {
	t := &s.tx
	t.streaming = true
	s.takePin(w, v)
	if t.lost || !t.pin.live() {
		t.lost = true
		return
	}
	if !s.moveTo(t.pin.l) {
		return
	}
	s.match(t.pin.l)
	k := newCall()
	k.fn = func([]byte, error) {}
	k.queued, k.lead = true, t.n
	if t.pin.l.send(k, t.buf) != nil {
		k.free()
		t.lost = true
	}
	t.buf = nil
}

// streamed is insideMulti while streaming.
func (s *session) streamed(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
	ends := (e.is(traitExec) || e.is(traitDiscard)) && len(req.Args) == 1
	switch {
	case e.class == classRefused:
		t.spoil()
		s.reply(w, frame.AppendError(s.begin(w), "NOPERM this user has no permissions to run the '"+req.Name+"' command"))
	case ends && e.is(traitExec) && t.spoiled && !t.lost:
		discard := request("DISCARD")
		if !s.pinned(w, &discard, e, func(k *call) { k.replace = frame.AppendError(nil, abortText) }) {
			s.reply(w, frame.AppendError(s.begin(w), abortText))
		}
		s.unpin()
	case ends:
		var done atomic.Bool
		sent := s.pinned(w, req, e, func(k *call) {
			if e.is(traitExec) {
				k.queued = false
				k.keys = append(k.keys[:0], t.keys...)
				k.all = t.all
				if t.changes() {
					k.tap = func(reply []byte) { done.Store(executed(reply)) }
				}
			}
		})
		if !sent && e.is(traitExec) {
			s.reply(w, frame.AppendError(s.begin(w), abortText))
		} else if !sent {
			s.reply(w, frame.AppendSimple(s.begin(w), "OK"))
		} else if e.is(traitExec) && t.changes() && s.settle() && done.Load() {
			t.take(s, &t.pin.l.proto, &t.pin.l.db)
		}
		s.unpin()
	default:
		t.note(s, req, e)
		t.queue(s, w, req, e)
		if !s.pinned(w, req, e, nil) {
			s.g.meters.masterdown.Inc()
			s.reply(w, downText(s.begin(w), v.primaryRegion))
		}
	}
}

const maxTxKeys = 4096

// pinned sends a command over the session's own link. False: that is lost (or never was), and the transaction with it.
func (s *session) pinned(w *work, req *command.Request, e *entry, with func(*call)) bool {
	t := &s.tx
	if t.lost || !t.pin.live() {
		t.lost = true
		return false
	}
	s.commit(w)
	if !s.moveTo(t.pin.l) {
		return true
	}
	if !t.open || e.is(traitMulti) {
		s.match(t.pin.l)
	}
	k := s.newCall(w, req, e.class, e.traits|traitNoKeys, decision{kind: routePinned})
	k.queued = true
	if with != nil {
		with(k)
	}
	s.send(t.pin.l, k, req.Raw)
	return true
}

// unpin ends the transaction. The link is used again once everything sent over it was answered, unless the client has
// gone: then what ends the transaction may not have been sent.
func (s *session) unpin() {
	l := s.tx.pin.l
	s.kick()
	s.tx = tx{keys: s.tx.keys[:0]}
	switch {
	case l == nil:
	case s.leave:
		l.close(errClosing)
	default:
		l.whenIdle(s.g.givePinned)
	}
}
