package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"respmesh/store/psync"
)

// A candidate whose disk is full acknowledges nothing, goes on following, and counts again once it can keep what comes.
func TestFullDiskAcknowledgesNothing(t *testing.T) {
	a, b := newSeat(t, t.TempDir()), newSeat(t, t.TempDir())
	disk := &fullDisk{}
	second := netip.MustParseAddr("127.0.0.2")
	b.from, b.o.fs = second.AsSlice(), disk
	b.restart()
	a.now().setQuorum(1, map[netip.Addr]bool{second: true})
	a.lead(1)
	b.follow(a)
	a.wants("+OK\r\n", "SET k v")
	want := a.now().standing()
	b.reaches(want)
	if err := b.now().awaitBase(t.Context()); err != nil {
		t.Fatal(err)
	}

	disk.full.Store(true)
	if got := a.do("SET k w"); got == "+OK\r\n" {
		t.Error("acknowledged, though the only replica couldn't keep it")
	}
	a.wants("-NOREPLICAS Not enough good replicas to write.\r\n", "SET k x")
	want.Offset = a.now().standing().Offset
	b.reaches(want) // it has it, and can lead if there is no other
	b.wants("$1\r\nw\r\n", "GET k")
	if r, _ := b.now().following(); r.Phase != psync.Online {
		t.Errorf("it doesn't follow any more: %+v", r)
	}

	disk.full.Store(false)
	deadline := time.Now().Add(20 * time.Second)
	for a.do("SET k y") != "+OK\r\n" {
		if time.Now().After(deadline) {
			t.Fatal("the candidate doesn't count again")
		}
	}
}

// A candidate that can't keep what comes is left behind where another replica can, and isn't told the new term.
func TestFullDiskIsLeftBehind(t *testing.T) {
	a, b, c := newSeat(t, ""), newSeat(t, t.TempDir()), newSeat(t, "")
	disk := &fullDisk{}
	second := netip.MustParseAddr("127.0.0.2")
	b.from, b.o.fs = second.AsSlice(), disk
	b.restart()
	a.now().setQuorum(1, map[netip.Addr]bool{second: true})
	a.lead(1)
	b.follow(a)
	c.follow(a)
	a.wants("+OK\r\n", "SET k v")
	if err := b.now().awaitBase(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	a.do("SET k w")
	straggles := func() []netip.Addr {
		away, after := a.now().stragglers()
		if after > 0 {
			<-time.After(after)
		}
		return away
	}
	deadline := time.Now().Add(20 * time.Second)
	for !slices.Equal(straggles(), []netip.Addr{second}) {
		if time.Now().After(deadline) {
			t.Fatal("it holds up writes")
		}
	}
	a.now().exclude([]netip.Addr{second})
	a.lead(2)
	a.wants("+OK\r\n", "SET k x")
	want := b.now().standing()
	want.Offset = a.now().standing().Offset
	b.reaches(want)
	if want.Term != 1 {
		t.Errorf("it was told term %d, and can take over without being waited for", want.Term)
	}
	disk.full.Store(false)
	want.Term = 2
	for b.now().standing().Term != 2 {
		a.do("SET k y")
		a.now().stragglers()
		if time.Now().After(deadline) {
			t.Fatalf("%+v", b.now().standing())
		}
	}
}
