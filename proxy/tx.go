package proxy

import (
	"strconv"
	"sync/atomic"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// tx is a session's transaction: what MULTI, EXEC, DISCARD, WATCH and UNWATCH have left behind. Where this node holds
// the primary, the store's connection keeps it; else a pinned link to the primary does:
//
//	idle ──WATCH──▶ watching ──MULTI──▶ open ──EXEC, DISCARD──▶ idle
//	  └───────────────MULTI──────────────▲
//
// When the pinned link is lost the transaction goes on as a lost one: its commands are answered with errors and
// EXEC with EXECABORT. It is never tried again on another link.
type tx struct {
	open     bool // between MULTI and EXEC or DISCARD
	here     bool // in the local store's connection
	watching bool // WATCH was sent over pin
	lost     bool
	spoiled  bool // the gateway refused a command: EXEC must fail
	pin      pin
	keys     []uint64 // that EXEC will have changed
	all      bool
	db       int // selected within the transaction; -1: none
}

// pin is the session's own link to the primary, if it has one.
type pin struct{ l *link }

func (p pin) live() bool { return p.l != nil && p.l.alive() }

// discard closes the connection: it isn't clean.
func (p *pin) discard() {
	if p.l != nil {
		p.l.close(errClosing)
		p.l = nil
	}
}

func (t *tx) active() bool { return t.open || t.watching }

func (t *tx) spoil() { t.spoiled = t.open }

const abortText = "EXECABORT Transaction discarded because of previous errors."

// transaction handles what belongs to a transaction; false: the command is to be routed like any other.
func (s *session) transaction(w *work, req *command.Request, e *entry) bool {
	t := &s.tx
	if !t.open && !e.is(traitTx) {
		if t.watching && !t.pin.live() {
			t.lost = true // MULTI will find out
		}
		return false
	}
	if t.open && e.self != nil && (req.Name == "quit" || req.Name == "reset") {
		return false
	}
	if !t.open && !req.ArityOK(len(req.Args)) {
		s.reply(w, frame.AppendError(s.begin(w), command.ArityError(req.Spec)))
		return true
	}
	if t.open && req.Spec != nil && req.Name == "hello" { // the protocol is the session's, not the transaction's
		s.reply(w, frame.AppendError(s.begin(w), "ERR Command not allowed inside a transaction"))
		t.spoil()
		if t.here {
			s.abortHere()
		}
		return true
	}
	v := s.g.view.Load()
	if t.here || !t.active() && v.localPrimary {
		s.transactionHere(w, req, e, v)
		return true
	}
	w.tally.add(e.class, routePinned)
	if !t.open {
		s.outsideMulti(w, req, e, v)
	} else {
		s.insideMulti(w, req, e, v)
	}
	return true
}

// transactionHere passes everything to the local store's connection.
func (s *session) transactionHere(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
	w.tally.add(e.class, routeStore)
	switch {
	case e.is(traitMulti) && !t.open:
		*t = tx{open: true, here: true, db: -1}
	case t.open && e.class == classRefused:
		s.reply(w, frame.AppendError(s.begin(w), "NOPERM this user has no permissions to run the '"+req.Name+"' command"))
		s.abortHere()
		return
	case t.open && e.is(traitSelect):
		if n, ok := s.database(req.Args); ok {
			t.db = n
		}
	case t.open && (e.is(traitExec) || e.is(traitDiscard)) && len(req.Args) == 1:
		db := t.db
		*t = tx{}
		if db >= 0 {
			s.execute(w)
			out := s.sc.Do(s.ctx, nil, []command.Request{*req})
			if e.is(traitExec) && len(out) > 1 && out[0] == '*' && out[1] != '-' {
				s.db, s.scDB = db, db
				s.seenDB.Store(int32(db))
			}
			if !s.silent() {
				w.out = append(w.out, out...)
			}
			return
		}
	}
	s.local(w, req, e.class, e.traits, v)
}

// abortHere makes the local store refuse the EXEC to come: it is sent a command that doesn't exist.
func (s *session) abortHere() { quiet(s.ctx, s.sc, "respmesh-refused") }

// outsideMulti handles MULTI, WATCH and UNWATCH, and EXEC and DISCARD where they don't belong.
func (s *session) outsideMulti(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
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
	if t.pin.l == nil && !t.lost && v.primaryReachable {
		s.commit(w)
		t.pin.l = s.g.takePinned(v.primary, s.proto, s.db)
	}
	if e.is(traitWatch) {
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
	if !s.pinned(w, req, e, nil) {
		s.reply(w, frame.AppendSimple(s.begin(w), "OK"))
	}
}

// insideMulti handles what comes between MULTI and its end, and the end.
func (s *session) insideMulti(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
	ends := (e.is(traitExec) || e.is(traitDiscard)) && len(req.Args) == 1
	switch {
	case e.class == classRefused:
		t.spoil()
		s.reply(w, frame.AppendError(s.begin(w), "NOPERM this user has no permissions to run the '"+req.Name+"' command"))
	case e.is(traitSubscribe | traitUnsubscribe):
		t.spoil()
		s.reply(w, frame.AppendError(s.begin(w), "ERR Command not allowed inside a transaction"))
	case ends && e.is(traitExec) && t.spoiled && !t.lost:
		discard := request("DISCARD")
		if !s.pinned(w, &discard, e, func(k *call) { k.replace = frame.AppendError(nil, abortText) }) {
			s.reply(w, frame.AppendError(s.begin(w), abortText))
		}
		s.unpin()
	case ends:
		var executed atomic.Bool
		sent := s.pinned(w, req, e, func(k *call) {
			if e.is(traitExec) {
				k.queued = false
				k.keys = append(k.keys[:0], t.keys...)
				k.all = t.all
				if t.db >= 0 {
					k.tap = func(reply []byte) { executed.Store(reply[0] == '*' && reply[1] != '-') }
				}
			}
		})
		if !sent && e.is(traitExec) {
			s.reply(w, frame.AppendError(s.begin(w), abortText))
		} else if !sent {
			s.reply(w, frame.AppendSimple(s.begin(w), "OK"))
		} else if e.is(traitExec) && t.db >= 0 && s.settle() && executed.Load() {
			s.db, t.pin.l.db = t.db, t.db // SELECT took effect with EXEC
			s.seenDB.Store(int32(t.db))
		}
		s.unpin()
	default:
		if e.is(traitSelect) {
			if n, ok := s.database(req.Args); ok {
				t.db = n
			}
		}
		if e.class != classRead && !e.is(traitNoKeys|traitTx) {
			var ok bool
			t.keys, w.keys, ok = s.g.keysOf(t.keys, w.keys, req.Spec, req.Args, max(t.db, s.db))
			t.all = t.all || !ok && e.class != classLocal || len(t.keys) > maxTxKeys
			if len(t.keys) > maxTxKeys {
				t.keys = t.keys[:0]
			}
		}
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

// unpin ends the transaction. The link is used again once everything sent over it was answered.
func (s *session) unpin() {
	l := s.tx.pin.l
	s.kick()
	keys := s.tx.keys[:0]
	s.tx = tx{keys: keys}
	if l != nil {
		l.whenIdle(s.g.givePinned)
	}
}

// database reads the index of SELECT.
func (s *session) database(args [][]byte) (int, bool) {
	if len(args) != 2 {
		return 0, false
	}
	n, err := strconv.Atoi(string(args[1]))
	return n, err == nil && n >= 0 && n < s.g.opt.Databases
}
