package proxy

import (
	"strings"
	"testing"
	"time"
)

func TestClientPause(t *testing.T) {
	h := newHouse(t, "a", "b")
	g, addr := h.gateway("b", h.mesh("b"), nil)
	c, w, admin := connect(t, addr), connect(t, addr), connect(t, addr)
	for _, wrong := range []string{"CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 1 SOME"} {
		if got := admin.do(wrong); !strings.HasPrefix(got, "-ERR") {
			t.Error(wrong, got)
		}
	}
	admin.want("CLIENT PAUSE 100000 WRITE", "OK")
	w.send("GET k", "SET k v", "GET k")
	w.wants("nil")
	c.want("GET k", "nil")
	admin.want("CLIENT PAUSE 1 ALL", "OK") // the longer and the stricter hold
	c.send("GET k")
	if n := h.stores["a"].count("set"); n != 0 {
		t.Error("a write was executed")
	}
	admin.want("CLIENT UNPAUSE", "OK")
	w.wants("OK", "v")
	if got := c.recv(); got != "nil" && got != "v" {
		t.Error(got)
	}
	admin.want("CLIENT PAUSE 20 ALL", "OK")
	began := time.Now()
	c.want("GET k", "v")
	if d := time.Since(began); d < 10*time.Millisecond {
		t.Error("answered after", d)
	}
	if g.paused.Load() != nil {
		t.Error("the pause is still there")
	}
}

func TestClientUnblock(t *testing.T) {
	h := newHouse(t, "a", "b")
	for _, node := range []string{"a", "b"} {
		_, addr := h.gateway(node, h.mesh(node), nil)
		c, admin := connect(t, addr), connect(t, addr)
		id := c.do("CLIENT ID")
		admin.want("CLIENT UNBLOCK "+id, "0")
		for _, tt := range []struct{ how, want string }{{"", "nil"}, {" TIMEOUT", "nil"}, {" ERROR", "-" + unblockedText}} {
			c.send("BLPOP l 0", "PING")
			eventually(t, "waits", func() bool { return strings.Contains(admin.do("CLIENT LIST ID "+id), " flags=b ") })
			eventually(t, "unblocked", func() bool { return admin.do("CLIENT UNBLOCK "+id+tt.how) == "1" })
			c.wants(tt.want, "PONG")
		}
		admin.want("RPUSH l v", "1")
		c.want("BLPOP l 0", "[l v]")
		admin.want("CLIENT UNBLOCK 99999", "0")
		if got := admin.do("CLIENT UNBLOCK x"); !strings.HasPrefix(got, "-ERR value") {
			t.Error(got)
		}
	}
}

func TestMonitor(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.topo.Settings.PasswordHash = HashPassword("pw")
	g, addr := h.gateway("b", h.mesh("b"), nil)
	m, c := connect(t, addr), connect(t, addr)
	m.want("AUTH pw", "OK")
	m.want("MONITOR", "OK")
	c.want("AUTH pw", "OK")
	c.want("SELECT 2", "OK")
	c.conn.Write([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\"\n\x01\r\n"))
	c.wants("OK")
	c.do("GET k")
	if got := m.recv(); !strings.HasSuffix(got, `] "SELECT" "2"`) || !strings.Contains(got, " [0 127.0.0.1:") {
		t.Error(got)
	}
	if got := m.recv(); !strings.HasSuffix(got, `] "SET" "k" "a\"\n\x01"`) || !strings.Contains(got, " [2 127.0.0.1:") {
		t.Error(got)
	}
	if got := m.recv(); !strings.HasSuffix(got, `] "GET" "k"`) {
		t.Error(got)
	}
	m.want("RESET", "RESET")
	if g.monitored.Load() != 0 {
		t.Error("still watched")
	}
}

func TestClientListAndKill(t *testing.T) {
	h := newHouse(t, "a")
	g, addr := h.gateway("a", h.mesh("a"), nil)
	c, sub := connect(t, addr), connect(t, addr)
	c.do("CLIENT SETNAME me")
	sub.do("SUBSCRIBE a")
	if got := c.do("CLIENT LIST TYPE pubsub"); strings.Count(got, "\n") != 1 || !strings.Contains(got, " flags=P ") || !strings.Contains(got, " sub=1 ") {
		t.Error(got)
	}
	if got := c.do("CLIENT LIST TYPE normal"); strings.Count(got, "\n") != 1 || !strings.Contains(got, " name=me ") {
		t.Error(got)
	}
	c.want("CLIENT KILL USER nope", "-ERR No such user 'nope'")
	c.want("CLIENT KILL TYPE nope", "-ERR Unknown client type 'nope'")
	c.want("CLIENT KILL TYPE pubsub", "1")
	sub.closed()
	eventually(t, "gone", func() bool { return g.Status().Sessions == 1 })
	c.want("CLIENT KILL USER default SKIPME yes", "0")
	c.want("CLIENT KILL USER default SKIPME no", "1")
	c.closed()
}
