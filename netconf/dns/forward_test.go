package dns

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"respmesh/netconf"
)

func healthyBut(sick *string) func(*netconf.Database, string) bool {
	return func(_ *netconf.Database, region string) bool { return region != *sick }
}

// upstream is a resolver on loopback that answers what a function says; nil: nothing.
func upstream(t *testing.T, answer func(q *dns.Msg, tcp bool) *dns.Msg) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	var servers []*dns.Server
	var started sync.WaitGroup
	for _, s := range []*dns.Server{{PacketConn: pc}, {Listener: l}} {
		started.Add(1)
		s.NotifyStartedFunc = started.Done
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			_, tcp := w.RemoteAddr().(*net.TCPAddr)
			if m := answer(q, tcp); m != nil {
				_ = w.WriteMsg(m)
			}
		})
		servers = append(servers, s)
		go func() { _ = s.ActivateAndServe() }()
	}
	started.Wait()
	t.Cleanup(func() {
		for _, s := range servers {
			_ = s.Shutdown()
		}
	})
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func forwarding(t *testing.T, f Forward) (*Server, func(name string, qtype uint16) *dns.Msg) {
	t.Helper()
	r := mesh(t)
	s := server(t, Options{Source: r, Forward: f})
	from := asker(t, r, "personal")
	return s, func(name string, qtype uint16) *dns.Msg {
		q := new(dns.Msg).SetQuestion(name, qtype)
		q.SetEdns0(4096, false)
		raw, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(s.handle(raw, from, false)); err != nil {
			t.Fatal(err)
		}
		return m
	}
}

func TestForward(t *testing.T) {
	var asked atomic.Int64
	up := upstream(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		asked.Add(1)
		m := new(dns.Msg).SetReply(q)
		switch strings.ToLower(q.Question[0].Name) {
		case "www.example.":
			m.Answer = []dns.RR{record(t, "www.example. 60 IN AAAA 2001:db8::1")}
		case "long.example.":
			m.Truncated = !tcp
			if tcp {
				m.Answer = []dns.RR{record(t, "long.example. 60 IN A 192.0.2.1")}
			}
		case "gone.example.":
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{record(t, "example. 60 IN SOA ns.example. h.example. 1 2 3 4 30")}
		case "zero.example.":
			m.Answer = []dns.RR{record(t, "zero.example. 0 IN A 192.0.2.1")}
		case "liar.example.":
			m.Question[0].Name = "other.example."
		default:
			m.Rcode = dns.RcodeServerFailure
		}
		return m
	})
	s, get := forwarding(t, Forward{Upstreams: []netip.AddrPort{up}})
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
		asks  int64 // the upstream, when asked twice
	}{
		{"WWW.Example.", dns.TypeAAAA, "2001:db8::1", 1},
		{"long.example.", dns.TypeA, "192.0.2.1", 2}, // by UDP, then by TCP
		{"gone.example.", dns.TypeA, "NXDOMAIN", 1},
		{"zero.example.", dns.TypeA, "192.0.2.1", 2},
		{"liar.example.", dns.TypeA, "SERVFAIL", 2},
		{"broken.example.", dns.TypeA, "SERVFAIL", 2},
		// Nobody else is asked about these.
		{"demo.personal.internal.", dns.TypeA, "NODATA", 0},
		{"none.internal.", dns.TypeAAAA, "NXDOMAIN", 0},
		{"1.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NXDOMAIN", 0},
		{"printer.local.", dns.TypeA, "NXDOMAIN", 0},
		{"localhost.", dns.TypeA, "NXDOMAIN", 0},
	} {
		asked.Store(0)
		for range 2 {
			m := get(c.name, c.qtype)
			if got := outcome(m); got != c.want || !m.RecursionAvailable || len(m.Answer) > 0 && m.Answer[0].Header().Name != c.name {
				t.Errorf("%s: %s, want %s: %v", c.name, got, c.want, m)
			}
		}
		if n := asked.Load(); n != c.asks {
			t.Errorf("%s: the upstream was asked %d times, want %d", c.name, n, c.asks)
		}
	}
	if st := s.Stats(); st.Cached != 3 || st.Forwarded != 9 {
		t.Errorf("%+v", st)
	}
	// A question that doesn't ask for recursion isn't forwarded.
	q := new(dns.Msg).SetQuestion("www.example.", dns.TypeAAAA)
	q.RecursionDesired = false
	raw, _ := q.Pack()
	r := mesh(t)
	s2 := server(t, Options{Source: r, Forward: Forward{Upstreams: []netip.AddrPort{up}}})
	m := new(dns.Msg)
	if err := m.Unpack(s2.handle(raw, asker(t, r, "personal"), false)); err != nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("without recursion: %v %v", err, m)
	}
	// Who is in no org isn't served either.
	q.RecursionDesired = true
	raw, _ = q.Pack()
	if err := m.Unpack(s2.handle(raw, netip.MustParseAddr("192.0.2.7"), false)); err != nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("a stranger: %v %v", err, m)
	}
}

// TestForwardToTheNext goes on with the upstream that answers.
func TestForwardToTheNext(t *testing.T) {
	dead := upstream(t, func(*dns.Msg, bool) *dns.Msg { return nil })
	up := upstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{record(t, q.Question[0].Name+" 60 IN A 192.0.2.1")}
		return m
	})
	_, get := forwarding(t, Forward{Upstreams: []netip.AddrPort{dead, up}, Timeout: 50 * time.Millisecond})
	for _, name := range []string{"a.example.", "b.example."} {
		if got := outcome(get(name, dns.TypeA)); got != "192.0.2.1" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestForwardIsBounded lets an upstream answer nobody, while one asker asks too much.
func TestForwardIsBounded(t *testing.T) {
	block, arrived := make(chan struct{}), make(chan struct{}, 100)
	up := upstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		arrived <- struct{}{}
		<-block
		return new(dns.Msg).SetReply(q)
	})
	s, get := forwarding(t, Forward{Upstreams: []netip.AddrPort{up}, PerSource: 3, Timeout: 10 * time.Second})
	var running sync.WaitGroup
	for range 2 { // the same question twice is asked once
		running.Go(func() { get("same.example.", dns.TypeA) })
	}
	running.Go(func() { get("other.example.", dns.TypeA) })
	<-arrived
	<-arrived
	deadline := time.After(10 * time.Second)
	for s.Stats().Forwarded < 3 {
		select {
		case <-deadline:
			t.Fatal("not all have asked")
		case <-time.After(time.Millisecond):
		}
	}
	if got := outcome(get("fourth.example.", dns.TypeA)); got != "SERVFAIL" || s.Stats().Limited != 1 {
		t.Errorf("above the bound: %s, %+v", got, s.Stats())
	}
	close(block)
	running.Wait()
	if n := len(arrived); n != 0 {
		t.Errorf("%d more questions", n)
	}
}

func TestForwardCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := newForwarder(Forward{Cache: 100})
		if err != nil {
			t.Fatal(err)
		}
		rr := record(t, "x. 10 IN A 192.0.2.1")
		q := func(i int) dns.Question {
			return dns.Question{Name: "x" + strings.Repeat("x", i%50) + ".", Qtype: uint16(i), Qclass: dns.ClassINET}
		}
		for i := range 1000 {
			f.keep(q(i), &dns.Msg{Answer: []dns.RR{rr}}, time.Now())
		}
		if len(f.cache) > 100 {
			t.Errorf("%d answers are kept", len(f.cache))
		}
		f.keep(q(1), &dns.Msg{Answer: []dns.RR{rr}}, time.Now())
		time.Sleep(4 * time.Second)
		if m := f.kept(q(1), time.Now()); m == nil || m.Answer[0].Header().Ttl != 6 {
			t.Errorf("after 4 s: %v", m)
		}
		time.Sleep(6 * time.Second)
		if m := f.kept(q(1), time.Now()); m != nil {
			t.Errorf("after 10 s: %v", m)
		}
	})
}

func TestForwardRefusesLoops(t *testing.T) {
	r := mesh(t)
	top, _ := r.Current()
	org, _ := top.Org("personal")
	s := server(t, Options{Source: r, Forward: Forward{Upstreams: []netip.AddrPort{netip.AddrPortFrom(org.Resolver(), 53)}}})
	q, _ := new(dns.Msg).SetQuestion("www.example.", dns.TypeA).Pack()
	m := new(dns.Msg)
	if err := m.Unpack(s.handle(q, asker(t, r, "personal"), false)); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("an upstream in the mesh: %v %v", err, m)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = server(t, Options{Source: r, Forward: Forward{Upstreams: []netip.AddrPort{netip.MustParseAddrPort(pc.LocalAddr().String())}}})
	if err := s.ServePacket(pc); err == nil || !strings.Contains(err.Error(), "is this server itself") {
		t.Errorf("an upstream that is the server: %v", err)
	}
	if _, err := pc.WriteTo(nil, pc.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is open: %v", err)
	}
	for _, u := range []string{"0.0.0.0:53", "192.0.2.1:0", "[ff02::1]:53"} {
		if _, err := New(Options{Source: r, Region: "mad", Forward: Forward{Upstreams: []netip.AddrPort{netip.MustParseAddrPort(u)}}}); err == nil {
			t.Errorf("upstream %s accepted", u)
		}
	}
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit{rate: 100, sources: make(map[netip.Addr]bucket)}
		admitted := func(n int, from string) (k int) {
			for range n {
				if l.admit(netip.MustParseAddr(from), time.Now()) {
					k++
				}
			}
			return k
		}
		if n := admitted(1000, "fd00::1"); n != 200 {
			t.Errorf("%d at once", n)
		}
		time.Sleep(time.Second)
		if n := admitted(1000, "fd00::1"); n != 100 {
			t.Errorf("%d a second later", n)
		}
		if n := admitted(10, "fd00::2"); n != 10 {
			t.Errorf("%d of another asker", n)
		}
		for i := range 3 * maxLimited {
			l.admit(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), time.Now())
		}
		if len(l.sources) > maxLimited {
			t.Errorf("%d askers are remembered", len(l.sources))
		}
	})
}
