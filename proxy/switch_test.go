package proxy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// moveTo publishes that another node is the primary.
func (s *liveSource) moveTo(node string) {
	s.change(func(t *Topology) {
		t.Primary = node
		members := make([]Member, len(t.Members))
		for i, m := range t.Members {
			members[i] = Member{Node: m.Node, Region: m.Region, Replica: m.Node != node}
		}
		t.Members = members
	})
}

// switchTo makes b the primary of a's data.
func switchTo(a, b *tiny) {
	b.mu.Lock()
	b.replicas, b.source = []*tiny{a}, nil
	b.replid += "'"
	b.primary, b.state.Primary = true, true
	b.state.Term++
	b.mu.Unlock()
	a.mu.Lock()
	a.replicas, a.source, a.replid = nil, b, b.replid
	a.mu.Unlock()
}

// Writes that meet nobody who leads are kept until somebody does, in order, and executed once.
func TestWritesWaitForTheNextPrimary(t *testing.T) {
	for _, self := range []string{"c", "a", "b"} {
		t.Run("at "+self, func(t *testing.T) {
			h := newHouse(t, "a", "b", "c")
			src := newLiveSource(h.topo)
			_, addr := h.gateway(self, h.mesh(self), func(o *Options) { o.Source = src })
			c := connect(t, addr)
			c.want("INCR n", "1")
			h.stores["a"].demote()
			for range 50 {
				c.send("INCR n", "GET n")
			}
			c.send("MULTI", "INCR n", "EXEC")
			switchTo(h.stores["a"], h.stores["b"])
			src.moveTo("b")
			for i := 2; i <= 51; i++ {
				c.wants(fmt.Sprint(i), fmt.Sprint(i))
			}
			if self == "c" { // elsewhere the transaction may have begun in a store that led
				c.wants("OK", "QUEUED", "[52]")
			}
			if n := h.stores["a"].count("incr"); self == "c" && n > 110 {
				t.Errorf("the former primary was asked %d times", n)
			}
		})
	}
}

// A store that refuses writes for a moment, as while its data move, executes them when it leads again, also when the client waits for
// that and sends nothing more.
func TestStoreThatRefusesForAMoment(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("a", h.mesh("a"), func(*Options) {})
	c := connect(t, addr)
	c.want("INCR n", "1")
	a := h.stores["a"]
	for i := 2; i < 6; i++ {
		before := a.count("incr")
		a.demote()
		c.send("INCR n")
		eventually(t, "it is refused", func() bool { return a.count("incr") > before })
		a.promote()
		c.wants(fmt.Sprint(i))
	}
}

// What is parked goes before what its session asks for next, also when the session's own node leads by then.
func TestParkedWritesGoFirst(t *testing.T) {
	for _, next := range []struct{ send, reply string }{{"SET n 7", "OK"}, {"MULTI|SET n 7|EXEC", "OK|QUEUED|[OK]"}} {
		t.Run(next.send, func(t *testing.T) {
			h := newHouse(t, "a", "b")
			src := newLiveSource(h.topo)
			g, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.Source = src })
			c, other := connect(t, addr), connect(t, addr)
			c.want("INCR n", "1")
			b := h.stores["b"]
			block := make(chan struct{})
			goOn := sync.OnceFunc(func() { close(block) })
			defer goOn()
			b.mu.Lock()
			b.blockOn, b.block = "incr", block
			b.mu.Unlock()
			h.stores["a"].demote()
			c.send("INCR n")
			eventually(t, "the write is parked", func() bool {
				g.parkMu.Lock()
				defer g.parkMu.Unlock()
				return g.unparking
			})
			switchTo(h.stores["a"], b)
			src.moveTo("b")
			eventually(t, "b leads", func() bool { return g.view.Load().localPrimary })
			other.want("SET m x", "OK")
			for _, line := range strings.Split(next.send, "|") {
				c.send(line)
			}
			for range 50 { // time for the session to be wrong
				other.want("GET m", "x")
			}
			goOn()
			c.wants("2")
			c.wants(strings.Split(next.reply, "|")...)
			c.want("GET n", "7")
		})
	}
}

// Links that were opened before a node led refuse writes, one after the other: the client doesn't learn of it.
func TestWritesGoRoundOldLinks(t *testing.T) {
	h := newHouse(t, "a", "c")
	a := h.stores["a"]
	_, addr := h.gateway("c", h.mesh("c"), func(*Options) {})
	clients := []*testClient{connect(t, addr), connect(t, addr), connect(t, addr), connect(t, addr)}
	clients[0].want("SET k v", "OK")
	a.demote()
	for _, c := range clients {
		c.want("READWRITE", "OK")
		c.want("GET k", "v") // each link is open now
	}
	a.mu.Lock()
	a.primary, a.state.Primary, a.state.Term = true, true, 5
	a.mu.Unlock()
	for _, c := range clients {
		c.want("SET k w", "OK")
	}
}

// A primary that is lost for a moment, as when it is started again, costs time and no error. One pipeline waits once.
func TestWritesWaitForAPrimaryThatWasLost(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	g, addr := h.gateway("b", m, func(o *Options) { o.LostTimeout = 10 * time.Second })
	c := connect(t, addr)
	c.want("SET k v", "OK")
	m.set("a", -1)
	eventually(t, "the loss is seen", func() bool { v := g.view.Load(); return !v.primaryReachable })
	c.send("SET k w", "GET k")
	m.set("a", time.Millisecond)
	c.wants("OK", "w")

	g, addr = h.gateway("b", m, func(o *Options) { o.LostTimeout = 50 * time.Millisecond })
	c = connect(t, addr)
	c.want("SET k x", "OK")
	m.set("a", -1)
	eventually(t, "the loss is seen", func() bool { v := g.view.Load(); return !v.primaryReachable })
	began := time.Now()
	for range 100 {
		c.send("SET k y")
	}
	for range 100 {
		if got := c.recv(); got == "OK" {
			t.Fatal("a write went to a primary that is cut off")
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("100 writes of one pipeline waited %v", took)
	}
}

func TestWritesAreRefusedWhenNobodyLeads(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.SwitchTimeout = 50 * time.Millisecond })
	c := connect(t, addr)
	c.want("SET k v", "OK")
	h.stores["a"].demote()
	c.want("SET k w", downReply)
	c.want("GET k", "v")
	if n := len(h.stores["a"].log); n != 1 {
		t.Errorf("%d writes executed", n)
	}
}

// frames sends a command and reads frames one by one.
func (c *testClient) frames(t *testing.T, line string, frames ...string) {
	t.Helper()
	c.send(line)
	for _, want := range frames {
		if got := c.recv(); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// A link that was opened to a primary never delivers writes to a later one.
func TestOldLinksDeliverNoWrites(t *testing.T) {
	h := newHouse(t, "a")
	c := connect(t, h.addr["a"])
	c.send("RESPMESH LINK o/d 2 0 shared")
	if got := c.recv(); !strings.HasPrefix(got, "OK primary") {
		t.Fatal(got)
	}
	c.frames(t, "SET k v", "|1", "offset", "10", "OK")
	c.want("GET k", "v")
	h.stores["a"].demote()
	c.want("SET k w", "-"+readonlyText)
	h.stores["a"].mu.Lock()
	h.stores["a"].primary, h.stores["a"].state.Primary, h.stores["a"].state.Term = true, true, 5
	h.stores["a"].mu.Unlock()
	c.want("SET k x", "-"+readonlyText)
	c.want("GET k", "v")
}

// A reply that comes late from the former primary doesn't make the node forget what it has to wait for.
func TestLateReplyOfAFormerHistory(t *testing.T) {
	r := newRYW()
	one, two := "one", "two"
	k := []uint64{r.hash(0, []byte("k"))}
	l := []uint64{r.hash(0, []byte("l"))}
	r.record(&one, 100, 0, false, k)
	r.record(&two, 200, 0, false, k)
	r.record(&one, 110, 0, false, l)
	if r.history() != "two" || r.need(k) != 200 || r.need(l) < 110 {
		t.Errorf("%s, k %d, l %d", r.history(), r.need(k), r.need(l))
	}
}
