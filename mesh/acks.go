package mesh

import (
	"encoding/binary"
	"time"
)

// ackHolder gives the userspace stack delayed acknowledgements (RFC 1122, 4.2.3.2). gVisor acknowledges what it has received
// at once, in a packet of its own; the reply of a small request, some microseconds later, says the same. Each packet costs a
// system call and two encryptions, so a ping-pong would cost four packets where two do.
//
// An acknowledgement that carries nothing else is held back for a moment. If a packet of the same connection follows, it isn't
// needed; if another acknowledgement does, that one leaves at once, so that at most every second is held back. What
// repeats an acknowledgement (a loss, or a window that opens), says more (SACK) or acknowledges a full packet is never held
// back: a sender's window grows with the acknowledgements, and 16 MB over 220 ms took a third longer.
type ackHolder struct {
	flows map[flowKey]*flow
	held  []heldAck // by deadline; those whose flow has another turn by now are void
	timer *time.Timer
	armed bool
}

// flowKey is the addresses and ports of a packet, as they stand in it.
type flowKey [36]byte

// flow is what was last sent of a connection.
type flow struct {
	ack  uint32
	turn uint64 // counts what was sent, so that a held one is known to be void
	held bool
	size int
	pkt  [maxPureAck]byte
}

type heldAck struct {
	flow  *flow
	turn  uint64
	until time.Time
}

const (
	holdAck    = time.Millisecond
	holdBelow  = 1024 // bytes that are acknowledged
	maxFlows   = 8192
	maxPureAck = ipv6HeaderLen + tcpHeaderLen + 12 // with timestamps

	tcpFIN, tcpRST = 0x01, 0x04
)

func newAckHolder(fire func()) *ackHolder {
	t := time.AfterFunc(time.Hour, fire)
	t.Stop()
	return &ackHolder{flows: make(map[flowKey]*flow), timer: t}
}

// take looks at a packet of the stack, and says whether it is held back.
func (h *ackHolder) take(b []byte) bool {
	if len(b) < ipv6HeaderLen+tcpHeaderLen || b[6] != byte(TCP) {
		return false
	}
	var key flowKey
	copy(key[:], b[8:ipv6HeaderLen+4])
	t := b[ipv6HeaderLen:]
	flags, ack := t[13], binary.BigEndian.Uint32(t[8:])
	f := h.flows[key]
	if flags&(tcpFIN|tcpRST|tcpSYN) != 0 {
		if f != nil {
			f.send(ack)
			delete(h.flows, key)
		}
		return false
	}
	if f == nil {
		if len(h.flows) >= maxFlows {
			h.forget()
		}
		h.flows[key] = &flow{ack: ack}
		return false
	}
	if f.held || ack-f.ack >= holdBelow || ack == f.ack || !pureAck(b) {
		f.send(ack)
		return false
	}
	f.held, f.size = true, copy(f.pkt[:], b)
	h.held = append(h.held, heldAck{f, f.turn, time.Now().Add(holdAck)})
	if !h.armed {
		h.armed = true
		h.timer.Reset(holdAck)
	}
	return true
}

// forget makes room for other flows, but for those that have something held back.
func (h *ackHolder) forget() {
	for key, f := range h.flows {
		if !f.held {
			delete(h.flows, key)
		}
	}
}

func (f *flow) send(ack uint32) {
	f.ack, f.held = ack, false
	f.turn++
}

// due gives out what was held back long enough, while there is room for it.
func (h *ackHolder) due(now time.Time, send func([]byte) bool) {
	h.armed = false
	n := 0
	for _, a := range h.held {
		if a.flow.held && a.flow.turn == a.turn {
			if now.Before(a.until) || !send(a.flow.pkt[:a.flow.size]) {
				break
			}
			a.flow.send(binary.BigEndian.Uint32(a.flow.pkt[ipv6HeaderLen+8:]))
		}
		n++
	}
	h.held = append(h.held[:0], h.held[n:]...)
	if len(h.held) > 0 {
		h.armed = true
		h.timer.Reset(max(h.held[0].until.Sub(now), holdAck/4))
	}
}

// pureAck is a packet that only acknowledges: no data, no flag but ACK, no option but timestamps.
func pureAck(b []byte) bool {
	t := b[ipv6HeaderLen:]
	if len(b) > maxPureAck || t[13] != tcpACK || int(t[12]>>4)*4 != len(t) {
		return false
	}
	options := t[tcpHeaderLen:]
	return len(options) == 0 || len(options) == 12 && options[0] == 1 && options[1] == 1 && options[2] == 8
}
