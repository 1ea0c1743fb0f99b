package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// chargesEvery bounds how much of a day's count a crash forgets.
const chargesEvery = 10 * time.Second

// charges counts the commands that the databases' clients of this node are charged for, by day of UTC. A small file keeps the
// counts over restarts. The nodes tell the database's primary theirs each second, and it tells them what the others have: so a
// daily limit holds for all nodes together, give or take a second's commands. Who can't reach the primary goes on with what it knows.
type charges struct {
	path string // "": they aren't kept
	log  *slog.Logger

	mu     sync.Mutex
	day    string
	counts map[string]*charge // by the database's ID
	kept   map[string]int64   // what the file says
}

// charge is one database's count of the day. It implements proxy.Usage.
type charge struct {
	all    *charges
	n      atomic.Int64
	others atomic.Int64     // of the other nodes
	nodes  map[string]int64 // what they told this one, where the primary is; guarded by charges.mu
}

// Charge implements proxy.Usage.
func (c *charge) Charge(n int) int64 { return c.n.Add(int64(n)) + c.others.Load() }

// Own implements proxy.Usage.
func (c *charge) Own() (day string, n int64) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	return c.all.day, c.n.Load()
}

// Others implements proxy.Usage.
func (c *charge) Others(day string, n int64) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if day == c.all.day {
		c.others.Store(n)
	}
}

// told notes what another node has charged, and returns what all have; negative: the day is another here.
func (c *charge) told(node, day string, n int64) (all int64) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if day != c.all.day {
		return -1
	}
	if c.nodes == nil {
		c.nodes = make(map[string]int64)
	}
	c.nodes[node] = n
	var others int64
	for _, n := range c.nodes {
		others += n
	}
	c.others.Store(others)
	return c.n.Load() + others
}

type chargesFile struct {
	Day      string           `json:"day"`
	Commands map[string]int64 `json:"commands"` // by the database's ID
}

func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// openCharges reads the file. What it can't read it forgets: a day's count isn't worth a node that doesn't start.
func openCharges(path string, log *slog.Logger) *charges {
	c := &charges{path: path, log: log, day: dayOf(time.Now()), counts: make(map[string]*charge), kept: make(map[string]int64)}
	if path == "" {
		return c
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c
	}
	var f chargesFile
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		log.Warn("the commands counted today are forgotten: their file can't be read", "file", path, "err", err)
		return c
	}
	if f.Day == c.day {
		for id, n := range f.Commands {
			c.of(id).n.Store(n)
			c.kept[id] = n
		}
	}
	return c
}

// of is a database's count.
func (c *charges) of(id string) *charge {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[id] == nil {
		c.counts[id] = &charge{all: c}
	}
	return c.counts[id]
}

// forget drops the count of a database that is gone.
func (c *charges) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.counts, id)
}

// run begins anew at midnight and keeps the counts now and then, until ctx ends.
func (c *charges) run(ctx context.Context) {
	for {
		now := time.Now().UTC()
		midnight := now.Truncate(24 * time.Hour).Add(24 * time.Hour)
		t := time.NewTimer(min(chargesEvery, midnight.Sub(now)))
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
		c.turn(time.Now())
		if err := c.save(); err != nil {
			c.log.Warn("the commands counted today aren't kept", "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// turn sets the counts to zero when the day is another.
func (c *charges) turn(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if day := dayOf(now); day != c.day {
		c.day = day
		for _, n := range c.counts {
			n.n.Store(0)
			n.others.Store(0)
			n.nodes = nil
		}
	}
}

// save writes the file, if it isn't what it should be.
func (c *charges) save() error {
	if c.path == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := chargesFile{Day: c.day, Commands: make(map[string]int64)}
	changed := false
	for id, n := range c.counts {
		if v := n.n.Load(); v > 0 {
			f.Commands[id] = v
			changed = changed || c.kept[id] != v
		}
	}
	if !changed && len(f.Commands) == len(c.kept) {
		return nil
	}
	if err := replaceJSON(c.path, f); err != nil {
		return fmt.Errorf("count of commands: %w", err)
	}
	c.kept = f.Commands
	return nil
}

// charged is for other nodes' gateways: see proxy.LinkOptions.
func (n *Node) charged(org, name, node, day string, count int64) int64 {
	db := n.database(org, name)
	if db == nil {
		return -1
	}
	return n.charges.of(db.conf.ID).told(node, day, count)
}
