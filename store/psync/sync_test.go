package psync_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/psync"
	"respmesh/store/rdb"
)

func TestFullSyncThenStream(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 0)
	a.mem.do("SET k v", "SELECT 3", "SET k3 v3")
	b.mem.data[0] = map[string]string{"old": "data"}
	r, stop := b.follow(a.dial, func(o *psync.ReplicaOptions) { o.Pipeline = true })
	st := until(t, r, psync.Online)
	if st.LastHeard.IsZero() || st.Offset == 0 {
		t.Errorf("state %+v", st)
	}
	caughtUp(t, a, b)
	a.mem.do("SET in-db-3 1")
	for i := range 1000 {
		a.mem.do(fmt.Sprintf("SELECT %d", i%4), "INCR n")
	}
	caughtUp(t, a, b)
	if b.mem.get(3, "in-db-3") != "1" || b.mem.get(0, "old") != "" {
		t.Error("selected database or old data survived wrongly")
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
}

func TestWritesDuringSnapshot(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 0)
	for i := range 2000 {
		a.mem.do(fmt.Sprintf("SET key:%d %s", i, strings.Repeat("x", 100)))
	}
	a.mem.onSnapshot = func() {
		for range 5000 {
			a.mem.do("INCR during")
		}
	}
	r, _ := b.follow(a.dial)
	until(t, r, psync.Online)
	caughtUp(t, a, b)
	if b.mem.get(0, "during") != "5000" {
		t.Errorf("during = %s", b.mem.get(0, "during"))
	}
}

func TestSpoolToFile(t *testing.T) {
	a := newNode(t, 0, func(o *psync.PrimaryOptions) { o.SpoolMemory = 1 << 10 })
	b := newNode(t, 0)
	a.mem.do("SET big " + strings.Repeat("x", 3<<20))
	r, _ := b.follow(a.dial)
	until(t, r, psync.Online)
	caughtUp(t, a, b)
}

// Links torn at any byte, also inside transactions: every command exactly once,
// and one snapshot is enough.
func TestPartialAfterRandomCuts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng, limits := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
	a, b := newNode(t, 0), newNode(t, 0)
	a.mem.do("SET k v")
	var tearing atomic.Bool
	var dials atomic.Int32
	r, _ := b.follow(cuttingDialer(a.dial, func() int64 {
		if dials.Add(1); !tearing.Load() {
			return 1 << 40
		}
		return 60 + limits.Int64N(3000) // the handshake takes about 80
	}))
	until(t, r, psync.Online)
	tearing.Store(true)
	a.cut(true)
	for i := range 3000 {
		switch rng.IntN(4) {
		case 0:
			a.mem.do("MULTI", "INCR a", "APPEND s x", fmt.Sprintf("SELECT %d", i%3), "INCR b", "EXEC")
		case 1:
			a.mem.do(fmt.Sprintf("SELECT %d", i%3))
		default:
			a.mem.do("INCR c", "APPEND s y")
		}
	}
	caughtUp(t, a, b)
	if n := a.mem.snapshots.Load(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	if n := dials.Load(); n < 10 {
		t.Errorf("only %d connections", n)
	}
}

// gated is a dialler that can be closed.
type gated struct {
	dial func(context.Context) (net.Conn, error)
	shut atomic.Bool
}

func (g *gated) Dial(ctx context.Context) (net.Conn, error) {
	if g.shut.Load() {
		return nil, errors.New("no route")
	}
	return g.dial(ctx)
}

// Reconnects without waiting for answers, one after the other.
func TestPipelinedReconnects(t *testing.T) {
	a, b := newNode(t, 0, func(o *psync.PrimaryOptions) { o.Password = "secret" }), newNode(t, 0)
	a.mem.do("SET k v")
	r, _ := b.follow(a.dial, func(o *psync.ReplicaOptions) { o.Pipeline, o.Password = true, "secret" })
	until(t, r, psync.Online)
	for range 20 {
		a.mem.do("INCR n")
		r.Kick()
		a.mem.do("INCR n")
		caughtUp(t, a, b)
	}
	if n := a.mem.snapshots.Load(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

func TestBacklogOverrun(t *testing.T) {
	a, b := newNode(t, 8<<10), newNode(t, 0)
	a.mem.do("SET k v")
	g := &gated{dial: a.dial}
	r, _ := b.follow(g.Dial)
	until(t, r, psync.Online)
	away := func(bytes int) {
		t.Helper()
		g.shut.Store(true)
		a.cut(true)
		until(t, r, psync.Connecting)
		for range bytes / 1000 {
			a.mem.do("INCR n", "SET pad "+strings.Repeat("p", 960))
		}
		g.shut.Store(false)
		until(t, r, psync.Online)
		caughtUp(t, a, b)
	}
	away(4000)
	if n := a.mem.snapshots.Load(); n != 1 {
		t.Errorf("within the backlog: %d snapshots", n)
	}
	away(40_000)
	if n := a.mem.snapshots.Load(); n != 2 {
		t.Errorf("beyond the backlog: %d snapshots", n)
	}
}

// A value far bigger than the backlog reaches a replica that was up to date.
func TestHugeValue(t *testing.T) {
	a, b := newNode(t, 64<<10), newNode(t, 0)
	a.mem.do("SET k v")
	r, _ := b.follow(a.dial)
	until(t, r, psync.Online)
	caughtUp(t, a, b)
	a.mem.do("SET big "+strings.Repeat("x", 8<<20), "INCR n")
	caughtUp(t, a, b)
	if n := a.mem.snapshots.Load(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

func TestSlowReplicaIsCut(t *testing.T) {
	log := psync.NewLog(16 << 10)
	p := psync.NewPrimary(psync.PrimaryOptions{Log: log, Source: newMemory(log), MaxUnsent: 64 << 10})
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- p.ServeConn(context.Background(), ours, frame.NewReader(ours)) }()
	c := newPeer(t, theirs)
	log.Append([]byte("*1\r\n$4\r\nPING\r\n"))
	replid, _ := log.Position()
	go c.command("PSYNC", replid, "1")
	if l := c.line(); l != "+CONTINUE" {
		t.Fatal(l)
	}
	for range 100 { // and doesn't read it
		log.Append(make([]byte, 4<<10))
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "too far behind") {
		t.Errorf("%v", err)
	}
	if len(p.Replicas()) != 0 {
		t.Error("still listed")
	}
}

func TestPromotion(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 0), newNode(t, 0)
	a.mem.do("SET k v", "INCR n")
	rb, stopB := b.follow(a.dial)
	until(t, rb, psync.Online)
	g := &gated{dial: a.dial}
	rc, _ := c.follow(func(ctx context.Context) (net.Conn, error) {
		if g.shut.Load() {
			return b.dial(ctx)
		}
		return a.dial(ctx)
	})
	until(t, rc, psync.Online)
	a.mem.do("INCR n")
	caughtUp(t, a, b)
	caughtUp(t, a, c)
	old, at := a.log.Position()

	_ = stopB()
	g.shut.Store(true)
	a.cut(false)
	b.log.Promote(1)
	if id, offset := b.log.Position(); id == old || offset < at {
		t.Errorf("promoted to %s:%d", id, offset)
	}
	if err := b.log.Wait(t.Context(), old, at); err != nil {
		t.Errorf("the old history up to the promotion: %v", err)
	}
	if err := b.log.Wait(t.Context(), old, at+1_000_000); !errors.Is(err, psync.ErrOtherHistory) {
		t.Errorf("beyond: %v", err)
	}
	b.mem.do("INCR n")
	caughtUp(t, b, c)
	if n := b.mem.snapshots.Load(); n != 0 {
		t.Errorf("the other replica needed %d snapshots", n)
	}

	// The former primary comes back with a write of its own that nobody has.
	a.mem.do("INCR lost", "SET pad "+strings.Repeat("x", 1000))
	ra, _ := a.follow(b.dial)
	until(t, ra, psync.Online)
	b.mem.do("INCR n")
	caughtUp(t, b, a)
	if n := b.mem.snapshots.Load(); n != 1 || a.mem.get(0, "lost") != "" {
		t.Errorf("%d snapshots, lost = %q", n, a.mem.get(0, "lost"))
	}
}

func TestChain(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 0), newNode(t, 0)
	a.mem.do("SELECT 2", "SET k v")
	rb, _ := b.follow(a.dial)
	rc, _ := c.follow(b.dial) // refused until b has something
	until(t, rb, psync.Online)
	until(t, rc, psync.Online)
	limits := rand.New(rand.NewPCG(1, 1))
	d := newNode(t, 0)
	rd, _ := d.follow(cuttingDialer(b.dial, func() int64 { return 500 + limits.Int64N(5000) }))
	until(t, rd, psync.Online)
	for i := range 2000 {
		a.mem.do(fmt.Sprintf("SELECT %d", i%5), "INCR n")
	}
	for _, n := range []*node{b, c, d} {
		caughtUp(t, a, n)
	}
	id, _ := a.log.Position()
	for _, n := range []*node{b, c, d} {
		if got, _ := n.log.Position(); got != id {
			t.Errorf("history %s, not %s", got, id)
		}
	}
	// A new history at the top goes down the chain.
	a.log.Reset(strings.Repeat("f", 40), 12345)
	a.mem.do("SELECT 0", "INCR n")
	caughtUp(t, a, b)
	caughtUp(t, a, c)
	caughtUp(t, a, d)
}

func TestTornSnapshot(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 0)
	for i := range 50 {
		a.mem.do(fmt.Sprintf("SET key:%d value", i))
	}
	b.mem.data[0] = map[string]string{"old": "data"}
	var limit atomic.Int64
	limit.Store(1)
	r, _ := b.follow(cuttingDialer(a.dial, func() int64 {
		if b.mem.get(0, "old") != "data" {
			return 1 << 40
		}
		return limit.Add(17)
	}))
	until(t, r, psync.Online)
	caughtUp(t, a, b)
	if limit.Load() < 500 {
		t.Errorf("came through after %d bytes", limit.Load())
	}
}

func TestBroken(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 0)
	a.mem.do("SET k v")
	r, stop := b.follow(a.dial)
	until(t, r, psync.Online)
	_, before := b.log.Position()
	a.mem.do("INCR n", "XADD s * a b", "INCR n")
	st := until(t, r, psync.Broken)
	if !errors.Is(st.Err, psync.ErrBroken) || !strings.Contains(st.Err.Error(), "XADD") {
		t.Errorf("%v", st.Err)
	}
	if err := stop(); !errors.Is(err, psync.ErrBroken) {
		t.Errorf("run: %v", err)
	}
	_, offset := b.log.Position()
	if _, end := a.log.Position(); offset < before || offset >= end {
		t.Errorf("offset %d of %d, before %d", offset, end, before)
	}
	// Whoever runs it again gets everything anew, since its data is at no position.
	c := newNode(t, 0)
	rc, _ := c.follow(b.dial)
	until(t, rc, psync.Connecting)
	r2, _ := b.follow(a.dial)
	until(t, r2, psync.Online)
	caughtUp(t, a, b)
	if n := a.mem.snapshots.Load(); n != 2 {
		t.Errorf("%d snapshots", n)
	}
	until(t, rc, psync.Online)
	caughtUp(t, a, c)
}

func TestSnapshotThatCannotBeLoaded(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		tries int32
	}{
		"unsupported": {fmt.Errorf("restore: %w", rdb.ErrUnsupported), 1},
		"corrupt":     {rdb.ErrCorrupt, 3},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newNode(t, 0), newNode(t, 0)
			a.mem.do("SET k v")
			b.mem.onRestore = func() error { return tc.err }
			r, _ := b.follow(a.dial)
			st := until(t, r, psync.Broken)
			if !errors.Is(st.Err, tc.err) {
				t.Errorf("%v", st.Err)
			}
			if n := a.mem.snapshots.Load(); n != tc.tries {
				t.Errorf("%d tries", n)
			}
		})
	}
}

func TestAcks(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 0)
	a.mem.do("SET k v")
	r, _ := b.follow(a.dial, func(o *psync.ReplicaOptions) {
		o.AckEvery, o.AckDelay, o.ListeningPort = time.Hour, -1, 6390
	})
	until(t, r, psync.Online)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 20 {
		a.mem.do("INCR n")
		_, offset := a.log.Position()
		if n := a.prim.Await(ctx, offset, 1); n != 1 {
			t.Fatalf("%d replicas at %d", n, offset)
		}
		if got := b.mem.get(0, "n"); got != a.mem.get(0, "n") {
			t.Fatalf("acknowledged, but n = %s", got)
		}
	}
	in := a.prim.Replicas()
	if len(in) != 1 || in[0].Port != 6390 || in[0].State != psync.Streaming || in[0].LastAck.IsZero() {
		t.Errorf("%+v", in)
	}
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if n := a.prim.Await(short, 0, 2); n != 1 {
		t.Errorf("%d replicas of 1", n)
	}
}
