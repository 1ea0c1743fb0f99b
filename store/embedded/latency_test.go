package embedded

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Twelve steps of height from the lowest value to the highest, three in a row of characters.
func TestSparkline(t *testing.T) {
	s := sparkline{values: []int64{101, 200, 300, 500, 400}, labels: []string{"15s", "14s", "12s", "8s", "6s"}}
	const want = "" +
		"   # \n" +
		"   |#\n" +
		"  #||\n" +
		"_#|||\n" +
		"     \n" +
		"11186\n" +
		"542ss\n" +
		"sss  \n"
	if got := s.render(80, 4); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What LATENCY says of the spikes that a redis-server has had is what that says.
func TestLatencyReports(t *testing.T) {
	real := dialReal(t)
	ask := func(line string) string { return string(real.do(t, words(t, line))) }
	e := newEngine(t, Options{})
	c := newConn(e)
	compare := func(line string) {
		t.Helper()
		for try := 0; ; try++ { // the second may be over in between
			want, got := withoutHugePages(ask(line)), run(t, c, line)
			if want == got {
				return
			}
			if try == 3 {
				t.Fatalf("%s: got %q, want %q", line, got, want)
			}
		}
	}
	ask("latency reset")
	defer ask("config set latency-monitor-threshold 0")
	for _, line := range []string{"latency doctor", "latency graph nosuch", "latency graph", "latency doctor x", "memory purge", "memory purge x"} {
		compare(line)
	}
	compare("config set latency-monitor-threshold 10 slowlog-log-slower-than 20000")
	for _, seconds := range []string{"0.03", "1.02", "0.05"} { // so that there are two of different seconds at least
		ask("debug sleep " + seconds)
	}
	e.latency.mu.Lock()
	e.latency.events = map[string]*latencyEvent{}
	e.latency.mu.Unlock()
	for _, ev := range regexp.MustCompile(`\*4\r\n\$\d+\r\n(.+)\r\n:\d+\r\n:\d+\r\n:(\d+)`).FindAllStringSubmatch(ask("latency latest"), -1) {
		if ev[1] != "command" { // the machine is slow, and Redis has advice about that
			ask("latency reset " + ev[1])
			continue
		}
		event := &latencyEvent{max: number(t, ev[2])}
		for _, s := range regexp.MustCompile(`\*2\r\n:(\d+)\r\n:(\d+)`).FindAllStringSubmatch(ask("latency history command"), -1) {
			event.samples = append(event.samples, latencySample{number(t, s[1]), number(t, s[2])})
		}
		e.latency.mu.Lock()
		e.latency.events[ev[1]] = event
		e.latency.mu.Unlock()
	}
	compare("latency graph command")
	compare("latency doctor")
	ask("config set slowlog-log-slower-than -1")
	run(t, c, "config set slowlog-log-slower-than -1")
	compare("latency doctor")
	ask("config set slowlog-log-slower-than 10000")
}

// withoutHugePages takes a piece of advice out of LATENCY DOCTOR's answer.
func withoutHugePages(reply string) string {
	_, rest, _ := strings.Cut(reply, "\r\n")
	kept := regexp.MustCompile(`(?m)^- I detected a non zero amount of anonymous huge pages.*\n`).ReplaceAllString(rest, "")
	if kept == rest {
		return reply
	}
	return fmt.Sprintf("$%d\r\n%s", len(kept)-2, kept)
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
