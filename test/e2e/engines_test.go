package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"respmesh/test/dev"
)

// The main scenario on each engine: writes from far away, reads nearby, messages, transactions, and waiting.
func TestEngines(t *testing.T) {
	tool(t, "redis-server")
	for name, engine := range map[string]func(t *testing.T) string{
		"a server started by us": func(*testing.T) string { return "redis" },
		"a running server":       func(t *testing.T) string { return "redis://:" + dev.RedisPassword + "@" + dev.RedisServer(t) },
		"a cluster":              func(*testing.T) string { return "cluster" },
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t)
			p := startPlain(t, "--regions", "mad,ams,nrt", "--engine", e)
			mad, ams, nrt := p.Ready.Regions[0], p.Ready.Regions[1], p.Ready.Regions[2]
			far := connect(t, nrt)
			for i := range 20 {
				far.want("OK", "SET", "k", strconv.Itoa(i))
				far.want(strconv.Quote(strconv.Itoa(i)), "GET", "k")
			}
			for _, r := range []dev.Region{mad, ams} {
				eventuallyGet(t, r, slower(5*time.Second), "k", `"19"`)
			}
			far.want("-ERR value is not an integer or out of range", "INCRBY", "k", "x") // the server's own words
			if e != "cluster" {
				copies(t, ams, nrt)
			}

			waits := connect(t, ams)
			if err := waits.write([]string{"BLPOP", "queue", "20"}); err != nil {
				t.Fatal(err)
			}
			listens := connect(t, ams)
			listens.want(`["subscribe" "news" 1]`, "SUBSCRIBE", "news")
			far.want("OK", "MULTI")
			far.want("QUEUED", "INCR", "{tx}n")
			far.want("QUEUED", "RPUSH", "{tx}l", "a", "b")
			far.want("[1 2]", "EXEC")
			far.want("1", "RPUSH", "queue", "job")
			waits.expect(`["queue" "job"]`)
			far.do("PUBLISH", "news", "hello")
			listens.expect(`["message" "news" "hello"]`)
			far.want(`["19" nil]`, "MGET", "k", "none")
			far.want("2", "DEL", "{tx}n", "{tx}l")
			connect(t, mad).want("nil", "GET", "{tx}n")
		})
	}
}

// copies checks that reads of these regions come from copies of their own: they are there within the time of no path.
func copies(t *testing.T, regions ...dev.Region) {
	t.Helper()
	for _, r := range regions {
		c := connect(t, r)
		c.do("GET", "k")
		began := time.Now()
		for range 20 {
			c.want(`"19"`, "GET", "k")
		}
		if took := time.Since(began) / 20; took > 20*time.Millisecond {
			t.Errorf("a read in %s takes %v: it isn't served there", r.Code, took)
		}
	}
}

// What can't be used is said before anything runs, or in the status.
func TestEngineThatIsNotThere(t *testing.T) {
	path := program(t)
	ctx, cancel := context.WithTimeout(t.Context(), slower(20*time.Second))
	defer cancel()
	for _, engine := range []string{"redis", "cluster"} {
		cmd := exec.CommandContext(ctx, path, "dev", "--engine", engine, "--port", "0", "--http", "0")
		cmd.Env = []string{"PATH=" + filepath.Join(t.TempDir(), "empty"), "HOME=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no redis-server or valkey-server found on PATH; install one") || strings.Count(string(out), "\n") > 1 {
			t.Errorf("--engine %s: %v, %q", engine, err, out)
		}
	}
}
