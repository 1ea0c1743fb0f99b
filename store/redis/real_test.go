package redis_test

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/redis"
)

const patience = 20 * time.Second

// real is a real server with a connection of the test's own.
type real struct {
	t       testing.TB
	addr    string
	port    string
	sock    string
	dir     string
	conn    net.Conn
	in      *frame.Reader
	proc    *exec.Cmd
	exited  chan struct{}
	out     *output
	stopped bool
}

// output collects what processes say.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func lookServer(t testing.TB) string {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("SKIPPED: redis-server is not installed, so nothing was tried with the real thing")
	}
	return bin
}

// freePort is one that nobody had a moment ago.
func freePort(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

func startReal(t testing.TB, args ...string) *real {
	t.Helper()
	bin := lookServer(t)
	for range 5 {
		r := &real{t: t, port: freePort(t), dir: t.TempDir()}
		if r.start(bin, args...) {
			t.Cleanup(r.stop)
			return r
		}
	}
	t.Fatal("redis-server doesn't start")
	return nil
}

// start runs the server at its port, and waits until it answers.
func (r *real) start(bin string, args ...string) bool {
	r.addr = net.JoinHostPort("127.0.0.1", r.port)
	r.sock = filepath.Join(r.dir, "r.sock")
	r.out, r.exited, r.stopped = &output{}, make(chan struct{}), false
	all := append([]string{"--port", r.port, "--bind", "127.0.0.1", "--unixsocket", r.sock, "--dir", r.dir, "--save", "",
		"--repl-diskless-sync-delay", "0"}, args...)
	r.proc = exec.Command(bin, all...)
	r.proc.Stdout, r.proc.Stderr = r.out, r.out
	if err := r.proc.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { _ = r.proc.Wait(); close(r.exited) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if r.connect() {
			return true
		}
		select {
		case <-tick.C:
		case <-r.exited:
			return false
		}
	}
}

func (r *real) connect() bool {
	conn, err := net.Dial("unix", r.sock)
	if err == nil {
		if r.conn != nil {
			_ = r.conn.Close()
		}
		r.conn, r.in = conn, frame.NewReader(conn)
	}
	return err == nil
}

// kill ends the server at once.
func (r *real) kill() {
	_ = r.proc.Process.Kill()
	<-r.exited
	r.stopped = true
}

func (r *real) stop() {
	_ = r.conn.Close()
	if !r.stopped {
		r.kill()
	}
	if r.t.Failed() {
		r.t.Logf("redis-server %s said:\n%s", r.port, r.out)
	}
}

// raw sends a command and returns the reply as it came.
func (r *real) raw(args ...string) string {
	r.t.Helper()
	_ = r.conn.SetDeadline(time.Now().Add(patience))
	if _, err := r.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		r.t.Fatal(err)
	}
	var p frame.Reply
	if err := r.in.ReadReply(&p); err != nil {
		r.t.Fatalf("%.80q: %v", args, err)
	}
	return string(p.Raw)
}

func (r *real) do(args ...string) string {
	r.t.Helper()
	raw := r.raw(args...)
	if raw[0] == '-' {
		r.t.Fatalf("%.80q: %s", args, raw)
	}
	return raw
}

// info gives a field of INFO.
func (r *real) info(field string) string {
	r.t.Helper()
	for l := range strings.Lines(r.do("INFO")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), field+":"); ok {
			return v
		}
	}
	return ""
}

// field is info over a connection of its own: "" while there is none.
func (r *real) field(field string) string {
	conn, err := net.Dial("unix", r.sock)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_, _ = conn.Write(frame.AppendCommandString(nil, "INFO"))
	var p frame.Reply
	if err := frame.NewReader(conn).ReadReply(&p); err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(p.Text()), "\n"+field+":")
	v, _, _ := strings.Cut(rest, "\r\n")
	return v
}

// until asks again and again whether something has come true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func open(t testing.TB, opt redis.Options) *redis.Engine {
	t.Helper()
	e, err := redis.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// session is a Conn as a test uses it.
type session struct {
	t    testing.TB
	c    *redis.Conn
	mu   sync.Mutex
	msgs []string
}

func newSession(t testing.TB, e *redis.Engine) *session {
	s := &session{t: t}
	s.c = e.NewConn(func(p []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.msgs = append(s.msgs, string(p))
	})
	t.Cleanup(func() { _ = s.c.Close() })
	return s
}

func (s *session) pushed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.msgs, "")
}

func request(args ...string) command.Request {
	var req command.Request
	req.Raw = frame.AppendCommandString(nil, args...)
	for _, a := range args {
		req.Args = append(req.Args, []byte(a))
	}
	req.Spec = command.Lookup(req.Args)
	return req
}

// lines are commands written as words.
func requests(lines ...string) []command.Request {
	var reqs []command.Request
	for _, l := range lines {
		reqs = append(reqs, request(strings.Fields(l)...))
	}
	return reqs
}

// do executes commands as one batch.
func (s *session) do(lines ...string) string { return s.doCtx(context.Background(), lines...) }

func (s *session) doCtx(ctx context.Context, lines ...string) string {
	return string(s.c.Do(ctx, nil, requests(lines...)))
}

func (s *session) want(line, want string) {
	s.t.Helper()
	if got := s.do(line); got != want {
		s.t.Errorf("%s: %q, not %q", line, got, want)
	}
}

type cmd = command.Request

// several is a command with as many replies as it has: subscriptions have one for each name.
func (r *real) several(line string) string {
	args := strings.Fields(line)
	_ = r.conn.SetDeadline(time.Now().Add(patience))
	if _, err := r.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		r.t.Fatal(err)
	}
	n := 1
	if strings.Contains(strings.ToLower(args[0]), "subscribe") {
		n = max(1, len(args)-1)
	}
	var out []byte
	for range n {
		var p frame.Reply
		if err := r.in.ReadReply(&p); err != nil {
			r.t.Fatalf("%q: %v", line, err)
		}
		out = append(out, p.Raw...)
	}
	return string(out)
}
