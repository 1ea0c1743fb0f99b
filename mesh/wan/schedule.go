package wan

import (
	"sync"
	"time"
)

// maxDatagram is the largest that the relay carries: WireGuard at an MTU of 1280
// sends 1312 bytes.
const maxDatagram = 2048

// parcel is a datagram under way.
type parcel struct {
	at   time.Duration
	seq  uint64 // keeps the order of equal deadlines
	line *line
	buf  *[maxDatagram]byte
	size int

	queued bool // came through the schedule
}

// schedule is all datagrams under way, the next one first.
type schedule struct {
	mu   sync.Mutex
	heap parcelHeap // guarded by mu
	seq  uint64     // guarded by mu
}

// add puts parcels in, and says whether the first deadline is now an earlier one.
func (s *schedule) add(ps []parcel) (sooner bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ps {
		s.seq++
		p.seq = s.seq
		if len(s.heap) == 0 || p.at < s.heap[0].at {
			sooner = true
		}
		s.heap.push(p)
	}
	return sooner
}

// due takes out what has come due at now, up to the capacity of dst, and says how
// long the next one has to wait; negative: there is none.
func (s *schedule) due(dst []parcel, now time.Duration) ([]parcel, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dst = dst[:0]
	for len(s.heap) > 0 && s.heap[0].at <= now && len(dst) < cap(dst) {
		dst = append(dst, s.heap.pop())
	}
	if len(s.heap) == 0 {
		return dst, -1
	}
	return dst, max(0, s.heap[0].at-now)
}

// parcelHeap is a binary heap by deadline. container/heap would box each parcel.
type parcelHeap []parcel

func (p *parcel) before(q *parcel) bool {
	return p.at < q.at || p.at == q.at && p.seq < q.seq
}

func (h *parcelHeap) push(p parcel) {
	s := append(*h, p)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !p.before(&s[up]) {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = p
	*h = s
}

func (h *parcelHeap) pop() parcel {
	s := *h
	first, n := s[0], len(s)-1
	p := s[n]
	s[n] = parcel{}
	s = s[:n]
	if n > 0 {
		i := 0
		for {
			down := 2*i + 1
			if down >= n {
				break
			}
			if down+1 < n && s[down+1].before(&s[down]) {
				down++
			}
			if !s[down].before(&p) {
				break
			}
			s[i] = s[down]
			i = down
		}
		s[i] = p
	}
	*h = s
	return first
}
