package embedded

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

func clientCommands() []registration {
	return []registration{
		{"client|id", func(x *call) { x.int(x.c.id) }, lockShared},
		{"client|getname", clientGetname, lockShared},
		{"client|setname", clientSetname, lockExclusive}, // others read it
		{"client|info", clientInfo, lockShared},
		{"client|list", clientList, lockExclusive},
		{"client|kill", clientKill, lockExclusive},
		{"client|no-evict", clientNoEvict, lockShared},
		{"client|unblock", clientUnblock, lockExclusive},
		{"client|pause", clientPause, lockExclusive},
		{"client|unpause", clientUnpause, lockExclusive},
		{"client|tracking", clientTracking, lockExclusive},
		{"client|trackinginfo", clientTrackingInfo, lockExclusive},
		{"client|caching", clientCaching, lockExclusive},
		{"client|getredir", clientGetredir, lockExclusive},
		{"client|help", clientHelp, lockShared},
	}
}

const errClientName = "ERR Client names cannot contain spaces, newlines or special characters."

func validName(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}

func clientGetname(x *call) {
	if x.c.name == "" {
		x.null()
		return
	}
	x.bulkString(x.c.name)
}

func clientSetname(x *call) {
	s := string(x.args[2])
	if !validName(s) {
		x.err(errClientName)
		return
	}
	x.c.name = s
	x.ok()
}

func clientNoEvict(x *call) {
	switch {
	case is(x.args[2], "ON"):
		x.c.noEvict = true
	case is(x.args[2], "OFF"):
		x.c.noEvict = false
	default:
		x.syntax()
		return
	}
	x.ok()
}

// line describes a session as CLIENT LIST does, with the fields that mean something here.
func (c *Conn) line(now int64) string {
	var flags strings.Builder
	for _, f := range []struct {
		on   bool
		flag byte
	}{
		{c.monitor, 'O'}, {c.subs.count() > 0, 'P'}, {c.multi, 'x'}, {c.waiting != nil, 'b'}, {c.track != nil, 't'},
		{c.track != nil && c.track.broken, 'R'}, {c.track != nil && c.track.bcast, 'B'}, {c.dirty, 'd'}, {c.noEvict, 'e'},
	} {
		if f.on {
			flags.WriteByte(f.flag)
		}
	}
	if flags.Len() == 0 {
		flags.WriteByte('N')
	}
	multi, last := -1, "NULL"
	if c.multi {
		multi = len(c.queue)
	}
	if c.last != nil {
		last = c.last.Name
	}
	return fmt.Sprintf("id=%d addr=%s name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d cmd=%s user=default redir=%d resp=%d\n",
		c.id, c.addr, c.name, (now-c.since)/1000, (now-c.active)/1000, flags.String(), c.db,
		len(c.subs[subChannel]), len(c.subs[subPattern]), len(c.subs[subShard]), multi, last, c.redirected(), c.proto)
}

func clientInfo(x *call) { x.verbatim("txt", x.c.line(x.now)) }

func clientList(x *call) {
	var only map[int64]bool
	kind := ""
	switch {
	case len(x.args) == 2:
	case len(x.args) == 4 && is(x.args[2], "TYPE"):
		var ok bool
		if kind, ok = x.argClientType(x.args[3]); !ok {
			return
		}
	case len(x.args) > 3 && is(x.args[2], "ID"):
		only = map[int64]bool{}
		for _, a := range x.args[3:] {
			id, ok := frame.ParseInt(a)
			if !ok {
				x.err("ERR Invalid client ID")
				return
			}
			only[id] = true
		}
	default:
		x.syntax()
		return
	}
	conns := x.e.connsBy(func(c *Conn) bool {
		return (only == nil || only[c.id]) && (kind == "" || c.clientType() == kind)
	})
	var b strings.Builder
	for _, c := range conns {
		b.WriteString(c.line(x.now))
	}
	x.verbatim("txt", b.String())
}

func clientUnblock(x *call) {
	refuse := false
	switch {
	case len(x.args) == 3, len(x.args) == 4 && is(x.args[3], "TIMEOUT"):
	case len(x.args) == 4 && is(x.args[3], "ERROR"):
		refuse = true
	case len(x.args) == 4:
		x.err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
		return
	default:
		x.badSubcommand()
		return
	}
	id, ok := x.argInt(x.args[2])
	if !ok {
		return
	}
	x.e.connsMu.Lock()
	c := x.e.conns[id]
	x.e.connsMu.Unlock()
	if c == nil || c.waiting == nil {
		x.int(0)
		return
	}
	w := c.waiting
	if refuse {
		x.e.refuse(w, "UNBLOCKED client unblocked via CLIENT UNBLOCK")
	} else {
		w.out, w.served = frame.AppendNullArray(w.out[:0], w.proto), true
		x.e.dequeue(w)
		x.e.woken = append(x.e.woken, w)
	}
	x.int(1)
}

// argClientType reads a kind of client; only normal and pubsub ones are here.
func (x *call) argClientType(b []byte) (kind string, ok bool) {
	kind = strings.ToLower(string(b))
	if !slices.Contains([]string{"normal", "master", "replica", "slave", "pubsub"}, kind) {
		x.errf("ERR Unknown client type '%s'", b)
		return "", false
	}
	return kind, true
}

func (c *Conn) clientType() string {
	if c.subs.count() > 0 {
		return "pubsub"
	}
	return "normal"
}

// connsBy lists sessions by their ids. Needs the write lock.
func (e *Engine) connsBy(choose func(*Conn) bool) []*Conn {
	var out []*Conn
	e.connsMu.Lock()
	for _, c := range e.conns {
		if choose(c) {
			out = append(out, c)
		}
	}
	e.connsMu.Unlock()
	slices.SortFunc(out, func(a, b *Conn) int { return int(a.id - b.id) })
	return out
}

// --- CLIENT KILL ---

// killFilter is which sessions to end: those that all of it fits.
type killFilter struct {
	id              int64
	byAddr          bool
	addr, kind      string
	byLaddr, skipMe bool
}

func clientKill(x *call) {
	f := killFilter{skipMe: true}
	old := len(x.args) == 3
	if old {
		f.addr, f.byAddr, f.skipMe = string(x.args[2]), true, false
	} else if !x.killFilter(&f) {
		return
	}
	victims := x.e.connsBy(func(c *Conn) bool {
		return (f.id == 0 || c.id == f.id) && (!f.byAddr || c.addr == f.addr) && !f.byLaddr &&
			(f.kind == "" || c.clientType() == f.kind) && (!f.skipMe || c != x.c)
	})
	if old && len(victims) > 1 {
		victims = victims[:1]
	}
	for _, c := range victims {
		c.kill(x)
	}
	switch {
	case !old:
		x.int(int64(len(victims)))
	case len(victims) == 0:
		x.err("ERR No such client")
	default:
		x.ok()
	}
}

func (x *call) killFilter(f *killFilter) bool {
	for i := 2; i < len(x.args); i += 2 {
		if i+1 == len(x.args) {
			x.syntax()
			return false
		}
		a, v := x.args[i], x.args[i+1]
		ok := true
		switch {
		case is(a, "ID"):
			if f.id, ok = x.argRange(v, 1, math.MaxInt64, "ERR client-id should be greater than 0"); !ok {
				return false
			}
		case is(a, "TYPE"):
			if f.kind, ok = x.argClientType(v); !ok {
				return false
			}
		case is(a, "ADDR"):
			f.addr, f.byAddr = string(v), true
		case is(a, "LADDR"): // unknown here
			f.byLaddr = true
		case is(a, "USER"):
			if string(v) != "default" {
				x.errf("ERR No such user '%s'", v)
				return false
			}
		case is(a, "SKIPME") && is(v, "YES"):
			f.skipMe = true
		case is(a, "SKIPME") && is(v, "NO"):
			f.skipMe = false
		default:
			x.syntax()
			return false
		}
	}
	return true
}

// kill ends a session: it answers nothing more, but for the command that kills itself.
func (c *Conn) kill(x *call) {
	if c == x.c {
		c.quit = true
	} else if !c.killed.Swap(true) {
		close(c.gone)
	}
	if c.onKill != nil {
		c.onKill()
	}
}

// --- CLIENT PAUSE ---

// pause is until when commands wait. The engine's write lock guards it.
type pause struct {
	until  int64 // unix ms
	writes bool  // only commands that write
	over   chan struct{}
	timer  *time.Timer
}

func clientPause(x *call) {
	writes := false
	switch {
	case len(x.args) == 4 && is(x.args[3], "WRITE"):
		writes = true
	case len(x.args) == 4 && !is(x.args[3], "ALL"):
		x.err("ERR CLIENT PAUSE mode must be WRITE or ALL")
		return
	case len(x.args) > 4:
		x.errf("ERR unknown subcommand or wrong number of arguments for '%s'. Try CLIENT HELP.", x.args[1])
		return
	}
	timeout, ok := x.argRange(x.args[2], math.MinInt64, math.MaxInt64, "ERR timeout is not an integer or out of range")
	switch {
	case !ok:
		return
	case timeout < 0:
		x.err("ERR timeout is negative")
		return
	}
	p := &x.e.pause
	until := x.now + min(timeout, longestWait)
	// As in Redis, a pause under way gets neither shorter nor milder.
	if p.over != nil && p.until > until {
		until = p.until
	}
	if p.over == nil {
		p.over = make(chan struct{})
	} else {
		writes = writes && p.writes
		p.timer.Stop()
	}
	p.until, p.writes = until, writes
	over := p.over
	p.timer = time.AfterFunc(time.Duration(until-x.now)*time.Millisecond, func() { x.e.unpause(over) })
	x.e.paused.Store(true)
	x.ok()
}

func clientUnpause(x *call) {
	x.e.unpauseLocked(x.e.pause.over)
	x.ok()
}

func (e *Engine) unpause(over chan struct{}) {
	e.lock()
	defer e.unlock()
	e.unpauseLocked(over)
}

// unpauseLocked ends the pause, if it is still the one that has this channel.
func (e *Engine) unpauseLocked(over chan struct{}) {
	if over == nil || e.pause.over != over {
		return
	}
	e.pause.timer.Stop()
	close(over)
	e.pause = pause{}
	e.paused.Store(false)
}

// postponed tells how many of the commands may run before one has to wait, and for what.
func (c *Conn) postponed(reqs []command.Request) (n int, over <-chan struct{}) {
	c.e.rlock()
	defer c.e.mu.RUnlock()
	p := &c.e.pause
	if p.over == nil {
		return len(reqs), nil
	}
	for i := range reqs {
		spec := reqs[i].Spec
		if !p.writes || spec != nil && (c.writes(spec) || spec.Is(command.FlagMayReplicate)) {
			return i, p.over
		}
	}
	return len(reqs), nil
}

func clientHelp(x *call) {
	x.help(strings.Split(`CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CACHING (YES|NO)
    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.
GETREDIR
    Return the client ID we are redirecting to when tracking is enabled.
GETNAME
    Return the name of the current connection.
ID
    Return the ID of the current connection.
INFO
    Return information about the current client connection.
KILL <ip:port>
    Kill connection made from <ip:port>.
KILL <option> <value> [<option> <value> [...]]
    Kill connections. Options are:
    * ADDR (<ip:port>|<unixsocket>:0)
      Kill connections made from the specified address
    * LADDR (<ip:port>|<unixsocket>:0)
      Kill connections made to specified local address
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
      Kill connections by type.
    * USER <username>
      Kill connections authenticated by <username>.
    * SKIPME (YES|NO)
      Skip killing current connection (default: yes).
LIST [options ...]
    Return information about client connections. Options:
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
      Return clients of specified type.
UNPAUSE
    Stop the current client pause, resuming traffic.
PAUSE <timeout> [WRITE|ALL]
    Suspend all, or just write, clients for <timeout> milliseconds.
REPLY (ON|OFF|SKIP)
    Control the replies sent to the current connection.
SETNAME <name>
    Assign the name <name> to the current connection.
UNBLOCK <clientid> [TIMEOUT|ERROR]
    Unblock the specified blocked client.
TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]
         [OPTIN] [OPTOUT] [NOLOOP]
    Control server assisted client side caching.
TRACKINGINFO
    Report tracking status for the current connection.
NO-EVICT (ON|OFF)
    Protect current client connection from eviction.
HELP
    Prints this help.`, "\n")...)
}
