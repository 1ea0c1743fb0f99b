package redis_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/redis"
)

// fake is a server that the test plays.
type fake struct {
	t     *testing.T
	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
	// answer gets a command; ok false: the connection is closed without an answer.
	answer func(line string) (reply string, ok bool)
}

func startFake(t *testing.T, answer func(line string) (string, bool)) *fake {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, ln: ln, answer: answer}
	f.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			f.wg.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.cut()
		f.wg.Wait()
	})
	return f
}

// cut closes all connections.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
	f.conns = nil
}

const fakeInfo = "role:master\r\nmaster_replid:0123456789012345678901234567890123456789\r\nmaster_repl_offset:7\r\n"

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	r := frame.NewReader(conn)
	var c frame.Command
	for r.ReadCommand(&c) == nil {
		var words []string
		for _, a := range c.Args {
			words = append(words, string(a))
		}
		line := strings.Join(words, " ")
		reply, ok := f.answer(line)
		switch {
		case !ok:
			return
		case reply != "":
		case line == "INFO replication":
			reply = fmt.Sprintf("$%d\r\n%s\r\n", len(fakeInfo), fakeInfo)
		case line == "ROLE":
			reply = "*3\r\n$6\r\nmaster\r\n:7\r\n*0\r\n"
		default:
			reply = "+OK\r\n"
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

const (
	unknown = "-UNKNOWNOUTCOME link to primary region mad was lost after the command was sent\r\n"
	down    = "-MASTERDOWN primary region mad is unreachable; the command was not executed\r\n"
)

// Writes are sent once, reads twice at most.
func TestLostConnection(t *testing.T) {
	var writes, reads atomic.Int32
	f := startFake(t, func(line string) (string, bool) {
		switch {
		case strings.HasPrefix(line, "INCR"):
			writes.Add(1)
			return "", false
		case line == "GET once":
			return "$1\r\nv\r\n", reads.Add(1) > 1
		case line == "GET never":
			return "", false
		}
		return "", true
	})
	e := open(t, redis.Options{URL: "redis://" + f.ln.Addr().String(), Region: "mad"})
	s := newSession(t, e)
	s.want("SET k v", "+OK\r\n")
	s.want("INCR n", unknown)
	if n := writes.Load(); n != 1 {
		t.Errorf("sent %d times", n)
	}
	s.want("GET once", "$1\r\nv\r\n")
	s.want("GET never", down)
	s.want("SET k v", "+OK\r\n")
	if got := s.do("MULTI", "GET once", "INCR n", "EXEC"); got != strings.Repeat(unknown, 4) {
		t.Errorf("%q", got)
	}
	if n := writes.Load(); n != 2 {
		t.Errorf("sent %d times", n)
	}

	// What was found lost before anything was sent is sent on another connection.
	for range 20 {
		f.cut()
		until(t, "it goes on", func() bool { return s.do("SET k v") == "+OK\r\n" })
	}
}

// A reply that came without the offset behind it isn't known to cover anything.
func TestLostBetweenReplyAndOffset(t *testing.T) {
	f := startFake(t, func(line string) (string, bool) { return "", line != "ROLE" })
	e := open(t, redis.Options{URL: "redis://" + f.ln.Addr().String(), Region: "mad"})
	newSession(t, e).want("SET k v", unknown)
}

func TestLostTransaction(t *testing.T) {
	var dead atomic.Bool
	f := startFake(t, func(line string) (string, bool) {
		switch {
		case line == "EXEC" && dead.Load():
			return "", false
		case line == "GET in":
			return "+QUEUED\r\n", true
		}
		return "", true
	})
	e := open(t, redis.Options{URL: "redis://" + f.ln.Addr().String(), Region: "mad"})
	s := newSession(t, e)
	s.want("MULTI", "+OK\r\n")
	s.want("GET in", "+QUEUED\r\n")
	f.cut()
	until(t, "it is lost", func() bool { return s.do("GET in") == down })
	s.want("GET in", down)
	s.want("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n")
	until(t, "others go on", func() bool { return s.do("SET k v") == "+OK\r\n" })

	s.want("MULTI", "+OK\r\n")
	dead.Store(true)
	s.want("EXEC", unknown)
	dead.Store(false)

	s.want("WATCH k", "+OK\r\n")
	f.cut()
	until(t, "it is lost", func() bool { return s.do("WATCH k") == down })
	until(t, "others go on", func() bool { return s.do("SET k v") == "+OK\r\n" })
	s.want("MULTI", "+OK\r\n")
	s.want("SET k w", down)
	s.want("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n")
	until(t, "others go on", func() bool { return s.do("SET k v") == "+OK\r\n" })
}

// Who subscribed is told when messages can't come any more.
func TestLostSubscription(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr})
	s := newSession(t, e)
	lost := make(chan struct{})
	s.c.OnLost(sync.OnceFunc(func() { close(lost) }))
	s.do("SUBSCRIBE news")
	r.do("CLIENT", "KILL", "TYPE", "pubsub")
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("nobody said so")
	}
}

// The server is restarted: errors meanwhile, and nothing to be done afterwards.
func TestServerComesBack(t *testing.T) {
	r := startReal(t, "--appendonly", "yes", "--appendfsync", "always")
	e := open(t, redis.Options{URL: "redis://" + r.addr, Region: "mad"})
	s := newSession(t, e)
	s.want("SET k v", "+OK\r\n")
	r.kill()
	until(t, "it is noticed", func() bool { return !e.State().Usable })
	// A shared connection that sessions read themselves isn't looked at while it is idle: its end is seen a moment later.
	until(t, "writes aren't sent", func() bool { return s.do("SET k w") == down })
	s.want("GET k", down)
	until(t, "it is said why", func() bool { return strings.Contains(e.State().Reason, "connection refused") })
	if !r.start(lookServer(t), "--appendonly", "yes", "--appendfsync", "always") {
		t.Fatal("it doesn't start again")
	}
	until(t, "it works again", func() bool { return s.do("GET k") == "$1\r\nv\r\n" })
	until(t, "it is noticed", func() bool { return e.State().Usable })
}

func TestSilentServerIsGivenUp(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	f := startFake(t, func(line string) (string, bool) {
		if strings.HasPrefix(line, "SET") {
			<-hang
		}
		return "", true
	})
	e := open(t, redis.Options{URL: "redis://" + f.ln.Addr().String(), Region: "mad", StallTimeout: 50 * time.Millisecond, ProbeEvery: 10 * time.Millisecond})
	newSession(t, e).want("SET k v", unknown)
}

func TestPrimaryBecomesReplica(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr, ProbeEvery: 10 * time.Millisecond})
	s := newSession(t, e)
	s.want("SET k v", "+OK\r\n")
	if err := e.Check(t.Context()); err != nil {
		t.Error(err)
	}
	r.do("REPLICAOF", "127.0.0.1", "1")
	until(t, "it is noticed", func() bool { return !e.State().Usable })
	want := "the server at " + r.addr + " is a replica of 127.0.0.1:1 now; promote it (REPLICAOF NO ONE), or attach its primary"
	if got := e.State().Reason; got != want {
		t.Errorf("%q", got)
	}
	if got := s.do("SET k w"); !strings.HasPrefix(got, "-READONLY") {
		t.Errorf("%q", got)
	}
	s.want("GET k", "$1\r\nv\r\n")
	if err := e.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "is a replica of 127.0.0.1:1") {
		t.Error(err)
	}
	old, _ := e.Position()
	r.do("REPLICAOF", "NO", "ONE")
	until(t, "it is noticed", func() bool { return e.State().Usable })
	if now, _ := e.Position(); now == old {
		t.Error("the new history isn't known")
	}
	s.want("SET k w", "+OK\r\n")
}

// While others write, connections are cut at any moment: each INCR is executed as often as its answers allow.
func TestAtMostOnce(t *testing.T) {
	r := startReal(t)
	e := open(t, redis.Options{URL: "redis://" + r.addr, Region: "mad"})
	var acked, unsure atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		s := newSession(t, e)
		wg.Go(func() {
			for ctx.Err() == nil {
				for _, reply := range strings.SplitAfter(s.do("INCR n", "GET n", "INCR n"), "\r\n") {
					switch {
					case strings.HasPrefix(reply, ":"):
						acked.Add(1)
					case reply == unknown:
						unsure.Add(1)
					}
				}
			}
		})
	}
	for range 50 {
		r.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		before := acked.Load()
		until(t, "writes go on", func() bool { return acked.Load() > before })
	}
	cancel()
	wg.Wait()
	var n int64
	fmt.Sscanf(r.do("GET", "n"), "$%d\r\n%d", new(int), &n)
	if n < acked.Load() || n > acked.Load()+unsure.Load() {
		t.Errorf("%d executed, %d acknowledged, %d unknown", n, acked.Load(), unsure.Load())
	}
	t.Logf("%d executed, %d acknowledged, %d unknown", n, acked.Load(), unsure.Load())
}

// A server that loads its data isn't usable: nobody is answered LOADING.
func TestLoading(t *testing.T) {
	r := startReal(t)
	for i := range 2000 {
		r.raw("SET", "key:"+strconv.Itoa(i), strings.Repeat("v", 100))
	}
	r.raw("SAVE")
	e := open(t, redis.Options{URL: "unix://" + r.sock, Region: "mad"})
	s := newSession(t, e)
	s.want("GET key:7", "$100\r\n"+strings.Repeat("v", 100)+"\r\n")
	r.kill()
	if !r.start(lookServer(t), "--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024") {
		t.Fatal("it doesn't start again")
	}
	var loading bool
	until(t, "the data are loaded", func() bool {
		got := s.do("GET key:7")
		if strings.Contains(got, "LOADING") {
			t.Fatalf("%q", got)
		}
		loading = loading || got == down && !e.State().Primary && strings.Contains(e.State().Reason, "is loading its data")
		return strings.HasPrefix(got, "$100")
	})
	if !loading {
		t.Error("it wasn't said that the server loads")
	}
	if st := e.State(); !st.Usable {
		t.Error(st)
	}
}
