package lab

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Upstream is a resolver on the internet, which nodes outside ams ask about names of other zones. It knows www.example.org.
type Upstream struct {
	servers []*dns.Server
	wg      sync.WaitGroup

	mu    sync.Mutex
	asked []string // guarded by mu
}

// upstreamAt is the address of the resolver that a region's nodes are told; "": none.
func upstreamAt(region string) string {
	if region == "ams" {
		return ""
	}
	return regionAddr(region, gateway).String()
}

// Upstream starts the resolver. The caller closes it.
func (l *Lab) Upstream() (_ *Upstream, err error) {
	u := new(Upstream)
	defer func() {
		if err != nil {
			err = errors.Join(err, u.Close())
		}
	}()
	for region := range regionNumbers {
		at := upstreamAt(region)
		if at == "" {
			continue
		}
		at = net.JoinHostPort(at, "53")
		var s [2]*dns.Server
		if err := l.net.inside(func() error {
			udp, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", at)
			if err != nil {
				return err
			}
			tcp, err := net.Listen("tcp", at)
			s = [2]*dns.Server{{PacketConn: udp, Handler: u}, {Listener: tcp, Handler: u}}
			return err
		}); err != nil {
			return nil, err
		}
		for _, server := range s {
			u.servers = append(u.servers, server)
			started := make(chan struct{})
			server.NotifyStartedFunc = func() { close(started) }
			u.wg.Go(func() { _ = server.ActivateAndServe() })
			<-started
		}
	}
	return u, nil
}

// ServeDNS answers.
func (u *Upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	name := strings.ToLower(q.Question[0].Name)
	u.mu.Lock()
	u.asked = append(u.asked, name+" "+dns.TypeToString[q.Question[0].Qtype])
	u.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	if name != "www.example.org." {
		m.Rcode = dns.RcodeNameError
	}
	record := map[uint16]string{dns.TypeA: "192.0.2.7", dns.TypeAAAA: "2001:db8::7"}[q.Question[0].Qtype]
	if m.Rcode == dns.RcodeSuccess && record != "" {
		rr, err := dns.NewRR(q.Question[0].Name + " 300 IN " + dns.TypeToString[q.Question[0].Qtype] + " " + record)
		if err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m) // who asks tries again
}

// Asked is what came so far: name and type.
func (u *Upstream) Asked() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.asked...)
}

// Close ends the resolver. Further calls do nothing.
func (u *Upstream) Close() error {
	var errs []error
	for _, s := range u.servers {
		errs = append(errs, s.Shutdown())
	}
	u.servers = nil
	u.wg.Wait()
	return errors.Join(errs...)
}
