package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"respmesh/test/bench/program"
	"respmesh/test/dev"
)

// reading is a server that GETs are sent to.
type reading struct {
	side
	addr string
	half float64 // commands a second: half of what it reaches
	stop func()
	log  func() string
}

// mix is what is written beside the GETs.
type mix struct {
	name   string
	writes float64 // share of the commands
	begins string
	keys   int
	value  []byte
}

// measureGets measures GETs with many keys, alone and with some writes.
func measureGets(ctx context.Context, o options, sides []side) error {
	var all []*reading
	defer func() {
		for _, r := range all {
			r.stop()
		}
	}()
	value := bytes.Repeat([]byte("x"), o.size)
	for _, s := range sides {
		r, err := startReading(ctx, o, s)
		if err != nil {
			return err
		}
		all = append(all, r)
		if err := fill(ctx, dialTCP(r.addr), o.keys, value); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, "get: %s has %d keys\n", s.name, o.keys)
	}
	before := program.Load()
	reached := newColumns(sides)
	for range 3 { // who comes first may find a busy moment
		for _, r := range all {
			rate, err := reaches(ctx, r.addr, o)
			if err != nil {
				return err
			}
			reached.add(r.side, "GETs a second", rate)
			r.half = max(r.half, rate/2)
		}
	}
	mixes := []mix{
		{name: "GET only", keys: 1},
		{name: "9 GET, 1 SET", writes: 0.1, begins: "key:", keys: o.keys, value: value},
		// So much garbage that it is collected every few seconds.
		{name: "9 GET, 1 SET of 32 kB", writes: 0.1, begins: "big:", keys: 1000, value: bytes.Repeat([]byte("x"), 32<<10)},
	}
	if o.mix > 0 {
		mixes = mixes[o.mix-1 : o.mix]
	}
	table := newColumns(sides)
	for n := range o.repeats {
		for _, m := range mixes {
			for _, r := range all {
				t, err := r.measure(ctx, o, m)
				if err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
				for _, p := range []float64{0.5, 0.99, 0.999} {
					table.add(r.side, fmt.Sprintf("%s: p%g of a GET, ms", m.name, p*100), ms(share(t.gets, p)))
				}
				table.add(r.side, m.name+": the slowest GET, ms", ms(share(t.gets, 1)))
				fmt.Fprintf(os.Stderr, "%d/%d %s, %s, %.0f/s: p50 %v p99 %v p99.9 %v max %v; sent late p99.9 %v\n", n+1, o.repeats, r.name, m.name, r.half,
					share(t.gets, .5), share(t.gets, .99), share(t.gets, .999), share(t.gets, 1), share(t.late, .999))
				if o.trace && r.log != nil {
					fmt.Fprintln(os.Stderr, r.log())
				}
			}
		}
	}
	fmt.Printf("GETs at half of what each server reaches with 50 connections, %d keys with values of %d bytes, %d connections, %d runs of %v, alternating; load average %.2f before and %.2f after.\n\n",
		o.keys, o.size, o.conns, o.repeats, o.length, before, program.Load())
	reached.print()
	table.print()
	return nil
}

func startReading(ctx context.Context, o options, s side) (*reading, error) {
	if s.binary == "" {
		redis, err := startRedis(ctx)
		if err != nil {
			return nil, err
		}
		return &reading{side: s, addr: redis.addr, stop: redis.stop}, nil
	}
	var env []string
	if o.trace {
		env = append(env, "GODEBUG=gctrace=1")
	}
	p, err := dev.Start(ctx, dev.Options{Binary: s.binary, Args: []string{"--regions", "mad"}, Env: env})
	if err != nil {
		return nil, err
	}
	shown := 0
	return &reading{side: s, addr: p.Regions[0].RESP, stop: p.Kill, log: func() string {
		all := p.Stderr()
		defer func() { shown = len(all) }()
		return all[shown:]
	}}, nil
}

// reaches asks redis-benchmark how many GETs a second there are.
func reaches(ctx context.Context, addr string, o options) (float64, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, "redis-benchmark", "-h", host, "-p", port, "--csv", "-c", "50", "-n", "100000", "-r", strconv.Itoa(o.keys),
		"GET", "key:__rand_int__").Output()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields, err := csv.NewReader(strings.NewReader(lines[len(lines)-1])).Read()
	if err != nil || len(fields) < 2 {
		return 0, fmt.Errorf("redis-benchmark prints %q", out)
	}
	return strconv.ParseFloat(fields[1], 64)
}

func (r *reading) measure(ctx context.Context, o options, m mix) (taken, error) {
	fds, closeAll, err := connect(ctx, dialTCP(r.addr), o.conns)
	if err != nil {
		return taken{}, err
	}
	defer closeAll()
	p := &pace{fds: fds, rate: r.half, writes: m.writes, keys: o.keys, begins: m.begins, written: m.keys, value: m.value}
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	if _, err := p.run(200*time.Millisecond, &stop); err != nil { // the first ones say little
		return taken{}, err
	}
	return p.run(o.length, &stop)
}
