package dns

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"respmesh/netconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(h[:])
}

// mesh has nodes in mad, ams, nrt and iad, and two orgs that both have a database demo. Demo's primary is in mad,
// its replicas in nrt and ams.
func mesh(t testing.TB) *netconf.Registry {
	t.Helper()
	r := netconf.NewRegistry()
	if err := r.Update(func(d *netconf.Draft) error {
		for _, region := range []string{"mad", "ams", "nrt", "iad"} {
			if _, err := d.AddNode(netconf.Node{Name: region, Region: region, Key: key(region)}); err != nil {
				return err
			}
		}
		for _, org := range []string{"personal", "acme"} {
			if _, err := d.AddOrg(org); err != nil {
				return err
			}
			if _, err := d.AddDatabase(netconf.Database{Org: org, Name: "demo", Primary: "mad", Replicas: []string{"nrt", "ams"}}); err != nil {
				return err
			}
		}
		if _, err := d.AddDatabase(netconf.Database{Org: "personal", Name: "cache", Primary: "ams"}); err != nil {
			return err
		}
		if _, err := d.AddDatabase(netconf.Database{Org: "acme", Name: "secret", Primary: "ams"}); err != nil {
			return err
		}
		_, err := d.AddPeer(netconf.Peer{Org: "personal", Name: "laptop", Region: "mad", Key: key("laptop")})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// asker is an address of an org.
func asker(t testing.TB, r *netconf.Registry, org string) netip.Addr {
	t.Helper()
	top, _ := r.Current()
	o, ok := top.Org(org)
	if !ok {
		t.Fatal(org)
	}
	return o.PeerAddr(21, 1)
}

func server(t testing.TB, opt Options) *Server {
	t.Helper()
	if opt.Region == "" {
		opt.Region = "mad"
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ask sends one question through handle, as it would come from an address by UDP with EDNS.
func ask(t testing.TB, s *Server, from netip.Addr, name string, qtype uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(4096, false)
	return send(t, s, from, q)
}

func send(t testing.TB, s *Server, from netip.Addr, q *dns.Msg) *dns.Msg {
	t.Helper()
	raw, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply := s.handle(raw, from, false)
	m := new(dns.Msg)
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("%v in %x", err, reply)
	}
	if m.Id != q.Id || !m.Response || m.RecursionDesired != q.RecursionDesired || m.RecursionAvailable {
		t.Errorf("header %+v", m.MsgHdr)
	}
	return m
}

// data writes the answers' data, in order.
func data(m *dns.Msg) string {
	var parts []string
	for _, rr := range m.Answer {
		parts = append(parts, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(parts, " ")
}

func TestNames(t *testing.T) {
	r := mesh(t)
	top, _ := r.Current()
	demo, _ := top.Database("personal", "demo")
	org, _ := top.Org("personal")
	laptop, _ := top.Peer("personal", "laptop")
	s := server(t, Options{Source: r})
	from := asker(t, r, "personal")
	service := demo.Address.String()
	const nodata, nxdomain, refused = "NODATA", "NXDOMAIN", "REFUSED"
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string // the data, or what there is instead
	}{
		{"demo.personal.internal.", dns.TypeAAAA, service},
		{"DeMo.PERSONAL.Internal.", dns.TypeAAAA, service},
		{"primary.demo.personal.internal.", dns.TypeAAAA, service},
		{"nearest.of.demo.personal.internal.", dns.TypeAAAA, service},
		{"top1.nearest.of.demo.personal.internal.", dns.TypeAAAA, service},
		{"top3.nearest.of.demo.personal.internal.", dns.TypeAAAA, service},
		{"top999.nearest.of.demo.personal.internal.", dns.TypeAAAA, service},
		{"global.demo.personal.internal.", dns.TypeAAAA, service},
		{"mad.demo.personal.internal.", dns.TypeAAAA, service},
		{"nrt.demo.personal.internal.", dns.TypeAAAA, service},
		{"regions.demo.personal.internal.", dns.TypeTXT, `"mad,ams,nrt"`},
		{"regions.cache.personal.internal.", dns.TypeTXT, `"ams"`},
		{"_databases.personal.internal.", dns.TypeTXT, `"cache,demo"`},
		{"_databases.internal.", dns.TypeTXT, `"cache,demo"`},
		{"_peer.personal.internal.", dns.TypeTXT, `"laptop"`},
		{"_peer.internal.", dns.TypeTXT, `"laptop"`},
		{"laptop._peer.personal.internal.", dns.TypeAAAA, laptop.Addr.String()},
		{"laptop._peer.internal.", dns.TypeAAAA, laptop.Addr.String()},
		{"internal.", dns.TypeNS, "_ns.internal."},
		{"internal.", dns.TypeSOA, fmt.Sprintf("_ns.internal. hostmaster.internal. %d 3600 600 86400 5", top.Revision)},
		{"internal.", dns.TypeANY, fmt.Sprintf("_ns.internal. hostmaster.internal. %d 3600 600 86400 5", top.Revision)},
		{"_ns.internal.", dns.TypeAAAA, org.Resolver().String()},
		{"demo.personal.internal.", dns.TypeANY, service},

		// Names that exist, without the type.
		{"demo.personal.internal.", dns.TypeA, nodata},
		{"demo.personal.internal.", dns.TypeTXT, nodata},
		{"demo.personal.internal.", dns.TypeSRV, nodata},
		{"demo.personal.internal.", dns.TypeHTTPS, nodata},
		{"demo.personal.internal.", 65280, nodata},
		{"demo.personal.internal.", dns.TypeSOA, nodata},
		{"regions.demo.personal.internal.", dns.TypeAAAA, nodata},
		{"_databases.personal.internal.", dns.TypeAAAA, nodata},
		{"laptop._peer.personal.internal.", dns.TypeA, nodata},
		{"internal.", dns.TypeAAAA, nodata},
		{"internal.", dns.TypeDS, nodata},
		// Empty non-terminals.
		{"personal.internal.", dns.TypeAAAA, nodata},
		{"of.demo.personal.internal.", dns.TypeAAAA, nodata},
		{"of.demo.personal.internal.", dns.TypeANY, nodata},
		{"_tcp.demo.personal.internal.", dns.TypeSRV, nodata},
		{"_redis._tcp.demo.personal.internal.", dns.TypeAAAA, nodata},
		{"_redis._tcp.demo.personal.internal.", dns.TypeSRV, "10 10 6379 demo.personal.internal."},
		{"_redis._tcp.none.personal.internal.", dns.TypeSRV, nxdomain},
		{"_http._tcp.demo.personal.internal.", dns.TypeSRV, nxdomain},

		{"none.personal.internal.", dns.TypeAAAA, nxdomain},
		{"iad.demo.personal.internal.", dns.TypeAAAA, nxdomain}, // a region without a copy
		{"xxx.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"nearest.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"x.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"top0.nearest.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"top01.nearest.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"top1000.nearest.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"top-1.nearest.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"top+1.nearest.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"top.nearest.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"x.top1.nearest.of.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"x.primary.demo.personal.internal.", dns.TypeAAAA, nxdomain},
		{"x._ns.internal.", dns.TypeAAAA, nxdomain},
		{"x._databases.internal.", dns.TypeTXT, nxdomain},
		{"x.laptop._peer.internal.", dns.TypeAAAA, nxdomain},
		{"none._peer.personal.internal.", dns.TypeAAAA, nxdomain},
		{`demo\.personal.internal.`, dns.TypeAAAA, nxdomain}, // a dot inside a label
		{`\000.personal.internal.`, dns.TypeAAAA, nxdomain},
		{"*.personal.internal.", dns.TypeAAAA, nxdomain},
		{"_api.internal.", dns.TypeAAAA, nxdomain},
		// Another org's, whether they exist or not.
		{"acme.internal.", dns.TypeAAAA, nxdomain},
		{"demo.acme.internal.", dns.TypeAAAA, nxdomain},
		{"secret.acme.internal.", dns.TypeAAAA, nxdomain},
		{"secret.personal.internal.", dns.TypeAAAA, nxdomain},
		{"_databases.acme.internal.", dns.TypeTXT, nxdomain},
		{"nobody.internal.", dns.TypeAAAA, nxdomain},

		{".", dns.TypeNS, refused},
		{"example.com.", dns.TypeAAAA, refused},
		{"notinternal.", dns.TypeAAAA, refused},
		{"internal.example.", dns.TypeAAAA, refused},
		{`x\.internal.`, dns.TypeAAAA, refused},
		{"3.0.0.0.ip6.arpa.", dns.TypePTR, refused},
		{"internal.", dns.TypeAXFR, refused},
		{"internal.", dns.TypeIXFR, refused},
	} {
		m := ask(t, s, from, c.name, c.qtype)
		got := data(m)
		switch {
		case m.Rcode == dns.RcodeSuccess && got == "":
			got = nodata
		case m.Rcode != dns.RcodeSuccess:
			got = dns.RcodeToString[m.Rcode]
		}
		what := c.name + " " + dns.Type(c.qtype).String()
		if got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
		if m.Question[0].Name != c.name {
			t.Errorf("%s: the question came back as %s", what, m.Question[0].Name)
		}
		for _, rr := range m.Answer {
			if h := rr.Header(); h.Name != c.name || h.Ttl != 5 || h.Class != dns.ClassINET {
				t.Errorf("%s: %s", what, rr)
			}
		}
		negative := got == nodata || got == nxdomain
		if negative != (len(m.Ns) == 1) || negative && (m.Ns[0].(*dns.SOA).Minttl != 5 || m.Ns[0].Header().Ttl != 5) {
			t.Errorf("%s: authority %v", what, m.Ns)
		}
		if m.Authoritative == (got == refused) {
			t.Errorf("%s: authoritative is %v", what, m.Authoritative)
		}
		if opt := m.IsEdns0(); opt == nil || opt.UDPSize() != 1232 {
			t.Errorf("%s: EDNS %v", what, opt)
		}
	}
}

func TestViews(t *testing.T) {
	r := mesh(t)
	top, _ := r.Current()
	s := server(t, Options{Source: r})
	mine, _ := top.Database("acme", "demo")
	if m := ask(t, s, asker(t, r, "acme"), "demo.acme.internal.", dns.TypeAAAA); data(m) != mine.Address.String() {
		t.Error(m)
	}
	for _, from := range []string{"::1", "127.0.0.1", "2001:db8::1", "fd00::1", top.Nodes[0].Addr.String()} {
		for _, name := range []string{"demo.acme.internal.", "internal.", "example.com."} {
			if m := ask(t, s, netip.MustParseAddr(from), name, dns.TypeAAAA); m.Rcode != dns.RcodeRefused || len(m.Answer)+len(m.Ns) > 0 {
				t.Errorf("%s asked for %s: %v", from, name, m)
			}
		}
	}
	if m := ask(t, s, netip.Addr{}, "internal.", dns.TypeSOA); m.Rcode != dns.RcodeRefused {
		t.Error(m)
	}
}

func TestOnlyHealthyMembers(t *testing.T) {
	r := mesh(t)
	var sick []string
	s := server(t, Options{Source: r, Healthy: func(d *netconf.Database, region string) bool {
		return d.Name != "demo" || !slices.Contains(sick, region)
	}})
	from := asker(t, r, "personal")
	count := func(name string) int {
		m := ask(t, s, from, name+".demo.personal.internal.", dns.TypeAAAA)
		if m.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: %s", name, dns.RcodeToString[m.Rcode])
		}
		return len(m.Answer)
	}
	regions := func() string {
		return data(ask(t, s, from, "regions.demo.personal.internal.", dns.TypeTXT))
	}
	sick = []string{"nrt"}
	if count("nrt") != 0 || count("ams") != 1 || count("primary") != 1 || regions() != `"mad,ams"` {
		t.Error("nrt is sick, and answered")
	}
	sick = []string{"mad", "nrt"}
	if count("primary") != 0 || count("mad") != 0 || count("nearest.of") != 1 || regions() != `"ams"` {
		t.Error("mad is sick, and answered")
	}
	sick = []string{"mad", "nrt", "ams"}
	if count("global") != 0 || count("nearest.of") != 0 || count("top2.nearest.of") != 0 || regions() != "" {
		t.Error("all are sick, and answered")
	}
	if m := ask(t, s, from, "demo.personal.internal.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Error("the node answers the database's own name, whatever the health")
	}
	if m := ask(t, s, from, "cache.personal.internal.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Error("another database suffers")
	}
}

func TestNearestFirst(t *testing.T) {
	r := mesh(t)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, c := range []struct {
		region string
		rtt    map[string]time.Duration
		want   string
	}{
		{"mad", nil, `"mad,ams,nrt"`},
		{"nrt", nil, `"nrt,ams,mad"`},
		{"iad", nil, `"mad,ams,nrt"`}, // by distance
		{"iad", map[string]time.Duration{"mad": ms(100), "ams": ms(80), "nrt": ms(160)}, `"ams,mad,nrt"`},
		{"iad", map[string]time.Duration{"nrt": ms(900)}, `"nrt,mad,ams"`}, // measured before guessed
		{"iad", map[string]time.Duration{"mad": ms(80), "ams": ms(80)}, `"ams,mad,nrt"`},
		{"mad", map[string]time.Duration{"ams": 0, "nrt": 0}, `"mad,ams,nrt"`}, // the own one is the nearest
	} {
		s := server(t, Options{Source: r, Region: c.region, RTT: func(region string) (time.Duration, bool) {
			d, ok := c.rtt[region]
			return d, ok
		}})
		if got := data(ask(t, s, asker(t, r, "personal"), "regions.demo.personal.internal.", dns.TypeTXT)); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.region, c.rtt, got, c.want)
		}
	}
}

// source is a topology that may not be loaded yet.
type holder struct {
	atomic.Pointer[netconf.Topology]
}

func (h *holder) Current() (*netconf.Topology, <-chan struct{}) { return h.Load(), nil }

func TestNotLoaded(t *testing.T) {
	var h holder
	s := server(t, Options{Source: &h})
	r := mesh(t)
	from := asker(t, r, "personal")
	for _, name := range []string{"demo.personal.internal.", "none.personal.internal.", "internal."} {
		if m := ask(t, s, from, name, dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure || m.Authoritative || len(m.Ns) > 0 {
			t.Errorf("%s: %v", name, m)
		}
	}
	top, _ := r.Current()
	h.Store(top)
	if m := ask(t, s, from, "demo.personal.internal.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Error(m)
	}
}

func TestChangesAreSeen(t *testing.T) {
	r := mesh(t)
	s := server(t, Options{Source: r})
	from := asker(t, r, "personal")
	if err := r.Update(func(d *netconf.Draft) error { return d.SetReplicas("personal", "demo", []string{"iad"}) }); err != nil {
		t.Fatal(err)
	}
	if m := ask(t, s, from, "nrt.demo.personal.internal.", dns.TypeAAAA); m.Rcode != dns.RcodeNameError {
		t.Error(m)
	}
	if m := ask(t, s, from, "iad.demo.personal.internal.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Error(m)
	}
}

func TestEDNS(t *testing.T) {
	r := mesh(t)
	fill(t, r, 100)
	s := server(t, Options{Source: r})
	from := asker(t, r, "personal")
	query := func(size uint16) *dns.Msg {
		q := new(dns.Msg).SetQuestion("_databases.personal.internal.", dns.TypeTXT)
		if size > 0 {
			q.SetEdns0(size, false)
		}
		return q
	}
	for _, c := range []struct{ asked, most uint16 }{{0, 512}, {100, 512}, {512, 512}, {1000, 1000}, {1232, 1232}, {65535, 1232}} {
		m := send(t, s, from, query(c.asked))
		raw, _ := m.Pack()
		if !m.Truncated || len(raw) > int(c.most) || (m.IsEdns0() != nil) != (c.asked > 0) {
			t.Errorf("asked with %d: %d bytes, truncated %v, EDNS %v", c.asked, len(raw), m.Truncated, m.IsEdns0())
		}
	}
	q := query(1232)
	q.IsEdns0().SetVersion(1)
	if m := send(t, s, from, q); m.Rcode != dns.RcodeBadVers || len(m.Answer) > 0 {
		t.Error(m)
	}
	q = query(1232)
	q.Extra = append(q.Extra, q.Extra[0])
	if m := send(t, s, from, q); m.Rcode != dns.RcodeFormatError {
		t.Error(m)
	}
}

// fill gives the org personal many databases with long names.
func fill(t testing.TB, r *netconf.Registry, n int) {
	t.Helper()
	if err := r.Update(func(d *netconf.Draft) error {
		for i := range n {
			name := fmt.Sprintf("database-with-a-rather-long-name-%04d", i)
			if _, err := d.AddDatabase(netconf.Database{Org: "personal", Name: name, Primary: "mad"}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenMessages(t *testing.T) {
	r := mesh(t)
	s := server(t, Options{Source: r})
	from := asker(t, r, "personal")
	good, err := new(dns.Msg).SetQuestion("demo.personal.internal.", dns.TypeAAAA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, b byte) []byte {
		raw := slices.Clone(good)
		raw[at] = b
		return raw
	}
	for _, c := range []struct {
		name  string
		raw   []byte
		rcode int // -1: dropped
	}{
		{"empty", nil, -1},
		{"half a header", good[:11], -1},
		{"an answer", change(2, 0x81), -1},
		{"header only", good[:12], dns.RcodeFormatError},
		{"half a question", good[:20], dns.RcodeFormatError},
		{"no question", append(slices.Clone(good[:4]), make([]byte, 8)...), dns.RcodeFormatError},
		{"two questions", change(5, 2), dns.RcodeFormatError},
		{"records that aren't there", change(11, 9), dns.RcodeFormatError},
		{"name that points to itself", append(slices.Clone(good[:12]), 0xc0, 12, 0, 28, 0, 1), dns.RcodeFormatError},
		{"label too long", change(12, 0x7f), dns.RcodeFormatError},
		{"notify", change(2, 4<<3), dns.RcodeNotImplemented},
		{"update", change(2, 5<<3), dns.RcodeNotImplemented},
		{"chaos class", change(len(good)-1, 3), dns.RcodeRefused},
	} {
		reply := s.handle(c.raw, from, false)
		if c.rcode < 0 {
			if reply != nil {
				t.Errorf("%s: answered %x", c.name, reply)
			}
			continue
		}
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil || m.Rcode != c.rcode || !m.Response || reply[0] != good[0] || reply[1] != good[1] {
			t.Errorf("%s: %v %v", c.name, err, m)
		}
	}
	if st := s.Stats(); st.Dropped != 3 || st.Failed != 9 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
}

// sockets starts a server on loopback, for askers of the org personal.
func sockets(t *testing.T, r *netconf.Registry, opt Options) (*Server, string) {
	t.Helper()
	opt.Source = r
	opt.OrgOf = func(top *netconf.Topology, from netip.Addr) (netconf.Org, bool) {
		if from != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("asker %v", from)
		}
		return top.Org("personal")
	}
	s := server(t, opt)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	go func() { served <- s.Serve(l) }()
	go func() { served <- s.ServePacket(pc) }()
	t.Cleanup(func() {
		for range 2 {
			_ = s.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
	return s, l.Addr().String()
}

func TestSockets(t *testing.T) {
	r := mesh(t)
	fill(t, r, 100)
	s, addr := sockets(t, r, Options{})
	top, _ := r.Current()
	demo, _ := top.Database("personal", "demo")
	for _, network := range []string{"udp", "tcp"} {
		m, _, err := (&dns.Client{Net: network}).Exchange(new(dns.Msg).SetQuestion("dEmO.personal.internal.", dns.TypeAAAA), addr)
		if err != nil || data(m) != demo.Address.String() || m.Answer[0].Header().Name != "dEmO.personal.internal." {
			t.Fatalf("%s: %v %v", network, err, m)
		}
	}
	// A list too long for a datagram comes by TCP.
	q := new(dns.Msg).SetQuestion("_databases.personal.internal.", dns.TypeTXT)
	m, _, err := (&dns.Client{}).Exchange(q, addr)
	if err != nil || !m.Truncated {
		t.Fatalf("%v %v", err, m)
	}
	m, _, err = (&dns.Client{Net: "tcp"}).Exchange(q, addr)
	if err != nil || m.Truncated {
		t.Fatalf("%v %v", err, m)
	}
	var names []string
	for _, rr := range m.Answer {
		names = append(names, strings.Split(strings.Join(rr.(*dns.TXT).Txt, ""), ",")...)
	}
	if len(names) != 102 || names[0] != "cache" || names[101] != "demo" {
		t.Errorf("%d databases: %v", len(names), names)
	}
	if st := s.Stats(); st.Answered != 4 || st.Truncated != 1 {
		t.Errorf("%+v", st)
	}
}

func TestStreamOfQueries(t *testing.T) {
	_, addr := sockets(t, mesh(t), Options{})
	c, err := dns.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for range 20 { // pipelined
		if err := c.WriteMsg(new(dns.Msg).SetQuestion("demo.personal.internal.", dns.TypeAAAA)); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		if m, err := c.ReadMsg(); err != nil || len(m.Answer) != 1 {
			t.Fatal(err, m)
		}
	}
	// What isn't a question ends the connection.
	if _, err := c.Write([]byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadMsg(); err == nil {
		t.Error("answered junk")
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	_, addr := sockets(t, mesh(t), Options{Idle: 20 * time.Millisecond})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte{0, 30, 1}) // the rest never comes
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("kept")
	}
}

func TestConnectionBounds(t *testing.T) {
	for _, opt := range []Options{{Conns: 2}, {ConnsPerPeer: 2}} {
		s, addr := sockets(t, mesh(t), opt)
		dial := func() *dns.Conn {
			c, err := dns.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		query := func(c *dns.Conn) error {
			if err := c.WriteMsg(new(dns.Msg).SetQuestion("demo.personal.internal.", dns.TypeAAAA)); err != nil {
				return err
			}
			_, err := c.ReadMsg()
			return err
		}
		first, second := dial(), dial()
		for _, c := range []*dns.Conn{first, second} {
			if err := query(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := query(dial()); err == nil {
			t.Error("one too many is served")
		}
		if st := s.Stats(); st.ConnRefused != 1 {
			t.Errorf("%+v", st)
		}
		// A place that is free again is given again.
		_ = first.Close()
		for i := 0; query(dial()) != nil; i++ {
			if i > 1000 {
				t.Fatal("the place isn't free again")
			}
		}
	}
}

// flaky fails for a while, as a stack in trouble does.
type flaky struct {
	net.PacketConn
	left atomic.Int32
}

func (f *flaky) ReadFrom(p []byte) (int, net.Addr, error) {
	if f.left.Add(-1) >= 0 {
		return 0, nil, fmt.Errorf("no buffer space")
	}
	return f.PacketConn.ReadFrom(p)
}

func TestReadErrors(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{PacketConn: pc}
	f.left.Store(3)
	s := server(t, Options{Source: mesh(t), Workers: 1, OrgOf: func(top *netconf.Topology, _ netip.Addr) (netconf.Org, bool) { return top.Org("personal") }})
	served := make(chan error, 1)
	go func() { served <- s.ServePacket(f) }()
	m, err := dns.ExchangeContext(context.Background(), new(dns.Msg).SetQuestion("demo.personal.internal.", dns.TypeAAAA), pc.LocalAddr().String())
	if err != nil || len(m.Answer) != 1 {
		t.Error(err, m)
	}
	_ = s.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// broken is a connection and a listener that only fail.
type broken struct{ net.PacketConn }

func (broken) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, errors.New("no buffer space") }
func (broken) Accept() (net.Conn, error)              { return nil, errors.New("no buffer space") }
func (broken) Addr() net.Addr                         { return nil }
func (broken) Close() error                           { return nil }

func TestErrorsThatStay(t *testing.T) {
	r := mesh(t)
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Options{Source: r})
		start := time.Now()
		for _, err := range []error{s.ServePacket(broken{}), s.Serve(broken{})} {
			if err == nil || err.Error() != "dns: no buffer space" {
				t.Error(err)
			}
		}
		if took := time.Since(start); took < time.Second || took > 10*time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
	// And one that is closed doesn't wait for the next attempt.
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Options{Source: r, Workers: 1})
		served := make(chan error, 1)
		go func() { served <- s.ServePacket(broken{}) }()
		time.AfterFunc(100*time.Millisecond, func() { _ = s.Close() })
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseTwiceAndServeAfter(t *testing.T) {
	s := server(t, Options{Source: mesh(t)})
	_ = s.Close()
	_ = s.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Error(err)
	}
	if err := s.ServePacket(pc); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{Region: "mad"}); err == nil {
		t.Error("no source")
	}
	if _, err := New(Options{Source: netconf.NewRegistry(), Region: "madd"}); err == nil || !strings.Contains(err.Error(), "mad (Madrid)") {
		t.Error(err)
	}
}

func TestPack(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 9, 40, 41, 1000} {
		var list []string
		for i := range n {
			list = append(list, strings.Repeat("x", 1+i*7%63)+fmt.Sprint(i))
		}
		var back []string
		for _, record := range pack(list) {
			size := 0
			for _, s := range record {
				if len(s) == 0 || len(s) > 255 {
					t.Fatalf("a string of %d bytes", len(s))
				}
				size += len(s)
			}
			if size > 1024 {
				t.Errorf("a record of %d bytes", size)
			}
			back = append(back, strings.Split(strings.Join(record, ""), ",")...)
		}
		if !slices.Equal(back, list) {
			t.Errorf("%d names: %v", n, back)
		}
	}
}

func FuzzHandle(f *testing.F) {
	r := mesh(f)
	s := server(f, Options{Source: r, Regional: true, API: true, PerSecond: -1})
	from := asker(f, r, "personal")
	for _, name := range []string{"demo.personal.internal.", "top3.nearest.of.demo.personal.internal.", "regions.demo.personal.internal.", "secret.acme.internal.", "internal.", "."} {
		for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeTXT, dns.TypeANY} {
			q := new(dns.Msg).SetQuestion(name, qtype)
			q.SetEdns0(4096, true)
			raw, err := q.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw, false)
			f.Add(raw[:len(raw)-11], true)
		}
	}
	top, _ := r.Current()
	secret, _ := top.Database("acme", "secret")
	f.Fuzz(func(t *testing.T, raw []byte, tcp bool) {
		reply := s.handle(raw, from, tcp)
		if reply == nil {
			if len(raw) >= headerSize && raw[2]&0x80 == 0 {
				t.Fatal("a query without an answer")
			}
			return
		}
		if !tcp && len(reply) > udpMost {
			t.Fatalf("%d bytes", len(reply))
		}
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if !m.Response || reply[0] != raw[0] || reply[1] != raw[1] {
			t.Fatal("not the answer to the question")
		}
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.AAAA); ok && a.AAAA.String() == secret.Address.String() {
				t.Fatal("another org's address")
			}
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	r := mesh(b)
	s := server(b, Options{Source: r, PerSecond: -1})
	from := asker(b, r, "personal")
	q := new(dns.Msg).SetQuestion("nearest.of.demo.personal.internal.", dns.TypeAAAA)
	q.SetEdns0(1232, false)
	raw, err := q.Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.handle(raw, from, false)
	}
}
