package proxy

import (
	"testing"
)

// A long reply to a read doesn't hold up who shares the link: it comes over a connection of its own, in its place.
func TestLongReplyLeavesTheSharedLink(t *testing.T) {
	h := newHouse(t, "a", "b-")
	st := &bigStore{}
	h.addr["a"] = serveLinks(t, st)
	g, addr := h.gateway("b", h.mesh("b"), nil)
	c := connect(t, addr)
	c.send("GET k", "GET k", "PING")
	for range 2 {
		if got := c.recv(); len(got) != 1<<20 {
			t.Fatalf("%.60q", got)
		}
	}
	c.wants("PONG")
	if st.most.Load() > 2<<20 {
		t.Error(st.most.Load(), "bytes were made at once")
	}
	eventually(t, "the connection is given back", func() bool { return g.Status().Pinned >= 1 && g.inFlightForTest() == 0 })
}
