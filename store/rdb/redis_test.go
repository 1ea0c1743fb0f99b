package rdb_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"respmesh/resp/frame"
)

// redis is a real redis-server with its own directory and socket.
type redis struct {
	t    *testing.T
	dir  string
	conn net.Conn
	in   *frame.Reader
}

// startRedis starts a server that loads dir/dump.rdb if there is one.
func startRedis(t *testing.T, dir string, args ...string) *redis {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("SKIPPED: redis-server is not installed, so nothing was compared with the real thing")
	}
	sock := filepath.Join(dir, "redis.sock")
	args = append([]string{"--port", "0", "--unixsocket", sock, "--dir", dir, "--save", "",
		"--sanitize-dump-payload", "yes"}, args...)
	cmd := exec.Command(bin, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	r := &redis{t: t, dir: dir}
	t.Cleanup(func() {
		if r.conn != nil {
			_ = r.conn.Close()
		}
		_ = cmd.Process.Kill()
		<-exited
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if conn, err := net.Dial("unix", sock); err == nil {
			r.conn, r.in = conn, frame.NewReader(conn)
			if string(r.do("PING")) != "LOADING Redis is loading the dataset in memory" {
				return r
			}
			_ = conn.Close()
			r.conn = nil
		}
		select {
		case <-tick.C:
		case <-exited:
			t.Fatalf("redis-server ended:\n%s", out.String())
		case <-deadline:
			t.Fatalf("redis-server doesn't answer:\n%s", out.String())
		}
	}
}

// reply sends a command and returns its reply, valid until the next.
func (r *redis) reply(args ...string) frame.Reply {
	r.t.Helper()
	if _, err := r.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		r.t.Fatal(err)
	}
	var p frame.Reply
	if err := r.in.ReadReply(&p); err != nil {
		r.t.Fatalf("%.80q: %v", args, err)
	}
	return p
}

// do is reply's text; errors fail the test, but LOADING.
func (r *redis) do(args ...string) []byte {
	r.t.Helper()
	p := r.reply(args...)
	if p.IsError() && !bytes.HasPrefix(p.Text(), []byte("LOADING")) {
		r.t.Fatalf("%.80q: %s", args, p.Text())
	}
	return bytes.Clone(p.Text())
}

// list is the reply's elements.
func (r *redis) list(args ...string) []string {
	r.t.Helper()
	var out []string
	r.reply(args...).Each(func(e frame.Reply) bool {
		out = append(out, string(e.Text()))
		return true
	})
	return out
}

// save has the server write its snapshot and returns it.
func (r *redis) save() []byte {
	r.t.Helper()
	r.do("SAVE")
	b, err := os.ReadFile(filepath.Join(r.dir, "dump.rdb"))
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}
