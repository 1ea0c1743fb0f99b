package embedded

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// BenchmarkTypes executes commands whose arguments change, on data of about a hundred thousand elements.
func BenchmarkTypes(b *testing.B) {
	const n = 100_000
	for _, bm := range []struct {
		name string
		line func(i int) string
	}{
		{"LPUSH", func(i int) string { return fmt.Sprint("lpush l element:", i) }},
		{"LPUSH+LPOP", func(i int) string {
			if i%2 == 0 {
				return fmt.Sprint("lpush l element:", i)
			}
			return "lpop l"
		}},
		{"RPUSH+LPOP", func(i int) string {
			if i%2 == 0 {
				return fmt.Sprint("rpush l element:", i)
			}
			return "lpop l"
		}},
		{"SADD", func(i int) string { return fmt.Sprint("sadd s element:", rand.IntN(n)) }},
		{"SADD/small", func(i int) string { return fmt.Sprintf("sadd s%d m%d", i%1000, rand.IntN(20)) }},
		{"HSET", func(i int) string { return fmt.Sprint("hset h element:", rand.IntN(n), " value") }},
		{"HSET/small", func(i int) string { return fmt.Sprintf("hset h%d f%d value", i%1000, rand.IntN(20)) }},
		{"HGET", func(i int) string { return fmt.Sprint("hget big element:", rand.IntN(n)) }},
		{"ZADD", func(i int) string { return fmt.Sprint("zadd z ", rand.IntN(n), " element:", rand.IntN(n)) }},
		{"ZADD/small", func(i int) string { return fmt.Sprintf("zadd z%d %d m%d", i%1000, rand.IntN(100), rand.IntN(20)) }},
		{"ZRANK", func(i int) string { return fmt.Sprint("zrank bigz element:", rand.IntN(n)) }},
		{"LRANGE100", func(i int) string { return "lrange bigl 0 99" }},
		{"SPOP+SADD", func(i int) string {
			if i%2 == 0 {
				return fmt.Sprint("sadd bigs extra:", i)
			}
			return "spop bigs"
		}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			e := newEngine(b, Options{Sink: discard{}})
			c := newConn(e)
			for i := range 10_000 {
				run(b, c, fmt.Sprint("hset big element:", i, " v"))
				run(b, c, fmt.Sprint("zadd bigz ", i, " element:", i))
				run(b, c, fmt.Sprint("sadd bigs element:", i))
			}
			for i := range 1000 {
				run(b, c, fmt.Sprint("rpush bigl element:", i))
			}
			reqs := make([]command.Request, 1<<16)
			for i := range reqs {
				reqs[i] = request(words(b, bm.line(i))...)
			}
			var out []byte
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				at := i & (len(reqs) - 1)
				out = c.Do(context.Background(), out[:0], reqs[at:at+1])
				i++
			}
		})
	}
}

// TestMemoryBesideRedis compares what many small containers take here and in redis-server.
func TestMemoryBesideRedis(t *testing.T) {
	const keys = 20_000
	used := regexp.MustCompile(`used_memory:(\d+)`)
	for _, tc := range []struct {
		name, format string
		each         string
		limit        float64
	}{
		{"hash of 10", "hset key:%06d", " field:% value:%", 1.3},
		{"set of 10", "sadd key:%06d", " member:%", 1.3},
		{"set of 10 numbers", "sadd key:%06d", " 100%", 1.3},
		{"sorted set of 10", "zadd key:%06d", " %.5 member:%", 1.3},
		{"list of 10", "rpush key:%06d", " element:%", 1.3},
		{"set of 1000", "sadd key:%06d", "", 1.3},
		{"hash of 1000", "hset key:%06d", "", 1.3},
		{"sorted set of 1000", "zadd key:%06d", "", 1.3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			real := dialReal(t)
			real.do(t, words(t, "flushall sync"))
			memory := func() float64 {
				m := used.FindSubmatch(real.do(t, words(t, "info memory")))
				n, _ := strconv.ParseFloat(string(m[1]), 64)
				return n
			}
			n, each := keys, tc.each
			var args string
			if each != "" {
				args = join(10, each)
			} else {
				n = keys / 200
				switch tc.format[0] {
				case 's':
					args = join(1000, " member:%")
				case 'h':
					args = join(1000, " field:% value:%")
				default:
					args = join(1000, " %.5 member:%")
				}
			}
			line := func(i int) [][]byte { return words(t, fmt.Sprintf(tc.format, i)+args) }
			before := memory()
			for i := range n {
				real.Write(frame.AppendCommand(nil, line(i)...))
				real.reply(t)
			}
			theirs := (memory() - before) / float64(n)

			var m0, m1 runtime.MemStats
			e := newEngine(t, Options{})
			c := newConn(e)
			var out []byte
			runtime.GC()
			runtime.ReadMemStats(&m0)
			for i := range n {
				out = c.Do(context.Background(), out[:0], []command.Request{request(line(i)...)})
			}
			for e.housekeep() { // the table of keys has grown to its new size
			}
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m1)
			ours := float64(m1.HeapAlloc-m0.HeapAlloc) / float64(n)
			counted := float64(e.Info().Memory) / float64(n)
			t.Logf("%.0f bytes a key, redis %.0f: %.2f; counted %.0f (%.2f)", ours, theirs, ours/theirs, counted, counted/ours)
			const buffers = 1.02 // redis-server's figure holds its clients' buffers, which come and go
			if ours > tc.limit*theirs*buffers {
				t.Errorf("%.2f times redis-server's memory", ours/theirs)
			}
			if r := counted / ours; r < 0.9 || r > 1.1 {
				t.Errorf("counted %.2f of what is used", r)
			}
			runtime.KeepAlive(e)
		})
	}
}
