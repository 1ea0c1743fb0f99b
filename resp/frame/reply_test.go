package frame

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

// readReplies reads all replies of src, each printed by describe.
func readReplies(src io.Reader) (out outcome) {
	r := NewReader(src)
	for {
		var p Reply
		if err := r.ReadReply(&p); err != nil {
			out.consumed, out.err = r.Consumed(), err.Error()
			return out
		}
		out.frames = append(out.frames, describe(p))
	}
}

// describe prints a reply: its kind, its text or elements.
func describe(p Reply) string {
	if p.IsNull() {
		return "null"
	}
	switch p.Kind() {
	case Array, Set, Push, Map, Attribute:
		var all []string
		p.Each(func(p Reply) bool {
			all = append(all, describe(p))
			return true
		})
		return fmt.Sprintf("%c[%s]", p.Kind(), strings.Join(all, " "))
	}
	return fmt.Sprintf("%c%s", p.Kind(), p.Text())
}

func TestNextReply(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("*1\r\n", n) + ":1\r\n" }
	for _, tt := range []struct {
		in   string
		want []string
		err  string // io.EOF if empty
	}{
		{in: "+OK\r\n-ERR no\r\n:-12\r\n:+3\r\n", want: []string{"+OK", "-ERR no", ":-12", ":+3"}},
		{in: "+\r\n$0\r\n\r\n$2\r\n\r\n\r\n", want: []string{"+", "$", "$\r\n"}},
		{in: "$-1\r\n*-1\r\n_\r\n*0\r\n%0\r\n~0\r\n>0\r\n|0\r\n", want: []string{
			"null", "null", "null", "*[]", "%[]", "~[]", ">[]", "|[]",
		}},
		{in: "#t\r\n#f\r\n,1.5\r\n,inf\r\n(123456789012345678901234567890\r\n", want: []string{
			"#t", "#f", ",1.5", ",inf", "(123456789012345678901234567890",
		}},
		{in: "=6\r\ntxt:ab\r\n=4\r\nmkd:\r\n!5\r\nERR x\r\n", want: []string{"=ab", "=", "!ERR x"}},
		{in: "*3\r\n:1\r\n*2\r\n+a\r\n*0\r\n%1\r\n+k\r\n$-1\r\n+next\r\n", want: []string{"*[:1 *[+a *[]] %[+k null]]", "+next"}},
		{in: "|1\r\n+offset\r\n:7\r\n+OK\r\n", want: []string{"|[+offset :7]", "+OK"}},
		{in: "*2\r\n|1\r\n+ttl\r\n:7\r\n+a\r\n|0\r\n+b\r\n+c\r\n", want: []string{"*[|[+ttl :7] +a |[] +b]", "+c"}},
		{in: "*1\r\n*1\r\n|1\r\n+k\r\n*1\r\n+v\r\n+a\r\n+b\r\n", want: []string{"*[*[|[+k *[+v]] +a]]", "+b"}},
		{in: ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", want: []string{">[$message $c $m]"}},
		{in: "\n\n+A\r\n\n+B\r\n", want: []string{"+A", "+B"}},
		{in: deep(maxDepth), want: []string{strings.Repeat("*[", maxDepth) + ":1" + strings.Repeat("]", maxDepth)}},
		{in: deep(maxDepth + 1), err: "Protocol error: reply nested too deeply"},
		{in: "+OK", err: "unexpected EOF"},
		{in: "*2\r\n+a\r\n", err: "unexpected EOF"},
		{in: "?\r\n", err: "Protocol error: unknown reply type '?'"},
		{in: "*1\r\n\n", err: "Protocol error: unknown reply type '\n'"},
		{in: "+a\n\r\n", err: "Protocol error: line end other than CRLF in reply"},
		{in: "+\n", err: "Protocol error: line end other than CRLF in reply"},
		{in: "+a\rb\r\n", err: "Protocol error: line end other than CRLF in reply"},
		{in: ":x\r\n", err: "Protocol error: invalid value of type ':'"},
		{in: ":\r\n", err: "Protocol error: invalid value of type ':'"},
		{in: ":+-1\r\n", err: "Protocol error: invalid value of type ':'"},
		{in: "#x\r\n", err: "Protocol error: invalid value of type '#'"},
		{in: "_x\r\n", err: "Protocol error: invalid value of type '_'"},
		{in: ",\r\n", err: "Protocol error: invalid value of type ','"},
		{in: "$-2\r\n", err: "Protocol error: invalid bulk length"},
		{in: "!-1\r\n", err: "Protocol error: invalid bulk length"},
		{in: "=3\r\ntxt\r\n", err: "Protocol error: invalid bulk length"},
		{in: "=5\r\nabcde\r\n", err: "Protocol error: invalid value of type '='"},
		{in: "$3\r\nabcd\r\n", err: "Protocol error: expected CRLF after bulk"},
		{in: "%-1\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "*4294967296\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "$?\r\n", err: "Protocol error: invalid bulk length"},
		{in: "+" + strings.Repeat("x", 65537) + "\r\n", err: "Protocol error: too big line in reply"},
	} {
		want := outcome{frames: tt.want, err: tt.err}
		if want.err == "" {
			want.err = io.EOF.Error()
		}
		splits([]byte(tt.in), func(name string, src io.Reader) {
			got := readReplies(src)
			got.consumed = 0
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%.40q, %s:\n got %v\nwant %v", tt.in, name, got, want)
			}
		})
	}
}

func TestReplyMethods(t *testing.T) {
	reply := func(s string) Reply { return Reply{Raw: []byte(s)} }
	if n, ok := reply(":-42\r\n").Int(); n != -42 || !ok {
		t.Errorf("Int = %d, %v", n, ok)
	}
	if _, ok := reply("$2\r\n42\r\n").Int(); ok {
		t.Error("a bulk string is no integer")
	}
	if !reply("-ERR\r\n").IsError() || !reply("!3\r\nERR\r\n").IsError() || reply("+OK\r\n").IsError() {
		t.Error("IsError")
	}
	if n := reply("%2\r\n+a\r\n+b\r\n+c\r\n+d\r\n").Len(); n != 4 {
		t.Errorf("Len = %d", n)
	}
	var zero Reply
	if zero.Kind() != 0 || zero.IsNull() || zero.IsError() || zero.Text() != nil || zero.Len() != 0 {
		t.Error("zero Reply")
	}
	visited := 0
	reply("*3\r\n:1\r\n:2\r\n:3\r\n").Each(func(Reply) bool { visited++; return visited < 2 })
	if visited != 2 {
		t.Errorf("visited %d elements, want 2", visited)
	}
}
