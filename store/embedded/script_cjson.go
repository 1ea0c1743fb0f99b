package embedded

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

// The cjson library, version 2.1.0 as in Redis (https://www.kyne.com.au/~mark/software/lua-cjson-manual.html).

// jsonSettings outlive the script that made them, as in Redis.
type jsonSettings struct {
	convert       bool // sparse arrays become objects
	ratio, safe   int
	encodeDeep    int
	decodeDeep    int
	precision     int
	encodeInvalid int // 0 off, 1 on, 2 null
	decodeInvalid int
	keepBuffer    bool
}

func defaultJSON() jsonSettings {
	return jsonSettings{ratio: 2, safe: 10, encodeDeep: 1000, decodeDeep: 1000, precision: 14, decodeInvalid: 1, keepBuffer: true}
}

func (r *luaRuntime) openJSON(g *lua.LTable) {
	r.library(g, "cjson", r.jsonFunctions(&r.json), r.jsonValues())
}

func (r *luaRuntime) jsonValues() map[string]lua.LValue {
	return map[string]lua.LValue{"null": r.null, "_NAME": lua.LString("cjson"), "_VERSION": lua.LString("2.1.0")}
}

func (r *luaRuntime) jsonFunctions(s *jsonSettings) map[string]lua.LGFunction {
	return map[string]lua.LGFunction{
		"encode": func(L *lua.LState) int {
			if L.GetTop() != 1 {
				argError(L, 1, "expected 1 argument")
			}
			e := &jsonEncoder{L: L, r: r, s: s}
			e.value(L.Get(1), 0)
			L.Push(lua.LString(e.out))
			return 1
		},
		"decode": func(L *lua.LState) int {
			if L.GetTop() != 1 {
				argError(L, 1, "expected 1 argument")
			}
			d := &jsonDecoder{L: L, r: r, s: s, src: checkString(L, 1)}
			L.Push(d.document())
			return 1
		},
		"encode_sparse_array": func(L *lua.LState) int {
			jsonArgs(L, 3)
			jsonOption(L, 1, &s.convert)
			jsonInteger(L, 2, &s.ratio, 0, math.MaxInt32)
			jsonInteger(L, 3, &s.safe, 0, math.MaxInt32)
			return 3
		},
		"encode_max_depth": func(L *lua.LState) int {
			jsonArgs(L, 1)
			return jsonInteger(L, 1, &s.encodeDeep, 1, math.MaxInt32)
		},
		"decode_max_depth": func(L *lua.LState) int {
			jsonArgs(L, 1)
			return jsonInteger(L, 1, &s.decodeDeep, 1, math.MaxInt32)
		},
		"encode_number_precision": func(L *lua.LState) int {
			jsonArgs(L, 1)
			return jsonInteger(L, 1, &s.precision, 1, 14)
		},
		"encode_keep_buffer": func(L *lua.LState) int {
			jsonArgs(L, 1)
			return jsonOption(L, 1, &s.keepBuffer)
		},
		"encode_invalid_numbers": func(L *lua.LState) int {
			jsonArgs(L, 1)
			return jsonChoice(L, &s.encodeInvalid, "off", "on", "null")
		},
		"decode_invalid_numbers": func(L *lua.LState) int {
			jsonArgs(L, 1)
			return jsonChoice(L, &s.decodeInvalid, "off", "on")
		},
		"new": func(L *lua.LState) int {
			own := defaultJSON()
			t := L.NewTable()
			for k, fn := range r.jsonFunctions(&own) {
				t.RawSetString(k, L.NewFunction(fn))
			}
			for k, v := range r.jsonValues() {
				t.RawSetString(k, v)
			}
			L.Push(t)
			return 1
		},
	}
}

func jsonArgs(L *lua.LState, n int) {
	if L.GetTop() > n {
		argError(L, n+1, "found too many arguments")
	}
	L.SetTop(n)
}

func jsonInteger(L *lua.LState, n int, set *int, least, most int) int {
	if L.Get(n) != lua.LNil {
		v := checkInt(L, n)
		if v < least || v > most {
			argError(L, 1, fmt.Sprintf("expected integer between %d and %d", least, most))
		}
		*set = v
	}
	L.Push(lua.LNumber(*set))
	return 1
}

func jsonOption(L *lua.LState, n int, set *bool) int {
	v := 0
	if *set {
		v = 1
	}
	jsonChoiceAt(L, n, &v, "off", "on")
	*set = v == 1
	return 1
}

func jsonChoice(L *lua.LState, set *int, names ...string) int {
	return jsonChoiceAt(L, 1, set, names...)
}

func jsonChoiceAt(L *lua.LState, n int, set *int, names ...string) int {
	switch v := L.Get(n).(type) {
	case *lua.LNilType:
	case lua.LBool:
		*set = 0
		if v {
			*set = 1
		}
	default:
		s, found := checkString(L, n), false
		for i, name := range names {
			if s == name {
				*set, found = i, true
			}
		}
		if !found {
			argError(L, n, "invalid option '"+s+"'")
		}
	}
	if *set < 2 {
		L.Push(lua.LBool(*set == 1))
	} else {
		L.Push(lua.LString(names[*set]))
	}
	return 1
}

// --- encoding ---

type jsonEncoder struct {
	L   *lua.LState
	r   *luaRuntime
	s   *jsonSettings
	out []byte
}

func (e *jsonEncoder) fail(v lua.LValue, why string) {
	raise(e.L, "Cannot serialise %s: %s", v.Type(), why)
}

func (e *jsonEncoder) value(v lua.LValue, deep int) {
	e.r.bound(e.L, len(e.out))
	switch v := v.(type) {
	case lua.LString:
		e.text(string(v))
	case lua.LNumber:
		e.number(v)
	case lua.LBool:
		e.out = strconv.AppendBool(e.out, bool(v))
	case *lua.LNilType:
		e.out = append(e.out, "null"...)
	case *lua.LUserData:
		e.out = append(e.out, "null"...)
	case *lua.LTable:
		e.table(e.r.backing(v), deep+1)
	default:
		e.fail(v, "type not supported")
	}
}

func (e *jsonEncoder) number(v lua.LNumber) {
	f := float64(v)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		switch {
		case e.s.encodeInvalid == 0:
			e.fail(v, "must not be NaN or Inf")
		case e.s.encodeInvalid == 2:
			e.out = append(e.out, "null"...)
			return
		case math.IsNaN(f):
			e.out = append(e.out, "nan"...)
			return
		}
	}
	e.out = append(e.out, formatG(f, e.s.precision)...)
}

func (e *jsonEncoder) text(s string) {
	e.out = append(e.out, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '/':
			e.out = append(e.out, '\\', c)
		case '\b':
			e.out = append(e.out, '\\', 'b')
		case '\t':
			e.out = append(e.out, '\\', 't')
		case '\n':
			e.out = append(e.out, '\\', 'n')
		case '\f':
			e.out = append(e.out, '\\', 'f')
		case '\r':
			e.out = append(e.out, '\\', 'r')
		default:
			if c < 32 || c == 127 {
				e.out = fmt.Appendf(e.out, "\\u%04x", c)
			} else {
				e.out = append(e.out, c)
			}
		}
	}
	e.out = append(e.out, '"')
}

// length is the array's length, -1 if the table is none.
func (e *jsonEncoder) length(t *lua.LTable) int {
	most, items := 0.0, 0
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		n, ok := k.(lua.LNumber)
		if !ok || n < 1 || float64(n) != math.Floor(float64(n)) {
			return -1
		}
		most = max(most, float64(n))
		items++
	}
	if e.s.ratio > 0 && most > float64(items*e.s.ratio) && most > float64(e.s.safe) {
		if !e.s.convert {
			raise(e.L, "Cannot serialise table: excessively sparse array")
		}
		return -1
	}
	return int(most)
}

func (e *jsonEncoder) table(t *lua.LTable, deep int) {
	if deep > e.s.encodeDeep || deep > maxJSONDeep {
		raise(e.L, "Cannot serialise, excessive nesting (%d)", deep)
	}
	if n := e.length(t); n > 0 {
		e.out = append(e.out, '[')
		for i := 1; i <= n; i++ {
			if i > 1 {
				e.out = append(e.out, ',')
			}
			e.value(getIndex(t, i), deep)
		}
		e.out = append(e.out, ']')
		return
	}
	e.out = append(e.out, '{')
	first := true
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		switch k := k.(type) {
		case lua.LNumber:
			e.out = append(e.out, '"')
			e.number(k)
			e.out = append(e.out, '"')
		case lua.LString:
			e.text(string(k))
		default:
			e.fail(k, "table key must be a number or string")
		}
		e.out = append(e.out, ':')
		e.value(v, deep)
	}
	e.out = append(e.out, '}')
}

// --- decoding ---

// maxJSONDeep bounds nesting whatever the settings say.
const maxJSONDeep = 2000

type jsonToken struct {
	kind  string // T_… as in messages
	at    int
	value lua.LValue
	fault string // of T_ERROR
}

type jsonDecoder struct {
	L    *lua.LState
	r    *luaRuntime
	s    *jsonSettings
	src  string
	at   int
	deep int
}

func (d *jsonDecoder) document() lua.LValue {
	if len(d.src) >= 2 && (d.src[0] == 0 || d.src[1] == 0) {
		raise(d.L, "JSON parser does not support UTF-16 or UTF-32")
	}
	v := d.value(d.next())
	if t := d.next(); t.kind != "T_END" {
		d.fail("the end", t)
	}
	return v
}

func (d *jsonDecoder) fail(want string, t jsonToken) {
	found := t.kind
	if t.kind == "T_ERROR" {
		found = t.fault
	}
	raise(d.L, "Expected %s but found %s at character %d", want, found, t.at+1)
}

func (d *jsonDecoder) value(t jsonToken) lua.LValue {
	switch t.kind {
	case "T_STRING", "T_NUMBER", "T_BOOLEAN":
		return t.value
	case "T_NULL":
		return d.r.null
	case "T_OBJ_BEGIN":
		return d.object()
	case "T_ARR_BEGIN":
		return d.array()
	}
	d.fail("value", t)
	return nil
}

func (d *jsonDecoder) down() {
	if d.deep++; d.deep > d.s.decodeDeep || d.deep > maxJSONDeep {
		raise(d.L, "Found too many nested data structures (%d) at character %d", d.deep, d.at)
	}
}

func (d *jsonDecoder) array() lua.LValue {
	d.down()
	list := d.L.NewTable()
	t := d.next()
	if t.kind == "T_ARR_END" {
		d.deep--
		return list
	}
	for i := 1; ; i++ {
		list.RawSetInt(i, d.value(t))
		switch t = d.next(); t.kind {
		case "T_ARR_END":
			d.deep--
			return list
		case "T_COMMA":
		default:
			d.fail("comma or array end", t)
		}
		t = d.next()
	}
}

func (d *jsonDecoder) object() lua.LValue {
	d.down()
	obj := d.L.NewTable()
	t := d.next()
	if t.kind == "T_OBJ_END" {
		d.deep--
		return obj
	}
	for {
		if t.kind != "T_STRING" {
			d.fail("object key string", t)
		}
		key := t.value
		if t = d.next(); t.kind != "T_COLON" {
			d.fail("colon", t)
		}
		obj.RawSet(key, d.value(d.next()))
		switch t = d.next(); t.kind {
		case "T_OBJ_END":
			d.deep--
			return obj
		case "T_COMMA":
		default:
			d.fail("comma or object end", t)
		}
		t = d.next()
	}
}

func (d *jsonDecoder) error(fault string) jsonToken {
	return jsonToken{kind: "T_ERROR", at: d.at, fault: fault}
}

func (d *jsonDecoder) next() jsonToken {
	for d.at < len(d.src) && strings.IndexByte(" \t\n\r", d.src[d.at]) >= 0 {
		d.at++
	}
	if d.at == len(d.src) || d.src[d.at] == 0 {
		return jsonToken{kind: "T_END", at: d.at}
	}
	t := jsonToken{at: d.at}
	c := d.src[d.at]
	if i := strings.IndexByte("{}[]:,", c); i >= 0 {
		t.kind = [...]string{"T_OBJ_BEGIN", "T_OBJ_END", "T_ARR_BEGIN", "T_ARR_END", "T_COLON", "T_COMMA"}[i]
		d.at++
		return t
	}
	rest := d.src[d.at:]
	switch {
	case c == '"':
		return d.text()
	case c == '-' || c == '+' || isDigit(c):
		if d.s.decodeInvalid == 0 && invalidNumber(rest) {
			return d.error("invalid number")
		}
		return d.number()
	case strings.HasPrefix(rest, "true"):
		t.kind, t.value = "T_BOOLEAN", lua.LTrue
		d.at += 4
		return t
	case strings.HasPrefix(rest, "false"):
		t.kind, t.value = "T_BOOLEAN", lua.LFalse
		d.at += 5
		return t
	case strings.HasPrefix(rest, "null"):
		t.kind = "T_NULL"
		d.at += 4
		return t
	case d.s.decodeInvalid == 1 && invalidNumber(rest):
		return d.number()
	}
	return d.error("invalid token")
}

// invalidNumber tells whether what strtod would take is no JSON number.
func invalidNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	if s == "" {
		return false
	}
	if s[0] == '0' && len(s) > 1 {
		return s[1]|0x20 == 'x' || isDigit(s[1])
	}
	low := strings.ToLower(s[:min(len(s), 3)])
	return low == "inf" || low == "nan"
}

// number takes what C's strtod takes.
func (d *jsonDecoder) number() jsonToken {
	s := d.src[d.at:]
	n := 0
	if s[0] == '-' || s[0] == '+' {
		n++
	}
	digits := func(ok func(c byte) bool) {
		for n < len(s) && ok(s[n]) {
			n++
		}
	}
	low := strings.ToLower(s[n:min(len(s), n+8)])
	hex := func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
	switch {
	case strings.HasPrefix(low, "infinity"):
		n += 8
	case strings.HasPrefix(low, "inf"), strings.HasPrefix(low, "nan"):
		n += 3
	case strings.HasPrefix(low, "0x") && len(low) > 2 && hex(low[2]):
		n += 2
		digits(hex)
	default:
		digits(isDigit)
		if n < len(s) && s[n] == '.' {
			n++
			digits(isDigit)
		}
		if n < len(s) && s[n]|0x20 == 'e' {
			mark := n
			if n++; n < len(s) && (s[n] == '+' || s[n] == '-') {
				n++
			}
			from := n
			if digits(isDigit); n == from {
				n = mark
			}
		}
	}
	var f float64
	switch {
	case strings.HasPrefix(low, "nan"):
		f = math.NaN()
	default:
		var ok bool
		if f, ok = parseNumber(s[:n]); !ok {
			return d.error("invalid number")
		}
	}
	t := jsonToken{kind: "T_NUMBER", at: d.at, value: lua.LNumber(f)}
	d.at += n
	return t
}

func (d *jsonDecoder) text() jsonToken {
	t := jsonToken{kind: "T_STRING", at: d.at}
	d.at++
	var b []byte
	for {
		if d.at >= len(d.src) {
			return d.error("unexpected end of string")
		}
		c := d.src[d.at]
		switch {
		case c == '"':
			d.at++
			t.value = lua.LString(b)
			return t
		case c == 0:
			return d.error("unexpected end of string")
		case c != '\\':
			b = append(b, c)
			d.at++
			continue
		}
		esc := byte(0)
		if d.at+1 < len(d.src) {
			esc = d.src[d.at+1]
		}
		if esc == 'u' {
			var n int
			if b, n = appendEscape(b, d.src[d.at:]); n == 0 {
				return d.error("invalid unicode escape code")
			}
			d.at += n
			continue
		}
		i := strings.IndexByte(`"\/bfnrt`, esc)
		if i < 0 || esc == 0 {
			return d.error("invalid escape code")
		}
		b = append(b, "\"\\/\b\f\n\r\t"[i])
		d.at += 2
	}
}

// appendEscape decodes \uXXXX, or two for a surrogate pair, and tells how many bytes that took: 0 if invalid.
func appendEscape(b []byte, s string) ([]byte, int) {
	code := func(s string) int {
		if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
			return -1
		}
		n, err := strconv.ParseUint(s[2:6], 16, 16)
		if err != nil {
			return -1
		}
		return int(n)
	}
	c := code(s)
	switch {
	case c < 0, c&0xfc00 == 0xdc00:
		return b, 0
	case c&0xf800 != 0xd800:
		return utf8.AppendRune(b, rune(c)), 6
	}
	low := code(s[6:])
	if low&0xfc00 != 0xdc00 || low < 0 {
		return b, 0
	}
	return utf8.AppendRune(b, rune(0x10000+(c&0x3ff)<<10+low&0x3ff)), 12
}
