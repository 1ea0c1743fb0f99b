package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"respmesh/test/dev"
)

// target is who is asked.
type target struct {
	name, host, port string
	pid              int  // of the process whose processor time counts
	remote           bool // its writes take a round trip over the WAN
	engine           bool // executes commands itself: all of them are compared
	runs             map[cell][]result
}

// cell is one thing to measure.
type cell struct {
	command string
	depth   int
	clients int
}

// result is one run of redis-benchmark.
type result struct {
	rate     float64 // commands per second
	p50, p99 float64 // ms
	cpu      float64 // microseconds of processor time per command
}

type bench struct {
	options
	mesh    *dev.Process
	targets []*target
	missing []string // peers that aren't on this machine
}

// fits tells whether a cell is measured at a target.
func (b *bench) fits(t *target, c cell) bool {
	if t.remote && c.command != "GET" && c.command != "SET" {
		return false
	}
	return t.engine || c.command == "GET" || c.command == "SET"
}

// prepare gives all targets the keys that are read.
func (b *bench) prepare(ctx context.Context) error {
	for _, t := range b.targets {
		t.runs = map[cell][]result{}
		if t.remote {
			continue // has what the primary has
		}
		if _, err := b.redisBenchmark(ctx, t, cell{"SET", 16, b.clients}, 50000); err != nil {
			return err
		}
	}
	return nil
}

// measure runs each cell at each target in turn, as often as wanted.
func (b *bench) measure(ctx context.Context, cells []cell, repeats int, seconds float64) error {
	for _, c := range cells {
		requests := make([]int, len(b.targets))
		for i, t := range b.targets {
			if !b.fits(t, c) {
				continue
			}
			trial := max(4*c.clients*c.depth, 500)
			r, err := b.redisBenchmark(ctx, t, c, trial)
			if err != nil {
				return err
			}
			if r.rate > 5000 { // a local one: its first requests say little
				if r, err = b.redisBenchmark(ctx, t, c, int(r.rate/5)); err != nil {
					return err
				}
			}
			requests[i] = max(int(r.rate*seconds), trial)
			if most := workloads(b.size)[c.command].most; most > 0 {
				requests[i] = min(requests[i], most)
			}
		}
		for n := range repeats {
			for i, t := range b.targets {
				if requests[i] == 0 {
					continue
				}
				r, err := b.redisBenchmark(ctx, t, c, requests[i])
				if err != nil {
					return err
				}
				t.runs[c] = append(t.runs[c], r)
				fmt.Fprintf(os.Stderr, "%d/%d %s P=%d c=%d %s: %.0f/s, p50 %.3f ms, %.2f µs CPU\n", n+1, repeats, c.command, c.depth, c.clients, t.name, r.rate, r.p50, r.cpu)
			}
		}
	}
	return nil
}

// redisBenchmark is one run.
func (b *bench) redisBenchmark(ctx context.Context, t *target, c cell, requests int) (result, error) {
	w := workloads(b.size)[c.command]
	if err := w.reset(ctx, t); err != nil {
		return result{}, err
	}
	if err := b.inSync(ctx); err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before, err := cpuTime(t.pid)
	if err != nil {
		return result{}, err
	}
	out, err := exec.CommandContext(ctx, "redis-benchmark", append([]string{"-h", t.host, "-p", t.port, "--csv", "-r", keys, "-c", strconv.Itoa(c.clients),
		"-P", strconv.Itoa(c.depth), "-n", strconv.Itoa(requests)}, w.args...)...).Output()
	if err != nil {
		return result{}, fmt.Errorf("redis-benchmark %s against %s: %w\n%s", c.command, t.name, err, out)
	}
	after, err := cpuTime(t.pid)
	if err != nil {
		return result{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields, err := csv.NewReader(strings.NewReader(lines[len(lines)-1])).Read()
	if err != nil || len(fields) < 7 { // test, rps, avg, min, p50, p95, p99, max
		return result{}, fmt.Errorf("redis-benchmark prints %q", out)
	}
	var v [3]float64
	for i, f := range []string{fields[1], fields[4], fields[6]} {
		if v[i], err = strconv.ParseFloat(f, 64); err != nil {
			return result{}, fmt.Errorf("redis-benchmark prints %q", out)
		}
	}
	return result{rate: v[0], p50: v[1], p99: v[2], cpu: float64((after - before).Microseconds()) / float64(requests)}, nil
}
