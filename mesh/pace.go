package mesh

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// pace keeps small writes a little apart on long paths.
//
// TCP may have ten packets on their way when it was idle for a round trip, and gVisor counts packets, not bytes: ten
// small ones in a burst, one per command, and the eleventh waits for a round trip. Held up for a five-hundredth of a round trip,
// whoever writes has gathered the next commands meanwhile, and they share a packet.
type pace struct {
	mu      sync.Mutex
	gap     time.Duration // between the starts of two small writes; 0: a short path
	checked time.Time
	last    time.Time
}

const (
	paceBelow = 1024                  // bytes of a write that doesn't fill a packet
	paceShare = 512                   // of the round trip
	paceFloor = 50 * time.Microsecond // a timer is about as coarse
	paceCheck = time.Second
)

// wait returns when the next small write may leave.
func (p *pace) wait(ep tcpip.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.checked) > paceCheck {
		p.checked, p.gap = now, 0
		var info tcpip.TCPInfoOption
		if ep.GetSockOpt(&info) == nil {
			p.gap = info.RTT / paceShare
		}
		if p.gap < paceFloor {
			p.gap = 0
		}
	}
	if left := p.gap - now.Sub(p.last); left > 0 {
		time.Sleep(left)
		now = now.Add(left)
	}
	p.last = now
}
