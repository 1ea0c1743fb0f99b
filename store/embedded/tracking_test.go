package embedded

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// pair is two sessions, a and b, on the real server and on ours. What arrives at a is compared after each command.
type pair struct {
	t      *testing.T
	real   map[byte]*realConn
	ours   map[byte]*Conn
	ids    map[byte][2]string
	mu     sync.Mutex
	pushed []byte // to our a
}

func newPair(t *testing.T, proto string) *pair {
	p := &pair{t: t, real: map[byte]*realConn{}, ours: map[byte]*Conn{}, ids: map[byte][2]string{}}
	e := newEngine(t, Options{})
	for _, name := range []byte("ab") {
		p.real[name] = dialReal(t)
		p.ours[name] = e.NewConn(ConnOptions{Addr: "addr", Push: func(f []byte) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if name == 'a' {
				p.pushed = append(p.pushed, f...)
			}
		}})
		p.real[name].do(t, words(t, "hello "+proto))
		run(t, p.ours[name], "hello "+proto)
		real := string(p.real[name].do(t, words(t, "client id")))
		ours := run(t, p.ours[name], "client id")
		p.ids[name] = [2]string{real[1 : len(real)-2], ours[1 : len(ours)-2]}
	}
	p.real['b'].do(t, words(t, "flushall"))
	return p
}

// frames cuts a stream of replies.
func frames(t *testing.T, b []byte) (out []string) {
	t.Helper()
	r := frame.NewReader(bytes.NewReader(b))
	for {
		var f frame.Reply
		if r.ReadReply(&f) != nil {
			return out
		}
		out = append(out, string(f.Raw))
	}
}

var monitored = regexp.MustCompile(`^\+\d+\.\d+ \[(\d+) [^\]]*\]`)

// do runs "a: command" or "b: command"; @a and @b are the ids of sessions.
func (p *pair) do(line string) {
	p.t.Helper()
	who, text := line[0], line[3:]
	with := func(side int) [][]byte {
		s := text
		for _, name := range []byte("ab") {
			s = strings.ReplaceAll(s, "@"+string(name), p.ids[name][side])
		}
		return words(p.t, s)
	}
	real, ours := p.real[who].do(p.t, with(0)), p.ours[who].Do(context.Background(), nil, []command.Request{request(with(1)...)})
	var want, got []string
	if who == 'a' {
		want, got = append(want, string(real)), append(got, frames(p.t, ours)...)
	} else if !bytes.Equal(real, ours) {
		p.t.Errorf("%s\n got %q\nwant %q", line, ours, real)
	}
	if _, err := p.real['a'].Write(frame.AppendCommandString(nil, "PING", "the end")); err != nil {
		p.t.Fatal(err)
	}
	for {
		f := string(p.real['a'].reply(p.t))
		if strings.Contains(f, "the end\r\n") && !strings.Contains(f, "PING") {
			break
		}
		want = append(want, f)
	}
	run(p.t, p.ours['a'], "ping")
	p.mu.Lock()
	got = append(got, frames(p.t, p.pushed)...)
	p.pushed = nil
	p.mu.Unlock()
	for _, list := range [][]string{want, got} {
		for i, f := range list {
			list[i] = monitored.ReplaceAllString(f, "+T [$1 C]")
		}
		if len(list) > 0 && list[len(list)-1][0] == '>' {
			slices.Sort(list[min(len(list), int('b'-who)):]) // messages about several keys have no order
		}
	}
	want = slices.DeleteFunc(want, func(f string) bool { return strings.Contains(f, `"PING" "the end"`) })
	if !slices.Equal(got, want) {
		p.t.Errorf("%s\n got %q\nwant %q", line, got, want)
	}
}

func TestTrackingInvalidatesAsRedis(t *testing.T) {
	for name, lines := range map[string][]string{
		"what was read": {
			"a: client tracking on", "a: client trackinginfo", "a: client getredir", "a: get k", "b: set k 1", "b: set k 2", "a: get k", "a: set k 3", "a: get k",
			"b: expire k 100", "a: mget k j", "b: mset k 1 j 2", "a: hgetall h", "b: hset h a 1", "b: hset h b 1", "a: get k", "b: del k", "a: get j", "b: flushall",
			"a: get k", "b: eval \"return redis.call('set','k','v')\" 0", "a: eval \"return redis.call('get','k')\" 0", "b: append k x", "a: get k", "b: select 3", "b: set k other",
			"a: exists k", "b: del k", "a: get k", "b: rename j k", "a: scard s", "b: swapdb 3 4", "a: client tracking off",
			"a: get k", "b: set k 1", "a: client trackinginfo",
		},
		"without one's own": {"a: client tracking on noloop", "a: get k", "a: set k 1", "a: get k", "b: set k 2", "a: client trackinginfo"},
		"when asked":        {"a: client tracking on optin", "a: get k", "b: set k 1", "a: client caching yes", "a: client trackinginfo", "a: get k", "a: get j", "b: mset k 2 j 3", "a: client caching no", "a: client tracking on optout", "a: client caching maybe"},
		"unless asked":      {"a: client tracking on optout", "a: get k", "b: set k 1", "a: client caching no", "a: client trackinginfo", "a: get k", "b: set k 2", "a: client caching yes"},
		"by prefix": {
			"a: client tracking on bcast prefix user: prefix item:", "a: client trackinginfo", "b: set user:1 a", "b: set other a", "b: mset user:1 b item:2 c", "a: set user:3 c",
			"b: set user:1 b", "a: client tracking on bcast prefix us", "a: client tracking on bcast prefix new:", "b: set new:1 a", "a: client tracking on", "b: flushall",
			"b: multi", "b: set user:1 a", "b: set user:2 a", "b: exec", "a: client tracking off", "b: set user:1 a",
		},
		"all keys": {"a: client tracking on bcast noloop", "b: set a 1", "a: set a 2", "a: client trackinginfo", "b: del a"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, "3")
			for _, l := range lines {
				p.do(l)
			}
		})
	}
}

// With RESP2, invalidations go to another session, which has subscribed to them.
func TestTrackingRedirects(t *testing.T) {
	p := newPair(t, "2")
	for _, l := range []string{
		"a: subscribe __redis__:invalidate", "b: client tracking on redirect @a", "b: get k", "b: set k 1", "b: get k", "b: get k",
		"b: flushall", "b: client tracking on redirect 99999", "b: client tracking on redirect x", "b: client tracking off", "b: set k 1",
	} {
		p.do(l)
	}
}

func TestMonitorShowsAsRedis(t *testing.T) {
	p := newPair(t, "3")
	for _, l := range []string{
		"a: monitor", "b: set k v", `b: set "bin\x00\r\n\t\"\\\xff" v`, "b: get k", "b: nosuch", "b: get", "b: multi", "b: set a 1", "b: incr a", "b: exec",
		"b: eval \"redis.call('set','x',1) return redis.call('get','x')\" 0", "b: config get maxmemory", "b: select 2", "b: set k v", "b: echo x",
		"b: lpush k a", "b: blpop nosuch 0.01", "b: auth x", "b: watch k", "b: unwatch", "b: ping", "b: client setname x",
	} {
		p.do(l)
	}
}

func TestSlowlogKeepsAsRedis(t *testing.T) {
	real := dialReal(t)
	c := newEngine(t, Options{}).NewConn(ConnOptions{Addr: server.socket + ":0"})
	strip := regexp.MustCompile(`\*6\r\n:\d+\r\n:\d+\r\n:\d+\r\n`)
	for _, l := range []string{
		"config set slowlog-log-slower-than 0 slowlog-max-len 30", "slowlog reset", "set k v", "get k", "get", "nosuch", "multi", "set a 1", "lpush a b", "exec",
		"eval \"return redis.call('get','k')\" 0", "rpush l 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35",
		"set long " + strings.Repeat("x", 200), "blpop nosuch 0.01", "slowlog get 3", "slowlog len", "slowlog get -1", "config set slowlog-max-len 5", "set k w", "slowlog get 100",
	} {
		want, got := string(real.do(t, words(t, l))), run(t, c, l)
		if want, got = strip.ReplaceAllString(want, ""), strip.ReplaceAllString(got, ""); want != got {
			t.Errorf("%.80s\n got %q\nwant %q", l, got, want)
		}
	}
	real.do(t, words(t, "config set slowlog-log-slower-than 10000 slowlog-max-len 128"))
}

func TestLatencyHistogram(t *testing.T) {
	c := newConn(newEngine(t, Options{}))
	for range 10 {
		run(t, c, "get k")
	}
	got := run(t, c, "latency histogram get nosuch")
	if !strings.HasPrefix(got, "*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:10\r\n$14\r\nhistogram_usec\r\n") || !strings.HasSuffix(got, ":10\r\n") {
		t.Errorf("%q", got)
	}
	if got := run(t, c, "info latencystats"); !strings.Contains(got, "latency_percentiles_usec_get:p50=") {
		t.Errorf("%q", got)
	}
	for v := int64(1); v < histogramMax; v += v/50 + 1 {
		if top := histogramTop(histogramIndex(v)); top < v || top > v+v/64+1 {
			t.Fatalf("%d falls into the bucket up to %d", v, top)
		}
	}
}

func TestKillEndsASession(t *testing.T) {
	e := newEngine(t, Options{})
	told := make(chan bool, 2)
	victim := e.NewConn(ConnOptions{Addr: "10.0.0.1:5", Kill: func() { told <- true }})
	admin := newConn(e)
	done := make(chan []byte)
	go func() {
		done <- victim.Do(context.Background(), nil, []command.Request{request(words(t, "blpop q 0")...), request(words(t, "set k v")...)})
	}()
	for e.stats.blocked.Load() == 0 {
	}
	want(t, admin, "client kill addr 10.0.0.1:5", ":1\r\n")
	if out := <-done; len(out) != 0 {
		t.Errorf("answered %q after it was killed", out)
	}
	<-told
	want(t, admin, "exists k", ":0\r\n")
	want(t, admin, "client kill id "+strconv.FormatInt(admin.id, 10)+" skipme no", ":1\r\n")
	if !admin.Quit() {
		t.Error("goes on after it killed itself")
	}
	victim.Close()
}

func TestPauseHoldsCommandsBack(t *testing.T) {
	e := newEngine(t, Options{})
	admin, c := newConn(e), newConn(e)
	want(t, admin, "client pause 100000 write", "+OK\r\n")
	want(t, c, "get k", "$-1\r\n")
	done := make(chan string)
	go func() { done <- run(t, c, "set k v") }()
	want(t, admin, "exists k", ":0\r\n")
	select {
	case got := <-done:
		t.Fatalf("answered %q during the pause", got)
	default:
	}
	want(t, admin, "client unpause", "+OK\r\n")
	if got := <-done; got != "+OK\r\n" {
		t.Errorf("%q", got)
	}
	want(t, admin, "client pause 1 all", "+OK\r\n")
	want(t, c, "get k", "$1\r\nv\r\n") // a millisecond later
}

func TestCachingInOtherModes(t *testing.T) {
	vectors(t, "client caching no", "client tracking on bcast prefix a prefix b", "client caching no", "client caching yes", "client caching x",
		"client tracking off", "client tracking on", "client caching no", "client caching yes", "client caching x", "client tracking off", "client caching yes")
}
