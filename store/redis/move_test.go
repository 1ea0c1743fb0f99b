package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"respmesh/resp/frame"
	"respmesh/store/redis"
)

// embeddedSide is the embedded engine as a node would give it to a move.
type embeddedSide struct {
	*copyOf
	t  testing.TB
	mu sync.RWMutex // held by writers, and by the fence
}

func (s *embeddedSide) Fence()   { s.mu.Lock() }
func (s *embeddedSide) Unfence() { s.mu.Unlock() }
func (s *embeddedSide) Position() (string, int64) {
	return s.log.Position()
}

func (s *embeddedSide) ServeConn(ctx context.Context, conn net.Conn, r *frame.Reader) error {
	return s.primary.ServeConn(ctx, conn, r)
}

func (s *embeddedSide) Follow(dial func(context.Context) (net.Conn, error)) error {
	s.follow(s.t, false, dial)
	return nil
}

func (s *embeddedSide) Wait(ctx context.Context, replid string, offset int64) error {
	return s.log.Wait(ctx, replid, offset)
}

func (s *embeddedSide) Lead(context.Context) error {
	s.stop()
	s.stop = nil
	s.engine.SetReplica(false)
	s.log.Promote(1)
	return nil
}

// moving writes all the time, to one engine and after the move to the other, and knows what was acknowledged.
type moving struct {
	side *embeddedSide
	into atomic.Pointer[session]
	n    atomic.Int64
	wg   sync.WaitGroup
	done chan struct{}
}

func (m *moving) write(t testing.TB) {
	defer m.wg.Done()
	for {
		select {
		case <-m.done:
			return
		default:
		}
		line := fmt.Sprintf("RPUSH log %d", m.n.Load())
		m.side.mu.RLock()
		var got string
		if s := m.into.Load(); s != nil {
			got = s.do(line)
		} else {
			got = m.side.do(line)
		}
		m.side.mu.RUnlock()
		if n := m.n.Add(1); got != fmt.Sprintf(":%d\r\n", n) {
			t.Errorf("write %d: %q", n, got)
			return
		}
	}
}

func TestMoveToServerAndBack(t *testing.T) {
	r := startReal(t, "--requirepass", "secret", "--masterauth", "before")
	r.do("AUTH", "secret")
	e := open(t, redis.Options{URL: "redis://:secret@" + r.addr})
	s := newSession(t, e)
	side := &embeddedSide{copyOf: newCopy(t, false), t: t}
	for i := range 1000 {
		side.do(fmt.Sprintf("SET key:%d %d", i, i))
	}
	m := &moving{side: side, done: make(chan struct{})}
	m.wg.Add(1)
	go m.write(t)
	r.do("SET", "there", "already")
	if err := redis.ToServer(t.Context(), side, e, redis.MoveOptions{}); !errors.Is(err, redis.ErrNotEmpty) {
		t.Fatalf("a target with data: %v", err)
	}
	r.do("FLUSHALL")
	var phases []string
	err := redis.ToServer(t.Context(), side, e, redis.MoveOptions{Progress: func(p redis.Progress) { phases = append(phases, p.Phase) }})
	if err != nil {
		t.Fatal(err)
	}
	m.into.Store(s)
	side.Unfence()
	moved := m.n.Load()
	until(t, "writes go on at the server", func() bool { return m.n.Load() > moved+100 })
	if got := newSession(t, e).do("GET key:999"); got != "$3\r\n999\r\n" {
		t.Errorf("%q", got)
	}
	if got := r.do("CONFIG", "GET", "masterauth"); !strings.Contains(got, "before") {
		t.Errorf("masterauth wasn't put back: %q", got)
	}
	if all := strings.Join(phases, " "); !strings.Contains(all, "switching") {
		t.Errorf("progress: %s", all)
	}

	// Back, into a new copy. The fence is the same one.
	back := &embeddedSide{copyOf: newCopy(t, true), t: t}
	if err := redis.FromServer(t.Context(), e, back, side, redis.MoveOptions{}); err != nil {
		t.Fatal(err)
	}
	n := m.n.Load() // the writer waits at the fence
	side.copyOf = back.copyOf
	m.into.Store(nil)
	if got := back.do("LLEN log"); got != fmt.Sprintf(":%d\r\n", n) {
		t.Errorf("%q in the copy, %d acknowledged", got, n)
	}
	close(m.done)
	side.Unfence()
	m.wg.Wait()
	if got := back.do("SET k v"); got != "+OK\r\n" {
		t.Errorf("%q", got)
	}
	if got := r.raw("SET", "k", "v"); !strings.HasPrefix(got, "-NOREPLICAS") {
		t.Errorf("the server still takes writes: %q", got)
	}

	// And once more to the server, which may be overwritten now.
	back.do("SET last time")
	if err := redis.ToServer(t.Context(), back, e, redis.MoveOptions{Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	s.want("GET last", "$4\r\ntime\r\n")
	s.want("SET k v", "+OK\r\n")
}

// A target that doesn't come to the end in time is put back, and writes go on where they were.
func TestMoveThatFails(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	side := &embeddedSide{copyOf: newCopy(t, false), t: t}
	side.do("SET k v")
	ctx, cancel := context.WithCancel(t.Context())
	err := redis.ToServer(ctx, side, e, redis.MoveOptions{Progress: func(p redis.Progress) {
		if p.Phase == "switching" {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !side.mu.TryRLock() {
		t.Fatal("writes are still held up")
	}
	side.mu.RUnlock()
	if r.info("role") != "master" || r.do("DBSIZE") != ":0\r\n" {
		t.Errorf("%s, %s", r.info("role"), r.do("DBSIZE"))
	}
	if err := redis.ToServer(t.Context(), side, e, redis.MoveOptions{Listen: "192.0.2.1:0"}); err == nil {
		t.Error("no error")
	}
}
