package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clocked has turns that know only the time it tells them.
func clocked(processors int) (turns *Turns, pass func(time.Duration)) {
	limits := defaultTurns
	limits.stuck = time.Hour
	t := newTurns(processors, limits)
	var now atomic.Int64
	now.Store(int64(1000 * time.Second))
	t.now = func() time.Time { return time.Unix(0, now.Load()) }
	return t, func(d time.Duration) { now.Add(int64(d)) }
}

// begin has somebody ask for a turn, and waits until he has it or waits for it.
func begin(t *testing.T, s *share) (n *turn, got <-chan bool) {
	t.Helper()
	n = &turn{share: s}
	had := make(chan bool, 1)
	queued := s.turns.queued.Load()
	go func() { had <- n.take(t.Context()) }()
	eventually(t, "a turn, or a place in the queue", func() bool { return len(had) == 1 || s.turns.queued.Load() > queued })
	return n, had
}

func TestTurnsAlone(t *testing.T) {
	turns, _ := clocked(2)
	a := turns.of("a")
	for range 10 {
		if n := (&turn{share: a}); !n.take(t.Context()) {
			t.Fatal("no turn for who is alone")
		}
	}
	if turns.queued.Load() != 0 || a.free.Load() != 10 {
		t.Errorf("%d wait, %d have a turn", turns.queued.Load(), a.free.Load())
	}
}

// TestTurnsBesideOthers: a database that takes all it can get has one processor less than there are, one that takes little
// doesn't wait, and gets its part when it takes much.
func TestTurnsBesideOthers(t *testing.T) {
	turns, pass := clocked(2)
	noisy, quiet := turns.of("noisy"), turns.of("quiet")
	for _, s := range []*share{noisy, quiet} {
		n := &turn{share: s}
		n.take(t.Context())
		pass(15 * time.Millisecond) // more than a burst
		n.give()
	}
	pass(500 * time.Millisecond)
	work, got := begin(t, noisy) // on credit
	<-got
	pass(100 * time.Millisecond)
	work.give()
	first, got := begin(t, noisy)
	<-got
	var rest []<-chan bool
	var turnsOf []*turn
	for range 3 {
		n, got := begin(t, noisy)
		turnsOf, rest = append(turnsOf, n), append(rest, got)
	}
	if len(rest[0]) != 0 {
		t.Fatal("the noisy one has both processors")
	}
	little, got := begin(t, quiet)
	if len(got) != 1 || !<-got {
		t.Fatal("the quiet one waits")
	}
	pass(200 * time.Millisecond)
	little.give() // that was much
	much, gets := begin(t, quiet)
	if len(gets) != 0 {
		t.Fatal("who has taken much doesn't wait")
	}
	first.give()
	if !<-gets {
		t.Fatal("the turn went to who has had more")
	}
	if len(rest[0]) != 0 {
		t.Fatal("two turns at once")
	}
	much.give()
	for i, n := range turnsOf { // in order
		if !<-rest[i] {
			t.Fatal("no turn")
		}
		n.give()
	}
	if len(turns.held) != 0 || turns.queued.Load() != 0 {
		t.Errorf("%d have a turn, %d wait", len(turns.held), turns.queued.Load())
	}

	pass(30 * time.Second)
	n, got := begin(t, noisy)
	if <-got; n.kind == turnFree {
		t.Error("the other one was asked half a minute ago")
	}
	n.give()
	pass(2 * time.Minute)
	n, got = begin(t, noisy)
	if <-got; n.kind != turnFree {
		t.Error("who is alone again still takes turns")
	}
	n.give()
	quiet.leave()
	noisy.leave()
	if len(turns.shares)+len(turns.active) != 0 || turns.sole.Load() != nil {
		t.Errorf("left behind: %v, %v", turns.shares, turns.active)
	}
}

// TestTurnsStuck: who holds a turn for too long doesn't keep others of its database from what ends that.
func TestTurnsStuck(t *testing.T) {
	limits := defaultTurns
	limits.stuck, limits.burst = 20*time.Millisecond, 0
	turns := newTurns(2, limits)
	noisy, other := turns.of("noisy"), turns.of("other")
	for _, s := range []*share{noisy, other, noisy} {
		n := &turn{share: s}
		n.take(t.Context())
		if s == other {
			n.give()
		}
	}
	for range 3 { // each after a while
		n := &turn{share: noisy}
		n.take(t.Context())
		defer n.give()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { (&turn{share: noisy}).take(ctx) })
	cancel()
}
