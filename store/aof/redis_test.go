package aof_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/aof"
)

// redis is a real redis-server that appends to the files in a directory.
type redis struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	conn net.Conn
	in   *frame.Reader
	log  bytes.Buffer
}

func startRedis(t *testing.T, dir string, args ...string) *redis {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("SKIPPED: redis-server is not installed, so nothing was tried with the real thing")
	}
	r := &redis{t: t, dir: dir}
	sock := filepath.Join(dir, "redis.sock")
	r.cmd = exec.Command(bin, append([]string{"--port", "0", "--unixsocket", sock, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "no"}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	for tick, n := time.NewTicker(5*time.Millisecond), 0; ; n++ {
		<-tick.C
		if r.conn, err = net.Dial("unix", sock); err == nil {
			r.in = frame.NewReader(r.conn)
			if !strings.HasPrefix(r.do("PING"), "-LOADING") {
				tick.Stop()
				return r
			}
			r.conn.Close()
		}
		if n > 2000 {
			t.Fatalf("redis-server doesn't start: %s", &r.log)
		}
	}
}

func (r *redis) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		_ = r.conn.Close()
	}
}

func (r *redis) do(args ...string) string {
	r.t.Helper()
	if _, err := r.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		r.t.Fatalf("%v; redis-server said:\n%s", err, &r.log)
	}
	var reply frame.Reply
	if err := r.in.ReadReply(&reply); err != nil {
		r.t.Fatalf("%v; redis-server said:\n%s", err, &r.log)
	}
	return string(reply.Raw)
}

// contents is the server's data.
func (r *redis) contents() map[string]string {
	r.t.Helper()
	if got := r.do("SAVE"); got != "+OK\r\n" {
		r.t.Fatal(got)
	}
	f, err := os.Open(filepath.Join(r.dir, "dump.rdb"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	return decode(r.t, f)
}

func checkAOF(t *testing.T, dir string) {
	t.Helper()
	bin, err := exec.LookPath("redis-check-aof")
	if err != nil {
		t.Log("NOT TESTED: redis-check-aof is not installed")
		return
	}
	out, err := exec.Command(bin, filepath.Join(dir, "appendonlydir", "appendonly.aof.manifest")).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("All AOF files and manifest are valid")) {
		t.Errorf("redis-check-aof: %v\n%s", err, out)
	}
}

// TestRealServer hands one directory to and fro: each side loads what the other left, adds to it and rewrites it.
func TestRealServer(t *testing.T) {
	dir := t.TempDir()
	o := aof.Options{Dir: dir, Log: logger(t)}
	var want map[string]string
	for round := range 3 {
		d := mustOpen(t, o)
		if round > 0 {
			sameContents(t, contents(t, d.e), want)
		}
		s := d.session()
		fill(t, s)
		if round > 0 {
			if err := d.w.Rewrite(); err != nil {
				t.Fatal(err)
			}
			s.do(t, fmt.Sprint("RPUSH ours ", round))
			s.do(t, "SELECT 5")
			s.do(t, fmt.Sprint("RPUSH ours ", round))
		}
		want = contents(t, d.e)
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		checkAOF(t, dir)

		r := startRedis(t, dir)
		sameContents(t, r.contents(), want)
		for n := range 300 {
			r.do("SELECT", fmt.Sprint(n%3))
			r.do("SET", fmt.Sprint("theirs", n), strings.Repeat("v", n))
			r.do("ZADD", "zset", fmt.Sprint(n), fmt.Sprint(n))
			r.do("HSET", "hash", fmt.Sprint(n%50), fmt.Sprint(n))
			r.do("EXPIRE", fmt.Sprint("theirs", n), "1000")
		}
		for _, args := range [][]string{{"MULTI"}, {"LPUSH", "l", "1"}, {"SPOP", "set"}, {"EXEC"}, {"SADD", "ints", "1", "2", "3"}} {
			r.do(args...)
		}
		if round > 0 {
			r.do("BGREWRITEAOF")
			tick := time.NewTicker(5 * time.Millisecond)
			for !strings.Contains(r.do("INFO", "persistence"), "aof_rewrite_in_progress:0") ||
				!strings.Contains(r.do("INFO", "persistence"), "aof_rewrite_scheduled:0") {
				<-tick.C
			}
			tick.Stop()
			r.do("SELECT", "0")
			r.do("APPEND", "after", "rewrite")
		}
		want = r.contents()
		r.kill()
	}
}

// Their base without an RDB, and their annotations.
func TestRealServersOtherForms(t *testing.T) {
	dir := t.TempDir()
	r := startRedis(t, dir, "--aof-use-rdb-preamble", "no", "--aof-timestamp-enabled", "yes")
	for n := range 100 {
		r.do("RPUSH", "l", fmt.Sprint(n))
	}
	r.do("SPOP", "nothing")
	want := r.contents()
	r.kill()
	d := mustOpen(t, aof.Options{Dir: dir, Log: logger(t)})
	sameContents(t, contents(t, d.e), want)
}
