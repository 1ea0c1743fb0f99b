package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"respmesh/netconf"
)

// The reverse zones: an org's addresses have names in its own view. Of all other unique local addresses (RFC 4193) none has
// one, and nobody else is asked: they mean nothing there.

const reverseSuffix = "ip6.arpa."

// nibbles reads the digits of a name below ip6.arpa., the first one of the address first. local: it lies in fc00::/7.
func nibbles(name string) (digits []byte, local bool) {
	labels := dns.SplitDomainName(dns.CanonicalName(name))
	if len(labels) < 4 || !strings.HasSuffix(strings.Join(labels[len(labels)-2:], ".")+".", reverseSuffix) {
		return nil, false
	}
	for _, l := range slices.Backward(labels[:len(labels)-2]) {
		if len(l) != 1 || !strings.Contains("0123456789abcdef", l) {
			l = "x" // no address has it
		}
		digits = append(digits, l[0])
	}
	return digits, digits[0] == 'f' && (digits[1] == 'c' || digits[1] == 'd')
}

// digits writes an address the same way.
func digitsOf(a netip.Addr) string { return strings.ReplaceAll(a.StringExpanded(), ":", "") }

// reverseName is the zone of an org's prefix.
func reverseName(org netconf.Org) string {
	digits := []byte(digitsOf(org.Prefix.Addr())[:org.Prefix.Bits()/4])
	slices.Reverse(digits)
	return strings.Join(strings.Split(string(digits), ""), ".") + "." + reverseSuffix
}

// reverse finds what the name of an address has in the view of an org; false: it doesn't exist.
func (z *zone) reverse(t *netconf.Topology, org netconf.Org, digits []byte) (set, bool) {
	prefix := digitsOf(org.Prefix.Addr())[:org.Prefix.Bits()/4]
	at := string(digits)
	switch {
	case len(at) > 32:
		return set{}, false
	case len(at) <= len(prefix):
		// Above the zone: what leads to it exists.
		return set{apex: t}.onlyIf(at == prefix), strings.HasPrefix(prefix, at)
	case !strings.HasPrefix(at, prefix):
		return set{}, false
	}
	found := set{}
	exists := false
	z.addresses(t, org, func(a netip.Addr, name string) bool {
		if d := digitsOf(a); !strings.HasPrefix(d, at) {
			return true
		}
		exists = true
		if len(at) == 32 {
			found.names = []string{name}
		}
		return false
	})
	return found, exists
}

func (s set) onlyIf(ok bool) set {
	if !ok {
		return set{}
	}
	return s
}

// addresses lists the addresses of an org that have a name, until yield is false.
func (z *zone) addresses(t *netconf.Topology, org netconf.Org, yield func(netip.Addr, string) bool) {
	if !yield(org.Resolver(), nsName) {
		return
	}
	suffix := "." + org.Name + "." + zoneName
	for _, d := range t.DatabasesOf(org.Name) {
		if !yield(d.Address, d.Name+suffix) {
			return
		}
		if !z.regional {
			continue
		}
		for _, region := range d.Regions() {
			if a, ok := t.RegionalAddress(d, region); ok && !yield(a, region+"."+d.Name+suffix) {
				return
			}
		}
	}
	for _, p := range t.PeersOf(org.Name) {
		if !yield(p.Addr, p.Name+"._peer"+suffix) {
			return
		}
	}
}
