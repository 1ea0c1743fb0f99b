package psync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/psync"
	"respmesh/store/rdb"
)

const patience = 20 * time.Second

// memory is the smallest engine that tells right from wrong: INCR and APPEND
// show a command that was applied twice or not at all, SELECT a lost database.
type memory struct {
	log *psync.Log

	mu   sync.Mutex
	data map[int]map[string]string
	db   int  // of the stream
	tx   bool // in a MULTI of the stream

	snapshots  atomic.Int32
	onSnapshot func() // between the moment and the end of a snapshot
	onRestore  func() error
}

func newMemory(log *psync.Log) *memory {
	return &memory{log: log, data: map[int]map[string]string{}}
}

// do changes the data as a primary's client would.
func (m *memory) do(cmds ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []byte
	for _, c := range cmds {
		args := strings.Fields(c)
		raw := make([][]byte, len(args))
		for i := range args {
			raw[i] = []byte(args[i])
		}
		_ = m.execute(raw) // what isn't known goes into the stream all the same
		out = frame.AppendCommand(out, raw...)
	}
	m.log.Append(out)
}

func (m *memory) execute(args [][]byte) error {
	db := m.data[m.db]
	if db == nil {
		db = map[string]string{}
		m.data[m.db] = db
	}
	key := ""
	if len(args) > 1 {
		key = string(args[1])
	}
	name := strings.ToLower(string(args[0]))
	if (name == "set" || name == "append") && len(args) < 3 {
		return errors.New("wrong number of arguments")
	}
	switch name {
	case "select":
		m.db, _ = strconv.Atoi(key)
	case "set":
		db[key] = string(args[2])
	case "append":
		db[key] += string(args[2])
	case "incr":
		n, _ := strconv.Atoi(db[key])
		db[key] = strconv.Itoa(n + 1)
	case "del":
		delete(db, key)
	case "flushall":
		m.data = map[int]map[string]string{}
	case "multi":
		if m.tx {
			return errors.New("MULTI in MULTI")
		}
		m.tx = true
	case "exec":
		if !m.tx {
			return errors.New("EXEC without MULTI")
		}
		m.tx = false
	case "ping":
	default:
		return fmt.Errorf("unknown command %q", args[0])
	}
	return nil
}

func (m *memory) ApplyThen(reqs []command.Request, then func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, q := range reqs {
		if err := m.execute(q.Args); err != nil {
			return err
		}
	}
	if m.tx {
		return errors.New("transaction cut in two")
	}
	then()
	return nil
}

func (m *memory) Snapshot(w io.Writer, at func()) error {
	m.snapshots.Add(1)
	m.mu.Lock()
	at()
	data := map[int]map[string]string{}
	for n, db := range m.data {
		data[n] = maps.Clone(db)
	}
	db := m.db
	m.mu.Unlock()
	if m.onSnapshot != nil {
		m.onSnapshot()
	}
	rw := rdb.NewWriter(w, rdb.Aux{Key: "repl-stream-db", Value: strconv.Itoa(db)})
	for n, db := range data {
		_ = rw.SelectDB(n, len(db), 0)
		for k, v := range db {
			_ = rw.WriteString([]byte(k), 0, []byte(v))
		}
	}
	return rw.Close()
}

func (m *memory) Restore(r io.Reader) error {
	if m.onRestore != nil {
		if err := m.onRestore(); err != nil {
			return err
		}
	}
	data := map[int]map[string]string{}
	in := rdb.NewReader(r)
	for {
		e, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if data[e.DB] == nil {
			data[e.DB] = map[string]string{}
		}
		s, ok := e.Value.(rdb.String)
		if !ok {
			return fmt.Errorf("restore: %T", e.Value)
		}
		data[e.DB][string(e.Key)] = string(s)
	}
	db, _ := in.Aux("repl-stream-db")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data, m.tx = data, false
	m.db, _ = strconv.Atoi(db)
	return nil
}

func (m *memory) get(db int, key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data[db][key]
}

// equal compares without empty databases.
func (m *memory) equal(o *memory) bool {
	dump := func(m *memory) map[int]map[string]string {
		m.mu.Lock()
		defer m.mu.Unlock()
		out := map[int]map[string]string{}
		for n, db := range m.data {
			if len(db) > 0 {
				out[n] = maps.Clone(db)
			}
		}
		return out
	}
	return maps.EqualFunc(dump(m), dump(o), maps.Equal)
}

// node is a store with both sides of the protocol.
type node struct {
	t    *testing.T
	log  *psync.Log
	mem  *memory // nil on a node with another engine
	into psync.Target
	prim *psync.Primary
	addr string

	mu    sync.Mutex
	up    bool
	conns map[net.Conn]bool
}

// newNode starts a node that serves replicas on a loopback port.
func newNode(t *testing.T, backlog int, tune ...func(*psync.PrimaryOptions)) *node {
	t.Helper()
	log := psync.NewLog(backlog)
	mem := newMemory(log)
	n := newNodeOn(t, log, mem, tune...)
	n.mem = mem
	return n
}

type engine interface {
	psync.Source
	psync.Target
}

func newNodeOn(t *testing.T, log *psync.Log, e engine, tune ...func(*psync.PrimaryOptions)) *node {
	t.Helper()
	n := &node{t: t, log: log, into: e, up: true, conns: map[net.Conn]bool{}}
	opt := psync.PrimaryOptions{Log: log, Source: e, PingEvery: 50 * time.Millisecond, SpoolDir: t.TempDir()}
	for _, f := range tune {
		f(&opt)
	}
	n.prim = psync.NewPrimary(opt)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.serve(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		wg.Wait()
	})
	return n
}

func (n *node) serve(ctx context.Context, conn net.Conn) {
	n.mu.Lock()
	up := n.up
	n.conns[conn] = true
	n.mu.Unlock()
	if !up {
		_ = conn.Close()
		return
	}
	_ = n.prim.ServeConn(ctx, conn, frame.NewReader(conn))
	n.mu.Lock()
	delete(n.conns, conn)
	n.mu.Unlock()
}

// cut ends all connections to the node; with up false it takes no new ones.
func (n *node) cut(up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up = up
	for c := range n.conns {
		_ = c.Close()
	}
}

func (n *node) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", n.addr)
}

// follow makes the node a replica of another until the returned function.
func (n *node) follow(dial func(context.Context) (net.Conn, error), tune ...func(*psync.ReplicaOptions)) (*psync.Replica, func() error) {
	n.t.Helper()
	opt := psync.ReplicaOptions{Log: n.log, Target: n.into, Dial: dial, RetryMin: time.Millisecond,
		RetryMax: 10 * time.Millisecond, AckEvery: 50 * time.Millisecond, AckDelay: time.Millisecond}
	for _, f := range tune {
		f(&opt)
	}
	r := psync.NewReplica(opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	n.t.Cleanup(func() { _ = stop() })
	return r, stop
}

// until waits for a phase.
func until(t *testing.T, r *psync.Replica, phase psync.Phase) psync.ReplicaState {
	t.Helper()
	timeout := time.After(patience)
	for {
		changed := r.Changed()
		st := r.State()
		if st.Phase == phase {
			return st
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("still %v (%v), not %v", st.Phase, st.Err, phase)
		}
	}
}

// caughtUp waits until b has everything of a, and compares.
func caughtUp(t *testing.T, a, b *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	replid, offset := a.log.Position()
	for {
		err := b.log.Wait(ctx, replid, offset)
		if err == nil {
			break
		}
		if !errors.Is(err, psync.ErrOtherHistory) || ctx.Err() != nil {
			have, at := b.log.Position()
			t.Fatalf("wait for %s:%d: %v at %s:%d", replid, offset, err, have, at)
		}
		select { // the new history comes with a reconnect
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
	if !a.mem.equal(b.mem) {
		t.Fatalf("data differs at offset %d", offset)
	}
}

// cuttingDialer gives connections that fail after a number of bytes.
func cuttingDialer(dial func(context.Context) (net.Conn, error), limit func() int64) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &cutConn{Conn: c, left: limit()}, nil
	}
}

type cutConn struct {
	net.Conn
	left int64
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// peer speaks the protocol by hand.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *frame.Reader
}

func newPeer(t *testing.T, conn net.Conn) *peer {
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &peer{t: t, conn: conn, in: frame.NewReader(conn)}
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) command(args ...string) {
	p.t.Helper()
	p.send(string(frame.AppendCommandString(nil, args...)))
}

// line reads a line that isn't empty.
func (p *peer) line() string {
	p.t.Helper()
	for {
		b, err := p.in.ReadLine()
		if err != nil {
			p.t.Fatal(err)
		}
		if len(b) > 0 {
			return string(b)
		}
	}
}

func (p *peer) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p.in, b); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// next reads a command of the stream that isn't PING.
func (p *peer) next() string {
	p.t.Helper()
	for {
		var c frame.Command
		if err := p.in.ReadCommand(&c); err != nil {
			p.t.Fatal(err)
		}
		if s := string(bytes.Join(c.Args, []byte(" "))); s != "PING" {
			return s
		}
	}
}
