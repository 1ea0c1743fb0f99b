package redis_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"respmesh/store/redis"
)

func startSentinel(t *testing.T, primary *real) *real {
	t.Helper()
	r := &real{t: t, port: freePort(t), dir: t.TempDir()}
	conf := filepath.Join(r.dir, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor main 127.0.0.1 %s 1\nsentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"+
		"requirepass watch\n", primary.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.startAs(t, lookServer(t), conf, "--sentinel")
	t.Cleanup(r.stop)
	r.do("AUTH", "watch")
	return r
}

func (r *real) startAs(t *testing.T, bin, conf, mode string) {
	r.addr, r.sock = "127.0.0.1:"+r.port, filepath.Join(r.dir, "s.sock")
	r.out, r.exited = &output{}, make(chan struct{})
	r.proc = exec.Command(bin, conf, mode, "--port", r.port, "--bind", "127.0.0.1", "--unixsocket", r.sock, "--dir", r.dir)
	r.proc.Stdout, r.proc.Stderr = r.out, r.out
	if err := r.proc.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.proc.Wait(); close(r.exited) }()
	until(t, "sentinel starts", func() bool { return r.connect() })
}

// The primary dies; Sentinel promotes its replica; the engine follows.
func TestSentinelFailover(t *testing.T) {
	a := startReal(t)
	b := startReal(t, "--replicaof", "127.0.0.1 "+a.port)
	until(t, "replica is online", func() bool { return b.info("master_link_status") == "up" })
	sen := startSentinel(t, a)
	until(t, "sentinel knows the replica", func() bool { return strings.Contains(sen.do("SENTINEL", "REPLICAS", "main"), b.port) })
	dead := "127.0.0.1:" + freePort(t)
	e := open(t, redis.Options{URL: "redis+sentinel://" + dead + "," + sen.addr + "?master=main&sentinel_password=watch",
		Region: "mad", ProbeEvery: 50 * time.Millisecond})
	if err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newSession(t, e)
	s.want("SET k 1", "+OK\r\n")
	s.want("WAIT 1 5000", ":1\r\n")
	old, _ := e.Position()

	// A failover that was asked for: both servers live on.
	until(t, "failover begins", func() bool { return strings.HasPrefix(sen.raw("SENTINEL", "FAILOVER", "main"), "+OK") })
	until(t, "the engine follows", func() bool { return e.Addr() == b.addr && s.do("SET k 2") == "+OK\r\n" })
	until(t, "the history is known", func() bool { now, _ := e.Position(); return now != old })
	until(t, "the old primary follows", func() bool { return a.field("master_link_status") == "up" })
	s.want("GET k", "$1\r\n2\r\n")
	s.want("WAIT 1 5000", ":1\r\n")
	until(t, "sentinel knows the replica", func() bool { return strings.Contains(sen.do("SENTINEL", "REPLICAS", "main"), "name\r\n$15\r\n"+a.addr) })

	b.kill()
	until(t, "the engine follows", func() bool { return e.Addr() == a.addr && s.do("SET k 3") == "+OK\r\n" })
	s.want("GET k", "$1\r\n3\r\n")

	unknown := open(t, redis.Options{URL: "redis+sentinel://" + sen.addr + "?master=other&sentinel_password=watch"})
	if err := unknown.Check(t.Context()); err == nil || !strings.Contains(err.Error(), `doesn't know a primary of the name "other"`) {
		t.Error(err)
	}
}
