package proxy

import (
	"context"
	"sync"
	"testing"
	"time"
)

// liveSource is a topology that changes.
type liveSource struct {
	mu      sync.Mutex
	t       *Topology
	changed chan struct{}
}

func newLiveSource(t *Topology) *liveSource { return &liveSource{t: t, changed: make(chan struct{})} }

func (s *liveSource) Current() (*Topology, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.t, s.changed
}

// change publishes another topology.
func (s *liveSource) change(f func(*Topology)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.t
	next.Revision++
	f(&next)
	s.t = &next
	close(s.changed)
	s.changed = make(chan struct{})
}

func setStore(t *testing.T, g *Gateway, st Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := g.SetStore(ctx, st); err != nil {
		t.Fatal(err)
	}
}

func TestStoreComesAndGoesUnderSessions(t *testing.T) {
	h := newHouse(t, "a", "b-")
	src := newLiveSource(h.topo)
	g, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.Source = src })
	c, idle := connect(t, addr), connect(t, addr)
	c.want("SET k v", "OK")
	c.want("GET k", "v")
	b := newTiny(false)
	b.values["0/k"] = "v"
	_, b.offset = h.stores["a"].Position()
	b.log = append(b.log, h.stores["a"].log...)
	src.change(func(t *Topology) {
		t.Members = []Member{t.Members[0], {Node: "b", Region: "rb", Replica: true}}
	})
	h.stores["a"].mu.Lock()
	b.follow(h.stores["a"])
	h.stores["a"].mu.Unlock()
	setStore(t, g, b)
	before := h.stores["a"].count("get")
	c.want("GET k", "v")
	c.want("SET k w", "OK")
	c.want("GET k", "w")
	idle.want("GET k", "w")
	if n := h.stores["a"].count("get"); n != before || b.count("get") != 3 {
		t.Errorf("reads: %d at the primary, %d here", n-before, b.count("get"))
	}
	sub, waits := connect(t, addr), connect(t, addr)
	sub.want("SUBSCRIBE ch", "[subscribe ch 1]")
	b.mu.Lock()
	b.block, b.blockOn = make(chan struct{}), "xread"
	b.mu.Unlock()
	waits.send("XREAD BLOCK 0 STREAMS s $")
	eventually(t, "a session waits in the store", func() bool {
		n := 0
		for _, s := range g.snapshot() {
			if s.tied.Load() != nil {
				n++
			}
		}
		return n == 2
	})

	close(b.block)
	waits.recv()
	src.change(func(t *Topology) { t.Members = []Member{t.Members[0], {Node: "b", Region: "rb"}} })
	setStore(t, g, nil)
	sub.wants("-" + storeGone)
	sub.closed()
	c.want("GET k", "w")
	idle.want("GET k", "w")
	if h.stores["a"].count("get") != before+2 {
		t.Error("reads don't go to the primary")
	}
	eventually(t, "no session has the old store", func() bool {
		n := 0
		for _, s := range g.snapshot() {
			s.using.Lock()
			if s.scOf != nil {
				n++
			}
			s.using.Unlock()
		}
		return n == 0
	})
}

// A transaction that was begun on another history of the data never half works.
func TestWatchOfAFormerPrimaryFailsTheTransaction(t *testing.T) {
	h := newHouse(t, "a", "b")
	src := newLiveSource(h.topo)
	g, addr := h.gateway("a", h.mesh("a"), func(o *Options) { o.Source = src })
	c := connect(t, addr)
	c.want("WATCH k", "OK")
	h.stores["a"].demote()
	h.stores["b"].promote()
	src.change(func(t *Topology) {
		t.Primary = "b"
		t.Members = []Member{{Node: "a", Region: "ra", Replica: true}, {Node: "b", Region: "rb"}}
	})
	eventually(t, "b is the primary", func() bool { return g.Status().Primary == "b" })
	c.want("MULTI", "OK")
	c.do("SET k v")
	c.want("EXEC", "-"+abortText)
	c.want("SET k w", "OK")
	if h.stores["b"].count("set") != 1 {
		t.Error("the transaction was executed")
	}
}

func TestSettingsApplyToSessionsThatAreOpen(t *testing.T) {
	h := newHouse(t, "a", "b")
	src := newLiveSource(h.topo)
	g, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.Source = src })
	c := connect(t, addr)
	c.want("GET k", "nil")
	src.change(func(t *Topology) { t.Settings.PasswordHash = HashPassword("secret") })
	eventually(t, "a password is asked for", func() bool { return connect(t, addr).do("GET k") == "-NOAUTH Authentication required." })
	c.want("GET k", "nil")
	other := connect(t, addr)
	other.want("AUTH wrong", "-"+wrongPass)
	other.want("AUTH secret", "OK")
	other.want("GET k", "nil")

	h.stores["b"].setState(func(s *StoreState) { s.LastHeard = time.Now().Add(-time.Minute) })
	src.change(func(t *Topology) { t.Settings.MaxLag = time.Second })
	eventually(t, "the copy here is too old", func() bool { return g.Status().ReadsFrom == "a" })
	src.change(func(t *Topology) { t.Settings.MaxLag = 0 })
	eventually(t, "it no longer is", func() bool { return g.Status().ReadsFrom == "b" })

	src.change(func(t *Topology) { t.Settings.MaxSessions = 1 })
	eventually(t, "no more sessions", func() bool { return connect(t, addr).do("PING") == "-ERR max number of clients reached" })
	c.want("GET k", "nil")
}
