package embedded

import (
	"fmt"
	"regexp"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// program is a script or function that is to run.
type program struct {
	name     string // in errors: the script's SHA1 or the function's name
	chunk    string // what its code is called there
	function bool
	readonly bool // called by a command that may not write
	flags    scriptFlags
	command  [][]byte // of a function, for FUNCTION STATS
}

// run calls a Lua function with arguments for a session and tells whether the runtime isn't to be used again.
func (s *scripts) run(x *call, r *luaRuntime, p program, fn *lua.LFunction, args ...lua.LValue) (broken bool) {
	e, f, readonly := s.e, p.flags, p.readonly
	oom := e.limit.max > 0 && !x.fromStream && !e.makeRoom(0)
	if f.shebang {
		switch {
		case !f.noWrites && !x.fromStream && e.replica:
			x.err("READONLY You can not run script with write flag on readonly replica.")
			return false
		case !f.noWrites && readonly:
			x.err("ERR Can not execute a script with write flag using *_ro command.")
			return false
		case oom && !f.allowOOM && !f.noWrites:
			x.err("OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'")
			return false
		}
	}
	s.readonly, s.allowOOM, s.oom, s.repl, s.now = readonly || f.noWrites, f.allowOOM, oom, replAOF|replReplica, x.now
	s.conn.db, s.conn.proto, s.conn.fromStream, s.conn.id = x.c.db, 2, x.fromStream, x.c.id
	s.conn.addr, s.conn.name, s.conn.track = x.c.addr, x.c.name, x.c.track
	s.wrote.Store(false)
	s.cur, s.caller = r, x
	s.begin(r, p, x.tick)
	r.L.Push(fn)
	for _, a := range args {
		r.L.Push(a)
	}
	err, broken := r.protected(len(args))
	handed := s.end(r)
	switch {
	case s.nested:
		s.nested = false
		panic(fmt.Sprintf("embedded: a command failed inside a script: %v", err))
	case err != nil:
		s.replyError(x, r, p, err)
	default:
		x.replyScript(r, r.L.Get(-1), s.conn.proto, 0)
	}
	if broken = r.stop.Err() != nil || broken || handed; !broken {
		r.L.SetTop(0)
	}
	x.lapsed = x.lapsed || s.x.lapsed
	s.x.lapsed = false
	return broken
}

var stackTop = regexp.MustCompile(`(user_\w+):(\d+):`)

// protected calls the function on the stack with the arguments after it. broken tells that the interpreter isn't to be used again: its own protection
// doesn't hold when there is no room left for the error handler.
func (r *luaRuntime) protected(args int) (err error, broken bool) {
	defer func() {
		if p := recover(); p != nil {
			broken = true
			var ok bool
			if err, ok = p.(*lua.ApiError); !ok {
				err = fmt.Errorf("%v", p)
			}
		}
	}()
	err = r.L.PCall(args, 1, r.handler)
	api, ok := err.(*lua.ApiError)
	return err, err != nil && (!ok || api.Type == lua.ApiErrorPanic)
}

func luaList(L *lua.LState, args [][]byte) *lua.LTable {
	t := L.CreateTable(len(args), 0)
	for i, a := range args {
		t.RawSetInt(i+1, lua.LString(a))
	}
	return t
}

// stackOverflow tells whether the error is that there is no room left for calls, and the chunk and line where that was, if known.
func stackOverflow(err *lua.ApiError) (at []string, ok bool) {
	text := luaText(err.Object)
	if text != callOverflow && !strings.HasSuffix(text, " registry overflow") {
		return nil, false
	}
	for _, s := range []string{err.StackTrace, text} {
		if m := stackTop.FindStringSubmatch(s); m != nil {
			return m[1:3], true
		}
	}
	return nil, true
}

// replyError replies what an uncaught error is.
func (s *scripts) replyError(x *call, r *luaRuntime, p program, err error) {
	text, source, line, counted := "ERR execution failure", "", "", false
	if api, ok := err.(*lua.ApiError); ok {
		if t, ok := api.Object.(*lua.LTable); ok {
			text, _ = field(t, "err")
			source, _ = field(t, "source")
			line, _ = field(t, "line")
			counted = t.RawGetString("ignore_error_stats_update") == lua.LTrue
			if _, ok := field(t, "err"); !ok {
				text = "ERR unknown error" // here the real server dies
			}
		} else {
			text = "ERR " + luaText(api.Object)
			if m := positioned.FindStringSubmatch(text); m != nil {
				source = p.chunk
				line = m[1][strings.LastIndexByte(strings.TrimSuffix(m[1], ":"), ':')+1 : len(m[1])-1]
			}
			if at, overflow := stackOverflow(api); overflow {
				if at != nil {
					source, line = at[0], at[1]
				}
				text = "ERR " + source + ":" + line + ": stack overflow"
			}
		}
	}
	if stop := r.stop.Err(); stop != nil {
		text = "ERR " + stop.Error()
	}
	if source != "" && line != "" {
		if known, ok := r.sources[source]; ok {
			source = known
		} else {
			source = "@" + source
		}
		text += fmt.Sprintf(" script: %s, on %s:%s.", p.name, source, line)
	}
	x.errCounted(oneLine(text), counted)
}
