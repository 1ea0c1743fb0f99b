package frame

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startServer returns how to connect to a redis-server of the version whose words and formats are ours.
func startServer(t *testing.T, args ...string) (dial func() net.Conn) {
	t.Helper()
	version, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		t.Skipf("NOT COMPARED WITH A REAL SERVER: %v", err)
	}
	if !bytes.Contains(version, []byte("v=7.0.")) {
		t.Skipf("NOT COMPARED WITH A REAL SERVER: redis-server is %s, want 7.0", bytes.TrimSpace(version))
	}
	dir, err := os.MkdirTemp("", "redis") // t.TempDir may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	cmd := exec.Command("redis-server", append([]string{"--port", "0", "--unixsocket", sock, "--save", "", "--dir", dir}, args...)...)
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
	return func() net.Conn {
		conn, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		// Were an answer not to come, the test says which.
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

func TestProtocolErrorsAreTheServers(t *testing.T) {
	open := startServer(t)
	locked := startServer(t, "--requirepass", "secret")
	long := strings.Repeat("x", maxInline+1)
	for _, tt := range []struct {
		dial   func() net.Conn
		limits Limits
		in     string
	}{
		{open, DefaultLimits, "*x\r\n"},
		{open, DefaultLimits, "*+1\r\n"},
		{open, DefaultLimits, "*01\r\n"},
		{open, DefaultLimits, "*2147483648\r\n"},
		{open, DefaultLimits, "*1\n$4\r\nPING\r\n"},
		{open, DefaultLimits, "*1\r\n:1\r\n"},
		{open, DefaultLimits, "*1\r\n\r\n\r\n"},
		{open, DefaultLimits, "*1\r\n\xff\r\n"},
		{open, DefaultLimits, "*1\r\n$-1\r\n"},
		{open, DefaultLimits, "*1\r\n$x\r\n"},
		{open, DefaultLimits, "*1\r\n$536870913\r\n"},
		{open, DefaultLimits, "get \"k\r\n"},
		{open, DefaultLimits, "get 'k'x\r\n"},
		{open, DefaultLimits, long},
		{locked, PreAuthLimits, "*11\r\n"},
		{locked, PreAuthLimits, "*1\r\n$16385\r\n"},
		{locked, PreAuthLimits, "*1\r\n$536870913\r\n"},
	} {
		conn := tt.dial()
		if _, err := io.WriteString(conn, tt.in); err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReader(strings.NewReader(tt.in))
		r.SetLimits(tt.limits)
		pe, ok := r.ReadCommand(&Command{}).(*ProtocolError)
		if !ok {
			t.Errorf("%.40q: no protocol error, the server says %q", tt.in, want)
			continue
		}
		if got := pe.AppendReply(nil); !bytes.Equal(got, want) {
			t.Errorf("%.40q:\n got %q\nwant %q", tt.in, got, want)
		}
	}
}

// The server echoes what it takes an inline command's argument to be.
func TestInlineQuotingIsTheServers(t *testing.T) {
	conn := startServer(t)()
	replies := NewReader(conn)
	alphabet := []byte("ab \t\"\"''\\\\xn0f4\v")
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		line := []byte("PING ")
		for range rng.IntN(12) {
			line = append(line, alphabet[rng.IntN(len(alphabet))])
		}
		line = append(line, '\n')
		r := NewReader(bytes.NewReader(line))
		var c Command
		if err := r.ReadCommand(&c); err != nil || len(c.Args) != 2 || string(c.Args[0]) != "PING" {
			continue // errors close the connection, and PING returns one argument only
		}
		if _, err := conn.Write(line); err != nil {
			t.Fatal(err)
		}
		var p Reply
		if err := replies.ReadReply(&p); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !bytes.Equal(p.Text(), c.Args[1]) {
			t.Fatalf("%q: %q, the server reads %q", line, c.Args[1], p.Text())
		}
	}
}

func TestDoublesAreTheServers(t *testing.T) {
	conn := startServer(t)()
	replies := NewReader(conn)
	rng := rand.New(rand.NewPCG(3, 4))
	// No -0: a small sorted set stores it as the integer 0.
	doubles := []float64{0, 1, -1, 0.1, 3, 1e15, 1e16, 1e17, 1e18, 123456789012345680, 1e-4, 1e-5, 1e100,
		math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, math.MaxInt64, math.MinInt64, 1 << 53}
	for range 3000 {
		if f := math.Float64frombits(rng.Uint64()); !math.IsNaN(f) {
			doubles = append(doubles, f)
		}
		doubles = append(doubles, float64(rng.IntN(1e6))/1000, rng.NormFloat64()*1e6, float64(rng.Int64()))
	}
	for _, proto := range []int{2, 3} {
		req := AppendCommandString(nil, "HELLO", strconv.Itoa(proto))
		if _, err := conn.Write(req); err != nil {
			t.Fatal(err)
		}
		if err := replies.ReadReply(&Reply{}); err != nil {
			t.Fatal(err)
		}
		for _, f := range doubles {
			req = AppendCommandString(req[:0], "ZADD", "z", strconv.FormatFloat(f, 'g', -1, 64), "m")
			req = AppendCommandString(req, "ZSCORE", "z", "m")
			if _, err := conn.Write(req); err != nil {
				t.Fatal(err)
			}
			var p Reply
			for range 2 {
				if err := replies.ReadReply(&p); err != nil {
					t.Fatal(err)
				}
			}
			if got := AppendDouble(nil, f, proto); !bytes.Equal(got, p.Raw) {
				t.Errorf("RESP%d %g: %q, the server writes %q", proto, f, got, p.Raw)
			}
		}
	}
}
