package aof_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/embedded"
	"respmesh/store/rdb"
)

// db is an engine with an append-only file, as a node has it.
type db struct {
	e      *embedded.Engine
	w      *aof.Writer
	loaded aof.Loaded
}

// openDB loads what is there and goes on.
func openDB(o aof.Options) (*db, error) {
	w, err := aof.Open(o)
	if err != nil {
		return nil, err
	}
	e := embedded.New(embedded.Options{Sink: w, Replica: true, LogFailure: w.Err})
	d := &db{e: e, w: w}
	if d.loaded, err = w.Load(e); err == nil {
		e.SetReplica(false)
		err = w.Start(e)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func mustOpen(t testing.TB, o aof.Options) *db {
	t.Helper()
	d, err := openDB(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close() })
	return d
}

func (d *db) close() error {
	_ = d.e.Close()
	return d.w.Close()
}

// session runs commands and commits them before it answers.
type session struct {
	d *db
	c *embedded.Conn
}

func (d *db) session() *session { return &session{d, d.e.NewConn(embedded.ConnOptions{})} }

func request(args ...string) command.Request {
	var q command.Request
	q.Raw = frame.AppendCommandString(nil, args...)
	for _, a := range args {
		q.Args = append(q.Args, []byte(a))
	}
	q.Spec = command.Lookup(q.Args)
	return q
}

func (s *session) try(args ...string) (string, error) {
	out := s.c.Do(context.Background(), nil, []command.Request{request(args...)})
	return string(out), s.d.w.Commit(s.d.w.Appended())
}

// do runs a command given as words.
func (s *session) do(t testing.TB, line string) string {
	t.Helper()
	out, err := s.try(strings.Fields(line)...)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return out
}

// contents is all data of an engine, or of whatever else makes an RDB, in a comparable form.
func contents(t testing.TB, s aof.Source) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot(&b, func() {}); err != nil {
		t.Fatal(err)
	}
	return decode(t, &b)
}

func decode(t testing.TB, r io.Reader) map[string]string {
	t.Helper()
	all := map[string]string{}
	for in := rdb.NewReader(r); ; {
		e, err := in.Next()
		if err == io.EOF {
			return all
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
		all[fmt.Sprintf("%d %q", e.DB, e.Key)] = fmt.Sprintf("%T %q until %d", e.Value, fmt.Sprint(e.Value), e.ExpireAt)
	}
}

func sameContents(t testing.TB, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("got %d keys\n%v\nwant %d\n%v", len(got), got, len(want), want)
	}
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// fill makes data of all types in two databases.
func fill(t testing.TB, s *session) {
	t.Helper()
	for _, line := range []string{
		"SET s text", "SET n 12345", "SET ttl v EX 10000", "APPEND s more", "RPUSH l a b c", "LPOP l", "SADD set 1 2 3 x",
		"SPOP set", "HSET h f v g 1", "HINCRBYFLOAT h g 1.5", "ZADD z 1 a 2.5 b", "ZPOPMIN z", "SELECT 3", "SET other db",
		"MULTI", "INCR i", "INCR i", "RPUSH l2 x", "EXEC", "SETBIT bits 7 1", "DEL nothing", "SELECT 0", "RENAME s t",
	} {
		s.do(t, line)
	}
}
