package node

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/embedded"
)

// BenchmarkDo is what commands cost from the parsed request to the reply and the replication backlog, as a gateway's
// session has them executed: by a primary's copy, in batches, on the keys of `make bench`. BenchmarkDoKept has the
// append-only file too.
func BenchmarkDo(b *testing.B) { benchmarkDo(b, func(*testing.B) string { return "" }) }

func BenchmarkDoKept(b *testing.B) {
	benchmarkDo(b, func(b *testing.B) string { return b.TempDir() })
}

// marker stands where redis-benchmark puts a random number of twelve digits.
const marker = "__rand_int__"

func benchmarkDo(b *testing.B, dir func(*testing.B) string) {
	const keys = 10_000
	value := strings.Repeat("x", 64)
	for _, bm := range []struct{ name, line, fill string }{
		{"GET", "GET key:" + marker, ""},
		{"SET", "SET key:" + marker + " " + value, ""},
		{"INCR", "INCR counter:" + marker, ""},
		{"LPUSH", "LPUSH bench:list " + value, ""},
		{"LPOP", "LPOP bench:queue", "LPUSH bench:queue" + strings.Repeat(" "+value, 1000)},
		{"SADD", "SADD bench:set element:" + marker, ""},
		{"HSET", "HSET bench:hash element:" + marker + " " + value, ""},
		{"ZADD", "ZADD bench:zset " + marker + " element:" + marker, ""},
		{"XADD", "XADD bench:stream * field " + value, ""},
		{"MGET", "MGET" + strings.Repeat(" key:"+marker, 10), ""},
		{"LRANGE", "LRANGE bench:hundred 0 99", ""},
		{"EVAL", "EVAL return_redis.call('incr',KEYS[1]) 1 counter:" + marker, ""},
	} {
		for _, depth := range []int{16, 64} {
			b.Run(bm.name+"/P="+strconv.Itoa(depth), func(b *testing.B) {
				s, err := openStore(b.Context(), storeOptions{
					maxMemory: 1 << 30, eviction: embedded.VolatileFirst, data: dir(b), fsync: aof.EverySec, log: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					b.Fatal(err)
				}
				defer s.close()
				if err := s.lead(b.Context(), s.standing().Term+1); err != nil {
					b.Fatal(err)
				}
				sc := s.NewConn(func([]byte) {})
				defer sc.Close()
				var out []byte
				do := func(reqs []command.Request) {
					out = sc.Do(b.Context(), out[:0], reqs)
					if out[0] == '-' {
						b.Fatalf("%s", out)
					}
				}
				for _, prefix := range []string{"key:", "counter:"} {
					for i := range keys {
						v := value
						if prefix == "counter:" {
							v = "0"
						}
						do(newBatch(fmt.Sprintf("SET %s%012d %s", prefix, i, v), 1).reqs)
					}
				}
				do(newBatch("RPUSH bench:hundred"+strings.Repeat(" "+value, 100), 1).reqs)
				forget := newBatch("DEL bench:list bench:stream", 1).reqs
				batch := newBatch(bm.line, depth)
				for range keys * 4 / depth { // members that come and go
					if bm.fill == "" {
						batch.draw(keys)
						do(batch.reqs)
					}
				}
				do(forget)
				b.ReportAllocs()
				var spent int64
				before := cpuTime(b)
				rounds := 0
				b.ResetTimer()
				for range b.N {
					if rounds -= depth; rounds < 0 && bm.fill != "" {
						b.StopTimer()
						spent += cpuTime(b) - before
						for range 400 {
							do(newBatch(bm.fill, 1).reqs)
						}
						rounds = 400_000 - depth
						before = cpuTime(b)
						b.StartTimer()
					} else if bm.name == "LPUSH" || bm.name == "XADD" {
						if rounds < -400_000 {
							do(forget)
							rounds = 0
						}
					}
					batch.draw(keys)
					do(batch.reqs)
				}
				b.StopTimer()
				spent += cpuTime(b) - before
				b.ReportMetric(float64(spent)/float64(b.N)/float64(depth), "cpu-ns/cmd")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// requestBatch is commands that lie one behind the other, as a session reads them.
type requestBatch struct {
	reqs  []command.Request
	draws [][]byte // where the random numbers are
}

// newBatch makes a batch of one command, n times. The script's space is written as a low line.
func newBatch(line string, n int) *requestBatch {
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.Replace(args[i], "return_", "return ", 1)
	}
	one := frame.AppendCommandString(nil, args...)
	buf := make([]byte, 0, len(one)*n)
	batch := &requestBatch{}
	for range n {
		from := len(buf)
		buf = append(buf, one...)
		r := command.Request{}
		r.Raw = buf[from:len(buf):len(buf)]
		at := len(frame.AppendArray(nil, len(args)))
		for _, a := range args {
			at += len(frame.AppendBulkString(nil, a)) - 2
			r.Args = append(r.Args, r.Raw[at-len(a):at:at])
			at += 2
		}
		r.Spec = command.Lookup(r.Args)
		batch.reqs = append(batch.reqs, r)
	}
	for at := 0; ; at += len(marker) {
		i := strings.Index(string(buf[at:]), marker)
		if i < 0 {
			return batch
		}
		at += i
		batch.draws = append(batch.draws, buf[at:at+len(marker)])
	}
}

// draw puts random numbers below most where they belong.
func (r *requestBatch) draw(most uint32) {
	for _, p := range r.draws {
		n := rand.Uint32N(most)
		copy(p, "0000000")
		for i := len(p) - 1; i >= 7; i-- {
			p[i] = '0' + byte(n%10)
			n /= 10
		}
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
