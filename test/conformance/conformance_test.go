// Package conformance runs the same random commands on our engine and on a real redis-server 7.0 and compares every
// reply, and at the end every key. The commands come from a seeded grammar, hostile arguments included.
//
// Without settings it is the same few sequences each time, so that a change answers for itself only; `make test` goes on with the next
// ones for two minutes. To search for more:
//
//	RESPMESH_CONFORMANCE_TIME    how long to search, beginning with a random seed
//	RESPMESH_CONFORMANCE_SEED    begin with this seed: the failing sequence of a report again
//	RESPMESH_CONFORMANCE_REPORT  write the differences to this file too, as Markdown
package conformance

import (
	"fmt"
	"iter"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A run of this many commands makes collections large enough and still shrinks quickly.
const sequenceLength = 150

// With the race detector these take about 15 s.
const usualSequences = 200

// Enough for a report; whoever mends these runs it again.
const maxFindings = 25

func TestEngineAnswersAsRedis(t *testing.T) {
	search(t, startRedis(t), newEngineTarget(t))
}

// The yardstick compared with itself shows that grammar and rules are sound.
func TestRedisAnswersAsRedis(t *testing.T) {
	want, got := startRedis(t), startRedis(t)
	for seed := range uint64(20) {
		runSeed(t, want, got, seed, func(f string) { t.Error(f) }, map[string]bool{})
	}
}

// seeds are those of the sequences to try: a few, or as many as a share of the time in the environment allows.
func seeds(t *testing.T, usual uint64, share float64) iter.Seq[uint64] {
	t.Helper()
	first, count, deadline := uint64(1), usual, time.Time{}
	if testing.Short() {
		count /= 5
	}
	if s := os.Getenv("RESPMESH_CONFORMANCE_TIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		first, count, deadline = uint64(time.Now().UnixNano()), math.MaxUint64, time.Now().Add(time.Duration(share*float64(d)))
	}
	if s := os.Getenv("RESPMESH_CONFORMANCE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first = n
	}
	t.Logf("first seed %d", first)
	return func(yield func(uint64) bool) {
		runs := uint64(0)
		for runs < count && (deadline.IsZero() || time.Now().Before(deadline)) {
			runs++
			if !yield(first + runs - 1) {
				break
			}
		}
		t.Logf("%d sequences of %d commands", runs, sequenceLength)
	}
}

func search(t *testing.T, want, got target) {
	seen := map[string]bool{}
	var findings []string
	if names := missing(t, got); len(names) > 0 {
		findings = append(findings, fmt.Sprintf("commands that are missing: %s\n", strings.Join(names, " ")))
		for _, n := range names {
			seen[n] = true
		}
	}
	runs := 0
	for seed := range seeds(t, usualSequences, 0.75) {
		runs++
		runSeed(t, want, got, seed, func(f string) { findings = append(findings, f) }, seen)
		if len(findings) >= maxFindings {
			break
		}
	}
	for _, f := range findings {
		t.Error(f)
	}
	if path := os.Getenv("RESPMESH_CONFORMANCE_REPORT"); path != "" {
		report := fmt.Sprintf("# Differences from redis-server\n\n%d sequences of %d commands, %d differences. `n>` is the connection.\n\n```\n%s```\n",
			runs, sequenceLength, len(findings), strings.Join(findings, "\n"))
		if err := os.WriteFile(path, []byte(report), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// runSeed compares one sequence. A difference that was seen before is taken out, to find what hides behind it.
func runSeed(t *testing.T, want, got target, seed uint64, found func(string), seen map[string]bool) {
	t.Helper()
	proto := 2 + int(seed%2)
	sequence := newGenerator(seed).sequence(sequenceLength)
	sequence = slices.DeleteFunc(sequence, func(s step) bool { return seen[strings.ToLower(s.args[0])] })
	for range 10 {
		m, err := compare(want, got, proto, sequence)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if m == nil {
			return
		}
		if !seen[m.signature] {
			seen[m.signature] = true
			short, m, err := shrink(func(s []step) (*mismatch, error) { return compare(want, got, proto, s) }, sequence, m)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			found(describe(short, m, seed, proto))
		}
		if m.at >= len(sequence) {
			return
		}
		sequence = slices.Delete(sequence, m.at, m.at+1)
	}
}

// missing lists the commands of the grammar that a server doesn't know.
func missing(t *testing.T, s target) []string {
	t.Helper()
	if err := s.reset(2); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range grammar {
		for _, name := range alternatives(strings.Trim(l.words[0], "()")) {
			name = strings.ToLower(name)
			p, err := s.do(0, []string{name, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}) // too many for most
			if err == nil && strings.HasPrefix(p.text, "ERR unknown command") && !strings.HasPrefix(name, "nosuch") && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}
