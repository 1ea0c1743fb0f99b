package embedded

import (
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"respmesh/resp/frame"
)

// --- a reply becomes a Lua value ---

// replyParser reads a reply of this engine's own.
type replyParser struct {
	L    *lua.LState
	data []byte
}

func (p *replyParser) line() []byte {
	for i := 1; i < len(p.data); i++ {
		if p.data[i] == '\r' {
			l := p.data[1:i]
			p.data = p.data[i+2:]
			return l
		}
	}
	return nil
}

func (p *replyParser) count() int {
	n, _ := frame.ParseInt(p.line())
	return int(n)
}

func (p *replyParser) bulk() (lua.LString, bool) {
	n := p.count()
	if n < 0 {
		return "", false
	}
	s := lua.LString(p.data[:n])
	p.data = p.data[n+2:]
	return s, true
}

func (p *replyParser) wrap(field string, v lua.LValue) lua.LValue {
	t := p.L.CreateTable(0, 1)
	t.RawSetString(field, v)
	return t
}

func (p *replyParser) value() lua.LValue {
	switch p.data[0] {
	case ':':
		n, _ := frame.ParseInt(p.line())
		return lua.LNumber(n)
	case '$':
		if s, ok := p.bulk(); ok {
			return s
		}
		return lua.LFalse
	case '+':
		return p.wrap("ok", lua.LString(p.line()))
	case '-':
		t := p.wrap("err", lua.LString(p.line())).(*lua.LTable)
		t.RawSetString("ignore_error_stats_update", lua.LTrue)
		return t
	case '*', '>':
		n := p.count()
		if n < 0 {
			return lua.LFalse
		}
		t := p.L.CreateTable(n, 0)
		for i := range n {
			t.RawSetInt(i+1, p.value())
		}
		return t
	case '%':
		t := p.L.CreateTable(0, 0)
		for range p.count() {
			k := p.value()
			t.RawSet(k, p.value())
		}
		return p.wrap("map", t)
	case '~':
		t := p.L.CreateTable(0, 0)
		for range p.count() {
			t.RawSet(p.value(), lua.LTrue)
		}
		return p.wrap("set", t)
	case '_':
		p.line()
		return lua.LNil
	case '#':
		return lua.LBool(string(p.line()) == "t")
	case ',':
		f, _ := strconv.ParseFloat(string(p.line()), 64)
		return p.wrap("double", lua.LNumber(f))
	case '(':
		return p.wrap("big_number", lua.LString(p.line()))
	case '=':
		s, _ := p.bulk()
		t := p.L.CreateTable(0, 2)
		if len(s) >= 4 {
			t.RawSetString("format", s[:3])
			t.RawSetString("string", s[4:])
		}
		return p.wrap("verbatim_string", t)
	}
	return lua.LNil
}

// --- a Lua value becomes a reply ---

// maxReplyDeep is how deep a reply's tables may be nested. Redis's own limit is its stack, about 2,000 levels; but a
// reply must pass the links between nodes (resp/frame).
const maxReplyDeep = 120

// oneLine makes a text fit for a status or error.
func oneLine(s string) string {
	if strings.ContainsAny(s, "\r\n") {
		return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
	}
	return s
}

// field reads a string field of a table, as Redis asks for one: numbers are strings too.
func field(t *lua.LTable, name string) (string, bool) {
	switch v := t.RawGetString(name).(type) {
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return formatNumber(float64(v)), true
	}
	return "", false
}

// replyScript appends what a script returned. The client's protocol decides the shape, but for booleans the script's.
func (x *call) replyScript(r *luaRuntime, v lua.LValue, resp, depth int) {
	if depth > maxReplyDeep {
		x.err("ERR reached lua stack limit")
		return
	}
	switch v := v.(type) {
	case lua.LString:
		x.bulkString(string(v))
	case lua.LNumber:
		x.int(int64(toInt(float64(v))))
	case lua.LBool:
		switch {
		case resp == 3:
			x.out = frame.AppendBool(x.out, bool(v), x.proto)
		case bool(v):
			x.int(1)
		default:
			x.null()
		}
	case *lua.LTable:
		x.replyTable(r, r.backing(v), resp, depth)
	default:
		x.null()
	}
}

func (x *call) replyTable(r *luaRuntime, t *lua.LTable, resp, depth int) {
	if s, ok := t.RawGetString("err").(lua.LString); ok {
		x.errCounted(oneLine(strings.TrimRight(cText([]byte(s)), "\r\n")), t.RawGetString("ignore_error_stats_update") == lua.LTrue)
		return
	}
	if s, ok := t.RawGetString("ok").(lua.LString); ok {
		x.simple(oneLine(string(s)))
		return
	}
	if f, ok := t.RawGetString("double").(lua.LNumber); ok {
		x.double(float64(f))
		return
	}
	if m, ok := t.RawGetString("map").(*lua.LTable); ok {
		x.replyPairs(r, m, resp, depth, true)
		return
	}
	if m, ok := t.RawGetString("set").(*lua.LTable); ok {
		x.replyPairs(r, m, resp, depth, false)
		return
	}
	if s, ok := t.RawGetString("big_number").(lua.LString); ok {
		if x.proto == 3 {
			x.out = append(append(append(x.out, '('), oneLine(string(s))...), '\r', '\n')
		} else {
			x.bulkString(oneLine(string(s)))
		}
		return
	}
	if m, ok := t.RawGetString("verbatim_string").(*lua.LTable); ok {
		format, ok := m.RawGetString("format").(lua.LString)
		s, ok2 := m.RawGetString("string").(lua.LString)
		if ok && ok2 {
			x.verbatim((string(format) + "   ")[:3], string(s))
			return
		}
	}
	n := 0
	for t.RawGetInt(n+1) != lua.LNil {
		n++
	}
	x.array(n)
	for i := range n {
		x.replyScript(r, t.RawGetInt(i+1), resp, depth+1)
	}
}

func (x *call) replyPairs(r *luaRuntime, t *lua.LTable, resp, depth int, values bool) {
	n := 0
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		n++
	}
	if values {
		x.mapHeader(n)
	} else {
		x.setHeader(n)
	}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		x.replyScript(r, k, resp, depth+1)
		if values {
			x.replyScript(r, v, resp, depth+1)
		}
	}
}

// appendArgument writes an argument of redis.call: numbers with all their digits.
func appendArgument(dst []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 && (f != 0 || !math.Signbit(f)) {
		return strconv.AppendInt(dst, int64(f), 10)
	}
	return append(dst, formatG(f, 17)...)
}
