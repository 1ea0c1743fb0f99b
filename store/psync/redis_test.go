package psync_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/psync"
)

// redis is a real redis-server with a connection to it.
type redis struct {
	t    *testing.T
	addr string // of its port
	conn net.Conn
	in   *frame.Reader
	log  *bytes.Buffer
}

// startRedis starts a server on a free port. Another process may take the port
// first, so it tries a few.
func startRedis(t *testing.T, args ...string) *redis {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("SKIPPED: redis-server is not installed, so nothing was tried with the real thing")
	}
	for range 5 {
		if r := tryRedis(t, bin, args); r != nil {
			return r
		}
	}
	t.Fatal("redis-server doesn't start")
	return nil
}

func tryRedis(t *testing.T, bin string, args []string) *redis {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &redis{t: t, addr: ln.Addr().String(), log: &bytes.Buffer{}}
	_, port, _ := net.SplitHostPort(r.addr)
	_ = ln.Close()
	dir := t.TempDir()
	sock := filepath.Join(dir, "redis.sock")
	cmd := exec.Command(bin, append([]string{"--port", port, "--bind", "127.0.0.1", "--unixsocket", sock, "--dir", dir,
		"--save", "", "--repl-diskless-sync-delay", "0", "--sanitize-dump-payload", "yes"}, args...)...)
	cmd.Stdout, cmd.Stderr = r.log, r.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		if r.conn != nil {
			_ = r.conn.Close()
		}
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("redis-server said:\n%s", r.log)
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", sock); err == nil {
			r.conn, r.in = conn, frame.NewReader(conn)
			return r
		}
		select {
		case <-tick.C:
		case <-exited:
			return nil
		}
	}
}

func (r *redis) do(args ...string) frame.Reply {
	r.t.Helper()
	_ = r.conn.SetDeadline(time.Now().Add(patience))
	if _, err := r.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		r.t.Fatal(err)
	}
	var p frame.Reply
	if err := r.in.ReadReply(&p); err != nil {
		r.t.Fatalf("%.80q: %v", args, err)
	}
	if p.IsError() && !bytes.HasPrefix(p.Text(), []byte("LOADING")) {
		r.t.Fatalf("%.80q: %s", args, p.Text())
	}
	return p
}

// lines sends commands written as in memory.do.
func (r *redis) lines(cmds ...string) {
	r.t.Helper()
	for _, c := range cmds {
		r.do(strings.Fields(c)...)
	}
}

// info gives a field of INFO replication.
func (r *redis) info(field string) string {
	r.t.Helper()
	for l := range strings.Lines(string(r.do("INFO", "replication").Text())) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), field+":"); ok {
			return v
		}
	}
	return ""
}

func (r *redis) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", r.addr)
}

// same compares a few databases of strings.
func (r *redis) same(m *memory) {
	r.t.Helper()
	for db := range 4 {
		r.do("SELECT", strconv.Itoa(db))
		var keys []string
		r.do("KEYS", "*").Each(func(e frame.Reply) bool {
			keys = append(keys, string(e.Text()))
			return true
		})
		m.mu.Lock()
		n := len(m.data[db])
		m.mu.Unlock()
		if n != len(keys) {
			r.t.Errorf("db %d: %d keys, the server has %d", db, n, len(keys))
		}
		for _, k := range keys {
			if got, want := m.get(db, k), string(r.do("GET", k).Text()); got != want {
				r.t.Errorf("db %d: %s is %.60q, on the server %.60q", db, k, got, want)
			}
		}
	}
	r.do("SELECT", "0")
}

// awaitReplica waits until the server has applied the log's offset as a replica.
func (r *redis) awaitReplica(log *psync.Log) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		replid, offset := log.Position()
		got, _ := strconv.ParseInt(r.info("slave_repl_offset"), 10, 64)
		if got >= offset && r.info("master_link_status") == "up" && r.info("master_replid") == replid {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("server is at %d, not %d", got, offset)
		}
	}
}

// position is where the server is as a primary.
func (r *redis) position() (string, int64) {
	r.t.Helper()
	offset, _ := strconv.ParseInt(r.info("master_repl_offset"), 10, 64)
	return r.info("master_replid"), offset
}

func awaitLog(t *testing.T, log *psync.Log, replid string, offset int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := log.Wait(ctx, replid, offset); err != nil {
		t.Fatal(err)
	}
}

// workload is deterministic and strict: see memory.
func workload(n int, seed uint64, do func(...string)) {
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		switch rng.IntN(6) {
		case 0:
			do(fmt.Sprintf("SELECT %d", rng.IntN(4)))
		case 1:
			do("MULTI", "INCR a", fmt.Sprintf("APPEND s %d,", i), "EXEC")
		case 2:
			do(fmt.Sprintf("SET key:%d %s", rng.IntN(100), strings.Repeat("v", rng.IntN(2000)+1)))
		case 3:
			do(fmt.Sprintf("DEL key:%d", rng.IntN(100)))
		default:
			do("INCR n")
		}
	}
}

// Our replica follows a real server: both framings, partial after cut links,
// GETACK by WAIT, full again after the server has lost its backlog.
func TestFollowRedis(t *testing.T) {
	for _, diskless := range []string{"yes", "no"} {
		t.Run("diskless "+diskless, func(t *testing.T) {
			r := startRedis(t, "--repl-diskless-sync", diskless, "--repl-ping-replica-period", "1", "--requirepass", "secret",
				"--enable-debug-command", "yes")
			r.do("AUTH", "secret")
			workload(200, 1, r.lines)
			r.do("SELECT", "3")
			b := newNode(t, 0)
			limit := int64(1 << 40)
			rep, _ := b.follow(cuttingDialer(r.dial, func() int64 { return limit }),
				func(o *psync.ReplicaOptions) { o.Password, o.AckDelay, o.AckEvery = "secret", -1, time.Hour })
			until(t, rep, psync.Online)
			workload(500, 2, r.lines)
			replid, offset := r.position()
			awaitLog(t, b.log, replid, offset)
			r.do("SET", "waited", "for")
			if n, _ := r.do("WAIT", "1", "10000").Int(); n != 1 {
				t.Errorf("WAIT: %d", n)
			}
			r.same(b.mem)

			for i := range 10 { // SELECT state and transactions survive
				r.do("CLIENT", "KILL", "TYPE", "replica")
				workload(50, uint64(10+i), r.lines)
			}
			replid, offset = r.position()
			awaitLog(t, b.log, replid, offset)
			r.same(b.mem)
			full := func() string {
				for l := range strings.Lines(string(r.do("INFO", "stats").Text())) {
					if v, ok := strings.CutPrefix(l, "sync_full:"); ok {
						return strings.TrimSpace(v)
					}
				}
				return ""
			}
			if full() != "1" {
				t.Errorf("%s full resynchronisations", full())
			}

			r.do("DEBUG", "CHANGE-REPL-ID")
			r.do("CLIENT", "KILL", "TYPE", "replica")
			r.do("SET", "k", "new history")
			replid, offset = r.position()
			deadline := time.Now().Add(patience)
			for {
				if id, at := b.log.Position(); id == replid && at >= offset {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the new history isn't taken over")
				}
				until(t, rep, psync.Online)
				r.do("PING")
			}
			r.same(b.mem)

			r.do("XADD", "stream", "*", "a", "b")
			if st := until(t, rep, psync.Broken); !strings.Contains(st.Err.Error(), "XADD") {
				t.Errorf("%v", st.Err)
			}
		})
	}
}

// A real server follows us: full, stream, partial, GETACK, a chain below it.
func TestRedisFollowsUs(t *testing.T) {
	a := newNode(t, 0, func(o *psync.PrimaryOptions) { o.Password, o.PingEvery = "secret", 200*time.Millisecond })
	workload(200, 1, a.mem.do)
	a.mem.do("SELECT 3")
	r := startRedis(t)
	r.do("CONFIG", "SET", "masterauth", "secret")
	host, port, _ := net.SplitHostPort(a.addr)
	r.do("REPLICAOF", host, port)
	r.awaitReplica(a.log)
	a.mem.do("SET in-db-3 yes")
	workload(500, 2, a.mem.do)
	r.awaitReplica(a.log)
	r.same(a.mem)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a.mem.do("INCR n")
	_, offset := a.log.Position()
	if n := a.prim.Await(ctx, offset, 1); n != 1 {
		t.Errorf("%d replicas", n)
	}

	for i := range 5 {
		a.cut(true)
		workload(50, uint64(10+i), a.mem.do)
		r.awaitReplica(a.log)
	}
	r.same(a.mem)
	if n := a.mem.snapshots.Load(); n != 1 {
		t.Errorf("%d snapshots", n)
	}

	// A replica of ours below the server has our bytes at our offsets.
	b := newNode(t, 0)
	rep, _ := b.follow(r.dial)
	until(t, rep, psync.Online)
	workload(100, 3, a.mem.do)
	replid, offset := a.log.Position()
	awaitLog(t, b.log, replid, offset)
	if !a.mem.equal(b.mem) {
		t.Error("data below the server differs")
	}

	// A promotion here is one partial resynchronisation for the server.
	a.log.Promote(1)
	workload(50, 4, a.mem.do)
	r.awaitReplica(a.log)
	r.same(a.mem)
	if n := a.mem.snapshots.Load(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

// redis-cli --rdb takes a snapshot by the legacy SYNC.
func TestRedisCLITakesRDB(t *testing.T) {
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("SKIPPED: redis-cli is not installed")
	}
	check, err := exec.LookPath("redis-check-rdb")
	if err != nil {
		t.Skip("SKIPPED: redis-check-rdb is not installed")
	}
	a := newNode(t, 0)
	workload(200, 1, a.mem.do)
	_, port, _ := net.SplitHostPort(a.addr)
	file := filepath.Join(t.TempDir(), "taken.rdb")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, cli, "-p", port, "--rdb", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(check, file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
