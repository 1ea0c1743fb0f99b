package embedded

import (
	"fmt"
	"math"
	"reflect"
	"slices"
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

// --- coroutine ---

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

// --- table ---

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

// --- math ---

func (r *luaRuntime) openMath(g *lua.LTable) {
	fns := map[string]lua.LGFunction{}
	for name, f := range map[string]func(float64) float64{
		"abs": math.Abs, "acos": math.Acos, "asin": math.Asin, "atan": math.Atan, "ceil": math.Ceil, "cos": math.Cos, "cosh": math.Cosh,
		"exp": math.Exp, "floor": math.Floor, "log": math.Log, "log10": math.Log10, "sin": math.Sin, "sinh": math.Sinh,
		"sqrt": math.Sqrt, "tan": math.Tan, "tanh": math.Tanh,
		"deg": func(x float64) float64 { return x / (math.Pi / 180) },
		"rad": func(x float64) float64 { return x * (math.Pi / 180) },
	} {
		fns[name] = func(L *lua.LState) int {
			L.Push(lua.LNumber(f(checkNumber(L, 1))))
			return 1
		}
	}
	for name, f := range map[string]func(x, y float64) float64{
		"atan2": math.Atan2, "fmod": math.Mod, "mod": math.Mod, "pow": math.Pow,
		"ldexp": func(x, y float64) float64 { return math.Ldexp(x, toInt(y)) },
	} {
		fns[name] = func(L *lua.LState) int {
			x := checkNumber(L, 1)
			L.Push(lua.LNumber(f(x, checkNumber(L, 2))))
			return 1
		}
	}
	fns["frexp"] = func(L *lua.LState) int {
		m, e := math.Frexp(checkNumber(L, 1))
		L.Push(lua.LNumber(m))
		L.Push(lua.LNumber(e))
		return 2
	}
	fns["modf"] = func(L *lua.LState) int {
		x := checkNumber(L, 1)
		i := math.Trunc(x)
		frac := x - i
		if math.IsInf(x, 0) {
			frac = 0
		}
		L.Push(lua.LNumber(i))
		L.Push(lua.LNumber(frac))
		return 2
	}
	fns["max"] = func(L *lua.LState) int { return mathExtreme(L, func(a, b float64) bool { return a > b }) }
	fns["min"] = func(L *lua.LState) int { return mathExtreme(L, func(a, b float64) bool { return a < b }) }
	fns["random"] = r.mathRandom
	fns["randomseed"] = func(L *lua.LState) int {
		r.host.random.seed(int32(checkInt(L, 1)))
		return 0
	}
	r.library(g, "math", fns, map[string]lua.LValue{"pi": lua.LNumber(math.Pi), "huge": lua.LNumber(math.Inf(1))})
}

func mathExtreme(L *lua.LState, better func(a, b float64) bool) int {
	best := checkNumber(L, 1)
	for i := 2; i <= L.GetTop(); i++ {
		if x := checkNumber(L, i); better(x, best) {
			best = x
		}
	}
	L.Push(lua.LNumber(best))
	return 1
}

// lrand48 is the generator of Redis's scripts, which starts with the same seed in each.
type lrand48 struct{ x uint64 }

func (g *lrand48) seed(s int32) { g.x = uint64(uint32(s))<<16 | 0x330e }

func (g *lrand48) next() uint64 {
	g.x = (g.x*0x5deece66d + 0xb) & (1<<48 - 1)
	return g.x >> 17
}

func (r *luaRuntime) mathRandom(L *lua.LState) int {
	const most = math.MaxInt32
	f := float64(r.host.random.next()%most) / most
	switch L.GetTop() {
	case 0:
		L.Push(lua.LNumber(f))
	case 1:
		u := checkInt(L, 1)
		if u < 1 {
			argError(L, 1, "interval is empty")
		}
		L.Push(lua.LNumber(math.Floor(f*float64(u)) + 1))
	case 2:
		l, u := checkInt(L, 1), checkInt(L, 2)
		if l > u {
			argError(L, 2, "interval is empty")
		}
		L.Push(lua.LNumber(math.Floor(f*float64(u-l+1)) + float64(l)))
	default:
		raise(L, "wrong number of arguments")
	}
	return 1
}
