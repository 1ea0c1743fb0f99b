package embedded

import (
	"context"
	"strings"
	"testing"

	"respmesh/resp/command"
)

// TestAllocations: a command on a key that is there allocates nothing but a value that doesn't fit where the old one was.
func TestAllocations(t *testing.T) {
	value, other := strings.Repeat("x", 64), strings.Repeat("y", 100)
	for _, tc := range []struct {
		name  string
		lines []string // take turns
		want  float64  // of all of them
	}{
		{"GET", []string{"get key"}, 0},
		{"GET of a number", []string{"get n"}, 0},
		{"GET of nothing", []string{"get nothing"}, 0},
		{"SET", []string{"set key " + value}, 0},
		{"SET of another size", []string{"set key " + value, "set key " + other}, 2},
		{"SET of a number", []string{"set n 12345678"}, 0},
		{"MGET", []string{"mget" + strings.Repeat(" key", 10)}, 0},
		{"INCR", []string{"incr n"}, 0},
		{"LPUSH and LPOP", []string{"lpush l " + value, "lpop l"}, 0},
		{"SADD", []string{"sadd s member"}, 0},
		{"HSET", []string{"hset h field " + value}, 0},
		{"ZADD", []string{"zadd z 1 member", "zadd z 2 member"}, 0},
		{"LRANGE", []string{"lrange l 0 -1"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConn(newEngine(t, Options{Sink: discard{}, MaxMemory: 1 << 30}))
			for _, line := range []string{"set key " + value, "set n 1000000", "rpush l a b c", "sadd s member", "hset h field " + value, "zadd z 1 member"} {
				run(t, c, line)
			}
			var one [][]command.Request
			for _, line := range tc.lines {
				one = append(one, batch(t, line, 1))
			}
			out := make([]byte, 0, 4<<10)
			if got := testing.AllocsPerRun(500, func() {
				for _, reqs := range one {
					out = c.Do(context.Background(), out[:0], reqs)
				}
			}); got > tc.want {
				t.Errorf("%v allocations, want %v", got, tc.want)
			}
			many := batch(t, tc.lines[0], 16)
			if got := testing.AllocsPerRun(100, func() { out = c.Do(context.Background(), out[:0], many) }); got > 0 && len(tc.lines) == 1 {
				t.Errorf("%v allocations for 16 at once, want none", got)
			}
		})
	}
}
