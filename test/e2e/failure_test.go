package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/test/dev"
)

const (
	notExecuted    = "-MASTERDOWN primary region mad is unreachable; the command was not executed"
	outcomeUnknown = "-UNKNOWNOUTCOME link to primary region mad was lost after the command was sent"
)

// A write fails within this time when its region is cut off, and everything works again this long after the heal.
var (
	failLimit    = slower(2 * time.Second)
	recoverLimit = slower(5 * time.Second)
)

func cut(t *testing.T, p *dev.Process, region string) {
	t.Helper()
	if err := p.Cut(context.Background(), region); err != nil {
		t.Fatal(err)
	}
}

func heal(t *testing.T, p *dev.Process, region string) {
	t.Helper()
	if err := p.Heal(context.Background(), region); err != nil {
		t.Fatal(err)
	}
}

func TestARegionThatIsCutOff(t *testing.T) {
	p := start(t, "--regions", "mad,ams,nrt")
	nrt := p.Region("nrt")
	k := key(t, "k")
	connect(t, nrt).want("OK", "SET", k, "v")
	eventuallyGet(t, nrt, 5*time.Second, k, `"v"`)
	full, partial := resyncs(t, p, "nrt")
	cut(t, p, "nrt")

	t.Run("its writes fail in time", func(t *testing.T) {
		failed := 0
		var wg sync.WaitGroup
		for i := range 4 {
			c := connect(t, nrt)
			wg.Go(func() {
				for range 5 {
					begin := time.Now()
					v, err := c.call("SET", key(t, fmt.Sprint(i)), "x")
					took := time.Since(begin)
					if got := show(v); err != nil || got != notExecuted && got != outcomeUnknown {
						t.Errorf("SET answers %s, %v", got, err)
						return
					}
					if took > failLimit {
						t.Errorf("SET fails after %v", took)
					}
				}
			})
			failed++
		}
		wg.Wait()
		// By now the node knows, so that nothing is sent any more.
		c := connect(t, nrt)
		begin := time.Now()
		c.want(notExecuted, "SET", key(t, "late"), "x")
		// It waits a second for a primary that was lost a moment ago: that one may just be starting again.
		if took := time.Since(begin); took > time.Second+slower(300*time.Millisecond) {
			t.Errorf("a write is refused only after %v", took)
		}
		c.want(notExecuted, "PUBLISH", "c", "x")
		c.want(notExecuted, "BLPOP", key(t, "q"), "1")
		// A transaction fails at the latest when it would run.
		if err := c.write([]string{"MULTI"}, []string{"SET", key(t, "tx"), "x"}, []string{"EXEC"}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := c.read(); err != nil {
				t.Fatal(err)
			}
		}
		if v, err := c.read(); err != nil || show(v) != notExecuted && !strings.HasPrefix(show(v), "-EXECABORT") && show(v) != "-ERR EXEC without MULTI" {
			t.Errorf("EXEC answers %s, %v", show(v), err)
		}
		if out, _ := cli(t, nrt, "set", key(t, "cli"), "x"); strings.TrimSpace(out) != notExecuted[1:] && !strings.HasSuffix(out, notExecuted[1:]) {
			t.Errorf("redis-cli prints %q", out)
		}
	})
	t.Run("its reads go on", func(t *testing.T) {
		c := connect(t, nrt)
		for range 100 {
			begin := time.Now()
			c.want(`"v"`, "GET", k)
			if took := time.Since(begin); took > slower(100*time.Millisecond) {
				t.Fatalf("a read takes %v", took)
			}
		}
	})
	t.Run("the other regions don't notice", func(t *testing.T) {
		c := connect(t, p.Region("ams"))
		begin := time.Now()
		c.want("OK", "SET", k, "newer")
		c.want(`"newer"`, "GET", k)
		if took := time.Since(begin); took > failLimit {
			t.Errorf("a write and a read at ams take %v", took)
		}
		connect(t, nrt).want(`"v"`, "GET", k)
	})
	heal(t, p, "nrt")
	healed := time.Now()
	t.Run("recovers by itself", func(t *testing.T) {
		c := connect(t, nrt)
		eventually(t, recoverLimit, func() error {
			if got := show(c.do("SET", key(t, "after"), "x")); got != "OK" {
				return fmt.Errorf("SET answers %s", got)
			}
			return nil
		})
		t.Logf("writes again after %v", time.Since(healed))
		eventually(t, recoverLimit-time.Since(healed), func() error {
			if got := show(c.do("GET", k)); got != `"newer"` {
				return fmt.Errorf("GET answers %s", got)
			}
			return nil
		})
		t.Logf("reads what it missed after %v", time.Since(healed))
		// Replication itself, not only reads that went to the primary for it.
		c.want("OK", "READONLY")
		eventually(t, recoverLimit-time.Since(healed), func() error {
			if got := show(c.do("GET", key(t, "after"))); got != `"x"` {
				return fmt.Errorf("the local copy answers %s", got)
			}
			return nil
		})
		t.Logf("replicates again after %v", time.Since(healed))
	})
	t.Run("by partial resync", func(t *testing.T) {
		fullAfter, partialAfter := resyncs(t, p, "nrt")
		if fullAfter != full || partialAfter <= partial {
			t.Errorf("full resyncs %d → %d, partial ones %d → %d", full, fullAfter, partial, partialAfter)
		}
	})
}

// resyncs reads how many full and partial resyncs a region's replica has been through.
func resyncs(t *testing.T, p *dev.Process, region string) (full, partial int) {
	t.Helper()
	samples, err := p.Metrics(context.Background(), "_syncs_total")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, s := range samples {
		if !strings.Contains(s.Labels, fmt.Sprintf("region=%q", region)) {
			continue
		}
		switch s.Name {
		case "respmesh_replication_full_syncs_total":
			full, found = int(s.Value), found+1
		case "respmesh_replication_partial_syncs_total":
			partial, found = int(s.Value), found+1
		}
	}
	if found != 2 {
		t.Errorf("/metrics doesn't count the resyncs of %s: %v", region, samples)
	}
	return full, partial
}

func TestNothingIsExecutedTwice(t *testing.T) {
	p := start(t, "--regions", "mad,nrt")
	k := key(t, "n")
	nrt := p.Region("nrt")
	var mu sync.Mutex
	var acknowledged, unknown, refused int
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return acknowledged
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		c := connect(t, nrt)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Three at a time: the cut finds commands in every state.
				incr := []string{"INCR", k}
				if err := c.write(incr, incr, incr); err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					v, err := c.read()
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					switch got := show(v); {
					case got == outcomeUnknown:
						unknown++
					case got == notExecuted:
						refused++
					case got[0] != '-':
						acknowledged++
					default:
						t.Errorf("INCR answers %s", got)
					}
					mu.Unlock()
				}
			}
		})
	}
	for range 2 {
		before := count()
		eventually(t, 20*time.Second, func() error {
			if n := count(); n < before+60 {
				return fmt.Errorf("%d of 60 increments", n-before)
			}
			return nil
		})
		cut(t, p, "nrt")
		mu.Lock()
		goal := refused + 20
		mu.Unlock()
		eventually(t, 2*failLimit, func() error {
			mu.Lock()
			defer mu.Unlock()
			if refused < goal {
				return fmt.Errorf("no write is refused yet: %d unknown, %d refused", unknown, refused)
			}
			return nil
		})
		heal(t, p, "nrt")
	}
	after := count()
	eventually(t, recoverLimit, func() error {
		if count() < after+24 {
			return fmt.Errorf("increments don't go on after the heal")
		}
		return nil
	})
	close(stop)
	wg.Wait()
	value := connect(t, p.Region("mad")).do("GET", k)
	n := 0
	if _, err := fmt.Sscan(value.String(), &n); err != nil {
		t.Fatalf("GET answers %s", show(value))
	}
	t.Logf("%d acknowledged, %d unknown, %d refused, value %d", acknowledged, unknown, refused, n)
	if n < acknowledged || n > acknowledged+unknown {
		t.Errorf("the value is %d; %d increments were acknowledged and %d have an unknown outcome", n, acknowledged, unknown)
	}
	if unknown == 0 {
		t.Error("the cuts found no command under way: the test shows nothing")
	}
}

func TestARegionWithoutAReplicaReadsFromTheNearest(t *testing.T) {
	p := start(t, "--regions", "mad,ams,lhr", "--replicas", "ams")
	lhr := p.Region("lhr")
	if lhr.Role != "none" {
		t.Fatalf("role of lhr: %s", lhr.Role)
	}
	k, value := key(t, "k"), strings.Repeat("x", 10000)
	connect(t, p.Region("mad")).want("OK", "SET", k, value)
	eventuallyGet(t, p.Region("ams"), 5*time.Second, k, fmt.Sprintf("%q", value))
	c := connect(t, lhr)
	c.do("GET", k)

	before := carried(t, p)
	begin := time.Now()
	for range 100 {
		if n := len(c.do("GET", k).Bytes()); n != len(value) {
			t.Fatalf("GET answers %d bytes", n)
		}
	}
	took := time.Since(begin) / 100
	after := carried(t, p)
	fromAms, fromMad := after["ams lhr"]-before["ams lhr"], after["mad lhr"]-before["mad lhr"]
	t.Logf("a read takes %v (round trip to the primary %v); bytes from ams %d, from mad %d", took, lhr.RoundTrip(), fromAms, fromMad)
	if fromAms < 100*10000 || fromMad > 100*10000/4 {
		t.Errorf("1 MB of reads brought %d bytes from ams and %d from mad", fromAms, fromMad)
	}

	// Its own writes are seen there, too.
	for i := range 20 {
		want := fmt.Sprint(i)
		c.want("OK", "SET", key(t, "own"), want)
		connect(t, lhr).want(fmt.Sprintf("%q", want), "GET", key(t, "own"))
	}

	// When the nearest is gone, the next one answers.
	cut(t, p, "ams")
	eventually(t, slower(3*time.Second), func() error {
		if got := show(c.do("GET", key(t, "own"))); got != `"19"` {
			return fmt.Errorf("GET answers %s", got)
		}
		return nil
	})
	c.want("OK", "SET", key(t, "own"), "20")
	c.want(`"20"`, "GET", key(t, "own"))
	heal(t, p, "ams")
}

// carried reads the relay's byte counters, by "from to".
func carried(t *testing.T, p *dev.Process) map[string]uint64 {
	t.Helper()
	links, err := p.WAN(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, l := range links {
		out[l.From+" "+l.To] = l.Bytes
	}
	return out
}
