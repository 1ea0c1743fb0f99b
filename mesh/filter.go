package mesh

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Role says which side of the declared services a device is on.
type Role uint8

const (
	// RoleNode serves: peers may open connections to its declared services, and it
	// only answers. Among nodes, on the infrastructure prefix, every TCP and UDP
	// port is open.
	RoleNode Role = iota
	// RolePeer asks: it may open connections to declared services and gets the
	// answers. Nothing can open a connection to it.
	RolePeer
)

// Service is a declared port that peers may reach.
type Service struct {
	Proto Proto
	Port  uint16
}

// Proto is the number of a transport protocol.
type Proto uint8

// The transport protocols that pass at all.
const (
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
)

// DefaultServices are RESP and DNS.
func DefaultServices() []Service { return []Service{{TCP, 6379}, {TCP, 53}, {UDP, 53}} }

// FilterRules say what may pass. Prefixes are /48, as RFC 4193 gives them out.
type FilterRules struct {
	Role     Role
	Infra    netip.Prefix   // the nodes' own prefix; the zero value for a device that isn't a node's
	Orgs     []netip.Prefix // organisations this device carries
	Services []Service      // nil: DefaultServices
}

// Reason says why a packet was dropped.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	Malformed   Reason = iota // too short, lengths that don't agree
	NotIPv6                   // IPv4 or anything else
	Fragment                  // a fragment header
	Extension                 // any other extension header
	Protocol                  // neither TCP, UDP nor ICMPv6
	CrossPrefix               // source and destination belong to different organisations, or one to the infrastructure
	Unknown                   // a prefix that this device doesn't carry
	Port                      // not a declared service
	ICMP                      // ICMPv6 other than echo
	Opening                   // a TCP connection or flow opened in the direction that only answers
	Closed                    // nothing of this process is at that address and port; only with a kernel TUN
	reasons
	pass = reasons
)

// String is the reason's name, as metrics and logs show it.
func (r Reason) String() string {
	names := [...]string{"malformed", "not_ipv6", "fragment", "extension_header", "protocol", "cross_prefix", "unknown_prefix", "port", "icmp", "opening", "closed"}
	if int(r) < len(names) {
		return names[r]
	}
	return "pass"
}

// Filter is the packet filter on the decrypted side of a device. It has no
// state per connection, looks only at the packet, and takes about 20 ns.
type Filter struct {
	rules atomic.Pointer[compiled]
	drops dropCounts
}

// dropCounts are by direction.
type dropCounts [2][reasons]atomic.Uint64

// Direction is seen from the device.
type Direction uint8

// Inbound packets were decrypted and go to the tunnel; Outbound packets come
// from the tunnel and will be encrypted.
const (
	Inbound Direction = iota
	Outbound
)

// compiled is an immutable form of the rules.
type compiled struct {
	role  Role
	infra uint64                 // first 48 bits, shifted down; noPrefix if none
	orgs  map[uint64]*dropCounts // what was dropped of theirs
	tcp   []uint16
	udp   []uint16
}

const noPrefix = 1 << 63 // no 48-bit prefix has this bit

// NewFilter makes a filter of rules.
func NewFilter(r FilterRules) (*Filter, error) {
	f := new(Filter)
	if err := f.SetRules(r); err != nil {
		return nil, err
	}
	return f, nil
}

// SetRules replaces the rules at once, between two packets.
func (f *Filter) SetRules(r FilterRules) error {
	c := &compiled{role: r.Role, infra: noPrefix, orgs: make(map[uint64]*dropCounts, len(r.Orgs))}
	old := f.rules.Load()
	if r.Role > RolePeer {
		return fmt.Errorf("packet filter: unknown role %d", r.Role)
	}
	if r.Infra.IsValid() {
		p, err := prefixBits(r.Infra)
		if err != nil {
			return err
		}
		c.infra = p
	}
	for _, o := range r.Orgs {
		p, err := prefixBits(o)
		if err != nil {
			return err
		}
		if p == c.infra {
			return fmt.Errorf("packet filter: %s is both the infrastructure's and an organisation's prefix", o)
		}
		if _, twice := c.orgs[p]; twice {
			return fmt.Errorf("packet filter: prefix %s given twice", o)
		}
		if old != nil {
			c.orgs[p] = old.orgs[p] // goes on counting
		}
		if c.orgs[p] == nil {
			c.orgs[p] = new(dropCounts)
		}
	}
	services := r.Services
	if services == nil {
		services = DefaultServices()
	}
	for _, s := range services {
		switch {
		case s.Port == 0:
			return fmt.Errorf("packet filter: a service needs a port")
		case s.Proto == TCP:
			c.tcp = append(c.tcp, s.Port)
		case s.Proto == UDP:
			c.udp = append(c.udp, s.Port)
		default:
			return fmt.Errorf("packet filter: a service is TCP or UDP, not protocol %d", s.Proto)
		}
	}
	f.rules.Store(c)
	return nil
}

func prefixBits(p netip.Prefix) (uint64, error) {
	if !p.Addr().Is6() || p.Addr().Is4In6() || p.Bits() != 48 || p != p.Masked() {
		return 0, fmt.Errorf("packet filter: prefix %s: want an IPv6 /48", p)
	}
	a := p.Addr().As16()
	if a[0]&0xfe != 0xfc {
		return 0, fmt.Errorf("packet filter: prefix %s: not a unique local address (fc00::/7)", p)
	}
	return high48(a[:]), nil
}

func high48(b []byte) uint64 { return binary.BigEndian.Uint64(b) >> 16 }

// Allow says whether the packet may pass, and counts it if not.
func (f *Filter) Allow(d Direction, packet []byte) bool {
	return f.check(d, packet) == pass
}

// check is Allow with the reason.
func (f *Filter) check(d Direction, packet []byte) Reason {
	r := f.rules.Load().judge(d, packet)
	if r != pass {
		f.count(d, r, packet)
	}
	return r
}

// count counts a dropped packet, also for the organisation that sent it: WireGuard vouches for the source of what comes in.
func (f *Filter) count(d Direction, r Reason, packet []byte) {
	f.drops[d][r].Add(1)
	if len(packet) < ipv6HeaderLen || packet[0]>>4 != 6 {
		return
	}
	if org := f.rules.Load().orgs[high48(packet[8:])]; org != nil {
		org[d][r].Add(1)
	}
}

// OrgDrops counts the packets with a source in an organisation's prefix that were dropped for one reason, since it was
// added to the rules.
func (f *Filter) OrgDrops(org netip.Prefix, d Direction, r Reason) uint64 {
	if d > Outbound || r >= reasons {
		return 0
	}
	a := org.Addr().As16()
	if c := f.rules.Load().orgs[high48(a[:])]; c != nil {
		return c[d][r].Load()
	}
	return 0
}

// inInfra tells whether an address is a node's.
func (f *Filter) inInfra(a netip.Addr) bool {
	b := a.As16()
	return high48(b[:]) == f.rules.Load().infra
}

// fromInfra tells whether a packet comes from another node.
func (f *Filter) fromInfra(packet []byte) bool {
	return len(packet) >= ipv6HeaderLen && high48(packet[8:]) == f.rules.Load().infra
}

// Drops counts the packets dropped so far for one reason.
func (f *Filter) Drops(d Direction, r Reason) uint64 {
	if d > Outbound || r >= reasons {
		return 0
	}
	return f.drops[d][r].Load()
}

// Reasons are all reasons there are, for metrics.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

const (
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	udpHeaderLen  = 8
	icmpHeaderLen = 8

	tcpSYN, tcpACK = 0x02, 0x10
	icmpEcho       = 128
	icmpEchoReply  = 129
)

// judge looks at one packet: pass, or why not.
func (c *compiled) judge(d Direction, b []byte) Reason {
	if len(b) == 0 {
		return Malformed
	}
	if b[0]>>4 != 6 {
		return NotIPv6
	}
	if len(b) < ipv6HeaderLen || int(binary.BigEndian.Uint16(b[4:]))+ipv6HeaderLen != len(b) {
		return Malformed
	}
	switch b[6] {
	case byte(TCP), byte(UDP), byte(ICMPv6):
	case 44:
		return Fragment
	case 0, 43, 50, 51, 60, 135, 139, 140, 253, 254:
		return Extension
	default:
		return Protocol
	}
	src, dst := high48(b[8:]), high48(b[24:])
	if src != dst {
		return CrossPrefix
	}
	if src == c.infra {
		return judgeInfra(b)
	}
	if c.orgs[src] == nil {
		return Unknown
	}
	// A node's answers and a peer's questions go out; a peer's answers and a
	// node's questions come in.
	asks := (c.role == RoleNode) == (d == Inbound)
	return c.judgeOrg(b, asks)
}

// judgeInfra is for nodes among themselves: any port, but whole headers.
func judgeInfra(b []byte) Reason {
	p := b[ipv6HeaderLen:]
	switch Proto(b[6]) {
	case TCP:
		if !wholeTCP(p) {
			return Malformed
		}
	case UDP:
		if !wholeUDP(p) {
			return Malformed
		}
	default:
		return judgeICMP(p)
	}
	return pass
}

// judgeOrg is for an organisation's packets: to a service if it asks, else from one.
func (c *compiled) judgeOrg(b []byte, asks bool) Reason {
	p := b[ipv6HeaderLen:]
	var open []uint16
	switch Proto(b[6]) {
	case TCP:
		if !wholeTCP(p) {
			return Malformed
		}
		open = c.tcp
	case UDP:
		if !wholeUDP(p) {
			return Malformed
		}
		open = c.udp
	default:
		return judgeICMP(p)
	}
	from, to := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	if asks {
		if !slices.Contains(open, to) {
			return Port
		}
		return pass
	}
	if !slices.Contains(open, from) {
		return Port
	}
	if Proto(b[6]) == TCP && p[13]&(tcpSYN|tcpACK) == tcpSYN {
		return Opening
	}
	return pass
}

func wholeTCP(p []byte) bool {
	if len(p) < tcpHeaderLen {
		return false
	}
	header := int(p[12]>>4) * 4
	return header >= tcpHeaderLen && header <= len(p)
}

func wholeUDP(p []byte) bool {
	return len(p) >= udpHeaderLen && int(binary.BigEndian.Uint16(p[4:])) == len(p)
}

// judgeICMP lets echo through. Packet Too Big isn't needed: the MTU is IPv6's
// minimum, which every path carries.
func judgeICMP(p []byte) Reason {
	switch {
	case len(p) < icmpHeaderLen:
		return Malformed
	case p[0] != icmpEcho && p[0] != icmpEchoReply:
		return ICMP
	default:
		return pass
	}
}
