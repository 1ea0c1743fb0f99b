package proxy

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"respmesh/resp/command"
)

// breakable has all connections to a node end when it is told to.
func breakable(m *fakeMesh, node string) (drop func()) {
	var mu sync.Mutex
	var conns []net.Conn
	dial := m.dial[node]
	m.dial[node] = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			conns = append(conns, conn)
		}
		return conn, err
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
		conns = nil
	}
}

// waiting is how many commands have come to wait at a gate.
func (t *tiny) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.blocked
}

// pass has a session do something else for a while.
func pass(t *testing.T, addr string) {
	t.Helper()
	c := connect(t, addr)
	for range 50 {
		c.want("PING", "PONG")
	}
}

// A read that its copy doesn't serve is asked again elsewhere. What was asked after it must not show less.
func TestReadsBehindARetriedOneFollowIt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		second []string
		reply  func(c *testClient)
	}{
		{"on the same link", nil, func(*testClient) {}},
		{"on another link", []string{"HELLO 3"}, func(c *testClient) { c.recv() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, near, addr, _ := hedging(t, 0)
			_, primary := h.gateway("a", h.mesh("a"), nil)
			w, c, d := connect(t, primary), connect(t, addr), h.stores["d"]
			w.want("INCR n", "1")
			c.want("GET n", "1")
			near.set(true)
			d.setState(func(s *StoreState) { s.Usable = false })
			c.send("GET n")
			eventually(t, "the first is refused", func() bool { return near.holds("MASTERDOWN") })
			d.hold()
			d.setState(func(s *StoreState) { s.Usable = true })
			c.send(append(tt.second, "GET n")...)
			pass(t, addr)
			w.want("INCR n", "2")
			near.set(false)
			c.wants("2")
			tt.reply(c)
			c.wants("2")
		})
	}
}

// Reads that come home from a lost link are answered here in their order.
func TestReadsComeHomeInOrder(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	drop := breakable(m, "a")
	g, addr := h.gateway("b", m, nil)
	_, primary := h.gateway("a", h.mesh("a"), nil)
	c := connect(t, addr)
	c.want("SET x 1", "OK")
	h.stores["a"].gate(t, "set")
	c.send("SET x 2", "GET k", "DBSIZE")
	eventually(t, "all are in flight", func() bool { return g.inFlightForTest() == 3 && h.stores["a"].waiting() == 1 })
	open := h.stores["b"].gate(t, "get")
	drop()
	eventually(t, "the first read has come home", func() bool { return h.stores["b"].waiting() == 1 })
	pass(t, addr)
	connect(t, primary).want("INCR k", "1")
	open()
	c.wants(unknownReply, "1", "2")
}

// A read that waited for a parked write isn't sent to the node that led before.
func TestReadsFollowAParkedWrite(t *testing.T) {
	for _, read := range []struct{ send, reply string }{{"GET k", "v"}, {"MULTI|GET k|EXEC", "OK|QUEUED|[v]"}} {
		t.Run(read.send, func(t *testing.T) {
			h := newHouse(t, "a", "b", "c-")
			src := newLiveSource(h.topo)
			g, addr := h.gateway("c", h.mesh("c"), func(o *Options) { o.Source = src })
			a, b := h.stores["a"], h.stores["b"]
			a.demote()
			c := connect(t, addr)
			c.send("SET k v")
			eventually(t, "the write is parked", func() bool {
				g.parkMu.Lock()
				defer g.parkMu.Unlock()
				return g.unparking
			})
			c.send(strings.Split(read.send, "|")...)
			pass(t, addr)
			a.hold()
			switchTo(a, b)
			src.moveTo("b")
			c.wants("OK")
			c.wants(strings.Split(read.reply, "|")...)
		})
	}
}

// A read behind a write that is parked since its link has gone waits for it.
func TestReadsWaitBehindAParkedWrite(t *testing.T) {
	h := newHouse(t, "a", "b", "c-")
	p := &peer{stopAt: "*3\r\n$3\r\nSET"}
	m := h.mesh("c")
	m.dial["a"] = p.dial
	src := newLiveSource(h.topo)
	g, addr := h.gateway("c", m, func(o *Options) { o.Source = src })
	c := connect(t, addr)
	c.send("SET k v", "GET k")
	eventually(t, "the write is stuck", func() bool { return p.saw("stopped") && g.inFlightForTest() == 2 })
	open := h.stores["b"].gate(t, "set")
	switchTo(h.stores["a"], h.stores["b"])
	src.moveTo("b")
	eventually(t, "b is known to lead", func() bool { return g.view.Load().primary == "b" })
	p.drop()
	pass(t, addr)
	open()
	c.wants("OK", "v")
}

// What a session has read here bounds what it reads elsewhere, also if it was read while the copy went out of use.
func TestReadsElsewhereShowNoLessThanTheLastHere(t *testing.T) {
	h := newHouse(t, "a", "b", "c")
	g, addr := h.gateway("b", h.mesh("b"), nil)
	_, primary := h.gateway("a", h.mesh("a"), nil)
	w, c := connect(t, primary), connect(t, addr)
	w.want("INCR n", "1")
	c.want("GET n", "1")
	eventually(t, "c is known", func() bool {
		replid, offset := g.remote("c").at.get()
		return replid != nil && offset == 10 || g.view.Load().localUsable
	})
	open := h.stores["b"].gate(t, "get")
	c.send("GET n")
	eventually(t, "it is being read here", func() bool { return h.stores["b"].waiting() == 1 })
	h.stores["b"].setState(func(s *StoreState) { s.Usable = false })
	eventually(t, "reads go to c", func() bool { return g.Status().ReadsFrom == "c" })
	h.stores["c"].hold()
	w.want("INCR n", "2")
	open()
	c.wants("2")
	for range 5 {
		c.want("GET n", "2")
	}
}

// A copy that was started again may have less than it had.
func TestAReplicaThatWasStartedAgainIsntAsFarAsItWas(t *testing.T) {
	h := newHouse(t, "a", "b-", "c")
	m := h.mesh("b")
	drop := breakable(m, "c")
	g, addr := h.gateway("b", m, nil)
	_, primary := h.gateway("a", h.mesh("a"), nil)
	w, c, r := connect(t, primary), connect(t, addr), h.stores["c"]
	eventually(t, "reads go to c", func() bool { return g.Status().ReadsFrom == "c" })
	w.want("INCR n", "1")
	w.want("INCR n", "2")
	c.want("GET n", "2")
	r.hold()
	r.mu.Lock()
	r.offset, r.values["0/n"] = 10, "1"
	r.mu.Unlock()
	drop()
	for range 20 {
		c.want("GET n", "2")
	}
}

// What a node that follows a new primary has shown isn't forgotten over an answer of one that doesn't yet.
func TestPositionsStayInTheLatestHistory(t *testing.T) {
	var p seenPosition
	one, two := "one", "two"
	p.raise(&one, 100)
	p.raise(&two, 200)
	p.raise(&one, 150)
	if p.reached("one", 160) || !p.reached("two", 200) || p.reached("two", 199) {
		t.Error("an older history counts")
	}
}

// bounded gives a tiny store's connections DoWithin.
type bounded struct{ *tiny }

func (b bounded) NewConn(push func([]byte)) StoreConn {
	return boundedConn{b.tiny.NewConn(push).(*tinyConn)}
}

type boundedConn struct{ *tinyConn }

func (c boundedConn) DoWithin(ctx context.Context, dst []byte, reqs []command.Request, limit int) ([]byte, int) {
	from := len(dst)
	for i := range reqs {
		if dst = c.Do(ctx, dst, reqs[i:i+1]); len(dst)-from > limit {
			return dst, i + 1
		}
	}
	return dst, len(reqs)
}

// A long reply that takes another way is still of the moment at which its turn was.
func TestLongRepliesAreOfTheirTurn(t *testing.T) {
	h := newHouse(t, "a", "b-")
	h.addr["a"] = serveLinks(t, bounded{h.stores["a"]})
	_, addr := h.gateway("b", h.mesh("b"), nil)
	c := connect(t, addr)
	long := strings.Repeat("x", 3<<19)
	for range 3 {
		c.want("SET k "+long, "OK")
		c.send("GET k", "SET k short", "GET k")
		if got := c.recv(); got != long {
			t.Fatalf("the reply to the first command is %.20q, which a later one has set", got)
		}
		c.wants("OK", "short")
	}
}
