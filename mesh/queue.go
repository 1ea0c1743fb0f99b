package mesh

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// queueBatch is how many packets one read hands to WireGuard, and how many may
// wait. More than 64 gained nothing; each costs WireGuard 64 KiB of buffer.
const queueBatch = 64

// queue joins a gVisor stack to WireGuard: to the stack it is a link endpoint,
// to WireGuard a tun.Device. It has two batches of flat packets: the stack fills
// one while WireGuard empties the other. When both are in use the stack's writer
// waits: nothing is dropped, TCP is slowed to the speed of the encryption.
//
// The wait can't deadlock: what empties the queue (WireGuard's TUN reader, its
// encryption and its UDP send) never takes a lock of the stack.
type queue struct {
	mtu    int
	events chan tun.Event

	mu       sync.Mutex
	readable sync.Cond
	writable sync.Cond
	fill     *batch     // guarded by mu; non-nil
	closed   bool       // guarded by mu
	oversize uint64     // guarded by mu; packets above the MTU, dropped
	acks     *ackHolder // guarded by mu

	drain *batch // owned by Read, which WireGuard calls from one goroutine

	// up is the stack's receiving side. Not under a lock: the stack detaches while
	// it holds locks of its own that a delivery may wait for.
	up atomic.Pointer[stack.NetworkDispatcher]
}

// batch is up to queueBatch packets, each in its slot of one allocation.
type batch struct {
	slab  []byte
	sizes [queueBatch]int
	n     int // packets
	next  int // the first that is still to be read
}

func newQueue(mtu int) *queue {
	q := &queue{
		mtu:    mtu,
		events: make(chan tun.Event, 1),
		fill:   &batch{slab: make([]byte, queueBatch*mtu)},
		drain:  &batch{slab: make([]byte, queueBatch*mtu)},
	}
	q.acks = newAckHolder(q.flushAcks)
	q.readable.L = &q.mu
	q.writable.L = &q.mu
	// The only event there ever is, so closing the channel later races with nothing.
	q.events <- tun.EventUp
	return q
}

// ---- the stack's side ----

// WritePackets takes packets of the stack; it waits while the queue is full.
func (q *queue) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, p := range pkts.AsSlice() {
		size := p.Size()
		if size > q.mtu {
			q.oversize++
			continue
		}
		for q.fill.n == queueBatch && !q.closed {
			q.writable.Wait()
		}
		if q.closed {
			return i, &tcpip.ErrClosedForSend{}
		}
		b := q.fill
		slot := b.slab[b.n*q.mtu : (b.n+1)*q.mtu]
		for _, part := range p.AsSlices() {
			slot = slot[copy(slot, part):]
		}
		if !q.acks.take(b.slab[b.n*q.mtu : b.n*q.mtu+size]) {
			q.commitLocked(size)
		}
	}
	return pkts.Len(), nil
}

// commitLocked adds the packet that stands in the next slot.
func (q *queue) commitLocked(size int) {
	b := q.fill
	b.sizes[b.n] = size
	b.n++
	if b.n == 1 {
		q.readable.Signal()
	}
}

// flushAcks sends the acknowledgements that nothing made needless.
func (q *queue) flushAcks() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.acks.due(time.Now(), func(pkt []byte) bool {
		if q.fill.n == queueBatch {
			return false
		}
		copy(q.fill.slab[q.fill.n*q.mtu:], pkt)
		q.commitLocked(len(pkt))
		return true
	})
}

// Attach is called by the stack with its receiving side, and with nil at the end.
func (q *queue) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		q.up.Store(nil)
		return
	}
	q.up.Store(&d)
}

// IsAttached says whether the stack is there.
func (q *queue) IsAttached() bool { return q.up.Load() != nil }

// Capabilities: every packet came out of WireGuard's AEAD, so no checksum of an
// incoming packet needs to be computed again.
func (q *queue) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

func (q *queue) linkMTU() uint32                         { return uint32(q.mtu) }
func (q *queue) MaxHeaderLength() uint16                 { return 0 }
func (q *queue) LinkAddress() tcpip.LinkAddress          { return "" }
func (q *queue) SetLinkAddress(tcpip.LinkAddress)        {}
func (q *queue) SetMTU(uint32)                           {}
func (q *queue) Wait()                                   {}
func (q *queue) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (q *queue) AddHeader(*stack.PacketBuffer)           {}
func (q *queue) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (q *queue) SetOnCloseAction(func())                 {}

// GSOMaxSize and SupportedGSO let TCP send segments of up to 64 KiB through the
// stack; the stack itself cuts them to packets just before WritePackets.
func (q *queue) GSOMaxSize() uint32               { return stack.GVisorGSOMaxSize }
func (q *queue) SupportedGSO() stack.SupportedGSO { return stack.GVisorGSOSupported }

// stop ends all waiting, from whichever side; later calls do nothing.
func (q *queue) stop() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		q.acks.timer.Stop()
		close(q.events)
	}
	q.mu.Unlock()
	q.readable.Broadcast()
	q.writable.Broadcast()
}

// link is the queue as the stack sees it; tun.Device and stack.LinkEndpoint
// disagree on the types of MTU and Close.
type link struct{ *queue }

func (l link) MTU() uint32 { return l.linkMTU() }
func (l link) Close()      { l.stop() }

// ---- WireGuard's side ----

// device is the queue as WireGuard sees it.
type device struct{ *queue }

var (
	_ tun.Device         = device{}
	_ stack.LinkEndpoint = link{}
	_ stack.GSOEndpoint  = link{}
)

// Read waits for packets and gives as many as there are.
func (d device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	q := d.queue
	if b := q.drain; b.next == b.n {
		q.mu.Lock()
		for q.fill.n == 0 && !q.closed {
			q.readable.Wait()
		}
		if q.closed {
			q.mu.Unlock()
			return 0, os.ErrClosed
		}
		b.n, b.next = 0, 0
		q.fill, q.drain = b, q.fill
		q.mu.Unlock()
		q.writable.Broadcast()
	}
	b := q.drain
	n := min(len(bufs), b.n-b.next)
	for i := range n {
		at := b.next * q.mtu
		sizes[i] = copy(bufs[i][offset:], b.slab[at:at+b.sizes[b.next]])
		b.next++
	}
	return n, nil
}

// Write gives decrypted packets to the stack.
func (d device) Write(bufs [][]byte, offset int) (int, error) {
	up := d.up.Load()
	if up == nil {
		return 0, os.ErrClosed
	}
	for _, b := range bufs {
		b = b[offset:]
		if len(b) < header.IPv6MinimumSize || b[0]>>4 != 6 {
			continue // the filter lets nothing else through
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
		p.NetworkProtocolNumber = ipv6.ProtocolNumber
		(*up).DeliverNetworkPacket(ipv6.ProtocolNumber, p)
		p.DecRef()
	}
	return len(bufs), nil
}

func (d device) MTU() (int, error)        { return d.mtu, nil }
func (d device) Name() (string, error)    { return "userspace", nil }
func (d device) File() *os.File           { return nil }
func (d device) Events() <-chan tun.Event { return d.events }
func (d device) BatchSize() int           { return queueBatch }
func (d device) Close() error             { d.stop(); return nil }
