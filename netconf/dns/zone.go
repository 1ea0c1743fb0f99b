package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"respmesh/netconf"
)

const (
	zoneName = "internal."
	nsName   = "_ns.internal." // no org can be called that

	redisPort = 6379
)

// zone resolves names for one node: a function of the topology, the asker's org, and the node's own view of health
// and distance.
type zone struct {
	region  netconf.Region
	healthy func(*netconf.Database, string) bool
	rtt     func(string) (time.Duration, bool)

	regional, api bool
}

// set is what a name has. The zero set is a name that exists with nothing of its own.
type set struct {
	addrs []netip.Addr
	texts []string // one list, written with commas
	apex  *netconf.Topology

	targets []string // of SRV, the best first
	names   []string // of PTR
}

// relative splits a name below the zone into lower-case labels, as written; false: the name is in another zone.
func relative(name string) ([]string, bool) {
	labels := dns.SplitDomainName(dns.CanonicalName(name))
	last := len(labels) - 1
	if last < 0 || labels[last]+"." != zoneName {
		return nil, false
	}
	return labels[:last], true
}

// lookup finds what a name has in the view of an org; false: it doesn't exist.
func (z *zone) lookup(t *netconf.Topology, org netconf.Org, labels []string) (set, bool) {
	if len(labels) == 0 {
		return set{apex: t}, true
	}
	top := labels[len(labels)-1]
	switch top {
	case "_ns":
		return set{addrs: []netip.Addr{org.Resolver()}}, len(labels) == 1
	case "_api":
		return set{addrs: []netip.Addr{org.Resolver()}}, z.api && len(labels) == 1
	case "_databases", "_peer":
		return z.orgName(t, org, labels)
	case org.Name:
		return z.orgName(t, org, labels[:len(labels)-1])
	}
	return set{}, false
}

// orgName resolves the labels to the left of an org's.
func (z *zone) orgName(t *netconf.Topology, org netconf.Org, labels []string) (set, bool) {
	if len(labels) == 0 {
		return set{}, true
	}
	rest, top := labels[:len(labels)-1], labels[len(labels)-1]
	switch top {
	case "_databases":
		var names []string
		for _, d := range t.DatabasesOf(org.Name) {
			names = append(names, d.Name)
		}
		return set{texts: names}, len(rest) == 0
	case "_peer":
		if len(rest) == 0 {
			var names []string
			for _, p := range t.PeersOf(org.Name) {
				names = append(names, p.Name)
			}
			return set{texts: names}, true
		}
		p, ok := t.Peer(org.Name, rest[len(rest)-1])
		return set{addrs: []netip.Addr{p.Addr}}, ok && len(rest) == 1
	}
	if d, ok := t.Database(org.Name, top); ok {
		return z.database(t, &d, rest)
	}
	return set{}, false
}

// database resolves the labels to the left of a database's.
func (z *zone) database(t *netconf.Topology, d *netconf.Database, labels []string) (set, bool) {
	switch len(labels) {
	case 0:
		return set{addrs: []netip.Addr{d.Address}}, true
	case 1:
		return z.member(t, d, labels[0])
	case 2:
		if labels[1] == "of" && labels[0] == "nearest" {
			return z.members(t, d, 1), true
		}
		if labels[1] == "_tcp" && labels[0] == "_redis" {
			return set{targets: z.targets(d)}, true
		}
	case 3:
		if n, ok := top(labels[0]); ok && labels[1] == "nearest" && labels[2] == "of" {
			return z.members(t, d, n), true
		}
	}
	return set{}, false
}

// member resolves the names of one label below a database.
func (z *zone) member(t *netconf.Topology, d *netconf.Database, label string) (set, bool) {
	switch label {
	case "of", "_tcp": // the empty names above nearest.of and _redis._tcp
		return set{}, true
	case "global":
		return z.members(t, d, len(d.Replicas)+1), true
	case "regions":
		return set{texts: z.nearest(d)}, true
	case "primary":
		label = d.Primary
	}
	if !d.Holds(label) {
		return set{}, false
	}
	if !z.healthy(d, label) {
		return set{}, true
	}
	return set{addrs: []netip.Addr{z.addr(t, d, label)}}, true
}

// addr is where a member is reached.
func (z *zone) addr(t *netconf.Topology, d *netconf.Database, region string) netip.Addr {
	if z.regional {
		if a, ok := t.RegionalAddress(*d, region); ok {
			return a
		}
	}
	return d.Address
}

// members answers the n nearest healthy members. A set has an address once.
func (z *zone) members(t *netconf.Topology, d *netconf.Database, n int) set {
	var s set
	nearest := z.nearest(d)
	for _, region := range nearest[:min(n, len(nearest))] {
		if a := z.addr(t, d, region); !slices.Contains(s.addrs, a) {
			s.addrs = append(s.addrs, a)
		}
	}
	return s
}

// targets are the names of the healthy members, nearest first.
func (z *zone) targets(d *netconf.Database) []string {
	name := d.Name + "." + d.Org + "." + zoneName
	nearest := z.nearest(d)
	if !z.regional {
		return []string{name}[:min(len(nearest), 1)] // all have one address
	}
	for i, region := range nearest {
		nearest[i] = region + "." + name
	}
	return nearest
}

// nearest lists the regions of a database's healthy members: the node's own first, then by measured round-trip
// time, then the unmeasured ones by distance.
func (z *zone) nearest(d *netconf.Database) []string {
	type member struct {
		region string
		class  int
		far    float64
	}
	var found []member
	for _, code := range d.Regions() {
		if !z.healthy(d, code) {
			continue
		}
		m := member{region: code, class: 2}
		if r, ok := netconf.LookupRegion(code); ok {
			m.far = z.region.Distance(r)
		}
		if rtt, ok := z.rtt(code); ok {
			m.class, m.far = 1, float64(rtt)
		}
		if code == z.region.Code {
			m.class, m.far = 0, 0
		}
		found = append(found, m)
	}
	slices.SortFunc(found, func(a, b member) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.far, b.far), strings.Compare(a.region, b.region))
	})
	regions := make([]string, len(found))
	for i, m := range found {
		regions[i] = m.region
	}
	return regions
}

// top reads the N of top<N>: from 1 to 999, written without leading zeros, so that each name has one spelling.
func top(label string) (int, bool) {
	digits, ok := strings.CutPrefix(label, "top")
	if !ok || len(digits) == 0 || len(digits) > 3 || digits[0] < '1' || digits[0] > '9' {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil
}
