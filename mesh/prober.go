package mesh

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// ProbePort is the UDP port of probes on the nodes' infrastructure addresses.
//
// A probe is 20 bytes, big endian: "rmp" and the version 1; one byte 1 for a
// question or 2 for an answer, and three of zero; a sequence number of four bytes;
// a random cookie of eight. The answer repeats both. An answer without the cookie
// of a question under way is ignored, so nobody can pretend that a node lives.
// 3 and 4 are the same with zeros behind them, up to the size that is probed.
const ProbePort = 7380

const (
	probeLen      = 20
	probeMagic    = 'r'<<24 | 'm'<<16 | 'p'<<8 | 1
	probeQuestion = 1 << 24
	probeAnswer   = 2 << 24
)

// Defaults of ProberOptions.
const (
	DefaultProbeEvery = 250 * time.Millisecond
	DefaultDeadAfter  = 1250 * time.Millisecond
	DefaultBigEvery   = 5 * time.Second
	defaultWindow     = 8
)

// ProberOptions say how to probe.
type ProberOptions struct {
	Conn      net.PacketConn // bound to the infrastructure address and ProbePort; the caller closes it
	Every     time.Duration  // zero: DefaultProbeEvery
	DeadAfter time.Duration  // zero: DefaultDeadAfter
	Window    int            // round trips of which the median is taken; zero: 8
	MTU       int            // of the tunnel; zero: DefaultMTU
	BigEvery  time.Duration  // between probes of the MTU's size; zero: DefaultBigEvery
	Port      uint16         // of the targets; zero: ProbePort
	Log       *slog.Logger   // nil: discards
}

// Prober measures round-trip times to other nodes and answers their probes. A
// node is reachable from its first answer until DeadAfter without one.
type Prober struct {
	opt ProberOptions

	mu      sync.Mutex
	targets map[netip.Addr]*target // guarded by mu
	changed chan struct{}          // guarded by mu; closed and replaced on a change
	seq     uint32                 // guarded by mu

	kick chan struct{} // a new target: probe it now
}

// target is what is known about one node. Guarded by the Prober's mu.
type target struct {
	to        *net.UDPAddr
	reachable bool
	since     time.Time // of the last answer, or when it was added
	window    []time.Duration
	next      int // in window, once that is full
	rtt       time.Duration
	pending   []question // oldest first
	probed    bool
	sent      uint64
	lost      uint64
	mtu       mtu
}

type question struct {
	seq    uint32
	cookie [8]byte
	at     time.Time
}

// NewProber makes a prober; Run starts it.
func NewProber(o ProberOptions) (*Prober, error) {
	if o.Conn == nil {
		return nil, errors.New("prober: no connection")
	}
	if o.Every == 0 {
		o.Every = DefaultProbeEvery
	}
	if o.DeadAfter == 0 {
		o.DeadAfter = max(DefaultDeadAfter, 5*o.Every)
	}
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.Port == 0 {
		o.Port = ProbePort
	}
	if o.MTU == 0 {
		o.MTU = DefaultMTU
	}
	if o.BigEvery == 0 {
		o.BigEvery = DefaultBigEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MTU < DefaultMTU || o.MTU > 9000 || o.BigEvery < o.Every {
		return nil, fmt.Errorf("prober: MTU %d, large probes every %s: want %d to 9000, and no more often than small ones", o.MTU, o.BigEvery, DefaultMTU)
	}
	if o.Every < 0 || o.Window < 1 || o.DeadAfter <= o.Every {
		return nil, fmt.Errorf("prober: every %s, dead after %s, window %d: want dead after more than one probe", o.Every, o.DeadAfter, o.Window)
	}
	return &Prober{
		opt:     o,
		targets: make(map[netip.Addr]*target),
		changed: make(chan struct{}),
		kick:    make(chan struct{}, 1),
	}, nil
}

// SetTargets says which nodes to probe. What is known about those that stay is kept.
func (p *Prober) SetTargets(addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := false
	for _, a := range addrs {
		if p.targets[a] == nil {
			p.targets[a] = &target{
				to:    net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, p.opt.Port)),
				since: time.Now(),
			}
			changed = true
		}
	}
	for a, t := range p.targets {
		if !slices.Contains(addrs, a) {
			delete(p.targets, a)
			if t.reachable {
				p.announceLocked()
			}
		}
	}
	if changed {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

// RTT is the median of the last round trips to a node, and whether it can be
// reached. The time stays what it was while the node can't be.
func (p *Prober) RTT(a netip.Addr) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[a]
	if t == nil {
		return 0, false
	}
	return t.rtt, t.reachable
}

// Changed is closed at the next change of any node's reachability, or of the size of packets that pass. Get it before
// asking RTT or Stats, so that no change is missed.
func (p *Prober) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *Prober) announceLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Run probes and answers until ctx ends or the connection is closed.
func (p *Prober) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Frees the reader below when ctx ends.
	stop := context.AfterFunc(ctx, func() { _ = p.opt.Conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var reader sync.WaitGroup
	var readErr error
	reader.Go(func() {
		defer cancel()
		readErr = p.receive(ctx)
	})
	tick := time.NewTicker(p.opt.Every)
	defer tick.Stop()
	big := time.NewTicker(p.opt.BigEvery)
	defer big.Stop()
	doubt := time.NewTicker(max(p.opt.BigEvery/5, p.opt.Every))
	defer doubt.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			p.probe(false)
		case <-big.C:
			p.probeBig(false)
		case <-doubt.C:
			p.probeBig(true)
		case <-p.kick:
			p.probe(true)
		}
	}
	reader.Wait()
	return readErr
}

// receive answers questions and takes answers. Other datagrams are ignored.
func (p *Prober) receive(ctx context.Context) error {
	buf := make([]byte, p.opt.MTU)
	for {
		n, from, err := p.opt.Conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("receive probes: %w", err)
		}
		if n < probeLen || binary.BigEndian.Uint32(buf) != probeMagic {
			continue
		}
		kind := binary.BigEndian.Uint32(buf[4:])
		if big := kind == probeBigQuestion || kind == probeBigAnswer; big == (n == probeLen) {
			continue
		}
		switch kind {
		case probeQuestion, probeBigQuestion:
			binary.BigEndian.PutUint32(buf[4:], kind+1<<24) // an answer's is one more
			if _, err := p.opt.Conn.WriteTo(buf[:n], from); err != nil {
				p.opt.Log.Debug("probe not answered", "from", from, "err", err)
			}
		case probeAnswer:
			if u, ok := from.(*net.UDPAddr); ok {
				p.answered(u.AddrPort(), binary.BigEndian.Uint32(buf[8:]), [8]byte(buf[12:probeLen]))
			}
		case probeBigAnswer:
			if u, ok := from.(*net.UDPAddr); ok {
				p.bigAnswered(u.AddrPort(), binary.BigEndian.Uint32(buf[8:]), [8]byte(buf[12:probeLen]), n+probeHeaders)
			}
		}
	}
}

// answered notes an answer. Each question is answered at most once.
func (p *Prober) answered(from netip.AddrPort, seq uint32, cookie [8]byte) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[from.Addr().Unmap()]
	if t == nil || from.Port() != p.opt.Port {
		return
	}
	i := slices.IndexFunc(t.pending, func(q question) bool { return q.seq == seq && q.cookie == cookie })
	if i < 0 {
		return
	}
	rtt := now.Sub(t.pending[i].at)
	t.pending = slices.Delete(t.pending, i, i+1)
	t.since = now
	if !t.reachable {
		t.window, t.next = t.window[:0], 0 // the way may be another one now
	}
	t.measured(rtt, p.opt.Window)
	if !t.reachable {
		t.reachable = true
		p.opt.Log.Info("node reachable", "addr", from.Addr(), "rtt", rtt)
		p.announceLocked()
	}
}

func (t *target) measured(rtt time.Duration, window int) {
	if len(t.window) < window {
		t.window = append(t.window, rtt)
	} else {
		t.window[t.next] = rtt
		t.next = (t.next + 1) % window
	}
	sorted := slices.Sorted(slices.Values(t.window))
	// The lower median: one late answer of two says little.
	t.rtt = sorted[(len(sorted)-1)/2]
}

// probe asks all targets, or only those never asked, and buries the silent ones.
func (p *Prober) probe(onlyNew bool) {
	type send struct {
		to  *net.UDPAddr
		msg [probeLen]byte
	}
	now := time.Now()
	var out []send
	p.mu.Lock()
	for a, t := range p.targets {
		if onlyNew && t.probed {
			continue
		}
		t.probed = true
		if t.reachable && now.Sub(t.since) >= p.opt.DeadAfter {
			t.reachable = false
			t.mtu = mtu{} // when it comes back, the way may be another one
			p.opt.Log.Warn("node unreachable", "addr", a, "silent", now.Sub(t.since))
			p.announceLocked()
		}
		// What wasn't answered in twice the time of death never will be.
		before := len(t.pending)
		t.pending = slices.DeleteFunc(t.pending, func(q question) bool { return now.Sub(q.at) > 2*p.opt.DeadAfter })
		t.lost += uint64(before - len(t.pending))
		t.sent++
		p.seq++
		q := question{seq: p.seq, at: now}
		_, _ = rand.Read(q.cookie[:]) // never fails
		t.pending = append(t.pending, q)
		s := send{to: t.to}
		binary.BigEndian.PutUint32(s.msg[:], probeMagic)
		binary.BigEndian.PutUint32(s.msg[4:], probeQuestion)
		binary.BigEndian.PutUint32(s.msg[8:], q.seq)
		copy(s.msg[12:], q.cookie[:])
		out = append(out, s)
	}
	p.mu.Unlock()
	for i := range out {
		if _, err := p.opt.Conn.WriteTo(out[i].msg[:], out[i].to); err != nil {
			p.opt.Log.Debug("probe not sent", "to", out[i].to, "err", err)
		}
	}
}
