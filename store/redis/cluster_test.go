package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/redis"
)

// startCluster makes three primaries, the first three, each with a replica, the next three.
func startCluster(t testing.TB) []*real {
	t.Helper()
	var nodes []*real
	for range 6 {
		bus := freePort(t)
		nodes = append(nodes, startReal(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000",
			"--cluster-require-full-coverage", "no"))
	}
	for i, lo := range []int{0, 5461, 10923} {
		hi := []int{5460, 10922, 16383}[i]
		nodes[i].do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(lo), strconv.Itoa(hi))
	}
	for i, n := range nodes {
		n.do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, n := range nodes[1:] {
		bus := strings.TrimPrefix(strings.Split(strings.Fields(n.do("CLUSTER", "NODES"))[2], "@")[1], "")
		bus, _, _ = strings.Cut(bus, ",")
		nodes[0].do("CLUSTER", "MEET", "127.0.0.1", n.port, bus)
	}
	for _, n := range nodes {
		until(t, "all nodes know each other", func() bool {
			return strings.Count(n.do("CLUSTER", "NODES"), "connected") == 6 && !strings.Contains(n.do("CLUSTER", "NODES"), "handshake")
		})
	}
	for i := range 3 {
		id := nodes[i].id()
		until(t, "replica knows its primary", func() bool { return strings.HasPrefix(nodes[i+3].raw("CLUSTER", "REPLICATE", id), "+OK") })
	}
	for i, n := range nodes {
		until(t, "cluster is well", func() bool {
			return strings.Contains(n.do("CLUSTER", "INFO"), "cluster_state:ok") && (i < 3 || n.info("master_link_status") == "up")
		})
	}
	for _, n := range nodes {
		until(t, "all see all replicas", func() bool { return strings.Count(n.do("CLUSTER", "SLOTS"), "127.0.0.1") == 6 })
	}
	return nodes
}

func (r *real) id() string {
	return strings.TrimSpace(strings.Split(r.do("CLUSTER", "MYID"), "\r\n")[1])
}

func openCluster(t testing.TB, nodes []*real, opt redis.Options) *redis.Cluster {
	t.Helper()
	opt.URL = "redis+cluster://127.0.0.1:1," + nodes[0].addr
	cl, err := redis.OpenCluster(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

type clusterSession struct {
	t testing.TB
	c *redis.ClusterConn
	session
}

func newClusterSession(t testing.TB, cl *redis.Cluster) *clusterSession {
	s := &clusterSession{t: t}
	s.c = cl.NewConn(func(p []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.msgs = append(s.msgs, string(p))
	})
	t.Cleanup(func() { _ = s.c.Close() })
	return s
}

func (s *clusterSession) do(lines ...string) string {
	return string(s.c.Do(context.Background(), nil, requests(lines...)))
}

func (s *clusterSession) want(line, want string) {
	s.t.Helper()
	if got := s.do(line); got != want {
		s.t.Errorf("%s: %q, not %q", line, got, want)
	}
}

// One cluster for all, since it takes its time to come together.
func TestCluster(t *testing.T) {
	nodes := startCluster(t)
	t.Run("is like one server", func(t *testing.T) { clusterIsLikeOneServer(t, nodes) })
	t.Run("moves slots", func(t *testing.T) { clusterMovesSlots(t, nodes) })
	t.Run("reads nearest", func(t *testing.T) { clusterReadsNearest(t, nodes) })
	t.Run("fails over", func(t *testing.T) { clusterFailsOver(t, nodes) })
}

// A cluster looks like one plain server.
func clusterIsLikeOneServer(t *testing.T, nodes []*real) {
	cl := openCluster(t, nodes, redis.Options{})
	s := newClusterSession(t, cl)
	plain := startReal(t)
	for _, line := range []string{
		"SET a 1", "SET b 2", "SET c 3", "MGET a b nosuch c a", "MSET d 4 e 5 f 6", "MSET d", "MGET d e f", "EXISTS a b c d nosuch a", "TOUCH a b",
		"DEL a b nosuch", "UNLINK c d", "DBSIZE", "INCR n", "RPUSH l x y", "LRANGE l 0 -1", "BLPOP l 0", "BLPOP none 0.01", "GET", "nosuch x",
		"MULTI", "INCR n", "INCR n", "EXEC", "MULTI", "GET", "EXEC", "MULTI", "DISCARD", "EXEC", "WATCH n", "MULTI", "INCR n", "EXEC", "WATCH n", "UNWATCH",
		"MULTI", "nosuch", "EXEC", "MULTI", "EXEC", "SCRIPT LOAD return(1)", "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", "SELECT 0", "PING",
		"XADD x 1-1 a b", "XREAD COUNT 1 STREAMS x 0", "HSET h a 1", "HGETALL h", "HELLO 3", "HGETALL h", "HELLO 2",
		"SUBSCRIBE news", "UNSUBSCRIBE news", "FLUSHALL", "DBSIZE", "RANDOMKEY",
	} {
		got, want := s.do(line), plain.several(line)
		if strings.HasPrefix(line, "HELLO") {
			continue
		}
		if got != want {
			t.Errorf("%s: %q, not %q", line, got, want)
		}
	}
	s.want("SINTERSTORE to a b", "-CROSSSLOT Keys in request don't hash to the same slot\r\n")
	s.want("MULTI", "+OK\r\n")
	s.do("INCR a", "INCR b")
	s.want("EXEC", "-CROSSSLOT Keys in request don't hash to the same slot\r\n")
	s.want("EXISTS a", ":0\r\n")
	s.want("SELECT 3", "-ERR SELECT is not allowed in cluster mode\r\n")

	// WATCH notices what others do.
	s.want("WATCH k", "+OK\r\n")
	newClusterSession(t, cl).want("SET k other", "+OK\r\n")
	s.want("MULTI", "+OK\r\n")
	s.want("SET k mine", "+QUEUED\r\n")
	s.want("EXEC", "*-1\r\n")

	// SCAN and KEYS see all shards.
	s.do("FLUSHALL")
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("SET key:%d %d", i, i))
	}
	if got := s.do(lines...); got != strings.Repeat("+OK\r\n", 1000) {
		t.Errorf("%.80q", got)
	}
	found := make(map[string]bool)
	for cursor, rounds := "0", 0; ; rounds++ {
		var all []frame.Reply
		frame.Reply{Raw: []byte(s.do("SCAN " + cursor + " COUNT 50"))}.Each(func(e frame.Reply) bool { all = append(all, e); return true })
		all[1].Each(func(e frame.Reply) bool { found[string(e.Text())] = true; return true })
		if cursor = string(all[0].Text()); cursor == "0" {
			break
		}
		if rounds > 1000 {
			t.Fatal("SCAN doesn't end")
		}
	}
	if n := (frame.Reply{Raw: []byte(s.do("KEYS *"))}).Len(); len(found) != 1000 || n != 1000 {
		t.Errorf("SCAN found %d, KEYS %d", len(found), n)
	}

	// Messages arrive wherever they were published.
	sub := newClusterSession(t, cl)
	sub.do("SUBSCRIBE news")
	nodes[2].do("PUBLISH", "news", "hi")
	until(t, "message arrives", func() bool { return strings.Contains(sub.pushed(), "hi") })
	sub.do("SSUBSCRIBE shard")
	s.do("SPUBLISH shard ho")
	until(t, "message arrives", func() bool { return strings.Contains(sub.pushed(), "ho") })
}

// Reads go to the nearest node of each shard, but never miss what was written through here.
func clusterReadsNearest(t *testing.T, nodes []*real) {
	near := make(map[string]bool)
	for _, n := range nodes[3:] {
		near[n.addr] = true
	}
	cl := openCluster(t, nodes, redis.Options{RTT: func(addr string) (time.Duration, bool) {
		if near[addr] {
			return time.Millisecond, true
		}
		return 50 * time.Millisecond, true
	}})
	s := newClusterSession(t, cl)
	for i := range 300 {
		key, value := fmt.Sprint("key:", rand.IntN(100)), strconv.Itoa(i)
		s.want("SET "+key+" "+value, "+OK\r\n")
		s.want("GET "+key, fmt.Sprintf("$%d\r\n%s\r\n", len(value), value))
	}
	reads := func(n *real) int {
		_, rest, _ := strings.Cut(n.do("INFO", "commandstats"), "cmdstat_get:calls=")
		calls, _, _ := strings.Cut(rest, ",")
		i, _ := strconv.Atoi(calls)
		return i
	}
	for i := range 3 {
		until(t, "replica is read", func() bool {
			for k := range 50 {
				s.do(fmt.Sprint("GET key:", k))
			}
			return reads(nodes[i+3]) > 50
		})
	}
	// Without replicas the primaries serve.
	nodes[4].kill()
	for k := range 100 {
		if got := s.do(fmt.Sprint("GET key:", k)); got[0] != '$' {
			t.Errorf("%q", got)
		}
	}
}

// Slots move while clients write: every write is executed once, and no client notices.
func clusterMovesSlots(t *testing.T, nodes []*real) {
	cl := openCluster(t, nodes, redis.Options{})
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	var done [4]atomic.Int64
	for w := range done {
		s := newClusterSession(t, cl)
		wg.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				// All in one slot, which moves.
				key := fmt.Sprintf("{move}:%d", w)
				got := s.do("INCR "+key, "GET "+key, fmt.Sprintf("MGET {move}:%d other:%d", w, n), "MULTI", "INCR "+key+"tx", "INCR "+key+"tx", "EXEC")
				v := strconv.FormatInt(n, 10)
				bulk := fmt.Sprintf("$%d\r\n%s\r\n", len(v), v)
				want := ":" + v + "\r\n" + bulk + "*2\r\n" + bulk + "$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n" + fmt.Sprintf("*2\r\n:%d\r\n:%d\r\n", 2*n-1, 2*n)
				if got != want {
					t.Errorf("round %d: %q, not %q", n, got, want)
					return
				}
				done[w].Store(n)
			}
		})
	}
	// Who waits for elements of a key that moves gets each once, in order.
	const queued = 100_000 // more than come
	var taken atomic.Int64
	took := make(chan struct{}, 3)
	waiting, feeding := newClusterSession(t, cl), newClusterSession(t, cl)
	wg.Go(func() {
		for n := int64(1); ; n++ {
			got := string(waiting.c.Do(ctx, nil, requests("BLPOP {move}:queue 0")))
			if ctx.Err() != nil {
				return
			}
			v := strconv.FormatInt(n, 10)
			if want := fmt.Sprintf("*2\r\n$12\r\n{move}:queue\r\n$%d\r\n%s\r\n", len(v), v); got != want {
				t.Errorf("BLPOP: %q, not %q", got, want)
				return
			}
			taken.Store(n)
			took <- struct{}{}
		}
	})
	wg.Go(func() {
		for n := int64(1); n < queued && ctx.Err() == nil; n++ {
			if got := feeding.do(fmt.Sprint("RPUSH {move}:queue ", n)); got[0] != ':' {
				t.Errorf("RPUSH: %q", got)
				return
			}
			for i := 0; n%3 == 0 && i < 3; i++ { // so that it is often empty, and waited for
				select {
				case <-took:
				case <-ctx.Done():
				}
			}
		}
	})
	progress := func() {
		before := taken.Load()
		until(t, "elements arrive", func() bool { return taken.Load() > before+3 || t.Failed() })
		for w := range done {
			before := done[w].Load()
			until(t, "clients go on", func() bool { return done[w].Load() > before+3 || t.Failed() })
		}
	}
	slot, _ := strconv.Atoi(strings.TrimSpace(nodes[0].do("CLUSTER", "KEYSLOT", "{move}")[1:]))
	owner := slices.IndexFunc(nodes[:3], func(n *real) bool { return strings.HasPrefix(n.raw("GET", "{move}:0"), "$") })
	for range 6 {
		from, to := nodes[owner], nodes[(owner+1)%3]
		progress()
		num := strconv.Itoa(slot)
		to.do("CLUSTER", "SETSLOT", num, "IMPORTING", from.id())
		from.do("CLUSTER", "SETSLOT", num, "MIGRATING", to.id())
		for {
			var keys []string
			frame.Reply{Raw: []byte(from.do("CLUSTER", "GETKEYSINSLOT", num, "1"))}.Each(func(e frame.Reply) bool { keys = append(keys, string(e.Text())); return true })
			if len(keys) == 0 {
				break
			}
			from.do(append([]string{"MIGRATE", "127.0.0.1", to.port, "", "0", "5000", "KEYS"}, keys...)...)
		}
		to.do("CLUSTER", "SETSLOT", num, "NODE", to.id())
		from.do("CLUSTER", "SETSLOT", num, "NODE", to.id())
		owner = (owner + 1) % 3
	}
	progress()
	cancel()
	wg.Wait()
	for w := range done {
		if got, want := nodes[owner].do("GET", fmt.Sprintf("{move}:%d", w)), fmt.Sprint(done[w].Load()); !strings.Contains(got, "\n"+want+"\r") {
			t.Errorf("%d: %q, %s acknowledged", w, got, want)
		}
	}
}

// A primary dies; its replica is promoted; clients go on.
func clusterFailsOver(t *testing.T, nodes []*real) {
	cl := openCluster(t, nodes, redis.Options{})
	s := newClusterSession(t, cl)
	slots := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, k := range slots {
		s.want("SET "+k+" v", "+OK\r\n")
	}
	s.want("WAIT 1 5000", ":1\r\n")
	nodes[0].kill()
	for _, k := range slots {
		until(t, "it can be read and written", func() bool { return s.do("GET "+k, "SET "+k+" v") == "$1\r\nv\r\n+OK\r\n" })
	}
}
