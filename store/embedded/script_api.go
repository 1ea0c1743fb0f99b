package embedded

import (
	"crypto/sha1"
	"encoding/hex"
	"log/slog"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// The table redis of scripts.

const (
	replAOF     = 1
	replReplica = 2
	redisNumber = 7<<16 | 0<<8 | 15
)

// openRedis makes the table redis; functions have less of it.
func (r *luaRuntime) openRedis(g *lua.LTable, functions bool) {
	s := r.host
	api := map[string]lua.LGFunction{
		"call":  func(L *lua.LState) int { return s.generic(L, r, true) },
		"pcall": func(L *lua.LState) int { return s.generic(L, r, false) },
		"error_reply": func(L *lua.LState) int {
			v, ok := L.Get(1).(lua.LString)
			if !ok || L.GetTop() != 1 {
				L.Push(errorValue(L, "ERR wrong number or type of arguments"))
				return 1
			}
			L.Push(errorValue(L, errorText(string(v))))
			return 1
		},
		"status_reply": func(L *lua.LState) int {
			v, ok := L.Get(1).(lua.LString)
			if !ok || L.GetTop() != 1 {
				L.Push(errorValue(L, "ERR wrong number or type of arguments"))
				return 1
			}
			t := L.CreateTable(0, 1)
			t.RawSetString("ok", v)
			L.Push(t)
			return 1
		},
		"sha1hex": func(L *lua.LState) int {
			if L.GetTop() != 1 {
				failRedis(L, "ERR wrong number of arguments")
			}
			text := ""
			if lua.LVCanConvToString(L.Get(1)) {
				text = luaText(L.Get(1))
			}
			L.Push(lua.LString(shaOf([]byte(text))))
			return 1
		},
		"log": s.apiLog, "setresp": s.apiSetresp, "set_repl": s.apiSetRepl,
		"replicate_commands": func(L *lua.LState) int {
			L.Push(lua.LTrue)
			return 1
		},
		"breakpoint": func(L *lua.LState) int {
			L.Push(lua.LFalse)
			return 1
		},
		"debug": func(*lua.LState) int { return 0 },
		"acl_check_cmd": func(L *lua.LState) int {
			args := s.arguments(L)
			if spec := command.Lookup(args); spec == nil || spec.IsContainer() && len(args) > 1 {
				failRedis(L, "ERR Invalid command passed to redis.acl_check_cmd()")
			}
			L.Push(lua.LTrue)
			return 1
		},
	}
	if functions {
		for _, name := range []string{"replicate_commands", "breakpoint", "debug"} {
			delete(api, name)
		}
	}
	r.library(g, "redis", api, map[string]lua.LValue{
		"LOG_DEBUG": lua.LNumber(0), "LOG_VERBOSE": lua.LNumber(1), "LOG_NOTICE": lua.LNumber(2), "LOG_WARNING": lua.LNumber(3),
		"REPL_NONE": lua.LNumber(0), "REPL_AOF": lua.LNumber(replAOF), "REPL_REPLICA": lua.LNumber(replReplica),
		"REPL_SLAVE": lua.LNumber(replReplica), "REPL_ALL": lua.LNumber(replAOF | replReplica),
		"REDIS_VERSION": lua.LString(redisVersion), "REDIS_VERSION_NUM": lua.LNumber(redisNumber),
	})
}

func shaOf(text []byte) string {
	sum := sha1.Sum(text)
	return hex.EncodeToString(sum[:])
}

// errorText is what Redis makes of a text that may be an error reply: "-CODE text" or just a text.
func errorText(s string) string {
	if s != "" && s[0] == '-' {
		s = s[1:]
	}
	s = strings.TrimRight(s, "\r\n")
	if strings.IndexByte(s, ' ') < 0 {
		return "ERR " + s
	}
	return s
}

func errorValue(L *lua.LState, text string) *lua.LTable {
	t := L.CreateTable(0, 1)
	t.RawSetString("err", lua.LString(text))
	return t
}

// failRedis raises an error of Redis's own.
func failRedis(L *lua.LState, text string) { L.Error(errorValue(L, text), 0) }

func (s *scripts) apiLog(L *lua.LState) int {
	n := L.GetTop()
	if n < 2 {
		failRedis(L, "ERR redis.log() requires two arguments or more.")
	}
	f, ok := toNumber(L.Get(1))
	if !ok {
		failRedis(L, "ERR First argument must be a number (log level).")
	}
	level := toInt(f)
	if level < 0 || level > 3 {
		failRedis(L, "ERR Invalid debug level.")
	}
	var parts []string
	for i := 2; i <= n; i++ {
		if lua.LVCanConvToString(L.Get(i)) {
			parts = append(parts, luaText(L.Get(i)))
		}
	}
	levels := [...]slog.Level{slog.LevelDebug, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn}
	text := strings.Join(parts, " ")
	s.e.opts.Log.Log(s.cur.stop, levels[level], "script", "says", text[:min(len(text), 1024)])
	return 0
}

func (s *scripts) apiSetresp(L *lua.LState) int {
	if L.GetTop() != 1 {
		failRedis(L, "ERR redis.setresp() requires one argument.")
	}
	f, _ := toNumber(L.Get(1))
	if f != 2 && f != 3 {
		failRedis(L, "ERR RESP version must be 2 or 3.")
	}
	s.conn.proto = int(f)
	return 0
}

func (s *scripts) apiSetRepl(L *lua.LState) int {
	if L.GetTop() != 1 {
		failRedis(L, "ERR redis.set_repl() requires two arguments.")
	}
	f, _ := toNumber(L.Get(1))
	flags := toInt(f)
	if flags&^(replAOF|replReplica) != 0 {
		failRedis(L, "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
	}
	s.repl = flags
	return 0
}

// arguments takes those of redis.call. They alias Lua's strings, which nobody changes.
func (s *scripts) arguments(L *lua.LState) [][]byte {
	n := L.GetTop()
	if n == 0 {
		failRedis(L, "ERR Please specify at least one argument for this redis lib call")
	}
	args := s.args[:0]
	s.numbers = s.numbers[:0]
	for i := 1; i <= n; i++ {
		switch v := L.Get(i).(type) {
		case lua.LString:
			args = append(args, bytesOf(string(v)))
		case lua.LNumber:
			from := len(s.numbers)
			s.numbers = appendArgument(s.numbers, float64(v))
			args = append(args, s.numbers[from:len(s.numbers):len(s.numbers)])
		default:
			failRedis(L, "ERR Lua redis lib command arguments must be strings or integers")
		}
	}
	s.args = args
	return args
}

// generic is redis.call and redis.pcall.
func (s *scripts) generic(L *lua.LState, r *luaRuntime, raises bool) int {
	counted := false
	fail := func(text string) int {
		t := errorValue(L, text)
		if counted {
			t.RawSetString("ignore_error_stats_update", lua.LTrue)
		}
		if raises {
			L.Error(t, 0)
		}
		L.Push(t)
		return 1
	}
	if bad := s.badArguments(L); bad != "" {
		return fail(bad)
	}
	if s.nested {
		return fail("ERR Recursive call detected in redis.call")
	}
	args := s.arguments(L)
	spec := command.Lookup(args)
	if text := s.refused(spec, args); text != "" {
		s.e.errors.add(text)
		counted = true
		if spec != nil {
			s.e.commands[spec.ID].rejected.Add(1)
		}
		return fail(text)
	}
	if spec.Is(command.FlagWrite) {
		s.wrote.Store(true)
	}
	out := s.execute(spec, args)
	p := replyParser{L: L, data: out}
	v := p.value()
	if out[0] == '-' && raises {
		L.Error(v, 0)
	}
	if cap(s.x.out) > effectsKeep {
		s.x.out = nil
	}
	L.Push(v)
	return 1
}

func (s *scripts) badArguments(L *lua.LState) string {
	n := L.GetTop()
	if n == 0 {
		return "ERR Please specify at least one argument for this redis lib call"
	}
	for i := 1; i <= n; i++ {
		if !lua.LVCanConvToString(L.Get(i)) {
			return "ERR Lua redis lib command arguments must be strings or integers"
		}
	}
	return ""
}

// refused says why a script may not execute a command, empty if it may.
func (s *scripts) refused(spec *command.Spec, args [][]byte) string {
	e := s.e
	switch {
	case spec == nil, spec.IsContainer() && len(args) > 1,
		e.handlers[spec.ID].handle == nil && !spec.Is(command.FlagNoScript) && spec.ArityOK(len(args)):
		return "ERR Unknown Redis command called from script"
	case !spec.ArityOK(len(args)):
		return "ERR Wrong number of args calling Redis command from script"
	case spec.Is(command.FlagNoScript):
		return "ERR This Redis command is not allowed from script"
	case s.readonly && spec.Is(command.FlagWrite|command.FlagMayReplicate):
		return "ERR Write commands are not allowed from read-only scripts."
	case spec.Is(command.FlagDenyOOM) && !s.conn.fromStream && e.farOver():
		return errOOM
	case !spec.Is(command.FlagWrite), s.wrote.Load():
	case e.replica && !s.conn.fromStream:
		return "READONLY You can't write against a read only replica."
	case s.oom && !s.allowOOM && spec.Is(command.FlagDenyOOM):
		return errOOM
	}
	return ""
}

// execute runs one command of the script on the session of scripts.
func (s *scripts) execute(spec *command.Spec, args [][]byte) []byte {
	e, x := s.e, &s.x
	x.e, x.c, x.out, x.multi, x.now, x.tick, x.fromStream = e, &s.conn, x.out[:0], true, s.now, e.clock.tick(), s.conn.fromStream
	s.raw = s.raw[:0]
	if e.effects.sink != nil && spec.Is(command.FlagWrite|command.FlagMayReplicate) {
		s.raw = frame.AppendCommand(s.raw, args...)
	}
	x.begin(spec, args, s.raw)
	s.nested = true
	if sink := e.effects.sink; s.repl&replReplica == 0 {
		e.effects.sink = nil
		e.invoke(x)
		e.effects.sink = sink
	} else {
		e.invoke(x)
	}
	s.nested = false
	e.stats.commands.Add(1)
	e.count(x)
	x.args, x.raw = nil, nil
	return x.out
}
