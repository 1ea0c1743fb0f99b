package proxy

import (
	"bytes"
	"sync/atomic"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// subscriptions are a session's. With a store on this node they are kept by its connection and messages come through
// its push; else a pinned RESP3 link to the nearest copy carries them, on which every frame of theirs is a push.
type subscriptions struct {
	n      int // as the last confirmation said, or as sent
	remote *link
	names  map[string]struct{} // remote: kind and name of what was subscribed to
	asked  int64               // remote: confirmations to come since the link was opened
	came   *confirmations      // remote
}

// confirmations counts those that came over a link.
type confirmations struct {
	n    atomic.Int64
	more chan struct{} // has room for one: n grew
}

func (c *confirmations) add(push []byte) {
	kind := false
	frame.Reply{Raw: push}.Each(func(v frame.Reply) bool {
		kind = bytes.HasSuffix(v.Text(), []byte("subscribe"))
		return false
	})
	if !kind {
		return
	}
	c.n.Add(1)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// restricts says whether RESP2's subscriber mode forbids the command.
func (b *subscriptions) restricts(s *session, e *entry, spec *command.Spec) bool {
	if b.n == 0 || s.proto != 2 || e.is(traitSubscribe|traitUnsubscribe) {
		return false
	}
	return spec == nil || spec.Name != "ping" && spec.Name != "quit" && spec.Name != "reset"
}

func (b *subscriptions) refuse(s *session, w *work, req *command.Request) {
	name := string(bytes.ToLower(req.Args[0]))
	if req.Spec != nil {
		name = req.Name
	}
	w.out = frame.AppendError(w.out, "ERR Can't execute '"+name+
		"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
}

func (b *subscriptions) close() {
	if b.remote != nil {
		b.remote.mu.Lock()
		b.remote.onDown = nil // that end isn't the client's
		b.remote.mu.Unlock()
		b.remote.close(errClosing)
		b.remote = nil
	}
	*b = subscriptions{}
}

// subscribeHere executes a command of the SUBSCRIBE family on the local store.
func (s *session) subscribeHere(w *work, req *command.Request, t trait) {
	s.commit(w)
	if s.last != nil && !s.settle() { // lest messages overtake the confirmation
		return
	}
	if !s.tie() {
		s.storeLost(w)
		return
	}
	if t&traitSubscribe != 0 {
		s.out.holdPushes()
	}
	if s.storeID.Load() == 0 { // others may redirect their invalidations here
		id, _ := (frame.Reply{Raw: quiet(s.ctx, s.sc, "CLIENT", "ID")}).Int()
		s.storeID.Store(id)
	}
	from := len(w.out)
	w.out = s.sc.Do(s.ctx, w.out, []command.Request{*req})
	if n, ok := confirmed(w.out[from:]); ok {
		s.sub.n = n
		s.listens.Store(int32(n))
	}
	s.untie()
	if t&traitSubscribe != 0 {
		s.commit(w)
		s.out.release()
	}
}

// confirmed reads the number of subscriptions from the last confirmation.
func confirmed(out []byte) (n int, ok bool) {
	r := frame.NewReader(bytes.NewReader(out))
	var p frame.Reply
	for r.ReadReply(&p) == nil {
		if p.Kind() != frame.Array && p.Kind() != frame.Push {
			continue
		}
		p.Each(func(v frame.Reply) bool {
			if i, isInt := v.Int(); isInt {
				n, ok = int(i), true
			}
			return true
		})
	}
	return n, ok
}

// subscribeRemote sends a command of the SUBSCRIBE family to another node. Its confirmations come as pushes, which take
// no place in the order of replies: what came before must be answered, and what comes after waits for them.
func (s *session) subscribeRemote(w *work, req *command.Request, t trait, d decision) {
	if !req.ArityOK(len(req.Args)) {
		s.reply(w, frame.AppendError(s.begin(w), command.ArityError(req.Spec)))
		return
	}
	s.commit(w)
	if s.last != nil && !s.settle() {
		return
	}
	if s.sub.remote == nil && !s.listen(d.node) {
		s.unforwarded(w, req, classPinned)
		return
	}
	s.sub.note(req, t)
	s.listens.Store(int32(s.sub.n))
	if s.sub.remote.sendBare(req.Raw) != nil {
		s.leave = true
		return
	}
	for s.sub.came.n.Load() < s.sub.asked {
		select {
		case <-s.sub.came.more:
		case <-s.ctx.Done():
			s.leave = true
			return
		}
	}
}

// listen opens the link whose pushes are the client's.
func (s *session) listen(node string) bool {
	proto, came := s.proto, &confirmations{more: make(chan struct{}, 1)}
	l := s.dialOwn(node, func(p []byte) {
		if proto == 2 {
			s.out.push(downgrade(nil, p))
		} else {
			s.out.push(p)
		}
		came.add(p)
	})
	if l == nil {
		return false
	}
	s.sub.remote, s.sub.came = l, came
	return true
}

// note keeps count of the subscriptions that the other node has been asked for.
func (b *subscriptions) note(req *command.Request, t trait) {
	if b.names == nil {
		b.names = make(map[string]struct{})
	}
	kind := req.Name[:1] // s, p: SUBSCRIBE and SSUBSCRIBE may share names, so u is cut off
	switch req.Name {
	case "subscribe", "unsubscribe":
		kind = "c"
	}
	confirmed := max(1, len(req.Args)-1) // one each; for none one that says so
	switch {
	case t&traitSubscribe != 0:
		for _, a := range req.Args[1:] {
			b.names[kind+string(a)] = struct{}{}
		}
	case len(req.Args) > 1:
		for _, a := range req.Args[1:] {
			delete(b.names, kind+string(a))
		}
	default:
		before := len(b.names)
		for name := range b.names {
			if name[:1] == kind {
				delete(b.names, name)
			}
		}
		confirmed = max(1, before-len(b.names))
	}
	b.n = len(b.names)
	b.asked += int64(confirmed)
}

// downgrade turns a push into what RESP2 has for it.
func downgrade(dst, raw []byte) []byte {
	p := frame.Reply{Raw: raw}
	dst = frame.AppendArray(dst, p.Len())
	p.Each(func(v frame.Reply) bool {
		if v.IsNull() {
			dst = frame.AppendNull(dst, 2)
		} else {
			dst = append(dst, v.Raw...)
		}
		return true
	})
	return dst
}
