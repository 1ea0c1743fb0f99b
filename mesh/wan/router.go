package wan

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"sync"
)

// Router is the network between places whose hosts know nothing of it: IP packets
// of any protocol come from a device, such as a TUN, and go back to it once their
// time has come. So the kernel routes what leaves a place to the device, and what
// the device gives back to where it belongs.
type Router struct {
	*network
	device io.ReadWriteCloser
	place  func(netip.Addr) string
	once   sync.Once
	err    error
}

// NewRouter starts a router, which owns the device from now on: each Read and each
// Write is one packet, and Close ends a Read. place says where an address is; what
// comes from or goes to "" is dropped.
func NewRouter(device io.ReadWriteCloser, place func(netip.Addr) string, o Options) *Router {
	r := &Router{network: newNetwork(o), device: device, place: place}
	r.wg.Go(r.receive)
	return r
}

// Close ends the router and its device. Further calls do nothing.
func (r *Router) Close() error {
	r.once.Do(func() {
		r.end()
		r.err = r.device.Close()
		r.wg.Wait()
	})
	return r.err
}

// receive takes what places send to each other.
func (r *Router) receive() {
	b := r.bufs.Get().(*[maxDatagram]byte)
	now, later := make([]parcel, 0, 2), make([]parcel, 0, 2)
	lines := make(map[direction]*line)
	for {
		size, err := r.device.Read(b[:])
		if err != nil {
			if r.ctx.Err() == nil && !errors.Is(err, io.EOF) {
				r.log.Error("wan router: read from the device", "err", err)
			}
			return
		}
		d, ok := r.direction(b[:size])
		if !ok {
			continue
		}
		l := lines[d]
		if l == nil {
			l = r.line(d.from, d.to)
			l.setExit(r)
			lines[d] = l
		}
		at := r.now()
		f := l.admit(at, size)
		now, later = now[:0], later[:0]
		for k := range f.n {
			c := r.bufs.Get().(*[maxDatagram]byte)
			copy(c[:size], b[:size])
			p := parcel{at: f.at[k], line: l, buf: c, size: size, queued: f.queued}
			if f.queued {
				later = append(later, p)
			} else {
				now = append(now, p)
			}
		}
		r.send(now)
		r.schedule(later)
	}
}

// direction reads where a packet is from and to.
func (r *Router) direction(b []byte) (d direction, ok bool) {
	var from, to netip.Addr
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		from, to = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	case len(b) >= 40 && b[0]>>4 == 6:
		from, to = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	default:
		return d, false
	}
	d = direction{r.place(from), r.place(to)}
	return d, d.from != "" && d.to != "" && d.from != d.to
}

// write gives packets that may still go to the device. Errors lose packets, as networks do.
func (r *Router) write(ps []parcel) {
	for i := range ps {
		if !ps[i].line.leave(ps[i].size, ps[i].queued) {
			continue
		}
		_, err := r.device.Write(ps[i].buf[:ps[i].size])
		if errors.Is(err, net.ErrClosed) || errors.Is(err, fs.ErrClosed) {
			return
		}
	}
}
