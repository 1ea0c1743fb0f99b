package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/test/dev"
)

func TestAWriteIsSeenInEveryRegion(t *testing.T) {
	p := world(t)
	k := key(t, "k")
	if out, status := cli(t, p.Region("mad"), "set", k, "v"); out != "OK" || status != 0 {
		t.Fatalf("redis-cli set: %q, status %d", out, status)
	}
	eventually(t, 3*time.Second, func() error {
		if out, _ := cli(t, p.Region("nrt"), "get", k); out != "v" {
			return fmt.Errorf("redis-cli get at nrt: %q", out)
		}
		return nil
	})
	eventuallyGet(t, p.Region("ams"), 3*time.Second, k, `"v"`)

	lag, err := p.Metrics(context.Background(), "lag")
	if err != nil {
		t.Fatal(err)
	}
	if len(lag) == 0 {
		t.Error("/metrics doesn't say how far replicas lag")
	}
}

func TestAForwardedWriteTakesOneRoundTrip(t *testing.T) {
	p := world(t)
	nrt := p.Region("nrt")
	c := connect(t, nrt)
	k := key(t, "k")
	c.want("OK", "SET", k, "v") // opens the link if need be
	times := make([]time.Duration, 20)
	for i := range times {
		begin := time.Now()
		c.want("OK", "SET", k, strconv.Itoa(i))
		times[i] = time.Since(begin)
	}
	slices.Sort(times)
	median := times[len(times)/2]
	t.Logf("median %v, round trip to the primary %v", median, nrt.RoundTrip())
	if rtt := nrt.RoundTrip(); median < rtt*9/10 || median > rtt*5/4+slower(10*time.Millisecond) {
		t.Errorf("a write at nrt takes %v; the round trip to the primary is %v", median, rtt)
	}
}

// Each round writes at nrt over one connection and reads at nrt over a new one, as pools do.
func TestReadYourWritesInANewConnectionNeverStale(t *testing.T) {
	const workers, rounds = 20, 50
	p := world(t)
	nrt := p.Region("nrt")
	var mu sync.Mutex
	var waits []time.Duration
	var wg sync.WaitGroup
	for w := range workers {
		k := key(t, strconv.Itoa(w))
		wg.Go(func() {
			writer, err := open(t, nrt)
			if err != nil {
				t.Error(err)
				return
			}
			defer writer.close()
			for i := range rounds {
				want := strconv.Itoa(i)
				if v, err := writer.call("SET", k, want); err != nil || show(v) != "OK" {
					t.Errorf("SET: %v %v", show(v), err)
					return
				}
				begin := time.Now()
				reader, err := open(t, nrt)
				if err != nil {
					t.Error(err)
					return
				}
				v, err := reader.call("GET", k)
				took := time.Since(begin)
				reader.close()
				if err != nil || v.String() != want {
					t.Errorf("round %d: GET in a new connection answers %s, %v; want %s", i, show(v), err, want)
					return
				}
				mu.Lock()
				waits = append(waits, took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	slices.Sort(waits)
	median, worst := waits[len(waits)/2], waits[len(waits)-1]
	t.Logf("%d reads behind own writes: median %v, worst %v", len(waits), median, worst)
	if median > nrt.RoundTrip()/4 {
		t.Errorf("half of the reads behind a write take over %v: they wait for the primary or go there", median)
	}
}

func TestReadYourWritesInANewProcess(t *testing.T) {
	p := world(t)
	nrt := p.Region("nrt")
	k := key(t, "k")
	for i := range 25 {
		want := strconv.Itoa(i)
		if out, _ := cli(t, nrt, "set", k, want); out != "OK" {
			t.Fatalf("redis-cli set: %q", out)
		}
		if out, _ := cli(t, nrt, "get", k); out != want {
			t.Fatalf("round %d: redis-cli get in a new process: %q", i, out)
		}
	}
}

// Deletions, several keys, a destination deep in the arguments and reads of the whole key space count, too.
func TestReadYourWritesOfOtherKinds(t *testing.T) {
	p := world(t)
	a, b := connect(t, p.Region("nrt")), connect(t, p.Region("nrt"))
	k, l := key(t, "k"), key(t, "l")
	a.want("OK", "SET", k, "v")
	b.want("1", "EXISTS", k)
	a.want("1", "DEL", k)
	b.want("nil", "GET", k)
	a.want("3", "RPUSH", l, "a", "b", "c")
	b.want(`["a" "b" "c"]`, "LRANGE", l, "0", "-1")
	a.want("OK", "MSET", k, "1", key(t, "m"), "2")
	b.want(`["1" "2"]`, "MGET", k, key(t, "m"))
	a.want("3", "SORT", l, "DESC", "ALPHA", "STORE", key(t, "sorted"))
	b.want(`["c" "b" "a"]`, "LRANGE", key(t, "sorted"), "0", "-1")
	a.want("OK", "RENAME", k, key(t, "renamed"))
	b.want("[nil \"1\"]", "MGET", k, key(t, "renamed"))
	if got := show(b.do("KEYS", key(t, "rename*"))); !strings.Contains(got, "renamed") {
		t.Errorf("KEYS right after the write: %s", got)
	}
}

func TestReadsNeverGoBackwards(t *testing.T) {
	p := world(t)
	k := key(t, "n")
	writer, reader := connect(t, p.Region("mad")), connect(t, p.Region("nrt"))
	writer.want("OK", "SET", k, "0")
	eventuallyGet(t, p.Region("nrt"), 3*time.Second, k, `"0"`)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(stop)
		for range 2000 {
			if _, err := writer.call("INCR", k); err != nil {
				t.Error(err)
				return
			}
		}
	})
	seen, reads := 0, 0
	for running := true; running; reads++ {
		select {
		case <-stop:
			running = false
		default:
		}
		n := reader.do("GET", k).Integer()
		if n < seen {
			t.Fatalf("read %d after %d", n, seen)
		}
		seen = n
	}
	wg.Wait()
	t.Logf("%d reads, up to %d", reads, seen)
}

// Mixed pipelines at a replica's region are compared with a model: order is kept and own writes are seen.
func TestPipelinesKeepOrderAndSeeTheirOwnWrites(t *testing.T) {
	p := world(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var wg sync.WaitGroup
	for worker := range 4 {
		var commands [][]string
		var want []string
		model := map[string]int{}
		for range 300 {
			k := key(t, fmt.Sprintf("%d:%d", worker, rnd.IntN(4)))
			n, have := model[k]
			switch rnd.IntN(6) {
			case 0:
				model[k] = rnd.IntN(1000)
				commands = append(commands, []string{"SET", k, strconv.Itoa(model[k])})
				want = append(want, "OK")
			case 1:
				model[k]++
				commands = append(commands, []string{"INCR", k})
				want = append(want, strconv.Itoa(model[k]))
			case 2:
				delete(model, k)
				commands = append(commands, []string{"DEL", k})
				want = append(want, map[bool]string{true: "1", false: "0"}[have])
			case 3:
				commands = append(commands, []string{"PING", k})
				want = append(want, strconv.Quote(k))
			case 4:
				commands = append(commands, []string{"LPUSH", k}) // an error keeps its place, too
				want = append(want, "-ERR wrong number of arguments for 'lpush' command")
			default:
				commands = append(commands, []string{"GET", k})
				want = append(want, map[bool]string{true: strconv.Quote(strconv.Itoa(n)), false: "nil"}[have])
			}
		}
		wg.Go(func() {
			c, err := open(t, p.Region("nrt"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.close()
			if err := c.write(commands...); err != nil {
				t.Error(err)
				return
			}
			for i := range want {
				v, err := c.read()
				if got := show(v); err != nil || got != want[i] {
					t.Errorf("command %d, %v: got %s, %v; want %s", i, commands[i], got, err, want[i])
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestTransactions(t *testing.T) {
	p := world(t)
	k := key(t, "k")
	a, b := connect(t, p.Region("nrt")), connect(t, p.Region("ams"))

	t.Run("EXEC runs all", func(t *testing.T) {
		a.want("OK", "MULTI")
		a.want("QUEUED", "SET", k, "1")
		a.want("QUEUED", "INCR", k)
		a.want("QUEUED", "GET", k)
		a.want(`[OK 2 "2"]`, "EXEC")
		a.want(`"2"`, "GET", k)
	})
	t.Run("a WATCH that fails", func(t *testing.T) {
		a.want("OK", "WATCH", k)
		a.want(`"2"`, "GET", k)
		b.want("OK", "SET", k, "other")
		a.want("OK", "MULTI")
		a.want("QUEUED", "SET", k, "mine")
		a.want("nil", "EXEC")
		a.want(`"other"`, "GET", k)
	})
	t.Run("a WATCH that holds", func(t *testing.T) {
		a.want("OK", "WATCH", k)
		a.want("OK", "MULTI")
		a.want("QUEUED", "SET", k, "mine")
		a.want("[OK]", "EXEC")
		eventuallyGet(t, p.Region("ams"), 3*time.Second, k, `"mine"`)
	})
	t.Run("DISCARD and errors", func(t *testing.T) {
		a.want("OK", "MULTI")
		a.want("QUEUED", "SET", k, "no")
		a.want("OK", "DISCARD")
		a.want("-ERR EXEC without MULTI", "EXEC")
		a.want("OK", "MULTI")
		a.want("-ERR wrong number of arguments for 'get' command", "GET")
		a.want("-EXECABORT Transaction discarded because of previous errors.", "EXEC")
		a.want(`"mine"`, "GET", k)
	})
	t.Run("concurrent increments by WATCH", func(t *testing.T) {
		n := key(t, "n")
		var wg sync.WaitGroup
		for _, region := range []string{"mad", "ams", "ams"} {
			wg.Go(func() {
				c, err := open(t, p.Region(region))
				if err != nil {
					t.Error(err)
					return
				}
				defer c.close()
				for done := 0; done < 10; {
					steps := []string{}
					for _, args := range [][]string{{"WATCH", n}, {"GET", n}} {
						v, err := c.call(args...)
						if err != nil {
							t.Error(err)
							return
						}
						steps = append(steps, v.String())
					}
					old, _ := strconv.Atoi(steps[1])
					if err := c.write([]string{"MULTI"}, []string{"SET", n, strconv.Itoa(old + 1)}, []string{"EXEC"}); err != nil {
						t.Error(err)
						return
					}
					for range 2 {
						if _, err := c.read(); err != nil {
							t.Error(err)
							return
						}
					}
					v, err := c.read()
					if err != nil {
						t.Error(err)
						return
					}
					if !v.IsNull() {
						done++
					}
				}
			})
		}
		wg.Wait()
		connect(t, p.Region("mad")).want(`"30"`, "GET", n)
	})
}

func TestAKeyExpiresEverywhereAtTheSameMoment(t *testing.T) {
	p := world(t)
	k := key(t, "k")
	connect(t, p.Region("nrt")).want("OK", "SET", k, "v", "PX", "2500")
	var when []string
	for _, r := range p.Regions {
		eventuallyGet(t, r, 2*time.Second, k, `"v"`)
		when = append(when, show(connect(t, r).do("PEXPIRETIME", k)))
	}
	if slices.Compact(slices.Clone(when))[0] != when[len(when)-1] || len(slices.Compact(slices.Clone(when))) != 1 {
		t.Errorf("PEXPIRETIME differs between regions: %v", when)
	}
	gone := make([]time.Time, len(p.Regions))
	var wg sync.WaitGroup
	for i, r := range p.Regions {
		c := connect(t, r)
		wg.Go(func() {
			if err := within(10*time.Second, func() error {
				v, err := c.call("GET", k)
				if err == nil && !v.IsNull() {
					err = fmt.Errorf("still there at %s", r.Code)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
			gone[i] = time.Now()
		})
	}
	wg.Wait()
	ms, err := strconv.ParseInt(when[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range p.Regions {
		if late := gone[i].Sub(time.UnixMilli(ms)); late < 0 || late > slower(100*time.Millisecond) {
			t.Errorf("%s: gone %v after its time", r.Code, late)
		}
	}
}

func TestALargeValueIsTheSameEverywhere(t *testing.T) {
	const size = 64 << 20
	p := startPlain(t, "--regions", "mad,ams,nrt", "--wan", "none")
	buf := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(buf)
	value := string(buf)
	k := key(t, "k")
	begin := time.Now()
	for _, r := range []dev.Region{p.Region("nrt"), p.Region("mad"), p.Region("ams")} {
		c := connect(t, r)
		c.wait = 90 * time.Second
		if r.Code == "nrt" {
			c.want("OK", "SET", k, value)
			t.Logf("set at nrt after %v", time.Since(begin))
		}
		eventually(t, 90*time.Second, func() error {
			if n := c.do("STRLEN", k).Integer(); n != size {
				return fmt.Errorf("%s has %d bytes", r.Code, n)
			}
			return nil
		})
		if string(c.do("GET", k).Bytes()) != value {
			t.Errorf("%s has another value", r.Code)
		}
		t.Logf("read at %s after %v", r.Code, time.Since(begin))
	}
}
