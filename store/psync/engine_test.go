package psync_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/embedded"
	"respmesh/store/psync"
	"respmesh/store/rdb"
)

// store is a node with the embedded engine.
type store struct {
	*node
	eng  *embedded.Engine
	conn *embedded.Conn
}

func newStore(t *testing.T, replica bool) *store {
	t.Helper()
	log := psync.NewLog(0)
	eng := embedded.New(embedded.Options{Sink: log, Replica: replica})
	t.Cleanup(func() { _ = eng.Close() })
	s := &store{node: newNodeOn(t, log, eng), eng: eng, conn: eng.NewConn(embedded.ConnOptions{})}
	t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

// do runs a command and returns its reply.
func (s *store) do(args ...string) string {
	raw := frame.AppendCommandString(nil, args...)
	in := frame.NewReader(bytes.NewReader(raw))
	var q command.Request
	if err := in.ReadCommand(&q.Command); err != nil {
		s.t.Fatal(err)
	}
	q.Spec = command.Lookup(q.Args)
	return string(s.conn.Do(context.Background(), nil, []command.Request{q}))
}

func (s *store) entries() map[string]rdb.Entry {
	s.t.Helper()
	var b bytes.Buffer
	if err := s.eng.Snapshot(&b, func() {}); err != nil {
		s.t.Fatal(err)
	}
	return entriesOf(s.t, &b)
}

func (r *redis) entries() map[string]rdb.Entry {
	r.t.Helper()
	r.do("SAVE")
	var dir string
	r.do("CONFIG", "GET", "dir").Each(func(e frame.Reply) bool { dir = string(e.Text()); return true })
	b, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
	if err != nil {
		r.t.Fatal(err)
	}
	return entriesOf(r.t, bytes.NewReader(b))
}

// entriesOf reads a snapshot, with what has no order in order.
func entriesOf(t *testing.T, r io.Reader) map[string]rdb.Entry {
	t.Helper()
	in, out := rdb.NewReader(r), map[string]rdb.Entry{}
	for {
		e, err := in.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := e.Value.(type) {
		case rdb.Set:
			slices.SortFunc(v, bytes.Compare)
		case rdb.Hash:
			slices.SortFunc(v, func(a, b rdb.Field) int { return bytes.Compare(a.Name, b.Name) })
		case rdb.ZSet:
			slices.SortFunc(v, func(a, b rdb.Member) int { return bytes.Compare(a.Name, b.Name) })
		}
		out[fmt.Sprintf("%d/%s", e.DB, e.Key)] = e
	}
}

func sameEntries(t *testing.T, got, want map[string]rdb.Entry) {
	t.Helper()
	for k, w := range want {
		if !reflect.DeepEqual(got[k], w) {
			t.Errorf("%s is %.300v, not %.300v", k, got[k], w)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s is one too many", k)
		}
	}
	if len(want) < 10 {
		t.Errorf("only %d keys", len(want))
	}
}

// mixed runs commands of all five types, many of which are rewritten for the
// stream since their outcome isn't in their words.
func mixed(n int, seed uint64, do func(...string)) {
	rng := rand.New(rand.NewPCG(seed, 0))
	num := func(n int) string { return strconv.Itoa(rng.IntN(n)) }
	key := func(kind string) string { return kind + ":" + num(12) }
	for range n {
		switch rng.IntN(24) {
		case 0:
			do("SELECT", num(4))
		case 1:
			do("SET", key("s"), strings.Repeat("v", rng.IntN(300)), "PX", "1000000"+num(1000))
		case 2:
			do("INCRBYFLOAT", key("f"), "0."+num(1000))
		case 3:
			do("APPEND", key("s"), num(1000))
		case 4:
			do("SETRANGE", key("s"), num(100), "range")
		case 5:
			do("HINCRBYFLOAT", key("h"), num(20), "1."+num(100))
		case 6:
			do("HSET", key("h"), num(200), num(100000), num(200), "text")
		case 7:
			do("HDEL", key("h"), num(200))
		case 8:
			do("RPUSH", key("l"), num(1000), "a", "b")
		case 9:
			do("LPOP", key("l"))
		case 10:
			do("LMOVE", key("l"), key("l"), "LEFT", "RIGHT")
		case 11:
			do("LTRIM", key("l"), "0", num(200))
		case 12:
			do("SADD", key("t"), num(1000), num(1000), "m"+num(1000))
		case 13:
			do("SPOP", key("t"), num(3))
		case 14:
			do("SUNIONSTORE", key("t"), key("t"), key("t"))
		case 15:
			do("ZADD", key("z"), num(100), num(1000), "-1.5", num(1000))
		case 16:
			do("ZPOPMIN", key("z"))
		case 17:
			do("ZINCRBY", key("z"), "2.25", num(1000))
		case 18:
			do("ZRANGESTORE", key("z"), key("z"), "0", "50")
		case 19:
			do("EXPIRE", key("h"), "10000")
		case 20:
			do("PERSIST", key("h"))
		case 21:
			do("DEL", key("t"), key("l"))
		case 22:
			do("MULTI")
			do("INCR", key("n"))
			do("SELECT", num(4))
			do("INCR", key("n"))
			do("EXEC")
		case 23:
			do("RENAME", key("z"), key("z"))
		}
	}
}

// quiet is for commands that may fail, as RENAME of nothing does.
func (r *redis) quiet(args ...string) {
	r.t.Helper()
	if _, err := r.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		r.t.Fatal(err)
	}
	var p frame.Reply
	if err := r.in.ReadReply(&p); err != nil {
		r.t.Fatal(err)
	}
}

// The engine as primary: of an engine, of a chain of them, of a real server.
func TestEnginePrimary(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a, b, c := newStore(t, false), newStore(t, true), newStore(t, true)
	do := func(args ...string) { a.do(args...) }
	mixed(2000, seed, do)
	rb, _ := b.follow(a.dial)
	until(t, rb, psync.Online)
	do("SELECT", "3")
	do("SET", "only-in-3", "x")
	replid, offset := a.log.Position()
	awaitLog(t, b.log, replid, offset)
	rc, _ := c.follow(b.dial) // in the middle of what is going on in database 3
	until(t, rc, psync.Online)
	do("SET", "also-only-in-3", "x")
	r := startRedis(t)
	host, port, _ := net.SplitHostPort(a.addr)
	r.do("REPLICAOF", host, port)
	r.awaitReplica(a.log)
	for i := range 5 {
		mixed(2000, seed+uint64(i)+1, do)
		a.cut(true)
	}
	replid, offset = a.log.Position()
	awaitLog(t, b.log, replid, offset)
	awaitLog(t, c.log, replid, offset)
	r.awaitReplica(a.log)
	want := a.entries()
	sameEntries(t, b.entries(), want)
	sameEntries(t, c.entries(), want)
	sameEntries(t, r.entries(), want)
	if got := b.do("SET", "k", "v"); !strings.HasPrefix(got, "-READONLY") {
		t.Errorf("a client's write: %q", got)
	}
}

// The engine as a real server's replica.
func TestEngineFollowsRedis(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := startRedis(t, "--repl-ping-replica-period", "1")
	mixed(2000, seed, r.quiet)
	b, c := newStore(t, true), newStore(t, true)
	rb, _ := b.follow(r.dial)
	until(t, rb, psync.Online)
	r.quiet("SELECT", "2")
	r.quiet("SET", "only-in-2", "x")
	replid, offset := r.position()
	awaitLog(t, b.log, replid, offset)
	rc, _ := c.follow(b.dial)
	until(t, rc, psync.Online)
	for i := range 5 {
		mixed(1000, seed+uint64(i)+1, r.quiet)
		r.do("CLIENT", "KILL", "TYPE", "replica")
	}
	replid, offset = r.position()
	awaitLog(t, b.log, replid, offset)
	awaitLog(t, c.log, replid, offset)
	want := r.entries()
	sameEntries(t, b.entries(), want)
	sameEntries(t, c.entries(), want)
}
