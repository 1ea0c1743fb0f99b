package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/psync"
)

// seatOf is a store that others can follow over TCP, and that can be restarted with what its disk has.
type seatOf struct {
	t    *testing.T
	o    storeOptions
	addr string
	from net.IP      // where it dials from; nil: 127.0.0.1
	mute atomic.Bool // what it says gets lost

	mu    sync.Mutex
	store *store
}

func newSeat(t *testing.T, data string) *seatOf {
	s := &seatOf{t: t, o: storeOptions{data: data, fsync: aof.EverySec, log: slog.New(slog.DiscardHandler)}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				st := s.now()
				if st == nil {
					conn.Close()
					return
				}
				_ = st.primary.ServeConn(ctx, conn, frame.NewReader(conn))
			})
		}
	})
	s.open()
	t.Cleanup(func() {
		s.close()
		cancel()
		ln.Close()
		wg.Wait()
	})
	return s
}

func (s *seatOf) now() *store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store
}

func (s *seatOf) open() {
	s.t.Helper()
	st, err := openStore(context.Background(), s.o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store = st
}

func (s *seatOf) close() {
	s.mu.Lock()
	st := s.store
	s.store = nil
	s.mu.Unlock()
	if st != nil {
		if err := st.close(); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *seatOf) restart() {
	s.close()
	s.open()
}

func (s *seatOf) lead(term int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	if err := s.now().lead(ctx, term); err != nil {
		s.t.Fatal(err)
	}
}

// follow has s follow p, and waits until it has all of p's data.
func (s *seatOf) follow(p *seatOf) psync.ReplicaState {
	s.t.Helper()
	err := s.now().follow(s.t.Context(), func(ctx context.Context) (net.Conn, error) {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: s.from}}).DialContext(ctx, "tcp", p.addr)
		return muted{conn, &s.mute}, err
	}, nil, p.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	for {
		r := s.now().replica()
		changed := r.Changed()
		replid, _ := p.now().Position()
		if state := r.State(); state.Phase == psync.Online && state.Replid == replid {
			break
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("not online: %+v", s.now().replica().State())
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	replid, offset := p.now().Position()
	if err := s.now().Wait(ctx, replid, offset); err != nil {
		s.t.Fatal(err)
	}
	return s.now().replica().State()
}

// reaches waits until the copy stands where it should.
func (s *seatOf) reaches(want standing) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.now().standing() != want; runtime.Gosched() {
		if time.Now().After(deadline) {
			s.t.Fatalf("%+v, want %+v", s.now().standing(), want)
		}
	}
}

// do runs commands in one batch, and gives the replies as they are on the wire.
func (s *seatOf) do(lines ...string) string {
	c := s.now().NewConn(func([]byte) {})
	defer c.Close()
	return strings.TrimPrefix(batch(c, lines...), "before")
}

func (s *seatOf) wants(want string, lines ...string) {
	s.t.Helper()
	if got := s.do(lines...); got != want {
		s.t.Errorf("%q: got %q, want %q", lines, got, want)
	}
}

const readonly = "-READONLY You can't write against a read only replica.\r\n"

func TestStoreChangesSides(t *testing.T) {
	a, b := newSeat(t, t.TempDir()), newSeat(t, t.TempDir())
	a.wants(readonly, "SET k v") // nobody has said that it leads
	a.lead(1)
	a.wants("+OK\r\n", "SET k 1")
	if s := b.follow(a); s.FullSyncs != 1 {
		t.Errorf("%+v", s)
	}
	b.wants("$1\r\n1\r\n"+readonly, "GET k", "SET k 2")
	for term := int64(2); term < 8; term++ {
		a.now().fence()
		a.wants(readonly, "SET k 0")
		b.lead(term)
		b.wants(":"+fmt.Sprint(term)+"\r\n", "INCR k")
		if s := a.follow(b); s.FullSyncs != 0 || s.PartialSyncs != 1 {
			t.Errorf("term %d: %+v", term, s)
		}
		a.reaches(b.now().standing()) // the term follows the data
		if got := a.now().standing(); got.Term != term {
			t.Errorf("%+v, want term %d", got, term)
		}
		if state := b.now().State(); !state.Primary || state.Term != term {
			t.Errorf("%+v", state)
		}
		a, b = b, a
	}
}

// A copy of what its primary had when the copying began isn't used before it has what was written since.
func TestNewCopyIsUsedOnceItIsCurrent(t *testing.T) {
	a, b := newSeat(t, t.TempDir()), newSeat(t, t.TempDir())
	a.lead(1)
	a.wants("+OK\r\n", "SET k 1")
	replid, offset := a.now().Position()
	asked := make(chan standing)
	ask := func(ctx context.Context) (standing, error) {
		select {
		case st := <-asked:
			return st, nil
		case <-ctx.Done():
			return standing{}, ctx.Err()
		}
	}
	err := b.now().follow(t.Context(), func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", a.addr)
	}, ask, a.addr)
	if err != nil {
		t.Fatal(err)
	}
	asked <- standing{Replid: replid, Offset: offset + 1}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.now().Wait(ctx, replid, offset); err != nil {
		t.Fatal(err)
	}
	if st := b.now().State(); !b.now().online() || st.Usable || !strings.Contains(st.Reason, "was written while") {
		t.Errorf("it lacks a write: %+v", st)
	}
	a.wants("+OK\r\n", "SET k 2")
	_, offset = a.now().Position()
	for !b.now().State().Usable {
		select {
		case asked <- standing{Replid: replid, Offset: offset}: // if it took long it asks again
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("it has everything: %+v", b.now().State())
		}
	}
	b.wants("$1\r\n2\r\n", "GET k")
}

// Who comes back from a crash goes on where its disk is: nothing is copied anew.
func TestRestartGoesOnInTheHistory(t *testing.T) {
	a, b := newSeat(t, t.TempDir()), newSeat(t, t.TempDir())
	a.lead(1)
	a.wants("+OK\r\n+OK\r\n", "SET k 1", "SET l x")
	b.follow(a)
	a.wants("+OK\r\n:1\r\n", "SELECT 3", "INCR k2") // another database: SELECT isn't lost
	a.wants(":2\r\n", "INCR k")
	b.follow(a)
	for term := int64(2); term < 6; term++ {
		before := a.now().standing()
		b.reaches(before) // the term follows the data
		b.restart()
		if got := b.now().standing(); got != before {
			t.Fatalf("after the replica's restart: %+v, before %+v", got, before)
		}
		if s := b.follow(a); s.FullSyncs != 0 || s.PartialSyncs != 1 {
			t.Errorf("replica after its restart: %+v", s)
		}
		before = a.now().standing()
		a.restart()
		if got := a.now().standing(); got != before {
			t.Fatalf("after the primary's restart: %+v, before %+v", got, before)
		}
		a.lead(term)
		a.wants(":"+fmt.Sprint(term+1)+"\r\n", "INCR k")
		b.now().kick()
		if s := b.follow(a); s.FullSyncs != 0 {
			t.Errorf("after the primary's restart: %+v", s)
		}
		b.wants("$1\r\n"+fmt.Sprint(term+1)+"\r\n", "GET k")
	}
	b.restart()
	b.wants("$1\r\n6\r\n$1\r\nx\r\n", "GET k", "GET l")
}

// What a node wrote and nobody got is given up for the new primary's data, on its disk too.
func TestUnreplicatedWritesAreGivenUp(t *testing.T) {
	a, b := newSeat(t, t.TempDir()), newSeat(t, t.TempDir())
	a.lead(1)
	a.wants("+OK\r\n", "SET k v")
	b.follow(a)
	b.restart() // it doesn't follow any more
	a.wants("+OK\r\n", "SET k lost")
	b.lead(2)
	b.wants("+OK\r\n", "SET l w")
	a.restart()
	if s := a.follow(b); s.FullSyncs != 1 || s.Discarded == 0 {
		t.Errorf("%+v", s)
	}
	a.wants("$1\r\nv\r\n$1\r\nw\r\n", "GET k", "GET l")
	if err := a.now().awaitBase(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.restart()
	a.wants("$1\r\nv\r\n$1\r\nw\r\n", "GET k", "GET l")
	if got := a.now().standing(); got.Term != 2 {
		t.Errorf("%+v", got)
	}
	b.now().fence()
	a.lead(3) // it can
	a.wants("+OK\r\n", "SET k again")
}

func TestMinReplicas(t *testing.T) {
	a, b, c := newSeat(t, t.TempDir()), newSeat(t, t.TempDir()), newSeat(t, "")
	a.lead(1)
	a.now().setQuorum(1, nil)
	began := time.Now()
	a.wants("-NOREPLICAS Not enough good replicas to write.\r\n$-1\r\n", "SET k v", "GET k")
	if d := time.Since(began); d < quorumWait {
		t.Errorf("refused after %v", d)
	}
	b.follow(a)
	a.wants("+OK\r\n", "SET k v")
	if got, want := b.now().standing().Offset, a.now().standing().Offset; got != want {
		t.Errorf("acknowledged at %d, the replica at %d", want, got)
	}
	a.wants("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n", "MULTI", "SET k v", "EXEC")

	// A replica elsewhere doesn't do where candidates are known.
	c.follow(a)
	a.now().setQuorum(1, map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true})
	a.wants("-NOREPLICAS Not enough good replicas to write.\r\n", "SET k w")

	// Two connections of one node are one replica.
	a.now().setQuorum(2, map[netip.Addr]bool{netip.MustParseAddr("127.0.0.1"): true})
	a.wants("-NOREPLICAS Not enough good replicas to write.\r\n", "SET k w")
	c.close()
	c.open()
	c.from = net.IPv4(127, 0, 0, 3)
	c.follow(a)
	a.wants("+OK\r\n", "SET k w")
	a.now().setQuorum(0, nil)
	b.close()
	c.close()
	a.wants("+OK\r\n", "SET k x")
}

// A write that was executed and is on its way when the lead is lost isn't acknowledged, unless the next primary has it.
func TestFencedWritesAreNotAcknowledged(t *testing.T) {
	a := newSeat(t, "")
	a.lead(1)
	a.now().fenceDuring(t, func() {
		if got := a.do("SET k v"); !strings.HasPrefix(got, "-UNKNOWNOUTCOME ") {
			t.Errorf("got %q", got)
		}
	})
	b := newSeat(t, "")
	a.lead(2)
	b.follow(a)
	a.now().setQuorum(0, map[netip.Addr]bool{netip.MustParseAddr("127.0.0.1"): true})
	a.now().fenceDuring(t, func() { a.wants("+OK\r\n", "SET k w") })
	b.wants("$1\r\nw\r\n", "GET k")
}

// A candidate that was left behind by a new term doesn't count, also while it is in the stream; once it has been told the term
// it does.
func TestCandidateLeftBehind(t *testing.T) {
	a, b, c := newSeat(t, ""), newSeat(t, ""), newSeat(t, "")
	second, third := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	b.from, c.from = second.AsSlice(), third.AsSlice()
	a.now().setQuorum(1, map[netip.Addr]bool{second: true, third: true})
	a.lead(1)
	b.follow(a)
	c.follow(a)
	a.wants("+OK\r\n", "SET k v")
	a.now().exclude([]netip.Addr{second})
	c.close()
	if got := a.do("SET k w"); !strings.HasPrefix(got, "-") {
		t.Errorf("acknowledged, and nobody who could lead has it: %q", got)
	}
	a.lead(2)
	want := a.now().standing()
	want.Term = 2
	b.reaches(want)
	a.wants("+OK\r\n", "SET k x")
	if got, want := b.now().standing(), a.now().standing(); got != want {
		t.Errorf("%+v, the primary is at %+v", got, want)
	}
}

// A candidate whose host is gone holds up writes for as long as its connection stays, unless it is noticed.
func TestSilentCandidateIsLeftBehind(t *testing.T) {
	a, b, c := newSeat(t, ""), newSeat(t, ""), newSeat(t, "")
	second, third := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	b.from, c.from = second.AsSlice(), third.AsSlice()
	a.now().setQuorum(1, map[netip.Addr]bool{second: true})
	a.lead(1)
	b.follow(a)
	c.follow(a)
	a.wants("+OK\r\n", "SET k v")
	b.mute.Store(true)
	deadline := time.Now().Add(replicaTimeout - time.Second)
	for {
		away, after := a.now().stragglers()
		if slices.Equal(away, []netip.Addr{second}) {
			break
		}
		if time.Now().After(deadline) || after == 0 {
			t.Fatalf("it counts as here: %v, %v", away, after)
		}
		<-time.After(after)
	}
	a.now().exclude([]netip.Addr{second})
	a.wants("+OK\r\n", "SET k w")
}

// muted is a connection by which nothing goes out while its flag is set.
type muted struct {
	net.Conn
	mute *atomic.Bool
}

func (m muted) Write(p []byte) (int, error) {
	if m.mute.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

// A fenced primary can't know which of the candidates takes over.
func TestFencedWriteNeedsAllCandidates(t *testing.T) {
	a, b := newSeat(t, ""), newSeat(t, "")
	b.from = net.IPv4(127, 0, 0, 2)
	a.now().setQuorum(1, map[netip.Addr]bool{netip.MustParseAddr("127.0.0.2"): true, netip.MustParseAddr("127.0.0.3"): true})
	a.lead(1)
	b.follow(a)
	a.wants("+OK\r\n", "SET k v")
	a.now().fenceDuring(t, func() {
		if got := a.do("SET k v"); !strings.HasPrefix(got, "-UNKNOWNOUTCOME ") {
			t.Errorf("got %q", got)
		}
	})
}

// fenceDuring fences the store right after the next write has been executed.
func (s *store) fenceDuring(t *testing.T, f func()) {
	t.Helper()
	s.log.Keep(fencer{s})
	f()
	s.log.Keep(nil)
}

type fencer struct{ s *store }

func (f fencer) Keep(int64, []byte)      { f.s.fence() }
func (f fencer) Moved(psync.Position)    {}
func (f fencer) Replaced(psync.Position) {}
