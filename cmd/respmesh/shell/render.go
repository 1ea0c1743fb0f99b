package shell

import (
	"strconv"
	"strings"

	"respmesh/resp/frame"
)

// Format renders a reply as redis-cli 7.0 does on a terminal (cliFormatReplyTTY): one line per element, numbered, with
// the type where the text alone doesn't tell it. It ends with a line end.
func Format(r frame.Reply) string {
	var b strings.Builder
	format(&b, r, "")
	return b.String()
}

func format(b *strings.Builder, r frame.Reply, prefix string) {
	switch kind := r.Kind(); {
	case r.IsNull():
		b.WriteString("(nil)\n")
	case r.IsError():
		b.WriteString("(error) " + string(r.Text()) + "\n")
	case kind == frame.Simple, kind == frame.Verbatim, kind == frame.BigNumber:
		b.WriteString(string(r.Text()) + "\n")
	case kind == frame.Int:
		b.WriteString("(integer) " + string(r.Text()) + "\n")
	case kind == frame.Double:
		b.WriteString("(double) " + string(r.Text()) + "\n")
	case kind == frame.Bool:
		if string(r.Text()) == "t" {
			b.WriteString("(true)\n")
		} else {
			b.WriteString("(false)\n")
		}
	case kind == frame.Bulk:
		b.WriteString(Quote(r.Text()) + "\n")
	default:
		formatAggregate(b, r, prefix)
	}
}

func formatAggregate(b *strings.Builder, r frame.Reply, prefix string) {
	n, mark, empty := r.Len(), ") ", "(empty array)\n"
	isMap := false
	switch r.Kind() {
	case frame.Map, frame.Attribute:
		n, mark, empty, isMap = n/2, "# ", "(empty hash)\n", true
	case frame.Set:
		mark, empty = "~ ", "(empty set)\n"
	case frame.Push:
		empty = "(empty push)\n"
	}
	if n == 0 {
		b.WriteString(empty)
		return
	}
	width := len(strconv.Itoa(n))
	inner := prefix + strings.Repeat(" ", width+2)
	i := 0
	var key strings.Builder
	r.Each(func(e frame.Reply) bool {
		if e.Kind() == frame.Attribute {
			return true // says something about the next element; isn't one
		}
		if isMap && i%2 == 1 {
			b.WriteString(strings.TrimSuffix(key.String(), "\n") + " => ")
			key.Reset()
			if e.Kind() == frame.Array && e.Len() > 0 { // an array begins on a line of its own
				b.WriteString("\n" + inner)
			}
			format(b, e, inner)
			i++
			return true
		}
		number := i + 1
		if isMap {
			number = i/2 + 1
		}
		if i > 0 { // the first one stands behind the number of its aggregate
			b.WriteString(prefix)
		}
		digits := strconv.Itoa(number)
		b.WriteString(strings.Repeat(" ", width-len(digits)) + digits + mark)
		if isMap {
			format(&key, e, inner)
		} else {
			format(b, e, inner)
		}
		i++
		return true
	})
}

// Raw renders a reply for another program: texts as they are, one element per line, a map's keys and values by turns.
func Raw(r frame.Reply) string {
	var b strings.Builder
	raw(&b, r)
	b.WriteByte('\n')
	return b.String()
}

func raw(b *strings.Builder, r frame.Reply) {
	switch r.Kind() {
	case frame.Null:
	case frame.Bool:
		if string(r.Text()) == "t" {
			b.WriteString("(true)")
		} else {
			b.WriteString("(false)")
		}
	case frame.Array, frame.Set, frame.Push, frame.Map, frame.Attribute:
		i := 0
		r.Each(func(e frame.Reply) bool {
			if e.Kind() == frame.Attribute {
				return true
			}
			if i > 0 {
				if r.Kind() == frame.Map && i%2 == 1 {
					b.WriteByte(' ')
				} else {
					b.WriteByte('\n')
				}
			}
			raw(b, e)
			i++
			return true
		})
	default:
		b.Write(r.Text())
		if r.IsError() {
			b.WriteByte('\n')
		}
	}
}

// Quote puts a text in quotes, with escapes that the prompt reads back (sdscatrepr).
func Quote(text []byte) string {
	b := make([]byte, 0, len(text)+2)
	b = append(b, '"')
	for _, c := range text {
		switch c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\a':
			b = append(b, `\a`...)
		case '\b':
			b = append(b, `\b`...)
		default:
			if c >= 0x20 && c < 0x7f {
				b = append(b, c)
			} else {
				const digits = "0123456789abcdef"
				b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
			}
		}
	}
	return string(append(b, '"'))
}
