package hosts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"respmesh/test/dev"
)

// builder builds the program once, without the race detector: these tests measure time, and test/e2e has it.
var builder = dev.Builder{Plain: true}

func TestMain(m *testing.M) {
	code := m.Run()
	builder.Remove()
	os.Exit(code)
}

// slower widens a time limit for a program that has the race detector in it.
func slower(d time.Duration) time.Duration {
	if dev.Race {
		return d * 3
	}
	return d
}

// newMesh makes a mesh of one node.
func newMesh(t *testing.T, region string, args ...string) *Mesh {
	t.Helper()
	path, err := builder.Path(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := New(ctx, path, t.TempDir(), region, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(slower(15 * time.Second)); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, n := range m.Nodes {
				t.Logf("log of %s:\n%s", n.Name, n.Log())
			}
		}
	})
	return m
}

func (m *Mesh) join(t *testing.T, region, name string, args ...string) *Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := m.Join(ctx, region, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cli runs a command that has to work.
func (m *Mesh) cli(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.CLI(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// create makes a database and gives its password.
func (m *Mesh) create(t *testing.T, org, name string, args ...string) string {
	t.Helper()
	out := m.cli(t, append([]string{"redis", "create", "--json", "--org", org, "--name", name, "--plan", "payg", "--disable-eviction"}, args...)...)
	var made struct{ Password string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Password == "" {
		t.Fatalf("redis create prints %q: %v", out, err)
	}
	return made.Password
}

func (m *Mesh) dial(t *testing.T, n *Node, org, db, password string) *Client {
	t.Helper()
	c, err := m.Dial(t.Context(), n, org, db, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (c *Client) want(t *testing.T, reply string, args ...string) {
	t.Helper()
	got, err := c.Do(args...)
	if err != nil {
		got = err.Error()
	}
	if got != reply {
		t.Fatalf("%v answers %q, want %q", args, got, reply)
	}
}

// eventually tries until there is no error any more.
func eventually(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", within, err)
		}
		<-tick.C
	}
}

// clean fails the test if a load saw an error, or lost a connection to a node that may not have ended it.
func clean(t *testing.T, r Result, mayReconnect ...string) {
	t.Helper()
	for i, e := range r.Errors {
		if i == 10 {
			t.Errorf("… %d more", len(r.Errors)-i)
			break
		}
		t.Error(e)
	}
	for n, k := range r.Reconnects {
		if !strings.Contains(" "+strings.Join(mayReconnect, " ")+" ", " "+n+" ") {
			t.Errorf("%d connections to %s were lost", k, n)
		}
	}
	if len(r.Writes) == 0 {
		t.Error("nothing was written")
	}
	t.Logf("writes %v, slowest write and read %v, reconnects %v", r.Writes, r.Slowest, r.Reconnects)
}

// wrote waits until the load goes on at all nodes.
func (l *Load) wrote(t *testing.T, more int) {
	t.Helper()
	l.mu.Lock()
	before := make(map[string]int)
	for n, k := range l.writes {
		before[n] = k
	}
	l.mu.Unlock()
	eventually(t, slower(30*time.Second), func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.writes) == 0 {
			return errors.New("no write yet")
		}
		for n, k := range l.writes {
			if k < before[n]+more {
				return fmt.Errorf("%s has %d writes, want %d", n, k, before[n]+more)
			}
		}
		return nil
	})
}
