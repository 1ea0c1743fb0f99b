package embedded

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/command"
)

// What INFO's commandstats, errorstats and latencystats, and LATENCY HISTOGRAM say.

// commandStat is what is counted of one command.
type commandStat struct {
	calls, nanos, rejected, failed atomic.Int64
	latency                        atomic.Pointer[histogram]
}

// --- errors ---

// errorKinds bounds how many codes are told apart: scripts can make up any.
const errorKinds = 128

// errorCounts counts error replies by their code.
type errorCounts struct {
	mu     sync.Mutex
	total  int64
	byCode map[string]int64
}

func (c *errorCounts) add(text string) {
	code, _, _ := strings.Cut(text, " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	if c.byCode == nil {
		c.byCode = map[string]int64{}
	}
	if _, known := c.byCode[code]; known || len(c.byCode) < errorKinds {
		c.byCode[strings.Clone(code)]++
	}
}

func (c *errorCounts) count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

func (c *errorCounts) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total, c.byCode = 0, nil
}

// --- histograms ---

const (
	// A histogram tells durations apart to 1/64, and goes up to a second, like Redis's.
	histogramBits = 6
	histogramMax  = int64(time.Second)
	histogramSize = (31-histogramBits)<<histogramBits + 1<<histogramBits
)

// histogram counts durations in nanoseconds. Its methods may be called concurrently.
type histogram struct {
	buckets [histogramSize]atomic.Uint32
}

func histogramIndex(v int64) int {
	v = min(max(v, 1), histogramMax)
	shift := max(bits.Len64(uint64(v))-histogramBits-1, 0)
	return shift<<histogramBits + int(v>>shift)
}

// histogramTop is the largest value that falls into a bucket.
func histogramTop(i int) int64 {
	if i < 2<<histogramBits {
		return int64(i)
	}
	shift := i>>histogramBits - 1
	return (int64(i-shift<<histogramBits)+1)<<shift - 1
}

func (h *histogram) add(v int64, n uint32) { h.buckets[histogramIndex(v)].Add(n) }

// counts copies the histogram, with the sum.
func (h *histogram) counts() (c []int64, total int64) {
	c = make([]int64, histogramSize)
	for i := range h.buckets {
		c[i] = int64(h.buckets[i].Load())
		total += c[i]
	}
	return c, total
}

func percentile(counts []int64, total int64, p float64) int64 {
	want := max(int64(math.Ceil(p/100*float64(total))), 1)
	for i, n := range counts {
		if want -= n; want <= 0 {
			return histogramTop(i)
		}
	}
	return 0
}

func formatPercentiles(ps []float64) string {
	var out []string
	for _, p := range ps {
		out = append(out, strconv.FormatFloat(p, 'g', 17, 64))
	}
	return strings.Join(out, " ")
}

func setPercentiles(e *Engine, v string) string {
	var ps []float64
	for _, f := range strings.Fields(v) {
		p, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return "Invalid latency-tracking-info-percentiles parameters"
		}
		if !(p >= 0 && p <= 100) {
			return "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
		}
		ps = append(ps, p)
	}
	e.percentiles = ps
	return ""
}

// --- INFO ---

func infoCommandStats(x *call, b *strings.Builder) {
	x.flushTally()
	for spec := range command.All() {
		s := &x.e.commands[spec.ID]
		calls, rejected, failed := s.calls.Load(), s.rejected.Load(), s.failed.Load()
		if calls+rejected+failed == 0 {
			continue
		}
		usec, each := s.nanos.Load()/1000, 0.0
		if calls > 0 {
			each = float64(usec) / float64(calls)
		}
		fmt.Fprintf(b, "cmdstat_%s:calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d\r\n",
			spec.Name, calls, usec, each, rejected, failed)
	}
}

func infoErrorStats(x *call, b *strings.Builder) {
	c := &x.e.errors
	c.mu.Lock()
	defer c.mu.Unlock()
	var codes []string
	for code := range c.byCode {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		fmt.Fprintf(b, "errorstat_%s:count=%d\r\n", code, c.byCode[code])
	}
}

func infoLatencyStats(x *call, b *strings.Builder) {
	for spec := range command.All() {
		h := x.e.commands[spec.ID].latency.Load()
		if h == nil {
			continue
		}
		counts, total := h.counts()
		fmt.Fprintf(b, "latency_percentiles_usec_%s:", spec.Name)
		for i, p := range x.e.percentiles {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, "p%s=%.3f", strconv.FormatFloat(p, 'g', 17, 64), float64(percentile(counts, total, p))/1000)
		}
		b.WriteString("\r\n")
	}
}

func configResetStat(x *call) {
	e := x.e
	x.flushTally()
	for i := range e.commands {
		s := &e.commands[i]
		s.calls.Store(0)
		s.nanos.Store(0)
		s.rejected.Store(0)
		s.failed.Store(0)
		s.latency.Store(nil)
	}
	e.errors.reset()
	for _, n := range []*atomic.Int64{&e.stats.commands, &e.stats.hits, &e.stats.misses, &e.stats.expired, &e.stats.evicted, &e.stats.connected} {
		n.Store(0)
	}
	x.hits, x.misses = 0, 0
	e.stats.peak.Store(e.memoryLocked())
	x.ok()
}
