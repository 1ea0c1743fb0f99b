package mesh

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/blake2s"
)

// initiationFor is one with the right first MAC, and nothing else right.
func initiationFor(key PublicKey) []byte {
	b := make([]byte, initiationLen)
	b[0] = initiationType
	mac1 := blake2s.Sum256(append([]byte("mac1----"), key[:]...))
	mac, _ := blake2s.New128(mac1[:])
	mac.Write(b[:initiationLen-32])
	mac.Sum(b[:initiationLen-32])
	return b
}

func TestFloodIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := PublicKey{1}
		f := newFlood(key)
		msg, from := initiationFor(key), netip.MustParseAddr("192.0.2.1")
		admitted := func(n int, from netip.Addr) (k int) {
			for range n {
				if f.admit(msg, from) {
					k++
				}
			}
			return k
		}
		if n := admitted(20_000, from); n != initiationsBurst {
			t.Errorf("%d of a flood admitted", n)
		}
		if n := admitted(10, netip.MustParseAddr("192.0.2.2")); n != 10 {
			t.Errorf("%d of another address admitted", n)
		}
		n := 0
		for range 10 { // no more than a burst is saved up
			time.Sleep(time.Second / 10)
			n += admitted(2_000, netip.MustParseAddr("::ffff:192.0.2.1"))
		}
		if n < initiationsPerSecond-10 || n > initiationsPerSecond {
			t.Errorf("%d admitted in the next second", n)
		}
		time.Sleep(time.Minute)
		if n := admitted(2_000, from); n != initiationsBurst {
			t.Errorf("%d admitted after a quiet minute", n)
		}
		// All of a /64 are one.
		admitted(20_000, netip.MustParseAddr("2001:db8::1"))
		if n := admitted(10, netip.MustParseAddr("2001:db8::2")); n != 0 {
			t.Errorf("%d of the same network admitted", n)
		}
		if f.admit(make([]byte, initiationLen), netip.MustParseAddr("192.0.2.9")) || f.wrong.Load() != 1 {
			t.Error("not meant for this device, and admitted")
		}
		f.setKey(PublicKey{2})
		if f.admit(msg, netip.MustParseAddr("192.0.2.9")) {
			t.Error("meant for the last key, and admitted")
		}
		f.setKey(key)
		for i := range 3 * maxSources {
			f.admit(msg, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
		if len(f.sources) > maxSources {
			t.Errorf("%d sources are remembered", len(f.sources))
		}
	})
}

// TestHandshakeFlood sends a second's worth of initiations, some meant for the node and some not, while a peer talks on.
func TestHandshakeFlood(t *testing.T) {
	a, b := pair(t)
	client, server := connect(t, a, b)
	go echoConn(server)
	pingPong(t, client, 10)
	attacker, err := net.Dial("udp", b.ListenPort().String())
	must(t, err)
	defer attacker.Close()
	meant, wrong := initiationFor(b.PublicKey()), make([]byte, initiationLen)
	wrong[0] = initiationType
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	usual, longest := gaps(t, client, func() {
		for i := range 20_000 {
			msg := meant
			if i%2 == 0 {
				msg = wrong
			}
			if _, err := attacker.Write(msg); err != nil {
				t.Error(err)
			}
			if i%200 == 0 { // in a second
				<-time.After(10 * time.Millisecond)
			}
		}
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	w, f := b.HandshakesDropped()
	t.Logf("usually %s, longest %s; dropped %d that were wrong and %d that were fast", usual, longest, w, f)
	// Datagrams are lost where the socket's buffer is full: on a machine with other work TCP has to repeat some.
	if longest > 10*time.Second {
		t.Errorf("a gap of %s", longest)
	}
	if w == 0 || f == 0 {
		t.Error("the flood wasn't noticed")
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
