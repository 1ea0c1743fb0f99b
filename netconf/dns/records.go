package dns

import (
	"net"

	"github.com/miekg/dns"

	"respmesh/netconf"
)

// records are the answers of a set to a question, under the question's own spelling of the name.
func (s *set) records(q dns.Question) []dns.RR {
	header := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: q.Name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	wants := func(t uint16) bool { return q.Qtype == t || q.Qtype == dns.TypeANY }
	var rrs []dns.RR
	switch {
	case len(s.addrs) > 0 && wants(dns.TypeAAAA):
		for _, a := range s.addrs {
			rrs = append(rrs, &dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: net.IP(a.AsSlice())})
		}
	case len(s.texts) > 0 && wants(dns.TypeTXT):
		for _, strings := range pack(s.texts) {
			rrs = append(rrs, &dns.TXT{Hdr: header(dns.TypeTXT), Txt: strings})
		}
	case len(s.targets) > 0 && wants(dns.TypeSRV):
		for i, target := range s.targets {
			rrs = append(rrs, &dns.SRV{Hdr: header(dns.TypeSRV), Priority: uint16(i+1) * 10, Weight: 10, Port: redisPort, Target: target})
		}
	case len(s.names) > 0 && wants(dns.TypePTR):
		for _, name := range s.names {
			rrs = append(rrs, &dns.PTR{Hdr: header(dns.TypePTR), Ptr: name})
		}
	case s.apex != nil && wants(dns.TypeSOA):
		rr := soa(s.apex, zoneName)
		rr.Hdr.Name = q.Name
		rrs = append(rrs, rr)
	case s.apex != nil && q.Qtype == dns.TypeNS:
		rrs = append(rrs, &dns.NS{Hdr: header(dns.TypeNS), Ns: nsName})
	}
	return rrs
}

// soa is a zone's; its serial is the topology's revision.
func soa(t *netconf.Topology, zone string) *dns.SOA {
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:      nsName,
		Mbox:    "hostmaster.internal.",
		Serial:  uint32(t.Revision),
		Refresh: 3600, Retry: 600, Expire: 86400, // nobody transfers the zone
		Minttl: ttl,
	}
}

// pack writes a list with commas. A TXT record is made of strings of at most 255 bytes, which readers join; one
// record takes what fits into a datagram, a longer list goes on in the next record.
func pack(list []string) [][]string {
	const record = 1024
	var records [][]string
	var strings []string
	var text []byte
	size := 0
	flush := func() {
		if len(text) > 0 {
			strings = append(strings, string(text))
			text = nil
		}
	}
	for i, name := range list {
		if size+len(name)+1 > record {
			text = text[:len(text)-1] // a record has no comma at its end
			flush()
			records, strings, size = append(records, strings), nil, 0
		}
		if len(text)+len(name)+1 > 255 {
			flush()
		}
		text = append(text, name...)
		if i < len(list)-1 {
			text = append(text, ',')
		}
		size += len(name) + 1
	}
	flush()
	return append(records, strings)
}
