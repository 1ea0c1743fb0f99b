package mesh

import (
	"crypto/subtle"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/blake2s"
)

// flood bounds what handshakes cost: WireGuard computes three Diffie-Hellmans for an initiation before it knows whether it
// wants it, about as much work as a thousand packets. What isn't for this device's key (its first MAC is wrong) is
// dropped, and so is what comes from one address faster than a rate. WireGuard's own limit, with cookies, holds behind it.
type flood struct {
	mac1 atomic.Pointer[[blake2s.Size]byte] // key of initiations' first MAC: https://www.wireguard.com/protocol/

	wrong, fast atomic.Uint64 // dropped

	mu      sync.Mutex
	sources map[netip.Prefix]*bucket // guarded by mu
}

type bucket struct {
	left float64
	at   time.Time
}

const (
	// A hundred peers behind one address that all come back after a cut are through in a moment. While 128 wait, and for a
	// second after, WireGuard demands a cookie of everybody, and who has to come back with one does so after 5 s.
	initiationsPerSecond = 200
	initiationsBurst     = 100
	maxSources           = 4096
)

func newFlood(own PublicKey) *flood {
	f := &flood{sources: make(map[netip.Prefix]*bucket)}
	f.setKey(own)
	return f
}

func (f *flood) setKey(own PublicKey) {
	key := blake2s.Sum256(append([]byte("mac1----"), own[:]...))
	f.mac1.Store(&key)
}

// admit says whether WireGuard is to see an initiation.
func (f *flood) admit(msg []byte, from netip.Addr) bool {
	if !f.meant(msg) {
		f.wrong.Add(1)
		return false
	}
	from = from.Unmap()
	bits := 64 // who has one IPv6 address has that many
	if from.Is4() {
		bits = 32
	}
	source, _ := from.Prefix(bits) // the zero prefix for what has no address
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.sources[source]
	if b == nil {
		if len(f.sources) >= maxSources {
			f.forgetLocked(now)
		}
		b = &bucket{left: initiationsBurst, at: now}
		f.sources[source] = b
	}
	b.left = min(b.left+now.Sub(b.at).Seconds()*initiationsPerSecond, initiationsBurst)
	b.at = now
	if b.left < 1 {
		f.fast.Add(1)
		return false
	}
	b.left--
	return true
}

// forgetLocked makes room: those that have been quiet are as good as new, and if there are none, all are forgotten.
func (f *flood) forgetLocked(now time.Time) {
	for s, b := range f.sources {
		if now.Sub(b.at).Seconds()*initiationsPerSecond+b.left >= initiationsBurst {
			delete(f.sources, s)
		}
	}
	if len(f.sources) >= maxSources {
		clear(f.sources)
	}
}

// meant says whether an initiation is made for this device's key.
func (f *flood) meant(msg []byte) bool {
	mac, err := blake2s.New128(f.mac1.Load()[:])
	if err != nil {
		return false // the key has the right length
	}
	signed := len(msg) - 2*blake2s.Size128
	_, _ = mac.Write(msg[:signed])
	var sum [blake2s.Size128]byte
	return subtle.ConstantTimeCompare(mac.Sum(sum[:0]), msg[signed:signed+blake2s.Size128]) == 1
}
