package embedded

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// fill sets keys until the engine has evicted some.
func fill(t *testing.T, e *Engine, prefix, options string, n int) {
	t.Helper()
	c := newConn(e)
	for i := range n {
		run(t, c, fmt.Sprintf("set %s:%d 0123456789 %s", prefix, i, options))
	}
}

func count(t *testing.T, e *Engine, prefix string, n int) (there int) {
	t.Helper()
	c := newConn(e)
	for i := range n {
		if run(t, c, fmt.Sprintf("object encoding %s:%d", prefix, i)) != "$-1\r\n" {
			there++
		}
	}
	return there
}

func TestVolatilePoliciesSpareOtherKeys(t *testing.T) {
	for _, p := range []Policy{VolatileRandom, VolatileLRU, VolatileLFU, VolatileTTL} {
		t.Run(string(p), func(t *testing.T) {
			e := newEngine(t, Options{MaxMemory: 128 << 10, Eviction: p})
			c := newConn(e)
			fill(t, e, "keep", "", 100)
			fill(t, e, "vol", "ex 1000", 3000)
			if n := count(t, e, "keep", 100); n != 100 {
				t.Errorf("%d of 100 keys without a TTL are left", n)
			}
			if in := e.Info(); in.Evicted == 0 || in.Memory > 129<<10 {
				t.Errorf("%+v", in)
			}
			// Without any key with a TTL, writes are refused.
			fill(t, e, "full", "", 3000)
			if n := count(t, e, "vol", 3000); n != 0 {
				t.Errorf("%d keys with a TTL are left", n)
			}
			want(t, c, "set another v", "-"+errOOM+"\r\n")
			want(t, c, "get keep:1", "$10\r\n0123456789\r\n")
			want(t, c, "del keep:1", ":1\r\n")
			if err := audit(e); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAllKeysPoliciesEvictTheLeastUsed(t *testing.T) {
	for _, p := range []Policy{AllKeysLRU, AllKeysLFU} {
		t.Run(string(p), func(t *testing.T) {
			clk := newClock()
			rec := &recorder{}
			e := newEngine(t, Options{MaxMemory: 256 << 10, Eviction: p, Now: clk.now, Sink: rec})
			c := newConn(e)
			fill(t, e, "hot", "", 100)
			for i := range 4000 {
				if i%100 == 0 {
					clk.advance(2 * time.Second)
					for j := range 100 {
						want(t, c, fmt.Sprintf("get hot:%d", j), "$10\r\n0123456789\r\n")
					}
				}
				want(t, c, fmt.Sprintf("set cold:%d v", i), "+OK\r\n")
			}
			in := e.Info()
			if in.Evicted < 1000 || in.Memory > 257<<10 {
				t.Errorf("%+v", in)
			}
			if n := bytes.Count(rec.Bytes(), []byte("DEL\r\n")); n != int(in.Evicted) {
				t.Errorf("%d keys evicted, %d DELs propagated", in.Evicted, n)
			}
		})
	}
}

func TestSoonestTTLGoesFirst(t *testing.T) {
	e := newEngine(t, Options{MaxMemory: 128 << 10, Eviction: VolatileTTL})
	fill(t, e, "late", "ex 100000", 100)
	fill(t, e, "soon", "ex 100", 3000)
	if n := count(t, e, "late", 100); n != 100 {
		t.Errorf("%d of 100 keys that end late are left", n)
	}
}

func TestLimitsChangeAtRunTime(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	fill(t, e, "k", "", 3000)
	e.SetMaxMemory(64 << 10)
	want(t, c, "set another v", "-"+errOOM+"\r\n")
	if err := e.SetEviction("allkeys-nosuch"); err == nil || !strings.Contains(err.Error(), "allkeys-lru") {
		t.Errorf("%v", err)
	}
	if err := e.SetEviction(AllKeysRandom); err != nil {
		t.Fatal(err)
	}
	for e.housekeep() {
	}
	if in := e.Info(); in.Memory > 64<<10 || in.Keys == 0 {
		t.Errorf("%+v", in)
	}
	e.SetMaxMemory(0)
	fill(t, e, "k", "", 3000)
	if in := e.Info(); in.Keys != 3000 {
		t.Errorf("%+v", in)
	}
}

// One command can't take far more than there is, however small the command is.
func TestOneCommandIsBounded(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for _, p := range []Policy{NoEviction, AllKeysRandom} {
		e := newEngine(t, Options{MaxMemory: 4 << 20, Eviction: p})
		c := newConn(e)
		want(t, c, "set big "+big, "+OK\r\n")
		for _, line := range []string{
			"setrange k 100000000 x", "setbit k 800000000 1", "bitfield k set u8 800000000 1", "set k " + strings.Repeat(big, 5),
			"eval \"return redis.call('setrange', KEYS[1], 100000000, 'x')\" 1 k",
		} {
			got := run(t, c, line)
			if !strings.HasPrefix(got, "-OOM ") {
				t.Errorf("%.60s: got %.80q", line, got)
			}
		}
		// Neither can a transaction or a script.
		run(t, c, "multi")
		for i := range 12 {
			want(t, c, fmt.Sprintf("copy big copy%d", i), "+QUEUED\r\n")
		}
		if got := run(t, c, "exec"); p == NoEviction && !strings.Contains(got, "OOM") {
			t.Errorf("got %q", got)
		}
		run(t, c, "eval \"for i=1,100 do redis.call('append', KEYS[1], string.rep('x', 1000000)) end\" 1 grow")
		if in := e.Info(); in.Memory > 8<<20 {
			t.Errorf("%s: %+v", p, in)
		}
		if err := audit(e); err != nil {
			t.Error(err)
		}
	}
}

func TestFrequencyOfAccess(t *testing.T) {
	clk := newClock()
	e := newEngine(t, Options{Eviction: AllKeysLFU, Now: clk.now})
	c := newConn(e)
	want(t, c, "set k v", "+OK\r\n")
	want(t, c, "object freq k", ":5\r\n")
	for range 1000 {
		want(t, c, "get k", "$1\r\nv\r\n")
	}
	if got := run(t, c, "object freq k"); got < ":10" || len(got) != len(":10\r\n") {
		t.Errorf("after 1,000 reads: %q", got)
	}
	clk.advance(5 * time.Minute)
	clk.advance(10 * time.Minute)
	if got := run(t, c, "object freq k"); len(got) != len(":4\r\n") {
		t.Errorf("a quarter of an hour after: %q", got)
	}
	want(t, c, "object idletime k", "-ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when "+
		"switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n")
}
