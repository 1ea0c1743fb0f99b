package api

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// A secret of 130 bits can't be guessed; the limit keeps somebody who tries from filling the log and the processors.
const (
	failureBurst   = 20              // attempts that may fail in a row
	failureRefill  = 3 * time.Second // gives one back
	failureSources = 1024            // that are remembered; the one that failed longest ago is forgotten first
)

// failures counts failed attempts by source in token buckets, with a bounded number of sources.
type failures struct {
	mu      sync.Mutex
	sources map[netip.Prefix]*list.Element // of order
	order   *list.List                     // of *bucket, the latest failure in front
}

// bucket is full at full: before, it lacks one attempt for each failureRefill to go.
type bucket struct {
	source netip.Prefix
	full   time.Time
}

func newFailures() *failures {
	return &failures{sources: make(map[netip.Prefix]*list.Element), order: list.New()}
}

// sourceNet is what counts as one source: an IPv4 address, or an IPv6 /64, which one host has to itself.
func sourceNet(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Addr gives the zero Prefix: a source like any other
	return p
}

// wait says how long a source has to wait before it may try again; 0: it may now.
func (f *failures) wait(source netip.Addr) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.sources[sourceNet(source)]
	if !ok {
		return 0
	}
	lacks := time.Until(e.Value.(*bucket).full)
	return max(0, lacks-(failureBurst-1)*failureRefill)
}

// add counts a failed attempt.
func (f *failures) add(source netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, now := sourceNet(source), time.Now()
	e, ok := f.sources[key]
	if !ok {
		if f.order.Len() >= failureSources {
			oldest := f.order.Back()
			delete(f.sources, oldest.Value.(*bucket).source)
			f.order.Remove(oldest)
		}
		e = f.order.PushFront(&bucket{source: key, full: now})
		f.sources[key] = e
	}
	b := e.Value.(*bucket)
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(failureRefill)
	f.order.MoveToFront(e)
}

func tooMany(wait time.Duration) error {
	return failf(CodeTooMany, "too many failed attempts from here; try again in %s", (wait + time.Second - 1).Truncate(time.Second))
}
