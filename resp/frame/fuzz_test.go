package frame

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/tidwall/resp"
)

func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\nv\r\r\n*1\r\n$4\r\nPING\r\n",
		"PING\r\n\r\n*0\r\n*-1\r\nset k \"a b\\x00\\n\" 'c\\'d'\r\n",
		"*1\r\n$4\r\nPIN", "*1\r\n$-1\r\n", "*99999999999\r\n", "set k \"v\r\n", "*2\r\n$1\r\na\r\n:1\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 512 {
			return
		}
		var want *outcome
		splits(data, func(name string, src io.Reader) {
			got := readCommands(t, src, DefaultLimits)
			if want == nil {
				want = &got
			} else if !reflect.DeepEqual(got, *want) {
				t.Errorf("%s: %+v, whole: %+v", name, got, *want)
			}
		})
		for _, limits := range []Limits{PreAuthLimits, {Inline: 10, Bulk: 5, Args: 2}} {
			readCommands(t, bytes.NewReader(data), limits)
		}

		// tidwall/resp must find the same arguments in what we found.
		r := NewReader(bytes.NewReader(data))
		var c Command
		for r.ReadCommand(&c) == nil {
			v, telnet, n, err := resp.NewReader(bytes.NewReader(c.Raw)).ReadMultiBulk()
			if err != nil || telnet || n != len(c.Raw) {
				t.Fatalf("tidwall/resp reads %q: %d bytes, %v", c.Raw, n, err)
			}
			var args []string
			for _, a := range v.Array() {
				args = append(args, fmt.Sprintf("%q", a.Bytes()))
			}
			if got, want := fmt.Sprintf("%q", c.Args), "["+strings.Join(args, " ")+"]"; got != want {
				t.Fatalf("arguments %s, tidwall/resp reads %s", got, want)
			}
		}
	})
}

func FuzzReplies(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n-ERR x\r\n:12\r\n$3\r\nabc\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
		"%1\r\n+k\r\n~1\r\n,1.5\r\n|1\r\n+offset\r\n:7\r\n>2\r\n+a\r\n#t\r\n_\r\n(12\r\n=5\r\ntxt:x\r\n!3\r\nERR\r\n",
		"*2\r\n|1\r\n+ttl\r\n:7\r\n+a\r\n+b\r\n", "\n\n+FULLRESYNC x 0\r\n", "*1\r\n*1\r\n*1\r\n", "$5\r\nab",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 512 {
			return
		}
		var want *outcome
		splits(data, func(name string, src io.Reader) {
			got := readReplies(src)
			if want == nil {
				want = &got
			} else if !reflect.DeepEqual(got, *want) {
				t.Errorf("%s: %+v, whole: %+v", name, got, *want)
			}
		})

		r := NewReader(bytes.NewReader(data))
		var p Reply
		for r.ReadReply(&p) == nil {
			if !isRESP2(p) {
				continue
			}
			v, n, err := resp.NewReader(bytes.NewReader(p.Raw)).ReadValue()
			if err != nil || n != len(p.Raw) {
				t.Fatalf("tidwall/resp reads %q: %d bytes, %v", p.Raw, n, err)
			}
			if err := sameValue(p, v); err != nil {
				t.Fatalf("%q: %v", p.Raw, err)
			}
		}
	})
}

func isRESP2(p Reply) bool {
	switch p.Kind() {
	case Simple, Error, Int, Bulk:
		return true
	case Array:
		ok := true
		p.Each(func(p Reply) bool { ok = isRESP2(p); return ok })
		return ok
	}
	return false
}

func sameValue(p Reply, v resp.Value) error {
	if p.IsNull() != v.IsNull() {
		return fmt.Errorf("null: %v, tidwall/resp: %v", p.IsNull(), v.IsNull())
	}
	if byte(p.Kind()) != byte(v.Type()) {
		return fmt.Errorf("kind %c, tidwall/resp: %v", p.Kind(), v.Type())
	}
	switch p.Kind() {
	case Array:
		items := v.Array()
		if p.Len() != len(items) {
			return fmt.Errorf("%d elements, tidwall/resp: %d", p.Len(), len(items))
		}
		i := 0
		var err error
		p.Each(func(p Reply) bool {
			err = sameValue(p, items[i])
			i++
			return err == nil
		})
		return err
	case Int:
		if n, ok := p.Int(); !ok || n != int64(v.Integer()) {
			return fmt.Errorf("%d, tidwall/resp: %d", n, v.Integer())
		}
	default:
		if !v.IsNull() && !bytes.Equal(p.Text(), v.Bytes()) {
			return fmt.Errorf("%q, tidwall/resp: %q", p.Text(), v.Bytes())
		}
	}
	return nil
}
