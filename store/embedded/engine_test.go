package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/rdb"
)

// clock is a time that tests move.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(1_700_000_000_000)
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func want(t *testing.T, c *Conn, line, reply string) {
	t.Helper()
	if got := run(t, c, line); got != reply {
		t.Errorf("%s: got %q, want %q", line, got, reply)
	}
}

func newConn(e *Engine) *Conn { return e.NewConn(ConnOptions{Push: func([]byte) {}}) }

func TestExpiryIsExact(t *testing.T) {
	clk, rec := newClock(), &recorder{}
	e := newEngine(t, Options{Now: clk.now, Sink: rec})
	c := newConn(e)
	want(t, c, "set k v px 100", "+OK\r\n")
	clk.advance(100 * time.Millisecond)
	want(t, c, "pttl k", ":0\r\n")
	want(t, c, "get k", "$1\r\nv\r\n")
	clk.advance(time.Millisecond)
	want(t, c, "get k", "$-1\r\n")
	want(t, c, "dbsize", ":0\r\n")
	e.mu.Lock()
	if s := rec.String(); !strings.HasSuffix(s, "DEL\r\n$1\r\nk\r\n") || strings.Contains(s, "MULTI") {
		t.Errorf("effects %q", s)
	}
	e.mu.Unlock()
	if n := e.Info().Expired; n != 1 {
		t.Errorf("expired %d", n)
	}
}

func TestActiveExpiry(t *testing.T) {
	clk := newClock()
	e := newEngine(t, Options{Now: clk.now})
	c := newConn(e)
	for i := range 5000 {
		run(t, c, fmt.Sprintf("set k%d v px %d", i, 1+rand.IntN(1000)))
	}
	if err := audit(e); err != nil {
		t.Fatal(err)
	}
	clk.advance(2 * time.Second)
	for range 2 { // a table that became sparse during a resize is made smaller after it
		for e.housekeep() {
		}
	}
	if in := e.Info(); in.Keys != 0 || in.Memory > 9<<10 { // empty tables remain
		t.Errorf("%+v", in)
	}
}

// Of keys that live a tenth of a second, fewer than a tenth are dead at any moment.
func TestFewDeadKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{})
		defer func() { _ = e.Close() }()
		c := newConn(e)
		worst := 0.0
		for ms := range 1000 {
			for i := range 10 {
				run(t, c, fmt.Sprintf("set k%d:%d v px 100", ms, i))
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if ms < 200 { // the housekeeping finds its pace
				continue
			}
			e.mu.Lock()
			dead, all, now := 0, e.dbs[0].len(), time.Now().UnixMilli()
			for i := 1; i < e.dbs[0].volatile.end(); i++ {
				if e.dbs[0].volatile.at(i).at < now {
					dead++
				}
			}
			e.mu.Unlock()
			worst = max(worst, float64(dead)/float64(all))
		}
		if worst >= 0.1 {
			t.Errorf("%.0f %% of the keys were dead", worst*100)
		}
	})
}

func TestReplicaHidesButKeeps(t *testing.T) {
	clk, rec := newClock(), &recorder{}
	e := newEngine(t, Options{Now: clk.now, Replica: true, Sink: rec})
	c := newConn(e)
	apply := func(lines ...string) error {
		var reqs []command.Request
		for _, l := range lines {
			reqs = append(reqs, request(words(t, l)...))
		}
		return e.Apply(reqs)
	}
	if err := apply("SELECT 0", "SET k v PXAT 1700000000100", "MULTI", "SELECT 2", "SET q 1"); err != nil {
		t.Fatal(err)
	}
	want(t, c, "get k", "$1\r\nv\r\n")
	want(t, c, "set k w", "-READONLY You can't write against a read only replica.\r\n")
	clk.advance(time.Second)
	want(t, c, "get k", "$-1\r\n")
	want(t, c, "dbsize", ":1\r\n")
	for e.housekeep() {
	}
	want(t, c, "dbsize", ":1\r\n")
	if err := apply("INCR q", "EXEC", "SELECT 0", "APPEND k x", "PING", "PUBLISH ch m", "REPLCONF GETACK *"); err != nil {
		t.Fatal(err)
	}
	want(t, c, "select 2", "+OK\r\n")
	want(t, c, "get q", "$1\r\n2\r\n")
	want(t, c, "multi", "+OK\r\n")
	want(t, c, "set q 1", "-READONLY You can't write against a read only replica.\r\n")
	want(t, c, "exec", "-EXECABORT Transaction discarded because of previous errors.\r\n")
	for _, bad := range []string{"NOSUCH", "INCR k", "SET"} {
		if err := apply("SELECT 0", bad); err == nil {
			t.Errorf("%s was applied", bad)
		}
	}
	if err := apply("MULTI", "INCR k", "EXEC"); err == nil {
		t.Error("an error inside EXEC was passed over")
	}
	if rec.Len() > 0 {
		t.Errorf("a replica let %q through", rec.String())
	}
	e.SetReplica(false)
	want(t, c, "select 0", "+OK\r\n")
	want(t, c, "set k 1", "+OK\r\n")
	if !strings.Contains(rec.String(), "SELECT") {
		t.Errorf("effects %q", rec.String())
	}
}

func TestMaxMemory(t *testing.T) {
	e := newEngine(t, Options{MaxMemory: 64 << 10})
	c := newConn(e)
	var last string
	for i := range 1000 {
		if last = run(t, c, fmt.Sprintf("set key:%d 0123456789012345678901234567890123456789", i)); last[0] == '-' {
			break
		}
	}
	if last != "-OOM command not allowed when used memory > 'maxmemory'.\r\n" {
		t.Fatalf("got %q", last)
	}
	want(t, c, "get key:1", "$40\r\n0123456789012345678901234567890123456789\r\n")
	want(t, c, "multi", "+OK\r\n")
	want(t, c, "set a b", "-OOM command not allowed when used memory > 'maxmemory'.\r\n")
	want(t, c, "discard", "+OK\r\n")
	for i := range 100 { // the table of keys has just grown
		want(t, c, fmt.Sprint("del key:", i), ":1\r\n")
	}
	want(t, c, "set a b", "+OK\r\n")
	want(t, c, "flushall", "+OK\r\n")
	if in := e.Info(); in.Memory != 0 {
		t.Errorf("%+v", in)
	}
}

func TestEviction(t *testing.T) {
	rec := &recorder{}
	e := newEngine(t, Options{MaxMemory: 64 << 10, Eviction: VolatileFirst, Sink: rec})
	c := newConn(e)
	for i := range 100 {
		want(t, c, fmt.Sprintf("set keep:%d v", i), "+OK\r\n")
	}
	for i := range 2000 {
		want(t, c, fmt.Sprintf("set vol:%d v ex 1000", i), "+OK\r\n")
	}
	for i := range 100 {
		want(t, c, fmt.Sprintf("exists keep:%d", i), ":1\r\n")
	}
	in := e.Info()
	if in.Evicted == 0 || in.Memory > 65<<10 || bytes.Count(rec.Bytes(), []byte("DEL\r\n")) != int(in.Evicted) {
		t.Errorf("%+v", in)
	}
	if err := audit(e); err != nil {
		t.Error(err)
	}
}

// blocked runs a blocking line on its own session; the reply comes by the channel.
func blocked(ctx context.Context, t *testing.T, e *Engine, line string) <-chan string {
	t.Helper()
	c := newConn(e)
	before := e.stats.blocked.Load()
	out := make(chan string, 1)
	req := request(words(t, line)...)
	go func() { out <- string(c.Do(ctx, nil, []command.Request{req})) }()
	for e.stats.blocked.Load() == before {
		runtime.Gosched()
	}
	return out
}

func TestBlockingIsFair(t *testing.T) {
	rec := &recorder{}
	e := newEngine(t, Options{Sink: rec})
	ctx := context.Background()
	c := newConn(e)
	var waits []<-chan string
	for range 3 {
		waits = append(waits, blocked(ctx, t, e, "blpop other q 0"))
	}
	want(t, c, "multi", "+OK\r\n")
	want(t, c, "rpush q a b", "+QUEUED\r\n")
	want(t, c, "lpop q", "+QUEUED\r\n")
	want(t, c, "rpush q c", "+QUEUED\r\n")
	want(t, c, "exec", "*3\r\n:2\r\n$1\r\na\r\n:2\r\n")
	for i, v := range []string{"b", "c"} {
		if got, w := <-waits[i], "*2\r\n$1\r\nq\r\n$1\r\n"+v+"\r\n"; got != w {
			t.Errorf("waiter %d got %q", i, got)
		}
	}
	want(t, c, "set q x", "+OK\r\n") // of another kind: nobody is woken
	want(t, c, "set other x", "+OK\r\n")
	want(t, c, "del q", ":1\r\n")
	want(t, c, "rpush q d", ":1\r\n")
	if got := <-waits[2]; got != "*2\r\n$1\r\nq\r\n$1\r\nd\r\n" {
		t.Errorf("got %q", got)
	}
	if s := rec.String(); strings.Count(strings.ToUpper(s), "LPOP\r\n") != 4 {
		t.Errorf("effects %q", s)
	}
	if n := e.Info(); n.Blocked != 0 || len(e.waiting[0]) != 0 {
		t.Errorf("%+v", n)
	}
}

func TestBlockingEnds(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	want(t, c, "blpop q 0.01", "*-1\r\n")
	ctx, cancel := context.WithCancel(context.Background())
	gone := blocked(ctx, t, e, "blpop q 0")
	cancel()
	if got := <-gone; got != "" {
		t.Errorf("a cancelled wait answered %q", got)
	}
	want(t, c, "rpush q a", ":1\r\n")
	want(t, c, "lrange q 0 -1", "*1\r\n$1\r\na\r\n")
	refused := blocked(context.Background(), t, e, "blpop r 0")
	e.SetReplica(true)
	if got := <-refused; !strings.HasPrefix(got, "-UNBLOCKED force unblock") {
		t.Errorf("got %q", got)
	}
	e.SetReplica(false)
	closed := blocked(context.Background(), t, e, "blpop r 0")
	e.Close()
	if got := <-closed; got != "" {
		t.Errorf("got %q", got)
	}
	e.Close()
}

func TestClientUnblock(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	for _, how := range []struct{ word, reply string }{
		{"timeout", "*-1\r\n"}, {"error", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"},
	} {
		w := blocked(context.Background(), t, e, "blpop q 0")
		want(t, c, fmt.Sprintf("client unblock %d %s", e.nextID.Load(), how.word), ":1\r\n")
		if got := <-w; got != how.reply {
			t.Errorf("got %q", got)
		}
	}
}

func TestPush(t *testing.T) {
	e := newEngine(t, Options{})
	var mu sync.Mutex
	var got []string
	sub := e.NewConn(ConnOptions{Push: func(b []byte) { mu.Lock(); got = append(got, string(b)); mu.Unlock() }})
	c := newConn(e)
	run(t, sub, "subscribe ch")
	run(t, sub, "psubscribe c* x*")
	want(t, c, "publish ch m", ":2\r\n")
	want(t, c, "pubsub numsub ch none", "*4\r\n$2\r\nch\r\n:1\r\n$4\r\nnone\r\n:0\r\n")
	want(t, c, "pubsub channels", "*1\r\n$2\r\nch\r\n")
	want(t, c, "pubsub numpat", ":2\r\n")
	sub.Close()
	sub.Close()
	want(t, c, "publish ch m", ":0\r\n")
	if len(got) != 2 || got[0] != "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nm\r\n" ||
		got[1] != "*4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nch\r\n$1\r\nm\r\n" {
		t.Errorf("%q", got)
	}
	run(t, c, "hello 3")
	want(t, c, "subscribe me", ">3\r\n$9\r\nsubscribe\r\n$2\r\nme\r\n:1\r\n")
	want(t, c, "publish me x", ">3\r\n$7\r\nmessage\r\n$2\r\nme\r\n$1\r\nx\r\n:1\r\n")
}

// TestScanUnderChange: what is there throughout is reported, whatever else comes and goes.
func TestScanUnderChange(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 0))
		e := newEngine(t, Options{HashSeed: seed})
		c := newConn(e)
		n := 1 + rng.IntN(2000)
		for i := range n {
			run(t, c, fmt.Sprintf("set keep:%d v", i))
		}
		seen := map[string]bool{}
		other := 0
		for cursor := "0"; ; {
			reply := frame.Reply{Raw: c.Do(context.Background(), nil, []command.Request{request([]byte("scan"), []byte(cursor))})}
			i := 0
			reply.Each(func(r frame.Reply) bool {
				if i++; i == 1 {
					cursor = string(r.Text())
					return true
				}
				r.Each(func(k frame.Reply) bool { seen[string(k.Text())] = true; return true })
				return true
			})
			if cursor == "0" {
				break
			}
			if rng.IntN(2) == 0 {
				for range rng.IntN(300) {
					run(t, c, fmt.Sprintf("set more:%d v", other))
					other++
				}
			} else {
				for ; other > 0 && rng.IntN(200) > 0; other-- {
					run(t, c, fmt.Sprintf("del more:%d", other-1))
				}
			}
		}
		for i := range n {
			if k := fmt.Sprintf("keep:%d", i); !seen[k] {
				t.Fatalf("seed %d: SCAN missed %s of %d", seed, k, n)
			}
		}
		e.Close()
	}
}

// slowWriter runs something each time it is written to.
type slowWriter struct {
	io.Writer
	meanwhile func()
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.meanwhile()
	return w.Writer.Write(p)
}

func TestSnapshotIsOfOneMoment(t *testing.T) {
	clk := newClock()
	e := newEngine(t, Options{Now: clk.now})
	c := newConn(e)
	for i := range 20000 {
		run(t, c, fmt.Sprintf("set s:%d %d", i, i))
	}
	for i := range 300 {
		run(t, c, fmt.Sprintf("hset h:%d a 1 b %d", i, i))
		run(t, c, fmt.Sprintf("rpush l:%d a 1 b %d", i, i))
		run(t, c, fmt.Sprintf("sadd t:%d a 1 b %d", i, i))
		run(t, c, fmt.Sprintf("set e:%d v px 100000", i))
	}
	run(t, c, "select 3")
	run(t, c, "set other db")
	run(t, c, "select 0")
	before := dump(e)
	rng := rand.New(rand.NewPCG(1, 2))
	round := 0
	disturb := func() {
		for range 500 {
			i := rng.IntN(20000)
			switch rng.IntN(9) {
			case 0:
				run(t, c, fmt.Sprintf("del s:%d", i))
			case 1:
				run(t, c, fmt.Sprintf("append s:%d x", i))
			case 2:
				run(t, c, fmt.Sprintf("set new:%d x", i))
			case 3:
				run(t, c, fmt.Sprintf("hset h:%d a 2", i%300))
			case 4:
				run(t, c, fmt.Sprintf("lpop l:%d", i%300))
			case 5:
				run(t, c, fmt.Sprintf("srem t:%d a 1", i%300))
			case 6:
				run(t, c, fmt.Sprintf("rename s:%d new:%d", i, i))
			case 7:
				run(t, c, fmt.Sprintf("move s:%d 3", i))
			case 8:
				run(t, c, fmt.Sprintf("expire e:%d -1", i%300))
			}
		}
		switch round++; round {
		case 2:
			run(t, c, "swapdb 0 3")
		case 3:
			run(t, c, "swapdb 0 3")
		case 5:
			run(t, c, "flushdb")
		}
	}
	for range 2 {
		var buf bytes.Buffer
		called := 0
		if err := e.Snapshot(&slowWriter{&buf, disturb}, func() { called++ }); err != nil {
			t.Fatal(err)
		}
		if called != 1 {
			t.Errorf("at was called %d times", called)
		}
		copied := newEngine(t, Options{Now: clk.now, HashSeed: 7})
		if err := copied.Restore(bytes.NewReader(buf.Bytes())); err != nil {
			t.Fatal(err)
		}
		after := dump(copied)
		if len(after) != len(before) {
			t.Errorf("%d keys, want %d", len(after), len(before))
		}
		for k, v := range before {
			if after[k] != v {
				t.Fatalf("%s: got %q, want %q", k, after[k], v)
			}
		}
		if err := errors.Join(audit(e), audit(copied)); err != nil {
			t.Error(err)
		}
		before, round = dump(e), 10
	}
}

// dump describes every key.
func dump(e *Engine) map[string]string {
	all := map[string]string{}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for i, ks := range e.dbs {
		ks.keys.each(func(ent *entry) bool {
			var buf bytes.Buffer
			s := &snapshot{w: rdb.NewWriter(&buf), db: -1}
			s.w.SelectDB(0, 1, 0)
			s.value(bytesOf(ent.key), ks.expireAt(&ent.val), &ent.val)
			s.w.Close()
			ent2, err := rdb.NewReader(&buf).Next()
			all[fmt.Sprintf("%d/%s", i, ent.key)] = fmt.Sprintf("%s %d %q %v", ent.val.kind, ent2.ExpireAt, ent2.Value, err)
			return true
		})
	}
	return all
}

func TestRestoreKeepsOldDataOnError(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	run(t, c, "set k v")
	var buf bytes.Buffer
	if err := e.Snapshot(&buf, nil); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(buf.Bytes())
	damaged[len(damaged)-1] ^= 1
	for _, b := range [][]byte{damaged, buf.Bytes()[:buf.Len()-9], nil} {
		if e.Restore(bytes.NewReader(b)) == nil {
			t.Error("a damaged snapshot was taken")
		}
	}
	want(t, c, "get k", "$1\r\nv\r\n")
	run(t, c, "watch k")
	if err := e.Restore(&buf); err != nil {
		t.Fatal(err)
	}
	run(t, c, "multi")
	want(t, c, "exec", "*-1\r\n")
}

func TestConcurrentSessions(t *testing.T) {
	e := newEngine(t, Options{Sink: &recorder{}})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			c := newConn(e)
			defer c.Close()
			for i := range 500 {
				switch i % 10 {
				case 5:
					run(t, c, fmt.Sprintf("hset h %d %d", i, g))
					run(t, c, fmt.Sprintf("zadd z %d m%d", g, i))
				case 6:
					run(t, c, "hgetall h")
					run(t, c, "zrange z 0 -1")
				case 7:
					run(t, c, fmt.Sprintf("sadd s m%d", i))
					run(t, c, fmt.Sprintf("rpush l %d", i))
				case 8:
					run(t, c, "srandmember s 3")
					run(t, c, "lrange l 0 -1")
				case 9:
					run(t, c, fmt.Sprintf("sort l limit 0 %d", g))
					run(t, c, fmt.Sprintf("hscan h %d", i))
				case 0:
					run(t, c, fmt.Sprintf("set k%d %d px 5", i%50, g))
				case 1:
					run(t, c, fmt.Sprintf("get k%d", i%50))
				case 2:
					run(t, c, "scan 0")
				case 3:
					run(t, c, "client list")
				case 4:
					run(t, c, "info")
				}
			}
		})
	}
	wg.Go(func() { e.Snapshot(io.Discard, nil); e.Info() })
	wg.Wait()
	if err := audit(e); err != nil {
		t.Error(err)
	}
}

func batch(b testing.TB, line string, n int) []command.Request {
	reqs := make([]command.Request, n)
	for i := range reqs {
		reqs[i] = request(words(b, line)...)
	}
	return reqs
}

func BenchmarkDo(b *testing.B) {
	val := strings.Repeat("x", 64)
	for _, bm := range []struct {
		name, line string
		n          int
	}{
		{"GET", "get key:1", 1}, {"SET", "set key:1 " + val, 1}, {"INCR", "incr n", 1}, {"SETEX", "set key:1 " + val + " ex 100", 1},
		{"GET/P=16", "get key:1", 16}, {"SET/P=16", "set key:1 " + val, 16}, {"MGET", "mget" + strings.Repeat(" key:1", 10), 1},
		{"EVAL", "eval return(redis.call('get',KEYS[1])) 1 key:1", 1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			e := newEngine(b, Options{Sink: discard{}})
			c := newConn(e)
			run(b, c, "set key:1 "+val)
			reqs := batch(b, bm.line, bm.n)
			var out []byte
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				out = c.Do(context.Background(), out[:0], reqs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(bm.n), "ns/cmd")
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/float64(bm.n), "cpu-ns/cmd")
		})
	}
}

// cpuTime is the nanoseconds of CPU that the process has taken: what other processes on the machine leave alone.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

type discard struct{}

func (discard) Append([]byte) {}
