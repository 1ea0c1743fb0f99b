package netconf

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
)

// The address plan. Every org, and the infrastructure, has a random /48 of RFC 4193 (fd00::/8, 40 random bits), so
// that two networks joined by accident don't clash. Below a prefix P (three groups of 16 bits):
//
//	P::3                    the org's resolver
//	P:0:1::N                database N's service address, the same in every region
//	P:0:2:R::N              database N's address in region R
//	P:(100+R)::M            peer M attached in region R; below the infrastructure's prefix: node M of region R
//
// R is Region.Index (hexadecimal, like all groups), N and M are 32-bit numbers that the org (for nodes: the state)
// counts up and never gives out twice: an address never moves to something else.
const (
	groupPeers      = 0x100
	serviceNet      = 1
	regionalNet     = 2
	resolverAddress = 3
)

// ulaPrefix is RFC 4193's range with the L bit set: locally assigned.
var ulaPrefix = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd}), 8)

// RandomPrefix makes a /48 as RFC 4193 wants it: 40 bits from the system's random source.
func RandomPrefix() netip.Prefix {
	var a [16]byte
	for {
		_, _ = rand.Read(a[1:6]) // never fails: crypto/rand
		a[0] = 0xfd
		// fd00::/48 is what people without a random source type.
		if [6]byte(a[:6]) != [6]byte{0xfd} {
			return netip.PrefixFrom(netip.AddrFrom16(a), 48)
		}
	}
}

// address builds an address below a /48 from its fourth, fifth and sixth group and the last 32 bits.
func address(p netip.Prefix, g4, g5, g6 uint16, n uint32) netip.Addr {
	a := p.Addr().As16()
	binary.BigEndian.PutUint16(a[6:], g4)
	binary.BigEndian.PutUint16(a[8:], g5)
	binary.BigEndian.PutUint16(a[10:], g6)
	binary.BigEndian.PutUint32(a[12:], n)
	return netip.AddrFrom16(a)
}

// Resolver is the address of the org's resolver, which every node answers.
func (o Org) Resolver() netip.Addr { return address(o.Prefix, 0, 0, 0, resolverAddress) }

// Service is the service address of the org's database number n.
func (o Org) Service(n uint32) netip.Addr { return address(o.Prefix, 0, serviceNet, 0, n) }

// RegionalService is the address of database number n in one region.
func (o Org) RegionalService(region uint16, n uint32) netip.Addr {
	return address(o.Prefix, 0, regionalNet, region, n)
}

// PeerAddr is the address of the org's peer number m, attached in a region.
func (o Org) PeerAddr(region uint16, m uint32) netip.Addr {
	return address(o.Prefix, groupPeers+region, 0, 0, m)
}

// PeerPrefix is the /64 of the org's peers in a region: what a node of another region routes to that region.
func (o Org) PeerPrefix(region uint16) netip.Prefix {
	return netip.PrefixFrom(address(o.Prefix, groupPeers+region, 0, 0, 0), 64)
}

// nodeAddr is the infrastructure address of node number m of a region.
func nodeAddr(infra netip.Prefix, region uint16, m uint32) netip.Addr {
	return address(infra, groupPeers+region, 0, 0, m)
}

// number is the last 32 bits of an address of the plan.
func number(a netip.Addr) uint32 {
	b := a.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// orgPrefix is the /48 that an address lies in.
func orgPrefix(a netip.Addr) netip.Prefix {
	p, _ := a.WithZone("").Prefix(48) // can't fail for an IPv6 address; an IPv4 one gives the zero Prefix
	return p
}
