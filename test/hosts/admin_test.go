package hosts

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSnapshots: SAVE and BGSAVE make a file that Redis's own tool takes, wherever the client is connected.
func TestSnapshots(t *testing.T) {
	m := newMesh(t, "mad")
	ams := m.join(t, "ams", "ams-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	c := m.dial(t, ams, "shop", "cart", password)
	c.want(t, "OK", "SET", "k", "v")
	check := func() {
		t.Helper()
		files, _ := filepath.Glob(filepath.Join(m.Nodes[0].Data, "databases", "*", "dump.rdb"))
		if len(files) != 1 {
			t.Fatalf("snapshots: %v", files)
		}
		tool, err := exec.LookPath("redis-check-rdb")
		if err != nil {
			t.Log("redis-check-rdb isn't installed: the file wasn't checked")
			return
		}
		if out, err := exec.CommandContext(t.Context(), tool, files[0]).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("RDB looks OK")) {
			t.Errorf("redis-check-rdb: %v\n%s", err, out)
		}
	}
	c.want(t, "OK", "SAVE")
	check()
	before, err := c.Do("LASTSAVE")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, slower(10*time.Second), func() error { // LASTSAVE counts seconds
		if _, err := c.Do("BGSAVE"); err != nil && !strings.Contains(err.Error(), "already in progress") {
			return err
		}
		after, err := c.Do("LASTSAVE")
		if err == nil && after == before {
			return io.ErrNoProgress
		}
		return err
	})
	check()
	c.want(t, "Background append only file rewriting started", "BGREWRITEAOF")
	primary := m.dial(t, m.Nodes[0], "shop", "cart", password)
	info, err := primary.Do("INFO", "everything")
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"rdb_last_bgsave_status:ok", "sync_full:1", "aof_enabled:1"} {
		if !strings.Contains(info, said) {
			t.Errorf("INFO doesn't say %s:\n%s", said, info)
		}
	}
}

// TestUserRules: a rule that means nothing is refused where it is given, rather than by a user that can't log in.
func TestUserRules(t *testing.T) {
	m := newMesh(t, "mad")
	m.cli(t, "orgs", "create", "shop")
	m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	for rules, want := range map[string]string{
		"~* +@raed":       `access rule "+@raed": unknown command or category name`,
		"~* +nosuchthing": `access rule "+nosuchthing"`,
		"~* ~cart:*":      "a pattern after ~* has no effect",
	} {
		if out, err := m.CLI(t.Context(), "redis", "users", "set", "cart", "app", "--rules", rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s%v, want %s", rules, out, err, want)
		}
	}
	if out := m.cli(t, "redis", "users", "list", "cart"); strings.Contains(out, "app") {
		t.Errorf("a user with a bad rule was made:\n%s", out)
	}
	m.cli(t, "redis", "users", "set", "cart", "app", "--rules", "~cart:* +@read +config|get")
}

// TestStreamsEndWithTheNode: a client that only listens, by way of the API, doesn't hold the node up.
func TestStreamsEndWithTheNode(t *testing.T) {
	m := newMesh(t, "mad")
	ams := m.join(t, "ams", "ams-1")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	c := m.dial(t, ams, "shop", "cart", password)
	c.want(t, "PONG", "PING")
	began := time.Now()
	if err := ams.Stop(slower(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > slower(5*time.Second) {
		t.Errorf("it took %v to end", took)
	}
	if _, err := c.Do("PING"); err == nil {
		t.Error("the stream goes on without its node")
	}
}
