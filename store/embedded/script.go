package embedded

import (
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lua "github.com/yuin/gopher-lua"
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
	errNotBusy      = "NOTBUSY No scripts in execution right now."
	errNoScript     = "NOSCRIPT No matching script. Please use EVAL."
	errScriptBusy   = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
	errFunctionBusy = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
	errUnkillable   = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the " +
		"script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)

// scriptEnd is why a script was ended, as the client reads it: the first is Redis's text, the others are like it.
type scriptEnd string

const (
	errKilled         scriptEnd = "Script killed by user with SCRIPT KILL..."
	errFunctionKilled scriptEnd = "Script killed by user with FUNCTION KILL."
	errLoadTime       scriptEnd = "FUNCTION LOAD timeout"
	errScriptMemory   scriptEnd = "Script killed: it used too much memory."
	errScriptClosed   scriptEnd = "Script killed: the server is closing."
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
	fn    *lua.LFunction // in the runtime of
	of    *luaRuntime
}

// scriptFlags are those of a script's first line. Without such a line, a script is treated as before Redis 7.
type scriptFlags struct {
	shebang, noWrites, allowOOM, allowStale, noCluster, crossSlot bool
}

// scripts is what an engine keeps for scripts. The engine's write lock guards it, but for what stands behind mu.
type scripts struct {
	e      *Engine
	cache  map[string]*script // by SHA1
	texts  map[string]*script // the same by their text, so that EVAL needn't compute it
	order  []string           // by age
	bytes  int
	rt     *luaRuntime
	cur    *luaRuntime // of the script under way, or the last
	json   jsonSettings
	random lrand48 // goes on from script to script
	conn   Conn    // the session that a script's commands run on
	x      call
	caller *call // of the script under way

	// The script under way.
	readonly, allowOOM, oom, nested bool
	repl                            int
	now                             int64
	args                            [][]byte
	numbers, raw                    []byte
	wrote                           atomic.Bool

	mu       sync.Mutex
	patience time.Duration // how long before others are answered BUSY; 0: for ever
	timer    *time.Timer
	active   bool
	program  program // under way
	started  int64   // tick
	runs     uint64  // scripts so far
	seen     uint64  // runs when the watch last looked
	watched  bool
	stop     *stopper
	done     chan struct{} // closed when a script that has let go of the lock ends
	heap     uint64        // when first looked at
	sample   [2]metrics.Sample
	closing  bool
}

func (s *scripts) init(e *Engine) {
	s.e, s.cache, s.texts, s.json, s.random.x = e, map[string]*script{}, map[string]*script{}, defaultJSON(), 0x1234abcd330e
	s.conn.e, s.conn.proto = e, 2
	s.patience = e.opts.ScriptTimeLimit
	s.sample[0].Name, s.sample[1].Name = "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes"
}

// --- EVAL ---

func evalCommand(x *call, bySHA, readonly bool) {
	x.rewritten = true           // what goes to replicas is what the script does
	x.showAlways(x.spec, x.args) // before what the script does
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
	r := s.runtime()
	if sc.of != r {
		sc.fn, sc.of = r.L.NewFunctionFromProto(sc.proto), r
	}
	args := x.args[3:]
	r.global.RawSetString("KEYS", luaList(r.L, args[:n]))
	r.global.RawSetString("ARGV", luaList(r.L, args[n:]))
	if s.run(x, r, program{name: sc.sha, chunk: "user_script", flags: sc.flags, readonly: readonly}, sc.fn) {
		s.discard()
	}
}

// load finds or compiles a script; otherwise it gives the error's text.
func (s *scripts) load(text []byte) (*script, string) {
	if sc := s.texts[string(text)]; sc != nil {
		return sc, ""
	}
	sha := shaOf(text)
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
	s.cache[sha], s.texts[sc.text] = sc, sc
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
		delete(s.texts, sc.text)
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

// runtime gives the interpreter, ready for a script.
func (s *scripts) runtime() *luaRuntime {
	if s.rt == nil {
		s.rt = newLuaRuntime(s, false)
	}
	s.rt.ready()
	return s.rt
}

// ready forgets what the last script has left.
func (r *luaRuntime) ready() {
	r.deep = 0
	if r.threads > 0 {
		r.threads = 0
		r.stop.forget()
	}
	clear(r.sources)
}

func (s *scripts) discard() {
	if s.rt != nil {
		s.json = s.rt.json
		s.rt.close()
		for _, sc := range s.cache {
			sc.fn, sc.of = nil, nil // of no use, and it would keep the runtime
		}
		s.rt = nil
	}
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
	clear(s.texts)
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
