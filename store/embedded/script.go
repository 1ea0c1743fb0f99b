package embedded

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lua "github.com/yuin/gopher-lua"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Scripts run under the engine's write lock. One that has run for Options.ScriptTimeLimit lets go of it: from then on
// Engine.busy is set, and whoever gets the lock finds that and leaves the data alone, which is the script's until it ends.
// Clients are answered BUSY meanwhile; the rest of the engine waits (Engine.lock). SCRIPT KILL closes the channel that
// the interpreter looks at before each instruction.

func scriptCommands() []registration {
	return []registration{
		{"eval", func(x *call) { evalCommand(x, false, false) }, lockExclusive},
		{"eval_ro", func(x *call) { evalCommand(x, false, true) }, lockExclusive},
		{"evalsha", func(x *call) { evalCommand(x, true, false) }, lockExclusive},
		{"evalsha_ro", func(x *call) { evalCommand(x, true, true) }, lockExclusive},
		{"script|load", scriptLoad, lockExclusive},
		{"script|exists", scriptExists, lockExclusive},
		{"script|flush", scriptFlush, lockExclusive},
		{"script|kill", func(x *call) { x.err(errNotBusy) }, lockExclusive},
		{"script|help", scriptHelp, lockShared},
	}
}

const (
	errNotBusy    = "NOTBUSY No scripts in execution right now."
	errNoScript   = "NOSCRIPT No matching script. Please use EVAL."
	errScriptBusy = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
	errUnkillable = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the " +
		"script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)

// scriptEnd is why a script was ended, as the client reads it: the first is Redis's text, the others are like it.
type scriptEnd string

const (
	errKilled       scriptEnd = "Script killed by user with SCRIPT KILL..."
	errScriptMemory scriptEnd = "Script killed: it used too much memory."
	errScriptClosed scriptEnd = "Script killed: the server is closing."
)

func (e scriptEnd) Error() string { return string(e) }

const (
	scriptCacheBytes = 64 << 20 // text of cached scripts; the oldest go
	scriptCacheCount = 20000
	watchEvery       = 10 * time.Millisecond
	// defaultScriptMemory is by how much the process may grow while a script runs.
	defaultScriptMemory = 512 << 20
	defaultScriptTime   = 5 * time.Second
)

// script is a compiled script.
type script struct {
	sha   string
	text  string
	proto *lua.FunctionProto
	flags scriptFlags
}

// scriptFlags are those of a script's first line. Without such a line, a script is treated as before Redis 7.
type scriptFlags struct {
	shebang, noWrites, allowOOM, allowStale, noCluster, crossSlot bool
}

// scripts is what an engine keeps for scripts. The engine's write lock guards it, but for what stands behind mu.
type scripts struct {
	e      *Engine
	cache  map[string]*script
	order  []string // by age
	bytes  int
	rt     *luaRuntime
	json   jsonSettings
	random lrand48 // goes on from script to script
	conn   Conn    // the session that a script's commands run on
	x      call

	// The script under way.
	readonly, allowOOM, oom, nested bool
	repl                            int
	now                             int64
	args                            [][]byte
	numbers, raw                    []byte
	handler                         *lua.LFunction
	wrote                           atomic.Bool

	mu       sync.Mutex
	patience time.Duration // how long before others are answered BUSY; 0: for ever
	timer    *time.Timer
	active   bool
	started  time.Time
	stop     *stopper
	done     chan struct{} // closed when a script that has let go of the lock ends
	heap     uint64        // when first looked at
	sample   [2]metrics.Sample
	closing  bool
}

func (s *scripts) init(e *Engine) {
	s.e, s.cache, s.json, s.random.x = e, map[string]*script{}, defaultJSON(), 0x1234abcd330e
	s.conn.e, s.conn.proto = e, 2
	s.patience = e.opts.ScriptTimeLimit
	s.sample[0].Name, s.sample[1].Name = "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes"
}

// --- EVAL ---

func evalCommand(x *call, bySHA, readonly bool) {
	x.rewritten = true              // what goes to replicas is what the script does
	x.showAlways(x.dbIndex, x.args) // before what the script does
	s := &x.e.scripts
	if bySHA && len(x.args[1]) != 40 {
		x.err(errNoScript)
		return
	}
	n, ok := x.argInt(x.args[2])
	switch {
	case !ok:
		return
	case n > int64(len(x.args)-3):
		x.err("ERR Number of keys can't be greater than number of args")
		return
	case n < 0:
		x.err("ERR Number of keys can't be negative")
		return
	}
	var sc *script
	if bySHA {
		sc = s.cache[strings.ToLower(string(x.args[1]))]
		if sc == nil {
			x.err(errNoScript)
			return
		}
	} else {
		var text string
		if sc, text = s.load(x.args[1]); sc == nil {
			x.err(text)
			return
		}
	}
	s.run(x, sc, readonly, int(n))
}

// load finds or compiles a script; otherwise it gives the error's text.
func (s *scripts) load(text []byte) (*script, string) {
	sha := shaOf(text)
	if sc := s.cache[sha]; sc != nil {
		return sc, ""
	}
	sc := &script{sha: sha, text: string(text)}
	body := sc.text
	if strings.HasPrefix(body, "#!") {
		end := strings.IndexByte(body, '\n')
		if end < 0 {
			return nil, "ERR Invalid script shebang"
		}
		flags, bad := parseShebang(body[2:end])
		if bad != "" {
			return nil, oneLine(bad)
		}
		sc.flags, body = flags, body[end:]
	}
	proto, err := compileLua(body, "user_script")
	if err != nil {
		return nil, "ERR Error compiling script (new function): " + oneLine(err.Error())
	}
	sc.proto = proto
	s.cache[sha] = sc
	s.order = append(s.order, sha)
	s.bytes += len(text)
	for len(s.order) > 1 && (s.bytes > scriptCacheBytes || len(s.order) > scriptCacheCount) {
		s.drop(s.order[0])
		s.order = s.order[1:]
	}
	return sc, ""
}

func (s *scripts) drop(sha string) {
	if sc := s.cache[sha]; sc != nil {
		s.bytes -= len(sc.text)
		delete(s.cache, sha)
		if s.rt != nil {
			delete(s.rt.compiled, sha)
		}
	}
}

func parseShebang(line string) (f scriptFlags, bad string) {
	parts := strings.Fields(line)
	if strings.HasPrefix(line, " ") || len(parts) == 0 {
		parts = append([]string{""}, parts...)
	}
	if parts[0] != "lua" {
		return f, "ERR Unexpected engine in script shebang: #!" + parts[0]
	}
	f.shebang = true
	for _, p := range parts[1:] {
		list, ok := strings.CutPrefix(p, "flags=")
		if !ok {
			return f, "ERR Unknown lua shebang option: " + p
		}
		for _, flag := range strings.Split(list, ",") {
			switch flag {
			case "":
			case "no-writes":
				f.noWrites = true
			case "allow-oom":
				f.allowOOM = true
			case "allow-stale":
				f.allowStale = true
			case "no-cluster":
				f.noCluster = true
			case "allow-cross-slot-keys":
				f.crossSlot = true
			default:
				return f, "ERR Unexpected flag in script shebang: " + flag
			}
		}
	}
	return f, ""
}

// run executes a script for a session.
func (s *scripts) run(x *call, sc *script, readonly bool, keys int) {
	e, f := s.e, sc.flags
	oom := e.limit.max > 0 && !x.fromStream && !e.makeRoom(0)
	if f.shebang {
		switch {
		case !f.noWrites && !x.fromStream && e.replica:
			x.err("READONLY You can not run script with write flag on readonly replica.")
			return
		case !f.noWrites && readonly:
			x.err("ERR Can not execute a script with write flag using *_ro command.")
			return
		case oom && !f.allowOOM && !f.noWrites:
			x.err("OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'")
			return
		}
	}
	s.readonly, s.allowOOM, s.oom, s.repl, s.now = readonly || f.noWrites, f.allowOOM, oom, replAOF|replReplica, x.now
	s.conn.db, s.conn.proto, s.conn.fromStream, s.conn.id = x.c.db, 2, x.fromStream, x.c.id
	s.conn.addr, s.conn.name, s.conn.track = x.c.addr, x.c.name, x.c.track
	s.wrote.Store(false)
	r := s.runtime()
	fn := r.compiled[sc.sha]
	if fn == nil {
		fn = r.L.NewFunctionFromProto(sc.proto)
		r.compiled[sc.sha] = fn
	}
	args := x.args[3:]
	r.global.RawSetString("KEYS", luaList(r.L, args[:keys]))
	r.global.RawSetString("ARGV", luaList(r.L, args[keys:]))
	s.begin(r)
	r.L.Push(fn)
	err, broken := r.protected(s.handler)
	handed := s.end(r)
	switch {
	case s.nested:
		s.nested = false
		panic(fmt.Sprintf("embedded: a command failed inside a script: %v", err))
	case err != nil:
		s.replyError(x, r, sc, err)
	default:
		x.replyScript(r, r.L.Get(-1), s.conn.proto, 0)
	}
	if r.stop.Err() != nil || broken || handed {
		s.discard()
	} else {
		r.L.SetTop(0)
	}
	x.lapsed = x.lapsed || s.x.lapsed
	s.x.lapsed = false
}

var stackTop = regexp.MustCompile(`(user_\w+):(\d+):`)

// protected calls the function on the stack. broken tells that the interpreter isn't to be used again: its own protection
// doesn't hold when there is no room left for the error handler.
func (r *luaRuntime) protected(handler *lua.LFunction) (err error, broken bool) {
	defer func() {
		if p := recover(); p != nil {
			broken = true
			var ok bool
			if err, ok = p.(*lua.ApiError); !ok {
				err = fmt.Errorf("%v", p)
			}
		}
	}()
	err = r.L.PCall(0, 1, handler)
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

// runtime gives the interpreter, ready for a script.
func (s *scripts) runtime() *luaRuntime {
	if s.rt == nil {
		s.rt = newLuaRuntime(s)
		s.handler = s.rt.L.NewFunction(baseErrHandler)
	}
	r := s.rt
	r.deep = 0
	if r.threads > 0 {
		r.threads = 0
		r.stop.forget()
	}
	clear(r.sources)
	return r
}

func (s *scripts) discard() {
	if s.rt != nil {
		s.json = s.rt.json
		s.rt.close()
		s.rt = nil
	}
}

// replyError replies what an uncaught error is.
func (s *scripts) replyError(x *call, r *luaRuntime, sc *script, err error) {
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
				source = "user_script"
				line = m[1][strings.LastIndexByte(strings.TrimSuffix(m[1], ":"), ':')+1 : len(m[1])-1]
			}
			if text == "ERR "+callOverflow || strings.HasSuffix(text, " registry overflow") {
				if m := stackTop.FindStringSubmatch(api.StackTrace); m != nil {
					source, line = m[1], m[2]
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
		text += fmt.Sprintf(" script: %s, on %s:%s.", sc.sha, source, line)
	}
	if counted { // when the command replied it
		x.failed = true
		x.out = frame.AppendError(x.out, oneLine(text))
		return
	}
	x.err(oneLine(text))
}

// --- time and memory ---

func (s *scripts) begin(r *luaRuntime) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active, s.started, s.stop, s.heap = true, time.Now(), r.stop, 0
	if s.closing {
		r.stop.kill(errScriptClosed)
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(watchEvery, s.watch)
	} else {
		s.timer.Reset(watchEvery)
	}
}

// end takes the lock back if the script had let go of it, and tells whether.
func (s *scripts) end(r *luaRuntime) bool {
	s.mu.Lock()
	s.active, s.stop = false, nil
	s.timer.Stop()
	done := s.done
	s.done = nil
	s.mu.Unlock()
	if done == nil {
		return false
	}
	s.e.mu.Lock()
	s.e.busy = nil
	close(done)
	return true
}

func (s *scripts) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.active {
		return
	}
	if s.done == nil && s.patience > 0 && time.Since(s.started) >= s.patience {
		s.done = make(chan struct{})
		s.e.busy = s.done
		s.e.mu.Unlock() // on behalf of the script, which holds it
	}
	s.watchMemory()
	s.timer.Reset(watchEvery)
}

// watchMemory ends a script under which the process grows too much. What is garbage doesn't count, so before that
// the garbage is collected.
func (s *scripts) watchMemory() {
	metrics.Read(s.sample[:])
	now := s.sample[0].Value.Uint64()
	if s.heap == 0 {
		s.heap = now
	}
	limit := uint64(s.e.opts.ScriptMemory)
	if now < s.heap+limit {
		return
	}
	runtime.GC()
	metrics.Read(s.sample[:])
	if live := s.sample[1].Value.Uint64(); live >= s.heap+limit {
		s.stop.kill(errScriptMemory)
	}
}

func (s *scripts) limit() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.patience
}

func (s *scripts) setLimit(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patience = d
}

// kill is SCRIPT KILL; it needs no lock of the engine.
func (s *scripts) kill() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.active:
		return errNotBusy
	case s.conn.fromStream:
		return "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed."
	case s.wrote.Load():
		return errUnkillable
	}
	s.stop.kill(errKilled)
	return ""
}

// close ends the script under way and lets none begin.
func (s *scripts) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	if s.active {
		s.stop.kill(errScriptClosed)
	}
}

// lock takes the write lock for the engine's own work, when no script that has let go of it is under way.
func (e *Engine) lock() {
	e.mu.Lock()
	for e.busy != nil {
		done := e.busy
		e.mu.Unlock()
		<-done
		e.mu.Lock()
	}
}

func (e *Engine) rlock() {
	e.mu.RLock()
	for e.busy != nil {
		done := e.busy
		e.mu.RUnlock()
		<-done
		e.mu.RLock()
	}
}

// whileBusy answers commands while a script is under way that has let go of the lock: with BUSY but for the few that may
// run now. It stops, having waited for the script, at one of them that needs the data.
func (c *Conn) whileBusy(dst []byte, reqs []command.Request, done <-chan struct{}) ([]byte, int) {
	x := &c.x
	x.e, x.c, x.out, x.lapsed, x.now = c.e, c, dst, false, c.e.now()
	n := 0
	for i := range reqs {
		if !c.answerBusy(x, &reqs[i]) {
			<-done
			break
		}
		if n++; c.quit {
			break
		}
	}
	out := x.out
	x.out, x.args, x.raw, x.db = nil, nil, nil, nil
	return out, n
}

func (c *Conn) answerBusy(x *call, req *command.Request) bool {
	spec := req.Spec
	x.spec, x.args, x.raw, x.proto = spec, req.Args, req.Raw, c.proto
	x.dirty, x.rewritten = 0, false
	handle := handler(nil)
	if spec != nil {
		handle = c.e.handlers[spec.ID].handle
	}
	switch {
	case spec == nil || handle == nil && (len(x.args) > 1 || spec.ArityOK(len(x.args))):
		c.reject(x, command.UnknownError(x.args))
	case len(c.watches) > 0 && (spec.Name == "exec" || spec.Is(command.FlagAllowBusy)):
		return false
	case !spec.ArityOK(len(x.args)):
		c.reject(x, command.ArityError(spec))
	case spec.Name == "script|kill":
		if text := c.e.scripts.kill(); text != "" {
			x.err(text)
		} else {
			x.ok()
		}
	case slices.Contains([]string{"multi", "discard", "quit", "auth", "hello", "unwatch"}, spec.Name):
		handle(x)
	case spec.Is(command.FlagAllowBusy):
		return false
	default:
		c.reject(x, errScriptBusy)
	}
	return true
}

// --- SCRIPT ---

func scriptLoad(x *call) {
	sc, text := x.e.scripts.load(x.args[2])
	if sc == nil {
		x.err(text)
		return
	}
	x.bulkString(sc.sha)
}

func scriptExists(x *call) {
	x.array(len(x.args) - 2)
	for _, a := range x.args[2:] {
		x.boolean(x.e.scripts.cache[strings.ToLower(string(a))] != nil)
	}
}

func scriptFlush(x *call) {
	if len(x.args) > 3 || len(x.args) == 3 && !is(x.args[2], "SYNC") && !is(x.args[2], "ASYNC") {
		x.err("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
		return
	}
	s := &x.e.scripts
	clear(s.cache)
	s.order, s.bytes = nil, 0
	s.discard()
	s.json = defaultJSON()
	x.ok()
}

func scriptHelp(x *call) {
	x.help(
		"SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
		"DEBUG (YES|SYNC|NO)",
		"    Set the debug mode for subsequent scripts executed.",
		"EXISTS <sha1> [<sha1> ...]",
		"    Return information about the existence of the scripts in the script cache.",
		"FLUSH [ASYNC|SYNC]",
		"    Flush the Lua scripts cache. Very dangerous on replicas.",
		"    When called without the optional mode argument, the behavior is determined by the",
		"    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
		"    * ASYNC: Asynchronously flush the scripts cache.",
		"    * SYNC: Synchronously flush the scripts cache.",
		"KILL",
		"    Kill the currently executing Lua script.",
		"LOAD <script>",
		"    Load a script into the scripts cache without executing it.",
		"HELP",
		"    Prints this help.",
	)
}
