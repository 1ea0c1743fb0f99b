package redis_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/store/redis"
)

// What a session answers is what the server answers to a client of its own.
func TestSessionIsLikeAClient(t *testing.T) {
	r, behind := startReal(t), startReal(t)
	s := newSession(t, open(t, redis.Options{URL: "redis://" + behind.addr}))
	id := regexp.MustCompile(`id\r\n:\d+`)
	for _, batch := range [][]string{
		{"SET k v", "GET k", "INCR k", "LPUSH l a b c", "LRANGE l 0 -1", "nosuch command", "GET"},
		{"MULTI"}, {"SET k 1"}, {"INCR k", "GET"}, {"EXEC"}, {"GET k"},
		{"MULTI", "SET k 1", "INCR k", "EXEC", "GET k"},
		{"MULTI", "SET k 5", "DISCARD", "GET k"},
		{"MULTI", "SET k 5", "nosuch", "EXEC", "GET k"},
		{"MULTI", "MULTI", "EXEC"}, {"EXEC"}, {"DISCARD"}, {"UNWATCH"},
		{"WATCH k"}, {"GET k"}, {"MULTI", "INCR k", "EXEC", "GET k"},
		{"WATCH k", "MULTI", "INCR k"}, {"EXEC"}, {"WATCH k"}, {"UNWATCH"},
		{"SELECT 3"}, {"GET k", "SET k three"}, {"MULTI", "GET k", "EXEC"}, {"SELECT 0", "GET k"}, {"SELECT 99"}, {"SELECT x"}, {"SELECT"},
		{"MULTI", "SELECT 2", "SET k two", "EXEC"}, {"GET k"}, {"SELECT 0"}, {"GET k"},
		{"BLPOP l 0"}, {"BRPOP none 0.01", "GET k"}, {"MULTI", "BLPOP none 0", "EXEC"},
		{"XADD x 1-1 a b"}, {"XREAD BLOCK 5 STREAMS x 1-1"}, {"XREAD STREAMS x 0"},
		{"HELLO 3"}, {"HSET h a 1", "HGETALL h"}, {"MULTI", "HGETALL h", "EXEC"}, {"HELLO 4"}, {"WATCH k"}, {"HELLO 2"}, {"MULTI", "HGETALL h", "EXEC"},
		{"SUBSCRIBE a b"}, {"UNSUBSCRIBE a"}, {"PSUBSCRIBE p*"}, {"UNSUBSCRIBE"}, {"PUNSUBSCRIBE"}, {"UNSUBSCRIBE"}, {"SSUBSCRIBE z", "SUNSUBSCRIBE"},
		{"WAIT 0 10"}, {"SCRIPT KILL"}, {"RESET"}, {"GET k"}, {"QUIT"},
	} {
		got := s.do(batch...)
		var want strings.Builder
		for _, l := range batch {
			want.WriteString(r.several(l))
		}
		if g, w := id.ReplaceAllString(got, ""), id.ReplaceAllString(want.String(), ""); g != w {
			t.Errorf("%q:\n got %q\nwant %q", batch, g, w)
		}
	}
}

func TestManySessionsShareConnections(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "unix://" + r.sock})
	var wg sync.WaitGroup
	for i := range 100 {
		s := newSession(t, e)
		wg.Go(func() {
			key := fmt.Sprint("key:", i)
			for n := range 50 {
				want := fmt.Sprintf("+OK\r\n:%d\r\n$%d\r\n%d\r\n", n+1, len(fmt.Sprint(n+1)), n+1)
				if got := s.do(fmt.Sprintf("SET %s %d", key, n), "INCR "+key, "GET "+key); got != want {
					t.Errorf("%q, not %q", got, want)
				}
			}
		})
	}
	wg.Wait()
	if n := strings.Count(r.do("CLIENT", "LIST"), "\n"); n > 6 {
		t.Errorf("%d connections", n)
	}
}

// The position after a write covers it, whatever connection it took.
func TestPositionCoversWrites(t *testing.T) {
	r := startReal(t)
	replica := startReal(t, "--replicaof", "127.0.0.1 "+r.port)
	until(t, "replica is online", func() bool { return replica.info("master_link_status") == "up" })
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	s := newSession(t, e)
	for _, batch := range [][]string{{"SET k v"}, {"GET k", "INCR n"}, {"MULTI", "SET k w", "EXEC"}, {"MULTI"}, {"INCR n"}, {"EXEC"},
		{"RPUSH l a"}, {"BLPOP l 0"}, {"SELECT 2"}, {"SET k 2"}, {"EVAL return(redis.call('incr','n')) 0"}, {"PFADD p a"}} {
		s.do(batch...)
		replid, offset := e.Position()
		if want := r.info("master_replid"); replid != want {
			t.Fatalf("replid %s, not %s", replid, want)
		}
		if now := r.info("master_repl_offset"); fmt.Sprint(offset) != now {
			t.Errorf("after %v: at %d, the server is at %s", batch, offset, now)
		}
		if err := e.Wait(t.Context(), replid, offset); err != nil {
			t.Error(err)
		}
	}
	if got := s.do("WAIT 1 10000"); got != ":1\r\n" {
		t.Errorf("WAIT: %q", got)
	}
	if err := e.Wait(t.Context(), strings.Repeat("0", 40), 1); err != redis.ErrOtherHistory {
		t.Errorf("another history: %v", err)
	}
}

func TestBlockedSessionsDontHoldUpOthers(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	a, b := newSession(t, e), newSession(t, e)
	popped := make(chan string, 1)
	go func() { popped <- a.do("BLPOP q 0") }()
	until(t, "one is blocked", func() bool { return r.info("blocked_clients") == "1" })
	b.want("RPUSH q element", ":1\r\n")
	if got := <-popped; got != "*2\r\n$1\r\nq\r\n$7\r\nelement\r\n" {
		t.Errorf("%q", got)
	}

	// Who leaves while blocked takes nothing.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { popped <- a.doCtx(ctx, "BLPOP q 0", "SET after it") }()
	until(t, "one is blocked", func() bool { return r.info("blocked_clients") == "1" })
	cancel()
	if got := <-popped; got != "" {
		t.Errorf("%q", got)
	}
	until(t, "none is blocked", func() bool { return r.info("blocked_clients") == "0" })
	b.want("RPUSH q element", ":1\r\n")
	b.want("LLEN q", ":1\r\n")
	b.want("EXISTS after", ":0\r\n")
}

// The server's history gets another name when its first replica comes; the connections made before go on telling offsets.
func TestPositionAfterFirstReplica(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	s := newSession(t, e)
	s.want("SET k v", "+OK\r\n")
	replica := startReal(t, "--replicaof", "127.0.0.1 "+r.port)
	until(t, "replica is online", func() bool { return replica.info("master_link_status") == "up" })
	until(t, "the history is known", func() bool { id, _ := e.Position(); return id == r.info("master_replid") })
	for range 10 {
		s.want("SET k v", "+OK\r\n")
		if _, offset := e.Position(); fmt.Sprint(offset) != r.info("master_repl_offset") {
			t.Errorf("at %d, the server is at %s", offset, r.info("master_repl_offset"))
		}
	}
}

// Connections that were made while the server was a replica tell offsets as soon as it is a primary.
func TestPositionAfterPromotion(t *testing.T) {
	primary := startReal(t)
	r := startReal(t, "--replicaof", "127.0.0.1 "+primary.port)
	until(t, "replica is online", func() bool { return r.info("master_link_status") == "up" })
	e := open(t, redis.Options{URL: "redis://" + r.addr, ProbeEvery: 100 * time.Millisecond})
	s := newSession(t, e)
	s.want("GET k", "$-1\r\n")
	r.do("REPLICAOF", "NO", "ONE")
	until(t, "the history is known", func() bool { id, _ := e.Position(); return id == r.info("master_replid") })
	for range 100 { // before the next question for the offset
		s.want("SET k v", "+OK\r\n")
		_, offset := e.Position()
		if now := r.info("master_repl_offset"); fmt.Sprint(offset) != now {
			t.Fatalf("at %d, the server is at %s", offset, now)
		}
	}
}

// A session may leave while the server doesn't answer; the others' replies stay theirs.
func TestLeaveWhileServerIsSilent(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr, Conns: 1})
	a, b := newSession(t, e), newSession(t, e)
	a.want("SET k v", "+OK\r\n")
	r.do("CLIENT", "PAUSE", "100000", "WRITE")
	ctx, cancel := context.WithCancel(t.Context())
	left, stayed := make(chan string, 1), make(chan string, 1)
	go func() { left <- a.doCtx(ctx, "INCR n", "GET k") }()
	until(t, "it is paused", func() bool { return strings.Contains(r.do("INFO", "clients"), "blocked_clients:1") })
	go func() { stayed <- b.do("SET k w", "GET k") }()
	cancel()
	if got := <-left; got != "" {
		t.Errorf("%q", got)
	}
	r.do("CLIENT", "UNPAUSE")
	if got := <-stayed; got != "+OK\r\n$1\r\nw\r\n" {
		t.Errorf("%q", got)
	}
	a.want("GET n", "$1\r\n1\r\n")
}

func TestMessages(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	for _, proto := range []string{"2", "3"} {
		s := newSession(t, e)
		s.do("HELLO " + proto)
		mark := map[string]string{"2": "*", "3": ">"}[proto]
		s.want("SUBSCRIBE news", mark+"3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
		s.want("PSUBSCRIBE n*", mark+"3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:2\r\n")
		want := mark + "3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n" + mark + "4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
		s.do("PUBLISH news hi")
		until(t, "message arrives", func() bool { return s.pushed() == want })
		s.want("PUNSUBSCRIBE", mark+"3\r\n$12\r\npunsubscribe\r\n$2\r\nn*\r\n:1\r\n")
		s.do("UNSUBSCRIBE")
		s.want("PUBLISH news hi", ":0\r\n")
		s.want("PING", "+PONG\r\n")
	}
}

func TestTrackingAndMonitor(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	s := newSession(t, e)
	s.do("HELLO 3")
	s.want("CLIENT TRACKING ON", "+OK\r\n")
	s.do("GET k")
	r.do("SET", "k", "v")
	until(t, "invalidation arrives", func() bool { return s.pushed() == ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n" })
	m := newSession(t, e)
	m.want("MONITOR", "+OK\r\n")
	r.do("SET", "seen", "yes")
	until(t, "the monitor shows it", func() bool { return strings.Contains(m.pushed(), `"SET" "seen" "yes"`) })
	m.want("RESET", "+RESET\r\n")
	m.want("GET k", "$1\r\nv\r\n")
	s.want("CLIENT REPLY OFF", "-ERR client|reply isn't available through this node\r\n")
}

// A script that doesn't end can be killed, also from a session that shares its connection.
func TestScriptKill(t *testing.T) {
	r := startReal(t, "--busy-reply-threshold", "10")
	e := open(t, redis.Options{URL: "redis://" + r.addr, Conns: 1})
	a, b := newSession(t, e), newSession(t, e)
	a.want("GET k", "$-1\r\n")
	ended := make(chan string, 1)
	go func() {
		ended <- string(a.c.Do(context.Background(), nil, []cmd{request("EVAL", "while true do end", "0")}))
	}()
	until(t, "script is killed", func() bool { return b.do("SCRIPT KILL") == "+OK\r\n" })
	if got := <-ended; !strings.HasPrefix(got, "-ERR Error running script") && !strings.Contains(got, "killed by user") {
		t.Errorf("%q", got)
	}
}

func TestLargeValues(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr, LargeCommand: 1 << 16})
	s := newSession(t, e)
	big := strings.Repeat("x", 5<<20)
	got := string(s.c.Do(t.Context(), nil, []cmd{request("SET", "big", big), request("GET", "big"), request("STRLEN", "big")}))
	if want := fmt.Sprintf("+OK\r\n$%d\r\n%s\r\n:%d\r\n", len(big), big, len(big)); got != want {
		t.Errorf("%d bytes, not %d", len(got), len(want))
	}
}

func TestCloseTwiceAndAfter(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr, Region: "mad"})
	s := newSession(t, e)
	s.do("MULTI", "SET k v")
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	s.want("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n")
	s.want("SET k v", "-MASTERDOWN primary region mad is unreachable; the command was not executed\r\n")
	for range 2 {
		if err := s.c.Close(); err != nil {
			t.Error(err)
		}
	}
}
