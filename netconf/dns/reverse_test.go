package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// outcome writes an answer's data, or what there is instead.
func outcome(m *dns.Msg) string {
	got := data(m)
	switch {
	case m.Rcode == dns.RcodeSuccess && got == "":
		return "NODATA"
	case m.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[m.Rcode]
	}
	return got
}

func TestReverse(t *testing.T) {
	r := mesh(t)
	top, _ := r.Current()
	demo, _ := top.Database("personal", "demo")
	secret, _ := top.Database("acme", "secret")
	org, _ := top.Org("personal")
	laptop, _ := top.Peer("personal", "laptop")
	nrt, _ := top.RegionalAddress(demo, "nrt")
	s := server(t, Options{Source: r, Regional: true})
	from := asker(t, r, "personal")
	arpa := func(a netip.Addr) string {
		name, err := dns.ReverseAddr(a.String())
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	apex := reverseName(org)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{arpa(demo.Address), dns.TypePTR, "demo.personal.internal."},
		{strings.ToUpper(arpa(demo.Address)), dns.TypePTR, "demo.personal.internal."},
		{arpa(nrt), dns.TypePTR, "nrt.demo.personal.internal."},
		{arpa(laptop.Addr), dns.TypePTR, "laptop._peer.personal.internal."},
		{arpa(org.Resolver()), dns.TypePTR, "_ns.internal."},
		{arpa(demo.Address), dns.TypeAAAA, "NODATA"},
		{strings.TrimPrefix(arpa(demo.Address), arpa(demo.Address)[:4]), dns.TypePTR, "NODATA"}, // above the address
		{apex, dns.TypePTR, "NODATA"},
		{apex, dns.TypeNS, "_ns.internal."},
		{apex[2:], dns.TypePTR, "NODATA"}, // above the zone
		{arpa(org.Service(999)), dns.TypePTR, "NXDOMAIN"},
		{arpa(secret.Address), dns.TypePTR, "NXDOMAIN"}, // another org's
		{arpa(netip.MustParseAddr("fc00::1")), dns.TypePTR, "NXDOMAIN"},
		{"0." + arpa(demo.Address), dns.TypePTR, "NXDOMAIN"},
		{"xx" + arpa(demo.Address)[1:], dns.TypePTR, "NXDOMAIN"},
		{arpa(netip.MustParseAddr("2001:db8::1")), dns.TypePTR, "REFUSED"},
		{"ip6.arpa.", dns.TypePTR, "REFUSED"},
		{"f.ip6.arpa.", dns.TypePTR, "REFUSED"},
		{"1.0.0.127.in-addr.arpa.", dns.TypePTR, "REFUSED"},
	} {
		m := ask(t, s, from, c.name, c.qtype)
		if got := outcome(m); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.want == "NODATA" || c.want == "NXDOMAIN" {
			if len(m.Ns) != 1 || m.Ns[0].Header().Name != apex || !m.Authoritative {
				t.Errorf("%s: authority %v", c.name, m.Ns)
			}
		}
	}
}

// TestRegional answers members with addresses of their own.
func TestRegional(t *testing.T) {
	r := mesh(t)
	top, _ := r.Current()
	demo, _ := top.Database("personal", "demo")
	org, _ := top.Org("personal")
	at := func(region string) string {
		a, ok := top.RegionalAddress(demo, region)
		if !ok {
			t.Fatal(region)
		}
		if d, in, ok := top.DatabaseAtRegional(a); !ok || d.ID != demo.ID || in != region {
			t.Errorf("%s is %s in %s, %v", a, d.Name, in, ok)
		}
		return a.String()
	}
	if _, _, ok := top.DatabaseAtRegional(demo.Address); ok {
		t.Error("the service address is no regional one")
	}
	sick := "ams"
	s := server(t, Options{Source: r, Regional: true, API: true, Healthy: healthyBut(&sick)})
	from := asker(t, r, "personal")
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"demo.personal.internal.", dns.TypeAAAA, demo.Address.String()},
		{"primary.demo.personal.internal.", dns.TypeAAAA, at("mad")},
		{"nrt.demo.personal.internal.", dns.TypeAAAA, at("nrt")},
		{"ams.demo.personal.internal.", dns.TypeAAAA, "NODATA"},
		{"nearest.of.demo.personal.internal.", dns.TypeAAAA, at("mad")},
		{"global.demo.personal.internal.", dns.TypeAAAA, at("mad") + " " + at("nrt")},
		{"top1.nearest.of.demo.personal.internal.", dns.TypeAAAA, at("mad")},
		{"_redis._tcp.demo.personal.internal.", dns.TypeSRV, "10 10 6379 mad.demo.personal.internal. 20 10 6379 nrt.demo.personal.internal."},
		{"_api.internal.", dns.TypeAAAA, org.Resolver().String()},
		{"_api.internal.", dns.TypeA, "NODATA"},
		{"x._api.internal.", dns.TypeAAAA, "NXDOMAIN"},
	} {
		if got := outcome(ask(t, s, from, c.name, c.qtype)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
