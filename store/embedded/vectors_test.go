package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// The yardstick is redis-server itself: the tests send the same commands to it and to a Conn and compare the
// replies byte for byte, in RESP2 and RESP3. One server serves all tests of the package.
//
//	vectors(t, "set k v", "get k", `append k "\x00"`, "~ smembers s", "! dbsize")
//
// "~ " before a command compares arrays, sets and maps without regard to order (at the top level; pairs of a map stay
// together), "! " only runs it, "? " compares the kind of the reply only. Words are quoted as in redis-cli.

var server struct {
	socket string // empty: none installed
	cmd    *exec.Cmd
	dir    string
}

func TestMain(m *testing.M) {
	if err := startServer(); err != nil {
		fmt.Fprintln(os.Stderr, "NOT COMPARING WITH A REAL SERVER:", err)
	}
	code := m.Run()
	if server.cmd != nil {
		server.cmd.Process.Kill()
		server.cmd.Wait()
	}
	os.RemoveAll(server.dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func startServer() error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return err
	}
	if server.dir, err = os.MkdirTemp("", "respmesh"); err != nil {
		return err
	}
	socket := filepath.Join(server.dir, "s")
	cmd := exec.Command(path, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", server.dir,
		"--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes", "--loglevel", "warning")
	if err := cmd.Start(); err != nil {
		return err
	}
	server.cmd = cmd
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			server.socket = socket
			return nil
		}
	}
	return errors.New("redis-server doesn't answer")
}

// realConn is a connection to the real server.
type realConn struct {
	net.Conn
	r *frame.Reader
}

func dialReal(t testing.TB) *realConn {
	t.Helper()
	if server.socket == "" {
		t.Skip("SKIPPED, NOT PASSED: no redis-server to compare with")
	}
	conn, err := net.Dial("unix", server.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &realConn{conn, frame.NewReader(conn)}
}

func (c *realConn) do(t testing.TB, args [][]byte) []byte {
	t.Helper()
	if _, err := c.Write(frame.AppendCommand(nil, args...)); err != nil {
		t.Fatal(err)
	}
	return c.reply(t)
}

func (c *realConn) reply(t testing.TB) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var p frame.Reply
	if err := c.r.ReadReply(&p); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(p.Raw)
}

// request parses a command from words.
func request(args ...[]byte) command.Request {
	return command.Request{Spec: command.Lookup(args), Command: frame.Command{Raw: frame.AppendCommand(nil, args...), Args: args}}
}

// words splits a line as redis-cli does.
func words(t testing.TB, line string) [][]byte {
	t.Helper()
	var out [][]byte
	for s := strings.TrimSpace(line); s != ""; s = strings.TrimSpace(s) {
		if s[0] != '"' {
			w, rest, _ := strings.Cut(s, " ")
			out, s = append(out, []byte(w)), rest
			continue
		}
		end := 1
		for end < len(s) && s[end] != '"' {
			if s[end] == '\\' {
				end++
			}
			end++
		}
		var w string
		if _, err := fmt.Sscanf(s[:end+1], "%q", &w); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out, s = append(out, []byte(w)), s[end+1:]
	}
	return out
}

func newEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	e := New(o)
	t.Cleanup(func() { e.Close() })
	return e
}

// run executes one line on a Conn.
func run(t testing.TB, c *Conn, line string) string {
	t.Helper()
	return string(c.Do(context.Background(), nil, []command.Request{request(words(t, line)...)}))
}

// vectors runs the commands against a new engine and the real server and compares the replies.
func vectors(t *testing.T, lines ...string) {
	t.Helper()
	for _, proto := range []string{"2", "3"} {
		real := dialReal(t)
		real.do(t, words(t, "flushall"))
		e := newEngine(t, Options{})
		ours := e.NewConn(ConnOptions{Push: func([]byte) {}})
		if proto == "3" {
			real.do(t, words(t, "hello 3"))
			run(t, ours, "hello 3")
		}
		for i, line := range lines {
			mode := byte(0)
			if len(line) > 2 && line[1] == ' ' && strings.IndexByte("~!?", line[0]) >= 0 {
				mode, line = line[0], line[2:]
			}
			args := words(t, line)
			want := real.do(t, args)
			got := ours.Do(context.Background(), nil, []command.Request{request(args...)})
			if mode == '!' || mode == '?' && len(got) > 0 && got[0] == want[0] {
				continue
			}
			if mode == '~' {
				got, want = unordered(got), unordered(want)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("RESP%s, command %d: %s\n got %.300q\nwant %.300q", proto, i, line, got, want)
			}
		}
		if err := audit(e); err != nil {
			t.Errorf("RESP%s: %v", proto, err)
		}
		real.Close()
	}
}

// unordered puts the elements of an aggregate in order.
func unordered(raw []byte) []byte {
	var parts []string
	pair := ""
	frame.Reply{Raw: raw}.Each(func(r frame.Reply) bool {
		if raw[0] == '%' && pair == "" {
			pair = string(r.Raw)
			return true
		}
		parts = append(parts, pair+string(r.Raw))
		pair = ""
		return true
	})
	if parts == nil {
		return raw
	}
	slices.Sort(parts)
	return []byte(string(raw[0]) + strings.Join(parts, ""))
}

// audit checks what the engine keeps count of against what is there.
func audit(e *Engine) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, ks := range e.dbs {
		var memory int64
		n, volatile := 0, 0
		var err error
		ks.keys.each(func(ent *entry) bool {
			n++
			o := &ent.val
			if o.vol != 0 {
				volatile++
				if ks.volatile.at(int(o.vol)).ent != ent {
					err = fmt.Errorf("db %d: %q has a wrong place in the heap", i, ent.key)
				}
			}
			if size := o.size(len(ent.key)); size != o.mem {
				err = fmt.Errorf("db %d: %q accounted with %d bytes, has %d: touch is missing", i, ent.key, o.mem, size)
			}
			if c := o.container(); c != nil && c.len() == 0 && o.kind != kindStream {
				err = fmt.Errorf("db %d: %q is empty", i, ent.key)
			}
			memory += o.mem
			return true
		})
		switch {
		case err != nil:
			return err
		case n != ks.len() || volatile != ks.expires() || memory != ks.memory:
			return fmt.Errorf("db %d: counted %d keys, %d volatile, %d bytes, has %d, %d, %d",
				i, ks.len(), ks.expires(), ks.memory, n, volatile, memory)
		}
		for j := 2; j < ks.volatile.end(); j++ {
			if ks.volatile.at(j).at < ks.volatile.at(j/2).at {
				return fmt.Errorf("db %d: heap out of order", i)
			}
		}
	}
	return nil
}

// recorder is a Sink that keeps the stream.
type recorder struct{ bytes.Buffer }

func (r *recorder) Append(p []byte) { r.Write(p) }

// stream runs the commands and compares what goes to replicas with what the real server sends to one.
func stream(t *testing.T, lines ...string) {
	t.Helper()
	replica := dialReal(t)
	replica.follow(t)
	real := dialReal(t)
	const end = "end-of-test"
	rec := &recorder{}
	e := newEngine(t, Options{Sink: rec})
	ours := e.NewConn(ConnOptions{Push: func([]byte) {}})
	lines = append([]string{"flushall"}, lines...)
	for _, line := range append(lines, "publish "+end+" x") {
		real.do(t, words(t, line))
		run(t, ours, line)
	}
	want := replica.effects(t, end)
	got := effectsIn(t, frame.NewReader(bytes.NewReader(rec.Bytes())), end)
	for i := range max(len(got), len(want)) {
		g, w := at(got, i), at(want, i)
		if !strings.EqualFold(g, w) && !(strings.Contains(w, "PXAT") || strings.Contains(w, "PEXPIREAT")) || strings.Count(g, " ") != strings.Count(w, " ") {
			t.Errorf("effect %d:\n got %s\nwant %s\nall: %q\n%q", i, g, w, got, want)
			return
		}
	}
}

func at(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return "(none)"
}

// follow makes the connection a replica's, after the snapshot.
func (c *realConn) follow(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(c, "SYNC\r\n"); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var line []byte
	one := make([]byte, 1)
	readLine := func() {
		line = line[:0]
		for {
			if _, err := io.ReadFull(c.r, one); err != nil {
				t.Fatal(err)
			}
			if one[0] == '\n' {
				line = bytes.TrimRight(line, "\r")
				return
			}
			line = append(line, one[0])
		}
	}
	for len(line) == 0 || line[0] != '$' {
		readLine()
	}
	if mark, ok := bytes.CutPrefix(bytes.Clone(line), []byte("$EOF:")); ok {
		var tail []byte
		for !bytes.HasSuffix(tail, mark) {
			if _, err := io.ReadFull(c.r, one); err != nil {
				t.Fatal(err)
			}
			tail = append(tail, one[0])
		}
		io.WriteString(c, "REPLCONF ACK 0\r\n")
		return
	}
	n, _ := frame.ParseInt(line[1:])
	if _, err := io.CopyN(io.Discard, c.r, n); err != nil {
		t.Fatal(err)
	}
}

func (c *realConn) effects(t testing.TB, end string) []string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	return effectsIn(t, c.r, end)
}

// effectsIn reads a stream of commands up to the PUBLISH that ends the test.
func effectsIn(t testing.TB, r *frame.Reader, end string) []string {
	t.Helper()
	var all []string
	for {
		var cmd frame.Command
		if err := r.ReadCommand(&cmd); err != nil {
			t.Fatalf("%v after %q", err, all)
		}
		s := string(bytes.Join(cmd.Args, []byte(" ")))
		if len(cmd.Args) > 1 && string(cmd.Args[1]) == end {
			return all
		}
		if name := strings.ToUpper(string(cmd.Args[0])); name != "PING" && name != "SELECT" || len(all) > 1 {
			all = append(all, s)
		}
	}
}
