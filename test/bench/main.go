// Command bench compares a mesh with a plain redis-server on the same machine, by redis-benchmark, and prints Markdown.
//
// Three targets are measured in turn, so that a slow minute of the machine hits all of them: (a) redis-server directly,
// (b) the primary's region, (c) a replica's region. Ratios to (a) are what counts; absolute figures are the machine's. A
// replica's region answers GET itself, while each SET takes a round trip to the primary over the relay's WAN.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"respmesh/test/dev"
)

// Reads behind own writes: this many sessions at a time, with this many each.
const (
	readers   = 20
	readsEach = 25
)

type options struct {
	binary  string
	regions string
	replica string
	repeats int
	seconds float64
	clients int
	size    int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.binary, "binary", "bin/respmesh", "the program")
	f.StringVar(&o.regions, "regions", "mad,ams,nrt", "regions of the mesh; the first one is the primary's")
	f.StringVar(&o.replica, "replica", "nrt", "the replica's region that is measured")
	f.IntVar(&o.repeats, "repeats", 3, "runs of each cell")
	f.Float64Var(&o.seconds, "seconds", 2, "about how long each run takes")
	f.IntVar(&o.clients, "clients", 50, "connections")
	f.IntVar(&o.size, "size", 64, "bytes of a value")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", f.Arg(0))
	}

	redis, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer redis.stop()
	mesh, err := dev.Start(ctx, dev.Options{Binary: o.binary, Args: []string{"--regions", o.regions}})
	if err != nil {
		return err
	}
	defer mesh.Kill()
	var replica dev.Region
	for _, r := range mesh.Regions {
		if r.Code == o.replica {
			replica = r
		}
	}
	if replica.Role != "replica" {
		return fmt.Errorf("%s holds no replica", o.replica)
	}

	b := bench{options: o, mesh: mesh, targets: []target{
		{"redis-server", redis.host, redis.port, nil},
		{"primary's region (" + mesh.Regions[0].Code + ")", mesh.Regions[0].Host(), mesh.Regions[0].Port(), nil},
		{"replica's region (" + replica.Code + ")", replica.Host(), replica.Port(), nil},
	}}
	fmt.Fprintf(os.Stderr, "about %.0f s\n", float64(len(cells)*len(b.targets)*o.repeats)*o.seconds*1.8+30)
	if err := b.measure(ctx); err != nil {
		return err
	}
	if err := b.inSync(ctx); err != nil {
		return err
	}
	writes, err := writeLatency(ctx, replica, 100)
	if err != nil {
		return err
	}
	before, err := mesh.Metrics(ctx, "ryw_wait_seconds")
	if err != nil {
		return err
	}
	if err := readBehindWrites(ctx, replica, readers, readsEach); err != nil {
		return err
	}
	after, err := mesh.Metrics(ctx, "ryw_wait_seconds")
	if err != nil {
		return err
	}
	report(os.Stdout, &b, redis.version, replica, writes, since(before, after), strings.Join(args, " "))
	_, err = mesh.Stop(os.Interrupt, 10*time.Second)
	return err
}
