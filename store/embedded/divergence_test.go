package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/rdb"
)

// applyStream gives a replica everything that a primary has put into its sink.
func applyStream(t *testing.T, to *Engine, stream []byte) {
	t.Helper()
	in := frame.NewReader(bytes.NewReader(stream))
	for {
		var cmd frame.Command
		if err := in.ReadCommand(&cmd); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if err := to.Apply([]command.Request{{Spec: command.Lookup(cmd.Args), Command: cmd}}); err != nil {
			t.Fatal(err)
		}
	}
}

// What a writing command reads must be gone on replicas too when it is over, or they come to another result.
func TestExpiredSourcesDontDiverge(t *testing.T) {
	for _, tc := range []struct{ before, write string }{
		{"rpush src 3 1 2", "sort src store dst"},
		{"rpush src 3 1 2", "sort l by w_* get src store dst"},
		{"set src abc", "sort l by w_* get src* get s* store dst"},
		{"set src abc", "bitop or dst src no"},
		{"set src abc", "bitop not dst src"},
		{"set src abc", "copy src dst"},
		{"set src abc", "copy s dst replace"},
		{"set src abc", "append src x"},
		{"set src abc", "setbit src 9 1"},
		{"set src abc", "bitfield src set u8 0 1"},
		{"set src abc", "set src x get"},
		{"set src abc", "mset src 1 dst 2"},
		{"set src abc", "rename s src"},
		{"sadd src a", "sunionstore dst src"},
		{"sadd src a", "sdiffstore dst src"},
		{"sadd src a", "smove set src x"},
		{"sadd src a", "zunionstore dst 2 src z"},
		{"zadd src 1 a", "zrangestore dst src 0 -1"},
		{"rpush src a", "lmove l src left left"},
		{"rpush src a", "lmpop 2 src l left"},
		{"hset src a 1", "hincrby src a 1"},
		{"geoadd src 1 1 a", "geosearchstore dst src fromlonlat 1 1 byradius 10 km"},
		{"geoadd src 1 1 a", "georadius src 1 1 10 km store dst"},
		{"pfadd src a", "pfmerge dst src"},
	} {
		t.Run(tc.write, func(t *testing.T) {
			clk, rec := newClock(), &recorder{}
			primary := newEngine(t, Options{Now: clk.now, Sink: rec})
			replica := newEngine(t, Options{Now: clk.now, Replica: true})
			c := newConn(primary)
			for _, line := range []string{"set dst old", "set s str", "rpush l 2 1", "sadd set x", "zadd z 1 z", tc.before, "pexpire src 10"} {
				if out := run(t, c, line); strings.HasPrefix(out, "-ERR unknown command") {
					t.Skip(out)
				}
			}
			clk.advance(time.Second)
			if !strings.Contains(tc.write, "store") && !strings.Contains(tc.write, "dst") {
				run(t, c, "del dst")
			}
			if out := run(t, c, "multi"); out[0] == '-' {
				t.Fatal(out)
			}
			run(t, c, tc.write) // in a transaction nothing else deletes what is over
			run(t, c, "exec")
			applyStream(t, replica, rec.Bytes())
			if got, want := dump(replica), dump(primary); !maps.Equal(got, want) {
				t.Errorf("replica has %v,\nprimary %v\nstream %q", got, want, rec.String())
			}
		})
	}
}

// Writers hold the write lock: what they look up may be deleted.
func TestWritersHoldTheWriteLock(t *testing.T) {
	handlers := bindCommands()
	for spec := range command.All() {
		if h := handlers[spec.ID]; h.handle != nil && h.shared && spec.Is(command.FlagWrite) {
			t.Errorf("%s shares the lock", spec.Name)
		}
	}
}

func TestTransactionsSeeWhatExpired(t *testing.T) {
	clk, rec := newClock(), &recorder{}
	e := newEngine(t, Options{Now: clk.now, Sink: rec})
	c := newConn(e)
	run(t, c, "set k v px 10")
	clk.advance(time.Second)
	run(t, c, "multi")
	run(t, c, "get k")
	run(t, c, "dbsize")
	want(t, c, "exec", "*2\r\n$-1\r\n:0\r\n")
	// A key that was over when the WATCH began may be deleted, by whomever.
	run(t, c, "set k v px 10")
	for _, by := range []string{"flushall", "swapdb 0 1", "get k"} {
		run(t, c, "flushall")
		run(t, c, "set k v px 10")
		clk.advance(time.Second)
		run(t, c, "watch k")
		run(t, newConn(e), by)
		run(t, c, "multi")
		want(t, c, "exec", "*0\r\n")
	}
}

// What a primary's clients publish reaches the subscribers here, also out of a transaction.
func TestPublishedByTheStream(t *testing.T) {
	e := newEngine(t, Options{Replica: true})
	var got []string
	c := e.NewConn(ConnOptions{Push: func(b []byte) { got = append(got, string(b)) }})
	run(t, c, "subscribe ch")
	run(t, c, "psubscribe c*")
	var reqs []command.Request
	for _, line := range []string{"publish ch one", "multi", "publish ch two", "set k v", "exec"} {
		reqs = append(reqs, request(words(t, line)...))
	}
	for i := range reqs { // the link may cut anywhere
		if err := e.Apply(reqs[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 4 || !strings.Contains(got[0], "one") || !strings.Contains(got[3], "two") {
		t.Errorf("%q", got)
	}
}

// Members of a set come in any order; what SORT makes of equal ones is the same everywhere.
func TestSortStoreOfTiesIsTheSameEverywhere(t *testing.T) {
	a, b := newEngine(t, Options{HashSeed: 1}), newEngine(t, Options{HashSeed: 2})
	var out [2]string
	for i, e := range []*Engine{a, b} {
		c := newConn(e)
		for i := range 100 {
			run(t, c, fmt.Sprintf("sadd s m%d", i))
			run(t, c, fmt.Sprintf("set w_m%d %d", i, i%3))
		}
		run(t, c, "sort s by w_* alpha store dst")
		out[i] = run(t, c, "lrange dst 0 -1")
	}
	if out[0] != out[1] {
		t.Errorf("%q\n%q", out[0], out[1])
	}
}

func TestDemotedKnowsTheStreamsDatabase(t *testing.T) {
	rec := &recorder{}
	e := newEngine(t, Options{Sink: rec})
	c := newConn(e)
	run(t, c, "select 3")
	run(t, c, "set k v")
	e.SetReplica(true)
	if err := e.Apply([]command.Request{request(words(t, "set k w")...)}); err != nil {
		t.Fatal(err)
	}
	want(t, c, "get k", "$1\r\nw\r\n")
	var buf bytes.Buffer
	if err := e.Snapshot(&buf, nil); err != nil {
		t.Fatal(err)
	}
	rd := rdb.NewReader(&buf)
	for {
		if _, err := rd.Next(); err != nil {
			break
		}
	}
	if v, _ := rd.Aux(streamDB); v != "3" {
		t.Errorf("the snapshot says database %q", v)
	}
	rec.Reset()
	e.SetReplica(false)
	run(t, c, "set k x")
	if !strings.HasPrefix(rec.String(), "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n") {
		t.Errorf("after promotion %q", rec.String())
	}
}

// An idle session mustn't keep data alive that have been replaced.
func TestIdleSessionsKeepNoData(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	run(t, c, "set k v")
	e.mu.Lock()
	old := weak.Make(e.dbs[0])
	e.mu.Unlock()
	other := newConn(e)
	run(t, other, "flushall")
	for range 3 {
		runtime.GC()
	}
	if old.Value() != nil {
		t.Error("the flushed data are still there")
	}
	runtime.KeepAlive(c)
}

func TestRestoreRefusesDatabasesItLacks(t *testing.T) {
	var buf bytes.Buffer
	w := rdb.NewWriter(&buf)
	w.SelectDB(16, 1, 0)
	w.WriteString([]byte("k"), 0, []byte("v"))
	w.Close()
	err := newEngine(t, Options{}).Restore(&buf)
	if err == nil || !strings.Contains(err.Error(), rdb.ErrUnsupported.Error()) {
		t.Error(err)
	}
}

// Memory comes back to nothing when everything is deleted, by whatever way it went.
func TestMemoryReturns(t *testing.T) {
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 9))
		e := newEngine(t, Options{})
		c := newConn(e)
		for range 3000 {
			run(t, c, strings.TrimPrefix(randomLine(rng), "~ "))
			if rng.IntN(50) == 0 {
				run(t, c, "reset")
			}
		}
		if err := audit(e); err != nil {
			t.Fatal(err)
		}
		for db := range 2 {
			run(t, c, "reset")
			run(t, c, fmt.Sprint("select ", db))
			for _, k := range "abcd" {
				run(t, c, "del "+string(k))
			}
		}
		if in := e.Info(); in.Memory > 1<<10 || in.Keys != 0 || in.Expires != 0 { // empty tables remain
			t.Errorf("seed %d: %+v", seed, in)
		}
	}
}

// A reply that no client can want is refused before it takes the engine's memory and time.
func TestHugeNegativeCounts(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	run(t, c, "sadd s a b c")
	run(t, c, "hset h a 1 b 2")
	run(t, c, "zadd z 1 a 2 b")
	for _, line := range []string{"srandmember s ", "hrandfield h ", "zrandmember z "} {
		for _, n := range []string{"-9223372036854775807", "-4611686018427387903", "-2000000"} {
			if out := run(t, c, line+n); !strings.HasPrefix(out, "-ERR ") {
				t.Errorf("%s%s: %.60q", line, n, out)
			}
		}
		if out := run(t, c, line+"-1000"); !strings.HasPrefix(out, "*1000\r\n") {
			t.Errorf("%s: %.60q", line, out)
		}
	}
	e.Apply([]command.Request{request([]byte("sadd"), []byte("big"), bytes.Repeat([]byte("x"), 1<<20))})
	if out := run(t, c, "srandmember big -100"); !strings.HasPrefix(out, "-ERR ") {
		t.Errorf("%.60q", out)
	}
}

// A snapshot that couldn't be written whole must not look as if it were.
func TestSnapshotReportsItsErrors(t *testing.T) {
	e := newEngine(t, Options{})
	e.mu.Lock()
	e.dbs[0].add([]byte("k"), listPayload(newList()), e.fresh(e.now())) // a file can't hold an empty list
	e.mu.Unlock()
	if err := e.Snapshot(io.Discard, nil); err == nil {
		t.Error("no error")
	}
}

// The longest time-outs that Redis takes are beyond what a time.Duration holds.
func TestLongestTimeout(t *testing.T) {
	e := newEngine(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	w := blocked(ctx, t, e, "blpop q 9223372036854775")
	want(t, newConn(e), "rpush q a", ":1\r\n")
	if got := <-w; got != "*2\r\n$1\r\nq\r\n$1\r\na\r\n" {
		t.Errorf("got %q", got)
	}
	cancel()
}
