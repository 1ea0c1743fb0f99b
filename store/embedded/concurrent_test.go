package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// journal is a Sink that can be cut at the moment of a snapshot.
type journal struct{ bytes.Buffer }

func (j *journal) Append(p []byte) { j.Write(p) }

// While sessions write, block and are served, and keys expire, a snapshot and the stream after it give a replica the primary's
// data: whatever the commands' order was, the effects have the same.
func TestReplicaEqualsPrimaryUnderLoad(t *testing.T) {
	for round := range 3 {
		rec := &journal{}
		e := New(Options{Sink: rec, MaxMemory: int64(round%2) * 200 << 10, Eviction: VolatileFirst})
		ctx, stop := context.WithTimeout(context.Background(), 700*time.Millisecond)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(round), uint64(g)))
				c := newConn(e)
				defer c.Close()
				for ctx.Err() == nil {
					c.Do(ctx, nil, someCommands(rng))
				}
			})
		}
		replica := New(Options{Replica: true, HashSeed: 3})
		var snapshot bytes.Buffer
		from := 0
		if err := e.Snapshot(&slowWriter{&snapshot, func() {}}, func() { from = rec.Len() }); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		stop()
		e.mu.Lock()
		stream := bytes.Clone(rec.Bytes()[from:])
		taken := rec.Len()
		e.mu.Unlock()
		if err := replica.Restore(&snapshot); err != nil {
			t.Fatal(err)
		}
		// In batches of any size, which may cut transactions in two.
		in := frame.NewReader(bytes.NewReader(stream))
		for end := false; !end; {
			var reqs []command.Request
			for n := rand.IntN(7); len(reqs) <= n; {
				var cmd frame.Command
				if err := in.ReadCommand(&cmd); err == io.EOF {
					end = true
					break
				} else if err != nil {
					t.Fatal(err)
				}
				args := make([][]byte, len(cmd.Args))
				for i, a := range cmd.Args {
					args[i] = bytes.Clone(a)
				}
				reqs = append(reqs, request(args...))
			}
			if err := replica.Apply(reqs); err != nil {
				t.Fatal(err)
			}
		}
		e.mu.Lock()
		e.expireDue(e.now()+1000, time.Minute) // all of it: the clock goes on between one dump and the other
		e.effects.flush()
		stream = bytes.Clone(rec.Bytes()[taken:])
		e.mu.Unlock()
		applyStream(t, replica, stream)
		got, want := dump(replica), dump(e)
		for _, m := range []map[string]string{got, want} { // in order: sets and hashes have none
			for k, v := range m {
				if f := strings.Fields(v); f[0] == "set" || f[0] == "hash" {
					f[2], f[len(f)-2] = strings.TrimPrefix(f[2], "["), strings.TrimSuffix(f[len(f)-2], "]")
					slices.Sort(f)
					m[k] = strings.Join(f, " ")
				}
			}
		}
		if !maps.Equal(got, want) {
			for k := range want {
				if got[k] != want[k] {
					t.Errorf("%s: replica %.200s, primary %.200s", k, got[k], want[k])
				}
			}
			for k := range got {
				if _, ok := want[k]; !ok {
					t.Errorf("%s: only on the replica: %.200s", k, got[k])
				}
			}
		}
		for _, e := range []*Engine{e, replica} {
			if err := audit(e); err != nil {
				t.Error(err)
			}
			e.Close()
		}
	}
}

// someCommands is a batch that touches everything that has effects.
func someCommands(rng *rand.Rand) []command.Request {
	var reqs []command.Request
	add := func(line string, args ...any) {
		var w [][]byte
		for _, f := range strings.Fields(fmt.Sprintf(line, args...)) {
			w = append(w, []byte(f))
		}
		reqs = append(reqs, request(w...))
	}
	k := func() string { return string(rune('a' + rng.IntN(8))) }
	tx := rng.IntN(5) == 0
	if tx {
		add("multi")
	}
	for range 1 + rng.IntN(4) {
		switch rng.IntN(24) {
		case 0:
			add("select %d", rng.IntN(3))
		case 1:
			add("set %s %d px %d", k(), rng.IntN(100), 1+rng.IntN(8))
		case 2:
			add("incr n%s", k())
		case 3:
			add("append %s x", k())
		case 4:
			add("rpush l%s %d %d", k(), rng.IntN(9), rng.IntN(9))
		case 5:
			add("blpop l%s l%s 0.002", k(), k())
		case 6:
			add("blmove l%s l%s left right 0.002", k(), k())
		case 7:
			add("sadd s%s %d x%d", k(), rng.IntN(50), rng.IntN(50))
		case 8:
			add("spop s%s %d", k(), rng.IntN(5))
		case 9:
			add("zadd z%s %d m%d", k(), rng.IntN(9), rng.IntN(50))
		case 10:
			add("bzpopmin z%s 0.002", k())
		case 11:
			add("zunionstore z%s 2 z%s s%s", k(), k(), k())
		case 12:
			add("sort s%s by n* alpha store l%s", k(), k())
		case 13:
			add("rename %s %s", k(), k())
		case 14:
			add("pexpire l%s %d", k(), 1+rng.IntN(5))
		case 15:
			add("hset h%s %s 1 %d 2", k(), k(), rng.IntN(300))
		case 16:
			add("copy l%s l%s db %d replace", k(), k(), rng.IntN(3))
		case 17:
			add("move l%s %d", k(), rng.IntN(3))
		case 18:
			if rng.IntN(20) == 0 {
				add("swapdb %d %d", rng.IntN(3), rng.IntN(3))
			}
			if rng.IntN(100) == 0 {
				add("flushdb")
			}
		case 19:
			add("bitop or %s %s %s", k(), k(), k())
		case 20:
			add("watch %s", k())
		case 21:
			add("incrbyfloat f%s 0.1", k())
		case 22:
			add("del l%s z%s", k(), k())
		case 23:
			add("getex %s px %d", k(), 1+rng.IntN(5))
		}
	}
	if tx {
		add("exec")
	}
	return reqs
}

// Readers go on while everything is replaced: a SCAN that began before ends, and each reply is of one data set.
func TestRestoreUnderReaders(t *testing.T) {
	files := make([][]byte, 2)
	for i := range files {
		e := New(Options{})
		c := newConn(e)
		for k := range 3000 * (1 + 9*i) {
			run(t, c, fmt.Sprintf("set k%d %d", k, i))
		}
		run(t, c, "zadd z 1 a 2 b")
		var b bytes.Buffer
		if err := e.Snapshot(&b, nil); err != nil {
			t.Fatal(err)
		}
		files[i] = b.Bytes()
		e.Close()
	}
	e := newEngine(t, Options{Replica: true})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			c := newConn(e)
			defer c.Close()
			cursor := "0"
			for ctx.Err() == nil {
				out := run(t, c, "mget k1 k2 k2999")
				if strings.Contains(out, "0\r\n$1\r\n1") || strings.Contains(out, "1\r\n$1\r\n0\r\n") {
					t.Errorf("mixed %q", out)
				}
				reply := frame.Reply{Raw: []byte(run(t, c, "scan "+cursor))}
				reply.Each(func(r frame.Reply) bool { cursor = string(r.Text()); return false })
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			e.Snapshot(io.Discard, nil)
		}
	})
	for i := range 6 {
		if err := e.Restore(bytes.NewReader(files[i%2])); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
	if err := audit(e); err != nil {
		t.Error(err)
	}
}
