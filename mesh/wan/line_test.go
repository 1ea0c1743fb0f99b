package wan

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func testLine(c Conditions) *line {
	l := newLine(1, "a", "b")
	l.c = c
	return l
}

const ms = time.Millisecond

func TestDelayKeepsTheOrder(t *testing.T) {
	l := testLine(Conditions{Delay: 50 * ms, Jitter: 20 * ms})
	var last time.Duration
	for i := range 1000 {
		now := time.Duration(i) * ms
		f := l.admit(now, 100)
		if f.n != 1 || f.at[0] < now+50*ms || f.at[0] < last {
			t.Fatalf("datagram %d at %s: %+v after %s", i, now, f, last)
		}
		if f.at[0] > max(last, now+70*ms) {
			t.Fatalf("datagram %d at %s: later than delay and jitter: %+v", i, now, f)
		}
		last = f.at[0]
	}
}

func TestTheSameSeedGivesTheSameFate(t *testing.T) {
	c := Conditions{Delay: 10 * ms, Jitter: 5 * ms, Loss: 0.1, Reorder: 0.1, Duplicate: 0.1}
	run := func(seed uint64, from string) (fates []fate) {
		l := newLine(seed, from, "b")
		l.c = c
		for i := range 500 {
			fates = append(fates, l.admit(time.Duration(i)*ms, 100))
		}
		return fates
	}
	if !slices.Equal(run(7, "a"), run(7, "a")) {
		t.Error("one seed, two fates")
	}
	if slices.Equal(run(7, "a"), run(8, "a")) || slices.Equal(run(7, "a"), run(7, "c")) {
		t.Error("another seed or direction, the same fate")
	}
}

func TestChances(t *testing.T) {
	const n = 20000
	l := testLine(Conditions{Delay: 8 * ms, Loss: 0.01, Reorder: 0.05, Duplicate: 0.02})
	for i := range n {
		f := l.admit(time.Duration(i)*time.Microsecond, 1)
		for range f.n {
			l.leave(1, f.queued)
		}
	}
	s := l.stats
	near := func(name string, got uint64, want float64) {
		t.Helper()
		if math.Abs(float64(got)-want) > 0.25*want {
			t.Errorf("%s: %d of %d, want about %.0f", name, got, n, want)
		}
	}
	near("lost", s.Lost, 0.01*n)
	near("reordered", s.Reordered, 0.05*n*0.99)
	near("doubled", s.Doubled, 0.02*n*0.99)
	if s.Packets != n || s.Delivered != n-s.Lost+s.Doubled || s.Waiting != 0 || l.waiting != 0 || l.queued != 0 {
		t.Errorf("counted wrong: %+v", s)
	}
}

func TestReorderedIsOvertaken(t *testing.T) {
	l := testLine(Conditions{Delay: 40 * ms, Reorder: 1})
	first := l.admit(0, 100)
	l.c.Reorder = 0
	second := l.admit(ms, 100)
	if second.at[0] >= first.at[0] {
		t.Errorf("%s isn't overtaken by %s", first.at[0], second.at[0])
	}
}

func TestRate(t *testing.T) {
	l := testLine(Conditions{Delay: 10 * ms, RateBytes: 100_000, QueueBytes: 10_000})
	for i := range 10 {
		// All at once: one per 10 ms leaves.
		if f, want := l.admit(0, 1000), time.Duration(i+1)*10*ms+10*ms; f.n != 1 || f.at[0] != want {
			t.Fatalf("datagram %d: %+v, want %s", i, f, want)
		}
	}
	if f := l.admit(0, 1000); f.n != 0 || l.stats.Overflow != 1 {
		t.Fatalf("the queue is full: %+v, %+v", f, l.stats)
	}
	l.leave(1000, true)
	if f := l.admit(0, 1000); f.n != 1 {
		t.Fatalf("the queue has room again: %+v", f)
	}
}

func TestLimitAndCut(t *testing.T) {
	l := testLine(Conditions{MaxDatagram: 1300})
	if f := l.admit(0, 1301); f.n != 0 || l.stats.Oversize != 1 {
		t.Errorf("too large: %+v", f)
	}
	if f := l.admit(0, 1300); f.n != 1 || f.queued {
		t.Errorf("fits: %+v", f)
	}
	l.c.Cut = true
	if f := l.admit(0, 100); f.n != 0 || l.stats.CutOff != 1 {
		t.Errorf("cut: %+v", f)
	}
	if l.leave(1300, false) {
		t.Error("what was under way arrived after the cut")
	}
}

func TestNothingOvertakesTheQueue(t *testing.T) {
	l := testLine(Conditions{Delay: 10 * ms})
	l.admit(0, 100)
	l.c.Delay = 0
	if f := l.admit(20*ms, 100); !f.queued {
		t.Errorf("went at once, before one that is due but still queued: %+v", f)
	}
	l.leave(100, true)
	l.leave(100, true)
	if f := l.admit(30*ms, 100); f.queued {
		t.Errorf("waits for nothing: %+v", f)
	}
}

func TestConditionsAreChecked(t *testing.T) {
	r := New(Options{})
	defer r.Close()
	for _, c := range []Conditions{{Loss: 1.5}, {Loss: -1}, {Reorder: math.NaN()}, {Delay: -1}, {RateBytes: -1}} {
		if r.Set("a", "b", c) == nil {
			t.Errorf("%+v accepted", c)
		}
	}
}

func TestScheduleGivesByDeadline(t *testing.T) {
	var s schedule
	rng := rand.New(rand.NewPCG(1, 2))
	var want []time.Duration
	for range 1000 {
		at := time.Duration(rng.IntN(200)) * ms
		want = append(want, at)
		s.add([]parcel{{at: at, size: 1}})
	}
	slices.Sort(want)
	var got []parcel
	buf := make([]parcel, 0, 64)
	for now := time.Duration(0); now <= 200*ms; now += ms {
		for {
			var wait time.Duration
			buf, wait = s.due(buf, now)
			got = append(got, buf...)
			for _, p := range buf {
				if p.at > now {
					t.Fatalf("%s given at %s", p.at, now)
				}
			}
			if wait != 0 {
				break
			}
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d of %d came out", len(got), len(want))
	}
	for i, p := range got {
		if p.at != want[i] {
			t.Fatalf("number %d is %s, want %s", i, p.at, want[i])
		}
		if i > 0 && p.at == got[i-1].at && p.seq < got[i-1].seq {
			t.Fatalf("number %d: equal deadlines out of order", i)
		}
	}
}

func TestScheduleSaysWhenToWake(t *testing.T) {
	var s schedule
	if !s.add([]parcel{{at: 10 * ms}}) || s.add([]parcel{{at: 20 * ms}}) || !s.add([]parcel{{at: 5 * ms}}) {
		t.Error("sooner is wrong")
	}
	if ps, wait := s.due(make([]parcel, 0, 8), 0); len(ps) != 0 || wait != 5*ms {
		t.Errorf("%d parcels, wait %s", len(ps), wait)
	}
	if ps, wait := s.due(make([]parcel, 0, 8), 30*ms); len(ps) != 3 || wait >= 0 {
		t.Errorf("%d parcels, wait %s", len(ps), wait)
	}
}
