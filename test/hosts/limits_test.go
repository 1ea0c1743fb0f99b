package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPlanLimits: the free plan's commands of a day and size of a request hold, also over a restart of the node, and go away
// with the plan while clients stay connected.
func TestPlanLimits(t *testing.T) {
	m := newMesh(t, "mad")
	n := m.Nodes[0]
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas", "--plan", "free")
	c := m.dial(t, n, "shop", "cart", password)
	c.want(t, "ERR max request size exceeded. Limit: 10485760 bytes, Actual: 11534371 bytes", "SET", "big", strings.Repeat("x", 11<<20))
	for range 9999 { // the request that was too long counts, or doesn't
		if _, err := c.Do("GET", "k"); err != nil {
			t.Fatal(err)
		}
	}
	const over = "ERR max daily request limit exceeded. Limit: 10000, Usage: 1000"
	exhausted := func(c *Client) error {
		for range 3 {
			if _, err := c.Do("GET", "k"); err != nil && strings.HasPrefix(err.Error(), over) {
				return nil
			}
		}
		return errors.New("more than 10000 commands go through")
	}
	if err := exhausted(c); err != nil {
		t.Fatal(err)
	}
	c.want(t, "PONG", "PING") // free of charge

	if err := n.Stop(slower(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	c = m.dial(t, n, "shop", "cart", password)
	if err := exhausted(c); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	var status struct {
		Nodes []struct {
			Today int64 `json:"commands_today"`
		}
	}
	if err := json.Unmarshal([]byte(m.cli(t, "redis", "status", "cart", "--json")), &status); err != nil || status.Nodes[0].Today <= 10000 {
		t.Errorf("status counts %+v, %v", status, err)
	}
	m.cli(t, "redis", "update", "cart", "--plan", "payg")
	eventually(t, slower(5*time.Second), func() error { _, err := c.Do("GET", "k"); return err })
}

// TestOwnLimits: limits of the database's own hold at once, without a new connection.
func TestOwnLimits(t *testing.T) {
	m := newMesh(t, "mad")
	n := m.Nodes[0]
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	c := m.dial(t, n, "shop", "cart", password)
	c.want(t, "OK", "SET", "k", strings.Repeat("x", 2000))

	out := m.cli(t, "redis", "update", "cart", "--max-value", "1kb", "--max-sessions", "2", "--idle-timeout", "1h")
	for _, said := range []string{"max sessions", "value limit", "idle timeout"} {
		if !strings.Contains(out, said) {
			t.Errorf("redis update doesn't tell of %s:\n%s", said, out)
		}
	}
	eventually(t, slower(5*time.Second), func() error {
		_, err := c.Do("SET", "k", strings.Repeat("x", 2000))
		if err == nil || err.Error() != "ERR max value size exceeded. Limit: 1024 bytes, Actual: 2000 bytes" {
			return fmt.Errorf("a long value: %v", err)
		}
		return nil
	})
	m.dial(t, n, "shop", "cart", password)
	if _, err := m.Dial(t.Context(), n, "shop", "cart", password); err == nil || !strings.Contains(err.Error(), "ERR max number of clients reached") {
		t.Errorf("a third session: %v", err)
	}

	m.cli(t, "redis", "update", "cart", "--commands-per-second", "100", "--max-sessions", "0")
	eventually(t, slower(5*time.Second), func() error {
		began := time.Now()
		for range 50 { // 10 at once, the others 10 ms apart
			c.want(t, "PONG", "PING")
		}
		if took := time.Since(began); took < 300*time.Millisecond {
			return fmt.Errorf("50 commands at 100/s take %v", took)
		}
		return nil
	})
	if out, err := m.CLI(t.Context(), "redis", "update", "cart", "--idle-timeout", "1ms"); err == nil || !strings.Contains(err.Error(), "idle timeout 1ms: want 0 (never) or 1s to 8760h0m0s") {
		t.Errorf("a limit that can't be is taken: %s, %v", out, err)
	}
	m.cli(t, "redis", "update", "cart", "--idle-timeout", "1s")
	watcher := m.dial(t, n, "shop", "cart", password)
	eventually(t, slower(10*time.Second), func() error {
		if got, err := watcher.Do("CLIENT", "LIST"); err != nil || strings.Count(got, "\n") > 1 {
			return fmt.Errorf("idle sessions are there yet:\n%s%v", got, err)
		}
		return nil
	})
}
