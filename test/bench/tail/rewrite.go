package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"respmesh/test/bench/program"
	"respmesh/test/dev"
)

// measureRewrites measures writes while the append-only file is written anew.
func measureRewrites(ctx context.Context, o options, sides []side) error {
	before := program.Load()
	table := newColumns(sides)
	for n := range o.repeats {
		for _, s := range sides {
			if err := rewriteOnce(ctx, o, s, table); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			fmt.Fprintf(os.Stderr, "%d/%d %s: %s\n", n+1, o.repeats, s.name, table.last(s))
		}
	}
	fmt.Printf("Half SET, half GET, %.0f commands a second over %d connections, while an append-only file of %d MB is written anew (BGREWRITEAOF), appendfsync everysec; "+
		"%d runs, each with servers of its own, alternating; load average %.2f before and %.2f after.\n\n", o.rate, o.conns, o.megabytes, o.repeats, before, program.Load())
	table.print()
	return nil
}

func rewriteOnce(ctx context.Context, o options, s side, table *columns) error {
	var dial dialer
	var rewriting func() (bool, error)
	if s.binary == "" {
		redis, err := startRedis(ctx, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
		if err != nil {
			return err
		}
		defer redis.stop()
		dial = dialTCP(redis.addr)
		rewriting = func() (bool, error) {
			text, err := ask(ctx, dial, time.Minute, "INFO", "persistence")
			return !strings.Contains(text, "aof_rewrite_in_progress:0") || !strings.Contains(text, "aof_rewrite_scheduled:0"), err
		}
	} else {
		dir, err := os.MkdirTemp("", "respmesh-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		p, err := dev.Start(ctx, dev.Options{Binary: s.binary, Args: []string{"--regions", "mad", "--data", dir}})
		if err != nil {
			return err
		}
		defer p.Kill()
		dial = dialTCP(p.Regions[0].RESP)
		rewriting = func() (bool, error) { // the base is under its own name at the end
			found := false
			err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
				found = found || strings.HasPrefix(filepath.Base(path), "temp-rewriteaof")
				if os.IsNotExist(err) {
					err = nil
				}
				return err
			})
			return found, err
		}
	}
	keys := o.megabytes << 20 / 1000
	value := bytes.Repeat([]byte("x"), 1000)
	if err := fill(ctx, dial, keys, value); err != nil {
		return err
	}
	// What filling it has begun, which may be followed by another one.
	for quiet := time.Now(); time.Since(quiet) < 2*time.Second; {
		yes, err := rewriting()
		if err != nil {
			return err
		}
		if yes {
			if err := whileTrue(ctx, rewriting); err != nil {
				return err
			}
			quiet = time.Now()
		}
	}
	p := o.half(value, keys)
	calm, err := p.over(ctx, dial, nil)
	if err != nil {
		return err
	}
	meanwhile, err := p.over(ctx, dial, func() error {
		if _, err := ask(ctx, dial, time.Minute, "BGREWRITEAOF"); err != nil {
			return err
		}
		return whileTrue(ctx, rewriting)
	})
	if err != nil {
		return err
	}
	table.note(s, calm, meanwhile)
	return nil
}

// half is a load of half SETs.
func (o options) half(value []byte, keys int) *paced {
	return &paced{conns: o.conns, calmly: 3 * time.Second, pace: pace{rate: o.rate, writes: 0.5, keys: keys, begins: "key:", written: keys, value: value}}
}

// paced is a pace with connections of its own.
type paced struct {
	pace
	conns  int
	calmly time.Duration // how long it runs by itself
}

// outcome is what was seen, and for how long.
type outcome struct {
	taken
	took time.Duration
}

// over runs as long as the work does, or for a while if there is none.
func (p *paced) over(ctx context.Context, dial dialer, work func() error) (o outcome, err error) {
	fds, closeAll, err := connect(ctx, dial, p.conns)
	if err != nil {
		return o, err
	}
	defer closeAll()
	p.fds = fds
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	if work == nil {
		if _, err := p.run(p.calmly, &stop); err != nil { // until what has been loaded is on the disk
			return o, err
		}
		o.taken, err = p.run(p.calmly, &stop)
		return o, err
	}
	failed := make(chan error, 1)
	began := time.Now()
	go func() {
		failed <- work()
		stop.Store(true)
	}()
	o.taken, err = p.run(10*time.Minute, &stop)
	o.took = time.Since(began)
	if err != nil {
		return o, err
	}
	return o, <-failed
}

// whileTrue asks ten times a second.
func whileTrue(ctx context.Context, under func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if yes, err := under(); err != nil || !yes {
			return err
		}
	}
}

func (c *columns) note(s side, calm, meanwhile outcome) {
	for _, w := range []struct {
		name string
		outcome
	}{{"before", calm}, {"meanwhile", meanwhile}} {
		all := append(append([]time.Duration(nil), w.gets...), w.sets...)
		c.add(s, "p50 "+w.name+", ms", ms(share(all, 0.5)))
		c.add(s, "p99 "+w.name+", ms", ms(share(all, 0.99)))
		c.add(s, "p99.9 "+w.name+", ms", ms(share(all, 0.999)))
		c.add(s, "the slowest SET "+w.name+", ms", ms(share(w.sets, 1)))
	}
	c.add(s, "it takes, s", meanwhile.took.Seconds())
}

// last is the last run's figures in a line.
func (c *columns) last(s side) string {
	var b strings.Builder
	for _, name := range c.names {
		if runs := c.runs[s.name+name]; len(runs) > 0 {
			fmt.Fprintf(&b, "%s %.3g; ", name, runs[len(runs)-1])
		}
	}
	return strings.TrimSuffix(b.String(), "; ")
}
