package mesh

import "golang.zx2c4.com/wireguard/tun"

// filtered is a tunnel's link with the packet filter in both directions.
type filtered struct {
	tun.Device
	filter *Filter
	log    *dropLog
	cut    *cutter
}

// Read leaves the size of a dropped packet at zero, which WireGuard skips.
func (f filtered) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if n := f.cut.left(bufs, sizes, offset); n > 0 {
		return n, nil
	}
	n, err := f.Device.Read(bufs, sizes, offset)
	for i := range n {
		if sizes[i] > 0 && !f.allow(Outbound, bufs[i][offset:offset+sizes[i]]) {
			sizes[i] = 0
		}
	}
	return f.cut.apply(bufs, sizes, offset, n), err
}

// Write compacts the packets that pass to the front of bufs. WireGuard uses the
// slice for nothing else, and gives each caller one of its own.
func (f filtered) Write(bufs [][]byte, offset int) (int, error) {
	kept := bufs[:0]
	for _, b := range bufs {
		if f.allow(Inbound, b[offset:]) {
			kept = append(kept, b)
		}
	}
	if len(kept) == 0 {
		return len(bufs), nil
	}
	if _, err := f.Device.Write(kept, offset); err != nil {
		return 0, err
	}
	return len(bufs), nil
}

func (f filtered) allow(d Direction, packet []byte) bool {
	r := f.filter.check(d, packet)
	if r != pass && !(d == Outbound && r == ICMP) { // its own stack, saying that nobody listens somewhere: nobody has to be told
		f.log.note(d, r, packet)
	}
	return r == pass
}
