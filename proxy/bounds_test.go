package proxy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/resp/command"
)

func TestRequestLimits(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.topo.Settings = Settings{MaxRequest: 1000, MaxValue: 500}
	for _, node := range []string{"a", "b"} {
		_, addr := h.gateway(node, h.mesh(node), nil)
		c := connect(t, addr)
		c.send("SET k "+strings.Repeat("x", 5000), "SET k "+strings.Repeat("y", 600), "SET k v", "GET k")
		c.wants("-ERR max request size exceeded. Limit: 1000 bytes, Actual: 5029 bytes",
			"-ERR max value size exceeded. Limit: 500 bytes, Actual: 600 bytes", "OK", "v")
		c.want("MULTI", "OK")
		c.want("SET k "+strings.Repeat("x", 5000), "-ERR max request size exceeded. Limit: 1000 bytes, Actual: 5029 bytes")
		c.want("SET k w", "QUEUED")
		c.want("EXEC", "-"+abortText)
		c.want("GET k", "v")
	}
}

type counter struct{ n, others atomic.Int64 }

func (c *counter) Charge(n int) int64       { return c.n.Add(int64(n)) + c.others.Load() }
func (c *counter) Own() (string, int64)     { return "today", c.n.Load() }
func (c *counter) Others(_ string, n int64) { c.others.Store(n) }

func TestDailyLimit(t *testing.T) {
	h := newHouse(t, "a")
	src := newLiveSource(h.topo)
	src.change(func(t *Topology) { t.Settings.DailyCommands = 3 })
	var used counter
	_, addr := h.gateway("a", h.mesh("a"), func(o *Options) { o.Source, o.Usage = src, &used })
	c := connect(t, addr)
	c.send("PING", "SET k v", "GET k", "GET k", "GET k", "PING", "COMMAND COUNT")
	c.wants("PONG", "OK", "v", "v", "-ERR max daily request limit exceeded. Limit: 3, Usage: 4.", "PONG", fmt.Sprint(commandCount()))
	src.change(func(t *Topology) { t.Settings.DailyCommands = 0 })
	eventually(t, "no limit any more", func() bool { return c.do("GET k") == "v" })
}

// The primary's node adds up what all nodes have charged.
func TestDailyLimitOfAllNodes(t *testing.T) {
	h := newHouse(t, "a", "b", "c")
	h.topo.Settings.DailyCommands = 10
	var mu sync.Mutex
	told := map[string]int64{}
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	ls := NewLinkServer(LinkOptions{
		Lookup: func(string, string) (Store, bool) { return h.stores["a"], true },
		Charged: func(org, db, node, day string, n int64) (all int64) {
			mu.Lock()
			defer mu.Unlock()
			if org != "o" || db != "d" || day != "today" {
				return -1
			}
			told[node] = n
			for _, n := range told {
				all += n
			}
			return all
		}})
	wg.Go(func() { ls.Serve(ctx, ln) })
	defer wg.Wait()
	defer cancel()
	h.addr["a"] = ln.Addr().String()
	clients := map[string]*testClient{}
	for _, node := range []string{"b", "c"} {
		_, addr := h.gateway(node, h.mesh(node), func(o *Options) { o.Usage = &counter{} })
		clients[node] = connect(t, addr)
	}
	for range 6 {
		clients["b"].want("GET k", "nil")
	}
	for range 4 {
		clients["c"].want("GET k", "nil")
	}
	for node, c := range clients {
		eventually(t, node+" has heard of the others", func() bool {
			mu.Lock()
			known := told["b"]+told["c"] >= 10
			mu.Unlock()
			return known && strings.HasPrefix(c.do("GET k"), "-ERR max daily request limit exceeded. Limit: 10, Usage: ")
		})
	}
}

func commandCount() (n int) {
	for s := range command.All() {
		if s.Parent() == nil {
			n++
		}
	}
	return n
}

func TestThrottle(t *testing.T) {
	var r rate
	now := time.Now()
	for i := range 10 { // a tenth of a second's at once
		if d := r.take(now, 100); d != 0 {
			t.Fatalf("command %d waits %v", i, d)
		}
	}
	for i := range 10 {
		if d, want := r.take(now, 100), time.Duration(i+1)*10*time.Millisecond; d != want {
			t.Fatalf("command %d waits %v, want %v", i, d, want)
		}
	}
	if d := r.take(now.Add(time.Second), 100); d != 0 {
		t.Error("after a pause one waits", d)
	}
	if d := r.take(now, 1); d > 2*time.Second {
		t.Error(d)
	}

	h := newHouse(t, "a", "b")
	h.topo.Settings.CommandsPerSecond = 200
	_, addr := h.gateway("b", h.mesh("b"), nil)
	c := connect(t, addr)
	began := time.Now()
	var lines, want []string
	for i := range 60 {
		lines = append(lines, "INCR n")
		want = append(want, fmt.Sprint(i+1))
	}
	c.send(lines...)
	c.wants(want...)
	if d := time.Since(began); d < 150*time.Millisecond {
		t.Errorf("60 commands at 200/s took %v", d)
	}
}

func TestConcurrency(t *testing.T) {
	var p slots
	p.free.L = &p.mu
	ctx, cancel := context.WithCancel(t.Context())
	if !p.take(ctx, 1, func() {}) {
		t.Fatal("the first slot isn't free")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if p.take(ctx, 1, func() {}) {
			t.Error("a second session got the slot")
		}
	})
	cancel()
	wg.Wait()
	p.give()

	h := newHouse(t, "a")
	h.topo.Settings.Concurrency = 1
	_, addr := h.gateway("a", h.mesh("a"), nil)
	waits, c := connect(t, addr), connect(t, addr)
	waits.send("BLPOP l 0")
	eventually(t, "it waits", func() bool { return strings.Contains(c.do("CLIENT LIST"), "flags=b") })
	c.want("RPUSH l v", "1") // who waits isn't at work
	waits.wants("[l v]")
	open := h.stores["a"].gate(t, "get")
	waits.send("GET k")
	eventually(t, "at work", func() bool { return h.stores["a"].count("rpush") == 1 })
	c.send("PING")
	open()
	waits.wants("nil")
	c.wants("PONG")
}

func TestIdleSessionsEnd(t *testing.T) {
	h := newHouse(t, "a")
	h.topo.Settings.IdleTimeout = 60 * time.Millisecond
	g, addr := h.gateway("a", h.mesh("a"), nil)
	idle, sub, waits, busy := connect(t, addr), connect(t, addr), connect(t, addr), connect(t, addr)
	idle.want("PING", "PONG")
	sub.want("SUBSCRIBE ch", "[subscribe ch 1]")
	waits.send("BLPOP l 0")
	eventually(t, "the idle one is gone", func() bool { busy.want("PING", "PONG"); return g.Status().Sessions == 3 })
	idle.closed()
	busy.want("RPUSH l v", "1")
	waits.wants("[l v]")
	busy.do("PUBLISH ch m")
	sub.wants("[message ch m]")
}

// bigConn answers with a value of a mebibyte each.
type bigConn struct {
	nullConn
	most *atomic.Int64 // longest answer that was made at once
}

func (c bigConn) DoWithin(_ context.Context, dst []byte, reqs []command.Request, limit int) ([]byte, int) {
	from := len(dst)
	for i := range reqs {
		dst = fmt.Appendf(dst, "$%d\r\n", 1<<20)
		dst = append(dst, make([]byte, 1<<20)...)
		dst = append(dst, "\r\n"...)
		if len(dst)-from > limit {
			c.most.Store(max(c.most.Load(), int64(len(dst)-from)))
			return dst, i + 1
		}
	}
	return dst, len(reqs)
}

func (c bigConn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	for i := range reqs {
		one := bigConn{most: new(atomic.Int64)}
		dst, _ = one.DoWithin(ctx, dst, reqs[i:i+1], 0)
	}
	return dst
}

type bigStore struct {
	nullStore
	most atomic.Int64
}

func (s *bigStore) NewConn(func([]byte)) StoreConn { return bigConn{most: &s.most} }

// A pipeline of big reads is answered as the client takes it, not all at once.
func TestBigRepliesArePaced(t *testing.T) {
	h := newHouse(t, "a")
	st := &bigStore{}
	g, addr := h.gateway("a", h.mesh("a"), func(o *Options) { o.Store, o.MemoryLimit, o.OutputLimit = st, 2<<20, 8<<20 })
	c, other := connect(t, addr), connect(t, addr)
	const n = 100
	c.conn.Write([]byte(strings.Repeat("GET k\r\n", n)))
	highest := int64(0)
	for range n {
		highest = max(highest, g.memory.Load())
		other.want("PING", "PONG")
		if got := c.recv(); len(got) != 1<<20 {
			t.Fatal(len(got))
		}
	}
	if highest > 6<<20 {
		t.Errorf("%d bytes were waiting for the client", highest)
	}
	if most := st.most.Load(); most > 2<<20 {
		t.Errorf("%d bytes were made at once", most)
	}
	eventually(t, "nothing is left", func() bool { return g.memory.Load() == 0 })
}

// TestLongRequestsTogether: requests that are under way take no more than they may, however many clients send them.
func TestLongRequestsTogether(t *testing.T) {
	h := newHouse(t, "a")
	g, addr := h.gateway("a", h.mesh("a"), func(o *Options) { o.MemoryLimit = 4 << 20 })
	head := fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", 8<<20)
	first, second := connect(t, addr), connect(t, addr)
	first.conn.Write([]byte(head + strings.Repeat("x", 3<<20/2)))
	eventually(t, "it is counted", func() bool { return g.requests.Load() > 1<<20 })
	second.conn.Write([]byte(head))
	for range 64 {
		second.conn.Write(make([]byte, 128<<10)) // refused on the way
	}
	other := connect(t, addr)
	other.want("SET k "+strings.Repeat("y", 100<<10), "OK")
	eventually(t, "the second one is closed", func() bool { return g.Status().Sessions == 2 })
	first.conn.Close()
	eventually(t, "nothing is counted any more", func() bool { return g.requests.Load() == 0 })
	other.want("SET k "+strings.Repeat("y", 1<<20), "OK")
	eventually(t, "what was long is freed", func() bool { return g.requests.Load() == 0 })
}

// TestPushesTogether: subscribers that take nothing are cut early when all of them together leave too much.
func TestPushesTogether(t *testing.T) {
	var sum atomic.Int64
	var outs []*output
	for range 8 {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		o := newOutput(ours, 64<<20, func(f func()) { go f() }, func(cutReason) {})
		o.sum, o.most = &sum, 8<<20
		defer o.cut(cutLocal)
		outs = append(outs, o)
	}
	frame := make([]byte, 256<<10)
	for range 200 { // 50 MiB for each
		for _, o := range outs {
			o.push(frame)
		}
		if n := sum.Load(); n > 10<<20 {
			t.Fatalf("%d bytes wait for subscribers", n)
		}
	}
}
