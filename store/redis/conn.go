package redis

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Conn is a session. One goroutine at a time may use it.
type Conn struct {
	e     *Engine
	id    int
	push  func([]byte)
	lost  atomic.Pointer[func()]
	proto atomic.Int32 // read where pushes come
	call  *call
	tx    tx
	subs  subs
	ended bool
}

// OnLost has f called, from any goroutine, when the session has lost something that can't be brought back, such as its
// subscriptions: the client is best told by the end of its connection.
func (c *Conn) OnLost(f func()) { c.lost.Store(&f) }

func (c *Conn) gone() {
	if f := c.lost.Load(); f != nil {
		(*f)()
	}
}

// Do executes the commands in order and appends their replies, one each, to dst. When ctx ends, what hasn't been answered
// isn't any more: commands on their way may still be executed.
func (c *Conn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	for len(reqs) > 0 {
		n := 0
		if c.tx.none() {
			n = c.common(reqs)
		}
		var left bool
		if n > 0 {
			dst, left = c.share(ctx, dst, reqs[:n], false)
		} else {
			dst, n, left = c.special(ctx, dst, reqs)
		}
		if left {
			break
		}
		reqs = reqs[n:]
	}
	return dst
}

// common counts the commands at the beginning that may travel on a shared connection.
func (c *Conn) common(reqs []command.Request) int {
	for i := 0; i < len(reqs); {
		if len(reqs[i].Raw) >= c.e.opt.LargeCommand {
			return i
		}
		switch c.e.table.traitFor(&reqs[i]) {
		case plain, quiet, read:
			i++
		case multi:
			n := c.whole(reqs[i:])
			if n == 0 {
				return i
			}
			i += n
		default:
			return i
		}
	}
	return len(reqs)
}

// whole is the length of the transaction that begins here, 0 if it doesn't end here or holds more than plain commands.
func (c *Conn) whole(reqs []command.Request) int {
	for i := 1; i < len(reqs); i++ {
		if len(reqs[i].Raw) >= c.e.opt.LargeCommand {
			return 0
		}
		switch c.e.table.of(reqs[i].Spec) {
		case plain, quiet, read, blocking, optional:
		case execute, discard:
			if len(reqs[i].Args) == 1 {
				return i + 1
			}
			return 0
		default:
			return 0
		}
	}
	return 0
}

// share executes commands on a shared connection. again: they have been on one that was lost.
func (c *Conn) share(ctx context.Context, dst []byte, reqs []command.Request, again bool) (out []byte, left bool) {
	changes := c.e.table.changes(reqs)
	var p *pipe
	var err error
	for range 3 { // a connection that is found lost before anything was sent doesn't count
		if p, err = c.e.srv.shared(int(c.proto.Load()), c.id, p); err != nil {
			return c.e.appendDown(dst, len(reqs)), false
		}
		if dst, err = c.exchange(ctx, p, dst, reqs, changes); !errors.Is(err, errNotSent) {
			break
		}
	}
	switch {
	case err == nil:
		return dst, false
	case errors.Is(err, errLeft):
		return dst, true
	case errors.Is(err, errNotSent):
		return c.e.appendDown(dst, len(reqs)), false
	}
	return c.afterLoss(ctx, dst, reqs, again)
}

// afterLoss answers what a lost connection left unanswered: reads are tried once more, of the rest it is said what is known.
func (c *Conn) afterLoss(ctx context.Context, dst []byte, reqs []command.Request, again bool) (out []byte, left bool) {
	sent, got := c.call.sent, c.call.got
	inTx := false
	for len(reqs) > 0 {
		n := 1
		switch k := c.e.table.traitFor(&reqs[0]); {
		case got > 0: // answered
			got--
		case k == read && !again && !inTx:
			for n < len(reqs) && c.e.table.traitFor(&reqs[n]) == read {
				n++
			}
			if dst, left = c.share(ctx, dst, reqs[:n], true); left {
				return dst, true
			}
		case k == read && !inTx, sent <= 0:
			dst = c.e.appendDown(dst, 1)
		default:
			inTx = k == multi || inTx && k != execute && k != discard
			dst = c.e.appendUnknown(dst)
		}
		for i := range n {
			sent -= int64(len(reqs[i].Raw))
		}
		reqs = reqs[n:]
	}
	return dst, false
}

// exchange sends commands and waits for their replies. errNotSent: no byte has left; errLeft: ctx has ended; otherwise
// c.call says what was answered and sent.
func (c *Conn) exchange(ctx context.Context, p *pipe, dst []byte, reqs []command.Request, changes bool) ([]byte, error) {
	k := c.call
	k.dst, k.need, k.changes, k.confirms = dst, len(reqs), changes, false
	return c.wait(ctx, p, dst, reqs)
}

func (c *Conn) wait(ctx context.Context, p *pipe, dst []byte, reqs []command.Request) ([]byte, error) {
	k := c.call
	if err := p.exchange(ctx, k, reqs); err != nil {
		if errors.Is(err, errLeft) {
			c.call = newCall() // that one is the pipe's
		}
		return dst, err
	}
	out := k.dst
	k.dst = nil
	if k.err != nil && k.got == 0 {
		out = out[:len(dst)]
	}
	return out, k.err
}

// special executes the first command, or a few, of those that need more than a shared connection.
func (c *Conn) special(ctx context.Context, dst []byte, reqs []command.Request) (out []byte, n int, left bool) {
	r := &reqs[0]
	k := c.e.table.traitFor(r)
	switch {
	case k == refused && r.Name == "monitor" && !c.tx.open:
		dst, left = c.monitor(ctx, dst, reqs[:1])
	case k == refused:
		dst = frame.AppendError(dst, "ERR "+r.Name+" isn't available through this node")
	case k == quit:
		dst = frame.AppendSimple(dst, "OK")
	case k == reset:
		c.clear()
		dst = frame.AppendSimple(dst, "RESET")
	case (k == subscribe || k == unsubscribe) && c.tx.open:
		dst = frame.AppendError(dst, "ERR Command not allowed inside a transaction")
	case k == subscribe || k == unsubscribe:
		dst, left = c.subscribe(ctx, dst, reqs[:1], k == subscribe)
	case c.tx.lost:
		dst, left = c.inLost(ctx, dst, r, k)
	case c.tx.open:
		return c.alone(ctx, dst, reqs)
	case k == hello && len(r.Args) > 2:
		dst = frame.AppendError(dst, "ERR HELLO with options isn't available through this node")
	case k == hello && c.tx.p == nil && c.tx.db == 0:
		dst, left = c.hello(ctx, dst, reqs[:1])
	case k == selects && c.tx.p == nil && c.tx.db == 0 && len(r.Args) == 2 && string(r.Args[1]) == "0":
		dst = frame.AppendSimple(dst, "OK")
	case k == waits:
		dst, left = c.waitReplicas(ctx, dst, r)
	case k == aside, c.tx.p == nil && c.tx.db == 0 && (k == blocking || k <= read): // the latter when large
		dst, left = c.once(ctx, dst, reqs[:1])
	case k == execute || k == discard || k == unwatch:
		if c.tx.p == nil {
			return c.stray(dst, k), 1, false
		}
		return c.alone(ctx, dst, reqs)
	default:
		return c.alone(ctx, dst, reqs)
	}
	return dst, 1, left
}

// stray answers what ends a transaction where there is none.
func (c *Conn) stray(dst []byte, k trait) []byte {
	switch k {
	case execute:
		return frame.AppendError(dst, "ERR EXEC without MULTI")
	case discard:
		return frame.AppendError(dst, "ERR DISCARD without MULTI")
	}
	return frame.AppendSimple(dst, "OK")
}

// hello moves the session to the connections of another protocol.
func (c *Conn) hello(ctx context.Context, dst []byte, reqs []command.Request) ([]byte, bool) {
	if len(reqs[0].Args) == 2 {
		if v := string(reqs[0].Args[1]); v == "2" || v == "3" {
			c.proto.Store(int32(v[0] - '0'))
		}
	}
	return c.share(ctx, dst, reqs, false)
}

// once executes one command on a connection of its own, which is as before afterwards.
func (c *Conn) once(ctx context.Context, dst []byte, reqs []command.Request) (out []byte, left bool) {
	proto := int(c.proto.Load())
	for fresh := range 2 {
		p, err := c.e.srv.take(proto, fresh == 1)
		if err != nil {
			return c.e.appendNone(dst, err, len(reqs)), false
		}
		p.patient.Store(true)
		dst, err = c.exchange(ctx, p, dst, reqs, c.e.table.changes(reqs))
		p.patient.Store(false)
		switch {
		case err == nil:
			c.e.srv.give(proto, p)
			return dst, false
		case errors.Is(err, errLeft):
			p.close(errLeft) // at once: what the server has for it from now on would be lost
			return dst, true
		case !errors.Is(err, errNotSent):
			return c.afterLoss(ctx, dst, reqs, false)
		}
	}
	return c.e.appendDown(dst, len(reqs)), false
}

// waitReplicas executes WAIT. It is about the writes of the connection that it comes over, and any command makes the
// server take all writes so far for the connection's: so a PING goes before it.
func (c *Conn) waitReplicas(ctx context.Context, dst []byte, r *command.Request) ([]byte, bool) {
	if c.tx.p != nil {
		out, _, left := c.alone(ctx, dst, []command.Request{*r})
		return out, left
	}
	two := append(requests([]string{"PING"}), *r)
	from := len(dst)
	out, left := c.once(ctx, dst, two)
	if left {
		return out, true
	}
	first := bytes.IndexByte(out[from:], '\n') + 1
	return append(out[:from], out[from+first:]...), false
}

// monitor gives the session what MONITOR shows, as pushes, until RESET or its end.
func (c *Conn) monitor(ctx context.Context, dst []byte, reqs []command.Request) ([]byte, bool) {
	c.leaveOwn()
	p, err := c.e.srv.take(int(c.proto.Load()), true)
	if err != nil {
		return c.e.appendNone(dst, err, 1), false
	}
	c.tx.adopt(c, p)
	c.tx.dirty = true
	p.stray.Store(true)
	dst, err = c.exchange(ctx, p, dst, reqs, false)
	if err != nil {
		c.leaveOwn()
		return c.e.appendDown(dst, 1), errors.Is(err, errLeft)
	}
	return dst, false
}

// clear is what RESET does.
func (c *Conn) clear() {
	c.leaveOwn()
	c.subs.leave(c)
	c.tx = tx{}
	c.proto.Store(2)
}

// Close gives everything back. No Do may be under way.
func (c *Conn) Close() error {
	if !c.ended {
		c.ended = true
		c.clear()
	}
	return nil
}

// requests makes a request of the engine's own.
func requests(args ...[]string) []command.Request {
	out := make([]command.Request, 0, len(args)+1)
	for _, a := range args {
		var r command.Request
		r.Raw = frame.AppendCommandString(nil, a...)
		for _, s := range a {
			r.Args = append(r.Args, []byte(s))
		}
		r.Spec = command.Lookup(r.Args)
		out = append(out, r)
	}
	return out
}
