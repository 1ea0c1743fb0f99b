package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestCharges: a day's count survives a restart, and midnight in UTC begins another.
func TestCharges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "usage.json")
		log := slog.New(slog.DiscardHandler)
		start := func() (*charges, func()) {
			c := openCharges(path, log)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { c.run(ctx) })
			return c, func() { cancel(); wg.Wait() }
		}
		c, stop := start()
		if n := c.of("a").Charge(3); n != 3 {
			t.Errorf("the first three commands make %d", n)
		}
		c.of("gone").Charge(1)
		c.forget("gone")
		stop()
		if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), "gone") {
			t.Errorf("the file says %s, %v", raw, err)
		}
		c, stop = start()
		if n := c.of("a").Charge(1); n != 4 {
			t.Errorf("after a restart one more makes %d", n)
		}
		now := time.Now().UTC()
		time.Sleep(now.Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now))
		synctest.Wait()
		if n := c.of("a").Charge(1); n != 1 {
			t.Errorf("after midnight one makes %d", n)
		}
		// A crash forgets at most what came since the last save.
		time.Sleep(chargesEvery)
		synctest.Wait()
		if n := openCharges(path, log).of("a").Charge(1); n != 2 {
			t.Errorf("after a crash one more makes %d", n)
		}
		// The primary's node adds up what the others tell it.
		if n := c.of("a").told("b", dayOf(time.Now()), 5); n != 6 {
			t.Errorf("one here and five there make %d", n)
		}
		if n := c.of("a").told("c", dayOf(time.Now()), 3) + c.of("a").told("b", dayOf(time.Now()), 6); n != 9+10 {
			t.Errorf("sums are %d", n)
		}
		if n := c.of("a").told("b", "2001-01-01", 6); n >= 0 {
			t.Errorf("of another day: %d", n)
		}
		if n := c.of("a").Charge(1); n != 11 {
			t.Errorf("the limit is held against %d", n)
		}
		stop()
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := openCharges(path, log).of("a").Charge(1); n != 1 {
			t.Errorf("with a damaged file one makes %d", n)
		}
	})
}
