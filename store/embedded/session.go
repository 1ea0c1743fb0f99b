package embedded

import (
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

func commandCommand(x *call) {
	from := len(x.out)
	x.out = command.AppendAnswer(x.out, x.args, x.proto)
	if p := x.out[from:]; len(p) > 3 && p[0] == '-' { // counted as other errors are
		text := string(p[1 : len(p)-2])
		x.out = x.out[:from]
		x.err(text)
	}
}

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
