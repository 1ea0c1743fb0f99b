package redis

import (
	"context"
	"errors"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// tx is what a session has on a connection of its own.
//
//	none ──WATCH, MULTI, SELECT n, …──▶ own ──nothing left──▶ none
//	own ──connection lost within MULTI or WATCH──▶ lost ──EXEC, DISCARD, UNWATCH──▶ none
//
// A lost transaction goes on without a server: its commands are answered with errors and EXEC with EXECABORT. It is never
// tried again elsewhere.
type tx struct {
	p        *pipe
	proto    int  // of p
	open     bool // between MULTI and its end
	watching bool
	lost     bool
	dirty    bool // p can't be used by others any more
	db       int  // selected; -1: not known, p has to stay
	hello    int  // protocol that EXEC will set, 0: none
}

func (t *tx) none() bool { return t.p == nil && t.db == 0 && !t.lost }

func (t *tx) adopt(c *Conn, p *pipe) {
	t.p, t.proto = p, int(c.proto.Load())
	push, down := c.deliver, c.gone
	p.onPush.Store(&push)
	p.onDown.Store(&down)
}

const abortText = "EXECABORT Transaction discarded because of previous errors."

// deliver passes what comes unasked.
func (c *Conn) deliver(raw []byte) {
	if c.proto.Load() == 2 && raw[0] == '>' {
		raw = downgrade(nil, raw)
	}
	if c.push != nil {
		c.push(raw)
	}
}

// alone executes the first commands on the session's own connection: as many as needn't be looked at one by one.
func (c *Conn) alone(ctx context.Context, dst []byte, reqs []command.Request) (out []byte, n int, left bool) {
	fresh := c.tx.p == nil
	if fresh && !c.ownConn(ctx) {
		return c.e.appendDown(dst, 1), 1, false
	}
	n, last := c.run(reqs)
	patient := !c.tx.open && (last == blocking || last == waits)
	c.tx.p.patient.Store(patient)
	open := c.tx.openAfter(c.e.table, reqs[:n])
	changes := !open && c.e.table.changes(reqs[:n])
	out, err := c.exchange(ctx, c.tx.p, dst, reqs[:n], changes)
	if errors.Is(err, errNotSent) && fresh { // it was warm, and lost while it waited
		c.tx.p.onDown.Store(nil)
		c.tx.p = nil
		if c.ownConn(ctx) {
			out, err = c.exchange(ctx, c.tx.p, dst, reqs[:n], changes)
		}
	}
	if err == nil {
		c.tx.p.patient.Store(false)
		c.follow(reqs[:n], last, out[c.call.last:])
		return out, n, false
	}
	if errors.Is(err, errLeft) {
		c.tx.dirty = true
		c.leaveOwn()
		return out, n, true
	}
	sent := c.call.sent
	if errors.Is(err, errNotSent) {
		sent = 0
		c.call.got = 0
	}
	return c.lose(out, reqs[:n], sent), n, false
}

// ownConn takes a connection and brings it into the state of the session.
func (c *Conn) ownConn(ctx context.Context) bool {
	for fresh := range 2 {
		p, err := c.e.srv.take(int(c.proto.Load()), fresh == 1)
		if err != nil {
			return false
		}
		c.tx.adopt(c, p)
		if c.tx.db <= 0 {
			return true
		}
		f, err := ask(ctx, p, "SELECT", itoa(c.tx.db))
		if err == nil && !f.IsError() {
			return true
		}
		c.tx.p.onDown.Store(nil)
		c.tx.p = nil
		p.close(errLeft)
	}
	return false
}

// run says how many commands may be sent together, and what the last of them is: one whose reply decides how to go on.
func (c *Conn) run(reqs []command.Request) (n int, last trait) {
	open := c.tx.open
	for i := range reqs {
		k := c.e.table.traitFor(&reqs[i])
		switch k {
		case plain, quiet, read, watch:
		case multi:
			open = true
		case stateful:
			c.tx.dirty = true
		case execute, discard, unwatch, selects:
			return i + 1, k
		case hello:
			if open && len(reqs[i].Args) > 1 {
				c.tx.dirty, c.tx.hello = true, int(reqs[i].Args[1][0])-'0'
				continue
			}
			return i + 1, k
		case blocking, waits:
			if open { // it won't wait
				continue
			}
			if i == 0 {
				return 1, k
			}
			return i, plain
		default: // handled elsewhere
			if i == 0 {
				return 1, plain
			}
			return i, plain
		}
	}
	return len(reqs), plain
}

// openAfter says whether a transaction is open once the commands were executed: then no ROLE may come behind them.
func (t *tx) openAfter(tab *table, reqs []command.Request) bool {
	open := t.open
	for i := range reqs {
		switch tab.of(reqs[i].Spec) {
		case multi:
			open = true
		case execute, discard:
			open = false
		}
	}
	return open
}

// follow brings the session's state forward, and gives the connection back when nothing needs it any more.
func (c *Conn) follow(reqs []command.Request, last trait, reply []byte) {
	t := &c.tx
	for i := range reqs {
		switch c.e.table.of(reqs[i].Spec) {
		case multi:
			t.open = true
		case watch:
			t.watching = t.watching || !t.open
		}
	}
	switch last {
	case execute:
		if t.open && !ended(reply) {
			t.dirty = true
		}
		if t.hello == 2 || t.hello == 3 {
			if reply[0] == '*' && reply[1] != '-' {
				c.proto.Store(int32(t.hello))
			}
		}
		t.open, t.watching, t.hello = false, false, 0
	case discard:
		if t.open && reply[0] != '+' {
			t.dirty = true
		}
		t.open, t.watching, t.hello = false, false, 0
	case unwatch:
		if !t.open {
			t.watching = false
		}
	case selects:
		if t.open {
			t.dirty, t.db = true, -1
		} else if n, ok := frame.ParseInt(reqs[len(reqs)-1].Args[min(1, len(reqs[len(reqs)-1].Args)-1)]); ok && reply[0] == '+' {
			t.db = int(n)
		}
	case hello:
		if a := reqs[len(reqs)-1].Args; reply[0] != '-' && len(a) == 2 {
			t.proto = int(a[1][0] - '0')
			c.proto.Store(int32(t.proto))
		}
	}
	if !t.open && !t.watching && !t.dirty && t.db == 0 {
		c.leaveOwn()
	}
}

// ended says whether EXEC's reply means that the transaction is over, however it ended.
func ended(reply []byte) bool {
	switch reply[0] {
	case '*', '_', '$':
		return true
	}
	return len(reply) > 10 && string(reply[:10]) == "-EXECABORT"
}

// leaveOwn gives the session's connection back, or closes it if it isn't what it was.
func (c *Conn) leaveOwn() {
	t := &c.tx
	p := t.p
	if p == nil {
		return
	}
	t.p = nil
	p.onDown.Store(nil)
	if t.open || t.watching || t.dirty || t.db != 0 {
		p.close(errLeft)
	} else {
		c.e.srv.give(t.proto, p)
	}
	t.dirty = false
}

// lose answers what was unanswered when the connection was lost. What was queued hasn't been executed unless its EXEC was sent.
func (c *Conn) lose(dst []byte, reqs []command.Request, sent int64) []byte {
	t := &c.tx
	dirty := t.dirty && !t.open // tracking, a name: nobody can bring it back
	t.p.onDown.Store(nil)
	t.p, t.dirty = nil, false
	offset := int64(0)
	for i := range reqs {
		k := c.e.table.traitFor(&reqs[i])
		begun := offset < sent
		offset += int64(len(reqs[i].Raw))
		if k == multi {
			t.open = true
		}
		t.watching = t.watching || k == watch
		if i < c.call.got {
			continue
		}
		switch {
		case k == execute && t.open && begun:
			dst = c.e.appendUnknown(dst)
			t.open, t.watching = false, false
		case k == execute && t.open:
			dst = frame.AppendError(dst, abortText)
			t.open, t.watching = false, false
		case k == discard && t.open:
			dst = frame.AppendSimple(dst, "OK")
			t.open, t.watching = false, false
		case k == unwatch && !t.open:
			dst = frame.AppendSimple(dst, "OK")
			t.watching = false
		case !begun || t.open || k == watch || k == multi || k == selects || k == hello || k == read:
			dst = c.e.appendDown(dst, 1)
		default:
			dst = c.e.appendUnknown(dst)
		}
	}
	t.lost = t.open || t.watching
	if dirty {
		c.gone()
	}
	return dst
}

// inLost answers a command of a session whose transaction was lost.
func (c *Conn) inLost(ctx context.Context, dst []byte, r *command.Request, k trait) ([]byte, bool) {
	t := &c.tx
	switch {
	case k == execute && t.open:
		*t = tx{db: max(t.db, 0)}
		return frame.AppendError(dst, abortText), false
	case k == discard && t.open, k == unwatch && !t.open:
		*t = tx{db: max(t.db, 0)}
		return frame.AppendSimple(dst, "OK"), false
	case k == multi && !t.open:
		t.open = true
		return frame.AppendSimple(dst, "OK"), false
	case k == multi:
		return frame.AppendError(dst, "ERR MULTI calls can not be nested"), false
	case t.open, k == watch:
		return c.e.appendDown(dst, 1), false
	case k == execute || k == discard:
		return c.stray(dst, k), false
	}
	// Between a WATCH that was lost and its MULTI others go on.
	held := *t
	*t = tx{db: max(t.db, 0)}
	dst = c.Do(ctx, dst, []command.Request{*r})
	if c.tx.p == nil {
		held.db = c.tx.db
		c.tx = held
	}
	return dst, ctx.Err() != nil
}
