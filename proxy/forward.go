package proxy

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// position is how far a copy was known to be last.
type position struct {
	mu     sync.Mutex
	replid *string // nil: nothing yet
	offset int64
}

func (s *position) raise(replid *string, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replid != replid && (s.replid == nil || *s.replid != *replid) {
		s.replid, s.offset = replid, offset
	}
	s.offset = max(s.offset, offset)
}

func (s *position) get() (*string, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replid, s.offset
}

// forget is called when what was known of a copy may not hold any more: it may have been started again with less.
func (s *position) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replid = nil
}

// seenPosition is the highest that clients were shown, in the latest history.
type seenPosition struct {
	position
	former []string // names that histories had before, the latest first
}

// raise notes what was shown. After a change of the primary a copy may still be in the history before: the later one began with all
// of that which counts.
func (s *seenPosition) raise(replid *string, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch old := s.replid; {
	case old == nil:
		s.replid, s.offset = replid, offset
	case old == replid || *old == *replid:
		s.offset = max(s.offset, offset)
	case !slices.Contains(s.former, *replid):
		s.former = append([]string{*old}, s.former[:min(len(s.former), maxFormer-1)]...)
		s.replid, s.offset = replid, offset
	}
}

// reached says whether a copy at this position has all that clients were shown.
func (s *seenPosition) reached(replid string, offset int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replid == nil || *s.replid == replid && s.offset <= offset
}

// downText is the error for what can't be forwarded.
func downText(dst []byte, region string) []byte {
	return frame.AppendError(dst, "MASTERDOWN primary region "+region+" is unreachable; the command was not executed")
}

func unknownText(dst []byte, region string) []byte {
	return frame.AppendError(dst, "UNKNOWNOUTCOME link to primary region "+region+" was lost after the command was sent")
}

// keysOf appends the hashes of the keys that a command names. False: they aren't known.
func (g *Gateway) keysOf(dst []uint64, scratch []command.Key, spec *command.Spec, args [][]byte, db int) ([]uint64, []command.Key, bool) {
	if spec == nil || !spec.ArityOK(len(args)) {
		return dst, scratch, false
	}
	scratch, ok := spec.AppendKeys(scratch[:0], args)
	if !ok {
		return dst, scratch, false
	}
	for _, k := range scratch {
		dst = append(dst, g.ryw.hash(db, args[k.Index]))
	}
	return dst, scratch, true
}

// remember notes, before anybody sees the reply to c, where the copy that gave it was.
func (g *Gateway) remember(l *link, c *call) {
	v := g.view.Load()
	if l.remote.node != v.primary && c.read {
		if c.any {
			return // it may be of any age
		}
		g.seen.raise(l.replid, l.offset)
		if v = g.view.Load(); v.localUsable { // reads came home while this one was away: see moved
			g.ryw.record(l.replid, l.offset, g.applied(v, l.replid), true, nil)
		}
		return
	}
	if len(c.keys) == 0 && !c.all || !v.replicas {
		return
	}
	g.ryw.record(l.replid, l.offset, g.applied(v, l.replid), c.all, c.keys)
}

// current says whether a remote replica is known to be as far as need and as what clients have seen.
func (g *Gateway) current(r *remote, need int64) bool {
	replid, offset := r.at.get()
	if replid == nil {
		return false
	}
	if history := g.ryw.history(); history != "" && need > 0 && (history != *replid || offset < need) {
		return false
	}
	return g.seen.reached(*replid, offset)
}

// answerFailed answers a call that a link could not: a read is tried elsewhere, for the rest it is said what is known.
func (g *Gateway) answerFailed(c *call, r *remote, err error) {
	if c.race != nil {
		if c = g.arrive(c, false); c == nil {
			return
		}
	}
	if c.read && !c.retried && g.retry(c, r.node) || c.read && !c.fresh && g.readStale(c) {
		return
	}
	if c.fn != nil {
		c.fn(nil, err)
		c.free()
		return
	}
	if errors.Is(err, errNotSent) && c.route == routePrimary && c.until.IsZero() && len(c.raw) > 0 && r.node != g.view.Load().primary {
		g.park(c)
		return
	}
	var text []byte
	if c.read || errors.Is(err, errNotSent) {
		g.meters.masterdown.Inc()
		text = downText(nil, g.view.Load().primaryRegion)
	} else {
		g.meters.unknown.Inc()
		text = unknownText(nil, r.region)
	}
	if c.traced {
		g.traceCall(c, r, time.Now(), text)
	}
	out := c.out
	out.complete(c, text)
	out.flush()
}

// ask sends STATUS to the primary, which keeps its links warm, and to the replicas when reads depend on them.
func (g *Gateway) ask(t *Topology, v *view) {
	for _, m := range t.Members {
		r := g.remote(m.Node)
		if m.Node == g.opt.Node || r == nil || !(m.Node == t.Primary || m.Replica && !v.localUsable) {
			continue
		}
		if !r.asking.CompareAndSwap(false, true) {
			continue
		}
		l := g.shared(linkKey{node: m.Node, proto: 2})
		if l == nil {
			r.usable.Store(false)
			r.asking.Store(false)
			continue
		}
		args := []string{"RESPMESH", "STATUS", g.opt.Org + "/" + g.opt.Database}
		var day string
		var own int64
		if g.opt.Usage != nil && m.Node == t.Primary {
			day, own = g.opt.Usage.Own()
			args = append(args, g.opt.Node, day, strconv.FormatInt(own, 10))
		}
		c := newCall()
		c.noWait = true
		c.fn = func(reply []byte, err error) {
			if st := g.told(r, reply, err); day != "" && st.all >= own {
				g.opt.Usage.Others(day, st.all-own)
			}
			r.asking.Store(false)
		}
		raw := frame.AppendCommandString(nil, args...)
		if err := l.send(c, raw); err != nil {
			r.asking.Store(false)
			c.free()
			continue
		}
		l.kick()
	}
}

// told takes the reply to STATUS.
func (g *Gateway) told(r *remote, reply []byte, err error) status {
	was := r.usable.Load()
	st, ok := parseStatus(reply)
	if err != nil || !ok {
		st.all = -1
		r.usable.Store(false)
	} else {
		if st.heard >= 0 {
			r.heard.Store(time.Now().UnixMilli() - st.heard)
		}
		r.at.raise(&st.replid, st.offset)
		r.usable.Store(st.usable)
	}
	if r.usable.Load() != was {
		g.nudge()
	}
	return st
}
