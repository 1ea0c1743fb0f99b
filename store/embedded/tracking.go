package embedded

import (
	"math"
	"slices"
	"strings"
	"sync"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Client-side caching (https://redis.io/docs/latest/develop/reference/client-side-caching/): the engine remembers which
// session has read which key, or which prefixes it listens to, and pushes an invalidation when one is changed.

// trackingKeys is Redis's default for tracking-table-max-keys.
const trackingKeys = 1_000_000

// trackState is a session's tracking.
type trackState struct {
	bcast, optin, optout, noloop bool
	caching                      bool // CLIENT CACHING was said for the next command
	broken                       bool // the session it redirects to is gone
	redirect                     int64
	prefixes                     []string
}

// tracking is who is to be told of which key. Reading commands, which share the engine's lock, add to keys; all else needs
// the write lock.
type tracking struct {
	sessions int // that track

	mu    sync.Mutex
	max   int64
	keys  map[string]map[int64]bool // by key's name, whatever the database, as in Redis: ids of sessions
	items int

	prefixes map[string]*trackedPrefix
}

// trackedPrefix is who listens to changes of keys with a prefix, and what they are yet to be told.
type trackedPrefix struct {
	conns   []*Conn
	changed map[string]*Conn // who changed the key
	order   []string
}

func (t *tracking) init() {
	t.max, t.keys, t.prefixes = trackingKeys, map[string]map[int64]bool{}, map[string]*trackedPrefix{}
}

func (t *tracking) limit() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.max
}

func (t *tracking) setLimit(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.max = n
}

// remember notes the keys that a command has read for a session that tracks.
func (x *call) remember(spec *command.Spec, args [][]byte) {
	c := x.c
	s := c.track
	if s.bcast || s.optin && !s.caching || s.optout && s.caching {
		return
	}
	keys, _ := spec.AppendKeys(nil, args)
	t := &x.e.tracking
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		ids := t.keys[string(args[k.Index])]
		if ids == nil {
			ids = map[int64]bool{}
			t.keys[string(args[k.Index])] = ids
		}
		if !ids[c.id] {
			ids[c.id] = true
			t.items++
		}
	}
}

// trimTracking forgets keys beyond the limit; who has read them is told that they have changed. Needs the write lock.
func (e *Engine) trimTracking() {
	t := &e.tracking
	if t.max == 0 || int64(len(t.keys)) <= t.max {
		return
	}
	for key := range t.keys {
		e.invalidate(bytesOf(key))
		if int64(len(t.keys)) <= t.max {
			return
		}
	}
}

// invalidate tells who tracks the key that it was changed. Needs the write lock.
func (e *Engine) invalidate(key []byte) {
	t := &e.tracking
	for prefix, p := range t.prefixes {
		if !strings.HasPrefix(string(key), prefix) {
			continue
		}
		if _, known := p.changed[string(key)]; !known {
			p.order = append(p.order, string(key))
		}
		p.changed[string(key)] = e.current
	}
	ids := t.keys[string(key)]
	if ids == nil {
		return
	}
	delete(t.keys, string(key))
	t.items -= len(ids)
	for id := range ids {
		c := e.connByID(id)
		if c == nil || c.track == nil || c.track.bcast || c == e.current && c.track.noloop {
			continue
		}
		e.sendInvalidation(c, [][]byte{key})
	}
}

// invalidateAll tells all who track that everything has changed: databases were emptied.
func (e *Engine) invalidateAll() {
	t := &e.tracking
	if t.sessions == 0 {
		return
	}
	for _, c := range e.connsBy(func(c *Conn) bool { return c.track != nil }) {
		e.sendInvalidation(c, nil)
	}
	clear(t.keys)
	t.items = 0
}

// broadcast tells those who listen to prefixes what has changed since. Needs the write lock.
func (e *Engine) broadcast() {
	for _, p := range e.tracking.prefixes {
		if len(p.order) == 0 {
			continue
		}
		for _, c := range p.conns {
			var keys [][]byte
			for _, key := range p.order {
				if !c.track.noloop || p.changed[key] != c {
					keys = append(keys, bytesOf(key))
				}
			}
			if len(keys) > 0 {
				e.sendInvalidation(c, keys)
			}
		}
		p.changed, p.order = map[string]*Conn{}, nil
	}
}

// sendInvalidation sends keys, nil for all, to a session or to the one it redirects to.
func (e *Engine) sendInvalidation(c *Conn, keys [][]byte) {
	to := c
	if c.track.redirect != 0 {
		if to = e.connByID(c.track.redirect); to == nil {
			c.track.broken = true
			if c.proto >= 3 {
				p := frame.AppendBulkString(frame.AppendPush(nil, 2, 3), "tracking-redir-broken")
				e.pushTo(c, frame.AppendInt(p, c.track.redirect))
			}
			return
		}
	}
	var p []byte
	switch {
	case to.proto >= 3:
		p = frame.AppendBulkString(frame.AppendPush(nil, 2, 3), "invalidate")
	case to != c && to.subs.count() > 0:
		p = frame.AppendBulkString(frame.AppendArray(nil, 3), "message")
		p = frame.AppendBulkString(p, "__redis__:invalidate")
	default:
		return
	}
	if keys == nil {
		p = frame.AppendNull(p, c.proto)
	} else {
		p = frame.AppendArray(p, len(keys))
		for _, k := range keys {
			p = frame.AppendBulk(p, k)
		}
	}
	e.pushTo(to, p)
}

// pushTo pushes a frame to a session; to the one whose command is under way it goes after the command's reply.
func (e *Engine) pushTo(c *Conn, p []byte) {
	if c == e.current {
		e.own = append(e.own, p...)
		return
	}
	c.push(p)
}

func (e *Engine) connByID(id int64) *Conn {
	e.connsMu.Lock()
	defer e.connsMu.Unlock()
	return e.conns[id]
}

// untrack ends a session's tracking. Needs the write lock.
func (e *Engine) untrack(c *Conn) {
	if c.track == nil {
		return
	}
	for _, prefix := range c.track.prefixes {
		p := e.tracking.prefixes[prefix]
		p.conns = slices.DeleteFunc(p.conns, func(o *Conn) bool { return o == c })
		if len(p.conns) == 0 {
			delete(e.tracking.prefixes, prefix)
		}
	}
	c.track = nil
	e.tracking.sessions--
}

// redirected is what CLIENT GETREDIR says.
func (c *Conn) redirected() int64 {
	if c.track == nil {
		return -1
	}
	return c.track.redirect
}

// --- commands ---

func clientTracking(x *call) {
	want := trackState{}
	for i := 3; i < len(x.args); i++ {
		more := i+1 < len(x.args)
		switch a := x.args[i]; {
		case is(a, "REDIRECT") && more:
			i++
			if want.redirect != 0 {
				x.err("ERR A client can only redirect to a single other client")
				return
			}
			n, ok := x.argRange(x.args[i], math.MinInt64, math.MaxInt64, errNotInt)
			if !ok {
				return
			}
			if x.e.connByID(n) == nil {
				x.err("ERR The client ID you want redirect to does not exist")
				return
			}
			want.redirect = n
		case is(a, "BCAST"):
			want.bcast = true
		case is(a, "OPTIN"):
			want.optin = true
		case is(a, "OPTOUT"):
			want.optout = true
		case is(a, "NOLOOP"):
			want.noloop = true
		case is(a, "PREFIX") && more:
			i++
			want.prefixes = append(want.prefixes, string(x.args[i]))
		default:
			x.syntax()
			return
		}
	}
	switch {
	case is(x.args[2], "ON"):
		x.track(&want)
	case is(x.args[2], "OFF"):
		x.e.untrack(x.c)
		x.ok()
	default:
		x.syntax()
	}
}

func (x *call) track(want *trackState) {
	c, have := x.c, x.c.track
	switch {
	case !want.bcast && len(want.prefixes) > 0:
		x.err("ERR PREFIX option requires BCAST mode to be enabled")
		return
	case have != nil && have.bcast != want.bcast:
		x.err("ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it " +
			"with a different mode.")
		return
	case want.bcast && (want.optin || want.optout):
		x.err("ERR OPTIN and OPTOUT are not compatible with BCAST")
		return
	case want.optin && want.optout:
		x.err("ERR You can't specify both OPTIN mode and OPTOUT mode")
		return
	case have != nil && (want.optin && have.optout || want.optout && have.optin):
		x.err("ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it " +
			"with a different mode.")
		return
	case c.push == nil:
		x.err("ERR CLIENT TRACKING is not possible on this connection")
		return
	}
	if want.bcast {
		if len(want.prefixes) == 0 && (have == nil || len(have.prefixes) == 0) {
			want.prefixes = []string{""}
		}
		if clash := overlapping(have, want.prefixes); clash != "" {
			x.errf("%s", clash)
			return
		}
	}
	if have == nil {
		x.e.tracking.sessions++
		have = &trackState{}
		c.track = have
	}
	added := want.prefixes
	want.prefixes = have.prefixes
	*have = *want
	for _, prefix := range added {
		if slices.Contains(have.prefixes, prefix) {
			continue
		}
		p := x.e.tracking.prefixes[prefix]
		if p == nil {
			p = &trackedPrefix{changed: map[string]*Conn{}}
			x.e.tracking.prefixes[prefix] = p
		}
		p.conns = append(p.conns, c)
		have.prefixes = append(have.prefixes, prefix)
	}
	x.ok()
}

// overlapping is the error for prefixes of one session that overlap.
func overlapping(have *trackState, prefixes []string) string {
	clash := func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
	for i, p := range prefixes {
		if have != nil {
			for _, q := range have.prefixes {
				if clash(p, q) {
					return "ERR Prefix '" + p + "' overlaps with an existing prefix '" + q + "'. Prefixes for a single client must not overlap."
				}
			}
		}
		for _, q := range prefixes[i+1:] {
			if clash(p, q) {
				return "ERR Prefix '" + p + "' overlaps with another provided prefix '" + q + "'. Prefixes for a single client must not overlap."
			}
		}
	}
	return ""
}

func clientCaching(x *call) {
	s := x.c.track
	switch {
	case s == nil:
		x.err("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case is(x.args[2], "YES") && !s.optin:
		x.err("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case is(x.args[2], "NO") && !s.optout:
		x.err("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	case is(x.args[2], "YES"), is(x.args[2], "NO"):
		s.caching = true
		x.ok()
	default:
		x.syntax()
	}
}

func clientGetredir(x *call) { x.int(x.c.redirected()) }

func clientTrackingInfo(x *call) {
	s := x.c.track
	x.mapHeader(3)
	x.bulkString("flags")
	flags := []string{"off"}
	var prefixes []string
	if s != nil {
		flags, prefixes = []string{"on"}, slices.Sorted(slices.Values(s.prefixes))
		for _, f := range []struct {
			on   bool
			name string
		}{
			{s.bcast, "bcast"}, {s.optin, "optin"}, {s.optin && s.caching, "caching-yes"}, {s.optout, "optout"},
			{s.optout && s.caching, "caching-no"}, {s.noloop, "noloop"}, {s.broken, "broken_redirect"},
		} {
			if f.on {
				flags = append(flags, f.name)
			}
		}
	}
	x.setHeader(len(flags))
	for _, f := range flags {
		x.bulkString(f)
	}
	x.bulkString("redirect")
	x.int(x.c.redirected())
	x.bulkString("prefixes")
	x.array(len(prefixes))
	for _, p := range prefixes {
		x.bulkString(p)
	}
}
