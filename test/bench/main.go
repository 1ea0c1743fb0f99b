// Command bench compares a mesh with a plain redis-server, and with proxies in front of one, on the same machine, by
// redis-benchmark, and prints Markdown.
//
// All targets are measured in turn, so that a slow minute of the machine hits all of them: redis-server directly, the
// primary's region, a replica's region (which answers GET itself, while each SET takes a round trip over the relay's WAN), and in front
// of the same redis-server twemproxy, HAProxy in TCP mode and respmesh. Ratios to redis-server are what counts, and processor time
// per command, which other work on the machine changes least; absolute figures are the machine's.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"respmesh/test/bench/program"
	"respmesh/test/dev"
)

// Reads behind own writes: this many sessions at a time, with this many each.
const (
	readers   = 20
	readsEach = 25
)

type options struct {
	binary   string
	regions  string
	replica  string
	repeats  int
	seconds  float64
	clients  int
	size     int
	commands []string
	depths   []int
	engine   []int
	plots    string
	loads    int
	load     string
}

func main() { program.Main("bench", run) }

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.binary, "binary", "bin/respmesh", "the program")
	f.StringVar(&o.regions, "regions", "mad,ams,nrt", "regions of the mesh; the first one is the primary's; with one, the engine alone is compared with redis-server")
	f.StringVar(&o.replica, "replica", "nrt", "the replica's region that is measured")
	f.IntVar(&o.repeats, "repeats", 5, "runs of each cell")
	f.Float64Var(&o.seconds, "seconds", 0.6, "about how long each run takes")
	f.IntVar(&o.clients, "clients", 50, "connections")
	f.IntVar(&o.size, "size", 64, "bytes of a value")
	list := f.String("commands", strings.Join(commands(), ","), "commands; those but GET and SET are measured at redis-server and the primary's region only")
	depths := f.String("depths", "1,16", "pipelining of GET and SET")
	engine := f.String("engine-depths", "16", "pipelining of the other commands")
	f.StringVar(&o.plots, "plots", "", "folder for drawings of GET against connections and pipelining; none if empty")
	f.IntVar(&o.loads, "load-mb", 200, "size of the files whose loading is timed; 0: none")
	f.StringVar(&o.load, "load", "", "")
	err := f.Parse(args)
	if err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	for c := range strings.SplitSeq(strings.ToUpper(*list), ",") {
		if !slices.Contains(commands(), c) {
			return o, fmt.Errorf("no command %q: there are %s", c, strings.Join(commands(), ", "))
		}
		o.commands = append(o.commands, c)
	}
	if o.depths, err = numbers(*depths); err == nil {
		o.engine, err = numbers(*engine)
	}
	return o, err
}

func numbers(list string) (out []int, err error) {
	for f := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q isn't a number of commands", f)
		}
		out = append(out, n)
	}
	return out, nil
}

// alone tells whether there is nothing but the primary: its processor time is then the engine's and the gateway's only.
func (o options) alone() bool { return !strings.Contains(o.regions, ",") }

// cells of the table.
func (o options) cells() (out []cell) {
	for _, c := range o.commands {
		depths := o.engine
		if c == "GET" || c == "SET" {
			depths = o.depths
		}
		for _, d := range depths {
			out = append(out, cell{c, d, o.clients})
		}
	}
	return out
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.load != "" {
		return loadChild(o.load)
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
	if !o.alone() && replica.Role != "replica" {
		return fmt.Errorf("%s holds no replica", o.replica)
	}
	b := &bench{options: o, mesh: mesh, targets: []*target{
		{name: "redis-server " + redis.version, host: redis.host, port: redis.port, pid: redis.cmd.Process.Pid, engine: true},
		{name: "primary's region", host: mesh.Regions[0].Host(), port: mesh.Regions[0].Port(), pid: mesh.PID(), engine: true},
	}}
	if !o.alone() {
		b.targets = append(b.targets, &target{name: "replica's region", host: replica.Host(), port: replica.Port(), pid: mesh.PID(), remote: true})
		stop := b.addPeers(ctx, redis)
		defer stop()
	}

	r := &outcome{args: args, begun: program.Load()}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx, o.cells(), o.repeats, o.seconds); err != nil {
		return err
	}
	if err := b.measure(ctx, []cell{single()}, o.repeats, o.seconds/2); err != nil {
		return err
	}
	if o.plots != "" {
		if err := b.draw(ctx, o.plots); err != nil {
			return err
		}
	}
	if !o.alone() {
		if err := b.inSync(ctx); err != nil {
			return err
		}
		if err := r.measureRegion(ctx, mesh, replica); err != nil {
			return err
		}
	}
	for _, t := range b.targets[:2] {
		bytes, err := memory(ctx, t, o.size)
		if err != nil {
			return err
		}
		r.memory = append(r.memory, bytes)
	}
	if _, err := mesh.Stop(os.Interrupt, 10*time.Second); err != nil {
		return err
	}
	if o.loads > 0 {
		if r.loads, err = loadTimes(ctx, o.loads, o.size, min(o.repeats, 3)); err != nil {
			return err
		}
	}
	r.ended = program.Load()
	report(os.Stdout, b, r, replica)
	return nil
}

// single is one connection that waits for each reply: it shows what a hop adds.
func single() cell { return cell{"GET", 1, 1} }

// addPeers starts what else there is in front of redis; what isn't is left out loudly.
func (b *bench) addPeers(ctx context.Context, redis *server) (stop func()) {
	var stops []func()
	missing := func(name string, err error) {
		fmt.Fprintf(os.Stderr, "bench: WITHOUT %s: %v\n", name, err)
		b.missing = append(b.missing, name)
	}
	for _, p := range []struct {
		name  string
		start func(context.Context, *server) (*server, error)
	}{{"twemproxy", startTwemproxy}, {"HAProxy", startHAProxy}} {
		s, err := p.start(ctx, redis)
		if err != nil {
			missing(p.name, err)
			continue
		}
		stops = append(stops, s.stop)
		b.targets = append(b.targets, &target{name: p.name + " " + s.version, host: s.host, port: s.port, pid: s.cmd.Process.Pid})
	}
	const through = "respmesh → redis-server"
	attached, err := dev.Start(ctx, dev.Options{Binary: b.binary, Args: []string{"--regions", "mad", "--engine", "redis://" + redis.address()}})
	if err != nil {
		missing(through, err)
	} else {
		stops = append(stops, attached.Kill)
		b.targets = append(b.targets, &target{name: through, host: attached.Regions[0].Host(), port: attached.Regions[0].Port(), pid: attached.PID()})
	}
	return func() {
		for _, s := range stops {
			s()
		}
	}
}
