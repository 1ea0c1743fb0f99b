package hosts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// beat asks the primary for a write and a read every other millisecond, as a client would that isn't in a hurry.
type beat struct {
	mu    sync.Mutex
	took  []time.Duration // since the last report
	acked []time.Time     // when the i-th write was acknowledged
	err   error
}

func (b *beat) run(ctx context.Context, c *Client) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		began := time.Now()
		_, err := c.Do("SET", "beat", strconv.Itoa(i))
		wrote := time.Now()
		_, err2 := c.Do("GET", "beat")
		read := time.Now()
		b.mu.Lock()
		b.took = append(b.took, wrote.Sub(began), read.Sub(wrote))
		b.acked = append(b.acked, wrote)
		b.err = errors.Join(b.err, err, err2)
		failed := b.err != nil
		b.mu.Unlock()
		if failed {
			return
		}
		<-tick.C
	}
}

// report gives the median and the 99th percentile since the last time.
func (b *beat) report() (p50, p99, most time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.took) == 0 {
		return 0, 0, 0
	}
	slices.Sort(b.took)
	p50, p99, most = b.took[len(b.took)/2], b.took[len(b.took)*99/100], b.took[len(b.took)-1]
	b.took = nil
	return p50, p99, most
}

// memory is what the node's process has, and what it had at most, in MiB.
func (n *Node) memory() (now, most int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kb, _ := strconv.Atoi(fields[1])
		switch fields[0] {
		case "VmRSS:":
			now = kb >> 10
		case "VmHWM:":
			most = kb >> 10
		}
	}
	return now, most
}

// TestAddRegion adds a region to a database with a lot of data while clients write and read in both. Nothing may fail or be stale. The new copy is read once it
// is current, and then routing and DNS follow soon. RESPMESH_SYNC_MB says how much data there is: 1024 with `make soak`, and RESPMESH_SYNC_RUNS how often.
func TestAddRegion(t *testing.T) {
	megabytes, runs := times(t, "RESPMESH_SYNC_MB", 32), times(t, "RESPMESH_SYNC_RUNS", 1)
	m := newMesh(t, "mad")
	mad := m.Nodes[0]
	ams := m.join(t, "ams", "ams-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	c := m.dial(t, mad, "shop", "cart", password)
	const each = 1000
	for i := range megabytes * 1024 / each {
		c.want(t, "1", "EVAL", "for i = 0, ARGV[1] - 1 do redis.call('SET', 'big:' .. (ARGV[1] * ARGV[2] + i), ARGV[3]) end return 1", "0",
			strconv.Itoa(each), strconv.Itoa(i), strings.Repeat("x", 1000))
	}
	peer, err := m.Peer(t.Context(), "shop", "mad", "peer")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	eventually(t, slower(10*time.Second), func() error { return m.regionsAre(t.Context(), peer, "mad") })

	load := m.StartPacedLoad(t.Context(), 2*time.Millisecond, "shop", "cart", password, m.Nodes...)
	load.wrote(t, 20)
	b := &beat{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { b.run(ctx, c) })
	calmly := time.Second + time.Duration(megabytes)*10*time.Millisecond
	for run := range runs {
		b.report()
		pause(calmly) // what is measured
		p50, p99, most := b.report()
		madBefore, _ := mad.memory()
		began := time.Now()
		m.cli(t, "redis", "update", "cart", "--replica-regions", "ams")
		var current, routed, named time.Time
		for current.IsZero() || routed.IsZero() || named.IsZero() {
			// Routing and names are asked before the copy, so that neither can seem to come before it is current.
			if routed.IsZero() && m.readsFrom(t, ams, ams.Name) == nil {
				routed = time.Now()
				m.isCurrent(t, ams, password, b)
			}
			if ask, cancel := context.WithTimeout(t.Context(), time.Second); named.IsZero() {
				if m.regionsAre(ask, peer, "mad,ams") == nil {
					named = time.Now()
				}
				cancel()
			} else {
				cancel()
			}
			if current.IsZero() && m.state(t, "ams-1") == "ready" {
				current = time.Now()
				if !routed.IsZero() && current.Sub(routed) > time.Second || !named.IsZero() && current.Sub(named) > time.Second {
					t.Error("the new copy is used before it is current")
				}
				d50, d99, dMost := b.report()
				madNow, madMost := mad.memory()
				amsNow, amsMost := ams.memory()
				t.Logf("run %d: %d MiB are copied after %v; the primary's client: before p50 %v, p99 %v, max %v; meanwhile %v, %v, %v; RSS: primary's node %d MiB before, %d now, %d at most; new one %d now, %d at most",
					run+1, megabytes, current.Sub(began), p50, p99, most, d50, d99, dMost, madBefore, madNow, madMost, amsNow, amsMost)
			}
			if time.Since(began) > slower(2*time.Minute)+time.Duration(megabytes)*time.Second {
				t.Fatalf("the region doesn't come: state %s, current %v, routed %v, named %v", m.state(t, "ams-1"), current, routed, named)
			}
		}
		t.Logf("run %d: routing follows after %v, names after %v", run+1, max(0, routed.Sub(current)), max(0, named.Sub(current)))
		if late := max(routed.Sub(current), named.Sub(current)); late > slower(4*time.Second) { // 2 s, on a machine with time to spare
			t.Errorf("routing or names follow %v after the copy is current", late)
		}
		load.wrote(t, 20)
		if run < runs-1 {
			m.cli(t, "redis", "update", "cart", "--no-replicas")
			eventually(t, slower(20*time.Second), func() error { return m.readsFrom(t, ams, mad.Name) })
			load.wrote(t, 20)
		}
	}
	clean(t, load.Stop())
	cancel()
	wg.Wait()
	if b.err != nil {
		t.Errorf("at the primary: %v", b.err)
	}
	keys := func(n *Node) string {
		c := m.dial(t, n, "shop", "cart", password)
		c.want(t, "OK", "READONLY")
		size, err := c.Do("DBSIZE")
		if err != nil {
			t.Fatal(err)
		}
		return size
	}
	if a, b := keys(mad), keys(ams); a != b {
		t.Errorf("mad has %s keys, ams %s", a, b)
	}
}

// isCurrent fails the test if the copy of a node lacks what was acknowledged two seconds ago.
func (m *Mesh) isCurrent(t *testing.T, n *Node, password string, b *beat) {
	t.Helper()
	c := m.dial(t, n, "shop", "cart", password)
	defer c.Close()
	c.want(t, "OK", "READONLY")
	b.mu.Lock()
	asked := time.Now()
	acked := slices.Clone(b.acked)
	b.mu.Unlock()
	text, err := c.Do("GET", "beat")
	i, perr := strconv.Atoi(text)
	if err := errors.Join(err, perr); err != nil {
		t.Errorf("what the new copy says: %q, %v", text, err)
		return
	}
	if i < len(acked)-1 {
		behind := asked.Sub(acked[i+1]) // since then it is too old
		t.Logf("the new copy's first answer is %v behind", behind)
		if behind > slower(2*time.Second) {
			t.Errorf("the new copy is read though it is %v behind", behind)
		}
	}
}

func (m *Mesh) regionsAre(ctx context.Context, p *Peer, want string) error {
	got, err := p.TXT(ctx, "regions.cart.shop.internal.")
	if err == nil && got != want {
		err = fmt.Errorf("the resolver knows of %s", got)
	}
	return err
}

// state is what a node's copy says of itself.
func (m *Mesh) state(t *testing.T, node string) string {
	t.Helper()
	var s struct {
		Nodes []struct{ Node, State string }
	}
	if err := json.Unmarshal([]byte(m.cli(t, "redis", "status", "cart", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes {
		if n.Node == node {
			return n.State
		}
	}
	return ""
}
