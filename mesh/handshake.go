package mesh

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// handshakes is a Bind that makes WireGuard's first handshakes quick. WireGuard
// repeats an unanswered initiation after five seconds, and two things often cost
// these five seconds when nodes start together:
//
//   - Both initiate at once. Each then drops its own half for the other's, and
//     both answers are refused. Here the initiation with the smaller ephemeral key
//     wins: whoever sent it holds the other one back for a moment, and forgets it
//     when the answer comes. And who has just taken an initiation doesn't send one.
//   - The initiation is lost, or the other end doesn't know us yet. Here the same
//     bytes are sent again, soon and then each second. Who has taken them already
//     refuses them by their timestamp, so nothing is weakened.
//
// Only handshake messages are looked at; data passes untouched.
type handshakes struct {
	conn.Bind
	flood *flood // nil: no bounds

	mu      sync.Mutex
	sent    map[string]*initiation // unanswered, by endpoint, guarded by mu
	taken   map[string]time.Time   // when WireGuard was given one of theirs, guarded by mu
	waiting int                    // held back or on the way to WireGuard, guarded by mu
	closed  chan struct{}          // guarded by mu; replaced by Open
	held    chan heldMessage
}

// initiation is one of ours that isn't answered yet.
type initiation struct {
	msg   []byte
	to    conn.Endpoint
	at    time.Time
	again *time.Timer
	times int // that it was sent again
}

type heldMessage struct {
	msg  []byte
	from conn.Endpoint
}

// WireGuard's messages: https://www.wireguard.com/protocol/
const (
	initiationType, initiationLen = 1, 148
	responseType, responseLen     = 2, 92

	senderAt, receiverAt, indexLen = 4, 8, 4 // an initiation's sender is its response's receiver
	ephemeralAt, ephemeralLen      = 8, 32
)

const (
	// holdBack is longer than the round trip to the other side of the world.
	holdBack = 500 * time.Millisecond

	// sendAfter is ample for WireGuard to answer an initiation; if it doesn't, it
	// didn't want it, and ours is sent after all.
	sendAfter = 60 * time.Millisecond

	maxHeld  = 256
	maxSent  = 16384
	maxTaken = 4096
)

// initiateAgain says how long after the last time an initiation is sent again. WireGuard makes a new one after five seconds.
func initiateAgain(times int) (wait time.Duration, again bool) {
	const first, most, last = 30 * time.Millisecond, time.Second, 8
	return min(first<<times, most), times < last
}

func newHandshakes(b conn.Bind, f *flood) *handshakes {
	return &handshakes{Bind: b, flood: f, sent: make(map[string]*initiation), taken: make(map[string]time.Time), held: make(chan heldMessage, maxHeld)}
}

// Open adds a function that receives what was held back.
func (h *handshakes) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, port, err := h.Bind.Open(port)
	if err != nil {
		return nil, 0, err
	}
	closed := make(chan struct{})
	h.mu.Lock()
	h.closed = closed
	h.mu.Unlock()
	wrapped := make([]conn.ReceiveFunc, 0, len(fns)+1)
	for _, fn := range fns {
		wrapped = append(wrapped, func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			n, err := fn(bufs, sizes, eps)
			for i := range n {
				if (sizes[i] == initiationLen || sizes[i] == responseLen) && (h.flooded(bufs[i][:sizes[i]], eps[i]) || h.intercept(bufs[i][:sizes[i]], eps[i])) {
					sizes[i] = 0 // WireGuard skips it
				}
			}
			return n, err
		})
	}
	wrapped = append(wrapped, func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case <-closed:
			return 0, net.ErrClosed
		case m := <-h.held:
			h.mu.Lock()
			h.waiting--
			h.mu.Unlock()
			sizes[0], eps[0] = copy(bufs[0], m.msg), m.from
			return 1, nil
		}
	})
	return wrapped, port, nil
}

// Close frees the function that Open added.
func (h *handshakes) Close() error {
	h.mu.Lock()
	if h.closed != nil {
		close(h.closed)
		h.closed = nil
	}
	for key := range h.sent {
		h.forgetLocked(key)
	}
	h.mu.Unlock()
	return h.Bind.Close()
}

// Send notes initiations, and forgets ours when WireGuard has accepted theirs.
func (h *handshakes) Send(bufs [][]byte, to conn.Endpoint) error {
	if len(bufs) == 1 && len(bufs[0]) == initiationLen && messageType(bufs[0]) == initiationType {
		if !h.note(bytes.Clone(bufs[0]), to) {
			return nil
		}
	}
	if len(bufs) == 1 && len(bufs[0]) == responseLen && messageType(bufs[0]) == responseType {
		h.mu.Lock()
		h.forgetLocked(to.DstToString())
		h.mu.Unlock()
	}
	return h.Bind.Send(bufs, to)
}

func messageType(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func ephemeral(b []byte) []byte { return b[ephemeralAt : ephemeralAt+ephemeralLen] }

// note keeps an initiation until it is answered, and says whether to send it now.
func (h *handshakes) note(msg []byte, to conn.Endpoint) (now bool) {
	key := to.DstToString()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetLocked(key)
	if h.closed == nil || len(h.sent) >= maxSent {
		return true
	}
	in := &initiation{msg: msg, to: to, at: time.Now()}
	wait, _ := initiateAgain(0)
	if now = time.Since(h.taken[key]) >= holdBack; !now {
		wait = sendAfter
	}
	in.again = time.AfterFunc(wait, func() { h.repeat(key, in) })
	h.sent[key] = in
	return now
}

// takeLocked notes that WireGuard is given an initiation of theirs.
func (h *handshakes) takeLocked(key string) {
	h.forgetLocked(key)
	if len(h.taken) >= maxTaken {
		clear(h.taken) // anybody can send from many addresses
	}
	h.taken[key] = time.Now()
}

func (h *handshakes) forgetLocked(key string) {
	if in := h.sent[key]; in != nil {
		in.again.Stop()
		delete(h.sent, key)
	}
}

// repeat sends an initiation again, unless it was answered meanwhile.
func (h *handshakes) repeat(key string, in *initiation) {
	h.mu.Lock()
	if h.sent[key] != in {
		h.mu.Unlock()
		return
	}
	in.times++
	if wait, again := initiateAgain(in.times); again {
		in.again.Reset(wait)
	} else {
		delete(h.sent, key)
	}
	h.mu.Unlock()
	_ = h.Bind.Send([][]byte{in.msg}, in.to) // as good as lost
}

// flooded says whether a handshake message is one too many.
func (h *handshakes) flooded(msg []byte, from conn.Endpoint) bool {
	return h.flood != nil && messageType(msg) == initiationType && !h.flood.admit(msg, from.DstIP())
}

// intercept looks at a handshake message that came in, and says whether to keep
// it from WireGuard for now.
func (h *handshakes) intercept(msg []byte, from conn.Endpoint) bool {
	t := messageType(msg)
	if !(t == initiationType && len(msg) == initiationLen) && !(t == responseType && len(msg) == responseLen) {
		return false
	}
	key := from.DstToString()
	h.mu.Lock()
	defer h.mu.Unlock()
	if t == responseType {
		// The answer to an earlier one is refused by WireGuard, which has made another since: that one still has to arrive.
		if in := h.sent[key]; in != nil && bytes.Equal(msg[receiverAt:receiverAt+indexLen], in.msg[senderAt:senderAt+indexLen]) {
			h.forgetLocked(key)
		}
		return false
	}
	in := h.sent[key]
	if in == nil || time.Since(in.at) >= holdBack || bytes.Compare(ephemeral(in.msg), ephemeral(msg)) > 0 || h.waiting >= maxHeld {
		// Theirs goes on, and takes the place of ours.
		h.takeLocked(key)
		return false
	}
	h.waiting++
	m := heldMessage{bytes.Clone(msg), from}
	time.AfterFunc(holdBack, func() { h.release(key, in, m) })
	return true
}

// release gives WireGuard what was held back, unless ours was answered.
func (h *handshakes) release(key string, in *initiation, m heldMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent[key] != in || h.closed == nil {
		h.waiting--
		return
	}
	h.takeLocked(key)
	h.held <- m // has room for all that may be waiting
}
