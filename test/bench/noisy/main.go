// Command noisy measures what a database feels of another one on the same node that takes all it can get, and prints Markdown.
//
// One `respmesh server` has two databases with nothing but the defaults. A client of the quiet one asks a thing each millisecond; the
// clients of the noisy one, in a process of their own, ask as much as they can. With -before the same is measured with another build, in turn, so
// that a slow minute of the machine hits both.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"respmesh/test/bench/figures"
	"respmesh/test/bench/program"
)

type options struct {
	binary, before string
	only           string
	repeats        int
	seconds        float64
	child          string
}

func main() { program.Main("bench/noisy", run) }

func run(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("noisy", flag.ContinueOnError)
	f.StringVar(&o.binary, "binary", "bin/respmesh", "the program")
	f.StringVar(&o.before, "before", "", "another build of it, to compare with")
	f.StringVar(&o.only, "noises", "", "measure only these, with commas; all if empty")
	f.IntVar(&o.repeats, "repeats", 3, "runs of each noise")
	f.Float64Var(&o.seconds, "seconds", 2, "how long each run takes")
	f.StringVar(&o.child, "child", "", "what the command starts itself")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.child != "" {
		return child(ctx, o.child)
	}
	use := noises()
	if o.only != "" {
		use = slices.DeleteFunc(use, func(n noise) bool { return !slices.Contains(strings.Split(o.only, ","), n.name) })
	}
	builds := []*build{{name: "respmesh", binary: o.binary}}
	if o.before != "" {
		builds = []*build{{name: "before", binary: o.before}, {name: "after", binary: o.binary}}
	}
	for _, b := range builds {
		if err := b.start(ctx); err != nil {
			return err
		}
		defer b.stop()
	}
	for n := range o.repeats {
		for _, noise := range use {
			for _, b := range builds {
				r, err := b.measure(ctx, noise, time.Duration(o.seconds*float64(time.Second)))
				if err != nil {
					return fmt.Errorf("%s, %s: %w", b.name, noise.name, err)
				}
				b.runs[noise.name] = append(b.runs[noise.name], r)
				fmt.Fprintf(os.Stderr, "%d/%d %s %s: p50 %v, p99 %v, max %v; noisy %.0f/s\n", n+1, o.repeats, b.name, noise.name, r.p50, r.p99, r.max, r.noisy)
			}
		}
	}
	report(o, use, builds)
	return nil
}

func report(o options, use []noise, builds []*build) {
	spread := func(runs []result, of func(result) float64, format string) string {
		return figures.Spread(figures.Of(runs, of), figures.Format(format))
	}
	fmt.Printf("A quiet database beside a noisy one, on one node of %d cores with its clients: what a GET of the quiet one takes, in milliseconds, and how many "+
		"commands a second the noisy one gets. Medians of %d runs of %g s (lowest – highest).\n\n", runtime.NumCPU(), o.repeats, o.seconds)
	fmt.Print("| the noisy one's clients |")
	for _, b := range builds {
		fmt.Printf(" %s: p50 | p99 | commands/s |", b.name)
	}
	fmt.Print("\n|---|")
	fmt.Print(strings.Repeat("---|---|---|", len(builds)), "\n")
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	for _, n := range use {
		fmt.Printf("| %s |", n.what)
		for _, b := range builds {
			runs := b.runs[n.name]
			fmt.Printf(" %s | %s | %s |", spread(runs, func(r result) float64 { return ms(r.p50) }, "%.2f"),
				spread(runs, func(r result) float64 { return ms(r.p99) }, "%.2f"), spread(runs, func(r result) float64 { return r.noisy }, "%.0f"))
		}
		fmt.Println()
	}
}
