package mesh

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"respmesh/mesh/wan"
)

// tcpSegment is a TCP packet from ::1 to ::2 of the infrastructure, with timestamps.
func tcpSegment(flags header.TCPFlags, data []byte) []byte {
	const options = 12
	b := make([]byte, ipv6HeaderLen+tcpHeaderLen+options+len(data))
	ip := header.IPv6(b)
	ip.Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(b) - ipv6HeaderLen), TransportProtocol: header.TCPProtocolNumber, HopLimit: 64,
		SrcAddr: tcpip.AddrFrom16(addr(infraPrefix, 1).As16()), DstAddr: tcpip.AddrFrom16(addr(infraPrefix, 2).As16()),
	})
	t := header.TCP(b[ipv6HeaderLen:])
	t.Encode(&header.TCPFields{SrcPort: 7379, DstPort: 999, SeqNum: 0xffffff00, AckNum: 5, DataOffset: tcpHeaderLen + options, Flags: flags, WindowSize: 100})
	copy(b[ipv6HeaderLen+tcpHeaderLen:], []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2})
	copy(b[ipv6HeaderLen+tcpHeaderLen+options:], data)
	return b
}

func TestCutTCP(t *testing.T) {
	data := make([]byte, DefaultMTU-ipv6HeaderLen-tcpHeaderLen-12-1) // odd, for the checksum
	for i := range data {
		data[i] = byte(i * 7)
	}
	whole := tcpSegment(header.TCPFlagAck|header.TCPFlagPsh|header.TCPFlagFin|tcpCWR, data)
	for _, most := range []int{minPacket, 480, 681, 1200, len(whole) - 1} {
		parts := cutTCP(whole, most)
		var got []byte
		for i, p := range parts {
			ip := header.IPv6(p)
			tcp := header.TCP(ip.Payload())
			if len(p) > most || int(ip.PayloadLength()) != len(p)-ipv6HeaderLen || !bytes.Equal(p[6:ipv6HeaderLen], whole[6:ipv6HeaderLen]) {
				t.Fatalf("%d: part %d has %d bytes, IPv6 header %x", most, i, len(p), p[:ipv6HeaderLen])
			}
			if seq := uint32(0xffffff00) + uint32(len(got)); tcp.SequenceNumber() != seq || tcp.AckNumber() != 5 {
				t.Errorf("%d: part %d has the number %x, want %x", most, i, tcp.SequenceNumber(), seq)
			}
			want := header.TCPFlagAck
			if i == 0 {
				want |= tcpCWR
			}
			if i == len(parts)-1 {
				want |= header.TCPFlagPsh | header.TCPFlagFin
			}
			if tcp.Flags() != want {
				t.Errorf("%d: part %d of %d has the flags %x", most, i, len(parts), uint8(tcp.Flags()))
			}
			if !tcp.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), checksum.Checksum(tcp.Payload(), 0), uint16(len(tcp.Payload()))) {
				t.Errorf("%d: part %d has a wrong checksum", most, i)
			}
			if !bytes.Equal(tcp.Options(), whole[ipv6HeaderLen+tcpHeaderLen:][:12]) {
				t.Errorf("%d: part %d has the options %x", most, i, tcp.Options())
			}
			got = append(got, tcp.Payload()...)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%d: the parts hold other data", most)
		}
	}
	for name, p := range map[string][]byte{
		"SYN": tcpSegment(header.TCPFlagSyn, data), "RST": tcpSegment(header.TCPFlagRst, data), "empty": nil, "headers only": tcpSegment(header.TCPFlagAck, nil),
	} {
		if parts := cutTCP(p, 480); parts != nil {
			t.Errorf("%s is cut", name)
		}
	}
	long := tcpSegment(header.TCPFlagAck, data)
	long[ipv6HeaderLen+12] = 0x40 // a header of 16 bytes
	if parts := cutTCP(long, 480); parts != nil {
		t.Error("one with a wrong header is cut")
	}
}

// TestCutBatch has more parts than the batch has room for, among packets that go as they are: all come, in order.
func TestCutBatch(t *testing.T) {
	narrow := addr(infraPrefix, 2).As16()
	c := new(cutter)
	c.paths.Store(&map[[16]byte]int{narrow: 700})
	const room, offset = 8, 16
	bufs, sizes := make([][]byte, room), make([]int, room)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	var want, got []uint32
	seq := uint32(1)
	fill := func(i, n int) {
		p := tcpSegment(header.TCPFlagAck, make([]byte, n))
		binary.BigEndian.PutUint32(p[ipv6HeaderLen+4:], seq)
		sizes[i] = copy(bufs[i][offset:], p)
		for left, at := n, seq; ; at += 628 {
			want = append(want, at)
			if left -= 628; left <= 0 {
				break
			}
		}
		seq += uint32(n)
	}
	take := func(n int) {
		for i := range n {
			if sizes[i] > 700 {
				t.Errorf("%d bytes", sizes[i])
			}
			got = append(got, binary.BigEndian.Uint32(bufs[i][offset+ipv6HeaderLen+4:]))
		}
	}
	for i := range room {
		fill(i, []int{1, 1200, 628, 700}[i%4])
	}
	sizes[4] = 0 // dropped by the filter
	want = append(want[:6], want[7:]...)
	take(c.apply(bufs, sizes, offset, room))
	for {
		n := c.left(bufs, sizes, offset)
		if n == 0 {
			break
		}
		take(n)
	}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// TestNarrowPath narrows a path under a connection: as soon as the devices are told, large writes get through again, both ways.
func TestNarrowPath(t *testing.T) {
	a, b, relay := far(t, wan.Conditions{})
	client, server := connect(t, a, b)
	transfer(t, client, server, 256<<10)
	narrow := wan.Conditions{MaxDatagram: 1008 + 32}
	must(t, relay.Set("a", "b", narrow))
	must(t, relay.Set("b", "a", narrow))
	large := make([]byte, 64<<10)
	_, err := client.Write(large)
	must(t, err)
	must(t, server.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	if n, err := server.Read(make([]byte, len(large))); err == nil {
		t.Fatalf("%d bytes pass: the path isn't narrow", n)
	}
	a.SetPathMTU(map[netip.Addr]int{addr(infraPrefix, 2): 1008})
	b.SetPathMTU(map[netip.Addr]int{addr(infraPrefix, 1): 1008})
	must(t, server.SetReadDeadline(time.Now().Add(20*time.Second)))
	for got := 0; got < len(large); {
		n, err := server.Read(large)
		must(t, err)
		got += n
	}
	must(t, server.SetReadDeadline(time.Time{}))
	transfer(t, client, server, 1<<20)
	transfer(t, server, client, 1<<20)
}
