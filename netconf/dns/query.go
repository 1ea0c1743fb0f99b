package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"respmesh/netconf"
)

const (
	ttl        = 5    // seconds, also of negative answers
	headerSize = 12   // bytes
	udpPlain   = 512  // without EDNS
	udpMost    = 1232 // fits into IPv6's minimum MTU: never fragmented (DNS flag day 2020)
	tcpMost    = 65535
)

// handle answers one message, or gives nil when it deserves none. It waits for upstreams.
func (s *Server) handle(raw []byte, from netip.Addr, tcp bool) []byte {
	reply, later := s.answer(raw, from, tcp)
	if later != nil {
		return later()
	}
	return reply
}

// answer is handle without waiting: what has to be asked elsewhere is asked by later, which has to be called.
func (s *Server) answer(raw []byte, from netip.Addr, tcp bool) (reply []byte, later func() []byte) {
	// What isn't a query gets no answer: two servers must not talk to each other for ever.
	if len(raw) < headerSize || raw[2]&0x80 != 0 {
		s.stats.dropped.Add(1)
		return nil, nil
	}
	if !s.limit.admit(from, time.Now()) {
		s.stats.limited.Add(1)
		return nil, nil
	}
	if opcode := raw[2] >> 3 & 0xf; opcode != dns.OpcodeQuery {
		return s.fail(raw, dns.RcodeNotImplemented), nil
	}
	if binary.BigEndian.Uint16(raw[4:]) != 1 {
		return s.fail(raw, dns.RcodeFormatError), nil
	}
	var q dns.Msg
	// Unpack forgives records that are announced and missing.
	if err := q.Unpack(raw); err != nil || len(q.Question) != 1 || len(q.Extra) != int(binary.BigEndian.Uint16(raw[10:])) {
		return s.fail(raw, dns.RcodeFormatError), nil
	}
	m := new(dns.Msg)
	m.SetReply(&q)
	m.RecursionAvailable = len(s.opt.Forward.Upstreams) > 0
	size := udpPlain
	for _, rr := range q.Extra {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if len(m.Extra) > 0 {
			return s.fail(raw, dns.RcodeFormatError), nil // two of them: RFC 6891, 6.1.1
		}
		size = min(max(int(opt.UDPSize()), udpPlain), udpMost)
		m.SetEdns0(udpMost, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
		}
	}
	if tcp {
		size = tcpMost
	}
	if m.Rcode == dns.RcodeSuccess {
		if t := s.resolve(m, from); t != nil {
			return s.forward(m, from, t, size)
		}
	}
	return s.pack(m, size), nil
}

// pack writes an answer of at most a size.
func (s *Server) pack(m *dns.Msg, size int) []byte {
	m.Truncate(size)
	if size == tcpMost {
		m.Truncated = false // there is nothing larger to ask by: it is a part of a list
	}
	reply, err := m.Pack()
	if err != nil {
		s.opt.Log.Error("dns answer can't be encoded", "question", m.Question[0].String(), "error", err)
		s.stats.failed.Add(1)
		fail := dns.Msg{MsgHdr: dns.MsgHdr{Id: m.Id, Response: true, Rcode: dns.RcodeServerFailure}}
		reply, _ = fail.Pack() // a header only
		return reply
	}
	s.account(m)
	return reply
}

// forward answers from the cache, or gives the function that asks an upstream.
func (s *Server) forward(m *dns.Msg, from netip.Addr, t *netconf.Topology, size int) ([]byte, func() []byte) {
	q := m.Question[0]
	if answer := s.ahead.kept(q, time.Now()); answer != nil {
		s.stats.cached.Add(1)
		return s.pack(relay(m, answer), size), nil
	}
	if !s.ahead.admit(from) {
		s.stats.limited.Add(1)
		m.Rcode = dns.RcodeServerFailure
		return s.pack(m, size), nil
	}
	s.stats.forwarded.Add(1)
	return nil, func() []byte {
		defer s.ahead.release(from)
		answer, err := s.ahead.ask(s.ctx, q, t)
		if err != nil {
			s.opt.Log.Debug("dns question not answered by an upstream", "question", q.String(), "err", err)
			m.Rcode = dns.RcodeServerFailure
			return s.pack(m, size)
		}
		return s.pack(relay(m, answer), size)
	}
}

// relay makes an upstream's answer ours, under the asker's own spelling of the name.
func relay(m, answer *dns.Msg) *dns.Msg {
	m.Rcode, m.Answer, m.Ns = answer.Rcode, answer.Answer, answer.Ns
	for _, rr := range m.Answer {
		if h := rr.Header(); strings.EqualFold(h.Name, m.Question[0].Name) {
			h.Name = m.Question[0].Name
		}
	}
	return m
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

// resolve fills in the answer to the one question of m for an asker. A topology says that the question is for an upstream.
func (s *Server) resolve(m *dns.Msg, from netip.Addr) (forward *netconf.Topology) {
	q := m.Question[0]
	t, _ := s.opt.Source.Current()
	if t == nil {
		m.Rcode = dns.RcodeServerFailure // not NXDOMAIN: that would be remembered
		return nil
	}
	org, ok := s.opt.OrgOf(t, from)
	transfer := q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR
	if !ok || transfer || q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY {
		m.Rcode = dns.RcodeRefused
		return nil
	}
	var have set
	var exists bool
	zone := zoneName
	if labels, ours := relative(q.Name); ours {
		have, exists = s.zone.lookup(t, org, labels)
	} else if digits, ours := nibbles(q.Name); ours {
		have, exists = s.zone.reverse(t, org, digits)
		zone = reverseName(org)
	} else if len(s.opt.Forward.Upstreams) > 0 && m.RecursionDesired && q.Qclass == dns.ClassINET {
		if local(strings.ToLower(q.Name)) {
			m.Rcode = dns.RcodeNameError
			return nil
		}
		return t
	} else {
		m.Rcode = dns.RcodeRefused
		return nil
	}
	m.Authoritative = true
	if exists {
		m.Answer = have.records(q)
	} else {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{soa(t, zone)}
	}
	return nil
}
