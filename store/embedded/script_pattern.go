package embedded

import (
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Lua's patterns: string.find, match, gmatch and gsub.

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
