package embedded

import (
	"fmt"
	"math"
	"strconv"
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

// --- patterns ---

const (
	capOpen     = -1
	capPosition = -2
)

// matcher runs one pattern over one string. Its steps are counted: a pattern may need exponentially many.
type matcher struct {
	L        *lua.LState
	r        *luaRuntime
	src, pat string
	level    int
	deep     int
	steps    int
	captures [maxCaptures]struct{ start, length int }
}

func (m *matcher) fail(text string) { raise(m.L, "%s", text) }

func (m *matcher) classEnd(p int) int {
	if p >= len(m.pat) {
		m.fail("malformed pattern (ends with '%')")
	}
	c := m.pat[p]
	p++
	switch c {
	case '%':
		if p >= len(m.pat) {
			m.fail("malformed pattern (ends with '%')")
		}
		return p + 1
	case '[':
		if p < len(m.pat) && m.pat[p] == '^' {
			p++
		}
		for first := true; first || p >= len(m.pat) || m.pat[p] != ']'; first = false {
			if p >= len(m.pat) {
				m.fail("malformed pattern (missing ']')")
			}
			c := m.pat[p]
			p++
			if c == '%' && p < len(m.pat) {
				p++
			}
		}
		return p + 1
	}
	return p
}

func classMatch(c, class byte) bool {
	var ok bool
	switch class | 0x20 {
	case 'a':
		ok = isAlpha(c)
	case 'c':
		ok = c < 32 || c == 127
	case 'd':
		ok = isDigit(c)
	case 'l':
		ok = c >= 'a' && c <= 'z'
	case 'p':
		ok = c > 32 && c < 127 && !isAlpha(c) && !isDigit(c)
	case 's':
		ok = isSpace(c)
	case 'u':
		ok = c >= 'A' && c <= 'Z'
	case 'w':
		ok = isAlpha(c) || isDigit(c)
	case 'x':
		ok = isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f'
	case 'z':
		ok = c == 0
	default:
		return class == c
	}
	if class&0x20 == 0 && isAlpha(class) {
		return !ok
	}
	if !isAlpha(class) {
		return class == c
	}
	return ok
}

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// setMatch matches against the set that begins at p and ends with the ']' at end.
func (m *matcher) setMatch(c byte, p, end int) bool {
	sig := true
	if m.pat[p+1] == '^' {
		sig = false
		p++
	}
	for p++; p < end; p++ {
		switch {
		case m.pat[p] == '%':
			p++
			if classMatch(c, m.pat[p]) {
				return sig
			}
		case m.pat[p+1] == '-' && p+2 < end:
			if m.pat[p] <= c && c <= m.pat[p+2] {
				return sig
			}
			p += 2
		case m.pat[p] == c:
			return sig
		}
	}
	return !sig
}

func (m *matcher) single(s, p, end int) bool {
	if s >= len(m.src) {
		return false
	}
	c := m.src[s]
	switch m.pat[p] {
	case '.':
		return true
	case '%':
		return classMatch(c, m.pat[p+1])
	case '[':
		return m.setMatch(c, p, end-1)
	}
	return m.pat[p] == c
}

// match returns where the match of the pattern from p on ends, -1 if there is none.
func (m *matcher) match(s, p int) int {
	if m.deep++; m.deep > maxMatchDeep*100 {
		m.fail("pattern too complex")
	}
	defer func() { m.deep-- }()
	for {
		if m.steps++; m.steps&0xfff == 0 {
			m.r.checkKilled(m.L)
		}
		if p == len(m.pat) {
			return s
		}
		switch m.pat[p] {
		case '(':
			if p+1 < len(m.pat) && m.pat[p+1] == ')' {
				return m.open(s, p+2, capPosition)
			}
			return m.open(s, p+1, capOpen)
		case ')':
			return m.closeCapture(s, p+1)
		case '$':
			if p+1 == len(m.pat) {
				if s == len(m.src) {
					return s
				}
				return -1
			}
		case '%':
			if p+1 >= len(m.pat) {
				break
			}
			switch c := m.pat[p+1]; {
			case c == 'b':
				if s = m.balance(s, p+2); s < 0 {
					return -1
				}
				p += 4
				continue
			case c == 'f':
				p += 2
				if p >= len(m.pat) || m.pat[p] != '[' {
					m.fail("missing '[' after '%f' in pattern")
				}
				end := m.classEnd(p)
				var before, at byte
				if s > 0 {
					before = m.src[s-1]
				}
				if s < len(m.src) {
					at = m.src[s]
				}
				if m.setMatch(before, p, end-1) || !m.setMatch(at, p, end-1) {
					return -1
				}
				p = end
				continue
			case isDigit(c):
				if s = m.backReference(s, c); s < 0 {
					return -1
				}
				p += 2
				continue
			}
		}
		end := m.classEnd(p)
		var suffix byte
		if end < len(m.pat) {
			suffix = m.pat[end]
		}
		switch suffix {
		case '?':
			if m.single(s, p, end) {
				if e := m.match(s+1, end+1); e >= 0 {
					return e
				}
			}
			p = end + 1
		case '*':
			return m.maxExpand(s, p, end)
		case '+':
			if !m.single(s, p, end) {
				return -1
			}
			return m.maxExpand(s+1, p, end)
		case '-':
			for {
				if e := m.match(s, end+1); e >= 0 {
					return e
				}
				if !m.single(s, p, end) {
					return -1
				}
				s++
			}
		default:
			if !m.single(s, p, end) {
				return -1
			}
			s, p = s+1, end
		}
	}
}

func (m *matcher) maxExpand(s, p, end int) int {
	i := 0
	for m.single(s+i, p, end) {
		i++
	}
	for ; i >= 0; i-- {
		if e := m.match(s+i, end+1); e >= 0 {
			return e
		}
	}
	return -1
}

func (m *matcher) open(s, p, what int) int {
	if m.level >= maxCaptures {
		m.fail("too many captures")
	}
	m.captures[m.level].start, m.captures[m.level].length = s, what
	m.level++
	e := m.match(s, p)
	if e < 0 {
		m.level--
	}
	return e
}

func (m *matcher) closeCapture(s, p int) int {
	l := -1
	for i := m.level - 1; i >= 0; i-- {
		if m.captures[i].length == capOpen {
			l = i
			break
		}
	}
	if l < 0 {
		m.fail("invalid pattern capture")
	}
	m.captures[l].length = s - m.captures[l].start
	e := m.match(s, p)
	if e < 0 {
		m.captures[l].length = capOpen
	}
	return e
}

func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.pat) {
		m.fail("unbalanced pattern")
	}
	if s >= len(m.src) || m.src[s] != m.pat[p] {
		return -1
	}
	begin, end, n := m.pat[p], m.pat[p+1], 1
	for i := s + 1; i < len(m.src); i++ {
		switch c := m.src[i]; {
		case c == end:
			if n--; n == 0 {
				return i + 1
			}
		case c == begin:
			n++
		}
	}
	return -1
}

func (m *matcher) backReference(s int, digit byte) int {
	l := int(digit) - '1'
	if l < 0 || l >= m.level || m.captures[l].length == capOpen {
		m.fail("invalid capture index")
	}
	c := m.captures[l]
	if c.length < 0 || !strings.HasPrefix(m.src[s:], m.src[c.start:c.start+c.length]) {
		return -1
	}
	return s + c.length
}

// capture is the value of capture i; s and e are the bounds of the whole match.
func (m *matcher) capture(i, s, e int) lua.LValue {
	if i >= m.level {
		if i != 0 {
			m.fail("invalid capture index")
		}
		return lua.LString(m.src[s:e])
	}
	c := m.captures[i]
	switch c.length {
	case capOpen:
		m.fail("unfinished capture")
	case capPosition:
		return lua.LNumber(c.start + 1)
	}
	return lua.LString(m.src[c.start : c.start+c.length])
}

// push pushes all captures, or the whole match if there are none and whole is set.
func (m *matcher) push(s, e int, whole bool) int {
	n := m.level
	if n == 0 && whole {
		n = 1
	}
	for i := range n {
		m.L.Push(m.capture(i, s, e))
	}
	return n
}

func (r *luaRuntime) strFind(L *lua.LState) int  { return r.find(L, true) }
func (r *luaRuntime) strMatch(L *lua.LState) int { return r.find(L, false) }

func (r *luaRuntime) find(L *lua.LState, find bool) int {
	s, pat := checkString(L, 1), checkString(L, 2)
	init := position(optInt(L, 3, 1), len(s)) - 1
	init = min(max(init, 0), len(s))
	if find && (lua.LVAsBool(L.Get(4)) || !strings.ContainsAny(pat, "^$*+?.([%-")) {
		i := strings.Index(s[init:], pat)
		if i < 0 {
			L.Push(lua.LNil)
			return 1
		}
		L.Push(lua.LNumber(init + i + 1))
		L.Push(lua.LNumber(init + i + len(pat)))
		return 2
	}
	p, anchor := 0, strings.HasPrefix(pat, "^")
	if anchor {
		p = 1
	}
	m := &matcher{L: L, r: r, src: s, pat: pat}
	for i := init; i <= len(s); i++ {
		m.level = 0
		if e := m.match(i, p); e >= 0 {
			if !find {
				return m.push(i, e, true)
			}
			L.Push(lua.LNumber(i + 1))
			L.Push(lua.LNumber(e))
			return 2 + m.push(i, e, false)
		}
		if anchor {
			break
		}
	}
	L.Push(lua.LNil)
	return 1
}

func (r *luaRuntime) strGmatch(L *lua.LState) int {
	s, pat := checkString(L, 1), checkString(L, 2)
	at := 0
	L.Push(L.NewFunction(func(L *lua.LState) int {
		m := &matcher{L: L, r: r, src: s, pat: pat}
		for ; at <= len(s); at++ {
			m.level = 0
			if e := m.match(at, 0); e >= 0 {
				start := at
				at = e
				if e == start {
					at++
				}
				return m.push(start, e, true)
			}
		}
		return 0
	}))
	return 1
}

func (r *luaRuntime) strGsub(L *lua.LState) int {
	s, pat := checkString(L, 1), checkString(L, 2)
	repl := L.Get(3)
	switch repl.Type() {
	case lua.LTNumber, lua.LTString, lua.LTFunction, lua.LTTable:
	default:
		argError(L, 3, "string/function/table expected")
	}
	most := optInt(L, 4, len(s)+1)
	p, anchor := 0, strings.HasPrefix(pat, "^")
	if anchor {
		p = 1
	}
	r.enter(L)
	defer r.leave()
	m := &matcher{L: L, r: r, src: s, pat: pat}
	var b strings.Builder
	at, n := 0, 0
	for n < most {
		m.level = 0
		e := m.match(at, p)
		if e >= 0 {
			n++
			m.replace(&b, repl, at, e)
			r.bound(L, b.Len())
		}
		if e >= 0 && e > at {
			at = e
		} else if at < len(s) {
			b.WriteByte(s[at])
			at++
		} else {
			break
		}
		if anchor {
			break
		}
	}
	if at < len(s) {
		b.WriteString(s[at:])
	}
	L.Push(lua.LString(b.String()))
	L.Push(lua.LNumber(n))
	return 2
}

func (m *matcher) replace(b *strings.Builder, repl lua.LValue, s, e int) {
	L := m.L
	var v lua.LValue
	switch repl := repl.(type) {
	case *lua.LFunction:
		L.Push(repl)
		L.Call(m.push(s, e, true), 1)
		v = L.Get(-1)
		L.Pop(1)
	case *lua.LTable:
		v = L.GetTable(repl, m.capture(0, s, e))
	default:
		text := luaText(repl)
		for i := 0; i < len(text); i++ {
			if text[i] != '%' {
				b.WriteByte(text[i])
				continue
			}
			i++
			switch {
			case i >= len(text):
				b.WriteByte(0)
			case !isDigit(text[i]):
				b.WriteByte(text[i])
			case text[i] == '0':
				b.WriteString(m.src[s:e])
			default:
				b.WriteString(luaText(m.capture(int(text[i]-'1'), s, e)))
			}
			if b.Len() > maxLuaString {
				return
			}
		}
		return
	}
	switch {
	case !lua.LVAsBool(v):
		b.WriteString(m.src[s:e])
	case lua.LVCanConvToString(v):
		b.WriteString(luaText(v))
	default:
		m.fail(fmt.Sprintf("invalid replacement value (a %s)", v.Type()))
	}
}

// --- format ---

func (r *luaRuntime) strFormat(L *lua.LState) int {
	f := checkString(L, 1)
	var b strings.Builder
	arg := 1
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			b.WriteByte(f[i])
			continue
		}
		if i++; i < len(f) && f[i] == '%' {
			b.WriteByte('%')
			continue
		}
		start := i
		for i < len(f) && strings.IndexByte("-+ #0", f[i]) >= 0 {
			i++
		}
		if i-start >= 6 {
			raise(L, "invalid format (repeated flags)")
		}
		spec := formatSpec{flags: f[start:i], prec: -1}
		for n := 0; n < 2 && i < len(f) && isDigit(f[i]); n++ {
			spec.width = spec.width*10 + int(f[i]-'0')
			i++
		}
		if i < len(f) && f[i] == '.' {
			i++
			spec.prec = 0
			for n := 0; n < 2 && i < len(f) && isDigit(f[i]); n++ {
				spec.prec = spec.prec*10 + int(f[i]-'0')
				i++
			}
		}
		if i < len(f) && isDigit(f[i]) {
			raise(L, "invalid format (width or precision too long)")
		}
		if arg++; arg > L.GetTop() {
			argError(L, arg, "no value")
		}
		var verb byte
		if i < len(f) {
			verb = f[i]
		}
		switch verb {
		case 'c':
			b.WriteString(spec.pad(string([]byte{byte(checkInt(L, arg))})))
		case 'd', 'i':
			b.WriteString(spec.integer(int64(toInt(checkNumber(L, arg)))))
		case 'o', 'u', 'x', 'X':
			n := checkNumber(L, arg)
			u := uint64(toInt(n))
			if n >= 1<<63 && n < 1<<64 {
				u = uint64(n)
			}
			b.WriteString(spec.unsigned(u, verb))
		case 'e', 'E', 'f', 'g', 'G':
			b.WriteString(spec.float(checkNumber(L, arg), verb))
		case 'q':
			quoteLua(&b, checkString(L, arg))
		case 's':
			s := checkString(L, arg)
			if spec.prec >= 0 && spec.prec < len(s) {
				s = s[:spec.prec]
			}
			b.WriteString(spec.pad(s))
		default:
			raise(L, "invalid option '%%%s' to 'format'", f[min(i, len(f)):min(i+1, len(f))])
		}
		r.bound(L, b.Len())
	}
	L.Push(lua.LString(b.String()))
	return 1
}

func quoteLua(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r':
			b.WriteString("\\r")
		case 0:
			b.WriteString("\\000")
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
}

// formatSpec is a conversion as C's printf knows it.
type formatSpec struct {
	flags       string
	width, prec int
}

func (f formatSpec) has(c byte) bool { return strings.IndexByte(f.flags, c) >= 0 }

func (f formatSpec) pad(s string) string {
	n := f.width - len(s)
	switch {
	case n <= 0:
		return s
	case f.has('-'):
		return s + strings.Repeat(" ", n)
	}
	return strings.Repeat(" ", n) + s
}

// number puts sign, zeros and digits together.
func (f formatSpec) number(sign, digits string, zeros bool) string {
	if n := f.width - len(sign) - len(digits); zeros && f.has('0') && !f.has('-') && n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	return f.pad(sign + digits)
}

func (f formatSpec) sign(negative bool) string {
	switch {
	case negative:
		return "-"
	case f.has('+'):
		return "+"
	case f.has(' '):
		return " "
	}
	return ""
}

func (f formatSpec) digits(s string) string {
	if f.prec == 0 && s == "0" {
		return ""
	}
	if n := f.prec - len(s); n > 0 {
		s = strings.Repeat("0", n) + s
	}
	return s
}

func (f formatSpec) integer(n int64) string {
	u := uint64(n)
	if n < 0 {
		u = -u
	}
	return f.number(f.sign(n < 0), f.digits(strconv.FormatUint(u, 10)), f.prec < 0)
}

func (f formatSpec) unsigned(u uint64, verb byte) string {
	base, prefix := 10, ""
	switch verb {
	case 'o':
		base = 8
	case 'x', 'X':
		base = 16
		if f.has('#') && u != 0 {
			prefix = "0" + string(verb)
		}
	}
	s := strconv.FormatUint(u, base)
	if verb == 'X' {
		s = strings.ToUpper(s)
	}
	if verb == 'o' && f.has('#') && s[0] != '0' {
		s = "0" + s
	}
	return f.number(prefix, f.digits(s), f.prec < 0)
}

func (f formatSpec) float(x float64, verb byte) string {
	neg := math.Signbit(x)
	sign := f.sign(neg)
	if math.IsNaN(x) || math.IsInf(x, 0) {
		s := "inf"
		if math.IsNaN(x) {
			s = "nan"
		}
		if verb < 'a' {
			s = strings.ToUpper(s)
		}
		return f.number(sign, s, false)
	}
	prec := f.prec
	if prec < 0 {
		prec = 6
	}
	if (verb == 'g' || verb == 'G') && prec == 0 {
		prec = 1
	}
	s := strconv.FormatFloat(math.Abs(x), verb, prec, 64)
	if f.has('#') && !strings.Contains(s, ".") {
		s += "."
	}
	return f.number(sign, s, true)
}
