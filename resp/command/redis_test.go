package command

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"respmesh/resp/frame"
)

// server is a connection to a redis-server of the version that the table was made from.
type server struct {
	t testing.TB
	net.Conn
	r *frame.Reader
}

func startServer(t testing.TB, proto int) *server {
	t.Helper()
	version, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		t.Skipf("NOT COMPARED WITH A REAL SERVER: %v", err)
	}
	if !bytes.Contains(version, []byte("v=7.0.15 ")) {
		t.Skipf("NOT COMPARED WITH A REAL SERVER: redis-server is %s, want 7.0.15", bytes.TrimSpace(version))
	}
	dir, err := os.MkdirTemp("", "redis") // t.TempDir may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--dir", dir)
	log, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.Contains(lines.Text(), "now ready to accept connections") {
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &server{t: t, Conn: conn, r: frame.NewReader(conn)}
	if proto == 3 {
		s.do("HELLO", "3")
	}
	return s
}

// do returns the reply, valid until the next one.
func (s *server) do(args ...string) frame.Reply {
	s.t.Helper()
	if _, err := s.Write(frame.AppendCommandString(nil, args...)); err != nil {
		s.t.Fatal(err)
	}
	var p frame.Reply
	if err := s.r.ReadReply(&p); err != nil {
		s.t.Fatalf("%q: %v", args, err)
	}
	return p
}

func argv(args ...string) [][]byte {
	out := make([][]byte, len(args))
	for i, a := range args {
		out[i] = []byte(a)
	}
	return out
}
