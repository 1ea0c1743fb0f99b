package dns

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

const (
	ttl        = 5    // seconds, also of negative answers
	headerSize = 12   // bytes
	udpPlain   = 512  // without EDNS
	udpMost    = 1232 // fits into IPv6's minimum MTU: never fragmented (DNS flag day 2020)
	tcpMost    = 65535
)

// handle answers one message, or gives nil when it deserves none.
func (s *Server) handle(raw []byte, from netip.Addr, tcp bool) []byte {
	// What isn't a query gets no answer: two servers must not talk to each other for ever.
	if len(raw) < headerSize || raw[2]&0x80 != 0 {
		s.stats.dropped.Add(1)
		return nil
	}
	if opcode := raw[2] >> 3 & 0xf; opcode != dns.OpcodeQuery {
		return s.fail(raw, dns.RcodeNotImplemented)
	}
	if binary.BigEndian.Uint16(raw[4:]) != 1 {
		return s.fail(raw, dns.RcodeFormatError)
	}
	var q dns.Msg
	// Unpack forgives records that are announced and missing.
	if err := q.Unpack(raw); err != nil || len(q.Question) != 1 || len(q.Extra) != int(binary.BigEndian.Uint16(raw[10:])) {
		return s.fail(raw, dns.RcodeFormatError)
	}
	var m dns.Msg
	m.SetReply(&q)
	size := udpPlain
	for _, rr := range q.Extra {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if len(m.Extra) > 0 {
			return s.fail(raw, dns.RcodeFormatError) // two of them: RFC 6891, 6.1.1
		}
		size = min(max(int(opt.UDPSize()), udpPlain), udpMost)
		m.SetEdns0(udpMost, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
		}
	}
	if m.Rcode == dns.RcodeSuccess {
		s.resolve(&m, from)
	}
	if tcp {
		size = tcpMost
	}
	m.Truncate(size)
	if tcp && m.Truncated {
		m.Truncated = false // there is nothing larger to ask by: it is a part of a list
	}
	reply, err := m.Pack()
	if err != nil {
		s.opt.Log.Error("dns answer can't be encoded", "question", q.Question[0].String(), "error", err)
		return s.fail(raw, dns.RcodeServerFailure)
	}
	s.account(&m)
	return reply
}

// fail answers with a header only, for messages that can't be read further.
func (s *Server) fail(raw []byte, rcode int) []byte {
	s.stats.failed.Add(1)
	reply := make([]byte, headerSize)
	copy(reply, raw[:3])
	reply[2] = reply[2]&^0x06 | 0x80 // an answer; not authoritative, not truncated; opcode and RD as they came
	reply[3] = byte(rcode)
	return reply
}

func (s *Server) account(m *dns.Msg) {
	if m.Truncated {
		s.stats.truncated.Add(1)
	}
	switch {
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 && !m.Truncated:
		s.stats.noData.Add(1)
	case m.Rcode == dns.RcodeSuccess:
		s.stats.answered.Add(1)
	case m.Rcode == dns.RcodeNameError:
		s.stats.nxDomain.Add(1)
	case m.Rcode == dns.RcodeRefused:
		s.stats.refused.Add(1)
	default:
		s.stats.failed.Add(1)
	}
}

// resolve fills in the answer to the one question of m for an asker.
func (s *Server) resolve(m *dns.Msg, from netip.Addr) {
	q := m.Question[0]
	t, _ := s.opt.Source.Current()
	if t == nil {
		m.Rcode = dns.RcodeServerFailure // not NXDOMAIN: that would be remembered
		return
	}
	org, ok := s.opt.OrgOf(t, from)
	labels, ours := relative(q.Name)
	transfer := q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR
	if !ok || !ours || transfer || q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY {
		m.Rcode = dns.RcodeRefused
		return
	}
	m.Authoritative = true
	have, exists := s.zone.lookup(t, org, labels)
	if !exists {
		m.Rcode = dns.RcodeNameError
	} else {
		m.Answer = have.records(q)
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{soa(t)}
	}
}
