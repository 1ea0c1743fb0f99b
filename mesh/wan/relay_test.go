package wan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	growBuffers(c, socketBuffer)
	t.Cleanup(func() { c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// ends is two sockets with a path between them.
type ends struct {
	r          *Relay
	a, b       *net.UDPConn
	toB, fromB netip.AddrPort // b as a sees it, a as b sees it
}

func newEnds(t testing.TB) *ends {
	t.Helper()
	e := &ends{r: New(Options{Seed: 1})}
	t.Cleanup(func() { e.r.Close() })
	var at, bt netip.AddrPort
	e.a, at = listen(t)
	e.b, bt = listen(t)
	var err error
	if e.toB, e.fromB, err = e.r.Path("a", "b", at, bt); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *ends) send(t testing.TB, msg string) {
	t.Helper()
	if _, err := e.a.WriteToUDPAddrPort([]byte(msg), e.toB); err != nil {
		t.Fatal(err)
	}
}

func (e *ends) receive(t testing.TB) string {
	t.Helper()
	if err := e.b.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxDatagram)
	n, from, err := e.b.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if from != e.fromB {
		t.Fatalf("from %s, want %s", from, e.fromB)
	}
	return string(buf[:n])
}

func set(t testing.TB, r *Relay, from, to string, c Conditions) {
	t.Helper()
	if err := r.Set(from, to, c); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition that the relay is about to fulfil.
func until(ok func() bool) {
	for !ok() {
		runtime.Gosched()
	}
}

func TestBothWays(t *testing.T) {
	e := newEnds(t)
	for i := range 50 {
		want := fmt.Sprint("datagram ", i)
		e.send(t, want)
		if got := e.receive(t); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if _, err := e.b.WriteToUDPAddrPort([]byte("back"), e.fromB); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if err := e.a.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, from, err := e.a.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "back" || from != e.toB {
		t.Fatalf("got %q from %s, %v", buf[:n], from, err)
	}
	if s := e.r.Stats("a", "b"); s.Packets != 50 || s.Delivered != 50 || s.Waiting != 0 {
		t.Errorf("a to b: %+v", s)
	}
	if s := e.r.Stats("b", "a"); s.Delivered != 1 || s.DeliveredBytes != 4 {
		t.Errorf("b to a: %+v", s)
	}
}

func TestDelayOnSockets(t *testing.T) {
	e := newEnds(t)
	set(t, e.r, "a", "b", Conditions{Delay: 80 * ms})
	start := time.Now()
	for i := range 20 {
		e.send(t, fmt.Sprint(i))
	}
	for i := range 20 {
		if got := e.receive(t); got != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got, i)
		}
	}
	// Only the lower bound is certain on a busy machine.
	if d := time.Since(start); d < 80*ms {
		t.Errorf("arrived after %s", d)
	}
}

func TestCutAndHeal(t *testing.T) {
	e := newEnds(t)
	e.send(t, "before")
	e.receive(t)
	set(t, e.r, "a", "b", Conditions{Delay: 50 * ms})
	e.send(t, "under way")
	until(func() bool { return e.r.Stats("a", "b").Packets == 2 }) // counted when taken
	e.r.Cut("b")
	e.r.Cut("b") // once is enough
	e.send(t, "lost")
	until(func() bool { return e.r.Stats("a", "b").CutOff == 2 })
	e.r.Heal("b")
	e.send(t, "after")
	if got := e.receive(t); got != "after" {
		t.Errorf("got %q", got)
	}
}

func TestOneWayCut(t *testing.T) {
	e := newEnds(t)
	set(t, e.r, "b", "a", Conditions{Cut: true})
	if _, err := e.b.WriteToUDPAddrPort([]byte("back"), e.fromB); err != nil {
		t.Fatal(err)
	}
	e.send(t, "there")
	if got := e.receive(t); got != "there" {
		t.Errorf("got %q", got)
	}
	until(func() bool { return e.r.Stats("b", "a").CutOff == 1 })
	if err := e.a.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.a.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("something came through: %v", err)
	}
}

func TestStrangersAndOversize(t *testing.T) {
	e := newEnds(t)
	stranger, _ := listen(t)
	if _, err := stranger.WriteToUDPAddrPort([]byte("stranger"), e.toB); err != nil {
		t.Fatal(err)
	}
	e.send(t, string(make([]byte, maxDatagram+1)))
	e.send(t, string(make([]byte, maxDatagram)))
	if got := e.receive(t); len(got) != maxDatagram {
		t.Errorf("got %d bytes %.20q", len(got), got)
	}
	if s := e.r.Stats("a", "b"); s.Oversize != 1 || s.Packets != 2 {
		t.Errorf("%+v", s)
	}
}

func TestConditionsBeforeThePath(t *testing.T) {
	r := New(Options{})
	defer r.Close()
	r.Cut("y")
	set(t, r, "x", "y", Conditions{Loss: 0.5})
	_, at := listen(t)
	_, bt := listen(t)
	p1, p2, err := r.Path("x", "y", at, bt)
	if err != nil {
		t.Fatal(err)
	}
	q2, q1, err := r.Path("y", "x", bt, at)
	if err != nil || p1 != q1 || p2 != q2 {
		t.Errorf("another way: %s %s, %s %s, %v", p1, p2, q1, q2, err)
	}
	if r.Conditions("x", "y").Loss != 0.5 || r.lines[direction{"y", "x"}].nodeCuts != 1 {
		t.Error("conditions are gone")
	}
	if _, _, err := r.Path("x", "x", at, at); err == nil {
		t.Error("a path to itself")
	}
}

func TestCloseTwice(t *testing.T) {
	e := newEnds(t)
	set(t, e.r, "a", "b", Conditions{Delay: time.Hour})
	e.send(t, "never arrives")
	for range 2 {
		if err := e.r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := e.r.Path("c", "d", e.toB, e.fromB); !errors.Is(err, net.ErrClosed) {
		t.Errorf("path on a closed relay: %v", err)
	}
}

// BenchmarkStart24 opens the 276 paths between 24 nodes.
func BenchmarkStart24(b *testing.B) {
	_, at := listen(b)
	for b.Loop() {
		r := New(Options{})
		for i := range 24 {
			for j := range i {
				if _, _, err := r.Path(fmt.Sprint(i), fmt.Sprint(j), at, at); err != nil {
					b.Fatal(err)
				}
			}
		}
		r.Close()
	}
}

// BenchmarkRelay moves WireGuard-sized datagrams, in bursts that fit the sockets.
func BenchmarkRelay(b *testing.B) {
	for _, delay := range []time.Duration{0, 10 * ms} {
		b.Run(delay.String(), func(b *testing.B) {
			e := newEnds(b)
			set(b, e.r, "a", "b", Conditions{Delay: delay})
			msg := make([]byte, 1312)
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			const burst = 1000
			got, tick := make(chan struct{}, burst), 0
			go func() {
				buf := make([]byte, maxDatagram)
				for {
					if _, err := e.b.Read(buf); err != nil {
						close(got)
						return
					}
					got <- struct{}{}
				}
			}()
			window := 0
			for b.Loop() {
				if window == burst {
					<-got
					window--
				}
				if _, err := e.a.WriteToUDPAddrPort(msg, e.toB); err != nil {
					b.Fatal(err)
				}
				window++
				tick++
			}
			for ; window > 0; window-- {
				<-got
			}
			b.StopTimer()
			e.b.Close()
			for range got {
			}
		})
	}
}
