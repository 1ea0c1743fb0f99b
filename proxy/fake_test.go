package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"respmesh/proxy/poll"
	"respmesh/resp/command"
	"respmesh/resp/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tiny is a store of strings and lists, enough to see where a command was executed. Replicas apply the primary's
// writes at once unless they are held.
type tiny struct {
	mu        sync.Mutex
	changed   chan struct{}
	primary   bool
	state     StoreState
	replid    string
	offset    int64
	values    map[string]string
	lists     map[string][]string
	version   map[string]int
	executed  []string // names of commands that reached the store
	log       []func(*tiny)
	source    *tiny
	held      bool
	replicas  []*tiny
	subs      map[*tinyConn]map[string]bool
	tracked   map[string]map[*tinyConn]bool
	block     chan struct{} // while set, commands named in blockOn wait for it
	blockOn   string
	blocked   int          // commands that have come to wait for block
	onTracked func(string) // a GET has been remembered; its reply isn't out
	lost      []func()     // of the connections
}

func newTiny(primary bool) *tiny {
	return &tiny{
		changed: make(chan struct{}), primary: primary, replid: "one", values: map[string]string{}, lists: map[string][]string{},
		version: map[string]int{}, subs: map[*tinyConn]map[string]bool{},
		state: StoreState{Primary: primary, Usable: true, LastHeard: time.Now()},
	}
}

func (t *tiny) follow(p *tiny) *tiny {
	t.source = p
	p.replicas = append(p.replicas, t)
	return t
}

func (t *tiny) wakeLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *tiny) writeLocked(f func(*tiny)) {
	f(t)
	t.log = append(t.log, f)
	t.offset += 10
	t.wakeLocked()
	for _, r := range t.replicas {
		r.catchUp(t.log)
	}
}

func (t *tiny) catchUp(log []func(*tiny)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		return
	}
	for t.offset/10 < int64(len(log)) {
		log[t.offset/10](t)
		t.offset += 10
	}
	t.wakeLocked()
}

func (t *tiny) demote() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.primary, t.state.Primary = false, false
}

func (t *tiny) promote() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.primary, t.state.Primary = true, true
	t.state.Term++
	t.replid += "'"
}

func (t *tiny) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = true
}

func (t *tiny) release() {
	t.mu.Lock()
	t.held = false
	t.mu.Unlock()
	t.source.mu.Lock()
	defer t.source.mu.Unlock()
	t.catchUp(t.source.log)
}

func (t *tiny) setState(f func(*StoreState)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.state)
}

func (t *tiny) Position() (string, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.replid, t.offset
}

func (t *tiny) State() StoreState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

func (t *tiny) Wait(ctx context.Context, replid string, offset int64) error {
	for {
		t.mu.Lock()
		id, at, changed := t.replid, t.offset, t.changed
		t.mu.Unlock()
		if id != replid {
			return errors.New("other history")
		}
		if at >= offset {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (t *tiny) invalidate(k, name string) {
	for c := range t.tracked[k] {
		p := frame.AppendBulkString(frame.AppendPush(nil, 2, c.proto), "invalidate")
		c.push(frame.AppendBulkString(frame.AppendArray(p, 1), name))
	}
	delete(t.tracked, k)
}

func (t *tiny) count(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, e := range t.executed {
		if e == name {
			n++
		}
	}
	return n
}

func (t *tiny) NewConn(push func([]byte)) StoreConn { return &tinyConn{t: t, push: push, proto: 2} }

// OnLost implements Losable.
func (c *tinyConn) OnLost(f func()) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	c.t.lost = append(c.t.lost, f)
}

// lose takes away what the connections to the store had.
func (t *tiny) lose() {
	t.mu.Lock()
	lost := t.lost
	t.lost = nil
	t.mu.Unlock()
	for _, f := range lost {
		f()
	}
}

type tinyConn struct {
	t       *tiny
	push    func([]byte)
	proto   int
	db      int
	multi   bool
	dirty   bool
	queue   [][]string
	watched map[string]int
	tracks  bool
}

func (c *tinyConn) Close() error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	delete(c.t.subs, c)
	return nil
}

func (c *tinyConn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	for _, r := range reqs {
		args := make([]string, len(r.Args))
		for i, a := range r.Args {
			args[i] = string(a)
		}
		c.t.mu.Lock()
		block := c.t.block
		if !strings.EqualFold(args[0], c.t.blockOn) {
			block = nil
		}
		if block != nil {
			c.t.blocked++
		}
		c.t.mu.Unlock()
		if block != nil {
			<-block
		}
		if r.Spec != nil && !r.ArityOK(len(args)) {
			dst = frame.AppendError(dst, command.ArityError(r.Spec))
			continue
		}
		dst = c.one(ctx, dst, args)
	}
	return dst
}

func (c *tinyConn) one(ctx context.Context, dst []byte, args []string) []byte {
	name := strings.ToLower(args[0])
	c.t.mu.Lock()
	c.t.executed = append(c.t.executed, name)
	c.t.mu.Unlock()
	switch name {
	case "multi":
		if c.multi {
			return frame.AppendError(dst, "ERR MULTI calls can not be nested")
		}
		c.multi = true
		return frame.AppendSimple(dst, "OK")
	case "discard":
		c.multi, c.queue, c.watched, c.dirty = false, nil, nil, false
		return frame.AppendSimple(dst, "OK")
	case "exec":
		if !c.multi {
			return frame.AppendError(dst, "ERR EXEC without MULTI")
		}
		queue, dirty := c.queue, c.dirty
		stale := false
		c.t.mu.Lock()
		for k, v := range c.watched {
			stale = stale || c.t.version[k] != v
		}
		c.t.mu.Unlock()
		c.multi, c.queue, c.watched, c.dirty = false, nil, nil, false
		switch {
		case dirty:
			return frame.AppendError(dst, abortText)
		case stale:
			return frame.AppendNullArray(dst, c.proto)
		}
		dst = frame.AppendArray(dst, len(queue))
		for _, q := range queue {
			dst = c.run(ctx, dst, q)
		}
		return dst
	}
	if c.multi {
		if command.Lookup([][]byte{[]byte(name)}) == nil {
			c.dirty = true
			return frame.AppendError(dst, "ERR unknown command")
		}
		c.queue = append(c.queue, args)
		return frame.AppendSimple(dst, "QUEUED")
	}
	return c.run(ctx, dst, args)
}

func (c *tinyConn) key(k string) string { return strconv.Itoa(c.db) + "/" + k }

func (c *tinyConn) run(ctx context.Context, dst []byte, args []string) []byte {
	t := c.t
	name := strings.ToLower(args[0])
	if name == "blpop" {
		return c.blpop(ctx, dst, args)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.primary && slices.Contains([]string{"set", "incr", "rpush", "del", "flushall"}, name) {
		return frame.AppendError(dst, "READONLY You can't write against a read only replica.")
	}
	k := ""
	if len(args) > 1 {
		k = c.key(args[1])
	}
	switch name {
	case "client":
		if args[1] == "ID" {
			return frame.AppendInt(dst, 7)
		}
		c.tracks = strings.EqualFold(args[2], "on")
		for _, conns := range t.tracked {
			delete(conns, c)
		}
		return frame.AppendSimple(dst, "OK")
	case "get":
		if c.tracks {
			if t.tracked == nil {
				t.tracked = map[string]map[*tinyConn]bool{}
			}
			if t.tracked[k] == nil {
				t.tracked[k] = map[*tinyConn]bool{}
			}
			t.tracked[k][c] = true
			if t.onTracked != nil {
				t.onTracked(k)
			}
		}
		if v, ok := t.values[k]; ok {
			return frame.AppendBulkString(dst, v)
		}
		return frame.AppendNull(dst, c.proto)
	case "set":
		v := args[2]
		t.writeLocked(func(t *tiny) { t.values[k] = v; t.version[k]++; t.invalidate(k, args[1]) })
		return frame.AppendSimple(dst, "OK")
	case "incr":
		n, _ := strconv.Atoi(t.values[k])
		t.writeLocked(func(t *tiny) { t.values[k] = strconv.Itoa(n + 1); t.version[k]++ })
		return frame.AppendInt(dst, int64(n+1))
	case "rpush":
		v := args[2]
		t.writeLocked(func(t *tiny) { t.lists[k] = append(t.lists[k], v) })
		return frame.AppendInt(dst, int64(len(t.lists[k])))
	case "flushall":
		t.writeLocked(func(t *tiny) { clear(t.values) })
		return frame.AppendSimple(dst, "OK")
	case "dbsize":
		return frame.AppendInt(dst, int64(len(t.values)))
	case "watch":
		if c.watched == nil {
			c.watched = map[string]int{}
		}
		for _, a := range args[1:] {
			c.watched[c.key(a)] = t.version[c.key(a)]
		}
		return frame.AppendSimple(dst, "OK")
	case "unwatch":
		c.watched = nil
		return frame.AppendSimple(dst, "OK")
	case "select":
		c.db, _ = strconv.Atoi(args[1])
		return frame.AppendSimple(dst, "OK")
	case "hello":
		c.proto, _ = strconv.Atoi(args[1])
		return frame.AppendSimple(dst, "OK")
	case "subscribe", "unsubscribe":
		for _, ch := range args[1:] {
			if t.subs[c] == nil {
				t.subs[c] = map[string]bool{}
			}
			if name == "subscribe" {
				t.subs[c][ch] = true
			} else {
				delete(t.subs[c], ch)
			}
			dst = frame.AppendBulkString(frame.AppendBulkString(frame.AppendPush(dst, 3, c.proto), name), ch)
			dst = frame.AppendInt(dst, int64(len(t.subs[c])))
		}
		return dst
	case "move":
		if t.primary {
			to := args[2] + "/" + args[1]
			t.writeLocked(func(t *tiny) { t.values[to] = t.values[k]; delete(t.values, k) })
		}
		return frame.AppendInt(dst, 1)
	case "publish":
		ch, msg := args[1], args[2]
		t.writeLocked(func(t *tiny) {
			for s, chs := range t.subs {
				if chs[ch] {
					p := frame.AppendBulkString(frame.AppendPush(nil, 3, s.proto), "message")
					s.push(frame.AppendBulkString(frame.AppendBulkString(p, ch), msg))
				}
			}
		})
		return frame.AppendInt(dst, 0)
	case "evalsha_ro":
		if !t.primary {
			return frame.AppendError(dst, "NOSCRIPT No matching script. Please use EVAL.")
		}
		return frame.AppendBulkString(dst, "ran")
	case "big":
		n, _ := strconv.Atoi(args[1])
		return frame.AppendBulk(dst, make([]byte, n))
	}
	return frame.AppendError(dst, "ERR unknown command '"+name+"'")
}

func (c *tinyConn) blpop(ctx context.Context, dst []byte, args []string) []byte {
	t, k := c.t, c.key(args[1])
	for {
		t.mu.Lock()
		if l := t.lists[k]; len(l) > 0 {
			t.writeLocked(func(t *tiny) { t.lists[k] = t.lists[k][1:] })
			t.mu.Unlock()
			return frame.AppendBulkString(frame.AppendBulkString(frame.AppendArray(dst, 2), args[1]), l[0])
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return frame.AppendNullArray(dst, c.proto)
		case <-changed:
		}
	}
}

// fakeMesh reaches the LinkServers of other nodes over loopback.
type fakeMesh struct {
	mu      sync.Mutex
	changed chan struct{}
	dial    map[string]func(context.Context) (net.Conn, error)
	rtt     map[string]time.Duration // absent: unreachable
	dials   int
}

func newFakeMesh() *fakeMesh {
	return &fakeMesh{changed: make(chan struct{}), dial: map[string]func(context.Context) (net.Conn, error){}, rtt: map[string]time.Duration{}}
}

func (m *fakeMesh) Dial(ctx context.Context, node string) (net.Conn, error) {
	m.mu.Lock()
	f := m.dial[node]
	m.dials++
	m.mu.Unlock()
	if f == nil {
		return nil, errors.New("no route")
	}
	return f(ctx)
}

func (m *fakeMesh) RTT(node string) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.rtt[node]
	return d, ok
}

func (m *fakeMesh) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *fakeMesh) set(node string, rtt time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rtt < 0 {
		delete(m.rtt, node)
	} else {
		m.rtt[node] = rtt
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

type fakeSource struct{ t *Topology }

func (s fakeSource) Current() (*Topology, <-chan struct{}) { return s.t, nil }

// house is a mesh of nodes with their stores; the first holds the primary.
type house struct {
	t      *testing.T
	topo   *Topology
	stores map[string]*tiny
	addr   map[string]string
}

// newHouse starts link servers: names with a trailing '-' have no store.
func newHouse(t *testing.T, nodes ...string) *house {
	h := &house{t: t, topo: &Topology{Revision: 1}, stores: map[string]*tiny{}, addr: map[string]string{}}
	for i, n := range nodes {
		name, bare := strings.CutSuffix(n, "-")
		h.topo.Members = append(h.topo.Members, Member{Node: name, Region: "r" + name, Replica: !bare && i > 0})
		if i == 0 {
			h.topo.Primary = name
		}
		if bare {
			continue
		}
		st := newTiny(i == 0)
		if i > 0 {
			st.follow(h.stores[h.topo.Primary])
		}
		h.stores[name] = st
		h.addr[name] = serveLinks(t, st)
	}
	return h
}

func serveLinks(t *testing.T, st Store) string {
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	ls := NewLinkServer(LinkOptions{Lookup: func(org, db string) (Store, bool) { return st, org == "o" && db == "d" }})
	go func() { defer close(done); ls.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return ln.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func (h *house) mesh(self string) *fakeMesh {
	m := newFakeMesh()
	rtt := 20 * time.Millisecond
	for _, member := range h.topo.Members {
		if addr := h.addr[member.Node]; addr != "" && member.Node != self {
			m.dial[member.Node] = func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			}
			m.rtt[member.Node] = rtt
			rtt -= 5 * time.Millisecond
		}
	}
	return m
}

// gateway starts a gateway of a node and returns it with its address.
func (h *house) gateway(self string, mesh *fakeMesh, change func(*Options)) (*Gateway, string) {
	h.t.Helper()
	opt := Options{Org: "o", Database: "d", Node: self, Region: "r" + self, Mesh: mesh, Source: fakeSource{h.topo},
		Log: slog.New(slog.DiscardHandler), StatusEvery: 20 * time.Millisecond, LostTimeout: time.Millisecond}
	if st := h.stores[self]; st != nil {
		opt.Store = st
	}
	loops, err := poll.Start(1)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(loops.Close)
	opt.Loops = loops
	if change != nil {
		change(&opt)
	}
	g, err := New(opt)
	if err != nil {
		h.t.Fatal(err)
	}
	return g, serve(h.t, g)
}

func serve(t testing.TB, g *Gateway) string {
	ln := listen(t)
	done := make(chan error, 1)
	go func() { done <- g.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// client speaks RESP as text: replies come as the lines of the frame joined by spaces.
type testClient struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func connect(t testing.TB, addr string) *testClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &testClient{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (c *testClient) send(lines ...string) {
	c.t.Helper()
	var b []byte
	for _, l := range lines {
		b = frame.AppendCommandString(b, strings.Fields(l)...)
	}
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testClient) recv() string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	s, err := readText(c.r)
	if err != nil {
		c.t.Fatalf("reply: %v", err)
	}
	return s
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
		open := map[byte]string{'*': "[", '>': ">[", '~': "~[", '%': "%["}[line[0]]
		return open + strings.Join(parts, " ") + "]", nil
	case '_':
		return "nil", nil
	case ':', '+':
		return line[1:], nil
	}
	return line, nil
}

func (c *testClient) do(line string) string {
	c.t.Helper()
	c.send(line)
	return c.recv()
}

func (c *testClient) want(line, want string) {
	c.t.Helper()
	if got := c.do(line); got != want {
		c.t.Fatalf("%s: got %q, want %q", line, got, want)
	}
}

func (c *testClient) wants(replies ...string) {
	c.t.Helper()
	for i, w := range replies {
		if got := c.recv(); got != w {
			c.t.Fatalf("reply %d: got %q, want %q", i, got, w)
		}
	}
}

// closed waits for the end of the connection.
func (c *testClient) closed() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, c.r); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		c.t.Fatal("the connection stays open")
	}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
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

// nullStore answers everything with the same value, at no cost.
type nullStore struct{}

func (nullStore) NewConn(func([]byte)) StoreConn            { return nullConn{} }
func (nullStore) Position() (string, int64)                 { return "one", 1 }
func (nullStore) Wait(context.Context, string, int64) error { return nil }
func (nullStore) State() StoreState                         { return StoreState{Primary: true, Usable: true} }

type nullConn struct{}

func (nullConn) Do(_ context.Context, dst []byte, reqs []command.Request) []byte {
	for range reqs {
		dst = append(dst, "$5\r\nvalue\r\n"...)
	}
	return dst
}
func (nullConn) Close() error { return nil }
