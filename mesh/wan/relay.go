package wan

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	readBatch  = 16 // each of 552 sockets (24 nodes) has so many buffers
	writeBatch = 64

	// socketBuffer takes a burst while the relay is off its processor; the kernel
	// gives less without privilege.
	socketBuffer = 7 << 20
)

// Options say what a relay is.
type Options struct {
	Seed   uint64
	Listen netip.Addr   // of the relay's sockets; the zero value: 127.0.0.1
	Log    *slog.Logger // nil: discards
}

// Relay is the network between nodes: a socket for each that another one sends to.
type Relay struct {
	*network
	listen netip.Addr

	mu    sync.Mutex
	paths map[direction]path   // by (a, b) as given and (b, a), guarded by mu
	socks map[*outlet]net.Conn // guarded by mu
}

// path is where a node finds another: the socket that stands for it.
type path struct{ endpoint netip.AddrPort }

// outlet is a socket, connected to one node: what this node sends arrives here,
// and what it is sent leaves here.
type outlet struct {
	conn  *net.UDPConn
	batch interface {
		ReadBatch([]ipv6.Message, int) (int, error)
		WriteBatch([]ipv6.Message, int) (int, error)
	}
	send sync.Mutex // one batch at a time, so that the order stays
	msgs []ipv6.Message
}

// New starts a relay.
func New(o Options) *Relay {
	if !o.Listen.IsValid() {
		o.Listen = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return &Relay{network: newNetwork(o), listen: o.Listen, paths: make(map[direction]path), socks: make(map[*outlet]net.Conn)}
}

// Path opens the way between two nodes that listen at addrA and addrB. The first
// result is where a finds b, the second where b finds a. A second call for the
// same nodes, in either order, gives the same way.
func (r *Relay) Path(a, b string, addrA, addrB netip.AddrPort) (bForA, aForB netip.AddrPort, err error) {
	if a == b {
		return bForA, aForB, fmt.Errorf("wan: a path from %s to itself", a)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return bForA, aForB, fmt.Errorf("wan: %w", net.ErrClosed)
	}
	if p, ok := r.paths[direction{a, b}]; ok {
		return p.endpoint, r.paths[direction{b, a}].endpoint, nil
	}
	toA, err := r.openLocked(addrA)
	if err != nil {
		return bForA, aForB, err
	}
	toB, err := r.openLocked(addrB)
	if err != nil {
		r.dropLocked(toA)
		return bForA, aForB, err
	}
	ab, ba := r.line(a, b), r.line(b, a)
	ab.setExit(toB)
	ba.setExit(toA)
	r.wg.Go(func() { r.receive(toA, ab) })
	r.wg.Go(func() { r.receive(toB, ba) })
	bForA, aForB = local(toA), local(toB)
	r.paths[direction{a, b}] = path{bForA}
	r.paths[direction{b, a}] = path{aForB}
	return bForA, aForB, nil
}

func local(o *outlet) netip.AddrPort { return o.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// openLocked makes a socket connected to a node: the kernel keeps strangers out.
func (r *Relay) openLocked(node netip.AddrPort) (*outlet, error) {
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.listen, 0)), net.UDPAddrFromAddrPort(node))
	if err != nil {
		return nil, fmt.Errorf("wan: open a path: %w", err)
	}
	growBuffers(c, socketBuffer)
	o := &outlet{conn: c}
	if r.listen.Is4() {
		o.batch = ipv4.NewPacketConn(c)
	} else {
		o.batch = ipv6.NewPacketConn(c)
	}
	r.socks[o] = c
	return o, nil
}

func (r *Relay) dropLocked(o *outlet) {
	delete(r.socks, o)
	o.conn.Close()
}

// Close ends the relay; what is under way is lost. Further calls do nothing.
func (r *Relay) Close() error {
	r.end()
	r.mu.Lock()
	for o := range r.socks {
		r.dropLocked(o)
	}
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}

// receive takes what one node sends to another.
func (r *Relay) receive(from *outlet, l *line) {
	msgs := make([]ipv6.Message, readBatch)
	bufs := make([]*[maxDatagram]byte, readBatch)
	for i := range msgs {
		bufs[i] = r.bufs.Get().(*[maxDatagram]byte)
		msgs[i].Buffers = net.Buffers{bufs[i][:]}
	}
	now := make([]parcel, 0, 2*readBatch)   // to go at once
	later := make([]parcel, 0, 2*readBatch) // to wait
	for {
		n, err := from.batch.ReadBatch(msgs, 0)
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue // the node isn't listening just now
		}
		if err != nil {
			if r.ctx.Err() == nil {
				r.log.Error("relay socket failed", "err", err)
			}
			return
		}
		at := r.now()
		now, later = now[:0], later[:0]
		for i := range n {
			size := msgs[i].N
			if msgs[i].Flags&msgTruncated != 0 {
				size = maxDatagram + 1
			}
			f := l.admit(at, size)
			for k := range f.n {
				b := bufs[i]
				if k > 0 {
					b = r.bufs.Get().(*[maxDatagram]byte)
					copy(b[:size], bufs[i][:size])
				}
				p := parcel{at: f.at[k], line: l, buf: b, size: size, queued: f.queued}
				if f.queued {
					later = append(later, p)
				} else {
					now = append(now, p)
				}
			}
			if f.n > 0 {
				bufs[i] = r.bufs.Get().(*[maxDatagram]byte)
				msgs[i].Buffers[0] = bufs[i][:]
			}
		}
		r.send(now)
		r.schedule(later)
	}
}

// write sends parcels that may still go. Errors lose datagrams, as networks do.
func (o *outlet) write(ps []parcel) {
	o.send.Lock()
	defer o.send.Unlock()
	used := 0
	for i := range ps {
		if !ps[i].line.leave(ps[i].size, ps[i].queued) {
			continue
		}
		if used == len(o.msgs) {
			o.msgs = append(o.msgs, ipv6.Message{Buffers: make(net.Buffers, 1)})
		}
		o.msgs[used].Buffers[0] = ps[i].buf[:ps[i].size]
		used++
	}
	for msgs := o.msgs[:used]; len(msgs) > 0; {
		n, err := o.batch.WriteBatch(msgs, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			n = 1
		}
		msgs = msgs[n:]
	}
	for i := range used {
		o.msgs[i].Buffers[0] = nil
	}
}
