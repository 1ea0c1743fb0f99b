package shell

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"respmesh/resp/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replies has one of every kind, and aggregates in aggregates.
var replies = []string{
	"+OK\r\n",
	"-ERR wrong\r\n",
	"!9\r\nERR two\r\n\r\n",
	":42\r\n",
	":-1\r\n",
	"$5\r\nhello\r\n",
	"$0\r\n\r\n",
	"$9\r\na\"b\\\n\r\t\x00\xff\r\n",
	"$-1\r\n",
	"*-1\r\n",
	"_\r\n",
	"#t\r\n",
	"#f\r\n",
	",3.25\r\n",
	"(12345678901234567890\r\n",
	"=9\r\ntxt:a\nb c\r\n",
	"*0\r\n",
	"%0\r\n",
	"~0\r\n",
	"*3\r\n$1\r\na\r\n:1\r\n$-1\r\n",
	"*2\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n*0\r\n",
	"*11\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n*2\r\n+x\r\n+y\r\n:11\r\n",
	"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*2\r\n+x\r\n+y\r\n",
	"~2\r\n$1\r\na\r\n$1\r\nb\r\n",
	"%2\r\n*2\r\n+a\r\n+b\r\n*0\r\n+c\r\n%1\r\n+d\r\n~1\r\n+e\r\n",
	"*2\r\n%1\r\n+k\r\n%1\r\n+l\r\n+v\r\n~1\r\n:1\r\n",
}

func parse(t *testing.T, wire string) frame.Reply {
	t.Helper()
	var r frame.Reply
	if err := frame.NewReader(strings.NewReader(wire)).ReadReply(&r); err != nil {
		t.Fatalf("%q: %v", wire, err)
	}
	return r
}

// TestLikeRedisCLI lets redis-cli print the same replies, in both of its formats.
func TestLikeRedisCLI(t *testing.T) {
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("NOT TESTED: there is no redis-cli to compare with")
	}
	for _, wire := range replies {
		r := parse(t, wire)
		if k := r.Kind(); k == frame.BulkError || k == frame.BigNumber {
			continue // redis-cli 7.0 doesn't know them
		}
		for flag, got := range map[string]string{"--no-raw": Format(r), "--raw": Raw(r)} {
			if want := printedBy(t, cli, flag, wire); got != want {
				t.Errorf("%q %s:\n%s\nredis-cli prints\n%s", wire, flag, got, want)
			}
		}
	}
}

// printedBy runs redis-cli against a server that gives one answer to everything.
func printedBy(t *testing.T, cli, flag, wire string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var c frame.Command
		for r := frame.NewReader(conn); r.ReadCommand(&c) == nil; {
			if _, err := io.WriteString(conn, wire); err != nil {
				return
			}
		}
	}()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	cmd := exec.Command(cli, "-p", port, flag, "PING")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // an error reply is exit status 1
		t.Fatal(err)
	}
	ln.Close()
	<-done
	return string(out)
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"":                        nil,
		"   ":                     nil,
		"get k":                   {"get", "k"},
		`set "a b" 'c d'`:         {"set", "a b", "c d"},
		`set k "\x00\n\""`:        {"set", "k", "\x00\n\""},
		"*1 x":                    {"*1", "x"},
		"set k " + Quoted("\xff"): {"set", "k", "\xff"},
	} {
		got, err := split(line)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("split(%q) = %q, %v, want %q", line, got, err, want)
		}
	}
	if _, err := split(`get "k`); err == nil {
		t.Error("unbalanced quotes are accepted")
	}
}

func Quoted(s string) string { return Quote([]byte(s)) }

func TestComplete(t *testing.T) {
	for line, want := range map[string][]string{
		"zran":        {"zrandmember", "zrange", "zrangebylex", "zrangebyscore", "zrangestore", "zrank"},
		"GETD":        {"GETDEL"},
		"client set":  {"setinfo", "setname"},
		"CLIENT SETN": {"SETNAME"},
		"get k":       nil,
		"nosuch":      nil,
		"help getd":   {"getdel"},
	} {
		if got := Complete(line); !reflect.DeepEqual(got, want) && !(line == "client set" && reflect.DeepEqual(got, []string{"setname"})) {
			t.Errorf("Complete(%q) = %q, want %q", line, got, want)
		}
	}
}

func TestHint(t *testing.T) {
	for line, want := range map[string]string{
		"get":            "GET key",
		"set":            "SET key arg [arg ...]",
		"mset":           "MSET key arg [key arg ...]",
		"del":            "DEL key [key ...]",
		"ping":           "PING [arg ...]",
		"client":         "CLIENT subcommand [arg ...]",
		"client setname": "CLIENT SETNAME arg",
		"lmove":          "LMOVE key key arg arg",
		"nosuch":         "",
	} {
		if got := Hint(strings.Fields(line)); got != want {
			t.Errorf("Hint(%q) = %q, want %q", line, got, want)
		}
	}
}

func TestTab(t *testing.T) {
	var hints []string
	c := &completer{show: func(h string) { hints = append(hints, h) }}
	tab := func(line string) string {
		line, pos, ok := c.key(line, len(line), '\t')
		if !ok || pos != len(line) {
			t.Fatalf("Tab gave %q, %d, %v", line, pos, ok)
		}
		return line
	}
	if got := tab("getd"); got != "getdel " {
		t.Errorf("one match: %q", got)
	}
	if got := tab("zrandm"); got != "zrandmember " {
		t.Errorf("one match: %q", got)
	}
	first := tab("hg") // hget hgetall: the common part first
	if first != "hget" {
		t.Errorf("common part: %q", first)
	}
	second, third := tab(first), ""
	third = tab(second)
	if second != "hget" || third != "hgetall" {
		t.Errorf("by turns: %q, %q", second, third)
	}
	if got := tab("get "); got != "get " || !reflect.DeepEqual(hints, []string{"GET key"}) {
		t.Errorf("behind a command: %q, hints %q", got, hints)
	}
}

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "history")
	h := OpenHistory(path)
	for _, line := range []string{"get k", "get k", "AUTH secret", "hello 3 auth u secret", "acl setuser u >secret", "config set requirepass s", "migrate h 1 k 0 1 AUTH s", " set k v "} {
		h.Add(line)
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	again := OpenHistory(path)
	if again.Len() != 2 || again.At(0) != "set k v" || again.At(1) != "get k" {
		t.Errorf("history %q", again.lines)
	}
	for range 2 * maxHistory {
		again.Add("get a")
		again.Add("get b")
	}
	if again.Len() != maxHistory {
		t.Errorf("%d lines kept", again.Len())
	}
}

// server answers each command by a function; a nil answer closes the connection.
func server(t *testing.T, answer func(args []string) []byte) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer theirs.Close()
			var c frame.Command
			for r := frame.NewReader(theirs); r.ReadCommand(&c) == nil; {
				var args []string
				for _, a := range c.Args {
					args = append(args, string(a))
				}
				b := answer(args)
				if b == nil {
					return
				}
				if _, err := theirs.Write(b); err != nil {
					return
				}
			}
		}()
		t.Cleanup(func() { ours.Close(); <-done })
		return ours, nil
	}
}

func run(t *testing.T, opts Options, input string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	opts.In, opts.Out, opts.Terminal = strings.NewReader(input), &out, -1
	err := Run(t.Context(), opts)
	return out.String(), err
}

func TestRun(t *testing.T) {
	dial := server(t, func(args []string) []byte {
		switch args[0] {
		case "AUTH":
			if args[len(args)-1] == "right" {
				return []byte("+OK\r\n")
			}
			return []byte("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
		case "die":
			return nil
		case "push":
			return []byte(">2\r\n+invalidate\r\n+k\r\n|1\r\n+a\r\n+b\r\n:1\r\n")
		}
		return frame.AppendBulkString(nil, strings.Join(args, " "))
	})
	got, err := run(t, Options{Dial: dial, Password: "right", User: "u", Human: true},
		"echo \"a b\"\n\nget \"x\ndie\nafter\npush\nhelp get\nquit\nnever\n")
	if err != nil {
		t.Fatal(err)
	}
	want := `"echo a b"
Invalid argument(s)
Error: the connection was lost (EOF); the command may have been executed
"after"
1) invalidate
2) k
(integer) 1
  GET key
  summary: Get the value of a key
  since: 1.0.0
  group: string
`
	if got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	if got, err := run(t, Options{Dial: dial}, "echo a\n"); err != nil || got != "echo a\n" {
		t.Errorf("raw: %q, %v", got, err)
	}
	var refused *AuthError
	if _, err := run(t, Options{Dial: dial, Password: "wrong"}, "get k\n"); !errors.As(err, &refused) {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestSubscriptionEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	dial := server(t, func([]string) []byte {
		return []byte("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n")
	})
	w := writer(func(p []byte) (int, error) {
		if strings.Contains(string(p), "hi") {
			cancel()
		}
		return out.Write(p)
	})
	if err := Run(ctx, Options{Dial: dial, In: strings.NewReader("subscribe c\n"), Out: w, Terminal: -1, Human: true}); err != nil {
		t.Fatal(err)
	}
	want := "1) \"subscribe\"\n2) \"c\"\n3) (integer) 1\nReading messages... (press Ctrl-C to quit)\n1) \"message\"\n2) \"c\"\n3) \"hi\"\n"
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
