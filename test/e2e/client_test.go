package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/resp"

	"respmesh/test/dev"
)

// client is a plain connection to a region. Its methods fail the test when the connection fails.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *resp.Reader
	wait time.Duration // for each reply
}

func connect(t testing.TB, r dev.Region) *client {
	t.Helper()
	c, err := open(t, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// open is connect for goroutines, which must not end the test.
func open(t testing.TB, r dev.Region) (*client, error) {
	conn, err := net.DialTimeout("tcp", r.RESP, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &client{t: t, conn: conn, r: resp.NewReader(conn), wait: 10 * time.Second}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// write sends commands in one piece without waiting for replies.
func (c *client) write(commands ...[]string) error {
	var b bytes.Buffer
	for _, args := range commands {
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.wait))
	_, err := c.conn.Write(b.Bytes())
	return err
}

func (c *client) read() (resp.Value, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.wait))
	v, _, err := c.r.ReadValue()
	return v, err
}

// call sends a command and waits for its reply; err is the connection's.
func (c *client) call(args ...string) (resp.Value, error) {
	if err := c.write(args); err != nil {
		return resp.Value{}, err
	}
	return c.read()
}

// do is call for a test that can't go on without the connection.
func (c *client) do(args ...string) resp.Value {
	c.t.Helper()
	v, err := c.call(args...)
	if err != nil {
		c.t.Fatalf("%s: %v", brief(args), err)
	}
	return v
}

// want sends a command and compares the reply as show prints it.
func (c *client) want(reply string, args ...string) {
	c.t.Helper()
	if got := show(c.do(args...)); got != reply {
		c.t.Fatalf("%s answers %s, want %s", brief(args), got, reply)
	}
}

// expect reads the next reply.
func (c *client) expect(reply string) {
	c.t.Helper()
	v, err := c.read()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", reply, err)
	}
	if got := show(v); got != reply {
		c.t.Fatalf("got %s, want %s", got, reply)
	}
}

func brief(args []string) string { return fmt.Sprintf("%.200q", args) }

// show prints a reply: OK, 1, "text", nil, [1 "a"], -ERR …
func show(v resp.Value) string {
	switch {
	case v.IsNull():
		return "nil"
	case v.Type() == resp.SimpleString:
		return v.String()
	case v.Type() == resp.Error:
		return "-" + v.Error().Error()
	case v.Type() == resp.Integer:
		return fmt.Sprint(v.Integer())
	case v.Type() == resp.Array:
		parts := make([]string, len(v.Array()))
		for i, e := range v.Array() {
			parts[i] = show(e)
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return fmt.Sprintf("%q", v.Bytes())
}

// cli runs the real redis-cli against a region.
func cli(t *testing.T, r dev.Region, args ...string) (stdout string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(t, "redis-cli"), append([]string{"-h", r.Host(), "-p", r.Port()}, args...)...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return strings.TrimSuffix(string(out)+string(exit.Stderr), "\n"), exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(out), "\n"), 0
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT TESTED: %s is missing; run scripts/install-test-deps", name)
	}
	return path
}

// key makes a key of the test's own.
func key(t testing.TB, name string) string { return t.Name() + ":" + name }

// get waits until a region answers a key with a value.
func eventuallyGet(t *testing.T, r dev.Region, limit time.Duration, k, want string) {
	t.Helper()
	c := connect(t, r)
	eventually(t, limit, func() error {
		if got := show(c.do("GET", k)); got != want {
			return fmt.Errorf("GET %s at %s is %s, want %s", k, r.Code, got, want)
		}
		return nil
	})
}

// closed reports whether the other side ends the connection without another byte.
func (c *client) closed() error {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.wait))
	var b [1]byte
	if n, err := c.conn.Read(b[:]); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %d bytes, %v; want the end", n, err)
	}
	return nil
}
