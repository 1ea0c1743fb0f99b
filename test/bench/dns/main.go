// Command dns compares the resolver with unbound, by dnsperf over loopback, and prints Markdown.
//
// Both serve the same names from memory, as one process on one core; dnsperf has the other one. They are measured in turn, so
// that a slow minute of the machine hits both. What counts are the ratios: also of queries per second of processor time, which
// other work on the machine changes least.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"respmesh/test/bench/figures"
	"respmesh/test/bench/program"
)

func main() { program.Main("bench/dns", run) }

type options struct {
	serve   bool
	repeats int
	seconds int
	clients int
}

func run(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("dns", flag.ContinueOnError)
	f.BoolVar(&o.serve, "serve", false, "serve until the end of standard input; what the command starts itself")
	f.IntVar(&o.repeats, "repeats", 3, "runs of each")
	f.IntVar(&o.seconds, "seconds", 4, "how long each run takes")
	f.IntVar(&o.clients, "clients", 20, "dnsperf's clients")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.serve {
		return serve(os.Stdin, os.Stdout)
	}
	for _, tool := range []string{"dnsperf", "unbound", "taskset"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing: run scripts/install-test-deps", tool)
		}
	}
	dir, err := os.MkdirTemp("", "bench-dns-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	queries := filepath.Join(dir, "queries")
	if err := os.WriteFile(queries, []byte(strings.Join(questions(), "\n")+"\n"), 0o600); err != nil {
		return err
	}
	own, err := startOwn(ctx)
	if err != nil {
		return err
	}
	defer own.stop()
	unbound, err := startUnbound(ctx, dir)
	if err != nil {
		return err
	}
	defer unbound.stop()
	results := map[*server][]result{}
	for range o.repeats {
		for _, s := range []*server{own, unbound} {
			r, err := s.measure(ctx, o, queries)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			results[s] = append(results[s], r)
		}
	}
	report(o, own, unbound, results)
	return nil
}

// result is one run of dnsperf.
type result struct {
	perSecond float64 // queries
	perCPU    float64 // … per second of the server's processor time
	latency   float64 // milliseconds, the mean
	lost      float64 // percent
}

type server struct {
	name string
	port string
	cmd  *exec.Cmd
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

var printed = regexp.MustCompile(`(?m)^\s*(Queries per second|Average Latency \(s\)|Queries lost|Queries completed):\s+([\d.]+)(?:\s+\(([\d.]+)%\))?`)

func (s *server) measure(ctx context.Context, o options, queries string) (r result, err error) {
	before, err := processorTime(s.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	out, err := exec.CommandContext(ctx, "taskset", "-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", s.port, "-d", queries,
		"-l", strconv.Itoa(o.seconds), "-c", strconv.Itoa(o.clients), "-T", "1", "-e").CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	after, err := processorTime(s.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	var completed float64
	for _, m := range printed.FindAllStringSubmatch(string(out), -1) {
		n, _ := strconv.ParseFloat(m[2], 64)
		switch m[1] {
		case "Queries per second":
			r.perSecond = n
		case "Average Latency (s)":
			r.latency = n * 1000
		case "Queries lost":
			r.lost, _ = strconv.ParseFloat(m[3], 64)
		case "Queries completed":
			completed = n
		}
	}
	if r.perSecond == 0 || completed == 0 {
		return r, fmt.Errorf("dnsperf printed no figures: %s", out)
	}
	r.perCPU = completed / (after - before).Seconds()
	return r, nil
}

// processorTime is what a process has used so far.
func processorTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // user and system, in hundredths
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func report(o options, own, other *server, results map[*server][]result) {
	median := func(s *server, of func(result) float64) float64 {
		return figures.Median(figures.Of(results[s], of))
	}
	fmt.Printf("Medians of %d runs of %d s, one core each for server and dnsperf.\n\n| | %s | %s | ratio |\n|---|---|---|---|\n", o.repeats, o.seconds, own.name, other.name)
	for _, row := range []struct {
		name string
		of   func(result) float64
	}{
		{"queries per second", func(r result) float64 { return r.perSecond }},
		{"queries per second of processor time", func(r result) float64 { return r.perCPU }},
		{"mean latency, ms", func(r result) float64 { return r.latency }},
		{"lost, %", func(r result) float64 { return r.lost }},
	} {
		a, b := median(own, row.of), median(other, row.of)
		ratio := "-"
		if b != 0 {
			ratio = fmt.Sprintf("%.2f", a/b)
		}
		fmt.Printf("| %s | %.4g | %.4g | %s |\n", row.name, a, b, ratio)
	}
}
