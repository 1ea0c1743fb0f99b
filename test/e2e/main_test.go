// Package e2e runs `respmesh dev` as a real process and uses it as people do: with redis-cli, redis-benchmark, client
// libraries of other languages and plain connections. Replies are read by tidwall/resp, which shares no code with ours.
package e2e

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"respmesh/test/dev"
)

// suite is what the tests of one run share.
type suite struct {
	builder dev.Builder
	plain   dev.Builder
	mu      sync.Mutex
	world   *dev.Process
	failed  error
}

var shared = suite{plain: dev.Builder{Plain: true}} // set up once, torn down by TestMain

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintf(os.Stderr, "the shared mesh: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func (s *suite) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.builder.Remove()
	defer s.plain.Remove()
	if s.world == nil {
		return nil
	}
	_, err := s.world.Stop(syscall.SIGTERM, stopLimit)
	return err
}

// stopLimit is how long the end may take. The promise is 2 s; the race detector and a busy machine get more.
var stopLimit = slower(2 * time.Second)

// slower widens a time limit for a program that has the race detector in it.
func slower(d time.Duration) time.Duration {
	if dev.Race {
		return d * 3
	}
	return d
}

// world is a mesh with real distances between mad (the primary), ams and nrt, shared by the tests that don't break it.
func world(t *testing.T) *dev.Process {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.world == nil && shared.failed == nil {
		shared.world, shared.failed = launch(t, dev.Options{Args: []string{"--regions", "mad,ams,nrt"}})
	}
	if shared.failed != nil {
		t.Fatal(shared.failed)
	}
	return shared.world
}

// start runs a mesh for one test and stops it afterwards, checking that it ends as it should.
func start(t *testing.T, args ...string) *dev.Process {
	t.Helper()
	return startWith(t, dev.Options{Args: args})
}

// startPlain runs the program as people do, without the race detector: for what is measured or large.
func startPlain(t *testing.T, args ...string) *dev.Process {
	t.Helper()
	path, err := shared.plain.Path(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, dev.Options{Binary: path, Args: args})
}

func startWith(t *testing.T, o dev.Options) *dev.Process {
	t.Helper()
	p, err := launch(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-p.Exited(): // the test ended it itself
		default:
			if _, err := p.Stop(os.Interrupt, stopLimit); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("what it printed:\n%s", last(p.Stderr(), 6000))
		}
	})
	return p
}

func launch(t *testing.T, o dev.Options) (*dev.Process, error) {
	t.Helper()
	if o.Binary == "" {
		o.Binary = program(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return dev.Start(ctx, o)
}

// program builds the program under test, once.
func program(t *testing.T) string {
	t.Helper()
	path, err := shared.builder.Path(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func last(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// eventually tries until there's no error, and fails the test with the last one.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	if err := within(limit, try); err != nil {
		t.Fatalf("after %v still: %v", limit, err)
	}
}

func within(limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}
