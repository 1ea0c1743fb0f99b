package embedded

import (
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Lua's string.format.

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
