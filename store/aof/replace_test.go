package aof_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"respmesh/resp/command"
	"respmesh/store/aof"
	"respmesh/store/embedded"
)

// replacing is the data that take the place of others. In the middle of its snapshot, when what follows it has come too, it
// takes a picture of the disk.
type replacing struct {
	e       *embedded.Engine
	w       *aof.Writer
	dir     string
	picture string
}

func (r *replacing) Snapshot(w io.Writer, at func()) error {
	err := r.e.Snapshot(w, func() {
		at()
		r.w.Mark("two")
	})
	if err != nil || r.picture == "" {
		return err
	}
	r.w.Append([]byte("*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$3\r\nnew\r\n"))
	if err := r.w.Commit(r.w.Appended()); err != nil {
		return err
	}
	return os.CopyFS(r.picture, os.DirFS(r.dir))
}

// load gives what a process would find, and its mark.
func load(t *testing.T, dir string) (*embedded.Engine, aof.Loaded) {
	t.Helper()
	w, err := aof.Open(aof.Options{Dir: dir, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	e := embedded.New(embedded.Options{Replica: true})
	t.Cleanup(func() { e.Close() })
	sum, err := w.Load(e)
	if err != nil {
		t.Fatal(err)
	}
	return e, sum
}

// A crash while the base of new data is being written finds the old data, with nothing of what follows the new ones.
func TestCrashWhileDataAreReplaced(t *testing.T) {
	dir := t.TempDir()
	w, err := aof.Open(aof.Options{Dir: dir, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	e := embedded.New(embedded.Options{})
	defer e.Close()
	src := &replacing{e: e, w: w, dir: dir}
	if err := w.Start(src); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Mark("one")
	w.Append([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nold\r\n"))
	if err := w.Commit(w.Appended()); err != nil {
		t.Fatal(err)
	}
	run(e, "FLUSHALL")
	run(e, "SET a new")
	w.Suspend()
	w.Append([]byte("*1\r\n$8\r\nFLUSHALL\r\n")) // of the new data: dropped
	src.picture = filepath.Join(t.TempDir(), "second")
	if err := w.Rewrite(); err != nil {
		t.Fatal(err)
	}

	crashed, sum := load(t, src.picture)
	if sum.Mark != "one" || sum.After != int64(len("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nold\r\n")) {
		t.Errorf("mark %q, %d bytes after it", sum.Mark, sum.After)
	}
	if got := run(crashed, "GET a") + run(crashed, "GET b"); got != "$3\r\nold\r\n$-1\r\n" {
		t.Errorf("%q", got)
	}
	whole, sum := load(t, dir)
	if sum.Mark != "two" || sum.After != int64(len("*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$3\r\nnew\r\n")) {
		t.Errorf("mark %q, %d bytes after it", sum.Mark, sum.After)
	}
	if got := run(whole, "GET a") + run(whole, "GET b"); got != "$3\r\nnew\r\n$3\r\nnew\r\n" {
		t.Errorf("%q", got)
	}
}

func run(e *embedded.Engine, line string) string {
	return string(e.NewConn(embedded.ConnOptions{}).Do(context.Background(), nil, []command.Request{request(strings.Fields(line)...)}))
}
