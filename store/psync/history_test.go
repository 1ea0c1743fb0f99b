package psync_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"respmesh/store/psync"
)

func TestPositionAsText(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	for _, p := range []psync.Position{
		{Replid: a},
		{Replid: a, Offset: 12, Term: 3},
		{Replid: a, Offset: 12, Term: 3, Former: []psync.Former{{Replid: b, UpTo: 7}, {Replid: a, UpTo: 0}}},
	} {
		got, err := psync.ParsePosition(p.String())
		if err != nil || got.Replid != p.Replid || got.Offset != p.Offset || got.Term != p.Term || !slices.Equal(got.Former, p.Former) {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	for _, s := range []string{"", "replid=short", "replid=" + a + " offset=x", "replid=" + a + " term=-1", "replid=" + a + " former=x:1",
		"replid=" + a + " former=" + strings.Repeat(a+":1,", 8) + a + ":1"} {
		if p, err := psync.ParsePosition(s); err == nil {
			t.Errorf("%q: %v", s, p)
		}
	}
}

// PINGs that only one of two copies has got are no reason to copy all data.
func TestRestartedPrimaryContinuesDespitePings(t *testing.T) {
	a, b := newNode(t, 0, func(o *psync.PrimaryOptions) { o.PingEvery = 5 * time.Millisecond }), newNode(t, 0)
	a.mem.do("SET k v")
	r, stop := b.follow(a.dial)
	until(t, r, psync.Online)
	at := a.log.Standing()
	if err := b.log.Wait(t.Context(), at.Replid, at.Offset+2*int64(len("*1\r\n$4\r\nPING\r\n"))); err != nil {
		t.Fatal(err)
	}
	if got := b.log.Standing(); got.Offset != at.Offset || got.Replid != at.Replid {
		t.Errorf("replica stands at %v, primary at %v", got, at)
	}
	stop()

	c := newNode(t, 0) // as a would be after a restart
	c.mem.data = map[int]map[string]string{0: {"k": "v"}}
	c.log.Resume(at)
	c.log.Promote(2)
	c.mem.do("APPEND k w")
	r, _ = b.follow(c.dial, func(o *psync.ReplicaOptions) { o.Pipeline = true })
	id, now := c.log.Position()
	until(t, r, psync.Online)
	if err := b.log.Wait(t.Context(), id, now); err != nil {
		t.Fatal(err)
	}
	if s := r.State(); s.FullSyncs != 0 || s.PartialSyncs != 1 || b.mem.get(0, "k") != "vw" {
		t.Errorf("%+v, %q", s, b.mem.get(0, "k"))
	}
	if s := b.log.Standing(); s.Term != 2 || len(s.Former) != 1 || s.Former[0] != (psync.Former{Replid: at.Replid, UpTo: at.Offset}) {
		t.Errorf("%v", s)
	}
}

// What a former primary has written and nobody got is counted, and given up for what the new one has.
func TestUnreplicatedTailIsCounted(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 0)
	a.mem.do("SET k v")
	r, stop := b.follow(a.dial)
	until(t, r, psync.Online)
	id, at := a.log.Position()
	if err := b.log.Wait(t.Context(), id, at); err != nil {
		t.Fatal(err)
	}
	stop()
	a.mem.do("SET k lost", "SET l lost")
	b.log.Promote(2)
	b.mem.do("SET k w")
	r, _ = a.follow(b.dial, func(o *psync.ReplicaOptions) { o.Pipeline = true })
	until(t, r, psync.Online)
	if s := r.State(); s.FullSyncs != 1 || s.Discarded == 0 {
		t.Errorf("%+v", s)
	}
	if a.mem.get(0, "k") != "w" || a.mem.get(0, "l") != "" {
		t.Errorf("%q %q", a.mem.get(0, "k"), a.mem.get(0, "l"))
	}
	if s := a.log.Standing(); s.Term != 2 {
		t.Errorf("%v", s)
	}
}
