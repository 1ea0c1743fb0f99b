package aof_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"respmesh/store/aof"
)

const dir = "/data"

func TestRestart(t *testing.T) {
	for _, policy := range []aof.Policy{aof.Always, aof.EverySec, aof.No} {
		t.Run(policy.String(), func(t *testing.T) {
			o := aof.Options{Dir: t.TempDir(), Policy: policy, Log: logger(t)}
			d := mustOpen(t, o)
			s := d.session()
			fill(t, s)
			if err := d.w.Rewrite(); err != nil {
				t.Fatal(err)
			}
			s.do(t, "SET after rewrite")
			want := contents(t, d.e)
			if err := d.close(); err != nil {
				t.Fatal(err)
			}
			if err := d.w.Close(); err != nil {
				t.Errorf("closed twice: %v", err)
			}
			again := mustOpen(t, o)
			sameContents(t, contents(t, again.e), want)
			again.session().do(t, "SET third start")
			want = contents(t, again.e)
			if err := again.close(); err != nil {
				t.Fatal(err)
			}
			sameContents(t, contents(t, mustOpen(t, o).e), want)
		})
	}
}

// A key whose time passed while nothing ran is deleted after the load, not during it: what follows in the file may be about it.
func TestExpiryWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		d := mustOpen(t, aof.Options{Dir: dir, FS: fs})
		s := d.session()
		s.do(t, "SET k v PX 1000")
		s.do(t, "SET stays v PX 1000")
		s.do(t, "PERSIST stays")
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		d = mustOpen(t, aof.Options{Dir: dir, FS: fs})
		defer d.close()
		s = d.session()
		if got := s.do(t, "EXISTS k") + s.do(t, "EXISTS stays"); got != ":0\r\n:1\r\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestOneSyncServesMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		d := mustOpen(t, aof.Options{Dir: dir, FS: fs, Policy: aof.Always})
		defer d.close()
		fs.set(func(m *memFS) { m.slow, m.syncs = func() { time.Sleep(5 * time.Millisecond) }, 0 })
		const sessions, each = 50, 4
		var wg sync.WaitGroup
		for i := range sessions {
			wg.Go(func() {
				s := d.session()
				for n := range each {
					s.do(t, fmt.Sprintf("SET k%d %d", i, n))
				}
			})
		}
		wg.Wait()
		fs.set(func(m *memFS) {
			if m.syncs > 2*each+2 {
				t.Errorf("%d syncs for %d writes of %d sessions", m.syncs, sessions*each, sessions)
			}
			m.slow = nil
		})
	})
}

// With a full disk, writes are refused, reads go on, nothing that was acknowledged is lost, and everything heals.
func TestDiskFull(t *testing.T) {
	for _, policy := range []aof.Policy{aof.Always, aof.EverySec} {
		synctest.Test(t, func(t *testing.T) {
			fs := newMemFS()
			d := mustOpen(t, aof.Options{Dir: dir, FS: fs, Policy: policy})
			s := d.session()
			s.do(t, "SET k before")
			fs.set(func(m *memFS) { m.space = 10 })
			_, err := s.try("SET", "half", "written")
			var failure *aof.Failure
			if !errors.As(err, &failure) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("commit: %v", err)
			}
			const misconf = "-MISCONF Errors writing to the AOF file: No space left on device\r\n"
			if out, _ := s.try("SET", "k", "refused"); out != misconf {
				t.Errorf("got %q", out)
			}
			if out, _ := s.try("PING"); out != misconf {
				t.Errorf("PING: got %q", out)
			}
			if out, _ := s.try("GET", "k"); out != "$6\r\nbefore\r\n" {
				t.Errorf("GET: got %q", out)
			}
			// A crash now: nothing that was acknowledged is missing, the torn end is cut.
			image := fs.crashCopy()
			after := mustOpen(t, aof.Options{Dir: dir, FS: image})
			if got := after.session().do(t, "GET k"); got != "$6\r\nbefore\r\n" {
				t.Errorf("after a crash: %q", got)
			}
			after.close()

			fs.set(func(m *memFS) { m.space = -1 })
			time.Sleep(1100 * time.Millisecond)
			s.do(t, "SET k after")
			want := contents(t, d.e)
			if want[`0 "half"`] == "" {
				t.Error("the write that couldn't be acknowledged has gone")
			}
			if err := d.close(); err != nil {
				t.Fatal(err)
			}
			d = mustOpen(t, aof.Options{Dir: dir, FS: fs})
			defer d.close()
			sameContents(t, contents(t, d.e), want)
		})
	}
}

// After a failed fsync the kernel may have dropped the data and say that all is well: only a rewrite heals.
func TestFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		d := mustOpen(t, aof.Options{Dir: dir, FS: fs})
		s := d.session()
		s.do(t, "SET k acknowledged")
		fs.set(func(m *memFS) { m.sync = syscall.EIO })
		time.Sleep(1100 * time.Millisecond)
		if out, _ := s.try("SET", "k", "refused"); out != "-MISCONF Errors writing to the AOF file: Input/output error\r\n" {
			t.Errorf("got %q", out)
		}
		fs.set(func(m *memFS) { m.sync = nil })
		// What the kernel did with the file's pages: they aren't on the disk.
		fs.loseUnsynced()
		time.Sleep(time.Minute + 2*time.Second)
		s.do(t, "SET n 1")
		want := contents(t, d.e)
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		d = mustOpen(t, aof.Options{Dir: dir, FS: fs})
		defer d.close()
		sameContents(t, contents(t, d.e), want)
		if got := d.session().do(t, "GET k"); !strings.Contains(got, "acknowledged") {
			t.Errorf("got %q", got)
		}
	})
}

func TestRewriteByGrowth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		d := mustOpen(t, aof.Options{Dir: dir, FS: fs, RewriteMinSize: 4 << 10})
		defer d.close()
		s := d.session()
		for i := range 500 {
			s.do(t, fmt.Sprintf("SET k %d", i))
		}
		before := d.w.Info().Size
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if after := d.w.Info(); before < 4<<10 || after.Size > before/4 || after.Base == 0 {
			t.Errorf("%d bytes before, %+v after", before, after)
		}
		if n := len(fs.names()); n != 3 {
			t.Errorf("files %v", fs.names())
		}
	})
}

// crashCopy is what a crash at this moment would leave if nothing but what was synced survives.
func (m *memFS) crashCopy() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemFS()
	for name, i := range m.live {
		file := &inode{data: append([]byte(nil), i.data...), synced: len(i.data)}
		after.live[name], after.durable[name] = file, file
	}
	return after
}

func (m *memFS) loseUnsynced() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.live {
		i.data = i.data[:i.synced]
	}
}

func (m *memFS) names() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.live {
		names = append(names, name)
	}
	return names
}

// TestPowerFails runs sessions that write, with rewrites under way, cuts the power at a random moment, and looks at
// what has survived: all that was acknowledged, or, with everysec, all that was a second before.
func TestPowerFails(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(60) {
		policy := aof.Always
		if round%2 == 1 {
			policy = aof.EverySec
		}
		synctest.Test(t, func(t *testing.T) { powerFails(t, rand.New(rand.NewPCG(seed, round)), policy) })
		if t.Failed() {
			return
		}
	}
}

// acked is what was last acknowledged of a key: the numbers of its writes with their times.
type acked struct {
	n  int
	at time.Time
}

func powerFails(t *testing.T, rng *rand.Rand, policy aof.Policy) {
	const sessions = 5
	fs := newMemFS()
	base := make([]int, sessions)
	for life := range 4 {
		d, err := openDB(aof.Options{Dir: dir, FS: fs, Policy: policy, RewriteMinSize: 2 << 10})
		if err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		s := d.session()
		for i := range base {
			var n int
			fmt.Sscanf(s.do(t, fmt.Sprintf("HGET h%d n", i)), "$%d\r\n%d", new(int), &n)
			if n < base[i] {
				t.Fatalf("life %d, %v: session %d wrote %d before the power failed, now there is %d", life, policy, i, base[i], n)
			}
			base[i] = n
		}
		slow := rng.Uint64()
		var mu sync.Mutex
		pace := rand.New(rand.NewPCG(slow, 7))
		fs.set(func(m *memFS) {
			m.slow = func() {
				mu.Lock()
				n := pace.IntN(3000)
				mu.Unlock()
				time.Sleep(time.Duration(n) * time.Microsecond)
			}
		})
		var wg sync.WaitGroup
		acks := make([][]acked, sessions)
		for i := range sessions {
			wg.Go(func() {
				s, rng := d.session(), rand.New(rand.NewPCG(slow, uint64(i)))
				for n := base[i] + 1; ; n++ {
					if out, err := s.try("HSET", fmt.Sprintf("h%d", i), "n", fmt.Sprint(n), "pad", strings.Repeat("x", rng.IntN(40))); err != nil || out[0] == '-' {
						return
					}
					acks[i] = append(acks[i], acked{n, time.Now()})
					time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
				}
			})
		}
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		dead := time.Now()
		fs = fs.crash(rng)
		wg.Wait()
		_ = d.close()
		// A tick writes and syncs, each of which takes up to 3 ms here, and a rewrite's switch may come between.
		limit := dead
		if policy == aof.EverySec {
			limit = dead.Add(-time.Second - 30*time.Millisecond)
		}
		for i := range acks {
			for _, a := range acks[i] {
				if !a.at.After(limit) {
					base[i] = max(base[i], a.n)
				}
			}
		}
	}
}
