package embedded

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"respmesh/resp/command"
)

// A batch's commands share readings of the clock, yet each is counted, and the slow log names the one that took long.
func TestBatchIsCountedExactly(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	want(t, c, "config set slowlog-log-slower-than 1000", "+OK\r\n")
	var reqs []command.Request
	add := func(n int, line string) {
		for range n {
			reqs = append(reqs, request(words(t, line)...))
		}
	}
	add(1, "config resetstat")
	add(40, "set k 1")
	add(7, "get k")
	add(3, "lpush k v") // fails
	add(5, "hget h f")
	add(1, `eval "local n = 0 for i = 1, 1e6 do n = n + i end return redis.call('incr','k')" 0`)
	add(6, "incr k")
	add(50, "ping")
	c.Do(context.Background(), nil, reqs)
	stats := run(t, c, "info commandstats")
	for name, calls := range map[string]int{"set": 40, "get": 7, "lpush": 3, "hget": 5, "eval": 1, "incr": 7, "ping": 50} {
		if !strings.Contains(stats, fmt.Sprintf("cmdstat_%s:calls=%d,", name, calls)) {
			t.Errorf("%s isn't counted %d times: %s", name, calls, stats)
		}
		// As many are in the histogram.
		if got := run(t, c, "latency histogram "+name); !strings.Contains(got, fmt.Sprintf("$5\r\ncalls\r\n:%d\r\n", calls)) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if !strings.Contains(stats, "failed_calls=3") {
		t.Errorf("lpush's failures aren't counted: %s", stats)
	}
	if got := run(t, c, "slowlog get 100"); !strings.Contains(got, "eval") {
		t.Errorf("the slow command isn't in the log: %q", got)
	}
}

func TestSlowlogOfAllTimesEachCommand(t *testing.T) {
	c := newConn(newEngine(t, Options{}))
	run(t, c, "config set slowlog-log-slower-than 0")
	run(t, c, "slowlog reset")
	c.Do(context.Background(), nil, batch(t, "get k", 20))
	want(t, c, "slowlog len", ":21\r\n") // with the reset
}

func TestBatchOfManyKindsIsCounted(t *testing.T) {
	c := newConn(newEngine(t, Options{}))
	var reqs []command.Request
	for range 10 {
		for _, l := range []string{"get a", "set b 1", "incr c", "lpush d 1", "sadd e 1", "hset f 1 1", "zadd g 1 1", "llen d"} {
			reqs = append(reqs, request(words(t, l)...))
		}
	}
	c.Do(context.Background(), nil, reqs)
	if got := run(t, c, "info commandstats"); strings.Count(got, "calls=10,") != 8 {
		t.Error(got)
	}
}

func TestClockFollowsTheWall(t *testing.T) {
	var c clockBase
	c.init(nil)
	c.offset.Add(int64(time.Hour)) // as if the wall had been set back since
	for tick := c.tick(); ; tick = c.tick() {
		if d := time.Until(time.UnixMilli(c.unixMilli(tick))); d < time.Minute {
			if d < -2*time.Second {
				t.Errorf("%v off", d)
			}
			break
		}
		if tick > int64(10*time.Second) {
			t.Fatal("a change of the wall's clock isn't seen")
		}
	}
}

// An error that COMMAND makes by itself counts like any other.
func TestCommandErrorsCount(t *testing.T) {
	c := newConn(newEngine(t, Options{}))
	want(t, c, "command list filterby pattern", "-ERR syntax error\r\n")
	if got := run(t, c, "info errorstats"); !strings.Contains(got, "errorstat_ERR:count=1") {
		t.Errorf("%q", got)
	}
}
