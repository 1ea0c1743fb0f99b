package conformance

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience bounds one command. Nothing that the grammar makes takes longer than a few milliseconds.
const patience = 10 * time.Second

// target is a server with two connections.
type target interface {
	// reset empties the server and opens both connections anew, speaking RESP2 or RESP3.
	reset(proto int) error
	do(conn int, args []string) (reply, error)
	// events tells which keyspace events there were since the last time.
	events() ([]string, error)
}

const listener = 2

// eventsOn makes all events come.
const eventsOn = "KEAmn"

// freshState is what a server is told before each run, which may have changed its settings.
var freshState = [][]string{
	{"FLUSHALL"}, {"FUNCTION", "FLUSH"}, {"SCRIPT", "FLUSH"},
	{"CONFIG", "SET", "notify-keyspace-events", eventsOn, "maxmemory-policy", "noeviction", "maxmemory", "0"},
	{"CONFIG", "SET", "maxmemory-samples", "5", "slowlog-max-len", "128", "slowlog-log-slower-than", "-1", "latency-monitor-threshold", "0",
		"latency-tracking", "yes", "tracking-table-max-keys", "1000000", "lfu-log-factor", "10"},
	{"CONFIG", "RESETSTAT"}, {"SLOWLOG", "RESET"},
}

// startRedis starts a redis-server on a Unix socket of its own.
func startRedis(t *testing.T) *redisTarget {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("NOT TESTED: no redis-server here to compare with; run scripts/install-test-deps")
	}
	dir, err := os.MkdirTemp("", "conformance") // t.TempDir's paths can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(bin, "--port", "0", "--unixsocket", socket, "--save", "", "--hz", "500", "--repl-diskless-sync-delay", "0", "--dir", dir, "--loglevel", "warning")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	r := &redisTarget{socket: socket}
	t.Cleanup(func() {
		r.close()
		if r.replica != nil {
			_ = r.replica.Close()
		}
	})
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := r.reset(2)
		if err == nil {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-server didn't start: %v", err)
		}
		<-tick.C
	}
}

// redisTarget's third connection listens to keyspace events.
type redisTarget struct {
	socket string
	conns  [3]net.Conn
	r      [3]*bufio.Reader

	replica net.Conn      // where somebody follows
	stream  *bufio.Reader // what it is told
}

func (r *redisTarget) close() {
	for _, c := range r.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

func (r *redisTarget) reset(proto int) error {
	r.close()
	for i := range r.conns {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			return err
		}
		r.conns[i], r.r[i] = c, bufio.NewReader(c)
		if i == listener {
			proto = 2
		}
		if _, err := r.do(i, []string{"HELLO", strconv.Itoa(proto)}); err != nil {
			return err
		}
	}
	if _, err := r.do(listener, []string{"PSUBSCRIBE", "__key*"}); err != nil {
		return err
	}
	for _, args := range freshState {
		if _, err := r.do(0, args); err != nil {
			return err
		}
	}
	_, err := r.events()
	return err
}

func (r *redisTarget) events() (out []string, err error) {
	p, err := r.do(listener, []string{"PING"})
	for ; err == nil && len(p.elems) == 4; p, err = readReply(r.r[listener]) {
		out = append(out, p.elems[2].text+" "+p.elems[3].text)
	}
	return out, err
}

func (r *redisTarget) do(conn int, args []string) (reply, error) {
	c := r.conns[conn]
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(encode(args)); err != nil {
		return reply{}, err
	}
	return readReply(r.r[conn])
}

func encode(args []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return []byte(b.String())
}
