package hosts

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"respmesh/test/dev"
)

// TestMoveBetweenEngines moves a database to a real Redis and back while clients write and read at every node. No command may
// fail, no connection be lost, no read be older than the client's own write, no write be lost.
func TestMoveBetweenEngines(t *testing.T) {
	addr := dev.RedisServer(t, "--repl-diskless-sync-delay", "0")
	m := newMesh(t, "mad")
	ams, _ := m.join(t, "ams", "ams-1"), m.join(t, "nrt", "nrt-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	c := m.dial(t, m.Nodes[0], "shop", "cart", password)
	for i := range 100 {
		c.want(t, "OK", "SET", fmt.Sprint("big:", i), string(make([]byte, 100<<10)))
	}
	load := m.StartLoad(t.Context(), "shop", "cart", password, m.Nodes...)
	load.wrote(t, 20)

	// A password that is wrong: the database stays, the status says why, and it can be taken back.
	if _, err := m.CLI(t.Context(), "redis", "update", "cart", "--engine", "redis://:wrong@"+addr); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
	if out := m.cli(t, "redis", "status", "cart"); !strings.Contains(out, "embedded, to be moved to redis redis://:xxxxx@"+addr) || strings.Contains(out, "wrong@") {
		t.Errorf("the status doesn't say what is wanted:\n%s", out)
	}
	m.cli(t, "redis", "update", "cart", "--engine", "embedded")
	load.wrote(t, 20)

	for range 2 {
		for _, engine := range []string{"redis://:" + dev.RedisPassword + "@" + addr, "embedded"} {
			began := time.Now()
			out := m.cli(t, "redis", "update", "cart", "--engine", engine)
			t.Logf("moved in %v: %s", time.Since(began), out)
			load.wrote(t, 20)
			m.awaitUse(t, ams, ams)
			c.want(t, "100", bigs()...)
		}
	}
	r := load.Stop()
	t.Logf("the slowest write with its read took %v", r.Slowest)
	for node, n := range r.Writes {
		c.want(t, fmt.Sprint(n), "GET", "load:"+node)
	}
	clean(t, r)
	if got := redisCLI(t, addr, "SET", "k", "v"); !strings.Contains(got, "NOREPLICAS") {
		t.Errorf("the server that was left still takes writes: %s", got)
	}
}

func bigs() []string {
	args := []string{"EXISTS"}
	for i := range 100 {
		args = append(args, fmt.Sprint("big:", i))
	}
	return args
}

func redisCLI(t *testing.T, addr string, args ...string) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-p", port}, args...)...)
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+dev.RedisPassword)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli: %v: %s", err, out)
	}
	return string(out)
}

// TestKillWhileMoving kills the node that moves a database, at all moments of the move. The database is in one of the two
// engines afterwards, nothing acknowledged is lost, and the move is made in the end.
func TestKillWhileMoving(t *testing.T) {
	addr := dev.RedisServer(t, "--repl-diskless-sync-delay", "0")
	m := newMesh(t, "ams") // carries the control plane, and isn't touched
	mad := m.join(t, "mad", "mad-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	c := m.dial(t, m.Nodes[0], "shop", "cart", password)
	c.want(t, "OK", "SET", "k", strings.Repeat("x", 1<<20))
	m.awaitUse(t, m.Nodes[0], m.Nodes[0])
	engines := []string{"redis://:" + dev.RedisPassword + "@" + addr, "embedded"}
	for round := range 12 {
		load := m.StartLoad(t.Context(), "shop", "cart", password, m.Nodes[0])
		load.wrote(t, 5)
		engine := engines[round%2]
		m.cli(t, "redis", "update", "cart", "--engine", engine, "--detach")
		select { // somewhere in the move
		case <-time.After(time.Duration(round/2) * 60 * time.Millisecond):
		case <-t.Context().Done():
		}
		mad.Kill()
		r := load.Stop()
		if err := m.Start(t.Context(), mad); err != nil {
			t.Fatal(err)
		}
		eventually(t, slower(20*time.Second), func() error {
			_, err := c.Do("SET", "round", fmt.Sprint(round))
			return err
		})
		got, err := c.Do("GET", "load:ams-1")
		if err != nil {
			t.Fatal(err)
		}
		var have int
		if _, err := fmt.Sscan(got, &have); err != nil || have < r.Writes["ams-1"] {
			t.Errorf("round %d, to %s: write %d was acknowledged; there is %s", round, engine, r.Writes["ams-1"], got)
		}
		// The primary may have been killed between the last write and the read behind it: that is served by the copy as it is.
		last := fmt.Sprintf("wrote %d,", r.Writes["ams-1"])
		for _, e := range r.Errors {
			if strings.Contains(e, "wrote") && !strings.Contains(e, last) {
				t.Errorf("round %d: %s", round, e)
			}
		}
		eventually(t, slower(60*time.Second), func() error {
			out := m.cli(t, "redis", "status", "cart", "--json")
			if strings.Contains(out, "pending_engine") {
				return fmt.Errorf("still moving: %s", out)
			}
			return nil
		})
		c.want(t, fmt.Sprint(round), "GET", "round")
	}
}

// TestFailoverOnAServer kills the node by which a real Redis is written to: another one of the region takes over in time, and
// nothing that was acknowledged is lost.
func TestFailoverOnAServer(t *testing.T) {
	addr := dev.RedisServer(t, "--repl-diskless-sync-delay", "0")
	m := newMesh(t, "ams")
	primary, other := m.join(t, "mad", "mad-1"), m.join(t, "mad", "mad-2")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams", "--engine", "redis://:"+dev.RedisPassword+"@"+addr)
	c := m.dial(t, m.Nodes[0], "shop", "cart", password)
	c.want(t, "OK", "SET", "k", "v")
	m.awaitUse(t, m.Nodes[0], m.Nodes[0])
	for round := range 2 {
		if !strings.Contains(m.cli(t, "redis", "status", "cart"), primary.Name+" (term") {
			primary, other = other, primary
		}
		load := m.StartLoad(t.Context(), "shop", "cart", password, m.Nodes[0])
		load.wrote(t, 20)
		primary.Kill()
		began := time.Now()
		eventually(t, slower(10*time.Second), func() error {
			_, err := c.Do("SET", "round", fmt.Sprint(round))
			return err
		})
		took := time.Since(began)
		t.Logf("writes go on %v after the kill", took)
		if took > slower(5*time.Second) {
			t.Errorf("the other node took over after %v", took)
		}
		r := load.Stop()
		got, err := c.Do("GET", "load:ams-1")
		var have int
		if _, serr := fmt.Sscan(got, &have); err != nil || serr != nil || have < r.Writes["ams-1"] {
			t.Errorf("write %d was acknowledged; there is %s, %v", r.Writes["ams-1"], got, err)
		}
		if err := m.Start(t.Context(), primary); err != nil {
			t.Fatal(err)
		}
		m.awaitUse(t, primary, primary)
		m.dial(t, primary, "shop", "cart", password).want(t, fmt.Sprint(round), "GET", "round")
	}
}
