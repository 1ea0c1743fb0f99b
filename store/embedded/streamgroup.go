package embedded

import (
	"bytes"
	"strings"
)

// cText is what C's printf shows of a string: up to a zero byte.
func cText(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// --- XGROUP ---

// badSubcommand is the error for options that a subcommand doesn't have.
func (x *call) badSubcommand() {
	sub := cText(x.args[1])
	x.errf("ERR unknown subcommand or wrong number of arguments for '%s'. Try %s HELP.",
		sub[:min(len(sub), 128)], strings.ToUpper(cText(x.args[0])))
}

// xgroupTarget looks up what a subcommand works on; only CREATE may do without a key, and CREATE and DESTROY without a
// group. ok=false has replied the error.
func (x *call) xgroupTarget(mayMiss, needGroup bool) (o *object, s *streamValue, g *streamGroup, ok bool) {
	if o, s, ok = x.writeStream(x.args[2]); !ok {
		return nil, nil, nil, false
	}
	if s == nil {
		if !mayMiss {
			x.err("ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the " +
				"MKSTREAM option to create an empty stream automatically.")
		}
		return nil, nil, nil, mayMiss
	}
	if g = s.group(x.args[3]); g == nil && needGroup {
		x.errf("NOGROUP No such consumer group '%s' for key name '%s'", cText(x.args[3]), cText(x.args[2]))
		return nil, nil, nil, false
	}
	return o, s, g, true
}

// xgroupOptions reads what follows the id of CREATE and SETID.
func (x *call) xgroupOptions(create bool) (mkStream bool, read int64, ok bool) {
	read = readUnknown
	for rest := x.args[5:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case create && is(rest[0], "MKSTREAM"):
			mkStream = true
		case is(rest[0], "ENTRIESREAD") && len(rest) > 1:
			if read, ok = x.argInt(rest[1]); !ok {
				return false, 0, false
			}
			if read < 0 && read != readUnknown {
				x.err("ERR value for ENTRIESREAD must be positive or -1")
				return false, 0, false
			}
			rest = rest[1:]
		default:
			x.badSubcommand()
			return false, 0, false
		}
	}
	return mkStream, read, true
}

func xgroupCreate(x *call) {
	mkStream, read, ok := x.xgroupOptions(true)
	if !ok {
		return
	}
	o, s, _, ok := x.xgroupTarget(mkStream, false)
	if !ok {
		return
	}
	if len(x.args) > 8 {
		x.badSubcommand()
		return
	}
	var id streamID
	if string(x.args[4]) != "$" {
		if id, ok = x.argID(x.args[4]); !ok {
			return
		}
	} else if s != nil {
		id = s.last
	}
	if s == nil {
		s = newStream()
		o = x.add(x.args[2], streamPayload(s))
	}
	if s.addGroup(x.args[3], id, read) == nil {
		x.err("BUSYGROUP Consumer Group name already exists")
		return
	}
	x.db.account(o)
	x.notify(eventStream, "xgroup-create", x.args[2])
	x.dirty++
	x.ok()
}

func xgroupSetID(x *call) {
	_, read, ok := x.xgroupOptions(false)
	if !ok {
		return
	}
	_, s, g, ok := x.xgroupTarget(false, true)
	if !ok {
		return
	}
	if len(x.args) != 5 && len(x.args) != 7 {
		x.badSubcommand()
		return
	}
	id := s.last
	if string(x.args[4]) != "$" {
		if id, _, ok = (idForm{edges: true}).parse(x.args[4]); !ok {
			x.err(errStreamID)
			return
		}
	}
	g.last, g.read = id, read
	x.notify(eventStream, "xgroup-setid", x.args[2])
	x.dirty++
	x.ok()
}

func xgroupDestroy(x *call) {
	o, s, g, ok := x.xgroupTarget(false, false)
	if !ok {
		return
	}
	if g == nil {
		x.int(0)
		return
	}
	s.removeGroup(x.args[3])
	x.db.account(o)
	x.notify(eventStream, "xgroup-destroy", x.args[2])
	x.dirty++
	x.int(1)
	// Who waits as a member of the group is told.
	x.e.signalReady(x.dbIndex, x.args[2], kindStream)
}

func xgroupCreateConsumer(x *call) {
	o, s, g, ok := x.xgroupTarget(false, true)
	if !ok {
		return
	}
	_, created := s.addConsumer(g, x.args[4], x.now)
	if created {
		x.db.account(o)
		x.notify(eventStream, "xgroup-createconsumer", x.args[2])
		x.dirty++
	}
	x.boolean(created)
}

func xgroupDelConsumer(x *call) {
	o, s, g, ok := x.xgroupTarget(false, true)
	if !ok {
		return
	}
	pending := 0
	if c := g.consumer(x.args[4]); c != nil {
		pending = c.pel.n
		s.removeConsumer(g, c)
		x.db.account(o)
		x.notify(eventStream, "xgroup-delconsumer", x.args[2])
		x.dirty++
	}
	x.int(int64(pending))
}

func xgroupHelp(x *call) {
	x.help(
		"XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
		"CREATE <key> <groupname> <id|$> [option]",
		"    Create a new consumer group. Options are:",
		"    * MKSTREAM",
		"      Create the empty stream if it does not exist.",
		"    * ENTRIESREAD entries_read",
		"      Set the group's entries_read counter (internal use).",
		"CREATECONSUMER <key> <groupname> <consumer>",
		"    Create a new consumer in the specified group.",
		"DELCONSUMER <key> <groupname> <consumer>",
		"    Remove the specified consumer.",
		"DESTROY <key> <groupname>",
		"    Remove the specified group.",
		"SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
		"    Set the current group ID and entries_read counter.",
		"HELP",
		"    Prints this help.",
	)
}
