package mesh

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A path that loses large packets and carries small ones looks healthy until somebody writes a large value, which would hang (see cutter).
// So every few seconds a probe is as large as packets get, and so is its answer. When one is lost, the next ones follow sooner. If
// three in a row are lost while small ones are answered, smaller ones are sent too, to say how large a packet passes.

// ProbeStats are what a Prober knows about one node.
type ProbeStats struct {
	Addr       netip.Addr
	Reachable  bool
	RTT        time.Duration // the median of the last ones; it stays while the node can't be reached
	Sent, Lost uint64        // small probes
	// PathMTU is the largest packet inside the tunnel that is known to pass both ways; 0: not known yet.
	PathMTU int
	// MTUTrouble: packets of the tunnel's MTU are lost, while small ones pass. Outside the tunnel they are 80 bytes
	// larger by IPv6 and 60 by IPv4.
	MTUTrouble bool
}

const (
	probeBigQuestion = 3 << 24
	probeBigAnswer   = 4 << 24
	probeHeaders     = ipv6HeaderLen + udpHeaderLen
	bigLost          = 3 // in a row
)

// smaller are the packets that are tried when those of the MTU are lost.
func smaller() []int { return []int{1240, 1200, 1160, 1120, 1080, 980, 880, 680, 480} }

// mtu is what is known about a path's. Guarded by the Prober's mu.
type mtu struct {
	pending []bigQuestion
	lost    int // of full size, in a row
	trouble bool
	passes  int // the largest known to pass
	now     int // the largest of those under way that passed
	less    int // rounds in a row in which less passed than before
}

type bigQuestion struct {
	question
	size int // of the packet
}

type bigProbe struct {
	to  *net.UDPAddr
	msg []byte
}

// unknown: whether packets of the MTU pass hasn't been asked with success yet.
func (m *mtu) unknown() bool { return m.passes == 0 && !m.trouble }

// bigLocked makes the next large probes for a node, and judges the last ones.
func (p *Prober) bigLocked(a netip.Addr, t *target, now time.Time) []bigProbe {
	if !t.reachable {
		return nil
	}
	if slices.ContainsFunc(t.mtu.pending, func(q bigQuestion) bool { return q.size == p.opt.MTU }) {
		if t.mtu.lost++; t.mtu.lost == bigLost && !t.mtu.trouble {
			t.mtu.trouble, t.mtu.passes = true, 0
			p.announceLocked()
			p.opt.Log.Warn("large packets to a node are lost: let UDP datagrams that are 80 bytes larger than the MTU pass between the nodes",
				"addr", a, "mtu", p.opt.MTU)
		}
	}
	t.mtu.narrows()
	t.mtu.pending = t.mtu.pending[:0]
	sizes := []int{p.opt.MTU}
	if t.mtu.trouble {
		sizes = append(sizes, smaller()...)
	}
	var out []bigProbe
	for _, size := range sizes {
		p.seq++
		q := bigQuestion{question{seq: p.seq, at: now}, size}
		_, _ = rand.Read(q.cookie[:]) // never fails
		t.mtu.pending = append(t.mtu.pending, q)
		msg := make([]byte, size-probeHeaders)
		binary.BigEndian.PutUint32(msg, probeMagic)
		binary.BigEndian.PutUint32(msg[4:], probeBigQuestion)
		binary.BigEndian.PutUint32(msg[8:], q.seq)
		copy(msg[12:], q.cookie[:])
		out = append(out, bigProbe{t.to, msg})
	}
	return out
}

// probeBig sends large probes to all nodes that can be reached, or to those that weren't sent any and those of which the last one was lost.
func (p *Prober) probeBig(doubtful bool) {
	now := time.Now()
	var out []bigProbe
	p.mu.Lock()
	for a, t := range p.targets {
		waits, lost := t.mtu.asked(now.Add(-min(p.opt.DeadAfter, p.opt.BigEvery/2)))
		if waits || doubtful && !t.mtu.unknown() && (!lost || t.mtu.trouble) {
			continue
		}
		out = append(out, p.bigLocked(a, t, now)...)
	}
	p.mu.Unlock()
	for _, b := range out {
		if _, err := p.opt.Conn.WriteTo(b.msg, b.to); err != nil {
			p.opt.Log.Debug("large probe not sent", "to", b.to, "err", err)
		}
	}
}

// bigAnswered notes that a packet of some size came back.
func (p *Prober) bigAnswered(from netip.AddrPort, seq uint32, cookie [8]byte, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[from.Addr().Unmap()]
	if t == nil || from.Port() != p.opt.Port {
		return
	}
	i := slices.IndexFunc(t.mtu.pending, func(q bigQuestion) bool { return q.seq == seq && q.cookie == cookie && q.size == size })
	if i < 0 {
		return
	}
	t.mtu.pending = slices.Delete(t.mtu.pending, i, i+1)
	t.mtu.now = max(t.mtu.now, size)
	if size > t.mtu.passes {
		t.mtu.passes = size
		p.announceLocked()
	}
	if size == p.opt.MTU {
		if t.mtu.trouble {
			p.opt.Log.Info("large packets to a node pass again", "addr", from.Addr())
			p.announceLocked()
		}
		t.mtu.lost, t.mtu.trouble = 0, false
	}
}

// narrows judges a round of probes on a path in trouble: it may carry less by now.
func (m *mtu) narrows() {
	if !m.trouble || m.now >= m.passes {
		m.less = 0
	} else if m.less++; m.less == bigLost {
		m.passes, m.less = m.now, 0
	}
	m.now = 0
}

// asked tells whether large probes wait for their answers still, and whether some of those sent before a time have none.
func (m *mtu) asked(before time.Time) (waits, lost bool) {
	for _, q := range m.pending {
		waits = waits || q.at.After(before)
		lost = lost || !q.at.After(before)
	}
	return waits, lost
}

// Stats tells about every target, by address.
func (p *Prober) Stats() []ProbeStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]ProbeStats, 0, len(p.targets))
	for a, t := range p.targets {
		all = append(all, ProbeStats{
			Addr: a, Reachable: t.reachable, RTT: t.rtt, Sent: t.sent, Lost: t.lost, PathMTU: t.mtu.passes, MTUTrouble: t.mtu.trouble,
		})
	}
	slices.SortFunc(all, func(a, b ProbeStats) int { return a.Addr.Compare(b.Addr) })
	return all
}
