package mesh

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// dropLog writes about dropped packets: at most one line for each direction and reason in dropLogEvery, with the packet that
// it is about and how many there were since the last line. Somebody who is dropped can send a million in a second.
type dropLog struct {
	log *slog.Logger

	mu   sync.Mutex
	last [2][reasons]dropped // guarded by mu
}

type dropped struct {
	at   time.Time // of the last line
	more uint64    // since
}

const dropLogEvery = 10 * time.Second

var directions = [...]string{Inbound: "in", Outbound: "out"}

func (l *dropLog) note(d Direction, r Reason, packet []byte) {
	now := time.Now()
	l.mu.Lock()
	e := &l.last[d][r]
	e.more++
	if now.Sub(e.at) < dropLogEvery {
		l.mu.Unlock()
		return
	}
	count := e.more
	e.at, e.more = now, 0
	l.mu.Unlock()
	attrs := []any{"direction", directions[d], "reason", r.String(), "packets", count, "bytes", len(packet)}
	if len(packet) >= ipv6HeaderLen && packet[0]>>4 == 6 {
		src, dst := netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		attrs = append(attrs, "from", src, "to", dst, "protocol", packet[6])
		if p := packet[ipv6HeaderLen:]; len(p) >= 4 && (Proto(packet[6]) == TCP || Proto(packet[6]) == UDP) {
			attrs = append(attrs, "port", binary.BigEndian.Uint16(p[2:]))
		}
	}
	l.log.Warn("packets dropped", attrs...)
}
