package proxy

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"respmesh/resp/command"
)

// A histogram of 16 µs, 32 µs, … 2 s, as Prometheus has it, that takes several observations at once.
type histogram struct {
	counts [buckets + 1]atomic.Uint64
	nanos  atomic.Int64
}

const (
	buckets     = 18
	firstBucket = 16 * time.Microsecond
)

func (h *histogram) observe(d time.Duration, n int) {
	d = max(d, 0)
	i := bits.Len64(uint64((d - 1) / firstBucket)) // d ≤ firstBucket<<i
	if d == 0 {
		i = 0
	}
	h.counts[min(i, buckets)].Add(uint64(n))
	h.nanos.Add(int64(d) * int64(n))
}

// latencies are those of one gateway by command and route; a command's are made when it is used first.
type latencies struct {
	database, region string
	commands         [command.Count + 1]atomic.Pointer[[routeCount]histogram] // the last is for unknown commands
}

func (l *latencies) of(id int, r routeKind) *histogram {
	p := l.commands[id].Load()
	if p == nil {
		l.commands[id].CompareAndSwap(nil, new([routeCount]histogram))
		p = l.commands[id].Load()
	}
	return &p[r]
}

// idOf is a command's place among the latencies.
func idOf(s *command.Spec) int {
	if s == nil || command.ByID(s.ID) != s { // RESPMESH is in no table
		return command.Count
	}
	return s.ID
}

// latencyCollector gives the latencies of all gateways to Prometheus.
type latencyCollector struct {
	desc *prometheus.Desc
	mu   sync.Mutex
	all  map[*latencies]struct{}
}

func newLatencyCollector() *latencyCollector {
	return &latencyCollector{all: make(map[*latencies]struct{}), desc: prometheus.NewDesc("respmesh_command_seconds",
		"Time from parsing to the reply, by command and the route it took. Commands of one local batch are answered together.",
		[]string{"database", "region", "command", "route"}, nil)}
}

func (c *latencyCollector) add(l *latencies) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[l] = struct{}{}
}

func (c *latencyCollector) remove(l *latencies) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, l)
}

// Describe implements prometheus.Collector.
func (c *latencyCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *latencyCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range c.all {
		for id := range l.commands {
			p := l.commands[id].Load()
			if p == nil {
				continue
			}
			name := "unknown"
			if id < command.Count {
				name = command.ByID(id).Name
			}
			for r := range p {
				p[r].collect(ch, c.desc, l.database, l.region, name, routeNames[r])
			}
		}
	}
}

func (h *histogram) collect(ch chan<- prometheus.Metric, desc *prometheus.Desc, labels ...string) {
	var total uint64
	cumulated := make(map[float64]uint64, buckets)
	for i := range h.counts {
		total += h.counts[i].Load()
		if i < buckets {
			cumulated[(firstBucket << i).Seconds()] = total
		}
	}
	if total > 0 {
		ch <- prometheus.MustNewConstHistogram(desc, total, time.Duration(h.nanos.Load()).Seconds(), cumulated, labels...)
	}
}
