package embedded

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The interpreter words its errors in its own way and doesn't name the variable at fault. Here they become those of Lua 5.1,
// which finds the name by looking at the code before the failing instruction; so does this.

// luaFrame is one level of the call stack: the function and its next instruction.
type luaFrame struct {
	L    *lua.LState
	fn   *lua.LFunction
	pc   int // of the instruction under way
	base int
	line int
}

// frameAt looks at a level of the stack. The interpreter tells the line but not the instruction: hence reflect, on the way
// of errors only.
func frameAt(L *lua.LState, level int) (f luaFrame, ok bool) {
	dbg, ok := L.GetStack(level)
	if !ok {
		return f, false
	}
	fn, err := L.GetInfo("fl", dbg, lua.LNil)
	if err != nil {
		return f, false
	}
	f.L, f.line = L, dbg.CurrentLine
	f.fn, ok = fn.(*lua.LFunction)
	v := reflect.ValueOf(dbg).Elem().FieldByName("frame")
	if !ok || v.IsNil() {
		return f, false
	}
	f.pc = int(v.Elem().FieldByName("Pc").Int()) - 1
	f.base = int(v.Elem().FieldByName("LocalBase").Int())
	return f, true
}

// callerOf is the first frame at or above the level that runs Lua code, when the one below it is Go's.
func luaFrameAt(L *lua.LState, level int) (f luaFrame, ok bool) {
	for ; level < 4; level++ {
		if f, ok = frameAt(L, level); !ok || !f.fn.IsG {
			return f, ok && f.pc >= 0
		}
	}
	return f, false
}

// registerType is the type of the value in a register.
func (f luaFrame) registerType(reg int) string {
	v := reflect.ValueOf(f.L).Elem().FieldByName("reg").Elem().FieldByName("array")
	if i := f.base + reg; i < v.Len() {
		switch e := v.Index(i).Elem(); {
		case !e.IsValid():
			return "nil"
		case e.Type() == reflect.TypeFor[lua.LNumber]():
			return "number"
		case e.Type() == reflect.TypeFor[lua.LString]():
			return "string"
		case e.Type() == reflect.TypeFor[lua.LBool]():
			return "boolean"
		case e.Type() == reflect.TypeFor[*lua.LTable]():
			return "table"
		case e.Type() == reflect.TypeFor[*lua.LFunction]():
			return "function"
		case e.Type() == reflect.TypeFor[*lua.LUserData]():
			return "userdata"
		case e.Type() == reflect.TypeFor[*lua.LState]():
			return "thread"
		}
	}
	return "nil"
}

const luaConstant = 1 << 8 // the bit of an operand that is a constant's number

func luaOp(inst uint32) (op, a, b, c int) {
	return int(inst >> 26), int(inst>>18) & 0xff, int(inst & 0x1ff), int(inst>>9) & 0x1ff
}

func (f luaFrame) constant(i int) string {
	if p := f.fn.Proto; i&luaConstant != 0 && i&^luaConstant < len(p.Constants) {
		if s, ok := p.Constants[i&^luaConstant].(lua.LString); ok {
			return string(s)
		}
	}
	return "?"
}

// name says what a register holds at an instruction: "local", "global", "field", "method" or "upvalue" and its name.
func (f luaFrame) name(reg, pc int) (what, name string) {
	if reg&luaConstant != 0 {
		return "", ""
	}
	if n, ok := f.local(reg, pc); ok {
		return "local", n
	}
	code := f.fn.Proto.Code
	for pc--; pc >= 0; pc-- {
		op, a, b, c := luaOp(code[pc])
		sets := a == reg
		switch op {
		case lua.OP_SETGLOBAL, lua.OP_SETUPVAL, lua.OP_SETTABLE, lua.OP_SETTABLEKS, lua.OP_EQ, lua.OP_LT, lua.OP_LE, lua.OP_TEST,
			lua.OP_RETURN, lua.OP_SETLIST, lua.OP_CLOSE, lua.OP_JMP, lua.OP_NOP:
			sets = false
		case lua.OP_SELF:
			sets = a == reg || a+1 == reg
		case lua.OP_LOADNIL:
			sets = a <= reg && reg <= b
		case lua.OP_CALL, lua.OP_TFORLOOP, lua.OP_VARARG:
			sets = a <= reg
		}
		if !sets {
			continue
		}
		switch op {
		case lua.OP_MOVE, lua.OP_MOVEN:
			if b < a {
				return f.name(b, pc)
			}
		case lua.OP_GETGLOBAL:
			if i := int(code[pc] & 0x3ffff); i < len(f.fn.Proto.Constants) {
				return "global", f.fn.Proto.Constants[i].String()
			}
		case lua.OP_GETTABLE, lua.OP_GETTABLEKS:
			return "field", f.constant(c)
		case lua.OP_GETUPVAL:
			if b < len(f.fn.Proto.DbgUpvalues) {
				return "upvalue", f.fn.Proto.DbgUpvalues[b]
			}
		case lua.OP_SELF:
			if a == reg {
				return "method", f.constant(c)
			}
		}
		return "", ""
	}
	return "", ""
}

// local is the name of the local variable in a register.
func (f luaFrame) local(reg, pc int) (string, bool) {
	for _, l := range f.fn.Proto.DbgLocals {
		if l.StartPc > pc {
			break
		}
		if pc <= l.EndPc || l.EndPc == 0 {
			if reg == 0 {
				return l.Name, true
			}
			reg--
		}
	}
	return "", false
}

// describe is "local 'x' (a nil value)" or "a nil value".
func (f luaFrame) describe(reg int, typ string) string {
	if what, name := f.name(reg, f.pc); what != "" && !strings.HasPrefix(name, "(") {
		return fmt.Sprintf("%s '%s' (a %s value)", what, name, typ)
	}
	return "a " + typ + " value"
}

// calledAs is the name by which the function under way at level 0 was called.
func calledAs(L *lua.LState) (what, name string) {
	f, ok := frameAt(L, 1)
	if !ok || f.fn.IsG || f.pc < 0 {
		return "", "?"
	}
	op, a, _, _ := luaOp(f.fn.Proto.Code[f.pc])
	if op != lua.OP_CALL && op != lua.OP_TAILCALL {
		return "", "?"
	}
	if what, name = f.name(a, f.pc); what == "" {
		return "", "?"
	}
	return what, name
}

var (
	positioned = regexp.MustCompile(`(?s)^(.*?:\d+:) (.*)$`)
	vmIndex    = regexp.MustCompile(`(?s)^attempt to index a non-table object\((\w+)\) with key `)
	vmArith    = regexp.MustCompile(`^cannot perform \w+ operation between (\w+) and (\w+)$`)
	vmCompare  = regexp.MustCompile(`^attempt to compare (\w+) with (\w+)$`)
)

// translate rewords an error that the interpreter raised. level is that of the frame in which it arose.
func translate(L *lua.LState, text string, level int) string {
	m := positioned.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	f, ok := luaFrameAt(L, level)
	if !ok {
		return text
	}
	if s := f.reword(m[2]); s != "" {
		return m[1] + " " + s
	}
	return text
}

func (f luaFrame) reword(text string) string {
	op, a, b, c := luaOp(f.fn.Proto.Code[f.pc])
	if m := vmIndex.FindStringSubmatch(text); m != nil {
		reg := b
		if op == lua.OP_SETTABLE || op == lua.OP_SETTABLEKS {
			reg = a
		}
		return "attempt to index " + f.describe(reg, m[1])
	}
	if m := vmArith.FindStringSubmatch(text); m != nil {
		if m[1] == "number" {
			return "attempt to perform arithmetic on " + f.describe(c, m[2])
		}
		return "attempt to perform arithmetic on " + f.describe(b, m[1])
	}
	if m := vmCompare.FindStringSubmatch(text); m != nil && m[1] == m[2] {
		return fmt.Sprintf("attempt to compare two %s values", m[1])
	}
	switch text {
	case "attempt to call a non-function object":
		if op == lua.OP_TFORLOOP {
			return "attempt to call a " + f.registerType(a) + " value"
		}
		return "attempt to call " + f.describe(a, f.registerType(a))
	case "__unm undefined":
		return "attempt to perform arithmetic on " + f.describe(b, f.registerType(b))
	case "__len undefined":
		return "attempt to get length of " + f.describe(b, f.registerType(b))
	case "for statement init must be a number":
		return "'for' initial value must be a number"
	case "for statement limit must be a number":
		return "'for' limit must be a number"
	case "for statement step must be a number":
		return "'for' step must be a number"
	case "registry overflow":
		return "stack overflow"
	}
	return ""
}

// --- what functions of the libraries raise ---

// argError is luaL_argerror.
func argError(L *lua.LState, n int, text string) {
	what, name := calledAs(L)
	if what == "method" {
		if n--; n == 0 {
			raise(L, "calling '%s' on bad self (%s)", name, text)
		}
	}
	raise(L, "bad argument #%d to '%s' (%s)", n, name, text)
}

// raise is luaL_error: the text has the position of the caller, if that is Lua.
func raise(L *lua.LState, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if f, ok := frameAt(L, 1); ok && !f.fn.IsG {
		text = fmt.Sprintf("%s:%d: %s", f.fn.Proto.SourceName, f.line, text)
	}
	L.Error(lua.LString(text), 0)
}

// raiseBare is lua_error with a text as it is.
func raiseBare(L *lua.LState, text string) { L.Error(lua.LString(text), 0) }

func typeName(L *lua.LState, n int) string {
	if n > L.GetTop() {
		return "no value"
	}
	return L.Get(n).Type().String()
}

func typeError(L *lua.LState, n int, want string) {
	argError(L, n, want+" expected, got "+typeName(L, n))
}

func checkAny(L *lua.LState, n int) lua.LValue {
	if n > L.GetTop() {
		argError(L, n, "value expected")
	}
	return L.Get(n)
}

func checkTable(L *lua.LState, n int) *lua.LTable {
	t, ok := L.Get(n).(*lua.LTable)
	if !ok {
		typeError(L, n, "table")
	}
	return t
}

func checkString(L *lua.LState, n int) string {
	switch v := L.Get(n).(type) {
	case lua.LString:
		return string(v)
	case lua.LNumber:
		return formatNumber(float64(v))
	}
	typeError(L, n, "string")
	return ""
}

func optString(L *lua.LState, n int, d string) string {
	if L.Get(n) == lua.LNil {
		return d
	}
	return checkString(L, n)
}

func checkNumber(L *lua.LState, n int) float64 {
	if f, ok := toNumber(L.Get(n)); ok {
		return f
	}
	typeError(L, n, "number")
	return 0
}

func checkInt(L *lua.LState, n int) int { return toInt(checkNumber(L, n)) }

func optInt(L *lua.LState, n, d int) int {
	if L.Get(n) == lua.LNil {
		return d
	}
	return checkInt(L, n)
}

// toInt is C's cast from double to long on amd64: what doesn't fit is the least integer.
func toInt(f float64) int {
	if f >= -1<<63 && f < 1<<63 {
		return int(f)
	}
	return -1 << 63
}
