package mesh

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeNet carries datagrams between fakeConns, with a delay per pair, in the time
// of synctest.
type fakeNet struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*fakeConn
	delay time.Duration // one way
	cut   map[netip.Addr]bool
	sent  int
}

type fakeConn struct {
	net.PacketConn // nothing else is called
	n              *fakeNet
	addr           netip.AddrPort
	in             chan fakeDatagram
	deadline       chan struct{}
	once           sync.Once
}

type fakeDatagram struct {
	b    []byte
	from netip.AddrPort
}

func newFakeNet(delay time.Duration) *fakeNet {
	return &fakeNet{conns: make(map[netip.AddrPort]*fakeConn), delay: delay, cut: make(map[netip.Addr]bool)}
}

func (n *fakeNet) conn(a netip.Addr) *fakeConn {
	c := &fakeConn{n: n, addr: netip.AddrPortFrom(a, ProbePort), in: make(chan fakeDatagram, 100), deadline: make(chan struct{})}
	n.mu.Lock()
	n.conns[c.addr] = c
	n.mu.Unlock()
	return c
}

func (n *fakeNet) set(delay time.Duration, cut netip.Addr, is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay, n.cut[cut] = delay, is
}

func (n *fakeNet) send(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	c := n.conns[to]
	if c == nil || n.cut[from.Addr()] || n.cut[to.Addr()] {
		return
	}
	d := fakeDatagram{append([]byte(nil), b...), from}
	time.AfterFunc(n.delay, func() { c.in <- d })
}

func (c *fakeConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.n.send(c.addr, to.(*net.UDPAddr).AddrPort(), b)
	return len(b), nil
}

func (c *fakeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d.b), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.deadline:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *fakeConn) SetReadDeadline(time.Time) error {
	c.once.Do(func() { close(c.deadline) })
	return nil
}

// startProber runs a prober until the test ends.
func startProber(t *testing.T, o ProberOptions) *Prober {
	t.Helper()
	p, err := NewProber(o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func probeAddrs() (a, b netip.Addr) { return addr(infraPrefix, 1), addr(infraPrefix, 2) }

func TestProberMeasuresAndNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := probeAddrs()
		n := newFakeNet(30 * time.Millisecond)
		p := startProber(t, ProberOptions{Conn: n.conn(a)})
		startProber(t, ProberOptions{Conn: n.conn(b)})
		changed := p.Changed()
		p.SetTargets([]netip.Addr{b})
		if _, ok := p.RTT(b); ok {
			t.Error("reachable before the first answer")
		}
		start := time.Now()
		<-changed
		if rtt, ok := p.RTT(b); !ok || rtt != 60*time.Millisecond || time.Since(start) != 60*time.Millisecond {
			t.Errorf("first answer: %s, %v after %s", rtt, ok, time.Since(start))
		}

		// The median follows a lasting change, and not a single late answer.
		time.Sleep(3 * time.Second)
		n.set(200*time.Millisecond, b, false)
		time.Sleep(300 * time.Millisecond)
		n.set(30*time.Millisecond, b, false)
		time.Sleep(500 * time.Millisecond)
		if rtt, _ := p.RTT(b); rtt != 60*time.Millisecond {
			t.Errorf("after one late answer: %s", rtt)
		}
		n.set(50*time.Millisecond, b, false)
		time.Sleep(3 * time.Second)
		if rtt, _ := p.RTT(b); rtt != 100*time.Millisecond {
			t.Errorf("after a lasting change: %s", rtt)
		}

		changed = p.Changed()
		n.set(50*time.Millisecond, b, true)
		cut := time.Now()
		<-changed
		if d := time.Since(cut); d < time.Second || d > 1500*time.Millisecond {
			t.Errorf("noticed after %s", d)
		}
		if _, ok := p.RTT(b); ok {
			t.Error("reachable through the cut")
		}
		time.Sleep(time.Minute)
		changed = p.Changed()
		n.set(20*time.Millisecond, b, false)
		healed := time.Now()
		<-changed
		if d := time.Since(healed); d > 300*time.Millisecond {
			t.Errorf("healed: noticed after %s", d)
		}
		if rtt, ok := p.RTT(b); !ok || rtt != 40*time.Millisecond {
			t.Errorf("healed: %s, %v", rtt, ok)
		}
	})
}

func TestProberIgnoresStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := probeAddrs()
		n := newFakeNet(time.Millisecond)
		liar := n.conn(b)
		p := startProber(t, ProberOptions{Conn: n.conn(a)})
		p.SetTargets([]netip.Addr{b})
		question := <-liar.in
		for name, spoil := range map[string]func([]byte) []byte{
			"another cookie":   func(m []byte) []byte { m[19]++; return m },
			"another sequence": func(m []byte) []byte { m[11]++; return m },
			"another version":  func(m []byte) []byte { m[3]++; return m },
			"too short":        func(m []byte) []byte { return m[:19] },
			"too long":         func(m []byte) []byte { return append(m, 0) },
			"empty":            func(m []byte) []byte { return nil },
		} {
			m := append([]byte(nil), question.b...)
			m[4] = 2 // an answer
			n.send(liar.addr, netip.AddrPortFrom(a, ProbePort), spoil(m))
			time.Sleep(10 * time.Millisecond)
			if _, ok := p.RTT(b); ok {
				t.Fatalf("%s: believed", name)
			}
		}
		m := append([]byte(nil), question.b...)
		m[4] = 2
		n.send(netip.AddrPortFrom(addr(infraPrefix, 9), ProbePort), netip.AddrPortFrom(a, ProbePort), m)
		time.Sleep(10 * time.Millisecond)
		if _, ok := p.RTT(b); ok {
			t.Fatal("another node's answer: believed")
		}
		n.send(liar.addr, netip.AddrPortFrom(a, ProbePort), m)
		time.Sleep(10 * time.Millisecond)
		if _, ok := p.RTT(b); !ok {
			t.Fatal("the answer: not believed")
		}
	})
}

func TestProberTargetsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := probeAddrs()
		n := newFakeNet(time.Millisecond)
		p := startProber(t, ProberOptions{Conn: n.conn(a)})
		startProber(t, ProberOptions{Conn: n.conn(b)})
		p.SetTargets([]netip.Addr{b, addr(infraPrefix, 3)})
		time.Sleep(time.Second)
		if _, ok := p.RTT(addr(infraPrefix, 3)); ok {
			t.Error("a node that isn't there is reachable")
		}
		was, _ := p.RTT(b)
		p.SetTargets([]netip.Addr{b})
		if rtt, ok := p.RTT(b); !ok || rtt != was {
			t.Error("what was known is gone")
		}
		changed := p.Changed()
		p.SetTargets(nil)
		<-changed
		if _, ok := p.RTT(b); ok {
			t.Error("no target any more, but reachable")
		}
		time.Sleep(100 * time.Millisecond) // the last answers
		n.mu.Lock()
		before := n.sent
		n.mu.Unlock()
		time.Sleep(time.Second)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.sent != before {
			t.Error("probes without targets")
		}
	})
}

func TestProberOptionsAreChecked(t *testing.T) {
	a, _ := probeAddrs()
	c := newFakeNet(0).conn(a)
	for _, o := range []ProberOptions{{}, {Conn: c, Every: -1}, {Conn: c, Window: -1}, {Conn: c, Every: time.Second, DeadAfter: time.Second}} {
		if _, err := NewProber(o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
}

// TestProberOverTheMesh probes through real devices, and ends with its connection.
func TestProberOverTheMesh(t *testing.T) {
	a, b := pair(t)
	probers := make([]*Prober, 2)
	conns := make([]net.PacketConn, 2)
	var running sync.WaitGroup
	for i, d := range []*Device{a, b} {
		c, err := d.ListenUDP(netip.AddrPortFrom(addr(infraPrefix, byte(i+1)), ProbePort))
		must(t, err)
		conns[i] = c
		probers[i], err = NewProber(ProberOptions{Conn: c, Every: 10 * time.Millisecond})
		must(t, err)
		running.Go(func() { _ = probers[i].Run(context.Background()) })
	}
	changed := probers[0].Changed()
	probers[0].SetTargets([]netip.Addr{addr(infraPrefix, 2)})
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Error("never reachable")
	}
	if rtt, ok := probers[0].RTT(addr(infraPrefix, 2)); !ok || rtt <= 0 {
		t.Errorf("%s, %v", rtt, ok)
	}
	for _, c := range conns {
		must(t, c.Close())
	}
	running.Wait()
}
