package redis

import (
	"context"
	"errors"
	"strconv"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// subs are a session's subscriptions. They live on a connection in RESP3, whatever the client speaks, since only there
// can messages be told from replies.
type subs struct {
	p     *pipe
	names map[string]struct{} // kind and name
}

// subscribe executes a command of the SUBSCRIBE family. Its confirmations are the reply.
func (c *Conn) subscribe(ctx context.Context, dst []byte, reqs []command.Request, on bool) ([]byte, bool) {
	r := &reqs[0]
	if !r.ArityOK(len(r.Args)) {
		return frame.AppendError(dst, command.ArityError(r.Spec)), false
	}
	s := &c.subs
	if s.p == nil && !s.open(c) {
		return c.e.appendDown(dst, 1), false
	}
	from := len(dst)
	k := c.call
	k.dst, k.need, k.changes, k.confirms = dst, s.note(r, on), false, true
	dst, err := c.wait(ctx, s.p, dst, reqs)
	switch {
	case errors.Is(err, errLeft):
		return dst, true
	case err != nil: // the session is told that its subscriptions are lost as well
		return c.e.appendDown(dst[:from], 1), false
	}
	if c.proto.Load() == 2 {
		dst = append(dst[:from], downgradeAll(dst[from:])...)
	}
	if len(s.names) == 0 {
		s.leave(c)
	}
	return dst, false
}

func (s *subs) open(c *Conn) bool {
	p, err := c.e.srv.take(3, len(s.names) > 0)
	if err != nil {
		return false
	}
	push := c.deliver
	down := c.gone
	p.onPush.Store(&push)
	p.onDown.Store(&down)
	if !p.alive() {
		p.onDown.Store(nil)
		return false
	}
	s.p, s.names = p, make(map[string]struct{})
	return true
}

// leave gives the connection back if it has no subscriptions, else it closes it.
func (s *subs) leave(c *Conn) {
	if s.p == nil {
		return
	}
	s.p.onDown.Store(nil)
	if len(s.names) == 0 {
		c.e.srv.give(3, s.p)
	} else {
		s.p.close(errLeft)
	}
	*s = subs{}
}

// note keeps count of the subscriptions, and says how many confirmations will come.
func (s *subs) note(r *command.Request, on bool) int {
	kind := r.Name[:1] // s, p
	switch r.Name {
	case "subscribe", "unsubscribe":
		kind = "c"
	}
	if len(r.Args) > 1 {
		for _, a := range r.Args[1:] {
			if on {
				s.names[kind+string(a)] = struct{}{}
			} else {
				delete(s.names, kind+string(a))
			}
		}
		return len(r.Args) - 1
	}
	before := len(s.names)
	for name := range s.names {
		if name[:1] == kind {
			delete(s.names, name)
		}
	}
	return max(1, before-len(s.names))
}

// downgrade appends what RESP2 has for a push.
func downgrade(dst, raw []byte) []byte {
	f := frame.Reply{Raw: raw}
	dst = frame.AppendArray(dst, f.Len())
	f.Each(func(e frame.Reply) bool {
		if e.IsNull() {
			dst = frame.AppendNull(dst, 2)
		} else {
			dst = append(dst, e.Raw...)
		}
		return true
	})
	return dst
}

// downgradeAll is downgrade for several frames, of which errors stay as they are.
func downgradeAll(raw []byte) []byte {
	var out []byte
	eachFrame(raw, func(f frame.Reply) {
		if f.Kind() == frame.Push {
			out = downgrade(out, f.Raw)
		} else {
			out = append(out, f.Raw...)
		}
	})
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }
