package proxy

import (
	"strconv"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// tx is a session's transaction: what MULTI, EXEC, DISCARD, WATCH and UNWATCH have left behind. Where this node holds
// the primary, the store's connection keeps it. Else the commands are kept here until EXEC and then travel together: a
// transaction of n commands costs one round trip. WATCH takes a pinned link to the primary, which EXEC then uses:
//
//	idle ──WATCH──▶ watching ──MULTI──▶ open ──EXEC, DISCARD──▶ idle
//	  └───────────────MULTI──────────────▲ │ ▲
//	                                       ▼ │ a command that only the primary can judge, or too much to keep
//	                                    streaming: each command is sent as it comes, over the pinned link
//
// When the pinned link is lost the transaction goes on as a lost one: EXEC is answered EXECABORT, and while streaming
// each command with an error. It is never tried again on another link.
type tx struct {
	open      bool // between MULTI and EXEC or DISCARD
	here      bool // in the local store's connection
	watchHere bool // the local store's connection has WATCHes, whether open or not
	watching  bool // WATCH was sent over pin
	streaming bool // MULTI was sent over pin
	lost      bool
	spoiled   bool // the gateway refused a command: EXEC must fail
	alone     bool // a command speaks of the connection: no shared link
	pin       pin
	buf       []byte   // MULTI and the commands since
	n         int      // how many commands that are
	keys      []uint64 // that EXEC will have changed or shown
	all       bool
	db        int // selected within the transaction; -1: none
	proto     int // of a HELLO within the transaction; 0: none
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
	if t.open && t.refuses(req, e) {
		s.reply(w, frame.AppendError(s.begin(w), "ERR Command not allowed inside a transaction"))
		t.spoil()
		if t.here {
			s.abortHere()
		}
		return true
	}
	v := s.g.view.Load()
	if t.here || !t.active() && v.localPrimary {
		if s.last != nil && !s.behind(w) {
			return true
		}
		s.transactionHere(w, req, e, v)
		return true
	}
	w.tally.add(e.class, routePinned, idOf(req.Spec))
	if !t.open {
		s.outsideMulti(w, req, e, v)
	} else {
		s.insideMulti(w, req, e, v)
	}
	return true
}

// refuses says whether a command can't be part of a transaction: the subscriptions and MONITOR, which answer with other
// frames than the one that EXEC announces, CLIENT REPLY, which would silence a connection that others use next, HELLO
// with a password or a name, which are the session's, and the gateway's own command.
func (t *tx) refuses(req *command.Request, e *entry) bool {
	return e.is(traitSubscribe|traitUnsubscribe) || e.is(traitHello) && len(req.Args) > 2 || e.is(traitNoTx)
}

// note follows what a queued command will do to the session when EXEC executes it.
func (t *tx) note(s *session, req *command.Request, e *entry) {
	switch {
	case e.is(traitSelect):
		if n, ok := s.database(req.Args); ok {
			t.db = n
		}
	case e.is(traitHello) && len(req.Args) == 2:
		if n, ok := frame.ParseInt(req.Args[1]); ok && (n == 2 || n == 3) {
			t.proto = int(n)
		}
	}
}

// changes says whether EXEC will change the session.
func (t *tx) changes() bool { return t.db >= 0 || t.proto != 0 }

// take has the session follow what EXEC executed, and says in what state the connection is that executed it.
func (t *tx) take(s *session, proto, db *int) {
	if t.db >= 0 {
		s.db, *db = t.db, t.db
		s.seenDB.Store(int32(t.db))
	}
	if t.proto != 0 {
		*proto = t.proto
		s.setProto(t.proto)
	}
}

// transactionHere passes everything to the local store's connection.
func (s *session) transactionHere(w *work, req *command.Request, e *entry, v *view) {
	t := &s.tx
	w.tally.add(e.class, routeStore, idOf(req.Spec))
	if !s.openHere(w, v) {
		return
	}
	switch {
	case (e.is(traitMulti | traitWatch)) && !t.open:
		if !s.tie() {
			s.storeLost(w)
			return
		}
		if e.is(traitWatch) {
			t.watchHere = true
			break
		}
		*t = tx{open: true, here: true, watchHere: t.watchHere, db: -1}
	case e.is(traitUnwatch) && !t.open:
		t.watchHere = false
		s.untie()
	case t.open && e.class == classRefused:
		s.reply(w, frame.AppendError(s.begin(w), "NOPERM this user has no permissions to run the '"+req.Name+"' command"))
		s.abortHere()
		return
	case t.open && e.is(traitSelect|traitHello):
		t.note(s, req, e)
	case t.open && (e.is(traitExec) || e.is(traitDiscard)) && len(req.Args) == 1:
		ended := *t
		*t = tx{}
		s.untie()
		if ended.changes() {
			s.execute(w)
			out := s.sc.Do(s.ctx, nil, []command.Request{*req})
			if e.is(traitExec) && executed(out) {
				ended.take(s, &s.scProto, &s.scDB)
			}
			if !s.silent() {
				w.out = append(w.out, out...)
			}
			return
		}
	}
	s.local(w, req, e.class, e.traits, v)
}

// executed says whether EXEC's reply has the commands' replies.
func executed(exec []byte) bool { return len(exec) > 1 && exec[0] == '*' && exec[1] != '-' }

// abortHere makes the local store refuse the EXEC to come: it is sent a command that doesn't exist.
func (s *session) abortHere() { quiet(s.ctx, s.sc, "respmesh-refused") }

// database reads the index of SELECT.
func (s *session) database(args [][]byte) (int, bool) {
	if len(args) != 2 {
		return 0, false
	}
	n, err := strconv.Atoi(string(args[1]))
	return n, err == nil && n >= 0 && n < s.g.opt.Databases
}
