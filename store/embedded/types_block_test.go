package embedded

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Who is blocked gets the same reply as from redis-server when another session brings what it waits for, and replicas
// get the same effects.
func TestServedWhileBlocked(t *testing.T) {
	for _, tc := range []struct {
		name, wait string
		before     []string
		then       []string
	}{
		{"blpop", "blpop a b 0", nil, []string{"rpush b 1 2 3"}},
		{"brpop", "brpop a b 0", nil, []string{"rpush b 1 2 3"}},
		{"blpop takes the only one", "blpop a 0", nil, []string{"rpush a 1"}},
		{"blmove", "blmove a d LEFT RIGHT 0", nil, []string{"rpush a 1 2"}},
		{"blmove to itself", "blmove a a LEFT RIGHT 0", nil, []string{"rpush a 1 2"}},
		{"brpoplpush", "brpoplpush a d 0", nil, []string{"rpush a 1 2"}},
		{"blmove to another kind", "blmove a s LEFT RIGHT 0", []string{"set s v"}, []string{"rpush a 1 2"}},
		{"blmpop", "blmpop 0 2 a b RIGHT COUNT 2", nil, []string{"rpush b 1 2 3"}},
		{"bzpopmin", "bzpopmin a b 0", nil, []string{"zadd b 2.5 x 1 y"}},
		{"bzpopmax", "bzpopmax a b 0", nil, []string{"zadd b 2.5 x 1 y"}},
		{"bzmpop", "bzmpop 0 2 a b MAX COUNT 2", nil, []string{"zadd b 2.5 x 1 y 3 z"}},
		{"another kind doesn't wake", "blpop a 0", nil, []string{"zadd a 1 x", "del a", "rpush a 1"}},
		{"by rename", "blpop a 0", []string{"rpush other 1"}, []string{"rename other a"}},
		{"by a transaction", "blpop a 0", nil, []string{"multi", "rpush a 1 2", "lpop a", "exec"}},
		{"by a store", "bzpopmin a 0", []string{"sadd set x"}, []string{"zunionstore a 1 set"}},
		{"by sort", "blpop a 0", []string{"rpush l 2 1"}, []string{"sort l store a"}},
		{"by lmove", "blpop a 0", []string{"rpush l 2 1"}, []string{"lmove l a LEFT LEFT"}},
	} {
		for _, hello := range []string{"hello 2", "hello 3"} {
			t.Run(tc.name+"/"+hello, func(t *testing.T) {
				real := dialReal(t)
				real.do(t, words(t, "flushall"))
				replica := dialReal(t)
				replica.follow(t)
				waiting := dialReal(t)
				rec := &recorder{}
				e := newEngine(t, Options{Sink: rec})
				c := newConn(e)
				for _, line := range append([]string{"select 0"}, tc.before...) {
					real.do(t, words(t, line))
					run(t, c, line)
				}

				waiting.do(t, words(t, hello))
				if _, err := waiting.Write(frame.AppendCommand(nil, words(t, tc.wait)...)); err != nil {
					t.Fatal(err)
				}
				for !bytes.Contains(real.do(t, words(t, "info clients")), []byte("blocked_clients:1")) {
				}
				ours := blockedProto(t, e, hello, tc.wait)
				for _, line := range tc.then {
					want, got := real.do(t, words(t, line)), run(t, c, line)
					if string(want) != got {
						t.Errorf("%s: got %q, want %q", line, got, want)
					}
				}
				want := string(waiting.reply(t))
				if got := <-ours; got != want {
					t.Errorf("%s: got %q, want %q", tc.wait, got, want)
				}
				const end = "end-of-test"
				real.do(t, words(t, "publish "+end+" x"))
				run(t, c, "publish "+end+" x")
				effects := replica.effects(t, end)
				mine := effectsIn(t, frame.NewReader(bytes.NewReader(rec.Bytes())), end)
				if g, w := strings.ToLower(strings.Join(mine, "; ")), strings.ToLower(strings.Join(effects, "; ")); g != w {
					t.Errorf("effects\n got %s\nwant %s", g, w)
				}
				if err := audit(e); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// blockedProto is blocked with a HELLO before.
func blockedProto(t *testing.T, e *Engine, hello, line string) <-chan string {
	t.Helper()
	c := newConn(e)
	run(t, c, hello)
	before := e.stats.blocked.Load()
	out := make(chan string, 1)
	req := request(words(t, line)...)
	go func() { out <- string(c.Do(context.Background(), nil, []command.Request{req})) }()
	for e.stats.blocked.Load() == before {
		runtime.Gosched()
	}
	return out
}
