package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"respmesh/test/bench/figures"
	"respmesh/test/dev"
)

// outcome is what else was measured.
type outcome struct {
	args         []string
	begun, ended float64 // load average
	writes       []time.Duration
	waits        []dev.Sample
	memory       [][]float64 // by target, by kind
	loads        []loadTime
}

// measureRegion times single writes at a replica's region, and reads behind own writes.
func (r *outcome) measureRegion(ctx context.Context, mesh *dev.Process, replica dev.Region) (err error) {
	if r.writes, err = writeLatency(ctx, replica, 100); err != nil {
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
	r.waits = since(before, after)
	return err
}

func report(w io.Writer, b *bench, r *outcome, replica dev.Region) {
	command := "make bench"
	if len(r.args) > 0 {
		command += " ARGS=\"" + strings.Join(r.args, " ") + "\""
	}
	fmt.Fprintf(w, "`%s`: %d connections, %d-byte values, %d runs of about %g s of each cell, alternating; %d cores, %s/%s, load average %.1f before and %.1f after.\n",
		command, b.clients, b.size, b.repeats, b.seconds, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, r.begun, r.ended)
	if len(b.missing) > 0 {
		fmt.Fprintf(w, "Not there, so not measured: %s.\n", strings.Join(b.missing, ", "))
	}
	if b.alone() {
		fmt.Fprint(w, "The mesh is one node, without replicas.\n\n")
	} else {
		fmt.Fprintf(w, "The round trip from %s to the primary is %.0f ms; the mesh's three nodes are one process.\n\n", replica.Code, replica.RTT)
	}

	fmt.Fprint(w, "Commands per second: median (lowest – highest), × the median of redis-server.\n\n")
	b.table(w, b.cells(), func(c cell) string { return fmt.Sprintf("%s, P=%d", c.command, c.depth) },
		func(r result) float64 { return r.rate }, count, true)
	fmt.Fprint(w, "\nProcessor time per command of the serving process alone (a proxy's redis-server comes on top), microseconds: median (lowest – highest).\n\n")
	b.table(w, b.cells(), func(c cell) string { return fmt.Sprintf("%s, P=%d", c.command, c.depth) },
		func(r result) float64 { return r.cpu }, micros, true)
	fmt.Fprint(w, "\nOne connection that waits for each reply: p50 in milliseconds, median (lowest – highest).\n\n")
	b.table(w, []cell{single()}, func(c cell) string { return c.command }, func(r result) float64 { return r.p50 }, millis, false)

	if !b.alone() {
		fmt.Fprintf(w, "\nA single write at %s: p50 %.1f ms, p99 %.1f ms; one round trip to the primary: %.1f ms.\n",
			replica.Code, ms(at(r.writes, 50)), ms(at(r.writes, 99)), replica.RTT)
		reportWaits(w, r.waits)
	}

	fmt.Fprintf(w, "\nBytes per key by INFO's used_memory, %d keys of each kind.\n\n| | %s | respmesh | |\n|---|---|---|---|\n", memoryKeys, b.targets[0].name)
	for i, kind := range memoryKinds(b.size) {
		theirs, ours := r.memory[0][i], r.memory[1][i]
		fmt.Fprintf(w, "| %s | %.0f | %.0f | %s |\n", kind.name, theirs, ours, ratio(ours/theirs))
	}
	if len(r.loads) > 0 {
		fmt.Fprintf(w, "\nLoading a file, seconds: median (lowest – highest); × redis-server's speed.\n\n| | %s | respmesh | |\n|---|---|---|---|\n", b.targets[0].name)
	}
	for _, l := range r.loads {
		fmt.Fprintf(w, "| %s, %.0f MB | %s | %s | %s |\n", l.name, l.megabytes, figures.Spread(l.theirs, seconds), figures.Spread(l.ours, seconds), ratio(figures.Median(l.theirs)/figures.Median(l.ours)))
	}
}

// table prints what each target did in each cell.
func (b *bench) table(w io.Writer, cells []cell, name func(cell) string, value func(result) float64, format func(float64) string, ratios bool) {
	fmt.Fprint(w, "| |")
	for _, t := range b.targets {
		fmt.Fprintf(w, " %s |", t.name)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(b.targets)))
	for _, c := range cells {
		fmt.Fprintf(w, "| %s |", name(c))
		base := figures.Median(figures.Of(b.targets[0].runs[c], value))
		for i, t := range b.targets {
			v := figures.Of(t.runs[c], value)
			if len(v) == 0 {
				fmt.Fprint(w, " |")
				continue
			}
			fmt.Fprintf(w, " %s", figures.Spread(v, format))
			if i > 0 && ratios {
				fmt.Fprintf(w, " %s", ratio(figures.Median(v)/base))
			}
			fmt.Fprint(w, " |")
		}
		fmt.Fprintln(w)
	}
}

func micros(f float64) string  { return fmt.Sprintf("%.2f", f) }
func millis(f float64) string  { return fmt.Sprintf("%.3f", f) }
func seconds(f float64) string { return fmt.Sprintf("%.2f", f) }

// since subtracts what was counted before.
func since(before, after []dev.Sample) []dev.Sample {
	out := slices.Clone(after)
	for i := range out {
		for _, b := range before {
			if b.Name == out[i].Name && b.Labels == out[i].Labels {
				out[i].Value -= b.Value
			}
		}
	}
	return out
}

// reportWaits prints the histogram of the waits for read-your-writes, all regions together.
func reportWaits(w io.Writer, samples []dev.Sample) {
	buckets := map[string]float64{}
	var order []string
	var count, sum float64
	for _, s := range samples {
		switch {
		case strings.HasSuffix(s.Name, "_count"):
			count += s.Value
		case strings.HasSuffix(s.Name, "_sum"):
			sum += s.Value
		case strings.HasSuffix(s.Name, "_bucket"):
			_, le, _ := strings.Cut(s.Labels, `le="`)
			le, _, _ = strings.Cut(le, `"`)
			if _, ok := buckets[le]; !ok {
				order = append(order, le)
			}
			buckets[le] += s.Value
		}
	}
	if count == 0 {
		fmt.Fprintf(w, "\nOf %d reads at once behind an own write, over another connection, none had to wait for the replica.\n", readers*readsEach)
		return
	}
	fmt.Fprintf(w, "\nOf %d reads at once behind an own write, over another connection, %.0f waited for the replica, on average %.3f ms.\n\n| waited at most | reads |\n|---|---|\n",
		readers*readsEach, count, 1000*sum/count)
	before := 0.0
	for _, le := range order {
		if n := buckets[le]; n > before {
			fmt.Fprintf(w, "| %s s | %.0f (%.1f %%) |\n", le, n, 100*n/count)
			before = n
		}
	}
}

func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// count prints a rate with a space between thousands.
func count(f float64) string {
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

func ratio(f float64) string {
	if f < 0.1 {
		return fmt.Sprintf("× %.3f", f)
	}
	return fmt.Sprintf("× %.2f", f)
}
