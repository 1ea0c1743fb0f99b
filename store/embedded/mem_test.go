package embedded

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestMemoryIsAccounted holds what INFO calls used_memory against the heap.
func TestMemoryIsAccounted(t *testing.T) {
	const n = 30_000
	for _, tc := range []struct {
		name string
		line func(i int) string
	}{
		{"strings of 64", func(i int) string { return fmt.Sprintf("set key:%012d %s", i, strings.Repeat("x", 64)) }},
		{"numbers", func(i int) string { return fmt.Sprintf("set key:%012d %d", i, i) }},
		{"strings of 1000 with TTL", func(i int) string {
			return fmt.Sprintf("set key:%012d %s ex 10000", i, strings.Repeat("x", 1000))
		}},
		{"hashes of 10", func(i int) string {
			return fmt.Sprintf("hset key:%012d a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9 j %d", i, i)
		}},
		{"hashes of 200", func(i int) string { return fmt.Sprintf("hset key:%012d field:%d value:%d", i%(n/200), i, i) }},
		{"lists of 10", func(i int) string { return fmt.Sprintf("rpush key:%012d a b c d e f g h i value:%d", i, i) }},
		{"one list", func(i int) string { return fmt.Sprintf("rpush key value:%d", i) }},
		{"sets of 10 numbers", func(i int) string { return fmt.Sprintf("sadd key:%012d 1 2 3 4 5 6 7 8 9 %d", i, i%30000) }},
		{"sets of 10", func(i int) string { return fmt.Sprintf("sadd key:%012d a b c d e f g h i member:%d", i, i) }},
		{"sets of 200", func(i int) string { return fmt.Sprintf("sadd key:%012d member:%d", i%(n/200), i) }},
		{"sorted sets of 10", func(i int) string {
			return fmt.Sprintf("zadd key:%012d 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h 9 i %d j", i, i)
		}},
		{"sorted sets of 200", func(i int) string { return fmt.Sprintf("zadd key:%012d %d member:%d", i%(n/200), i, i) }},
		{"streams", func(i int) string { return fmt.Sprintf("xadd key:%012d %d-0 field value", i%(n/10), i+1) }},
		{"one stream", func(i int) string { return fmt.Sprintf("xadd key %d-0 field value%d", i+1, i) }},
		{"HyperLogLogs", func(i int) string { return fmt.Sprintf("pfadd key:%012d a b c d e f g h i j", i) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var before, after runtime.MemStats
			e := newEngine(t, Options{})
			c := newConn(e)
			run(t, c, tc.line(0)) // what the engine takes for itself isn't counted
			run(t, c, "flushall")
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&before)
			for i := range n {
				run(t, c, tc.line(i))
			}
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&after)
			heap, counted := float64(after.HeapAlloc-before.HeapAlloc), float64(e.Info().Memory)
			t.Logf("%.0f bytes a key, counted %.0f (%.2f)", heap/n, counted/n, counted/heap)
			if r := counted / heap; r < 0.9 || r > 1.1 {
				t.Errorf("counted %.0f of %.0f bytes: %.2f", counted, heap, r)
			}
			runtime.KeepAlive(e)
		})
	}
}

// TestMemoryIsAccountedAtAnySize does the same for values of 10 bytes to 100 kB in all types.
func TestMemoryIsAccountedAtAnySize(t *testing.T) {
	kinds := map[string]func(key, value string, i int) string{
		"string": func(key, value string, i int) string { return fmt.Sprintf("set %s:%d %s", key, i, value) },
		"append": func(key, value string, i int) string { return fmt.Sprintf("append %s %s", key, value) },
		"hash":   func(key, value string, i int) string { return fmt.Sprintf("hset %s field%d %s", key, i, value) },
		"list":   func(key, value string, i int) string { return fmt.Sprintf("rpush %s %s", key, value) },
		"set":    func(key, value string, i int) string { return fmt.Sprintf("sadd %s %d%s", key, i, value) },
		"zset":   func(key, value string, i int) string { return fmt.Sprintf("zadd %s %d %d%s", key, i, i, value) },
		"stream": func(key, value string, i int) string { return fmt.Sprintf("xadd %s %d-1 field %s", key, i+1, value) },
	}
	const perKey = 10
	for name, line := range kinds {
		for _, size := range []int{10, 100, 1000, 10_000, 100_000} {
			t.Run(fmt.Sprintf("%s of %d", name, size), func(t *testing.T) {
				var before, after runtime.MemStats
				e := newEngine(t, Options{})
				c := newConn(e)
				run(t, c, line("warm", "up", 0))
				runtime.GC()
				runtime.GC() // what pools keep goes with the second one
				runtime.ReadMemStats(&before)
				counted := -float64(e.Info().Memory)
				keys := max(2<<20/(size+50)/perKey, 3)
				for k := range keys {
					for i := range perKey {
						length := size*3/4 + (k*perKey+i)*37%(size/2) // the classes of allocations differ
						run(t, c, line(fmt.Sprintf("key:%d", k), strings.Repeat("x", length), i))
					}
				}
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&after)
				heap := float64(after.HeapAlloc - before.HeapAlloc)
				counted += float64(e.Info().Memory)
				t.Logf("%.0f bytes a key, counted %.0f (%.2f)", heap/float64(keys), counted/float64(keys), counted/heap)
				if r := counted / heap; r < 0.9 || r > 1.1 {
					t.Errorf("%.0f bytes a key, counted %.0f: %.2f", heap/float64(keys), counted/float64(keys), r)
				}
				runtime.KeepAlive(e)
			})
		}
	}
}
