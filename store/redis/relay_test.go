package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/embedded"
	"respmesh/store/psync"
	"respmesh/store/redis"
)

// copyOf is an embedded store as a node has it: a replica, or a primary.
type copyOf struct {
	engine  *embedded.Engine
	log     *psync.Log
	primary *psync.Primary
	replica *psync.Replica
	conn    *embedded.Conn
	stop    func()
}

func newCopy(t testing.TB, replica bool) *copyOf {
	c := &copyOf{log: psync.NewLog(1 << 20)}
	c.engine = embedded.New(embedded.Options{Replica: replica, Forwards: true, Sink: c.log, Version: "7.0.15"})
	c.primary = psync.NewPrimary(psync.PrimaryOptions{Log: c.log, Source: c.engine, PingEvery: 100 * time.Millisecond})
	c.conn = c.engine.NewConn(embedded.ConnOptions{Push: func([]byte) {}})
	t.Cleanup(func() {
		if c.stop != nil {
			c.stop()
		}
		_ = c.conn.Close()
		_ = c.engine.Close()
	})
	return c
}

func (c *copyOf) do(line string) string {
	return string(c.conn.Do(context.Background(), nil, requests(line)))
}

func (c *copyOf) follow(t testing.TB, pipeline bool, dial func(context.Context) (net.Conn, error)) {
	c.replica = psync.NewReplica(psync.ReplicaOptions{Log: c.log, Target: c.engine, Dial: dial, Pipeline: pipeline, Timeout: 3 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.replica.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	c.stop = func() { cancel(); wg.Wait() }
}

// An embedded replica on another node follows the server through the engine, also when that is idle and when it was away.
func TestReplicaFollowsThroughTheEngine(t *testing.T) {
	r := startReal(t, "--requirepass", "secret")
	r.do("AUTH", "secret")
	r.do("SET", "before", "1")
	e := open(t, redis.Options{URL: "redis://:secret@" + r.addr, ProbeEvery: 200 * time.Millisecond})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		defer ln.Close()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { _ = e.Replicate(ctx, conn, frame.NewReader(conn)) })
		}
	})
	context.AfterFunc(ctx, func() { ln.Close() })

	c := newCopy(t, true)
	c.follow(t, true, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	})
	s := newSession(t, e)
	written := func(n int) {
		t.Helper()
		s.want(fmt.Sprintf("SET k %d", n), "+OK\r\n")
		var replid string
		var offset int64
		until(t, "the history is known", func() bool {
			replid, offset = e.Position()
			id, _ := c.log.Position()
			return id == replid
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.log.Wait(ctx, replid, offset); err != nil {
			t.Fatal(err)
		}
		if got := c.do("GET k"); got != fmt.Sprintf("$1\r\n%d\r\n", n) {
			t.Errorf("%q", got)
		}
	}
	written(1)
	if got := c.do("GET before"); got != "$1\r\n1\r\n" {
		t.Errorf("%q", got)
	}
	mu.Lock()
	for _, conn := range conns {
		conn.Close()
	}
	mu.Unlock()
	written(2)
	if st := c.replica.State(); st.FullSyncs != 1 {
		t.Errorf("%d full resynchronisations", st.FullSyncs)
	}
	// Idle: the server's own PINGs are 10 s apart, more than the replica waits.
	heard := c.replica.State().LastHeard
	until(t, "an idle server is heard", func() bool { return c.replica.State().LastHeard.After(heard.Add(500 * time.Millisecond)) })
	written(3)
}

// Over the relay nobody has the rights of the engine's user.
func TestRelayServesReplicationOnly(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- e.Replicate(t.Context(), b, frame.NewReader(b)) }()
	in := frame.NewReader(a)
	for line, want := range map[string]string{
		"FLUSHALL": "-ERR only replication commands", "AUTH x": "+OK", "PING": "+PONG", "REPLCONF capa psync2": "+OK",
	} {
		if _, err := a.Write(frame.AppendCommandString(nil, strings.Fields(line)...)); err != nil {
			t.Fatal(err)
		}
		if got, err := in.ReadLine(); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %q %v", line, got, err)
		}
	}
	a.Close()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}
