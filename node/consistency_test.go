package node

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"respmesh/resp/frame"
)

const (
	busy          = 2 * time.Second      // what a busy machine may take longer
	errorWithin   = 2*time.Second + busy // a write's error, from the request
	recoverWithin = 5*time.Second + busy // everything, from the heal
	keysPerNode   = 4
)

// TestConsistencyUnderCuts has clients in all regions write and read while regions are cut off and healed. It checks
// what the clients were told against what they read:
//
//   - what was acknowledged by a node, or read there, is never followed by something older at that node, but for
//     the reads that the node counts as stale ones: it was cut off, and its copy was all it had;
//   - a value whose write was answered "not executed" is never read;
//   - no acknowledged write is lost, in the end, anywhere; nothing is executed twice;
//   - errors are the documented ones, and in time; recovery too, by partial resynchronisation.
func TestConsistencyUnderCuts(t *testing.T) {
	o := options(t)
	o.WAN = "world"
	d := startDev(t, o)
	c := &chaos{t: t, d: d}
	for range d.nodes {
		c.floor = append(c.floor, new([3 * keysPerNode]atomic.Int64))
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for region := range d.nodes {
		for key := range keysPerNode {
			wg.Go(func() { c.write(ctx, region, region*keysPerNode+key) })
		}
		wg.Go(func() { c.count(ctx, region) })
		wg.Go(func() { c.transact(ctx, region) })
		for range 3 {
			wg.Go(func() { c.read(ctx, region) })
		}
	}
	for _, region := range []int{2, 1, 0} { // the primary last
		c.cutAndHeal(region)
	}
	stop()
	wg.Wait()
	c.settle()
	c.verify()
}

type chaos struct {
	t *testing.T
	d *Dev

	floor [](*[3 * keysPerNode]atomic.Int64) // per node and key: the newest value that the node's clients know
	acked [3 * keysPerNode]atomic.Int64      // per key: the newest value acknowledged
	void  sync.Map                           // "key value": answered as not executed

	counted, countUnknown atomic.Int64 // INCRs acknowledged, of unknown outcome
	traded, tradeUnknown  atomic.Int64 // the same for transactions
	stale                 [3]atomic.Int64
	reads, failures       atomic.Int64
}

// conversation is a client's connection.
type conversation struct {
	conn net.Conn
	r    *frame.Reader
}

func (c *chaos) dial(region int) *conversation {
	conn, err := net.Dial("tcp", c.d.addrs[region])
	if err != nil {
		c.t.Error(err)
		return nil
	}
	return &conversation{conn, frame.NewReader(conn)}
}

// do sends commands at once and gives the text of the last reply. An error is what says "-".
func (v *conversation) do(cmds ...string) (string, error) {
	var b []byte
	for _, cmd := range cmds {
		b = frame.AppendCommandString(b, strings.Fields(cmd)...)
	}
	if err := v.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := v.conn.Write(b); err != nil {
		return "", err
	}
	var p frame.Reply
	for range cmds {
		if err := v.r.ReadReply(&p); err != nil {
			return "", err
		}
	}
	if p.IsError() {
		return "-" + string(p.Text()), nil
	}
	return string(p.Text()), nil
}

// outcome is what a client is told of its write.
type outcome int

const (
	done outcome = iota
	void
	unknown
)

// try sends a write and judges the reply.
func (c *chaos) try(v *conversation, region int, cmds ...string) outcome {
	began := time.Now()
	reply, err := v.do(cmds...)
	took := time.Since(began)
	switch {
	case err != nil:
		c.t.Errorf("%s: %v: %v", c.d.opts.Regions[region], cmds, err)
		return unknown
	case !strings.HasPrefix(reply, "-"):
		return done
	}
	c.failures.Add(1)
	if took > errorWithin {
		c.t.Errorf("%s: error only after %v: %s", c.d.opts.Regions[region], took, reply)
	}
	switch {
	case reply == "-MASTERDOWN primary region mad is unreachable; the command was not executed", strings.HasPrefix(reply, "-EXECABORT "):
		return void
	case reply != "-UNKNOWNOUTCOME link to primary region mad was lost after the command was sent":
		c.t.Errorf("%s: %v: %s", c.d.opts.Regions[region], cmds, reply)
	}
	return unknown
}

// each calls f at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

func atLeast(a *atomic.Int64, n int64) {
	for old := a.Load(); old < n && !a.CompareAndSwap(old, n); old = a.Load() {
	}
}

// write sets a key to ever higher values.
func (c *chaos) write(ctx context.Context, region, key int) {
	v := c.dial(region)
	if v == nil {
		return
	}
	defer v.conn.Close()
	value := int64(0)
	every(ctx, 7*time.Millisecond, func() {
		value++
		switch c.try(v, region, fmt.Sprintf("SET k%d %d", key, value)) {
		case done:
			atLeast(&c.floor[region][key], value)
			atLeast(&c.acked[key], value)
		case void:
			c.void.Store(fmt.Sprintf("k%d %d", key, value), true)
		}
	})
}

// read reads all keys, over a connection of its own: what it may not see less of was written or read over others.
func (c *chaos) read(ctx context.Context, region int) {
	v := c.dial(region)
	if v == nil {
		return
	}
	defer v.conn.Close()
	key := 0
	every(ctx, 2*time.Millisecond, func() {
		key = (key + 5) % (3 * keysPerNode)
		floor := c.floor[region][key].Load()
		reply, err := v.do(fmt.Sprintf("GET k%d", key))
		c.reads.Add(1)
		got, bad := strconv.ParseInt(reply, 10, 64)
		switch {
		case err != nil:
			c.t.Errorf("%s: GET: %v", c.d.opts.Regions[region], err)
			return
		case strings.HasPrefix(reply, "-"):
			c.t.Errorf("%s: a region with a copy can't read: %s", c.d.opts.Regions[region], reply)
			return
		case reply != "" && bad != nil:
			c.t.Errorf("%s: k%d is %q", c.d.opts.Regions[region], key, reply)
			return
		}
		if _, is := c.void.Load(fmt.Sprintf("k%d %d", key, got)); is {
			c.t.Errorf("%s: k%d is %d, which was not executed", c.d.opts.Regions[region], key, got)
		}
		if got < floor {
			c.stale[region].Add(1)
			return
		}
		atLeast(&c.floor[region][key], got)
	})
}

// count increments a counter that all regions share.
func (c *chaos) count(ctx context.Context, region int) {
	v := c.dial(region)
	if v == nil {
		return
	}
	defer v.conn.Close()
	every(ctx, 3*time.Millisecond, func() {
		switch c.try(v, region, "INCR counter") {
		case done:
			c.counted.Add(1)
		case unknown:
			c.countUnknown.Add(1)
		}
	})
}

// transact moves one from an account to another.
func (c *chaos) transact(ctx context.Context, region int) {
	v := c.dial(region)
	if v == nil {
		return
	}
	defer v.conn.Close()
	every(ctx, 5*time.Millisecond, func() {
		switch c.try(v, region, "MULTI", "DECR from", "INCR to", "EXEC") {
		case done:
			c.traded.Add(1)
		case unknown:
			c.tradeUnknown.Add(1)
		}
	})
}

// await waits for a condition that the mesh brings about, and says how long it took.
func (c *chaos) await(what string, within time.Duration, ok func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			c.t.Fatalf("not within %v: %s (%v)", within, what, c.d.Healthy())
		case <-tick.C:
		}
	}
	return time.Since(began)
}

// replicas are the stores that follow the primary.
func (c *chaos) replicas() (all []*store) {
	for _, n := range c.d.nodes {
		if s := n.database(c.d.opts.Org, c.d.opts.Name).copy(); s.replica() != nil {
			all = append(all, s)
		}
	}
	return all
}

func (c *chaos) cutAndHeal(region int) {
	c.t.Helper()
	before := c.replicas()
	syncs := make([]uint64, len(before))
	for i, s := range before {
		syncs[i] = s.replica().State().PartialSyncs
	}
	node := nodeName(c.d.opts.Regions[region])
	c.d.relay.Cut(node)
	lost := func() (n int) {
		for _, n2 := range c.d.nodes {
			if !n2.database(c.d.opts.Org, c.d.opts.Name).gateway.Status().PrimaryReachable {
				n++
			}
		}
		return n
	}
	want := 1
	if region == 0 {
		want = len(c.d.nodes) - 1
	}
	noticed := c.await("the cut is noticed", errorWithin, func() bool { return lost() == want })
	hold := time.NewTimer(700 * time.Millisecond) // alone for a while
	defer hold.Stop()
	<-hold.C
	c.d.relay.Heal(node)
	took := c.await("recovery after "+node+" was cut off", recoverWithin, func() bool {
		if c.d.Healthy() != nil {
			return false
		}
		for i, s := range before {
			affected := region == 0 || s == c.d.nodes[region].database(c.d.opts.Org, c.d.opts.Name).copy()
			if affected && s.replica().State().PartialSyncs == syncs[i] {
				return false
			}
		}
		v := c.dial(region)
		defer v.conn.Close()
		reply, err := v.do("SET recovered " + node)
		return err == nil && reply == "OK"
	})
	c.t.Logf("%s: noticed after %v, recovered %v after the heal", node, noticed.Round(time.Millisecond), took.Round(time.Millisecond))
}

// settle waits until every replica has everything.
func (c *chaos) settle() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), recoverWithin)
	defer cancel()
	replid, offset := c.d.nodes[0].database(c.d.opts.Org, c.d.opts.Name).copy().Position()
	for _, s := range c.replicas() {
		if err := s.Wait(ctx, replid, offset); err != nil {
			c.t.Fatalf("replica at %v: %v", s.replica().State(), err)
		}
		if n := s.replica().State().FullSyncs; n != 1 {
			c.t.Errorf("%d full resynchronisations", n)
		}
	}
}

func (c *chaos) verify() {
	c.t.Helper()
	for region, name := range c.d.opts.Regions {
		number := func(key string) int64 {
			text := do(c.t, c.d, region, "GET", key)
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				c.t.Errorf("%s: %s is %q", name, key, text)
			}
			return n
		}
		for key := range c.acked {
			if got, acked := number(fmt.Sprintf("k%d", key)), c.acked[key].Load(); got < acked {
				c.t.Errorf("%s: k%d is %d, acknowledged was %d", name, key, got, acked)
			}
		}
		within := func(what string, got, acked, unknown int64) {
			if got < acked || got > acked+unknown {
				c.t.Errorf("%s: %s is %d: %d were acknowledged, %d more may have been executed", name, what, got, acked, unknown)
			}
		}
		within("counter", number("counter"), c.counted.Load(), c.countUnknown.Load())
		from, to := number("from"), number("to")
		within("to", to, c.traded.Load(), c.tradeUnknown.Load())
		if from != -to {
			c.t.Errorf("%s: a transaction was executed in part: %d and %d", name, from, to)
		}
		if stale, said := c.stale[region].Load(), c.staleReads(name); stale > said {
			c.t.Errorf("%s: %d reads were older than what the node's clients knew, %d of them as it says", name, stale, said)
		}
	}
	c.t.Logf("%d reads, stale while cut off %d %d %d, %d writes failed, %d INCRs and %d transactions (%d and %d unknown)",
		c.reads.Load(), c.stale[0].Load(), c.stale[1].Load(), c.stale[2].Load(), c.failures.Load(),
		c.counted.Load(), c.traded.Load(), c.countUnknown.Load(), c.tradeUnknown.Load())
}

// staleReads is how many reads a node says that it served from its copy, although that lacked something, since
// it had no other.
func (c *chaos) staleReads(region string) int64 {
	families, err := prometheus.Gatherer(c.d.metrics).Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "respmesh_ryw_waits_total" {
			continue
		}
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["region"] == region && labels["outcome"] == "stale" {
				return int64(m.Counter.GetValue())
			}
		}
	}
	return 0
}

// A client that waits in a region which is cut off is told so, and takes no element with it.
func TestCutOffClientTakesNothing(t *testing.T) {
	d := startDev(t, options(t))
	c := &chaos{t: t, d: d}
	v := c.dial(2)
	defer v.conn.Close()
	told := make(chan string)
	go func() {
		reply, err := v.do("BLPOP queue 0")
		told <- fmt.Sprint(reply, err)
	}()
	blocked := func(n int) func() bool {
		return func() bool {
			return strings.Contains(do(t, d, 0, "INFO", "clients"), fmt.Sprintf("blocked_clients:%d\r\n", n))
		}
	}
	c.await("the client waits at the primary", errorWithin, blocked(1))
	d.relay.Cut(nodeName("nrt"))
	if reply := <-told; !strings.HasPrefix(reply, "-UNKNOWNOUTCOME ") {
		t.Errorf("told %s", reply)
	}
	c.await("nobody waits at the primary", errorWithin, blocked(0))
	do(t, d, 0, "RPUSH", "queue", "element")
	d.relay.Heal(nodeName("nrt"))
	c.await("recovery", recoverWithin, func() bool { return d.Healthy() == nil })
	// Asked where it was written: nrt's replica may still be catching up.
	if got := do(t, d, 0, "LLEN", "queue"); got != "1" {
		t.Errorf("%s elements", got)
	}
}
