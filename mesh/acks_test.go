package mesh

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// segment is a TCP packet of a node's answer, with an acknowledgement and some data.
func segment(port uint16, flags byte, ackNumber uint32, data int) []byte {
	t := tcpHeader(6379, port, flags)
	binary.BigEndian.PutUint32(t[8:], ackNumber)
	return packet(tcp6, addr(orgA, 2), addr(orgA, 1), append(t, make([]byte, data)...))
}

// sack is an acknowledgement that says more.
func sack(port uint16, ackNumber uint32) []byte {
	b := segment(port, ack, ackNumber, 12)
	b[ipv6HeaderLen+12] = 8 << 4
	copy(b[ipv6HeaderLen+tcpHeaderLen:], []byte{1, 1, 5, 10})
	return b
}

func TestAcksAreDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(DefaultMTU)
		defer q.stop()
		write := func(b []byte) {
			t.Helper()
			p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
			defer p.DecRef()
			var list stack.PacketBufferList
			list.PushBack(p)
			if _, err := q.WritePackets(list); err != nil {
				t.Fatal(err)
			}
		}
		sent := func() int {
			synctest.Wait()
			q.mu.Lock()
			defer q.mu.Unlock()
			n := q.fill.n
			q.fill.n = 0
			return n
		}
		want := func(n int, what string) {
			t.Helper()
			if got := sent(); got != n {
				t.Errorf("%s: %d packets were sent, want %d", what, got, n)
			}
		}
		write(segment(40000, synAck, 1, 0))
		want(1, "the answer to a connection")
		write(segment(40000, ack, 1, 10))
		want(1, "data")
		write(segment(40000, ack, 20, 0))
		want(0, "an acknowledgement")
		write(segment(40000, ack, 20, 10))
		want(1, "the reply in time")
		time.Sleep(10 * holdAck)
		want(0, "nothing is left behind it")

		write(segment(40000, ack, 30, 0))
		time.Sleep(holdAck - time.Microsecond)
		want(0, "a moment before it is due")
		time.Sleep(time.Microsecond)
		want(1, "when it is due")

		write(segment(40000, ack, 40, 0))
		write(segment(40000, ack, 50, 0))
		want(1, "the second")
		time.Sleep(10 * holdAck)
		want(0, "in place of the first")

		write(segment(40000, ack, 50, 0))
		want(1, "a repeated one")
		write(segment(40000, ack, 50+holdBelow, 0))
		want(1, "one for a full packet")
		write(sack(40000, 2000))
		want(1, "one with SACK")
		write(segment(40000, ack|tcpFIN, 2010, 0))
		want(1, "the end")

		// Two connections don't mix.
		for _, port := range []uint16{40001, 40002} {
			write(segment(port, ack, 1, 10))
		}
		want(2, "two connections")
		write(segment(40001, ack, 20, 0))
		write(segment(40002, ack, 20, 0))
		write(segment(40001, ack, 20, 10))
		want(1, "the reply on one")
		time.Sleep(holdAck)
		want(1, "and the acknowledgement on the other")
		// A connection that ends, and another one on the same port.
		write(segment(40001, ack, 30, 0))
		write(segment(40001, tcpRST, 0, 0))
		time.Sleep(10 * holdAck)
		want(1, "nothing after a reset")

		for i := range 3 * maxFlows {
			write(segment(uint16(i), ack, uint32(i), 10))
			q.mu.Lock()
			q.fill.n = 0
			q.mu.Unlock()
		}
		if n := len(q.acks.flows); n > maxFlows {
			t.Errorf("%d connections are remembered", n)
		}
	})
}

// TestHeldAcksWaitForRoom has more due than the queue takes.
func TestHeldAcksWaitForRoom(t *testing.T) {
	h := newAckHolder(func() {})
	defer h.timer.Stop()
	for port := range uint16(5) {
		h.take(segment(port, ack, 1, 10))
		if !h.take(segment(port, ack, 2, 0)) {
			t.Fatal("not held")
		}
	}
	room, sent := 2, 0
	flush := func() {
		h.due(time.Now().Add(time.Second), func([]byte) bool {
			if room == 0 {
				return false
			}
			room--
			sent++
			return true
		})
	}
	flush()
	if sent != 2 || len(h.held) != 3 || !h.armed {
		t.Errorf("%d sent, %d held, armed %v", sent, len(h.held), h.armed)
	}
	room = 10
	flush()
	if sent != 5 || len(h.held) != 0 || h.armed {
		t.Errorf("%d sent, %d held, armed %v", sent, len(h.held), h.armed)
	}
}
