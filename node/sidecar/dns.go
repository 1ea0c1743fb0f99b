package sidecar

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	zoneName = "internal."
	dnsTTL   = 5
	dnsUDP   = 1232
)

// record is a served database, by its name.
type record struct {
	addrs []netip.Addr
	port  uint16
}

// records are the databases that are served; the names above them exist too, with nothing of their own.
func (s *Sidecar) records() map[string]record {
	all := make(map[string]record, len(s.services))
	for _, v := range s.services {
		r := record{port: uint16(v.port)}
		for _, l := range v.listeners {
			r.addrs = append(r.addrs, l.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap())
		}
		all[v.name+"."+s.org+"."+zoneName] = r
	}
	return all
}

// resolver answers <db>.<org>.internal with loopback addresses, and _redis._tcp.<db>.<org>.internal with the port. It refuses
// names outside the zone: it is for split DNS, and forwards nothing.
type resolver struct {
	addr    net.Addr
	names   map[string]record // constant
	between map[string]bool   // names that exist and have nothing; constant
	servers []*dns.Server
	wg      sync.WaitGroup
}

func startResolver(at string, names map[string]record, log *slog.Logger) (*resolver, error) {
	r := &resolver{names: names, between: map[string]bool{zoneName: true}}
	for name := range names {
		_, org, _ := strings.Cut(name, ".")
		r.between[org] = true
		r.between["_tcp."+name] = true
	}
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		return nil, fmt.Errorf("--dns: %w", err)
	}
	r.addr = pc.LocalAddr()
	l, err := net.Listen("tcp", r.addr.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--dns: %w", err), pc.Close())
	}
	r.servers = []*dns.Server{
		{PacketConn: pc, Handler: r, UDPSize: dnsUDP},
		{Listener: l, Handler: r, MaxTCPQueries: 128, ReadTimeout: 2 * time.Second, IdleTimeout: func() time.Duration { return 8 * time.Second }},
	}
	for _, s := range r.servers {
		started := make(chan struct{})
		var once sync.Once
		s.NotifyStartedFunc = func() { once.Do(func() { close(started) }) }
		r.wg.Go(func() {
			defer once.Do(func() { close(started) })
			if err := s.ActivateAndServe(); err != nil {
				log.Error("the resolver has ended", "err", err)
			}
		})
		<-started
	}
	return r, nil
}

func (r *resolver) close() error {
	var errs []error
	for _, s := range r.servers {
		errs = append(errs, s.Shutdown())
	}
	r.wg.Wait()
	return errors.Join(errs...)
}

// ServeDNS implements dns.Handler.
func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	_ = w.WriteMsg(r.answer(q)) // the asker asks again
}

func (r *resolver) answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q) // the question as it was written: some check its case
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(dnsUDP, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
		return m
	case len(q.Question) != 1:
		m.Rcode = dns.RcodeFormatError
		return m
	}
	asked := q.Question[0]
	name := strings.ToLower(asked.Name)
	if asked.Qclass != dns.ClassINET || name != zoneName && !strings.HasSuffix(name, "."+zoneName) {
		m.Rcode = dns.RcodeRefused
		return m
	}
	m.Authoritative = true
	head := func(rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: asked.Name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: dnsTTL}
	}
	wants := func(rrtype uint16) bool { return asked.Qtype == rrtype || asked.Qtype == dns.TypeANY }
	rec, served := r.names[name]
	below, isSRV := strings.CutPrefix(name, "_redis._tcp.")
	target, srv := r.names[below]
	switch {
	case served:
		for _, a := range rec.addrs {
			switch {
			case a.Is4() && wants(dns.TypeA):
				m.Answer = append(m.Answer, &dns.A{Hdr: head(dns.TypeA), A: a.AsSlice()})
			case a.Is6() && wants(dns.TypeAAAA):
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: a.AsSlice()})
			}
		}
	case isSRV && srv:
		if wants(dns.TypeSRV) {
			m.Answer = append(m.Answer, &dns.SRV{Hdr: head(dns.TypeSRV), Port: target.port, Target: below})
		}
	case name == zoneName && wants(dns.TypeSOA):
		m.Answer = append(m.Answer, soa())
	case r.between[name]:
	default:
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, soa())
	}
	return m
}

func soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zoneName, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: dnsTTL},
		Ns:  "_ns." + zoneName, Mbox: "hostmaster." + zoneName, Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: dnsTTL,
	}
}
