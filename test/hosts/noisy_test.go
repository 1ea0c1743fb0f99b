package hosts

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// calm measures a client that asks one thing after another: the median and the 99th percentile.
func calm(t *testing.T, c *Client, asks int) (p50, p99 time.Duration) {
	t.Helper()
	took := make([]time.Duration, asks)
	for i := range took {
		began := time.Now()
		c.want(t, "v", "GET", "k")
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[asks/2], took[asks*99/100]
}

// noise has many clients of a database ask for as much as they can, of what is little to say and much to do, until the
// function it returns is called, which tells how many commands there were a second.
func (m *Mesh) noise(t *testing.T, n *Node, db, password string, clients int) (stop func() float64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var done atomic.Int64
	all := make([]*Client, clients)
	for i := range all {
		all[i] = m.dial(t, n, "shop", db, password)
	}
	all[0].want(t, "0", "SETBIT", "bits", strconv.Itoa(32<<20-1), "0") // 4 MiB
	for _, c := range all {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Do("BITCOUNT", "bits"); err != nil {
					return
				}
				done.Add(1)
			}
		})
	}
	began := time.Now()
	return func() float64 {
		n, took := done.Load(), time.Since(began)
		cancel()
		wg.Wait()
		for _, c := range all {
			c.Close()
		}
		return float64(n) / took.Seconds()
	}
}

// TestNoisyNeighbour: on one node a database that takes all it can get leaves the other its memory, its connections and its
// share of the processor.
func TestNoisyNeighbour(t *testing.T) {
	m := newMesh(t, "mad")
	n := m.Nodes[0]
	m.cli(t, "orgs", "create", "shop")
	noisy := m.create(t, "shop", "noisy", "--region", "mad", "--no-replicas", "--max-memory", "8mb", "--max-sessions", "64")
	quiet := m.create(t, "shop", "quiet", "--region", "mad", "--no-replicas")
	c := m.dial(t, n, "shop", "quiet", quiet)
	c.want(t, "OK", "SET", "k", "v")

	// Memory: the noisy one fills its own.
	filler := m.dial(t, n, "shop", "noisy", noisy)
	full := false
	for i := 0; i < 100 && !full; i++ {
		_, err := filler.Do("SET", "fill"+strconv.Itoa(i), strings.Repeat("x", 1<<20))
		full = err != nil && strings.HasPrefix(err.Error(), "OOM ")
	}
	if !full {
		t.Error("the noisy database takes more memory than it may")
	}
	c.want(t, "OK", "SET", "big", strings.Repeat("x", 8<<20))
	filler.want(t, "OK", "FLUSHALL")

	// Connections: it has its 64, the other one any number.
	var more []*Client
	for {
		x, err := m.Dial(t.Context(), n, "shop", "noisy", noisy)
		if err != nil {
			break
		}
		if more = append(more, x); len(more) > 64 {
			t.Fatal("the noisy database takes more sessions than it may")
		}
	}
	m.dial(t, n, "shop", "quiet", quiet).want(t, "v", "GET", "k")
	for _, x := range more {
		x.Close()
	}
	m.cli(t, "redis", "update", "noisy", "--max-sessions", "0")

	// Processor: by default, and with limits. Without a share of its own the quiet one would wait about as long as the noisy one's
	// clients wait for each other.
	const asks, clients = 300, 32
	alone50, alone99 := calm(t, c, asks)
	measure := func(what string) (rate float64) {
		stop := m.noise(t, n, "noisy", noisy, clients)
		p50, p99 := calm(t, c, asks)
		rate = stop()
		t.Logf("%s: p50 %v, p99 %v (alone %v, %v); the noisy one does %.0f commands/s", what, p50, p99, alone50, alone99, rate)
		if theirs := time.Duration(clients / rate * float64(time.Second)); p50 > theirs/10 {
			t.Errorf("%s: the quiet one waits %v, the noisy one's clients %v", what, p50, theirs)
		}
		return rate
	}
	measure("without a limit")
	m.cli(t, "redis", "update", "noisy", "--concurrency", "1")
	measure("one at a time")
	m.cli(t, "redis", "update", "noisy", "--concurrency", "1", "--commands-per-second", "200")
	if rate := measure("throttled"); rate > 400 {
		t.Errorf("a database with a limit of 200 commands/s does %.0f", rate)
	}
}
