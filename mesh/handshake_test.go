package mesh

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"respmesh/mesh/wan"
)

// fakeBind is a socket: what is sent goes to sent, what comes in comes from in.
type fakeBind struct {
	conn.Bind // nothing else is called
	sent      chan []byte
	in        chan []byte
	peer      *endpoint
	closed    chan struct{}
}

func (f *fakeBind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case b := <-f.in:
			sizes[0], eps[0] = copy(bufs[0], b), f.peer
			return 1, nil
		case <-f.closed:
			return 0, net.ErrClosed
		}
	}}, 1, nil
}

func (f *fakeBind) Close() error { close(f.closed); return nil }

func (f *fakeBind) Send(bufs [][]byte, _ conn.Endpoint) error {
	f.sent <- bufs[0]
	return nil
}

// handshakeTest is a handshakes over a fakeBind; got is what WireGuard would get.
type handshakeTest struct {
	*handshakes
	bind *fakeBind
	got  chan byte // the type of each message
}

func testHandshakes(t *testing.T, test func(*testing.T, handshakeTest)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeBind{
			sent: make(chan []byte, 100), in: make(chan []byte, 100), closed: make(chan struct{}),
			peer: newEndpoint(netip.MustParseAddrPort("127.0.0.1:1")),
		}
		h := handshakeTest{newHandshakes(f, nil), f, make(chan byte, 100)}
		fns, _, err := h.Open(0)
		must(t, err)
		for _, fn := range fns {
			go func() {
				bufs, sizes, eps := [][]byte{make([]byte, 2000)}, make([]int, 1), make([]conn.Endpoint, 1)
				for {
					n, err := fn(bufs, sizes, eps)
					if err != nil {
						return
					}
					if n == 1 && sizes[0] > 0 {
						h.got <- bufs[0][0]
					}
				}
			}()
		}
		test(t, h)
		must(t, h.Close())
	})
}

// message has a type, WireGuard's length of it, and the first byte of the ephemeral key.
func message(kind, key byte) []byte {
	b := make([]byte, map[byte]int{1: initiationLen, 2: responseLen, 4: 100}[kind])
	b[0], b[ephemeralAt] = kind, key
	return b
}

func (h handshakeTest) send(t *testing.T, b []byte) {
	t.Helper()
	must(t, h.Send([][]byte{b}, h.bind.peer))
}

// after lets time go by, and counts what was sent and received meanwhile.
func (h handshakeTest) after(d time.Duration) (sent, got int) {
	time.Sleep(d)
	synctest.Wait()
	for len(h.bind.sent) > 0 {
		<-h.bind.sent
		sent++
	}
	for len(h.got) > 0 {
		<-h.got
		got++
	}
	return sent, got
}

func (h handshakeTest) want(t *testing.T, d time.Duration, sent, got int, what string) {
	t.Helper()
	if s, g := h.after(d); s != sent || g != got {
		t.Errorf("%s: %d sent and %d received, want %d and %d", what, s, g, sent, got)
	}
}

func TestLostInitiationIsRepeated(t *testing.T) {
	testHandshakes(t, func(t *testing.T, h handshakeTest) {
		h.send(t, message(1, 5))
		h.want(t, 0, 1, 0, "at once")
		h.want(t, 500*time.Millisecond, 4, 0, "soon")
		h.want(t, 3*time.Second, 3, 0, "each second")
		h.bind.in <- message(2, 0)
		h.want(t, 10*time.Second, 0, 1, "answered")
		h.send(t, message(1, 5))
		h.want(t, time.Minute, 1+8, 0, "never answered")
	})
}

func TestAnswerToAnEarlierOne(t *testing.T) {
	testHandshakes(t, func(t *testing.T, h handshakeTest) {
		first, second, answer := message(1, 5), message(1, 6), message(2, 0)
		first[senderAt], second[senderAt], answer[receiverAt] = 1, 2, 1
		h.send(t, first)
		h.send(t, second)
		h.bind.in <- bytes.Clone(answer)
		h.want(t, 500*time.Millisecond, 2+4, 1, "the second one is repeated")
		answer[receiverAt] = 2
		h.bind.in <- answer
		h.want(t, 10*time.Second, 0, 1, "until it is answered")
	})
}

func TestOursWinsAndIsAnswered(t *testing.T) {
	testHandshakes(t, func(t *testing.T, h handshakeTest) {
		h.send(t, message(1, 5))
		h.bind.in <- message(1, 6)
		h.want(t, 20*time.Millisecond, 1, 0, "theirs is held back")
		h.bind.in <- message(2, 0)
		h.want(t, 10*time.Second, 0, 1, "the answer ends it")
	})
}

func TestOursWinsButIsLost(t *testing.T) {
	testHandshakes(t, func(t *testing.T, h handshakeTest) {
		h.send(t, message(1, 5))
		h.bind.in <- message(1, 6)
		h.want(t, holdBack-time.Millisecond, 1+4, 0, "theirs is held back")
		h.want(t, time.Millisecond, 0, 1, "theirs is let go")
		h.want(t, 10*time.Second, 0, 0, "and ours forgotten")
	})
}

func TestTheirsWins(t *testing.T) {
	testHandshakes(t, func(t *testing.T, h handshakeTest) {
		h.send(t, message(1, 6))
		h.bind.in <- message(1, 5)
		h.want(t, 0, 1, 1, "theirs goes on at once")
		h.want(t, 10*time.Second, 0, 0, "and ours is forgotten")
	})
}

func TestOursWaitsBehindTheirs(t *testing.T) {
	testHandshakes(t, func(t *testing.T, h handshakeTest) {
		h.bind.in <- message(1, 9)
		h.want(t, 0, 0, 1, "theirs")
		h.send(t, message(1, 5))
		h.want(t, 50*time.Millisecond, 0, 0, "ours waits")
		h.send(t, message(2, 0)) // WireGuard accepted theirs
		h.want(t, 10*time.Second, 1, 0, "ours isn't needed")

		h.bind.in <- message(1, 9)
		h.want(t, 0, 0, 1, "theirs again")
		h.send(t, message(1, 5))
		h.want(t, sendAfter, 1, 0, "WireGuard didn't accept theirs: ours after all")
	})
}

func TestDataPassesUntouched(t *testing.T) {
	testHandshakes(t, func(t *testing.T, h handshakeTest) {
		h.send(t, message(1, 5))
		for range 3 {
			h.send(t, message(4, 0))
			h.bind.in <- message(4, 0)
		}
		h.want(t, 0, 4, 3, "data")
	})
}

// TestCrossingHandshakes starts two nodes at the same time, some way apart, so
// that their initiations cross. Without help this takes 5 to 10 s.
func TestCrossingHandshakes(t *testing.T) {
	for range 3 {
		start := time.Now()
		a, b, _ := far(t, wan.Conditions{Delay: 60 * time.Millisecond})
		connect(t, a, b)
		if d := time.Since(start); d > 4*time.Second {
			t.Errorf("connected after %s", d)
		}
	}
}
