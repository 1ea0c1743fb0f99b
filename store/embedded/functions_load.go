package embedded

import (
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

const (
	functionChunk = "user_function" // what a library's code is called in errors
	// functionLoadTime is how long the code of a library may take to register its functions.
	functionLoadTime = 500 * time.Millisecond

	errFunctionName = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
)

// functionEnv is what the code of libraries sees as globals: while it is loaded nearly nothing, in a function all of what
// scripts see.
type functionEnv struct {
	meta    *lua.LTable
	loading *lua.LTable
	lib     *library // being loaded
}

// newFunctionRuntime is an interpreter for functions.
func newFunctionRuntime(s *scripts) *luaRuntime {
	r := newLuaRuntime(s, true)
	L := r.L
	env := &functionEnv{meta: L.NewTable(), loading: L.NewTable()}
	r.functions = env
	missing := L.NewTable()
	missing.RawSetString("__index", r.global.Metatable.(*lua.LTable).RawGetString("__index"))
	api := L.NewTable()
	full := r.real[r.global.RawGetString("redis").(*lua.LTable)]
	for _, name := range []string{"log", "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION", "REDIS_VERSION_NUM"} {
		api.RawSetString(name, full.RawGetString(name))
	}
	api.RawSetString("register_function", L.NewFunction(r.registerFunction))
	api.Metatable = missing
	env.loading.RawSetString("redis", r.readonly(api, false))
	env.loading.RawSetString(concatName, r.global.RawGetString(concatName))
	env.loading.RawSetString(protectName, r.globals)
	env.loading.Metatable = missing
	g := L.NewTable()
	g.Metatable = env.meta
	env.meta.RawSetString("__index", r.global)
	L.Env = g
	return r
}

// awake has an interpreter with all libraries in it.
func (f *functions) awake(e *Engine) (problem string) {
	if f.rt != nil {
		return ""
	}
	f.rt = newFunctionRuntime(&e.scripts)
	for _, lib := range f.sorted() {
		again, problem := f.compile(e, lib.code)
		if problem != "" {
			f.close()
			return problem
		}
		for _, fn := range lib.functions {
			for _, twin := range again.functions {
				if twin.name == fn.name {
					fn.callback = twin.callback
				}
			}
		}
	}
	return ""
}

// load adds a library.
func (f *functions) load(e *Engine, code string, replace bool) (name, problem string) {
	if problem := f.awake(e); problem != "" {
		return "", problem
	}
	head, problem := parseLibrary(code)
	if problem != "" {
		return "", problem
	}
	old := f.libs[head]
	if old != nil && !replace {
		return "", "ERR Library '" + head + "' already exists"
	}
	lib, problem := f.compile(e, code)
	if problem != "" {
		return "", problem
	}
	if name := f.clash(lib, old); name != "" {
		return "", "ERR Function " + name + " already exists"
	}
	if old != nil {
		f.remove(old)
	}
	f.add(lib)
	return lib.name, ""
}

// clash names a function of the library that another library than old has too.
func (f *functions) clash(lib, old *library) string {
	for _, fn := range lib.functions {
		if other := f.byName[strings.ToLower(fn.name)]; other != nil && other.lib != old {
			return fn.name
		}
	}
	return ""
}

// parseLibrary reads a library's first line: "#!lua name=…".
func parseLibrary(code string) (name, problem string) {
	if !strings.HasPrefix(code, "#!") {
		return "", "ERR Missing library metadata"
	}
	line, _, ok := strings.Cut(code, "\n")
	if !ok {
		return "", "ERR Invalid library metadata"
	}
	parts := strings.Fields(line[2:])
	if len(parts) == 0 || strings.HasPrefix(line[2:], " ") {
		parts = append([]string{""}, parts...)
	}
	given := false
	for _, p := range parts[1:] {
		if len(p) < 5 || !strings.EqualFold(p[:5], "name=") {
			return "", "ERR Invalid metadata value given: " + p
		}
		if given {
			return "", "ERR Invalid metadata value, name argument was given multiple times"
		}
		name, given = p[5:], true
	}
	switch {
	case !given:
		return "", "ERR Library name was not given"
	case !validFunctionName(name):
		return "", "ERR " + errFunctionName
	case !strings.EqualFold(parts[0], "lua"):
		return "", "ERR Engine '" + parts[0] + "' not found"
	}
	return name, ""
}

func validFunctionName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}

// compile runs a library's code, which registers its functions with it.
func (f *functions) compile(e *Engine, code string) (lib *library, problem string) {
	name, problem := parseLibrary(code)
	if problem != "" {
		return nil, problem
	}
	if f.rt == nil {
		f.rt = newFunctionRuntime(&e.scripts)
	}
	r := f.rt
	_, body, _ := strings.Cut(code, "\n")
	proto, err := compileLua("\n"+body, functionChunk)
	if err != nil {
		return nil, "ERR Error compiling function: " + err.Error()
	}
	lib = &library{name: name, code: code}
	env := r.functions
	env.lib = lib
	env.meta.RawSetString("__index", env.loading)
	r.ready()
	e.scripts.cur = r
	limit := time.AfterFunc(functionLoadTime, func() { r.stop.kill(errLoadTime) })
	r.L.Push(r.L.NewFunctionFromProto(proto))
	err, broken := r.protected(0)
	limit.Stop()
	env.lib = nil
	env.meta.RawSetString("__index", r.global)
	if r.stop.Err() != nil || broken {
		f.close()
	} else {
		r.L.SetTop(0)
	}
	switch {
	case r.stop.Err() != nil:
		return nil, "ERR Error registering functions: " + r.stop.Err().Error()
	case err != nil:
		text := err.Error()
		if api, ok := err.(*lua.ApiError); ok {
			text = luaText(api.Object)
			if t, ok := api.Object.(*lua.LTable); ok {
				text, _ = field(t, "err")
			} else if at, overflow := stackOverflow(api); overflow && at != nil {
				text = "ERR " + at[0] + ":" + at[1] + ": stack overflow"
			}
		}
		return nil, "ERR Error registering functions: " + text
	case len(lib.functions) == 0:
		return nil, "ERR No functions registered"
	}
	return lib, ""
}

// registerFunction is redis.register_function.
func (r *luaRuntime) registerFunction(L *lua.LState) int {
	fn := &function{lib: r.functions.lib, flags: scriptFlags{shebang: true}}
	problem := ""
	switch L.GetTop() {
	case 1:
		if t, ok := L.Get(1).(*lua.LTable); ok {
			problem = fn.named(t)
		} else {
			problem = "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments)."
		}
	case 2:
		problem = fn.positional(L.Get(1), L.Get(2))
	default:
		problem = "wrong number of arguments to redis.register_function"
	}
	if problem == "" && fn.lib == nil { // kept by the library and called later
		problem = "redis.register_function can only be called on FUNCTION LOAD command"
	}
	if problem == "" && !validFunctionName(fn.name) {
		problem = errFunctionName
	}
	if problem == "" {
		for _, other := range fn.lib.functions {
			if strings.EqualFold(other.name, fn.name) { // the real server takes names that differ in case only, and dies of it later
				problem = "Function already exists in the library"
			}
		}
	}
	if problem != "" {
		failRedis(L, "ERR "+problem)
	}
	fn.lib.functions = append(fn.lib.functions, fn)
	return 0
}

func (fn *function) positional(name, callback lua.LValue) (problem string) {
	if !lua.LVCanConvToString(name) {
		return "first argument to redis.register_function must be a string"
	}
	fn.name = luaText(name)
	var ok bool
	if fn.callback, ok = callback.(*lua.LFunction); !ok {
		return "second argument to redis.register_function must be a function"
	}
	return ""
}

func (fn *function) named(t *lua.LTable) (problem string) {
	given := false
	t.ForEach(func(k, v lua.LValue) {
		if problem != "" {
			return
		}
		if !lua.LVCanConvToString(k) {
			problem = "named argument key given to redis.register_function is not a string"
			return
		}
		var ok bool
		switch key := luaText(k); {
		case strings.EqualFold(key, "function_name"):
			if given = lua.LVCanConvToString(v); !given {
				problem = "function_name argument given to redis.register_function must be a string"
				return
			}
			fn.name = luaText(v)
		case strings.EqualFold(key, "description"):
			if !lua.LVCanConvToString(v) {
				problem = "description argument given to redis.register_function must be a string"
				return
			}
			text := luaText(v)
			fn.description = &text
		case strings.EqualFold(key, "callback"):
			if fn.callback, ok = v.(*lua.LFunction); !ok {
				problem = "callback argument given to redis.register_function must be a function"
			}
		case strings.EqualFold(key, "flags"):
			list, ok := v.(*lua.LTable)
			if !ok {
				problem = "flags argument to redis.register_function must be a table representing function flags"
				return
			}
			problem = fn.setFlags(list)
		default:
			problem = "unknown argument given to redis.register_function"
		}
	})
	switch {
	case problem != "":
	case !given:
		problem = "redis.register_function must get a function name argument"
	case fn.callback == nil:
		problem = "redis.register_function must get a callback argument"
	}
	return problem
}

func (fn *function) setFlags(list *lua.LTable) (problem string) {
	for i := 1; ; i++ {
		v := list.RawGetInt(i)
		if v == lua.LNil {
			return ""
		}
		switch name, _ := v.(lua.LString); strings.ToLower(string(name)) {
		case "no-writes":
			fn.flags.noWrites = true
		case "allow-oom":
			fn.flags.allowOOM = true
		case "allow-stale":
			fn.flags.allowStale = true
		case "no-cluster":
			fn.flags.noCluster = true
		case "allow-cross-slot-keys":
			fn.flags.crossSlot = true
		default:
			return "unknown flag given"
		}
	}
}
