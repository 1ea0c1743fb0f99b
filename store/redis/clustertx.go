package redis

import (
	"bytes"
	"context"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// clusterTx is a session's transaction on a cluster. Which node it belongs to is known when its first key is, so it is
// kept here until EXEC, which sends it whole. WATCH needs a connection of its own, on the node of the keys.
type clusterTx struct {
	open    bool
	abort   bool
	queue   []command.Request
	watched *Conn
	slot    uint16 // of the keys watched
}

// transaction handles what belongs to one. done false: the command doesn't.
func (c *ClusterConn) transaction(ctx context.Context, dst []byte, r *command.Request, k trait) (out []byte, done bool) {
	t := &c.tx
	switch {
	case !t.open && k == multi && len(r.Args) == 1:
		t.open = true
		return frame.AppendSimple(dst, "OK"), true
	case !t.open && (k == watch || k == unwatch) && r.ArityOK(len(r.Args)):
		return c.watch(ctx, dst, r, k), true
	case !t.open && k == execute:
		return frame.AppendError(dst, "ERR EXEC without MULTI"), true
	case !t.open && k == discard:
		return frame.AppendError(dst, "ERR DISCARD without MULTI"), true
	case !t.open || k == quit || k == reset:
		return dst, false
	case k == multi:
		return frame.AppendError(dst, "ERR MULTI calls can not be nested"), true
	case k == watch:
		return frame.AppendError(dst, "ERR WATCH inside MULTI is not allowed"), true
	case k == discard:
		c.endTx(ctx)
		return frame.AppendSimple(dst, "OK"), true
	case k == execute:
		out := c.exec(ctx)
		c.endTx(ctx)
		return append(dst, out...), true
	}
	switch {
	case r.Spec == nil || r.IsContainer() && len(r.Args) > 1:
		t.abort = true
		return frame.AppendError(dst, command.UnknownError(r.Args)), true
	case !r.ArityOK(len(r.Args)):
		t.abort = true
		return frame.AppendError(dst, command.ArityError(r.Spec)), true
	case r.Is(command.FlagNoMulti), k == subscribe, k == unsubscribe, k == hello, k == selects, k == stateful, k == refused:
		t.abort = true
		return frame.AppendError(dst, "ERR Command not allowed inside a transaction"), true
	}
	held := command.Request{Spec: r.Spec}
	held.Raw = bytes.Clone(r.Raw)
	for _, a := range r.Args {
		held.Args = append(held.Args, bytes.Clone(a))
	}
	t.queue = append(t.queue, held)
	return frame.AppendSimple(dst, "QUEUED"), true
}

// endTx forgets the transaction, and what it watched.
func (c *ClusterConn) endTx(ctx context.Context) {
	if n := c.tx.watched; n != nil && !n.tx.none() {
		n.Do(ctx, nil, requests([]string{"UNWATCH"}))
	}
	c.tx = clusterTx{}
}

func (c *ClusterConn) watch(ctx context.Context, dst []byte, r *command.Request, k trait) []byte {
	if k == unwatch {
		c.endTx(ctx)
		return frame.AppendSimple(dst, "OK")
	}
	for range maxRedirects {
		p := c.place(r, plain)
		if p.err != "" {
			return frame.AppendError(dst, p.err)
		}
		if c.tx.watched != nil && (c.tx.slot != p.slot || c.tx.watched != p.node) {
			return appendCrossSlot(dst)
		}
		out := p.node.Do(ctx, nil, []command.Request{*r})
		if kind, slot, addr, ok := redirection(out); ok && kind == "MOVED" {
			p.node.Do(ctx, nil, requests([]string{"UNWATCH"}))
			c.cl.moved(slot, addr)
			continue
		}
		if len(out) > 0 && out[0] == '+' {
			c.tx.watched, c.tx.slot = p.node, p.slot
		} else if c.tx.watched == nil {
			p.node.Do(ctx, nil, requests([]string{"UNWATCH"}))
		}
		return append(dst, out...)
	}
	return frame.AppendError(dst, clusterDown)
}

// exec sends the transaction, and gives EXEC's reply.
func (c *ClusterConn) exec(ctx context.Context) []byte {
	t := &c.tx
	if t.abort {
		return frame.AppendError(nil, abortText)
	}
	if len(t.queue) == 0 && t.watched == nil {
		return frame.AppendArray(nil, 0)
	}
	slot, keyed := t.slot, t.watched != nil
	for i := range t.queue {
		s, has, same := c.slotFor(&t.queue[i])
		if !same || has && keyed && s != slot {
			return appendCrossSlot(nil)
		}
		if has {
			slot, keyed = s, true
		}
	}
	reqs := append(requests([]string{"MULTI"}), t.queue...)
	reqs = append(reqs, requests([]string{"EXEC"})...)
	addr := c.cl.home()
	if s := c.cl.slots.Load().slots[slot]; keyed && s != nil {
		addr = s.primary
	}
	for try := range maxRedirects {
		n := t.watched
		if n == nil {
			if n = c.node(addr, false); n == nil {
				break
			}
		}
		var last, why []byte
		eachFrame(n.Do(ctx, nil, reqs), func(f frame.Reply) {
			last = append(last[:0], f.Raw...)
			if _, _, _, ok := redirection(f.Raw); ok || bytes.HasPrefix(f.Raw, []byte("-TRYAGAIN")) {
				why = bytes.Clone(f.Raw)
			}
		})
		if why == nil || t.watched != nil || !bytes.HasPrefix(last, []byte("-EXECABORT")) { // executed, or lost
			if keyed {
				c.wrote = n.e.Addr()
				c.cl.wrote(slot, n.e)
			}
			return last
		}
		if kind, s, to, ok := redirection(why); ok && kind == "MOVED" {
			c.cl.moved(s, to)
			addr = to
			continue
		}
		// The slot is on its way, and so are maybe only some of the keys: it will have come.
		select {
		case <-time.After(time.Duration(try+1) * 5 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
	return frame.AppendError(nil, "TRYAGAIN the keys are being moved between nodes; the transaction was not executed")
}
