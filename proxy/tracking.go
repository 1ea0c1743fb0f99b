package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// tracking is a session's CLIENT TRACKING. The store that serves its reads remembers what was read and tells of changes:
// the local one through the session's connection to it; where there is none, the nearest replica over a link of the session's own.
// What such a session reads elsewhere (the local replica hadn't caught up, say) nobody remembers, so the client is told at
// once not to keep it. When the store or the link is lost the connection ends, and with it what the client keeps.
type tracking struct {
	on       bool
	l        *link // to the store that remembers; nil: the local one
	held     bool  // pushes are kept back until the replies at work are delivered
	flags    []string
	prefixes []string
	redirect int64 // session; 0: none
}

const badCaching = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"

// clientTracking answers CLIENT TRACKING, TRACKINGINFO, CACHING and GETREDIR.
func clientTracking(s *session, w *work, args [][]byte, sub string) {
	t := &s.track
	switch {
	case sub == "getredir":
		if !t.on {
			w.out = frame.AppendInt(w.out, -1)
		} else {
			w.out = frame.AppendInt(w.out, t.redirect)
		}
	case sub == "trackinginfo":
		t.info(s, w)
	case sub == "caching" && !t.on:
		w.error(badCaching)
	default:
		s.changeTracking(w, args, sub)
	}
}

func (t *tracking) info(s *session, w *work) {
	flags, redirect := []string{"off"}, int64(-1)
	if t.on {
		flags, redirect = append([]string{"on"}, t.flags...), t.redirect
	}
	w.out = frame.AppendMap(w.out, 3, s.proto)
	w.out = frame.AppendSet(frame.AppendBulkString(w.out, "flags"), len(flags), s.proto)
	for _, f := range flags {
		w.out = frame.AppendBulkString(w.out, f)
	}
	w.out = frame.AppendInt(frame.AppendBulkString(w.out, "redirect"), redirect)
	w.out = frame.AppendArray(frame.AppendBulkString(w.out, "prefixes"), len(t.prefixes))
	for _, p := range t.prefixes {
		w.out = frame.AppendBulkString(w.out, p)
	}
}

// changeTracking has the store that serves the session's reads execute the command.
func (s *session) changeTracking(w *work, args [][]byte, sub string) {
	next := tracking{on: sub == "caching" || len(args) > 2 && command.EqualFold(args[2], "on"), l: s.track.l}
	words := []string{"CLIENT"}
	for i := 1; i < len(args); i++ {
		word := string(args[i])
		words = append(words, word)
		switch option := strings.ToLower(word); {
		case sub == "caching" || i < 3:
		case option == "bcast" || option == "optin" || option == "optout" || option == "noloop":
			next.flags = append(next.flags, option)
		case option == "prefix" && i+1 < len(args):
			i++
			words = append(words, string(args[i]))
			next.prefixes = append(next.prefixes, string(args[i]))
		case option == "redirect" && i+1 < len(args):
			i++
			id, ok := frame.ParseInt(args[i])
			target := s.g.session(id)
			if !ok || target == nil || target.storeID.Load() == 0 {
				w.error("ERR The client ID you want redirect to does not exist, or hasn't subscribed to __redis__:invalidate")
				return
			}
			next.redirect = id
			words = append(words, strconv.FormatInt(target.storeID.Load(), 10))
		}
	}
	if sub == "caching" {
		next = s.track
	}
	v := s.g.view.Load()
	var reply []byte
	switch {
	case s.track.l != nil || v.store == nil && next.on && next.redirect == 0:
		if reply = s.trackRemote(w, v, &next, words); reply == nil {
			return
		}
	case v.store == nil:
		w.error("ERR this node has no copy of the database, and so can't redirect invalidations")
		return
	default:
		if !s.openHere(w, v) {
			return
		}
		reply = quiet(s.ctx, s.sc, words...)
	}
	if len(reply) > 0 && reply[0] != '-' {
		if !next.on && next.l != nil {
			s.untrack()
			next = tracking{}
		}
		s.track = next
		if next.on && next.l == nil && !s.tie() {
			s.storeLost(w)
			return
		}
		s.untie()
	}
	w.out = append(w.out, reply...)
}

// trackRemote has the nearest store elsewhere remember; nil: it was answered.
func (s *session) trackRemote(w *work, v *view, next *tracking, words []string) []byte {
	s.commit(w)
	if s.last != nil && !s.settle() {
		return nil
	}
	if next.l == nil {
		d := routeSubscription(v)
		if s.proto != 3 {
			w.error("ERR this node has no copy of the database: tracking needs RESP3 here, say HELLO 3 first")
			return nil
		}
		if d.kind == routePinned {
			next.l = s.dialOwn(d.node, s.out.push)
		}
		if next.l == nil {
			s.g.meters.masterdown.Inc()
			w.out = downText(w.out, v.primaryRegion)
			return nil
		}
	}
	s.match(next.l)
	var reply []byte
	k := newCall()
	k.out, k.class, k.proto, k.retried = s.out, classCount, s.proto, true
	k.replace = []byte{} // the caller answers
	k.tap = func(p []byte) { reply = bytes.Clone(p) }
	s.send(next.l, k, frame.AppendCommandString(nil, words...))
	s.last = next.l
	if !s.settle() {
		return nil
	}
	if reply == nil {
		return downText(nil, v.primaryRegion)
	}
	return reply
}

// untrack ends tracking over a link.
func (s *session) untrack() {
	if l := s.track.l; l != nil {
		l.mu.Lock()
		l.onDown = nil // that end isn't the client's
		l.mu.Unlock()
		l.close(errClosing)
	}
	s.track = tracking{}
}

// holdInvalidations keeps them back while the local store executes: the client must have what it read before it is told that
// it has changed.
func (s *session) holdInvalidations() {
	if s.track.on && !s.track.held {
		s.track.held = true
		s.out.holdPushes()
	}
}

func (s *session) releaseInvalidations() {
	if s.track.held {
		s.track.held = false
		s.out.release()
	}
}

// unremembered is called when a session that tracks has sent a read where nobody remembers it. It waits for the reply
// and tells the client that the keys have changed; without any, that all have.
func (s *session) unremembered(keys [][]byte) {
	if !s.settle() || slices.Contains(s.track.flags, "bcast") {
		return
	}
	to, proto := s, s.proto
	if s.track.redirect != 0 {
		if to = s.g.session(s.track.redirect); to == nil {
			return
		}
		proto = int(to.seenProto.Load())
	}
	var p []byte
	switch {
	case proto == 3:
		p = frame.AppendBulkString(frame.AppendPush(nil, 2, 3), "invalidate")
	case to != s:
		p = frame.AppendBulkString(frame.AppendBulkString(frame.AppendArray(nil, 3), "message"), "__redis__:invalidate")
	default:
		return
	}
	if len(keys) == 0 {
		to.out.push(frame.AppendNullArray(p, proto))
		return
	}
	p = frame.AppendArray(p, len(keys))
	for _, k := range keys {
		p = frame.AppendBulk(p, k)
	}
	to.out.push(p)
}

// keyNames copies the keys that a command names.
func keyNames(req *command.Request) (names [][]byte) {
	if req.Spec == nil {
		return nil
	}
	keys, _ := req.AppendKeys(nil, req.Args)
	for _, k := range keys {
		names = append(names, bytes.Clone(req.Args[k.Index]))
	}
	return names
}

// dialOwn opens a RESP3 link whose pushes are the client's and whose end is the client's too.
func (s *session) dialOwn(node string, push func([]byte)) *link {
	s.g.linkMu.Lock()
	defer s.g.linkMu.Unlock()
	return s.g.dialLocked(node, 3, 0, true, func(l *link) {
		l.onPush = push
		// Subscriptions and what is remembered can't be moved without a gap: the client is told by the end of its connection.
		l.onDown = func() { s.g.meters.cutLink.Inc(); s.out.cut(cutLocal) }
	})
}
