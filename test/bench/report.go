package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"respmesh/test/dev"
)

func report(w io.Writer, b *bench, redisVersion string, replica dev.Region, writes []time.Duration, waits []dev.Sample, args string) {
	command := "make bench"
	if args != "" {
		command += " ARGS=\"" + args + "\""
	}
	fmt.Fprintf(w, "`%s`: redis-server %s, %d connections, %d-byte values, %d repeats of %g s, alternating; %d cores, %s/%s.\n",
		command, redisVersion, b.clients, b.size, b.repeats, b.seconds, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(w, "Median requests per second (lowest – highest), × the median of redis-server. The round trip from %s to the primary is %.0f ms.\n\n",
		replica.Code, replica.RTT)
	fmt.Fprint(w, "| |")
	for _, t := range b.targets {
		fmt.Fprintf(w, " %s |", t.name)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(b.targets)))
	for _, c := range cells {
		fmt.Fprintf(w, "| %s, P=%d |", strings.ToUpper(c.command), c.depth)
		base := median(b.targets[0].rates[c])
		for i, t := range b.targets {
			rates := t.rates[c]
			fmt.Fprintf(w, " %s (%s – %s)", count(median(rates)), count(slices.Min(rates)), count(slices.Max(rates)))
			if i > 0 {
				fmt.Fprintf(w, " %s", ratio(median(rates)/base))
			}
			fmt.Fprint(w, " |")
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\nA single write at %s: p50 %.1f ms, p99 %.1f ms; one round trip to the primary: %.1f ms.\n",
		replica.Code, ms(at(writes, 50)), ms(at(writes, 99)), replica.RTT)
	reportWaits(w, waits)
}

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

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
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
