package embedded

import (
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The string library of Lua 5.1 (https://www.lua.org/manual/5.1/manual.html#5.4). Strings are bytes.

const (
	maxLuaString = 256 << 20 // bytes of one string
	maxCaptures  = 32
	maxMatchDeep = 200 // levels of recursion in a match
)

func (r *luaRuntime) openString(g *lua.LTable) {
	lib := r.library(g, "string", map[string]lua.LGFunction{
		"byte": strByte, "char": strChar, "find": r.strFind, "format": r.strFormat, "gmatch": r.strGmatch, "gfind": r.strGmatch,
		"gsub": r.strGsub, "len": strLen, "lower": strLower, "match": r.strMatch, "rep": r.strRep, "reverse": strReverse,
		"sub": strSub, "upper": strUpper, "dump": strDump,
	}, nil)
	r.stringMeta = r.readonly(r.L.NewTable(), false)
	r.real[r.stringMeta].RawSetString("__index", lib)
	// What the interpreter looks up for strings has also the arithmetic of strings that are numbers.
	meta := r.L.NewTable()
	meta.RawSetString("__index", lib)
	for event, op := range map[string]func(a, b float64) float64{
		"__add": func(a, b float64) float64 { return a + b },
		"__sub": func(a, b float64) float64 { return a - b },
		"__mul": func(a, b float64) float64 { return a * b },
		"__div": func(a, b float64) float64 { return a / b },
		"__mod": func(a, b float64) float64 { return a - math.Floor(a/b)*b },
		"__pow": math.Pow,
	} {
		meta.RawSetString(event, r.L.NewFunction(func(L *lua.LState) int {
			a, ok := toNumber(L.Get(1))
			b, ok2 := toNumber(L.Get(2))
			if !ok || !ok2 {
				f, found := frameAt(L, 1)
				reg, bad := 2, L.Get(2)
				if !ok {
					reg, bad = 1, L.Get(1)
				}
				text := "a " + bad.Type().String() + " value"
				if found && !f.fn.IsG && f.pc >= 0 {
					_, _, b, c := luaOp(f.fn.Proto.Code[f.pc])
					text = f.describe([...]int{b, c}[reg-1], bad.Type().String())
				}
				raise(L, "attempt to perform arithmetic on %s", text)
			}
			L.Push(lua.LNumber(op(a, b)))
			return 1
		}))
	}
	meta.RawSetString("__unm", r.L.NewFunction(func(L *lua.LState) int {
		a, ok := toNumber(L.Get(1))
		if !ok {
			raise(L, "attempt to perform arithmetic on a string value")
		}
		L.Push(lua.LNumber(-a))
		return 1
	}))
	r.L.SetMetatable(lua.LString(""), meta)
}

// position makes a position relative to the end an absolute one.
func position(p, n int) int {
	if p < 0 {
		p += n + 1
	}
	return max(p, 0)
}

func strByte(L *lua.LState) int {
	s := checkString(L, 1)
	i := position(optInt(L, 2, 1), len(s))
	j := position(optInt(L, 3, i), len(s))
	i, j = max(i, 1), min(j, len(s))
	if i > j {
		return 0
	}
	if j-i+1 >= maxUnpack {
		raise(L, "string slice too long")
	}
	for k := i; k <= j; k++ {
		L.Push(lua.LNumber(s[k-1]))
	}
	return j - i + 1
}

func strChar(L *lua.LState) int {
	b := make([]byte, L.GetTop())
	for i := range b {
		c := checkInt(L, i+1)
		if c < 0 || c > 255 {
			argError(L, i+1, "invalid value")
		}
		b[i] = byte(c)
	}
	L.Push(lua.LString(b))
	return 1
}

// strDump: there is no bytecode.
func strDump(L *lua.LState) int {
	raise(L, "unable to dump given function")
	return 0
}

func strLen(L *lua.LState) int {
	L.Push(lua.LNumber(len(checkString(L, 1))))
	return 1
}

func strLower(L *lua.LState) int { return mapBytes(L, 'A', 'Z') }
func strUpper(L *lua.LState) int { return mapBytes(L, 'a', 'z') }

func mapBytes(L *lua.LState, from, to byte) int {
	b := []byte(checkString(L, 1))
	for i, c := range b {
		if c >= from && c <= to {
			b[i] = c ^ 0x20
		}
	}
	L.Push(lua.LString(b))
	return 1
}

func strReverse(L *lua.LState) int {
	s := checkString(L, 1)
	b := make([]byte, len(s))
	for i := range b {
		b[i] = s[len(s)-1-i]
	}
	L.Push(lua.LString(b))
	return 1
}

func (r *luaRuntime) strRep(L *lua.LState) int {
	s, n := checkString(L, 1), checkInt(L, 2)
	if n <= 0 || s == "" {
		L.Push(lua.LString(""))
		return 1
	}
	if n > maxLuaString {
		n = maxLuaString + 1
	}
	r.bound(L, len(s)*n)
	L.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

func strSub(L *lua.LState) int {
	s := checkString(L, 1)
	i := position(checkInt(L, 2), len(s))
	j := position(optInt(L, 3, -1), len(s))
	i, j = max(i, 1), min(j, len(s))
	if i > j {
		L.Push(lua.LString(""))
	} else {
		L.Push(lua.LString(s[i-1 : j]))
	}
	return 1
}
