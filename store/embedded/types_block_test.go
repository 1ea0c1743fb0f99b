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
		{"xread", "xread block 0 streams a b 0 $", []string{"xadd b 1-1 f v"}, []string{"xadd b 2-1 f v", "xadd b 3-1 f v"}},
		{"xread of a new stream", "xread count 1 block 0 streams a $", nil, []string{"set a 1", "del a", "xadd a 2-1 f v"}},
		{"xread of an empty stream", "xread block 0 streams a $", nil, []string{"xgroup create a g $ mkstream", "xadd a 2-1 f v"}},
		{"xread in a transaction", "xread block 0 streams a $", []string{"xadd a 5-1 f v"}, []string{"multi", "xadd a 6-1 f v", "xadd a 7-1 f v", "xdel a 6-1", "exec"}},
		{"xread of what is gone", "xread block 0 streams a $", []string{"xadd a 5-1 f v"}, []string{"multi", "xadd a 6-1 f v", "xdel a 6-1", "exec"}},
		{"xread by rename", "xread block 0 streams a 3", []string{"xadd other 4-1 f v"}, []string{"rename other a"}},
		{"xread after a flush", "xread block 0 streams a $", []string{"xadd a 5-1 f v"}, []string{"flushall", "xadd a 4-1 f v", "xadd a 6-1 f v"}},
		{"xreadgroup", "xreadgroup group g c count 5 block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"xadd a 1-1 f v"}},
		{"xreadgroup in a transaction", "xreadgroup group g c block 0 streams a b > >", []string{"xgroup create a g $ mkstream", "xgroup create b g $ mkstream"}, []string{"multi", "xadd b 1-1 f v", "xadd b 2-1 f v", "exec"}},
		{"xreadgroup noack", "xreadgroup group g c block 0 noack streams a >", []string{"xgroup create a g $ mkstream"}, []string{"xadd a 1-1 f v"}},
		{"xreadgroup, group destroyed", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"xgroup destroy a g"}},
		{"xreadgroup, key deleted", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"del a"}},
		{"xreadgroup, key overwritten", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"set a 1"}},
		{"xreadgroup, key renamed", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"rename a b"}},
		{"xreadgroup, flushed", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"flushdb"}},
		{"xreadgroup, swapped", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"swapdb 0 1"}},
		{"xreadgroup, replaced", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"multi", "del a", "xadd a 1-1 f v", "exec"}},
		{"xreadgroup, expired", "xreadgroup group g c block 0 streams a >", []string{"xgroup create a g $ mkstream"}, []string{"pexpireat a 1"}},
		{"by swapdb", "blpop a 0", []string{"select 1", "rpush a 1", "select 0"}, []string{"swapdb 0 1", "llen a"}},
		{"by swapdb to another kind", "blpop a 0", []string{"select 1", "set a 1", "select 0"}, []string{"swapdb 0 1", "swapdb 1 0", "rpush a 2"}},
		{"after flushall", "blpop a 0", nil, []string{"flushall", "rpush a 1"}},
		{"flushed in the transaction", "blpop a 0", nil, []string{"multi", "rpush a 1", "flushall", "rpush a 2 3", "exec"}},
		{"gone in the transaction", "blpop a 0", nil, []string{"multi", "rpush a 1", "del a", "exec", "multi", "rpush a 2", "expire a -1", "exec", "rpush a 3"}},
		{"by move", "blpop a 0", []string{"select 1", "rpush a 1"}, []string{"move a 0"}},
		{"by copy", "blpop a 0", []string{"rpush b 1"}, []string{"copy b a"}},
		{"another kind in the transaction", "blpop a 0", nil, []string{"multi", "rpush a 1", "del a", "set a x", "exec", "del a", "rpush a 2"}},
		{"renamed away in the transaction", "blpop a b 0", nil, []string{"multi", "rpush a 1", "rename a b", "exec"}},
		{"two keys in the transaction", "blpop a b 0", nil, []string{"multi", "rpush b 1", "rpush a 2", "exec"}},
		{"by restore", "blpop a 0", []string{"rpush b 1"}, []string{"multi", "rename b a", "exec"}},
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
				if g, w := timeless(mine), timeless(effects); g != w {
					t.Errorf("effects\n got %s\nwant %s", g, w)
				}
				if err := audit(e); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// timeless joins effects, without the times in XCLAIM.
func timeless(effects []string) string {
	return streamTimes.ReplaceAllString(strings.ToLower(strings.Join(effects, "; ")), "T")
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
