package embedded

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Lua 5.1's own libraries, but for strings: as far as Redis lets scripts have them, written anew where the
// interpreter's differ from Lua or have no bounds.

// formatNumber is "%.14g".
func formatNumber(f float64) string { return formatG(f, 14) }

func formatG(f float64, prec int) string {
	switch {
	case math.IsNaN(f):
		if math.Signbit(f) {
			return "-nan"
		}
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f == math.Trunc(f) && math.Abs(f) < 1e14 && prec >= 14 && (f != 0 || !math.Signbit(f)):
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', prec, 64)
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// parseNumber is Lua's: strtod, and hexadecimal integers, with white space around.
func parseNumber(s string) (float64, bool) {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	body := strings.TrimLeft(s, "+-")
	if s == "" || len(s)-len(body) > 1 || strings.ContainsRune(s, '_') {
		return 0, false
	}
	low := strings.ToLower(body)
	if strings.HasPrefix(low, "0x") {
		if !strings.ContainsAny(low, ".p") {
			low += "p0"
		}
	} else if strings.ContainsAny(low, "pbo") || strings.HasPrefix(low, "i") && low != "inf" && low != "infinity" {
		return 0, false
	}
	f, err := strconv.ParseFloat(low, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	if s[0] == '-' {
		f = -f
	}
	return f, true
}

func toNumber(v lua.LValue) (float64, bool) {
	switch v := v.(type) {
	case lua.LNumber:
		return float64(v), true
	case lua.LString:
		return parseNumber(string(v))
	}
	return 0, false
}

// text is tostring without metamethods.
func luaText(v lua.LValue) string {
	switch v := v.(type) {
	case lua.LString:
		return string(v)
	case lua.LNumber:
		return formatNumber(float64(v))
	case *lua.LUserData:
		return "userdata: (nil)"
	}
	return v.String()
}

func (r *luaRuntime) openBase(g *lua.LTable) {
	L := r.L
	for name, fn := range map[string]lua.LGFunction{
		"assert": baseAssert, "collectgarbage": baseCollect, "error": baseError, "gcinfo": baseGCInfo,
		"getmetatable": r.baseGetmetatable, "setmetatable": r.baseSetmetatable, "next": r.baseNext,
		"load": r.baseLoad, "loadstring": r.baseLoadstring, "pcall": r.basePcall, "xpcall": r.baseXpcall, "rawequal": baseRawequal,
		"rawget": r.baseRawget, "rawset": r.baseRawset, "select": baseSelect, "tonumber": baseTonumber, "tostring": r.baseTostring,
		"type": baseType, "unpack": baseUnpack, "__redis__err__handler": baseErrHandler,
	} {
		g.RawSetString(name, L.NewFunction(fn))
	}
	g.RawSetString("_VERSION", lua.LString("Lua 5.1"))
	g.RawSetString(concatName, L.NewFunction(r.concat))
	next := g.RawGetString("next")
	g.RawSetString("pairs", L.NewFunction(func(L *lua.LState) int {
		t := checkTable(L, 1)
		L.Push(next)
		L.Push(t)
		L.Push(lua.LNil)
		return 3
	}))
	step := L.NewFunction(func(L *lua.LState) int {
		i := int(L.Get(2).(lua.LNumber)) + 1
		v := L.GetTable(L.Get(1), lua.LNumber(i))
		if t, ok := L.Get(1).(*lua.LTable); ok && t.Metatable == lua.LNil {
			v = t.RawGetInt(i)
		}
		if v == lua.LNil {
			L.Push(lua.LNil)
			return 1
		}
		L.Push(lua.LNumber(i))
		L.Push(v)
		return 2
	})
	g.RawSetString("ipairs", L.NewFunction(func(L *lua.LState) int {
		t := checkTable(L, 1)
		L.Push(step)
		L.Push(t)
		L.Push(lua.LNumber(0))
		return 3
	}))
	r.openCoroutine(g)
	r.library(g, "table", map[string]lua.LGFunction{
		"concat": tableConcat, "foreach": r.tableForeach, "foreachi": r.tableForeachi, "getn": tableGetn, "insert": r.tableInsert,
		"maxn": tableMaxn, "remove": r.tableRemove, "setn": tableSetn, "sort": r.tableSort,
	}, nil)
	r.openMath(g)
}

// concat joins its arguments: the operands of a chain of "..", which is right-associative.
func (r *luaRuntime) concat(L *lua.LState) int {
	n, size := L.GetTop(), 0
	var parts [8]string
	texts := parts[:0]
	for i := 1; i <= n; i++ {
		switch v := L.Get(i).(type) {
		case lua.LString:
			texts = append(texts, string(v))
		case lua.LNumber:
			texts = append(texts, formatNumber(float64(v)))
		default:
			return r.concatSlowly(L)
		}
		size += len(texts[i-1])
	}
	r.bound(L, size)
	L.Push(lua.LString(strings.Join(texts, "")))
	return 1
}

func (r *luaRuntime) concatSlowly(L *lua.LState) int {
	r.enter(L)
	defer r.leave()
	acc := L.Get(L.GetTop())
	for i := L.GetTop() - 1; i > 0; i-- {
		lhs := L.Get(i)
		if lua.LVCanConvToString(lhs) && lua.LVCanConvToString(acc) {
			a, b := luaText(lhs), luaText(acc)
			r.bound(L, len(a)+len(b))
			acc = lua.LString(a + b)
			continue
		}
		op := L.GetMetaField(lhs, "__concat")
		if op == lua.LNil {
			op = L.GetMetaField(acc, "__concat")
		}
		if op == lua.LNil {
			bad, reg := lhs, i
			if lua.LVCanConvToString(lhs) {
				bad, reg = acc, i+1
			}
			text := "a " + bad.Type().String() + " value"
			if f, ok := frameAt(L, 1); ok && !f.fn.IsG && f.pc >= 0 {
				_, a, _, _ := luaOp(f.fn.Proto.Code[f.pc])
				text = f.describe(a+reg, bad.Type().String())
			}
			raise(L, "attempt to concatenate %s", text)
		}
		L.Push(op)
		L.Push(lhs)
		L.Push(acc)
		L.Call(2, 1)
		acc = L.Get(-1)
		L.Pop(1)
	}
	L.Push(acc)
	return 1
}

// bound refuses to make a string too large.
func (r *luaRuntime) bound(L *lua.LState, size int) {
	if size > maxLuaString {
		raiseBare(L, "not enough memory")
	}
}

func baseAssert(L *lua.LState) int {
	if !lua.LVAsBool(checkAny(L, 1)) {
		raise(L, "%s", optString(L, 2, "assertion failed!"))
	}
	return L.GetTop()
}

func baseCollect(L *lua.LState) int {
	switch o := optString(L, 1, "collect"); o {
	case "count":
		L.Push(lua.LNumber(64))
	case "collect", "stop", "restart", "setpause", "setstepmul":
		L.Push(lua.LNumber(0))
	case "step":
		L.Push(lua.LTrue)
	default:
		argError(L, 1, "invalid option '"+o+"'")
	}
	return 1
}

func baseGCInfo(L *lua.LState) int {
	L.Push(lua.LNumber(64))
	return 1
}

func baseError(L *lua.LState) int {
	v, level := L.Get(1), optInt(L, 2, 1)
	if n, ok := v.(lua.LNumber); ok {
		v = lua.LString(formatNumber(float64(n)))
	}
	if s, ok := v.(lua.LString); ok && level > 0 {
		if f, ok := frameAt(L, level); ok && !f.fn.IsG {
			v = lua.LString(fmt.Sprintf("%s:%d: %s", f.fn.Proto.SourceName, f.line, s))
		}
	}
	L.Error(v, 0)
	return 0
}

// baseErrHandler is visible to scripts in Redis too.
func baseErrHandler(L *lua.LState) int {
	L.Push(errorTable(L, L.Get(1), 1))
	return 1
}

func (r *luaRuntime) baseGetmetatable(L *lua.LState) int {
	v := checkAny(L, 1)
	t, ok := v.(*lua.LTable)
	switch {
	case v.Type() == lua.LTString:
		L.Push(r.stringMeta)
	case !ok, r.real[t] != nil && t != r.globals:
		L.Push(lua.LNil)
	case t == r.globals:
		L.Push(r.globalsMeta)
	default:
		mt, ok := t.Metatable.(*lua.LTable)
		if !ok {
			L.Push(lua.LNil)
		} else if p := mt.RawGetString("__metatable"); p != lua.LNil {
			L.Push(p)
		} else {
			L.Push(mt)
		}
	}
	return 1
}

func (r *luaRuntime) baseSetmetatable(L *lua.LState) int {
	t := checkTable(L, 1)
	mt := L.Get(2)
	if mt.Type() != lua.LTTable && (mt != lua.LNil || L.GetTop() < 2) {
		argError(L, 2, "nil or table expected")
	}
	if old, ok := t.Metatable.(*lua.LTable); ok && r.real[t] == nil && old.RawGetString("__metatable") != lua.LNil {
		raise(L, "cannot change a protected metatable")
	}
	r.writable(L, t)
	t.Metatable = mt
	L.Push(t)
	return 1
}

const errReadonlyTable = "Attempt to modify a readonly table"

// writable refuses changes of Redis's own tables.
func (r *luaRuntime) writable(L *lua.LState, t *lua.LTable) {
	if t.Metatable != lua.LNil && r.real[t] != nil {
		raiseBare(L, errReadonlyTable)
	}
}

// backing is the table that holds the content of t.
func (r *luaRuntime) backing(t *lua.LTable) *lua.LTable {
	if t.Metatable != lua.LNil {
		if b := r.real[t]; b != nil {
			return b
		}
	}
	return t
}

func (r *luaRuntime) baseNext(L *lua.LState) int {
	t, key := checkTable(L, 1), L.Get(2)
	t = r.backing(t)
	if key != lua.LNil && t.RawGet(key) == lua.LNil && !knownKey(t, key) {
		raiseBare(L, "invalid key to 'next'")
	}
	k, v := t.Next(key)
	for k == lua.LString(concatName) || k == lua.LString(protectName) {
		k, v = t.Next(k)
	}
	if k == lua.LNil {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(k)
	L.Push(v)
	return 2
}

// knownKey tells whether a key whose value is nil may have been one of the table: it was cleared while iterating.
func knownKey(t *lua.LTable, key lua.LValue) bool {
	if _, ok := key.(lua.LNumber); ok {
		return true
	}
	known := reflect.ValueOf(t).Elem().FieldByName("k2i")
	return !known.IsNil() && known.MapIndex(reflect.ValueOf(&key).Elem()).IsValid()
}

func (r *luaRuntime) baseLoadstring(L *lua.LState) int {
	text := checkString(L, 1)
	return r.load(L, text, optString(L, 2, text))
}

func (r *luaRuntime) baseLoad(L *lua.LState) int {
	fn, ok := L.Get(1).(*lua.LFunction)
	if !ok {
		typeError(L, 1, "function")
	}
	r.enter(L)
	defer r.leave()
	name := optString(L, 2, "=(load)")
	var b strings.Builder
	for {
		L.Push(fn)
		L.Call(0, 1)
		v := L.Get(-1)
		L.Pop(1)
		if v == lua.LNil {
			break
		}
		if !lua.LVCanConvToString(v) {
			raise(L, "reader function must return a string")
		}
		s := luaText(v)
		if s == "" {
			break
		}
		r.bound(L, b.Len()+len(s))
		b.WriteString(s)
	}
	return r.load(L, b.String(), name)
}

func (r *luaRuntime) load(L *lua.LState, text, chunk string) int {
	name := chunkID(chunk)
	proto, err := compileLua(text, name)
	if strings.HasPrefix(text, "\x1bLua") {
		err = syntaxError("attempt to load chunk with wrong mode")
	}
	if err != nil {
		L.Push(lua.LNil)
		L.Push(lua.LString(err.Error()))
		return 2
	}
	if len(r.sources) < 100 {
		r.sources[name] = chunk
	}
	L.Push(L.NewFunctionFromProto(proto))
	return 1
}

// chunkID is luaO_chunkid: how a chunk is called in messages.
func chunkID(s string) string {
	const size = 60
	switch {
	case strings.HasPrefix(s, "="):
		return s[1:min(len(s), size)]
	case strings.HasPrefix(s, "@"):
		s = s[1:]
		if room := size - len(" '...' ") - 1; len(s) > room {
			return "..." + s[len(s)-room:]
		}
		return s
	}
	line, _, cut := strings.Cut(s, "\n")
	room := size - len(` [string "..."] `) - 1
	if i := strings.IndexByte(line, '\r'); i >= 0 {
		line, cut = line[:i], true
	}
	if len(line) > room {
		line, cut = line[:room], true
	}
	if cut {
		line += "..."
	}
	return `[string "` + line + `"]`
}

// callOverflow is what the interpreter says when there is no room for the error handler either.
const callOverflow = "lua callstack overflow"

// protect calls a function of a script. An error has its final wording.
func protect(L *lua.LState, nargs int, handler lua.LGFunction) (lua.LValue, bool) {
	err := L.PCall(nargs, lua.MultRet, L.NewFunction(handler))
	if err == nil {
		return nil, true
	}
	if api, ok := err.(*lua.ApiError); ok {
		if api.Object == lua.LString(callOverflow) {
			return lua.LString("stack overflow"), false
		}
		return api.Object, false
	}
	return lua.LString(err.Error()), false
}

// reworded is the handler that only words an error.
func reworded(L *lua.LState) int {
	v := L.Get(1)
	if s, ok := v.(lua.LString); ok {
		v = lua.LString(translate(L, string(s), 1))
	}
	L.Push(v)
	return 1
}

func (r *luaRuntime) basePcall(L *lua.LState) int {
	checkAny(L, 1)
	r.enter(L)
	defer r.leave()
	v, ok := protect(L, L.GetTop()-1, reworded)
	if !ok {
		// Redis's own pcall gives the text of its error tables.
		if t, isTable := v.(*lua.LTable); isTable && lua.LVCanConvToString(t.RawGetString("err")) {
			v = t.RawGetString("err")
		}
		L.SetTop(0)
		L.Push(lua.LFalse)
		L.Push(v)
		return 2
	}
	L.Insert(lua.LTrue, 1)
	return L.GetTop()
}

func (r *luaRuntime) baseXpcall(L *lua.LState) int {
	f, h := L.Get(1), L.Get(2)
	if L.GetTop() < 2 {
		argError(L, 2, "value expected")
	}
	r.enter(L)
	defer r.leave()
	L.SetTop(0)
	L.Push(f)
	v, ok := protect(L, 0, func(L *lua.LState) int {
		reworded(L)
		v := L.Get(-1)
		L.Push(h)
		L.Push(v)
		L.Call(1, 1)
		return 1
	})
	if !ok {
		L.SetTop(0)
		L.Push(lua.LFalse)
		L.Push(v)
		return 2
	}
	L.Insert(lua.LTrue, 1)
	return L.GetTop()
}

func baseRawequal(L *lua.LState) int {
	L.Push(lua.LBool(checkAny(L, 1) == checkAny(L, 2)))
	return 1
}

func (r *luaRuntime) baseRawget(L *lua.LState) int {
	t := checkTable(L, 1)
	v := r.backing(t).RawGet(checkAny(L, 2))
	L.Push(v)
	return 1
}

func (r *luaRuntime) baseRawset(L *lua.LState) int {
	t, k, v := checkTable(L, 1), checkAny(L, 2), checkAny(L, 3)
	r.writable(L, t)
	if k == lua.LNil {
		raiseBare(L, "table index is nil")
	}
	if n, ok := k.(lua.LNumber); ok && math.IsNaN(float64(n)) {
		raiseBare(L, "table index is NaN")
	}
	t.RawSet(k, v)
	L.Push(t)
	return 1
}

func baseSelect(L *lua.LState) int {
	n := L.GetTop()
	if s, ok := L.Get(1).(lua.LString); ok && strings.HasPrefix(string(s), "#") {
		L.Push(lua.LNumber(n - 1))
		return 1
	}
	i := checkInt(L, 1)
	if i < 0 {
		i = n + i
	} else if i > n {
		i = n
	}
	if i < 1 {
		argError(L, 1, "index out of range")
	}
	return n - i
}

func baseTonumber(L *lua.LState) int {
	base := optInt(L, 2, 10)
	if base == 10 {
		if f, ok := toNumber(checkAny(L, 1)); ok {
			L.Push(lua.LNumber(f))
			return 1
		}
		L.Push(lua.LNil)
		return 1
	}
	s := checkString(L, 1)
	if base < 2 || base > 36 {
		argError(L, 2, "base out of range")
	}
	s = strings.TrimFunc(s, func(c rune) bool { return c < 128 && isSpace(byte(c)) })
	neg := strings.HasPrefix(s, "-")
	digits := strings.TrimLeft(s, "+-")
	if base == 16 && (strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X")) {
		digits = digits[2:]
	}
	u, err := strconv.ParseUint(digits, base, 64)
	if err != nil && u != math.MaxUint64 || len(s)-len(strings.TrimLeft(s, "+-")) > 1 || strings.Contains(digits, "_") {
		L.Push(lua.LNil)
		return 1
	}
	if neg {
		u = -u
	}
	L.Push(lua.LNumber(float64(u)))
	return 1
}

func (r *luaRuntime) baseTostring(L *lua.LState) int {
	L.Push(r.tostring(L, checkAny(L, 1)))
	return 1
}

func (r *luaRuntime) tostring(L *lua.LState, v lua.LValue) lua.LValue {
	if t, ok := v.(*lua.LTable); ok && t.Metatable != lua.LNil && r.real[t] == nil {
		if mm := L.GetMetaField(t, "__tostring"); mm != lua.LNil {
			r.enter(L)
			defer r.leave()
			L.Push(mm)
			L.Push(v)
			L.Call(1, 1)
			s := L.Get(-1)
			L.Pop(1)
			return s
		}
	}
	return lua.LString(luaText(v))
}

func baseType(L *lua.LState) int {
	L.Push(lua.LString(checkAny(L, 1).Type().String()))
	return 1
}

const maxUnpack = 7990 // LUAI_MAXCSTACK

func baseUnpack(L *lua.LState) int {
	t := checkTable(L, 1)
	i := optInt(L, 2, 1)
	e := t.Len()
	if L.Get(3) != lua.LNil {
		e = checkInt(L, 3)
	}
	if i > e {
		return 0
	}
	n := e - i + 1
	if n <= 0 || n >= maxUnpack {
		raise(L, "too many results to unpack")
	}
	for ; i <= e; i++ {
		L.Push(t.RawGetInt(i))
	}
	return n
}
