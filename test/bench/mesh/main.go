// Command mesh compares the ways through a tunnel between two hosts and prints Markdown.
//
// The hosts are two network namespaces with a veth pair between them, or with -rtt and -loss a network (package mesh/wan), so it needs root. In each runs one process; what differs
// is what they have between them: nothing, Debian's wireguard-go with the kernel's TCP, our device over a kernel TUN or over
// userspace at either end, and WireGuard's own userspace stack. All have an MTU of 1280. The ways are measured in turn,
// so that a slow minute of the machine hits all of them; what counts are the ratios.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"respmesh/test/bench/figures"
	"respmesh/test/bench/program"
)

// way is what the client and the server each have.
type way struct {
	name           string
	client, server kind
}

type kind string

const (
	plain     kind = "plain"     // sockets of the host
	wgGo      kind = "wireguard" // the same, through wireguard-go
	tun       kind = "tun"
	userspace kind = "userspace"
	stock     kind = "stock"
)

// ways are all there are; the first is on one host.
func ways() []way {
	return []way{
		{"loopback", plain, plain},
		{"veth", plain, plain},
		{"wireguard-go", wgGo, wgGo},
		{"tun-tun", tun, tun},
		{"userspace-tun", userspace, tun},
		{"userspace-userspace", userspace, userspace},
		{"stock-stock", stock, stock},
	}
}

type options struct {
	child   string
	only    string
	repeats int
	seconds float64
	conns   int
	profile string
	rtt     time.Duration
	loss    string

	congestion string
}

func main() { program.Main("bench/mesh", run) }

func run(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("mesh", flag.ContinueOnError)
	f.StringVar(&o.child, "child", "", "what the command starts itself")
	f.StringVar(&o.only, "ways", "", "measure only these, with commas")
	f.IntVar(&o.repeats, "repeats", 3, "runs of each way")
	f.Float64Var(&o.seconds, "seconds", 2, "how long each measurement takes")
	f.IntVar(&o.conns, "conns", 50, "connections of the measurement with many")
	f.DurationVar(&o.rtt, "rtt", 0, "put a network with this round trip between the hosts, instead of a cable")
	f.StringVar(&o.loss, "loss", "0", "percent of the packets that it loses each way; with commas: one table for each")
	f.StringVar(&o.congestion, "congestion", "reno", "the kernel's congestion control, such as cubic or bbr where net.ipv4.tcp_allowed_congestion_control has it; our userspace stack has cubic")
	f.StringVar(&o.profile, "profile", "", "directory for the clients' processor profiles")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.child != "" {
		return child(ctx, o.child, os.Stdin, os.Stdout)
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	use := ways()
	if o.only != "" {
		use = slices.DeleteFunc(use, func(w way) bool { return !slices.Contains(strings.Split(o.only, ","), w.name) })
	}
	for percent := range strings.SplitSeq(o.loss, ",") {
		loss, err := strconv.ParseFloat(percent, 64)
		if err != nil || loss < 0 || loss >= 100 {
			return fmt.Errorf("-loss %q: want percents", o.loss)
		}
		p := path{o.rtt, loss / 100, o.congestion}
		if p.far() {
			use = slices.DeleteFunc(use, func(w way) bool { return w.name == "loopback" })
		}
		results := make(map[string][]result)
		for range o.repeats {
			for _, w := range use {
				r, err := measure(ctx, o, w, p)
				if err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
				results[w.name] = append(results[w.name], r)
			}
		}
		report(o, p, use, results)
	}
	return nil
}

// result is one run: of the client, with the processor time of all processes of both ends.
type result struct {
	P50, P99  time.Duration // of a ping-pong on one connection
	Ops       float64       // per second, on many
	ManyP99   time.Duration // of those
	OpsCPU    float64       `json:"-"` // seconds of processor time in that
	Bulk      float64       // MB per second, on one
	BulkCPU   float64       `json:"-"` // seconds of processor time in that
	BulkBytes float64
}

func report(o options, p path, use []way, results map[string][]result) {
	median := func(name string, of func(result) float64) float64 {
		return figures.Median(figures.Of(results[name], of))
	}
	columns := []struct {
		name, format string
		of           func(result) float64
	}{
		{"p50 µs", "%.0f", func(r result) float64 { return float64(r.P50) / 1e3 }},
		{"p99 µs", "%.0f", func(r result) float64 { return float64(r.P99) / 1e3 }},
		{fmt.Sprintf("commands/s, %d connections", o.conns), "%.0f", func(r result) float64 { return r.Ops }},
		{"their p99 ms", "%.1f", func(r result) float64 { return float64(r.ManyP99) / 1e6 }},
		{"CPU µs per command", "%.1f", func(r result) float64 { return r.OpsCPU * 1e6 / (r.Ops * o.seconds) }},
		{"bulk MB/s", "%.1f", func(r result) float64 { return r.Bulk }},
		{"CPU s per GB", "%.1f", func(r result) float64 { return r.BulkCPU * 1e9 / r.BulkBytes }},
	}
	fmt.Printf("\n%s. Medians of %d runs of %g s. In brackets: the ratio to wireguard-go. CPU is that of the processes at both ends; the kernel's own "+
		"work for the network is in it only as far as it is done for them.\n\n| |", p, o.repeats, o.seconds)
	for _, c := range columns {
		fmt.Printf(" %s |", c.name)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(columns)))
	for _, w := range use {
		fmt.Printf("| %s |", w.name)
		for _, c := range columns {
			v, base := median(w.name, c.of), median("wireguard-go", c.of)
			fmt.Printf(" "+c.format, v)
			if base != 0 {
				fmt.Printf(" (%.2f)", v/base)
			}
			fmt.Print(" |")
		}
		fmt.Println()
	}
}
