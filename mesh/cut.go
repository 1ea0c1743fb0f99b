package mesh

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// cutter makes the TCP packets that leave by a narrow path small enough for it, as a network card does with what is handed to it in
// one piece: each part is a whole TCP packet with its own sequence number. So both tunnels' connections get through, also
// those that were there before the path was narrow, and the other end needs to know nothing. MSS and Packet Too Big can't do that: IPv6
// has no MTU below 1280.
type cutter struct {
	paths atomic.Pointer[map[[16]byte]int]
	rest  [][]byte // packets that found no room in the last batch; owned by Read
}

// SafePacket is what a packet may have as long as it isn't known what its path carries: outside, an underlay of 1280 bytes carries it.
const SafePacket = 1200

// minPacket is the smallest that is cut to: headers with all options, and something to carry.
const minPacket = ipv6HeaderLen + 60 + 64

// SetPathMTU says how large the TCP packets to some addresses may be; to others the tunnel's MTU is the limit.
func (d *Device) SetPathMTU(most map[netip.Addr]int) {
	paths := make(map[[16]byte]int, len(most))
	for a, n := range most {
		paths[a.As16()] = max(n, minPacket)
	}
	if old := d.cut.paths.Load(); old == nil || !maps.Equal(*old, paths) {
		d.cut.paths.Store(&paths)
	}
}

// most is how large a packet may be; 0: as it is.
func (c *cutter) most(b []byte) int {
	paths := c.paths.Load()
	if paths == nil || len(*paths) == 0 || len(b) <= minPacket {
		return 0
	}
	most := (*paths)[[16]byte(b[24:])]
	if most == 0 || len(b) <= most || b[6] != byte(TCP) {
		return 0
	}
	return most
}

// apply cuts those of the n packets in bufs that have to be, and gives how many there are now. They stay in their order: TCP takes
// others that overtake for losses.
func (c *cutter) apply(bufs [][]byte, sizes []int, offset, n int) int {
	packet := func(i int) []byte { return bufs[i][offset : offset+sizes[i]] }
	first := 0
	for first < n && c.most(packet(first)) == 0 {
		first++
	}
	if first == n {
		return n
	}
	for i := first; i < n; i++ {
		if parts := cutTCP(packet(i), c.most(packet(i))); parts != nil {
			c.rest = append(c.rest, parts...)
		} else if sizes[i] > 0 {
			c.rest = append(c.rest, slices.Clone(packet(i)))
		}
	}
	return first + c.left(bufs[first:], sizes[first:], offset)
}

// left puts packets that wait into bufs, and gives how many.
func (c *cutter) left(bufs [][]byte, sizes []int, offset int) int {
	n := min(len(bufs), len(c.rest))
	for i, part := range c.rest[:n] {
		sizes[i] = copy(bufs[i][offset:], part)
	}
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
	return n
}

const (
	tcpPSH = 0x08
	tcpCWR = 0x80
)

// cutTCP cuts a packet into parts of at most most bytes; nil if it goes as it is.
func cutTCP(b []byte, most int) [][]byte {
	if most == 0 || len(b) < ipv6HeaderLen+tcpHeaderLen || b[ipv6HeaderLen+13]&(tcpSYN|tcpRST) != 0 {
		return nil
	}
	headers := ipv6HeaderLen + int(b[ipv6HeaderLen+12]>>4)*4
	if headers < ipv6HeaderLen+tcpHeaderLen || headers >= len(b) {
		return nil
	}
	data, room := b[headers:], most-headers
	seq, flags := binary.BigEndian.Uint32(b[ipv6HeaderLen+4:]), b[ipv6HeaderLen+13]
	var parts [][]byte
	for at := 0; at < len(data); at += room {
		piece := data[at:min(at+room, len(data))]
		part := append(append(make([]byte, 0, headers+len(piece)), b[:headers]...), piece...)
		t := part[ipv6HeaderLen:]
		binary.BigEndian.PutUint16(part[4:], uint16(len(t)))
		binary.BigEndian.PutUint32(t[4:], seq+uint32(at))
		t[13] = flags
		if at > 0 {
			t[13] &^= tcpCWR
		}
		if at+len(piece) < len(data) {
			t[13] &^= tcpFIN | tcpPSH
		}
		binary.BigEndian.PutUint16(t[16:], 0)
		binary.BigEndian.PutUint16(t[16:], tcpChecksum(part))
		parts = append(parts, part)
	}
	return parts
}

// tcpChecksum is that of an IPv6 packet whose checksum field is zero (RFC 8200, 8.1).
func tcpChecksum(b []byte) uint16 {
	return ^checksum.Checksum(b[8:], checksum.Combine(uint16(TCP), uint16(len(b)-ipv6HeaderLen)))
}
