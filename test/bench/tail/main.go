// Command tail measures the slowest commands beside redis-server's, and prints Markdown: of GETs with millions of keys at half of what a server reaches,
// of writes while the append-only file is written anew, and of a primary's commands while a replica gets all data.
//
// The load comes at a steady rate, whatever the server does, and latency counts from the moment at which a command was to be sent. Both servers are
// measured in turn, so that a slow minute of the machine hits both; clients share its processors. With -before another build is measured as well.
package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"respmesh/test/bench/figures"
	"respmesh/test/bench/program"
)

type options struct {
	binary, before string
	what           []string
	keys, size     int
	megabytes      int
	repeats        int
	length         time.Duration
	conns          int
	rate           float64
	trace          bool
	mix            int
}

// side is one of those that are compared.
type side struct {
	name   string
	binary string // of respmesh; "": redis-server
}

func main() { program.Main("bench/tail", run) }

func run(ctx context.Context, args []string) error {
	subjects := map[string]func(context.Context, options, []side) error{"get": measureGets, "rewrite": measureRewrites, "sync": measureSyncs}
	var o options
	f := flag.NewFlagSet("tail", flag.ContinueOnError)
	f.StringVar(&o.binary, "binary", "bin/respmesh", "the program")
	f.StringVar(&o.before, "before", "", "another build of it, to compare with")
	what := f.String("what", "get,rewrite,sync", "what is measured")
	f.IntVar(&o.keys, "keys", 5_000_000, "keys when GETs are measured")
	f.IntVar(&o.size, "size", 64, "bytes of their values")
	f.IntVar(&o.megabytes, "mb", 1024, "data, in values of 1 kB, when rewrites and full syncs are measured")
	f.IntVar(&o.repeats, "repeats", 5, "runs of each")
	f.DurationVar(&o.length, "length", 5*time.Second, "how long a run of GETs takes")
	f.IntVar(&o.conns, "clients", 16, "connections")
	f.Float64Var(&o.rate, "rate", 4000, "commands a second when rewrites and full syncs are measured")
	f.IntVar(&o.mix, "mix", 0, "measure GETs beside these writes only: 1 none, 2 small ones, 3 large ones; 0: beside each of them")
	f.BoolVar(&o.trace, "gctrace", false, "print what respmesh's garbage collector does")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.mix < 0 || o.mix > 3 {
		return fmt.Errorf("-mix %d: there are 1, 2 and 3", o.mix)
	}
	o.what = strings.Split(*what, ",")
	sides := []side{{name: "redis-server"}, {name: "respmesh", binary: o.binary}}
	if o.before != "" {
		sides = []side{{name: "redis-server"}, {name: "before", binary: o.before}, {name: "respmesh", binary: o.binary}}
	}
	// This process must not be what the tail is made of.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(2 << 30)
	runtime.GOMAXPROCS(4)
	for _, w := range o.what {
		measure, ok := subjects[w]
		if !ok {
			return fmt.Errorf("nothing is called %q: there are get, rewrite and sync", w)
		}
		if err := measure(ctx, o, sides); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
		runtime.GC()
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// columns collects figures by side and name, and prints them as a table.
type columns struct {
	sides []side
	names []string
	runs  map[string][]float64
}

func newColumns(sides []side) *columns { return &columns{sides: sides, runs: map[string][]float64{}} }

func (c *columns) add(s side, name string, v float64) {
	if !slices.Contains(c.names, name) {
		c.names = append(c.names, name)
	}
	c.runs[s.name+name] = append(c.runs[s.name+name], v)
}

func (c *columns) print() {
	fmt.Print("| |")
	for _, s := range c.sides {
		fmt.Printf(" %s |", s.name)
	}
	fmt.Print("\n|---|", strings.Repeat("---|", len(c.sides)), "\n")
	theirs := c.sides[0].name
	for _, name := range c.names {
		fmt.Printf("| %s |", name)
		for i, s := range c.sides {
			runs := c.runs[s.name+name]
			fmt.Print(" ")
			if len(runs) > 0 {
				fmt.Print(figures.Spread(runs, figures.Format("%.3g")))
			}
			if i > 0 && len(runs) > 0 && len(c.runs[theirs+name]) > 0 {
				fmt.Printf(" × %.2f", figures.Median(runs)/figures.Median(c.runs[theirs+name]))
			}
			fmt.Print(" |")
		}
		fmt.Println()
	}
	fmt.Println()
}
