package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/test/dev"
)

// suite is what the tests of one run share: one lab. A test leaves it as it found it, or the next ones don't count.
type suite struct {
	builder dev.Builder
	once    sync.Once
	lab     *Lab
	world   *World
	err     error
	missing error // why there can't be a lab
}

// What is measured here is time, so the program is the one that people run, without the race detector.
var shared = suite{builder: dev.Builder{Plain: true}} // torn down by TestMain

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintf(os.Stderr, "the lab: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func (s *suite) close() error {
	var err error
	if s.lab != nil {
		if dir := os.Getenv(keepLogs); dir != "" {
			for _, n := range s.lab.Nodes {
				raw, rerr := os.ReadFile(n.LogFile)
				err = errors.Join(err, rerr, os.WriteFile(filepath.Join(dir, n.Name+".log"), raw, 0o600))
			}
		}
		err = errors.Join(err, s.lab.Close(context.Background()))
	}
	return errors.Join(err, s.builder.Remove())
}

// required says that a lab that can't be built is a failure rather than something to skip.
const required = "RESPMESH_LAB"

// keepLogs names a folder that the nodes' logs are copied to.
const keepLogs = "RESPMESH_LAB_LOGS"

// world is the lab with its orgs, databases and peers.
func world(t *testing.T) *World {
	t.Helper()
	shared.once.Do(func() { shared.build(t.Context()) })
	switch {
	case shared.missing != nil && os.Getenv(required) == "":
		t.Skipf("NOT TESTED: %v", shared.missing)
	case shared.missing != nil:
		t.Fatal(shared.missing)
	case shared.err != nil:
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, n := range shared.lab.Nodes {
			t.Logf("log of %s:\n%s", n.Name, n.Log())
		}
	})
	return shared.world
}

func (s *suite) build(ctx context.Context) {
	if s.missing = Possible(ctx); s.missing != nil {
		return
	}
	path, err := s.builder.Path(ctx)
	if err != nil {
		s.err = err
		return
	}
	o := Options{Binary: path}
	if os.Getenv(required) != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if s.lab, s.err = New(context.WithoutCancel(ctx), o); s.err != nil {
		return
	}
	s.world, s.err = s.lab.Furnish(ctx)
}

// eventually tries until there is no error any more.
func eventually(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	if err := Eventually(t.Context(), within, try); err != nil {
		t.Fatal(err)
	}
}

// cli runs a command that has to work.
func (w *World) cli(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.lab.CLI(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// session opens one that the test ends.
func session(t *testing.T, h *Host, d Database) *Session {
	t.Helper()
	s, err := h.Session(t.Context(), d)
	if err != nil {
		t.Fatalf("%s to %s: %v", h.Name, d.Host(), err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *Session) want(t *testing.T, reply string, args ...string) {
	t.Helper()
	got, err := s.Do(args...)
	if err != nil {
		got = err.Error()
	}
	if got != reply {
		t.Fatalf("%v answers %q, want %q", args, got, reply)
	}
}

// refused tries a command that has to fail, and say why.
func refused(t *testing.T, out string, err error, because ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("it was allowed: %s", out)
	}
	for _, b := range because {
		if !strings.Contains(err.Error(), b) {
			t.Errorf("it says %q, want something about %q", err, b)
		}
	}
}

// status is a database's, as the API tells it.
type status struct {
	Primary *struct {
		Node string
		Held bool
	}
	Nodes []struct {
		Node, Role, State, Error string
		ReadsFrom                string `json:"reads_from"`
		Sessions                 int64
	}
}

func (w *World) status(ctx context.Context, d Database) (s status, err error) {
	out, err := w.lab.CLI(ctx, "redis", "status", d.Name, "--org", d.Org, "--json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// settle waits until all nodes run, have their copies and a primary: what every test starts from.
func (w *World) settle(t *testing.T) {
	t.Helper()
	began := time.Now()
	var last error // but one
	defer func() {
		if took := time.Since(began); took > 5*time.Second {
			t.Logf("all was well only after %v; last: %v", took, last)
		}
	}()
	eventually(t, 30*time.Second, func() (err error) {
		defer func() {
			if err != nil {
				last = err
			}
		}()
		for _, d := range []Database{w.Cart, w.Posts} {
			s, err := w.status(t.Context(), d)
			if err != nil {
				return err
			}
			if s.Primary == nil || !s.Primary.Held {
				return fmt.Errorf("%s has no primary", d.Host())
			}
			for _, n := range s.Nodes {
				if n.Error != "" || n.State != "ready" && n.Role != "none" {
					return fmt.Errorf("%s on %s is %s %s: %s", d.Host(), n.Node, n.Role, n.State, n.Error)
				}
			}
			if len(s.Nodes) != len(w.lab.Nodes) {
				return fmt.Errorf("%s is known on %d nodes", d.Host(), len(s.Nodes))
			}
		}
		return nil
	})
}
