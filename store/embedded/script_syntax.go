package embedded

import (
	"fmt"
	"slices"
	"strings"
)

// checkSyntax finds the first syntax error of a chunk and words it as Lua 5.1 does, nil if there is none. It is a parser without
// a product: the interpreter's own has other words, and accepts more than the language.
func checkSyntax(text, name string) (err error) {
	p := &luaParser{src: text, name: name, line: 1, lastLine: 1}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(syntaxError)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	p.funcs = []luaFunc{{vararg: true}}
	p.next()
	p.chunk()
	p.check(tokEOF)
	return nil
}

// A token is a keyword or operator as it is written, or one of these.
const (
	tokEOF    = "<eof>"
	tokName   = "<name>"
	tokString = "<string>"
	tokNumber = "<number>"
)

type luaFunc struct {
	vararg bool
	loops  int
}

type luaParser struct {
	src, name string
	at        int
	line      int
	lastLine  int
	tok, buf  string // the token, and its text for messages
	level     int
	funcs     []luaFunc
}

func luaKeyword(s string) bool {
	switch s {
	case "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or",
		"repeat", "return", "then", "true", "until", "while":
		return true
	}
	return false
}

// fail raises an error; near is empty for errors without a place.
func (p *luaParser) fail(text, near string) {
	if near != "" {
		text += " near '" + near + "'"
	}
	panic(syntaxError(fmt.Sprintf("%s:%d: %s", p.name, p.line, text)))
}

func (p *luaParser) near() string {
	switch p.tok {
	case tokName, tokString, tokNumber:
		return p.buf
	}
	if p.tok == "\x00" {
		return "" // Lua takes it for no token
	}
	if len(p.tok) == 1 && p.tok[0] < ' ' {
		return fmt.Sprintf("char(%d)", p.tok[0])
	}
	return p.tok
}

func (p *luaParser) syntax(text string) { p.fail(text, p.near()) }

// --- tokens ---

func (p *luaParser) peekByte(n int) byte {
	if p.at+n < len(p.src) {
		return p.src[p.at+n]
	}
	return 0
}

func (p *luaParser) newline() {
	c := p.src[p.at]
	p.at++
	if d := p.peekByte(0); p.at < len(p.src) && (d == '\n' || d == '\r') && d != c {
		p.at++
	}
	p.line++
}

func (p *luaParser) next() {
	p.lastLine = p.line
	p.tok = p.scan()
}

func (p *luaParser) scan() string {
	for p.at < len(p.src) {
		c := p.src[p.at]
		switch {
		case c == '\n' || c == '\r':
			p.newline()
		case isSpace(c):
			p.at++
		case c == '-' && p.peekByte(1) == '-':
			p.at += 2
			if p.peekByte(0) == '[' {
				if n := p.longBracket(); n >= 0 {
					p.long(n, "comment")
					continue
				}
			}
			for p.at < len(p.src) && p.src[p.at] != '\n' && p.src[p.at] != '\r' {
				p.at++
			}
		case c == '[':
			if n := p.longBracket(); n >= 0 {
				p.long(n, "string")
				return tokString
			} else if n == -2 {
				rest := p.src[p.at+1:]
				p.fail("invalid long string delimiter", "["+rest[:len(rest)-len(strings.TrimLeft(rest, "="))])
			}
			p.at++
			return "["
		case c == '"' || c == '\'':
			p.quoted(c)
			return tokString
		case isDigit(c) || c == '.' && isDigit(p.peekByte(1)):
			p.number()
			return tokNumber
		case isAlpha(c) || c == '_':
			start := p.at
			for p.at < len(p.src) && (isAlpha(p.src[p.at]) || isDigit(p.src[p.at]) || p.src[p.at] == '_') {
				p.at++
			}
			if p.buf = p.src[start:p.at]; luaKeyword(p.buf) {
				return p.buf
			}
			return tokName
		default:
			for _, op := range []string{"...", "..", "==", "~=", "<=", ">="} {
				if strings.HasPrefix(p.src[p.at:], op) {
					p.at += len(op)
					return op
				}
			}
			p.at++
			return p.src[p.at-1 : p.at]
		}
	}
	return tokEOF
}

// longBracket is the number of '=' of a long bracket that opens here, -1 if none does, -2 if it looks as if.
func (p *luaParser) longBracket() int {
	n := 0
	for p.peekByte(n+1) == '=' {
		n++
	}
	switch {
	case p.peekByte(n+1) == '[':
		return n
	case n > 0:
		return -2
	}
	return -1
}

func (p *luaParser) long(n int, what string) {
	start := p.at
	end := "]" + strings.Repeat("=", n) + "]"
	p.at += n + 2
	for p.at < len(p.src) {
		switch c := p.src[p.at]; {
		case c == '\n' || c == '\r':
			p.newline()
		case c == ']' && strings.HasPrefix(p.src[p.at:], end):
			p.at += len(end)
			p.buf = p.src[start:p.at]
			return
		default:
			p.at++
		}
	}
	p.fail("unfinished long "+what, tokEOF)
}

func (p *luaParser) quoted(q byte) {
	buf := []byte{q}
	for p.at++; ; {
		if p.at >= len(p.src) {
			p.fail("unfinished string", tokEOF)
		}
		c := p.src[p.at]
		switch {
		case c == q:
			p.at++
			p.buf = string(append(buf, q))
			return
		case c == '\n' || c == '\r':
			p.fail("unfinished string", string(buf))
		case c != '\\':
			buf = append(buf, c)
			p.at++
			continue
		}
		if p.at++; p.at >= len(p.src) {
			continue
		}
		c = p.src[p.at]
		switch {
		case c == '\n' || c == '\r':
			buf = append(buf, '\n')
			p.newline()
		case isDigit(c):
			v := 0
			for i := 0; i < 3 && isDigit(p.peekByte(0)); i++ {
				v = v*10 + int(p.src[p.at]-'0')
				p.at++
			}
			if v > 255 {
				p.fail("escape sequence too large", string(buf))
			}
			buf = append(buf, byte(v))
		default:
			if i := strings.IndexByte("abfnrtv", c); i >= 0 {
				c = "\a\b\f\n\r\t\v"[i]
			}
			buf = append(buf, c)
			p.at++
		}
	}
}

func (p *luaParser) number() {
	start := p.at
	for isDigit(p.peekByte(0)) || p.peekByte(0) == '.' {
		p.at++
	}
	if p.peekByte(0)|0x20 == 'e' {
		if p.at++; p.peekByte(0) == '+' || p.peekByte(0) == '-' {
			p.at++
		}
	}
	for c := p.peekByte(0); isAlpha(c) || isDigit(c) || c == '_'; c = p.peekByte(0) {
		p.at++
	}
	p.buf = p.src[start:p.at]
	if _, ok := parseNumber(p.buf); !ok {
		p.fail("malformed number", p.buf)
	}
}

// --- grammar ---

func (p *luaParser) expected(tok string) { p.syntax("'" + tok + "' expected") }

func (p *luaParser) check(tok string) {
	if p.tok != tok {
		p.expected(tok)
	}
}

func (p *luaParser) want(tok string) {
	p.check(tok)
	p.next()
}

func (p *luaParser) accept(tok string) bool {
	if p.tok != tok {
		return false
	}
	p.next()
	return true
}

// closes wants what ends a construct that began on a line.
func (p *luaParser) closes(tok, opened string, line int) {
	if p.tok != tok {
		if line == p.line {
			p.expected(tok)
		}
		p.syntax(fmt.Sprintf("'%s' expected (to close '%s' at line %d)", tok, opened, line))
	}
	p.next()
}

func (p *luaParser) enter() {
	if p.level++; p.level > 197 {
		p.fail("chunk has too many syntax levels", "")
	}
}

func (p *luaParser) leave() { p.level-- }

func (p *luaParser) fn() *luaFunc { return &p.funcs[len(p.funcs)-1] }

func (p *luaParser) follows() bool {
	return slices.Contains([]string{"else", "elseif", "end", "until", tokEOF}, p.tok)
}

func (p *luaParser) chunk() {
	p.enter()
	for last := false; !last && !p.follows(); {
		last = p.statement()
		p.accept(";")
	}
	p.leave()
}

func (p *luaParser) loop() {
	p.fn().loops++
	p.chunk()
	p.fn().loops--
}

func (p *luaParser) statement() (last bool) {
	line := p.line
	switch p.tok {
	case "if":
		for p.tok == "if" || p.tok == "elseif" {
			p.next()
			p.expr()
			p.want("then")
			p.chunk()
		}
		if p.accept("else") {
			p.chunk()
		}
		p.closes("end", "if", line)
	case "while":
		p.next()
		p.expr()
		p.want("do")
		p.loop()
		p.closes("end", "while", line)
	case "do":
		p.next()
		p.chunk()
		p.closes("end", "do", line)
	case "for":
		p.forStatement(line)
	case "repeat":
		p.next()
		p.loop()
		p.closes("until", "repeat", line)
		p.expr()
	case "function":
		p.next()
		p.want(tokName)
		for p.accept(".") {
			p.want(tokName)
		}
		if p.accept(":") {
			p.want(tokName)
		}
		p.body(line)
	case "local":
		p.next()
		if p.accept("function") {
			p.want(tokName)
			p.body(p.line)
			break
		}
		for p.want(tokName); p.accept(","); {
			p.want(tokName)
		}
		if p.accept("=") {
			p.exprs()
		}
	case "return":
		p.next()
		if !p.follows() && p.tok != ";" {
			p.exprs()
		}
		return true
	case "break":
		p.next()
		if p.fn().loops == 0 {
			p.syntax("no loop to break")
		}
		return true
	default:
		p.exprStatement()
	}
	return false
}

func (p *luaParser) forStatement(line int) {
	p.next()
	p.want(tokName)
	switch p.tok {
	case "=":
		p.next()
		p.expr()
		p.want(",")
		p.expr()
		if p.accept(",") {
			p.expr()
		}
	case ",", "in":
		for p.accept(",") {
			p.want(tokName)
		}
		p.want("in")
		p.exprs()
	default:
		p.syntax("'=' or 'in' expected")
	}
	p.want("do")
	p.loop()
	p.closes("end", "for", line)
}

// What primary met: only variables can be assigned to.
const (
	exprOther = iota
	exprVariable
	exprCall
)

func (p *luaParser) exprStatement() {
	kind := p.primary()
	if kind == exprCall {
		return
	}
	for {
		if kind != exprVariable {
			p.syntax("syntax error")
		}
		if !p.accept(",") {
			break
		}
		kind = p.primary()
	}
	p.want("=")
	p.exprs()
}

func (p *luaParser) body(line int) {
	f := luaFunc{}
	p.want("(")
	for p.tok != ")" {
		switch p.tok {
		case tokName:
		case "...":
			f.vararg = true
		default:
			p.syntax("<name> or '...' expected")
		}
		p.next()
		if f.vararg || !p.accept(",") {
			break
		}
		if p.tok == ")" {
			p.syntax("<name> or '...' expected")
		}
	}
	p.want(")")
	p.funcs = append(p.funcs, f)
	p.chunk()
	p.funcs = p.funcs[:len(p.funcs)-1]
	p.closes("end", "function", line)
}

func (p *luaParser) exprs() {
	for p.expr(); p.accept(","); {
		p.expr()
	}
}

func (p *luaParser) expr() { p.sub(0) }

func priority(op string) (left, right int) {
	switch op {
	case "+", "-":
		return 6, 6
	case "*", "/", "%":
		return 7, 7
	case "^":
		return 10, 9
	case "..":
		return 5, 4
	case "==", "~=", "<", "<=", ">", ">=":
		return 3, 3
	case "and":
		return 2, 2
	case "or":
		return 1, 1
	}
	return 0, 0
}

func (p *luaParser) sub(limit int) {
	p.enter()
	switch p.tok {
	case "not", "-", "#":
		p.next()
		p.sub(8)
	default:
		p.simple()
	}
	for {
		left, right := priority(p.tok)
		if left <= limit {
			break
		}
		p.next()
		p.sub(right)
	}
	p.leave()
}

func (p *luaParser) simple() {
	switch p.tok {
	case tokNumber, tokString, "nil", "true", "false":
		p.next()
	case "...":
		if !p.fn().vararg {
			p.syntax("cannot use '...' outside a vararg function")
		}
		p.next()
	case "{":
		p.table()
	case "function":
		line := p.line
		p.next()
		p.body(line)
	default:
		p.primary()
	}
}

func (p *luaParser) primary() (kind int) {
	switch line := p.line; p.tok {
	case tokName:
		p.next()
		kind = exprVariable
	case "(":
		p.next()
		p.expr()
		p.closes(")", "(", line)
	default:
		p.syntax("unexpected symbol")
	}
	for {
		switch p.tok {
		case ".":
			p.next()
			p.want(tokName)
			kind = exprVariable
		case "[":
			p.next()
			p.expr()
			p.want("]")
			kind = exprVariable
		case ":":
			p.next()
			p.want(tokName)
			p.arguments()
			kind = exprCall
		case "(", tokString, "{":
			p.arguments()
			kind = exprCall
		default:
			return kind
		}
	}
}

func (p *luaParser) arguments() {
	line := p.line
	switch p.tok {
	case "(":
		if line != p.lastLine {
			p.syntax("ambiguous syntax (function call x new statement)")
		}
		p.next()
		if p.tok != ")" {
			p.exprs()
		}
		p.closes(")", "(", line)
	case "{":
		p.table()
	case tokString:
		p.next()
	default:
		p.syntax("function arguments expected")
	}
}

func (p *luaParser) table() {
	line := p.line
	p.want("{")
	for p.tok != "}" {
		switch {
		case p.tok == "[":
			p.next()
			p.expr()
			p.want("]")
			p.want("=")
			p.expr()
		case p.tok == tokName && p.assigns():
			p.next()
			p.want("=")
			p.expr()
		default:
			p.expr()
		}
		if !p.accept(",") && !p.accept(";") {
			break
		}
	}
	p.closes("}", "{", line)
}

// assigns looks one token ahead for '='.
func (p *luaParser) assigns() bool {
	ahead := *p
	ahead.next()
	return ahead.tok == "="
}
