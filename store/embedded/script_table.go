package embedded

import (
	"fmt"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Lua's table library.

func (r *luaRuntime) tableInsert(L *lua.LState) int {
	t := checkTable(L, 1)
	n := t.Len() + 1
	switch L.GetTop() {
	case 2:
		r.writable(L, t)
		t.RawSetInt(n, L.Get(2))
	case 3:
		pos := int(int32(checkInt(L, 2)))
		r.writable(L, t)
		if pos > n {
			n = pos
		}
		if pos >= 1 && pos < n && n == t.Len()+1 {
			t.Insert(pos, L.Get(3))
			break
		}
		for i := n; i > pos; i-- {
			if i&0xfff == 0 {
				r.checkKilled(L)
			}
			setIndex(t, i, getIndex(t, i-1))
		}
		setIndex(t, pos, L.Get(3))
	default:
		raise(L, "wrong number of arguments to 'insert'")
	}
	return 0
}

func getIndex(t *lua.LTable, i int) lua.LValue    { return t.RawGet(lua.LNumber(i)) }
func setIndex(t *lua.LTable, i int, v lua.LValue) { t.RawSet(lua.LNumber(i), v) }

func (r *luaRuntime) tableRemove(L *lua.LState) int {
	t := checkTable(L, 1)
	n := t.Len()
	pos := optInt(L, 2, n)
	if pos < 1 || pos > n {
		return 0
	}
	r.writable(L, t)
	L.Push(t.Remove(pos))
	return 1
}

func tableConcat(L *lua.LState) int {
	t := checkTable(L, 1)
	sep := optString(L, 2, "")
	i := optInt(L, 3, 1)
	last := t.Len()
	if L.Get(4) != lua.LNil {
		last = checkInt(L, 4)
	}
	var b strings.Builder
	for ; i <= last; i++ {
		v := getIndex(t, i)
		switch v := v.(type) {
		case lua.LString:
			b.WriteString(string(v))
		case lua.LNumber:
			b.WriteString(formatNumber(float64(v)))
		default:
			raise(L, "invalid value (%s) at index %d in table for 'concat'", v.Type(), i)
		}
		if i < last {
			b.WriteString(sep)
		}
		if b.Len() > maxLuaString {
			raiseBare(L, "not enough memory")
		}
	}
	L.Push(lua.LString(b.String()))
	return 1
}

func (r *luaRuntime) tableForeach(L *lua.LState) int {
	t := r.backing(checkTable(L, 1))
	r.enter(L)
	defer r.leave()
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if done := callback(L, k, v); done {
			return 1
		}
	}
	return 0
}

func (r *luaRuntime) tableForeachi(L *lua.LState) int {
	t := checkTable(L, 1)
	r.enter(L)
	defer r.leave()
	for i, n := 1, t.Len(); i <= n; i++ {
		if done := callback(L, lua.LNumber(i), t.RawGetInt(i)); done {
			return 1
		}
	}
	return 0
}

func callback(L *lua.LState, k, v lua.LValue) bool {
	if _, ok := L.Get(2).(*lua.LFunction); !ok {
		typeError(L, 2, "function")
	}
	L.Push(L.Get(2))
	L.Push(k)
	L.Push(v)
	L.Call(2, 1)
	if L.Get(-1) != lua.LNil {
		return true
	}
	L.Pop(1)
	return false
}

func tableGetn(L *lua.LState) int {
	L.Push(lua.LNumber(checkTable(L, 1).Len()))
	return 1
}

func tableMaxn(L *lua.LState) int {
	var most float64
	checkTable(L, 1).ForEach(func(k, _ lua.LValue) {
		if n, ok := k.(lua.LNumber); ok {
			most = max(most, float64(n))
		}
	})
	L.Push(lua.LNumber(most))
	return 1
}

func tableSetn(L *lua.LState) int {
	raise(L, "'setn' is obsolete")
	return 0
}

func (r *luaRuntime) tableSort(L *lua.LState) int {
	t := checkTable(L, 1)
	var less *lua.LFunction
	if v := L.Get(2); v != lua.LNil {
		f, ok := v.(*lua.LFunction)
		if !ok {
			typeError(L, 2, "function")
		}
		less = f
	}
	n := t.Len()
	if n > 1 {
		r.writable(L, t)
	}
	r.enter(L)
	defer r.leave()
	vs := make([]lua.LValue, n)
	for i := range vs {
		vs[i] = t.RawGetInt(i + 1)
	}
	before := func(a, b lua.LValue) bool {
		if less != nil {
			L.Push(less)
			L.Push(a)
			L.Push(b)
			L.Call(2, 1)
			ok := lua.LVAsBool(L.Get(-1))
			L.Pop(1)
			return ok
		}
		switch x := a.(type) {
		case lua.LNumber:
			if y, ok := b.(lua.LNumber); ok {
				return x < y
			}
		case lua.LString:
			if y, ok := b.(lua.LString); ok {
				return x < y
			}
		case *lua.LTable:
			if mm := L.GetMetaField(x, "__lt"); mm != lua.LNil && mm == L.GetMetaField(b, "__lt") {
				return L.LessThan(a, b)
			}
		}
		if a.Type() == b.Type() {
			raiseBare(L, fmt.Sprintf("attempt to compare two %s values", a.Type()))
		}
		raiseBare(L, fmt.Sprintf("attempt to compare %s with %s", a.Type(), b.Type()))
		return false
	}
	slices.SortFunc(vs, func(a, b lua.LValue) int {
		switch {
		case before(a, b):
			return -1
		case before(b, a):
			return 1
		}
		return 0
	})
	for i, v := range vs {
		t.RawSetInt(i+1, v)
	}
	return 0
}
