package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"respmesh/netconf"
)

// Forward says who is asked about names of other zones. Without upstreams they are REFUSED.
//
// Only upstreams that are given are asked, never those of the host's resolv.conf: it may point back here. An upstream with an
// address of the mesh would do the same, and isn't asked. Names that mean something only where they are asked
// (RFC 6761, 6762, 7686) aren't sent to anybody.
type Forward struct {
	Upstreams []netip.AddrPort
	Timeout   time.Duration // for one upstream; default 2 s
	InFlight  int           // questions under way; default 512
	PerSource int           // … of one asker; default 64
	Cache     int           // answers kept; default 8192; negative: none
}

const (
	maxCached   = 4096 // bytes of an answer that is kept
	maxTTL      = 300  // seconds: nothing is believed for longer
	maxNegative = 60
)

// forwarder asks upstreams, each question once at a time, and keeps the answers for as long as they say.
type forwarder struct {
	opt  Forward
	udp  dns.Client
	tcp  dns.Client
	last atomic.Uint32 // the upstream that answered last

	mu       sync.Mutex
	inFlight int                      // guarded by mu
	sources  map[netip.Addr]int       // questions under way by asker, guarded by mu
	asking   map[dns.Question]*asking // guarded by mu
	cache    map[dns.Question]cached  // guarded by mu
}

// asking is a question under way, for all who ask it meanwhile.
type asking struct {
	done   chan struct{}
	answer *dns.Msg // nil: none; set before done is closed
}

type cached struct {
	answer *dns.Msg // nobody changes it
	at     time.Time
	until  time.Time
}

func newForwarder(o Forward) (*forwarder, error) {
	for _, u := range o.Upstreams {
		if !u.IsValid() || u.Port() == 0 || u.Addr().IsUnspecified() || u.Addr().IsMulticast() {
			return nil, fmt.Errorf("dns: upstream %s: want the address and port of a resolver", u)
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Second
	}
	if o.InFlight <= 0 {
		o.InFlight = 512
	}
	if o.PerSource <= 0 {
		o.PerSource = 64
	}
	if o.Cache == 0 {
		o.Cache = 8192
	}
	return &forwarder{
		opt: o,
		udp: dns.Client{Net: "udp", Timeout: o.Timeout, UDPSize: udpMost}, tcp: dns.Client{Net: "tcp", Timeout: o.Timeout},
		sources: make(map[netip.Addr]int), asking: make(map[dns.Question]*asking), cache: make(map[dns.Question]cached),
	}, nil
}

// itself refuses a listener that is one of the upstreams.
func (f *forwarder) itself(addr func() net.Addr) error {
	if len(f.opt.Upstreams) == 0 {
		return nil
	}
	own, err := netip.ParseAddrPort(addr().String())
	if err != nil {
		return nil
	}
	for _, u := range f.opt.Upstreams {
		if u.Port() == own.Port() && (u.Addr().Unmap() == own.Addr().Unmap() || own.Addr().IsUnspecified() && u.Addr().IsLoopback()) {
			return fmt.Errorf("dns: upstream %s is this server itself", u)
		}
	}
	return nil
}

// local are the names that only mean something where they are asked.
func local(name string) bool {
	labels := dns.SplitDomainName(name)
	if len(labels) == 0 {
		return false
	}
	switch labels[len(labels)-1] {
	case "local", "localhost", "invalid", "onion", "test":
		return true
	}
	return false
}

// cacheKey is what an answer is kept by.
func cacheKey(q dns.Question) dns.Question {
	q.Name = strings.ToLower(q.Name)
	return q
}

// kept is the answer that is still good, with the time that it has left.
func (f *forwarder) kept(q dns.Question, now time.Time) *dns.Msg {
	k := cacheKey(q)
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.cache[k]
	if !ok {
		return nil
	}
	if !now.Before(c.until) {
		delete(f.cache, k)
		return nil
	}
	m := c.answer.Copy()
	age := uint32(now.Sub(c.at) / time.Second)
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range rrs {
			rr.Header().Ttl -= min(age, rr.Header().Ttl)
		}
	}
	return m
}

// keep stores an answer for as long as it says.
func (f *forwarder) keep(q dns.Question, m *dns.Msg, now time.Time) {
	ttl := lifetime(m)
	if ttl == 0 || f.opt.Cache < 0 || m.Len() > maxCached {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cache) >= f.opt.Cache {
		// Any one goes, and all that are over in a few steps: Go's maps start anywhere.
		steps := 0
		for k, c := range f.cache {
			if steps++; !now.Before(c.until) || steps == 1 {
				delete(f.cache, k)
			}
			if steps >= 8 {
				break
			}
		}
	}
	f.cache[cacheKey(q)] = cached{m, now, now.Add(time.Duration(ttl) * time.Second)}
}

// lifetime is how long an answer may be kept, in seconds (RFC 2308).
func lifetime(m *dns.Msg) uint32 {
	ttl := uint32(maxTTL)
	switch {
	case m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return 0
	case m.Rcode == dns.RcodeNameError || len(m.Answer) == 0:
		ttl = 0
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				ttl = min(soa.Minttl, soa.Hdr.Ttl, maxNegative)
			}
		}
	}
	for _, rr := range m.Answer {
		ttl = min(ttl, rr.Header().Ttl)
	}
	return ttl
}

// admit counts a question in, if the bounds allow it.
func (f *forwarder) admit(from netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inFlight >= f.opt.InFlight || f.sources[from] >= f.opt.PerSource {
		return false
	}
	f.inFlight++
	f.sources[from]++
	return true
}

func (f *forwarder) release(from netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inFlight--
	if f.sources[from]--; f.sources[from] == 0 {
		delete(f.sources, from)
	}
}

// ask finds an answer, or nil. Who asks what is being asked already waits for the same answer.
func (f *forwarder) ask(ctx context.Context, q dns.Question, t *netconf.Topology) (*dns.Msg, error) {
	k := cacheKey(q)
	f.mu.Lock()
	if a := f.asking[k]; a != nil {
		f.mu.Unlock()
		select {
		case <-a.done:
			if a.answer == nil {
				return nil, errors.New("no upstream answered")
			}
			return a.answer.Copy(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	a := &asking{done: make(chan struct{})}
	f.asking[k] = a
	f.mu.Unlock()
	m, err := f.exchange(ctx, k, t)
	f.mu.Lock()
	delete(f.asking, k)
	f.mu.Unlock()
	if err == nil {
		f.keep(q, m, time.Now())
		a.answer = m
		m = m.Copy()
	}
	close(a.done)
	return m, err
}

// exchange asks one upstream after the other, the last good one first.
func (f *forwarder) exchange(ctx context.Context, q dns.Question, t *netconf.Topology) (*dns.Msg, error) {
	var errs []error
	first := int(f.last.Load())
	for i := range f.opt.Upstreams {
		at := (first + i) % len(f.opt.Upstreams)
		upstream := f.opt.Upstreams[at]
		if inMesh(t, upstream.Addr()) {
			errs = append(errs, fmt.Errorf("upstream %s is an address of the mesh: it would ask us", upstream))
			continue
		}
		m, err := f.one(ctx, q, upstream.String())
		if err != nil {
			errs = append(errs, fmt.Errorf("upstream %s: %w", upstream, err))
			continue
		}
		f.last.Store(uint32(at))
		return m, nil
	}
	return nil, errors.Join(errs...)
}

func inMesh(t *netconf.Topology, a netip.Addr) bool {
	_, org := t.OrgOf(a)
	return org || t.Infra.IsValid() && t.Infra.Contains(a)
}

// one asks one upstream by UDP, and by TCP what didn't fit.
func (f *forwarder) one(ctx context.Context, q dns.Question, upstream string) (*dns.Msg, error) {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: dns.Id(), RecursionDesired: true}, Question: []dns.Question{q}}
	m.SetEdns0(udpMost, false)
	for _, client := range []*dns.Client{&f.udp, &f.tcp} {
		ctx, cancel := context.WithTimeout(ctx, f.opt.Timeout)
		answer, _, err := client.ExchangeContext(ctx, m, upstream)
		cancel()
		switch {
		case err != nil:
			return nil, err
		case !answer.Response || len(answer.Question) != 1 || cacheKey(answer.Question[0]) != q:
			return nil, errors.New("the answer is to another question")
		case answer.Truncated && client == &f.udp:
			continue
		case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
			return nil, fmt.Errorf("it answered %s", dns.RcodeToString[answer.Rcode])
		}
		answer.Extra = nil
		return answer, nil
	}
	return nil, errors.New("the answer is truncated by TCP too")
}
