package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/tidwall/resp"
)

// keys is the number of different keys; small enough to fill quickly, too many for one hot line.
const keys = "10000"

// workload is a command as redis-benchmark sends it.
type workload struct {
	args   []string
	forget string   // a key that goes before each run: it would grow
	fill   []string // a command that is executed before each run, times times
	times  int
	most   int // requests of a run; 0: any number
}

// commands are all that can be measured, in the order of the report.
func commands() []string {
	return []string{"GET", "SET", "INCR", "LPUSH", "LPOP", "SADD", "HSET", "ZADD", "XADD", "MGET", "LRANGE", "EVAL"}
}

func workloads(size int) map[string]workload {
	value := strings.Repeat("x", size)
	values := func(n int) []string { return strings.Fields(strings.Repeat(value+" ", n)) }
	return map[string]workload{
		"GET":   {args: []string{"GET", "key:__rand_int__"}},
		"SET":   {args: []string{"SET", "key:__rand_int__", value}},
		"INCR":  {args: []string{"INCR", "counter:__rand_int__"}},
		"LPUSH": {args: []string{"LPUSH", "bench:list", value}, forget: "bench:list"},
		"LPOP":  {args: []string{"LPOP", "bench:queue"}, forget: "bench:queue", fill: append([]string{"LPUSH", "bench:queue"}, values(1000)...), times: 400, most: 400_000},
		"SADD":  {args: []string{"SADD", "bench:set", "element:__rand_int__"}},
		"HSET":  {args: []string{"HSET", "bench:hash", "element:__rand_int__", value}},
		"ZADD":  {args: []string{"ZADD", "bench:zset", "__rand_int__", "element:__rand_int__"}},
		"XADD":  {args: []string{"XADD", "bench:stream", "*", "field", value}, forget: "bench:stream"},
		"MGET":  {args: append([]string{"MGET"}, strings.Fields(strings.Repeat("key:__rand_int__ ", 10))...)},
		"LRANGE": {args: []string{"LRANGE", "bench:hundred", "0", "99"}, forget: "bench:hundred",
			fill: append([]string{"LPUSH", "bench:hundred"}, values(100)...), times: 1},
		"EVAL": {args: []string{"EVAL", "return redis.call('incr',KEYS[1])", "1", "counter:__rand_int__"}},
	}
}

// reset prepares a target for a run.
func (w workload) reset(ctx context.Context, t *target) error {
	if w.forget == "" {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(t.host, t.port))
	if err != nil {
		return err
	}
	defer conn.Close()
	r := resp.NewReader(conn)
	if _, err := call(conn, r, "DEL", w.forget); err != nil {
		return err
	}
	args := make([]any, len(w.fill))
	for i, a := range w.fill {
		args[i] = a
	}
	for range w.times {
		if _, err := call(conn, r, args...); err != nil {
			return fmt.Errorf("%s: %w", w.fill[0], err)
		}
	}
	return nil
}

// memoryKinds are what the bytes per key are compared of.
func memoryKinds(size int) []struct {
	name string
	line func(i int) []any
} {
	value := strings.Repeat("x", size)
	ten := func(command string, item func(j int) []any) func(i int) []any {
		return func(i int) []any {
			line := []any{command, fmt.Sprintf("%s:%012d", command, i)}
			for j := range 10 {
				line = append(line, item(j)...)
			}
			return line
		}
	}
	member := func(j int) string { return fmt.Sprintf("member:%d", j) }
	return []struct {
		name string
		line func(i int) []any
	}{
		{fmt.Sprintf("string of %d bytes", size), func(i int) []any { return []any{"SET", fmt.Sprintf("string:%012d", i), value} }},
		{"hash of 10", ten("HSET", func(j int) []any { return []any{member(j), fmt.Sprintf("value:%d", j)} })},
		{"list of 10", ten("RPUSH", func(j int) []any { return []any{member(j)} })},
		{"set of 10", ten("SADD", func(j int) []any { return []any{member(j)} })},
		{"sorted set of 10", ten("ZADD", func(j int) []any { return []any{j, member(j)} })},
	}
}

// memoryKeys is how many of each kind are made.
const memoryKeys = 50_000

// memory is the bytes that each kind of key takes at a target, by its own INFO.
func memory(ctx context.Context, t *target, size int) ([]float64, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(t.host, t.port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := resp.NewReader(conn)
	if _, err := call(conn, r, "FLUSHALL"); err != nil {
		return nil, err
	}
	var out []float64
	before, err := usedMemory(conn, r)
	if err != nil {
		return nil, err
	}
	for _, kind := range memoryKinds(size) {
		const batch = 500
		for i := 0; i < memoryKeys; i += batch {
			var p []byte
			for j := i; j < i+batch; j++ {
				line := kind.line(j)
				raw, err := resp.MultiBulkValue(line[0].(string), line[1:]...).MarshalRESP()
				if err != nil {
					return nil, err
				}
				p = append(p, raw...)
			}
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := conn.Write(p); err != nil {
				return nil, err
			}
			for range batch {
				if v, _, err := r.ReadValue(); err != nil || v.Type() == resp.Error {
					return nil, fmt.Errorf("%s: %v %w", kind.name, v, err)
				}
			}
		}
		after, err := usedMemory(conn, r)
		if err != nil {
			return nil, err
		}
		out = append(out, (after-before)/memoryKeys)
		before = after
	}
	_, err = call(conn, r, "FLUSHALL")
	return out, err
}

func usedMemory(conn net.Conn, r *resp.Reader) (float64, error) {
	v, err := call(conn, r, "INFO", "memory")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(v.String()) {
		if n, ok := strings.CutPrefix(line, "used_memory:"); ok {
			var f float64
			_, err := fmt.Sscan(strings.TrimSpace(n), &f)
			return f, err
		}
	}
	return 0, fmt.Errorf("INFO says no used_memory")
}
