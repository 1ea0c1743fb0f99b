package embedded

import lua "github.com/yuin/gopher-lua"

// Lua's coroutine library.

func (r *luaRuntime) openCoroutine(g *lua.LTable) {
	L := r.L
	scratch := L.NewTable()
	lua.OpenCoroutine(L)
	if mod, ok := L.Get(-1).(*lua.LTable); ok {
		scratch = mod
	}
	L.SetTop(0)
	fns := map[string]lua.LGFunction{}
	scratch.ForEach(func(k, v lua.LValue) { fns[k.String()] = v.(*lua.LFunction).GFunction })
	create := fns["create"]
	fns["create"] = func(L *lua.LState) int {
		if f, ok := L.Get(1).(*lua.LFunction); !ok || f.IsG {
			argError(L, 1, "Lua function expected")
		}
		if r.threads++; r.threads > maxThreads {
			raiseBare(L, "not enough memory")
		}
		return create(L)
	}
	resume := fns["resume"]
	fns["resume"] = func(L *lua.LState) int {
		th, ok := L.Get(1).(*lua.LState)
		if !ok {
			argError(L, 1, "coroutine expected")
		}
		r.enter(L)
		defer r.leave()
		n := resume(L)
		if n == 2 && L.Get(-2) == lua.LFalse {
			if s, ok := L.Get(-1).(lua.LString); ok {
				L.Pop(1)
				L.Push(lua.LString(resumeError(th, string(s))))
			}
		}
		return n
	}
	again := L.NewFunction(fns["resume"])
	fns["wrap"] = func(L *lua.LState) int {
		fns["create"](L)
		th := L.Get(-1)
		L.Push(L.NewFunction(func(L *lua.LState) int {
			n := L.GetTop()
			L.Insert(again, 1)
			L.Insert(th, 2)
			L.Call(n+1, lua.MultRet)
			ok := L.Get(1) == lua.LTrue
			L.Remove(1)
			if !ok {
				v := L.Get(1)
				if s, isText := v.(lua.LString); isText {
					raise(L, "%s", string(s))
				}
				L.Error(v, 0)
			}
			return L.GetTop()
		}))
		return 1
	}
	yield := fns["yield"]
	fns["yield"] = func(L *lua.LState) int {
		for level := 1; ; level++ {
			f, ok := frameAt(L, level)
			if L.Parent == nil || ok && f.fn.IsG {
				raiseBare(L, "attempt to yield across metamethod/C-call boundary")
			}
			if !ok {
				return yield(L)
			}
		}
	}
	r.library(g, "coroutine", fns, nil)
}

func resumeError(th *lua.LState, text string) string {
	switch text {
	case "can not resume a dead thread":
		return "cannot resume dead coroutine"
	case "can not resume a running thread":
		return "cannot resume running coroutine"
	}
	return translate(th, text, 0)
}
