package mesh

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// packet builds an IPv6 packet around a transport header and payload.
func packet(next byte, src, dst netip.Addr, payload []byte) []byte {
	b := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(payload))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = next, 64
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return append(b, payload...)
}

func tcpHeader(from, to uint16, flags byte) []byte {
	p := make([]byte, tcpHeaderLen)
	binary.BigEndian.PutUint16(p, from)
	binary.BigEndian.PutUint16(p[2:], to)
	p[12], p[13] = 5<<4, flags
	return p
}

func udpHeader(from, to uint16, data int) []byte {
	p := make([]byte, udpHeaderLen+data)
	binary.BigEndian.PutUint16(p, from)
	binary.BigEndian.PutUint16(p[2:], to)
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)))
	return p
}

func icmpHeader(kind byte) []byte { return []byte{kind, 0, 0, 0, 0, 1, 0, 1} }

const (
	syn    = tcpSYN
	synAck = tcpSYN | tcpACK
	ack    = tcpACK
	tcp6   = byte(TCP)
	udp6   = byte(UDP)
	icmp6  = byte(ICMPv6)
)

func TestFilter(t *testing.T) {
	var (
		a1, a2 = addr(orgA, 1), addr(orgA, 2)
		b1     = addr(orgB, 1)
		n1, n2 = addr(infraPrefix, 1), addr(infraPrefix, 2)
		other  = netip.MustParseAddr("fd00:c:c::1")
		near   = netip.MustParseAddr("fd00:a:b::1") // one bit from orgA's prefix
	)
	node := newTestFilter(t, nodeRules)
	peer := newTestFilter(t, FilterRules{Role: RolePeer, Orgs: []netip.Prefix{orgA}})

	short := packet(tcp6, a1, a2, tcpHeader(40000, 6379, syn))
	badOffset := tcpHeader(40000, 6379, syn)
	badOffset[12] = 15 << 4
	badUDP := udpHeader(40000, 53, 4)
	badUDP[5]++
	v4 := make([]byte, 40)
	v4[0] = 0x45

	for _, c := range []struct {
		name   string
		f      *Filter
		d      Direction
		packet []byte
		want   Reason
	}{
		{"RESP to a node", node, Inbound, packet(tcp6, a1, a2, tcpHeader(40000, 6379, syn)), pass},
		{"RESP answered by a node", node, Outbound, packet(tcp6, a2, a1, tcpHeader(6379, 40000, synAck)), pass},
		{"DNS by UDP", node, Inbound, packet(udp6, a1, a2, udpHeader(40000, 53, 30)), pass},
		{"DNS answer by UDP", node, Outbound, packet(udp6, a2, a1, udpHeader(53, 40000, 30)), pass},
		{"DNS by TCP", node, Inbound, packet(tcp6, a1, a2, tcpHeader(40000, 53, syn)), pass},
		{"ping", node, Inbound, packet(icmp6, a1, a2, icmpHeader(icmpEcho)), pass},
		{"pong", node, Outbound, packet(icmp6, a2, a1, icmpHeader(icmpEchoReply)), pass},
		{"the other organisation", node, Inbound, packet(tcp6, b1, addr(orgB, 2), tcpHeader(40000, 6379, syn)), pass},

		{"A to B", node, Inbound, packet(tcp6, a1, b1, tcpHeader(40000, 6379, syn)), CrossPrefix},
		{"A to B, outbound", node, Outbound, packet(tcp6, a1, b1, tcpHeader(6379, 40000, ack)), CrossPrefix},
		{"A to the next prefix", node, Inbound, packet(tcp6, a1, near, tcpHeader(40000, 6379, syn)), CrossPrefix},
		{"a peer to the infrastructure", node, Inbound, packet(tcp6, a1, n1, tcpHeader(40000, 7379, syn)), CrossPrefix},
		{"a peer pings the infrastructure", node, Inbound, packet(icmp6, a1, n1, icmpHeader(icmpEcho)), CrossPrefix},
		{"the infrastructure to a peer", node, Outbound, packet(tcp6, n1, a1, tcpHeader(6379, 40000, ack)), CrossPrefix},
		{"an unknown organisation", node, Inbound, packet(tcp6, other, addr(netip.PrefixFrom(other, 48), 2), tcpHeader(40000, 6379, syn)), Unknown},

		{"another port", node, Inbound, packet(tcp6, a1, a2, tcpHeader(40000, 22, syn)), Port},
		{"the link port", node, Inbound, packet(tcp6, a1, a2, tcpHeader(6379, 7379, syn)), Port},
		{"RESP by UDP", node, Inbound, packet(udp6, a1, a2, udpHeader(40000, 6379, 1)), Port},
		{"from the service port to another", node, Inbound, packet(tcp6, a1, a2, tcpHeader(6379, 22, syn)), Port},
		{"a node's answer to inside", node, Inbound, packet(tcp6, a1, a2, tcpHeader(6379, 40000, ack)), Port},
		{"a node opens a connection", node, Outbound, packet(tcp6, a2, a1, tcpHeader(40000, 6379, syn)), Port},
		{"a node opens from the service port", node, Outbound, packet(tcp6, a2, a1, tcpHeader(6379, 22, syn)), Opening},
		{"redirect", node, Inbound, packet(icmp6, a1, a2, icmpHeader(137)), ICMP},
		{"router advertisement", node, Inbound, packet(icmp6, a1, a2, icmpHeader(134)), ICMP},
		{"packet too big", node, Inbound, packet(icmp6, a1, a2, icmpHeader(2)), ICMP},

		{"a link between nodes", node, Inbound, packet(tcp6, n1, n2, tcpHeader(40000, 7379, syn)), pass},
		{"a link, outbound", node, Outbound, packet(tcp6, n1, n2, tcpHeader(40000, 7379, syn)), pass},
		{"a probe", node, Inbound, packet(udp6, n1, n2, udpHeader(7380, 7380, 20)), pass},
		{"a ping among nodes", node, Inbound, packet(icmp6, n1, n2, icmpHeader(icmpEcho)), pass},
		{"a redirect among nodes", node, Inbound, packet(icmp6, n1, n2, icmpHeader(137)), ICMP},
		{"a broken header among nodes", node, Inbound, packet(tcp6, n1, n2, badOffset), Malformed},

		{"a peer asks", peer, Outbound, packet(tcp6, a1, a2, tcpHeader(40000, 6379, syn)), pass},
		{"a peer is answered", peer, Inbound, packet(tcp6, a2, a1, tcpHeader(6379, 40000, synAck)), pass},
		{"a peer is called", peer, Inbound, packet(tcp6, a2, a1, tcpHeader(40000, 6379, syn)), Port},
		{"a peer is called from the service port", peer, Inbound, packet(tcp6, a2, a1, tcpHeader(6379, 22, syn)), Opening},
		{"a peer asks for more", peer, Outbound, packet(tcp6, a1, a2, tcpHeader(40000, 22, syn)), Port},
		{"a peer among nodes", peer, Outbound, packet(tcp6, n1, n2, tcpHeader(40000, 7379, syn)), Unknown},

		{"nothing", node, Inbound, nil, Malformed},
		{"IPv4", node, Inbound, v4, NotIPv6},
		{"a stump", node, Inbound, short[:39], Malformed},
		{"shorter than it says", node, Inbound, short[:len(short)-1], Malformed},
		{"longer than it says", node, Inbound, append(packet(tcp6, a1, a2, tcpHeader(40000, 6379, syn)), 0), Malformed},
		{"half a TCP header", node, Inbound, packet(tcp6, a1, a2, tcpHeader(40000, 6379, syn)[:13]), Malformed},
		{"TCP options beyond the end", node, Inbound, packet(tcp6, a1, a2, badOffset), Malformed},
		{"UDP lengths differ", node, Inbound, packet(udp6, a1, a2, badUDP), Malformed},
		{"half an ICMP header", node, Inbound, packet(icmp6, a1, a2, []byte{icmpEcho}), Malformed},
		{"a fragment", node, Inbound, packet(44, a1, a2, append([]byte{tcp6, 0, 0, 1, 0, 0, 0, 1}, tcpHeader(40000, 6379, syn)...)), Fragment},
		{"hop-by-hop options", node, Inbound, packet(0, a1, a2, append([]byte{tcp6, 0, 1, 4, 0, 0, 0, 0}, tcpHeader(40000, 6379, syn)...)), Extension},
		{"a routing header", node, Inbound, packet(43, a1, a2, make([]byte, 28)), Extension},
		{"destination options", node, Inbound, packet(60, n1, n2, make([]byte, 28)), Extension},
		{"SCTP", node, Inbound, packet(132, a1, a2, make([]byte, 28)), Protocol},
		{"IPv4 inside", node, Inbound, packet(4, a1, a2, make([]byte, 28)), Protocol},
		{"no next header", node, Inbound, packet(59, a1, a2, nil), Protocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := uint64(0)
			if c.want != pass {
				before = c.f.Drops(c.d, c.want)
			}
			if got := c.f.rules.Load().judge(c.d, c.packet); got != c.want {
				t.Fatalf("got %s, want %s", got, c.want)
			}
			if c.f.Allow(c.d, c.packet) != (c.want == pass) {
				t.Fatal("Allow disagrees")
			}
			if c.want != pass && c.f.Drops(c.d, c.want) != before+1 {
				t.Error("not counted")
			}
		})
	}
}

func TestFilterRulesAreChecked(t *testing.T) {
	p := netip.MustParsePrefix
	for name, r := range map[string]FilterRules{
		"IPv4":              {Orgs: []netip.Prefix{p("10.0.0.0/8")}},
		"too long":          {Orgs: []netip.Prefix{p("fd00:a:a::/64")}},
		"bits to the right": {Orgs: []netip.Prefix{p("fd00:a:a::1/48")}},
		"public":            {Orgs: []netip.Prefix{p("2001:db8:1::/48")}},
		"twice":             {Orgs: []netip.Prefix{orgA, orgA}},
		"infra is an org":   {Infra: orgA, Orgs: []netip.Prefix{orgA}},
		"port 0":            {Services: []Service{{TCP, 0}}},
		"ICMP service":      {Services: []Service{{ICMPv6, 1}}},
		"role":              {Role: 9},
	} {
		if _, err := NewFilter(r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFilterRulesChangeAtOnce(t *testing.T) {
	f := newTestFilter(t, FilterRules{Infra: infraPrefix})
	b := packet(tcp6, addr(orgA, 1), addr(orgA, 2), tcpHeader(40000, 6379, syn))
	if f.Allow(Inbound, b) {
		t.Error("an unknown organisation passes")
	}
	must(t, f.SetRules(nodeRules))
	if !f.Allow(Inbound, b) {
		t.Error("a known organisation doesn't pass")
	}
	if f.SetRules(FilterRules{Role: 9}) == nil || !f.Allow(Inbound, b) {
		t.Error("bad rules took effect")
	}
}

// TestDropsByOrg counts for the organisation that sent it, also over a change of the rules, and writes about the first only.
func TestDropsByOrg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTestFilter(t, nodeRules)
		var out bytes.Buffer
		link := filtered{nil, f, &dropLog{log: slog.New(slog.NewTextHandler(&out, nil))}, new(cutter)}
		aToB := packet(tcp6, addr(orgA, 1), addr(orgB, 1), tcpHeader(40000, 6379, syn))
		for range 1000 {
			if link.allow(Inbound, aToB) {
				t.Fatal("passed")
			}
		}
		must(t, f.SetRules(nodeRules))
		if a, b := f.OrgDrops(orgA, Inbound, CrossPrefix), f.OrgDrops(orgB, Inbound, CrossPrefix); a != 1000 || b != 0 {
			t.Errorf("%d of A, %d of B", a, b)
		}
		link.allow(Inbound, []byte{1})
		want := `direction=in reason=cross_prefix packets=1 bytes=60 from=fd00:a:a::1 to=fd00:b:b::1 protocol=6 port=6379`
		if n := strings.Count(out.String(), "packets dropped"); n != 2 || !strings.Contains(out.String(), want) {
			t.Errorf("wrote %s", out.String())
		}
		out.Reset()
		time.Sleep(dropLogEvery)
		link.allow(Inbound, aToB)
		if !strings.Contains(out.String(), "packets=1000 ") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("later wrote %s", out.String())
		}
		if n := f.OrgDrops(netip.MustParsePrefix("fd00:c:c::/48"), Inbound, CrossPrefix); n != 0 {
			t.Errorf("%d of nobody", n)
		}
	})
}

func TestReasonsHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range Reasons() {
		if r.String() == "pass" || seen[r.String()] {
			t.Errorf("reason %d is called %q", r, r)
		}
		seen[r.String()] = true
	}
}

// FuzzFilter checks what must hold for any packet that passes, with a reading of
// the packet of its own.
func FuzzFilter(f *testing.F) {
	f.Add(true, packet(tcp6, addr(orgA, 1), addr(orgA, 2), tcpHeader(40000, 6379, syn)))
	f.Add(false, packet(tcp6, addr(orgA, 2), addr(orgA, 1), tcpHeader(6379, 40000, synAck)))
	f.Add(true, packet(udp6, addr(orgB, 1), addr(orgB, 2), udpHeader(40000, 53, 10)))
	f.Add(true, packet(udp6, addr(infraPrefix, 1), addr(infraPrefix, 2), udpHeader(7380, 7380, 20)))
	f.Add(true, packet(icmp6, addr(orgA, 1), addr(orgA, 2), icmpHeader(icmpEcho)))
	f.Add(true, packet(44, addr(orgA, 1), addr(orgA, 2), make([]byte, 40)))
	filter := newTestFilter(f, nodeRules)
	peer := newTestFilter(f, FilterRules{Role: RolePeer, Infra: infraPrefix, Orgs: []netip.Prefix{orgA, orgB}})
	g := newGuard(nil, filter, slog.New(slog.DiscardHandler))
	g.setAddrs(map[netip.Addr]struct{}{addr(orgA, 2): {}, addr(infraPrefix, 1): {}})
	g.admit(TCP, netip.AddrPortFrom(addr(orgA, 2), 6379))
	g.admit(UDP, netip.AddrPortFrom(addr(infraPrefix, 1), 7380))
	f.Fuzz(func(t *testing.T, inbound bool, b []byte) {
		d, other := Outbound, Inbound
		if inbound {
			d, other = Inbound, Outbound
		}
		ours := g.allow(d, b)
		passed := filter.Allow(d, b)
		// What a peer sends is what a node takes, and the other way round.
		if peer.Allow(other, b) != passed {
			t.Fatalf("the two ends disagree: %x", b)
		}
		if !passed {
			return
		}
		if ours {
			own := b[8:24]
			if inbound {
				own = b[24:40]
			}
			if a := netip.AddrFrom16([16]byte(own)); a != addr(orgA, 2) && a != addr(infraPrefix, 1) {
				t.Fatalf("passed the guard: %x", b)
			}
		}
		if len(b) < 48 || b[0]>>4 != 6 || len(b) != 40+int(b[4])<<8+int(b[5]) {
			t.Fatalf("passed: %x", b)
		}
		src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		from, to := int(b[40])<<8|int(b[41]), int(b[42])<<8|int(b[43])
		var home netip.Prefix
		for _, p := range []netip.Prefix{infraPrefix, orgA, orgB} {
			if p.Contains(src) {
				home = p
			}
		}
		if !home.IsValid() || !home.Contains(dst) {
			t.Fatalf("passed from %s to %s", src, dst)
		}
		service := to
		if !inbound {
			service = from
		}
		switch {
		case b[6] == 58:
			if b[40] != 128 && b[40] != 129 {
				t.Fatalf("passed: ICMPv6 %d", b[40])
			}
		case b[6] != 6 && b[6] != 17:
			t.Fatalf("passed: protocol %d", b[6])
		case home == infraPrefix:
		case service == 53 || service == 6379 && b[6] == 6:
		default:
			t.Fatalf("passed: protocol %d, port %d to %d, inbound %v", b[6], from, to, inbound)
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	f := newTestFilter(b, nodeRules)
	p := packet(tcp6, addr(orgA, 1), addr(orgA, 2), tcpHeader(40000, 6379, ack))
	b.ReportAllocs()
	for b.Loop() {
		if !f.Allow(Inbound, p) {
			b.Fatal("dropped")
		}
	}
}
