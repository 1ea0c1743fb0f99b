// Package rules runs the rules of RESP proxying (see rules_test.go) against real engines in three regions: mad holds the
// primary, ams a replica 50 ms away, iad nothing.
package rules

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"respmesh/proxy"
	"respmesh/resp/frame"
	"respmesh/store/embedded"
	"respmesh/store/psync"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const rtt = 50 * time.Millisecond

// node is a region: its store, link server and gateway.
type node struct {
	name    string
	engine  *embedded.Engine // nil: no copy
	log     *psync.Log
	primary *psync.Primary
	replica *psync.Replica
	links   string // address of the link server
	gateway *proxy.Gateway
	metrics *prometheus.Registry
	addr    string // clients connect here
}

// NewConn and so on make a node a proxy.Store.
func (n *node) NewConn(push func([]byte)) proxy.StoreConn {
	return n.engine.NewConn(embedded.ConnOptions{Push: push})
}
func (n *node) Position() (string, int64) { return n.log.Position() }
func (n *node) Wait(ctx context.Context, replid string, offset int64) error {
	return n.log.Wait(ctx, replid, offset)
}
func (n *node) State() proxy.StoreState {
	if n.replica == nil {
		return proxy.StoreState{Primary: true, Usable: true}
	}
	st := n.replica.State()
	return proxy.StoreState{Usable: st.Phase != psync.Syncing && st.Phase != psync.Broken, LastHeard: st.LastHeard, Reason: "syncing"}
}

// house is the mesh, and the source of its topology.
type house struct {
	t     *testing.T
	nodes map[string]*node

	mu      sync.Mutex
	topo    *proxy.Topology
	changed chan struct{} // topology or reachability
	cut     map[string]bool
	conns   map[net.Conn]string                                // to the node
	paths   map[string]func(context.Context) (net.Conn, error) // "from to": instead of dial
}

func newHouse(t *testing.T, settings proxy.Settings) *house {
	t.Helper()
	h := &house{t: t, nodes: map[string]*node{}, changed: make(chan struct{}), cut: map[string]bool{}, conns: map[net.Conn]string{},
		paths: map[string]func(context.Context) (net.Conn, error){}}
	h.topo = &proxy.Topology{Revision: 1, Primary: "mad", Settings: settings, Members: []proxy.Member{
		{Node: "mad", Region: "mad"}, {Node: "ams", Region: "ams", Replica: true}, {Node: "iad", Region: "iad"}}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, name := range []string{"mad", "ams", "iad"} {
		h.nodes[name] = &node{name: name} // all, before any is looked up
	}
	for _, name := range []string{"mad", "ams"} {
		h.links(ctx, &wg, h.nodes[name])
	}
	for _, name := range []string{"mad", "ams", "iad"} {
		h.serve(ctx, &wg, h.nodes[name])
	}
	eventually(t, "the replica is in sync", func() bool { return h.nodes["ams"].replica.State().Phase == psync.Online })
	eventually(t, "iad reads from ams", func() bool { return h.nodes["iad"].gateway.Status().ReadsFrom == "ams" })
	eventually(t, "ams reads from ams", func() bool { return h.nodes["ams"].gateway.Status().ReadsFrom == "ams" })
	return h
}

func (h *house) store(ctx context.Context, wg *sync.WaitGroup, n *node) {
	n.log = psync.NewLog(1 << 20)
	n.engine = embedded.New(embedded.Options{HashSeed: 7, Replica: n.name == "ams", Forwards: true, Sink: n.log,
		Await: func(ctx context.Context, replicas int) int {
			_, offset := n.log.Position()
			return n.primary.Await(ctx, offset, replicas)
		}})
	n.primary = psync.NewPrimary(psync.PrimaryOptions{Log: n.log, Source: n.engine, SpoolDir: h.t.TempDir()})
	if n.name == "ams" {
		n.replica = psync.NewReplica(psync.ReplicaOptions{Log: n.log, Target: n.engine, Pipeline: true, Dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := h.dial(ctx, "mad")
			if err != nil {
				return nil, err
			}
			if _, err = conn.Write(frame.AppendCommandString(nil, "RESPMESH", "REPLICATE", "o/d")); err == nil {
				_, err = io.ReadFull(conn, make([]byte, len("+OK\r\n")))
			}
			return conn, err
		}})
		wg.Go(func() { n.replica.Run(ctx) })
	}
	h.t.Cleanup(func() { n.engine.Close() })
}

func (h *house) listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	return ln
}

func (h *house) links(ctx context.Context, wg *sync.WaitGroup, n *node) {
	h.store(ctx, wg, n)
	ln := h.listen()
	n.links = ln.Addr().String()
	ls := proxy.NewLinkServer(proxy.LinkOptions{
		Lookup: func(string, string) (proxy.Store, bool) { return n, true },
		Replicate: func(ctx context.Context, _, _ string, conn net.Conn, r *frame.Reader) error {
			return n.primary.ServeConn(ctx, conn, r)
		}})
	wg.Go(func() { ls.Serve(ctx, ln) })
}

func (h *house) serve(ctx context.Context, wg *sync.WaitGroup, n *node) {
	var store proxy.Store
	if n.engine != nil {
		store = n
	}
	n.metrics = prometheus.NewRegistry()
	metrics, err := proxy.NewMetrics(n.metrics)
	if err != nil {
		h.t.Fatal(err)
	}
	g, err := proxy.New(proxy.Options{Metrics: metrics, Org: "o", Database: "d", Node: n.name, Region: n.name, Store: store,
		Mesh: meshOf{h, n.name}, Source: h, StatusEvery: 20 * time.Millisecond, StallTimeout: 2 * time.Second})
	if err != nil {
		h.t.Fatal(err)
	}
	ln := h.listen()
	n.gateway, n.addr = g, ln.Addr().String()
	wg.Go(func() { g.Serve(ctx, ln) })
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		g.Close(ctx)
	})
}

// Current implements proxy.Source.
func (h *house) Current() (*proxy.Topology, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topo, h.changed
}

// change publishes other settings.
func (h *house) change(f func(*proxy.Settings)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := *h.topo
	next.Revision++
	f(&next.Settings)
	h.topo = &next
	close(h.changed)
	h.changed = make(chan struct{})
}

// reach cuts a node off, or connects it again. A black hole takes what is sent and says nothing: only probes notice.
func (h *house) reach(name string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut[name] = !ok
	for c, to := range h.conns {
		if to == name && !ok {
			c.Close()
		}
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

type meshOf struct {
	h    *house
	self string
}

func (m meshOf) RTT(to string) (time.Duration, bool) {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	if m.h.cut[to] || m.h.cut[m.self] {
		return 0, false
	}
	if m.self == "iad" && to == "ams" {
		return rtt / 2, true
	}
	return rtt, true
}

func (m meshOf) Changed() <-chan struct{} {
	_, changed := m.h.Current()
	return changed
}

func (m meshOf) Dial(ctx context.Context, to string) (net.Conn, error) {
	m.h.mu.Lock()
	path := m.h.paths[m.self+" "+to]
	if m.h.cut[to] {
		path = nil
	}
	m.h.mu.Unlock()
	if path != nil {
		return path(ctx)
	}
	return m.h.dial(ctx, to)
}

// dial connects to a node's link server over a path that takes half the round-trip time in each direction.
func (h *house) dial(ctx context.Context, to string) (net.Conn, error) {
	h.mu.Lock()
	cut := h.cut[to]
	h.mu.Unlock()
	if cut {
		return nil, errors.New("no route")
	}
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.nodes[to].links)
	if err != nil {
		return nil, err
	}
	near, middle := net.Pipe()
	go pump(far, middle)
	go pump(middle, far)
	h.mu.Lock()
	h.conns[near] = to
	h.mu.Unlock()
	return near, nil
}

type packet struct {
	due time.Time
	b   []byte
}

// pump carries bytes from src to dst, each after half the round-trip time.
func pump(dst io.WriteCloser, src io.ReadCloser) {
	queue := make(chan packet, 1<<16)
	go func() {
		defer close(queue)
		for {
			b := make([]byte, 16<<10)
			n, err := src.Read(b)
			if n > 0 {
				queue <- packet{time.Now().Add(rtt / 2), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range queue {
		<-time.After(time.Until(p.due))
		if _, err := dst.Write(p.b); err != nil {
			src.Close()
		}
	}
	dst.Close()
}

// client speaks RESP as text: replies come as the lines of the frame joined by spaces.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (h *house) connect(node string) *client {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.nodes[node].addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return &client{h.t, conn, bufio.NewReader(conn)}
}

// send sends commands, whose words are separated by spaces, in one piece.
func (c *client) send(lines ...string) {
	c.t.Helper()
	var b []byte
	for _, l := range lines {
		b = frame.AppendCommandString(b, strings.Fields(l)...)
	}
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) recv() string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	s, err := readText(c.r)
	if err != nil {
		c.t.Fatalf("reply: %v", err)
	}
	return s
}

func (c *client) do(line string) string {
	c.t.Helper()
	c.send(line)
	return c.recv()
}

func (c *client) want(line, want string) {
	c.t.Helper()
	if got := c.do(line); got != want {
		c.t.Fatalf("%s: %q, want %q", line, got, want)
	}
}

func (c *client) wants(replies ...string) {
	c.t.Helper()
	for i, want := range replies {
		if got := c.recv(); got != want {
			c.t.Fatalf("reply %d: %q, want %q", i, got, want)
		}
	}
}

// begins is want for replies of which only the beginning is known.
func (c *client) begins(line, want string) {
	c.t.Helper()
	if got := c.do(line); !strings.HasPrefix(got, want) {
		c.t.Fatalf("%s: %q, want %q…", line, got, want)
	}
}

func (c *client) closed() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c.r); err != nil {
		if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			c.t.Fatal("the connection stays open")
		}
	}
}

func readText(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$', '=':
		if n < 0 {
			return "nil", nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(r, b)
		return string(b[:n]), err
	case '*', '>', '~', '%':
		if n < 0 {
			return "nil", nil
		}
		if line[0] == '%' {
			n *= 2
		}
		parts := make([]string, n)
		for i := range parts {
			if parts[i], err = readText(r); err != nil {
				return "", err
			}
		}
		return strings.TrimPrefix(line[:1], "*") + "[" + strings.Join(parts, " ") + "]", nil
	case '_':
		return "nil", nil
	case ':', '+', ',':
		return line[1:], nil
	}
	return line, nil
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}
