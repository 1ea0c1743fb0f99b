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
	"time"

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
	return entriesOf(s.t, &b, func(db int, key string) string {
		s.do("SELECT", strconv.Itoa(db))
		return s.do("XRANGE", key, "-", "+")
	})
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
	return entriesOf(r.t, bytes.NewReader(b), func(db int, key string) string {
		r.do("SELECT", strconv.Itoa(db))
		return string(r.do("XRANGE", key, "-", "+").Raw)
	})
}

// entriesOf reads a snapshot, with what has no order in order, and with streams as xrange tells them: how their entries are packed may
// differ, and so may the time when a consumer was seen last.
func entriesOf(t *testing.T, r io.Reader, xrange func(db int, key string) string) map[string]rdb.Entry {
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
		case *rdb.Stream:
			e.Value = rdb.String(streamText(v) + xrange(e.DB, string(e.Key)))
		}
		out[fmt.Sprintf("%d/%s", e.DB, e.Key)] = e
	}
}

// streamText is all of a stream but its entries, the times when consumers were seen, and how many entries a group has read, which
// redis-server doesn't tell its replicas either.
func streamText(v *rdb.Stream) string {
	text := fmt.Sprintf("%d entries, first %v, last %v, max deleted %v, added %d;", v.Length, v.First, v.Last, v.MaxDeleted, v.Added)
	for _, g := range v.Groups {
		text += fmt.Sprintf(" group %s last %v pending %v", g.Name, g.Last, g.Pending)
		for _, c := range g.Consumers {
			text += fmt.Sprintf(" consumer %s pending %v", c.Name, c.Pending)
		}
	}
	return text + "; "
}

func sameEntries(t *testing.T, got, want map[string]rdb.Entry) {
	t.Helper()
	for k, w := range want {
		text, _ := w.Value.(rdb.String)
		if have, _ := got[k].Value.(rdb.String); !bytes.Equal(have, text) {
			t.Errorf("%s is\n%.1000q, not\n%.1000q", k, have, text)
		} else if !reflect.DeepEqual(got[k], w) {
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

// quiet is for commands that may fail, as RENAME of nothing does.
func (r *redis) quiet(args ...string) {
	r.t.Helper()
	_ = r.conn.SetDeadline(time.Now().Add(patience))
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
	storm := every(150, seed, do, func() { a.cut(true) })
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
		mixed(2000, seed+uint64(i)+1, storm)
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
	storm := every(100, seed, r.quiet, func() { r.quiet("CLIENT", "KILL", "TYPE", "replica") })
	for i := range 5 {
		mixed(1000, seed+uint64(i)+1, storm)
	}
	replid, offset = r.position()
	awaitLog(t, b.log, replid, offset)
	awaitLog(t, c.log, replid, offset)
	want := r.entries()
	sameEntries(t, b.entries(), want)
	sameEntries(t, c.entries(), want)
}

// slowKeeper takes its time over what a log gets.
type slowKeeper struct{ asked, goOn chan struct{} }

func (k slowKeeper) Keep(int64, []byte)      { k.asked <- struct{}{}; <-k.goOn }
func (k slowKeeper) Moved(psync.Position)    {}
func (k slowKeeper) Replaced(psync.Position) {}

// What is read of a copy isn't newer than the position that it tells afterwards.
func TestPositionIsAsFarAsWhatIsRead(t *testing.T) {
	a, b := newStore(t, false), newStore(t, true)
	r, _ := b.follow(a.dial)
	until(t, r, psync.Online)
	k := slowKeeper{make(chan struct{}), make(chan struct{})}
	b.log.Keep(k)
	_, before := b.log.Position()
	a.do("SET", "k", "v")
	<-k.asked
	time.AfterFunc(20*time.Millisecond, func() { close(k.goOn) })
	value := b.do("GET", "k")
	if _, at := b.log.Position(); strings.Contains(value, "v") && at == before {
		t.Errorf("read %q, and the position is still %d", value, at)
	}
	b.log.Keep(nil)
}
