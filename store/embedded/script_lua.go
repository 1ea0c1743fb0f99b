package embedded

import (
	"context"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

const (
	luaRegistry  = 1 << 10
	luaRegistryM = 1 << 15 // slots of a stack at most: 512 KB, which bounds recursion
	// luaCalls bounds the levels of calls. The other bound is met first: where this one is, there is no room left for the
	// function that says where.
	luaCalls     = 40000
	maxDeepCalls = 190
	maxThreads   = 10000 // coroutines of one script
	// maxArray is where the interpreter stops to use arrays: one assignment beyond an array's end fills it up to there.
	maxArray = 1 << 23
)

// limitArrays sets the interpreter's own limit, which is one for the process.
var limitArrays = sync.OnceFunc(func() { lua.MaxArrayIndex = maxArray })

// luaRuntime is the interpreter with Redis's libraries. Scripts run one at a time, as in Redis, so an engine has one. What a
// script can see of it is read-only; so a script leaves nothing behind for the next but cjson's settings.
type luaRuntime struct {
	L       *lua.LState
	handler *lua.LFunction // of errors
	host    *scripts
	stop    *stopper

	// real has, for each table that scripts can't write, the one behind it that has the content: the former is
	// empty and gets everything by its metatable.
	real        map[*lua.LTable]*lua.LTable
	global      *lua.LTable // what compiled code sees as globals: no script has a reference to it
	globals     *lua.LTable // what scripts see as _G
	globalsMeta *lua.LTable
	stringMeta  *lua.LTable // what getmetatable("") gives
	refuse      *lua.LFunction

	functions *functionEnv // nil: for scripts

	json    jsonSettings
	threads int
	deep    int // calls of Lua by the libraries' functions, one within the other
	null    *lua.LUserData

	sources map[string]string // names of chunks given to loadstring
}

func newLuaRuntime(host *scripts, functions bool) *luaRuntime {
	limitArrays()
	r := &luaRuntime{
		host: host, stop: newStopper(), real: map[*lua.LTable]*lua.LTable{},
		sources: map[string]string{}, json: host.json,
	}
	r.L = lua.NewState(lua.Options{
		SkipOpenLibs: true, RegistrySize: luaRegistry, RegistryMaxSize: luaRegistryM, RegistryGrowStep: 4 << 10,
		CallStackSize: luaCalls, MinimizeStackMemory: true,
	})
	L := r.L
	L.SetContext(r.stop)
	L.Panic = func(L *lua.LState) { // without the trace that is made by default, which takes its time
		panic(&lua.ApiError{Type: lua.ApiErrorRun, Object: L.Get(-1)})
	}
	r.null = L.NewUserData()
	r.refuse = L.NewFunction(func(L *lua.LState) int {
		raise(L, errReadonlyTable)
		return 0
	})
	r.global = L.G.Global
	r.openBase(r.global)
	r.openString(r.global)
	r.openJSON(r.global)
	r.openMsgpack(r.global)
	r.openStruct(r.global)
	r.openBit(r.global)
	r.openRedis(r.global, functions)
	r.handler = L.NewFunction(baseErrHandler)
	r.globals = r.readonly(r.global, true)
	r.global.RawSetString("_G", r.globals)
	r.global.RawSetString(protectName, r.globals)
	undeclared := L.NewTable()
	undeclared.RawSetString("__index", L.NewFunction(func(L *lua.LState) int {
		raise(L, "Script attempted to access nonexistent global variable '%s'", luaText(L.Get(2)))
		return 0
	}))
	r.global.Metatable = undeclared
	r.globalsMeta = r.readonly(undeclared, false)
	return r
}

func (r *luaRuntime) close() { r.L.Close() }

// readonly gives a table that shows content and can't be changed. With direct, it is the metatable's own __index chain that
// answers for what content hasn't.
func (r *luaRuntime) readonly(content *lua.LTable, direct bool) *lua.LTable {
	t := r.L.NewTable()
	meta := r.L.NewTable()
	meta.RawSetString("__index", content)
	meta.RawSetString("__newindex", r.refuse)
	t.Metatable = meta
	r.real[t] = content
	return t
}

// library makes a read-only table of functions and values a global.
func (r *luaRuntime) library(g *lua.LTable, name string, fns map[string]lua.LGFunction, values map[string]lua.LValue) *lua.LTable {
	content := r.L.NewTable()
	for k, fn := range fns {
		content.RawSetString(k, r.L.NewFunction(fn))
	}
	for k, v := range values {
		content.RawSetString(k, v)
	}
	t := r.readonly(content, false)
	g.RawSetString(name, t)
	return t
}

// enter is called before a function of the libraries calls Lua, and leave, deferred, after. As in Lua 5.1 such calls can't be nested
// far: errors would take ever longer on their way out.
func (r *luaRuntime) enter(L *lua.LState) {
	if r.deep >= maxDeepCalls {
		raise(L, "C stack overflow")
	}
	r.deep++
}

func (r *luaRuntime) leave() { r.deep-- }

// checkKilled ends the script if it has been killed: for loops in Go.
func (r *luaRuntime) checkKilled(L *lua.LState) {
	if err := r.stop.Err(); err != nil {
		raise(L, "%s", err.Error())
	}
}

// errorTable makes an error what Redis makes of it: a table with the text in err and the place in source and line. level is
// that of the frame in which it arose.
func errorTable(L *lua.LState, v lua.LValue, level int) lua.LValue {
	t, ok := v.(*lua.LTable)
	if !ok {
		t = L.NewTable()
		text := luaText(v)
		if s, ok := v.(lua.LString); ok {
			text = translate(L, string(s), level)
		}
		t.RawSetString("err", lua.LString("ERR "+text))
	}
	f, ok := frameAt(L, level)
	if ok && f.fn.IsG {
		f, ok = frameAt(L, level+1)
	}
	if ok && !f.fn.IsG {
		t.RawSetString("source", lua.LString(f.fn.Proto.SourceName))
		t.RawSetString("line", lua.LNumber(f.line))
	}
	return t
}

// stopper is the context that ends a script. The interpreter asks its channel before each instruction, so that one that is
// used again and again serves better than a new one for each script.
type stopper struct {
	context.Context
	mu   sync.Mutex
	done chan struct{}
	err  error
	subs map[int]func() // coroutines: context.WithCancel on a stopper calls AfterFunc
	next int
}

func newStopper() *stopper {
	return &stopper{Context: context.Background(), done: make(chan struct{}), subs: map[int]func(){}}
}

func (s *stopper) Done() <-chan struct{} { return s.done }

func (s *stopper) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// AfterFunc keeps package context from starting a goroutine for each coroutine.
func (s *stopper) AfterFunc(f func()) func() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := s.next
	s.subs[id] = f
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, ok := s.subs[id]
		delete(s.subs, id)
		return ok
	}
}

// kill ends the script for good: a killed runtime isn't used again.
func (s *stopper) kill(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	close(s.done)
	subs := s.subs
	s.subs = nil
	s.mu.Unlock()
	for _, f := range subs {
		f()
	}
}

// forget drops what the coroutines of a script have left.
func (s *stopper) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.subs)
}
