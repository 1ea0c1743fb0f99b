package proxy

import (
	"context"
	"net"
	"testing"
	"time"
)

const (
	downReply    = "-MASTERDOWN primary region ra is unreachable; the command was not executed"
	unknownReply = "-UNKNOWNOUTCOME link to primary region ra was lost after the command was sent"
)

// scripted is a gateway on b, with a store that follows nothing, whose primary a is a scripted peer.
func scripted(t *testing.T, p *peer, change func(*Options)) (*Gateway, string, *fakeMesh) {
	h := newHouse(t, "a-", "b-")
	m := newFakeMesh()
	m.dial["a"] = p.dial
	m.rtt["a"] = time.Millisecond
	g, addr := h.gateway("b", m, change)
	return g, addr, m
}

// Writes are executed at most once, and the client is told what is known, wherever the link breaks.
func TestOutcomeOfWrites(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stopAt string
		extra  int
		want   []string
	}{
		{"no byte of the first", "*3\r\n$3\r\nSET\r\n$2\r\nk1", 0, []string{downReply, downReply}},
		{"one byte of the first", "*3\r\n$3\r\nSET\r\n$2\r\nk1", 1, []string{unknownReply, downReply}},
		{"all of the first", "*3\r\n$3\r\nSET\r\n$2\r\nk2", 0, []string{unknownReply, downReply}},
		{"one byte of the second", "*3\r\n$3\r\nSET\r\n$2\r\nk2", 1, []string{unknownReply, unknownReply}},
		{"everything", "", 0, []string{unknownReply, unknownReply}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &peer{stopAt: tt.stopAt, extra: tt.extra}
			_, addr, m := scripted(t, p, nil)
			c := connect(t, addr)
			c.send("SET k1 v", "SET k2 v")
			if tt.stopAt == "" {
				eventually(t, "both sent", func() bool { return p.count("set") == 2 })
			} else {
				eventually(t, "link stopped", func() bool { return p.saw("stopped") })
			}
			m.set("a", -1)
			c.wants(tt.want...)
			before := p.count("set")
			c.want("SET k3 v", downReply)
			c.want("GET k", downReply)
			p.mu.Lock()
			p.stopAt = ""
			p.answer = func(string, [][]byte) []byte { return []byte("+OK\r\n") }
			p.mu.Unlock()
			m.set("a", time.Millisecond)
			eventually(t, "recovery", func() bool { return c.do("SET k4 v") == "OK" })
			if n := p.count("set"); n != before+1 {
				t.Errorf("%d writes reached the primary after the cut", n-before)
			}
		})
	}
}

func TestDialBounded(t *testing.T) {
	h := newHouse(t, "a-", "b-")
	m := newFakeMesh()
	m.dial["a"] = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	m.rtt["a"] = time.Millisecond
	_, addr := h.gateway("b", m, func(o *Options) { o.DialTimeout = 20 * time.Millisecond })
	connect(t, addr).want("SET k v", downReply)
}

func TestStalledLinkIsGivenUp(t *testing.T) {
	p := &peer{}
	_, addr, _ := scripted(t, p, func(o *Options) { o.StallTimeout = 50 * time.Millisecond; o.StatusEvery = time.Hour })
	connect(t, addr).want("SET k v", unknownReply)
}

func TestReadsAreTriedElsewhere(t *testing.T) {
	t.Run("replica lost", func(t *testing.T) {
		h := newHouse(t, "a", "c-", "b-")
		h.topo.Members[1].Replica = true
		p := &peer{}
		m := h.mesh("b")
		m.dial["c"], m.rtt["c"] = p.dial, time.Millisecond
		g, addr := h.gateway("b", m, nil)
		eventually(t, "c usable", func() bool { return g.Status().ReadsFrom == "c" })
		c := connect(t, addr)
		c.send("GET k")
		eventually(t, "read sent", func() bool { return p.saw("get") })
		m.set("c", -1)
		c.wants("nil")
		if h.stores["a"].count("get") != 1 {
			t.Error("not served by the primary")
		}
	})
	t.Run("replica loading", func(t *testing.T) {
		h := newHouse(t, "a", "c", "b-")
		m := h.mesh("b")
		g, addr := h.gateway("b", m, func(o *Options) { o.StatusEvery = time.Hour })
		eventually(t, "c usable", func() bool { return g.Status().ReadsFrom == "c" })
		h.stores["c"].setState(func(s *StoreState) { s.Usable = false })
		c := connect(t, addr)
		c.want("GET k", "nil")
		if h.stores["a"].count("get") != 1 {
			t.Error("not served by the primary")
		}
	})
	t.Run("local store dead", func(t *testing.T) {
		h := newHouse(t, "a", "c", "b")
		g, addr := h.gateway("b", h.mesh("b"), nil)
		c := connect(t, addr)
		c.want("SET k v", "OK")
		c.want("GET k", "v")
		h.stores["b"].setState(func(s *StoreState) { s.Usable = false })
		eventually(t, "reads from c", func() bool { return g.Status().ReadsFrom == "c" })
		c.want("GET k", "v")
		if h.stores["c"].count("get") != 1 {
			t.Error("not served by the next nearest")
		}
	})
}

func TestCutOffRegionGoesOnReading(t *testing.T) {
	h := newHouse(t, "a", "b")
	m := h.mesh("b")
	g, addr := h.gateway("b", m, nil)
	c := connect(t, addr)
	c.want("SET k v", "OK")
	h.stores["b"].hold()
	c.want("SET k w", "OK")
	m.set("a", -1)
	eventually(t, "loss seen", func() bool { return !g.Status().PrimaryReachable && g.Status().Links == 0 })
	c.want("SET k x", downReply)
	c.want("GET other", "nil")
	c.want("GET k", "v") // neither copy can be had: the local one as it is
	c.want("MULTI", "OK")
	c.want("SET k y", "QUEUED")
	c.want("EXEC", downReply)
	c.want("BLPOP l 0", downReply)
	m.set("a", time.Millisecond)
	h.stores["b"].release()
	eventually(t, "recovery", func() bool { return c.do("SET k z") == "OK" })
	c.want("GET k", "z")
}

// A primary that doesn't lead, and stays so, executed nothing: the client is told that, not that it reached a replica.
func TestReadonlyOfStoreIsNotPassedOn(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.stores["a"].mu.Lock()
	h.stores["a"].primary = false
	h.stores["a"].mu.Unlock()
	_, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.SwitchTimeout = 50 * time.Millisecond })
	connect(t, addr).want("SET k v", downReply)
}

// A replica that can't be dialled is no reason to fail a read.
func TestReplicaGoneAtThisMoment(t *testing.T) {
	h := newHouse(t, "a", "b", "c-")
	m := h.mesh("c")
	g, addr := h.gateway("c", m, func(o *Options) { o.StatusEvery = time.Hour })
	eventually(t, "b usable for c", func() bool { return g.Status().ReadsFrom == "b" })
	c := connect(t, addr)
	c.want("GET k", "nil")
	m.mu.Lock()
	delete(m.rtt, "b") // and nobody is told
	m.mu.Unlock()
	g.linkMu.Lock()
	for l := range g.open {
		if l.remote.node == "b" {
			l.close(errGone)
		}
	}
	g.linkMu.Unlock()
	c.want("GET k", "nil")
}
