package proxy

import (
	"strings"
	"testing"
	"time"
)

// What the client has read is invalidated by the node that served the read, wherever the write came from.
func TestTracking(t *testing.T) {
	h := newHouse(t, "a", "b", "c-")
	_, addrA := h.gateway("a", h.mesh("a"), nil)
	gc, addrC := h.gateway("c", h.mesh("c"), nil)
	_, addrB := h.gateway("b", h.mesh("b"), briefly)
	eventually(t, "b usable for c", func() bool { return gc.Status().ReadsFrom == "b" })
	for _, addr := range []string{addrA, addrB, addrC} {
		c, w := connect(t, addr), connect(t, addrA)
		c.want("CLIENT GETREDIR", "-1")
		c.want("CLIENT CACHING YES", "-"+badCaching)
		c.do("HELLO 3")
		c.want("CLIENT TRACKINGINFO", "%[flags ~[off] redirect -1 prefixes []]")
		c.want("CLIENT TRACKING ON NOLOOP", "OK")
		c.want("CLIENT TRACKINGINFO", "%[flags ~[on noloop] redirect 0 prefixes []]")
		c.want("CLIENT GETREDIR", "0")
		c.do("GET k")
		w.want("SET k "+addr, "OK")
		if got := c.recv(); got != ">[invalidate [k]]" {
			t.Errorf("via %s: %s", addr, got)
		}
		w.want("SET k x", "OK") // not read since: nothing is told
		c.want("GET k", "x")
		c.want("CLIENT TRACKING OFF", "OK")
		w.want("SET k y", "OK")
		c.want("GET k", "y")
		c.want("RESET", "RESET")
		c.want("CLIENT GETREDIR", "-1")
	}
}

// The reply comes before the news that it is out of date.
func TestInvalidationComesAfterTheReply(t *testing.T) {
	h := newHouse(t, "a", "b", "c-")
	gc, addrC := h.gateway("c", h.mesh("c"), nil)
	_, addrB := h.gateway("b", h.mesh("b"), briefly)
	eventually(t, "b usable for c", func() bool { return gc.Status().ReadsFrom == "b" })
	b := h.stores["b"]
	b.mu.Lock()
	b.onTracked = func(k string) { b.invalidate(k, "k") }
	b.mu.Unlock()
	for _, addr := range []string{addrB, addrC} {
		c := connect(t, addr)
		c.do("HELLO 3")
		c.want("CLIENT TRACKING ON", "OK")
		c.send("GET k", "GET k")
		c.wants("nil", "nil", ">[invalidate [k]]", ">[invalidate [k]]")
	}
}

// What the local copy didn't serve isn't to be kept.
func TestReadsElsewhereAreNotKept(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), briefly)
	c, r := connect(t, addr), connect(t, addr)
	r.want("SUBSCRIBE __redis__:invalidate", "[subscribe __redis__:invalidate 1]")
	c.do("HELLO 3")
	if got := c.do("CLIENT TRACKING ON REDIRECT 999"); !strings.HasPrefix(got, "-ERR The client ID you want redirect to does not exist") {
		t.Error(got)
	}
	c.want("CLIENT TRACKING ON", "OK")
	h.stores["b"].hold()
	c.want("SET k v", "OK")
	c.send("GET k", "PING")
	c.wants("v", ">[invalidate [k]]", "PONG")
	c.want("MULTI", "OK")
	c.want("GET k", "QUEUED")
	c.send("EXEC", "PING")
	c.wants("[v]", ">[invalidate nil]", "PONG")
	c.want("CLIENT TRACKING OFF", "OK")
	id := strings.TrimPrefix(strings.Fields(r0(t, addr))[0], "id=")
	c.want("CLIENT TRACKING ON REDIRECT "+id, "OK")
	c.send("GET k", "PING")
	c.wants("v", "PONG")
	r.wants("[message __redis__:invalidate [k]]")
}

// r0 is the line of the session that listens.
func r0(t *testing.T, addr string) string { return connect(t, addr).do("CLIENT LIST TYPE pubsub") }

func TestTrackingEndsWithItsNode(t *testing.T) {
	h := newHouse(t, "a", "b-")
	m := h.mesh("b")
	_, addr := h.gateway("b", m, nil)
	c := connect(t, addr)
	if got := c.do("CLIENT TRACKING ON"); !strings.Contains(got, "HELLO 3") {
		t.Error(got)
	}
	c.do("HELLO 3")
	c.want("CLIENT TRACKING ON", "OK")
	c.want("GET k", "nil")
	m.set("a", -1)
	c.closed()
	m.set("a", time.Millisecond)
}
