package proxy

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gate holds back what comes from a node while it is shut.
type gate struct {
	mu   sync.Mutex
	open sync.Cond
	shut bool
	held []byte // what came since it was shut
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	g.shut, g.held = shut, nil
	g.mu.Unlock()
	g.open.Broadcast()
}

// holds says whether something has come that is held back.
func (g *gate) holds(text string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return bytes.Contains(g.held, []byte(text))
}

type gatedConn struct {
	net.Conn
	g *gate
}

func (c gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	if c.g.shut {
		c.g.held = append(c.g.held, p[:n]...)
	}
	for c.g.shut && err == nil {
		c.g.open.Wait()
	}
	return n, err
}

func gateConn(t *testing.T, m *fakeMesh, node string) *gate {
	g := &gate{}
	g.open.L = &g.mu
	dial := m.dial[node]
	m.dial[node] = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return gatedConn{conn, g}, nil
	}
	t.Cleanup(func() { g.set(false) })
	return g
}

// hedging is a node without a copy between two replicas, of which the nearer one can be made slow.
func hedging(t *testing.T, hedge time.Duration) (h *house, near *gate, addr string, hedged func(outcome string) int) {
	h = newHouse(t, "a", "b-", "c", "d")
	h.topo.Settings.Hedge = hedge
	m := h.mesh("b")
	m.rtt["d"], m.rtt["c"] = 2*time.Millisecond, 5*time.Millisecond
	near = gateConn(t, m, "d")
	reg := prometheus.NewRegistry()
	metrics, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	_, addr = h.gateway("b", m, func(o *Options) { o.Metrics = metrics; o.LinksPerNode = 1 })
	c := connect(t, addr)
	eventually(t, "reads go to the nearest replica", func() bool {
		return strings.Contains(c.do("RESPMESH EXPLAIN GET k"), "node d ")
	})
	return h, near, addr, func(outcome string) (n int) {
		for _, f := range must(reg.Gather()) {
			for _, m := range f.GetMetric() {
				if f.GetName() == "respmesh_hedged_reads_total" && m.GetLabel()[1].GetValue() == outcome {
					n = int(m.GetCounter().GetValue())
				}
			}
		}
		return n
	}
}

func TestHedgedRead(t *testing.T) {
	h, near, addr, hedged := hedging(t, 3*time.Millisecond)
	c := connect(t, addr)
	c.want("SET k v", "OK")
	eventually(t, "the nearest replica has it", func() bool {
		return h.stores["d"].offset == 10 && c.do("GET k") == "v" && h.stores["d"].count("get") > 0
	})
	eventually(t, "the next one is known to have it", func() bool { // until then it is the primary that would be asked
		return strings.Contains(c.do("RESPMESH EXPLAIN GET k"), "hedge c after 5ms")
	})
	if got := c.do("RESPMESH EXPLAIN SET k v"); strings.Contains(got, "hedge") {
		t.Error(got)
	}
	sent, won := hedged("sent"), hedged("won")
	near.set(true)
	c.want("GET k", "v")
	c.want("GET k", "v")
	c.want("GET none", "nil")
	if s, w := hedged("sent")-sent, hedged("won")-won; s != 3 || w != 3 {
		t.Errorf("sent %d, won %d", s, w)
	}
	near.set(false) // what was late is dropped
	for i := range 20 {
		c.want("ECHO "+strconv.Itoa(i), strconv.Itoa(i))
		c.want("GET k", "v")
	}
}

func TestNotHedged(t *testing.T) {
	_, near, addr, hedged := hedging(t, 0)
	c := connect(t, addr)
	near.set(true)
	c.send("GET k")
	others := connect(t, addr)
	for i := range 50 { // time passes
		others.want("INCR n", strconv.Itoa(i+1))
	}
	near.set(false)
	c.wants("nil")
	if n := hedged("sent"); n != 0 {
		t.Errorf("%d hedges where none were asked for", n)
	}
}

// Invalidations come from the copy that was asked: who is to get them waits for it. Writes go once.
func TestNotHedgedForTracking(t *testing.T) {
	h, near, addr, hedged := hedging(t, time.Millisecond)
	c := connect(t, addr)
	c.do("HELLO 3")
	c.want("CLIENT TRACKING ON", "OK")
	c.do("GET k")
	near.set(true)
	sent := hedged("sent")
	c.send("GET k")
	others := connect(t, addr)
	for i := range 50 {
		others.want("INCR n", strconv.Itoa(i+1))
	}
	near.set(false)
	c.wants("nil")
	if n := hedged("sent") - sent; n != 0 {
		t.Errorf("%d hedges of tracked reads", n)
	}
	if n := h.stores["a"].count("incr"); n != 50 {
		t.Errorf("the primary got %d writes of 50", n)
	}
}

func TestHedgesAreBounded(t *testing.T) {
	h, near, addr, hedged := hedging(t, time.Millisecond)
	const reads = 400
	near.set(true)
	var clients []*testClient
	for range reads {
		c := connect(t, addr)
		c.send("GET k")
		clients = append(clients, c)
	}
	most := hedgeSaved + reads/hedgeCost
	eventually(t, "the allowance is used up", func() bool { return hedged("sent") >= hedgeSaved })
	near.set(false)
	for _, c := range clients {
		c.wants("nil")
	}
	if n := h.stores["c"].count("get"); n > most || n != hedged("sent") {
		t.Errorf("%d of %d reads were sent twice, %d were counted; at most %d may be", n, reads, hedged("sent"), most)
	}
}

// What a session sees never goes back, whichever copies are late and whichever are behind.
func TestHedgedReadsGoForward(t *testing.T) {
	h, near, addr, hedged := hedging(t, time.Millisecond)
	_, primary := h.gateway("a", h.mesh("a"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	w := connect(t, primary)
	wg.Go(func() { // each is late and behind now and then, independently
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			w.want("INCR n", strconv.Itoa(n+1))
			near.set(rand.IntN(3) == 0)
			for _, r := range []string{"c", "d"} {
				if rand.IntN(2) == 0 {
					h.stores[r].hold()
				} else {
					h.stores[r].release()
				}
			}
			<-tick.C
		}
		near.set(false)
	})
	var reads atomic.Int64
	var readers sync.WaitGroup
	for i := range 6 {
		readers.Go(func() {
			c := connect(t, addr)
			last := 0
			for reads.Load() < 8000 && !t.Failed() {
				burst := 1 + rand.IntN(1+2*i)
				for range burst {
					c.send("GET n")
				}
				for range burst {
					s := c.recv()
					n, _ := strconv.Atoi(s)
					if n < last {
						t.Errorf("reader %d saw %d after %d", i, n, last)
					}
					last = n
					reads.Add(1)
				}
			}
		})
	}
	readers.Wait()
	cancel()
	if hedged("won") == 0 {
		t.Error("no other copy was ever first")
	}
	t.Log("sent", hedged("sent"), "won", hedged("won"), "of", reads.Load())
}

// A slow replica doesn't make the slowest reads slow.
func TestHedgesCutTheTail(t *testing.T) {
	slowest := func(hedge time.Duration) time.Duration {
		_, near, addr, _ := hedging(t, hedge)
		c := connect(t, addr)
		var most time.Duration
		for i := range 100 {
			if i%20 == 19 { // such as a fork, or a retransmission
				near.set(true)
				if hedge == 0 { // else it is slow until there is an answer, which so is another's
					opens := time.AfterFunc(400*time.Millisecond, func() { near.set(false) })
					defer opens.Stop()
				}
			}
			began := time.Now()
			c.want("GET k", "nil")
			most = max(most, time.Since(began))
			if i%20 == 19 {
				near.set(false)
			}
		}
		return most
	}
	without, with := slowest(0), slowest(5*time.Millisecond)
	t.Log("slowest read:", without, "without,", with, "with")
	if without < 400*time.Millisecond {
		t.Errorf("without hedges the slow copy was waited for only %s", without)
	}
}
