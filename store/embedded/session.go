package embedded

import (
	"fmt"
	"slices"
	"strings"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// redisVersion is the server that this one answers like.
const redisVersion = "7.0.15"

func connCommands() []registration {
	return []registration{
		{"ping", pingCommand, lockShared},
		{"echo", func(x *call) { x.bulk(x.args[1]) }, lockShared},
		{"select", selectCommand, lockShared},
		{"hello", helloCommand, lockShared},
		{"auth", authCommand, lockShared},
		{"readonly", clusterDisabled, lockShared},
		{"readwrite", clusterDisabled, lockShared},
		{"quit", quitCommand, lockShared},
		{"reset", resetCommand, lockExclusive},
		{"client|id", func(x *call) { x.int(x.c.id) }, lockShared},
		{"client|getname", clientGetname, lockShared},
		{"client|setname", clientSetname, lockShared},
		{"client|info", clientInfo, lockShared},
		{"client|list", clientList, lockExclusive},
		{"client|no-evict", clientNoEvict, lockShared},
		{"client|unblock", clientUnblock, lockExclusive},
		{"command", commandCommand, lockShared},
		{"command|count", commandCommand, lockShared},
		{"command|docs", commandCommand, lockShared},
		{"command|getkeys", commandCommand, lockShared},
		{"command|getkeysandflags", commandCommand, lockShared},
		{"command|help", commandCommand, lockShared},
		{"command|info", commandCommand, lockShared},
		{"command|list", commandCommand, lockShared},
	}
}

func commandCommand(x *call) { x.out = command.AppendAnswer(x.out, x.args, x.proto) }

func clusterDisabled(x *call) { x.err("ERR This instance has cluster support disabled") }

func pingCommand(x *call) {
	if len(x.args) > 2 {
		x.err(command.ArityError(x.spec))
		return
	}
	if x.c.subs.count() > 0 && x.proto == 2 {
		x.array(2)
		x.bulkString("pong")
		if len(x.args) == 2 {
			x.bulk(x.args[1])
		} else {
			x.bulk(nil)
		}
		return
	}
	if len(x.args) == 2 {
		x.bulk(x.args[1])
		return
	}
	x.simple("PONG")
}

func selectCommand(x *call) {
	if db, ok := x.argDB(x.args[1]); ok {
		x.c.db = db
		x.ok()
	}
}

func quitCommand(x *call) {
	x.c.quit = true
	x.ok()
}

func resetCommand(x *call) {
	x.c.reset()
	x.c.setProto(x, 2)
	x.simple("RESET")
}

// authCommand: this engine has no users but the default one, without a password. Who has passwords checks them
// before the engine.
func authCommand(x *call) {
	switch {
	case len(x.args) > 3:
		x.syntax()
	case len(x.args) == 2:
		x.err("ERR AUTH <password> called without any password configured for the default user. " +
			"Are you sure your configuration is correct?")
	case string(x.args[1]) == "default":
		x.ok()
	default:
		x.err("WRONGPASS invalid username-password pair or user is disabled.")
	}
}

func helloCommand(x *call) {
	proto := x.c.proto
	rest := x.args[1:]
	if len(rest) > 0 {
		n, ok := frame.ParseInt(rest[0])
		switch {
		case !ok:
			x.err("ERR Protocol version is not an integer or out of range")
			return
		case n < 2 || n > 3:
			x.err("NOPROTO unsupported protocol version")
			return
		}
		proto, rest = int(n), rest[1:]
	}
	var name *string
	for len(rest) > 0 {
		switch {
		case is(rest[0], "AUTH") && len(rest) > 2:
			if string(rest[1]) != "default" {
				x.err("WRONGPASS invalid username-password pair or user is disabled.")
				return
			}
			rest = rest[3:]
		case is(rest[0], "SETNAME") && len(rest) > 1:
			s := string(rest[1])
			if !validName(s) {
				x.err(errClientName)
				return
			}
			name, rest = &s, rest[2:]
		default:
			x.errf("ERR Syntax error in HELLO option '%s'", rest[0])
			return
		}
	}
	if name != nil {
		x.c.name = *name
	}
	x.c.setProto(x, proto)
	x.mapHeader(7)
	x.bulkString("server")
	x.bulkString("redis")
	x.bulkString("version")
	x.bulkString(redisVersion)
	x.bulkString("proto")
	x.int(int64(proto))
	x.bulkString("id")
	x.int(x.c.id)
	x.bulkString("mode")
	x.bulkString("standalone")
	x.bulkString("role")
	if x.e.showsReplica() {
		x.bulkString("replica")
	} else {
		x.bulkString("master")
	}
	x.bulkString("modules")
	x.array(0)
}

// --- CLIENT ---

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
		{c.subs.count() > 0, 'P'}, {c.multi, 'x'}, {c.waiting != nil, 'b'}, {c.dirty, 'd'}, {c.noEvict, 'e'},
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
	return fmt.Sprintf("id=%d addr=%s name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d cmd=%s user=default resp=%d\n",
		c.id, c.addr, c.name, (now-c.since)/1000, (now-c.active)/1000, flags.String(), c.db,
		len(c.subs[subChannel]), len(c.subs[subPattern]), len(c.subs[subShard]), multi, last, c.proto)
}

func clientInfo(x *call) { x.verbatim("txt", x.c.line(x.now)) }

func clientList(x *call) {
	var only map[int64]bool
	kind := ""
	switch {
	case len(x.args) == 2:
	case len(x.args) == 4 && is(x.args[2], "TYPE"):
		kind = strings.ToLower(string(x.args[3]))
		if !slices.Contains([]string{"normal", "master", "replica", "slave", "pubsub"}, kind) {
			x.errf("ERR Unknown client type '%s'", x.args[3])
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
	var conns []*Conn
	x.e.connsMu.Lock()
	for _, c := range x.e.conns {
		sub := c.subs.count() > 0
		switch {
		case only != nil && !only[c.id], kind == "normal" && sub, kind == "pubsub" && !sub,
			kind != "" && kind != "normal" && kind != "pubsub":
			continue
		}
		conns = append(conns, c)
	}
	x.e.connsMu.Unlock()
	slices.SortFunc(conns, func(a, b *Conn) int { return int(a.id - b.id) })
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
		x.syntax()
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
