package proxy

import (
	"strings"
	"testing"
	"time"
)

func TestLocalPrimary(t *testing.T) {
	h := newHouse(t, "a")
	_, addr := h.gateway("a", h.mesh("a"), nil)
	c := connect(t, addr)
	c.want("SET k v", "OK")
	c.want("GET k", "v")
	c.want("SELECT 3", "OK")
	c.want("GET k", "nil")
	c.want("SELECT 16", "-ERR DB index is out of range")
	c.want("MULTI", "OK")
	c.want("SET k x", "QUEUED")
	c.want("SELECT 0", "QUEUED")
	c.want("EXEC", "[OK OK]")
	c.want("GET k", "v")
	c.want("CONFIG SET a b", "-NOPERM this user has no permissions to run the 'config|set' command")
	c.want("MULTI", "OK")
	if got := c.do("SHUTDOWN"); !strings.HasPrefix(got, "-NOPERM") {
		t.Error(got)
	}
	c.want("EXEC", "-"+abortText)
	c.want("NOSUCH x", "-ERR unknown command 'nosuch'")
	c.want("QUIT", "OK")
	c.closed()
}

func TestForwardedInOrder(t *testing.T) {
	h := newHouse(t, "a", "b")
	g, addr := h.gateway("b", h.mesh("b"), nil)
	c := connect(t, addr)
	c.want("SET k 0", "OK")
	c.want("GET k", "0")
	for range 50 {
		c.send("GET k", "INCR k", "GET k", "PING", "INCR k", "ECHO x", "GET k", "SET k 0", "GET nokey")
		c.wants("0", "1", "1", "PONG", "2", "x", "2", "OK", "nil")
	}
	if n := h.stores["b"].count("set"); n != 0 {
		t.Errorf("%d writes reached the replica", n)
	}
	if n := h.stores["b"].count("get"); n == 0 {
		t.Error("no read was served locally")
	}
	if st := g.Status(); st.ReadsFrom != "b" || st.Primary != "a" || st.Links == 0 {
		t.Errorf("status %+v", st)
	}
}

func TestManySessionsShareLinks(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	_, addr := h.gateway("b", m, nil)
	done := make(chan bool)
	for range 20 {
		c := connect(t, addr)
		go func() {
			defer func() { done <- true }()
			for range 50 {
				if c.do("INCR n") == "" {
					return
				}
			}
		}()
	}
	for range 20 {
		<-done
	}
	connect(t, addr).want("GET n", "1000")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dials > 6 { // two for writes, two for reads, and for transactions
		t.Errorf("%d connections for 20 sessions", m.dials)
	}
}

func TestProtocols(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), nil)
	c := connect(t, addr)
	c.want("HELLO 4", "-NOPROTO unsupported protocol version")
	c.want("HELLO x", "-ERR Protocol version is not an integer or out of range")
	if got := c.do("HELLO 3 SETNAME me"); !strings.HasPrefix(got, "%[server redis version 7.0.15 proto 3 id ") {
		t.Error(got)
	}
	c.want("CLIENT GETNAME", "me")
	c.send("SET k v", "GET nothing")
	if c.recv() != "OK" {
		t.Error("SET")
	}
	if line, _ := c.r.ReadString('\n'); line != "_\r\n" {
		t.Errorf("null of RESP3: %q", line)
	}
	c.want("CLIENT SETINFO lib-name x", "OK")
	if got := c.do("CLIENT INFO"); !strings.Contains(got, "name=me") || !strings.Contains(got, "lib-name=x") {
		t.Error(got)
	}
	c.want("RESET", "RESET")
	c.want("CLIENT GETNAME", "nil")
	c.conn.Write([]byte("GET k\r\nPING\r\n\r\nset k \"a b\"\r\nget k\r\n"))
	c.wants("v", "PONG", "OK", "a b")
	c.conn.Write([]byte("*1\r\n$-5\r\n"))
	c.wants("-ERR Protocol error: invalid bulk length")
	c.closed()
}

func TestAuth(t *testing.T) {
	h := newHouse(t, "a")
	h.topo.Settings.PasswordHash = HashPassword("secret")
	_, addr := h.gateway("a", h.mesh("a"), nil)
	c := connect(t, addr)
	c.want("GET k", "-NOAUTH Authentication required.")
	c.want("PING", "-NOAUTH Authentication required.")
	c.want("HELLO 3", "-"+helloNoAuth)
	c.want("AUTH wrong", "-"+wrongPass)
	c.want("AUTH other secret", "-"+wrongPass)
	c.want("AUTH secret", "OK")
	c.want("GET k", "nil")
	c.want("RESET", "RESET")
	c.want("GET k", "-NOAUTH Authentication required.")
	if got := c.do("HELLO 2 AUTH default secret"); !strings.HasPrefix(got, "[server") {
		t.Error(got)
	}
	c.want("GET k", "nil")
	c = connect(t, addr)
	c.conn.Write([]byte("*11\r\n"))
	c.wants("-ERR Protocol error: unauthenticated multibulk length")
	c.closed()
}

func TestClientReply(t *testing.T) {
	h := newHouse(t, "a", "b")
	for _, node := range []string{"a", "b"} {
		_, addr := h.gateway(node, h.mesh(node), nil)
		c := connect(t, addr)
		c.send("CLIENT REPLY SKIP", "SET k 1", "GET k", "CLIENT REPLY OFF", "SET k 2", "GET k", "PING", "CLIENT REPLY ON", "GET k")
		c.wants("1", "OK", "2")
	}
}

func TestKillAndLimits(t *testing.T) {
	h := newHouse(t, "a")
	h.topo.Settings.MaxSessions = 2
	g, addr := h.gateway("a", h.mesh("a"), nil)
	a, b := connect(t, addr), connect(t, addr)
	a.want("PING", "PONG")
	id := b.do("CLIENT ID")
	c := connect(t, addr)
	if got := c.recv(); got != "-ERR max number of clients reached" {
		t.Error(got)
	}
	if got := a.do("CLIENT LIST"); strings.Count(got, "\n") != 2 {
		t.Error(got)
	}
	a.want("CLIENT KILL ID "+id, "1")
	b.closed()
	eventually(t, "session gone", func() bool { return g.Status().Sessions == 1 })
}

func TestSlowClientIsCut(t *testing.T) {
	h := newHouse(t, "a")
	g, addr := h.gateway("a", h.mesh("a"), func(o *Options) { o.OutputLimit, o.SlowTimeout = 1<<20, 50*time.Millisecond })
	c := connect(t, addr)
	c.conn.Write([]byte(strings.Repeat("BIG 300000\r\n", 200)))
	eventually(t, "cut", func() bool { return g.Status().Sessions == 0 })
}

func TestPipelineWithoutReading(t *testing.T) {
	h := newHouse(t, "a")
	_, addr := h.gateway("a", h.mesh("a"), nil)
	c := connect(t, addr)
	const n = 100_000
	c.want("SET k "+strings.Repeat("x", 200), "OK")
	one := []byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
	all := []byte(strings.Repeat(string(one), n))
	if _, err := c.conn.Write(all); err != nil { // more than socket buffers take, nothing read yet
		t.Fatal(err)
	}
	for range n {
		if got := c.recv(); len(got) != 200 {
			t.Fatal(got)
		}
	}
}

func TestExplain(t *testing.T) {
	h := newHouse(t, "a", "b")
	g, addr := h.gateway("b", h.mesh("b"), nil)
	if x := g.Explain("set", "k", "v"); x.Route != "primary" || x.Region != "ra" || x.Class != "write" {
		t.Errorf("%+v", x)
	}
	c := connect(t, addr)
	c.want("RESPMESH EXPLAIN get k", "[class read route local node b region rb rtt 0s reason the local replica is usable]")
	c.want("READWRITE", "OK")
	if got := c.do("RESPMESH EXPLAIN get k"); !strings.Contains(got, "route primary") {
		t.Error(got)
	}
}

// What isn't RESP, or too much of it, ends in a clear error, a closed connection or both, and others don't notice.
func TestBadInput(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), nil)
	other := connect(t, addr)
	other.want("SET k v", "OK")
	for _, tt := range []struct {
		name, in, want string
		closed         bool
	}{
		{"garbage", "\x00\xff\xfe*$*$\r\n", "-ERR unknown command", false},
		{"a length that can't be", "*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length", true},
		{"too many arguments", "*1048577\r\n", "-ERR Protocol error: invalid multibulk length", true},
		{"a million arguments", "*1000000\r\n$4\r\nECHO\r\n" + strings.Repeat("$1\r\nx\r\n", 999_999), "-ERR wrong number of arguments", false},
		{"nested", "*2\r\n*1\r\n$4\r\nPING\r\n", "-ERR Protocol error: expected '$', got '*'", true},
		{"RESP3 in a request", "*1\r\n%1\r\n+a\r\n+b\r\n", "-ERR Protocol error: expected '$', got '%'", true},
		{"half a frame", "*2\r\n$3\r\nGET\r\n$100\r\nhalf", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, addr)
			c.conn.Write([]byte(tt.in))
			if tt.want != "" {
				if got := c.recv(); !strings.HasPrefix(got, tt.want) {
					t.Errorf("%.80q", got)
				}
			}
			if tt.closed {
				c.closed()
			}
			other.want("GET k", "v")
		})
	}
}
