package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// briefly has reads give up waiting for the local copy at once.
func briefly(o *Options) { o.WaitBoundMin, o.WaitBoundMax = 10*time.Millisecond, 10*time.Millisecond }

// gate has the store's commands of one name wait until the function it returns is called.
func (t *tiny) gate(test *testing.T, name string) (open func()) {
	ch := make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.block, t.blockOn = ch, name
	open = sync.OnceFunc(func() {
		t.mu.Lock()
		t.block = nil
		t.mu.Unlock()
		close(ch)
	})
	test.Cleanup(open)
	return open
}

// A transaction's reads show what the primary has: later reads mustn't show less.
func TestTransactionReadsDontGoBack(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addrA := h.gateway("a", h.mesh("a"), nil)
	_, addr := h.gateway("b", h.mesh("b"), briefly)
	h.stores["b"].hold()
	connect(t, addrA).want("SET k new", "OK")
	c := connect(t, addr)
	c.want("MULTI", "OK")
	c.want("GET k", "QUEUED")
	c.want("EXEC", "[new]")
	c.want("GET k", "new")
}

func TestWritesToOtherDatabasesAreSeen(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), briefly)
	c := connect(t, addr)
	c.want("SELECT 3", "OK")
	c.want("SET m x", "OK")
	h.stores["b"].hold()
	c.want("MULTI", "OK")
	c.want("SELECT 1", "QUEUED")
	c.want("SET k v", "QUEUED")
	c.want("EXEC", "[OK OK]")
	c.want("GET k", "v")
	c.want("SELECT 3", "OK")
	c.want("MOVE m 2", "1")
	c.want("SELECT 2", "OK")
	c.want("GET m", "x")
}

// A read that the primary serves because the copy here lags may show more than the session's next read would.
func TestPipelinedReadsDontGoBack(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addrA := h.gateway("a", h.mesh("a"), nil)
	g, addr := h.gateway("b", h.mesh("b"), briefly)
	a, b := h.stores["a"], h.stores["b"]
	c, direct := connect(t, addr), connect(t, addrA)
	b.hold()
	c.want("SET k 1", "OK")
	open := a.gate(t, "get")
	c.send("GET k")
	eventually(t, "read on its way to the primary", func() bool { return g.inFlightForTest() == 1 })
	b.release()
	b.hold()
	direct.want("SET k 2", "OK")
	active := func() (last int64) {
		for _, s := range g.snapshot() {
			last = max(last, s.lastActive.Load())
		}
		return last
	}
	before := active()
	c.send("GET k")
	eventually(t, "second read handled", func() bool { return active() > before })
	open()
	if first, second := c.recv(), c.recv(); first > second {
		t.Errorf("read %s and then %s", first, second)
	}
}

// A read whose link to the primary breaks isn't answered by a copy that lags while the primary can be reached.
func TestRetriedReadSeesWrites(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	var mu sync.Mutex
	var conns []net.Conn
	dial := m.dial["a"]
	m.dial["a"] = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, conn)
		return conn, err
	}
	g, addr := h.gateway("b", m, briefly)
	c := connect(t, addr)
	c.want("SET k 1", "OK")
	h.stores["b"].hold()
	c.want("SET k 2", "OK")
	open := h.stores["a"].gate(t, "get")
	c.send("GET k")
	eventually(t, "read on its way to the primary", func() bool { return g.inFlightForTest() == 1 })
	mu.Lock()
	for _, conn := range conns {
		conn.Close()
	}
	mu.Unlock()
	open()
	c.wants("2")
}

// What every near replica has is forgotten; a replica that comes back lacks it.
func TestReturningReplicaIsCurrent(t *testing.T) {
	h := newHouse(t, "a", "c", "d", "b-")
	m := h.mesh("b")
	g, addr := h.gateway("b", m, nil)
	usable := func(n int) func() bool {
		return func() bool {
			for _, s := range g.Status().Nodes {
				if s.Replica && s.Usable {
					n--
				}
			}
			return n <= 0
		}
	}
	eventually(t, "c and d usable", func() bool { return usable(2)() })
	c := connect(t, addr)
	h.stores["c"].hold()
	rtt, _ := m.RTT("c")
	m.set("c", -1)
	c.want("SET k 1", "OK")
	eventually(t, "forgotten", func() bool { return g.Status().Pending == 0 })
	m.set("c", rtt)
	m.set("d", -1)
	eventually(t, "c usable", func() bool { return g.Status().ReadsFrom == "c" })
	for range 10 {
		c.want("GET k", "1")
	}
}

func TestHistoryDecidesWhatIsForgotten(t *testing.T) {
	table := newRYW()
	old, now := "old", "new"
	table.record(&old, 1000, 0, false, []uint64{1})
	table.record(&now, 5, 0, false, nil)
	table.record(&now, 9, 0, false, []uint64{2})
	table.sweep(old, 1000)
	for range 2 {
		if n := table.need([]uint64{2}); n != 9 {
			t.Errorf("offset %d is enough", n)
		}
	}
}

// A link on which a transaction was left open doesn't go to the next session.
func TestAbandonedTransactionTakesItsLink(t *testing.T) {
	h := newHouse(t, "a", "b")
	g, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.SessionWindow, o.WarmPinned = 2, 1 })
	open := h.stores["a"].gate(t, "watch")
	c, other := connect(t, addr), connect(t, addr)
	id := c.do("CLIENT ID")
	c.send("WATCH k", "GET k", "MULTI", "SET k 1", "EXEC")
	eventually(t, "window full", func() bool { return g.inFlightForTest() == 2 })
	other.want("CLIENT KILL ID "+id, "1")
	eventually(t, "session gone", func() bool { return g.Status().Sessions == 1 })
	open()
	eventually(t, "both executed", func() bool { return h.stores["a"].count("get") == 1 })
	for range 4 { // all connections that were kept are used at the same time
		all := []*testClient{connect(t, addr), connect(t, addr), connect(t, addr), connect(t, addr)}
		for _, c := range all {
			c.want("WATCH x", "OK")
			c.want("MULTI", "OK")
		}
		for _, c := range all {
			c.want("DISCARD", "OK")
		}
	}
	if h.stores["a"].count("exec") != 0 {
		t.Error("EXEC was sent for a client that had gone")
	}
}

// What was queued while streaming has the outcome of its EXEC.
func TestQueuedOutcomeUnknown(t *testing.T) {
	p := &peer{}
	_, addr, _ := scripted(t, p, nil)
	c := connect(t, addr)
	c.send("MULTI", "MODULE.SET k v", "EXEC", "PING")
	eventually(t, "EXEC sent", func() bool { return p.saw("exec") })
	p.drop()
	c.wants("OK", unknownReply, unknownReply, "PONG")
	n := p.count("module.set")
	c.send("MULTI", "MODULE.SET k w")
	eventually(t, "command sent", func() bool { return p.count("module.set") > n })
	p.drop()
	c.wants("OK", downReply)
}

// A batch of which EXEC didn't leave whole was not executed.
func TestBatchOutcome(t *testing.T) {
	for _, tt := range []struct {
		name, stopAt string
		want         string
	}{
		{"nothing", "*1\r\n$5\r\nMULTI", downReply},
		{"half of the commands", "*3\r\n$3\r\nSET\r\n$1\r\nb", downReply},
		{"all but EXEC", "*1\r\n$4\r\nEXEC", downReply},
		{"a byte of EXEC", "\r\n$4\r\nEXEC", unknownReply},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &peer{stopAt: tt.stopAt}
			_, addr, _ := scripted(t, p, nil)
			c := connect(t, addr)
			c.send("MULTI", "SET a 1", "SET b 2", "EXEC")
			eventually(t, "stopped", func() bool { return p.saw("stopped") })
			p.drop()
			c.wants("OK", "QUEUED", "QUEUED", tt.want)
		})
	}
}

func TestSubscribeKeepsOrder(t *testing.T) {
	h := newHouse(t, "a", "b", "c-")
	gc, addrC := h.gateway("c", h.mesh("c"), nil)
	_, addrB := h.gateway("b", h.mesh("b"), nil)
	eventually(t, "b usable for c", func() bool { return gc.Status().ReadsFrom == "b" })
	for _, addr := range []string{addrB, addrC} {
		pub := connect(t, addrB)
		open := h.stores["a"].gate(t, "incr")
		c := connect(t, addr)
		c.do("HELLO 3")
		c.send("INCR "+addr, "SUBSCRIBE ch", "PING", "UNSUBSCRIBE ch", "ECHO x")
		pub.do("PUBLISH ch m") // before or after the subscription: the link is another
		open()
		c.wants("1")
		got := []string{}
		for len(got) == 0 || got[len(got)-1] != "x" {
			if s := c.recv(); !strings.HasPrefix(s, ">[message") {
				got = append(got, s)
			} else if len(got) == 0 {
				t.Error("a message came before the confirmation")
			}
		}
		if s := strings.Join(got, ","); s != ">[subscribe ch 1],PONG,>[unsubscribe ch 0],x" {
			t.Errorf("via %s: %s", addr, s)
		}
	}
}

func TestHelloInTransaction(t *testing.T) {
	h := newHouse(t, "a", "b")
	for _, node := range []string{"a", "b"} {
		_, addr := h.gateway(node, h.mesh(node), nil)
		c := connect(t, addr)
		null := func(want string) {
			t.Helper()
			c.send("GET nothing")
			if line, _ := c.r.ReadString('\n'); line != want {
				t.Errorf("via %s: null is %q, want %q", node, line, want)
			}
		}
		c.want("MULTI", "OK")
		c.want("HELLO 3", "QUEUED")
		c.want("DISCARD", "OK")
		null("$-1\r\n")
		c.want("MULTI", "OK")
		c.want("HELLO 3", "QUEUED")
		c.want("EXEC", "[OK]")
		null("_\r\n")
		c.want("SET k v", "OK")
		c.want("MULTI", "OK")
		c.want("HELLO 2", "QUEUED")
		c.want("EXEC", "[OK]")
		null("$-1\r\n")
		for _, refused := range []string{"SUBSCRIBE ch", "HELLO 3 SETNAME x", "RESPMESH EXPLAIN get k", "MONITOR", "CLIENT REPLY OFF"} {
			c.want("MULTI", "OK")
			c.want(refused, "-ERR Command not allowed inside a transaction")
			c.want("EXEC", "-"+abortText)
		}
	}
}

// A page in a browser can have it send a form to a port of this machine.
func TestBrowsersAreCut(t *testing.T) {
	h := newHouse(t, "a")
	_, addr := h.gateway("a", h.mesh("a"), nil)
	c := connect(t, addr)
	io.WriteString(c.conn, "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET k v\r\n")
	c.closed()
	if h.stores["a"].count("set") != 0 {
		t.Error("the form's command was executed")
	}
}

// A dial that its owner gave up says nothing about the node.
func TestAbandonedDialIsNoFailure(t *testing.T) {
	h := newHouse(t, "a-", "b-")
	p := &peer{answer: func(string, [][]byte) []byte { return []byte("+OK\r\n") }}
	m := newFakeMesh()
	m.rtt["a"] = time.Millisecond
	var mu sync.Mutex
	slow := false
	dialled := make(chan struct{}, 100)
	m.dial["a"] = func(ctx context.Context) (net.Conn, error) {
		mu.Lock()
		wait := slow
		mu.Unlock()
		if wait {
			dialled <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return p.dial(ctx)
	}
	g, addr := h.gateway("b", m, func(o *Options) { o.StatusEvery = time.Hour })
	c, other := connect(t, addr), connect(t, addr)
	other.want("SET k v", "OK")
	mu.Lock()
	slow = true
	mu.Unlock()
	c.send("SUBSCRIBE ch")
	<-dialled
	c.conn.Close()
	eventually(t, "session gone", func() bool { // it sees that its client has left, or is told
		other.do("CLIENT KILL TYPE pubsub")
		return g.Status().Sessions == 1
	})
	mu.Lock()
	slow = false
	mu.Unlock()
	other.do("HELLO 3") // needs a link of its own kind
	other.want("SET k v", "OK")
}

// slowly takes one piece at a time.
type slowly struct {
	net.Conn
	pause time.Duration
}

func (c *slowly) Write(b []byte) (int, error) {
	t := time.NewTimer(c.pause * time.Duration(len(b)) / linkPiece)
	defer t.Stop()
	<-t.C
	return c.Conn.Write(b)
}

// A big value over a slow path takes longer than a stalled link may.
func TestSlowWriteIsNoStall(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	dial := m.dial["a"]
	m.dial["a"] = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		return &slowly{Conn: conn, pause: 100 * time.Millisecond}, err
	}
	_, addr := h.gateway("b", m, func(o *Options) { o.StallTimeout = 400 * time.Millisecond; o.StatusEvery = 20 * time.Millisecond })
	c := connect(t, addr)
	c.want("SET k "+strings.Repeat("x", 8*linkPiece), "OK")
}

// A big reply doesn't hold up other sessions' writes.
func TestBigReplyHoldsUpNoWrite(t *testing.T) {
	h := newHouse(t, "a", "b-")
	m := h.mesh("b")
	g, addr := h.gateway("b", m, func(o *Options) { o.LinksPerNode = 1 })
	reader, writer := connect(t, addr), connect(t, addr)
	open := h.stores["a"].gate(t, "get") // as if the link were busy with the reply
	reader.send("GET big")
	eventually(t, "read in flight", func() bool { return g.inFlightForTest() == 1 })
	writer.want("SET k v", "OK")
	writer.send("GET k", "SET k w", "GET k") // on one link, in order
	open()
	writer.wants("v", "OK", "w")
	reader.wants("nil")
}

// Reads for which only the primary will do aren't served by another copy when it can't be had.
func TestReadwriteNeverReadsAReplica(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := newFakeMesh()
	m.rtt["a"] = time.Millisecond // but nobody answers a dial
	_, addr := h.gateway("b", m, nil)
	c := connect(t, addr)
	c.want("GET k", "nil")
	c.want("READWRITE", "OK")
	for range 3 {
		c.want("GET k", downReply)
	}
}

// What the copy here has is forgotten, also while reads go to another replica: that must have it.
func TestReadsElsewhereAreAsFarAsHere(t *testing.T) {
	h := newHouse(t, "a", "c", "b")
	m := h.mesh("b")
	g, addr := h.gateway("b", m, nil)
	c := connect(t, addr)
	c.want("SET k 1", "OK")
	h.stores["b"].setState(func(s *StoreState) { s.Usable = false })
	eventually(t, "reads from c", func() bool { return g.Status().ReadsFrom == "c" })
	h.stores["c"].hold()
	c.want("SET k 2", "OK")
	eventually(t, "forgotten", func() bool { return g.Status().Pending == 0 })
	for range 5 {
		c.want("GET k", "2")
	}
}
