package proxy

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTransactionsOverLinks(t *testing.T) {
	h := newHouse(t, "a", "b")
	g, addr := h.gateway("b", h.mesh("b"), nil)
	c, other := connect(t, addr), connect(t, addr)
	c.want("EXEC", "-ERR EXEC without MULTI")
	c.want("DISCARD", "-ERR DISCARD without MULTI")
	c.want("UNWATCH", "OK")
	c.send("MULTI", "SET k 1", "INCR k", "PING", "EXEC", "GET k", "SET k 7", "GET k")
	c.wants("OK", "QUEUED", "QUEUED", "QUEUED", "[OK 2 -ERR unknown command 'ping']", "2", "OK", "7")

	c.want("WATCH k", "OK")
	c.want("GET k", "7")
	other.want("SET k 8", "OK")
	c.want("MULTI", "OK")
	c.want("MULTI", "-ERR MULTI calls can not be nested")
	c.want("SET k 9", "QUEUED")
	c.want("EXEC", "nil")
	c.want("GET k", "8")

	c.want("MULTI", "OK")
	c.want("SET k 10", "QUEUED")
	c.want("DISCARD", "OK")
	c.want("MULTI", "OK")
	c.want("DEBUG SLEEP 1", "-NOPERM this user has no permissions to run the 'debug' command")
	c.want("SET k 10", "QUEUED")
	c.want("EXEC", "-"+abortText)
	c.want("GET k", "8")
	if h.stores["b"].count("exec")+h.stores["b"].count("multi") != 0 {
		t.Error("a transaction reached the replica")
	}
	c.want("SELECT 2", "OK")
	c.want("MULTI", "OK")
	c.want("SET k two", "QUEUED")
	c.want("EXEC", "[OK]")
	c.want("GET k", "two")
	c.want("WATCH k", "OK")
	c.want("UNWATCH", "OK")
	c.want("MULTI", "OK")
	c.want("SELECT 3", "QUEUED")
	c.want("HELLO 3 SETNAME x", "-ERR Command not allowed inside a transaction")
	c.want("EXEC", "-"+abortText)
	c.want("GET k", "two")
	c.want("MULTI", "OK")
	c.want("SELECT 3", "QUEUED")
	c.want("SET k three", "QUEUED")
	c.want("EXEC", "[OK OK]")
	c.want("GET k", "three")
	other.want("MULTI", "OK") // may get the same connection
	other.want("GET k", "QUEUED")
	other.want("EXEC", "[8]")
	c.want("EVALSHA_RO 00 0", "ran")
	eventually(t, "links given back", func() bool { return g.Status().Pinned <= 3 })
}

func TestTransactionLost(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	g, addr := h.gateway("b", m, nil)
	c, w, u := connect(t, addr), connect(t, addr), connect(t, addr)
	c.want("MULTI", "OK")
	c.want("SET k 1", "QUEUED")
	u.want("MULTI", "OK")
	u.want("NO.SUCH k", "-ERR unknown command") // only the primary knows: from here on its link is the transaction
	w.want("WATCH k", "OK")
	m.set("a", -1)
	eventually(t, "loss seen", func() bool { return !g.Status().PrimaryReachable && g.Status().Pinned == 0 })
	u.want("SET k 2", downReply)
	c.want("SET k 2", "QUEUED")
	c.want("EXEC", downReply)
	m.set("a", time.Millisecond)
	eventually(t, "recovery", func() bool { return c.do("SET other 1") == "OK" })
	u.want("SET k 3", downReply)
	u.want("EXEC", "-"+abortText)
	w.want("MULTI", "OK") // what was watched isn't any more
	w.want("SET k 4", "QUEUED")
	w.want("EXEC", "-"+abortText)
	if h.stores["a"].count("exec") != 0 {
		t.Error("a lost transaction was executed")
	}
	c.want("GET k", "nil")
	c.want("MULTI", "OK")
	c.want("SET k 5", "QUEUED")
	c.want("EXEC", "[OK]")
	c.want("GET k", "5")
}

// Where the primary is another node's, a transaction's words are those of Redis without asking it.
func TestTransactionErrors(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), nil)
	c := connect(t, addr)
	for _, tt := range []struct{ line, reply, exec string }{
		{"GET", "-ERR wrong number of arguments for 'get' command", "-" + abortText},
		{"CLIENT NOPE", "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.", "-" + abortText},
		{"MULTI", "-ERR MULTI calls can not be nested", "[]"},
		{"WATCH k", "-ERR WATCH inside MULTI is not allowed", "[]"},
		{"NO.SUCH", "-ERR unknown command", "-" + abortText},
		{"EXEC now", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command", "-ERR EXEC without MULTI"},
		{"PING", "QUEUED", "[-ERR unknown command 'ping']"},
	} {
		c.want("MULTI", "OK")
		c.want(tt.line, tt.reply)
		c.want("EXEC", tt.exec)
	}
	big := strings.Repeat("x", 600_000)
	c.want("MULTI", "OK")
	for range 4 { // more than is kept
		c.want("SET k "+big, "QUEUED")
	}
	c.want("EXEC", "[OK OK OK OK]")
	c.want("GET k", big)
	if n := h.stores["b"].count("set"); n != 0 {
		t.Errorf("%d commands reached the replica", n)
	}
}

// What the primary said against a queued command is told with EXEC.
func TestBatchSaysWhy(t *testing.T) {
	p := &peer{answer: func(name string, _ [][]byte) []byte {
		return map[string][]byte{"multi": []byte("+OK\r\n"), "set": []byte("-OOM no memory\r\n"), "get": []byte("+QUEUED\r\n"),
			"exec": []byte("-" + abortText + "\r\n")}[name]
	}}
	_, addr, _ := scripted(t, p, nil)
	c := connect(t, addr)
	c.send("MULTI", "SET k v", "GET k", "EXEC", "PING")
	c.wants("OK", "QUEUED", "QUEUED", "-EXECABORT Transaction discarded because of: OOM no memory", "PONG")
}

func TestExecOutcomeUnknown(t *testing.T) {
	p := &peer{answer: func(name string, _ [][]byte) []byte {
		switch name {
		case "multi":
			return []byte("+OK\r\n")
		case "set":
			return []byte("+QUEUED\r\n")
		}
		return nil
	}}
	_, addr, _ := scripted(t, p, nil)
	c := connect(t, addr)
	c.send("MULTI", "SET k v", "EXEC", "PING")
	eventually(t, "EXEC sent", func() bool { return p.saw("exec") })
	p.drop()
	c.wants("OK", "QUEUED", unknownReply, "PONG")
}

func TestBlockingOverLink(t *testing.T) {
	h := newHouse(t, "a", "b")
	for _, node := range []string{"a", "b"} {
		g, addr := h.gateway(node, h.mesh(node), nil)
		c, w := connect(t, addr), connect(t, addr)
		c.send("SET x "+node, "BLPOP l 0", "GET x", "PING")
		c.wants("OK")
		w.want("SET y 1", "OK") // nobody else is blocked
		w.want("RPUSH l v", "1")
		c.wants("[l v]", node, "PONG")

		// A client that leaves takes its place in the queue with it.
		n := h.stores["a"].count("blpop")
		c.send("BLPOP l 0")
		eventually(t, "blocked", func() bool { return h.stores["a"].count("blpop") > n })
		c.conn.Close()
		eventually(t, "session gone", func() bool { return g.Status().Sessions == 1 })
		eventually(t, "element kept", func() bool {
			w.do("RPUSH l v2")
			w.send("BLPOP l 0")
			return w.recv() == "[l v2]"
		})
	}
}

func TestBlockingEndsWithTheNode(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	_, addr := h.gateway("b", m, nil)
	c := connect(t, addr)
	c.send("BLPOP l 0")
	eventually(t, "blocked", func() bool { return h.stores["a"].count("blpop") == 1 })
	m.set("a", -1)
	c.wants(unknownReply)
	c.want("PING", "PONG")
}

func TestPubSub(t *testing.T) {
	h := newHouse(t, "a", "b", "c-")
	m := h.mesh("c")
	gc, addrC := h.gateway("c", m, nil)
	_, addrB := h.gateway("b", h.mesh("b"), nil)
	eventually(t, "b usable for c", func() bool { return gc.Status().ReadsFrom == "b" })
	pub := connect(t, addrB)
	for _, addr := range []string{addrB, addrC} {
		s2, s3 := connect(t, addr), connect(t, addr)
		s3.do("HELLO 3")
		s2.send("SUBSCRIBE ch x", "UNSUBSCRIBE x")
		s2.wants("[subscribe ch 1]", "[subscribe x 2]", "[unsubscribe x 1]")
		s3.want("SUBSCRIBE ch", ">[subscribe ch 1]")
		pub.do("PUBLISH ch hello")
		s2.wants("[message ch hello]")
		s3.wants(">[message ch hello]")
		s2.want("GET k", "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
		s2.want("PING", "[pong ]")
		s3.want("GET k", "nil")
		s2.want("UNSUBSCRIBE ch", "[unsubscribe ch 0]")
		s2.want("GET k", "nil")
		s2.want("SUBSCRIBE ch", "[subscribe ch 1]")
		s2.want("RESET", "RESET")
		s2.want("GET k", "nil")
		if addr == addrC { // a subscription that is lost ends the connection
			m.set("b", -1)
			s3.closed()
		}
	}
	if h.stores["b"].count("publish") != 0 {
		t.Error("PUBLISH reached the replica")
	}
}

func TestLargeCommand(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.LargeCommand = 1000 })
	c := connect(t, addr)
	big := strings.Repeat("x", 100_000)
	c.send("SET k 1", "SET k "+big, "GET k", "SET k 2", "GET k")
	c.wants("OK", "OK", big, "OK", "2")
}

func TestCloseDrains(t *testing.T) {
	h := newHouse(t, "a", "b")
	a := h.stores["a"]
	g, err := New(Options{Org: "o", Database: "d", Node: "b", Region: "rb", Store: h.stores["b"], Mesh: h.mesh("b"), Source: fakeSource{h.topo}})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() { g.Serve(context.Background(), ln) })
	idle, busy, blocked := connect(t, ln.Addr().String()), connect(t, ln.Addr().String()), connect(t, ln.Addr().String())
	idle.want("PING", "PONG")
	gate := make(chan struct{})
	a.mu.Lock()
	a.block, a.blockOn = gate, "set"
	a.mu.Unlock()
	blocked.send("BLPOP l 0")
	eventually(t, "blocked", func() bool { return a.count("blpop") == 1 })
	busy.send("SET k v")
	eventually(t, "in flight", func() bool { return g.inFlightForTest() == 2 })
	wg.Go(func() {
		idle.closed()
		close(gate)
	})
	if err := g.Close(context.Background()); err != nil {
		t.Error(err)
	}
	busy.wants("OK")
	busy.closed()
	blocked.closed()
	if err := g.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := g.Serve(context.Background(), listen(t)); err != ErrClosed {
		t.Error(err)
	}
	wg.Wait()
}

func (g *Gateway) inFlightForTest() (n int) {
	for _, s := range g.snapshot() {
		all, _ := s.out.inFlight()
		n += all
	}
	return n
}

func TestCloseIsBounded(t *testing.T) {
	h := newHouse(t, "a-", "b-")
	p := &peer{}
	m := newFakeMesh()
	m.dial["a"], m.rtt["a"] = p.dial, time.Millisecond
	g, err := New(Options{Org: "o", Database: "d", Node: "b", Mesh: m, Source: fakeSource{h.topo}})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() { g.Serve(context.Background(), ln) })
	c := connect(t, ln.Addr().String())
	c.send("SET k v")
	eventually(t, "sent", func() bool { return p.saw("set") })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := g.Close(ctx); err != context.DeadlineExceeded {
		t.Error(err)
	}
	c.closed()
	wg.Wait()
}

// What a store's connection can't bring back ends the sessions that had it, here and over a link.
func TestLostStoreConnection(t *testing.T) {
	h := newHouse(t, "a")
	_, here := h.gateway("a", h.mesh("a"), nil)
	_, there := h.gateway("c", h.mesh("c"), nil)
	c, far := connect(t, here), connect(t, there)
	c.want("SUBSCRIBE news", "[subscribe news 1]")
	far.want("SUBSCRIBE news", "[subscribe news 1]")
	h.stores["a"].lose()
	c.closed()
	far.closed()
}
