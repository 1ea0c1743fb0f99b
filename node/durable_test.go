package node

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"respmesh/proxy"
	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/embedded"
)

// fullDisk is a disk whose writes fail when told so.
type fullDisk struct {
	aof.OS
	full atomic.Bool
}

type fullFile struct {
	aof.File
	disk *fullDisk
}

func (d *fullDisk) OpenFile(name string, flag int, perm fs.FileMode) (aof.File, error) {
	f, err := d.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return fullFile{f, d}, nil
}

func (f fullFile) Write(p []byte) (int, error) {
	if f.disk.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func openPrimary(t *testing.T, o storeOptions) *store {
	t.Helper()
	o.log = slog.New(slog.DiscardHandler)
	s, err := openStore(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.lead(t.Context(), s.standing().Term+1); err != nil {
		t.Fatal(err)
	}
	return s
}

// batch runs commands in one go.
func batch(c proxy.StoreConn, lines ...string) string {
	var reqs []command.Request
	for _, l := range lines {
		var q command.Request
		q.Raw = frame.AppendCommandString(nil, strings.Fields(l)...)
		for _, w := range strings.Fields(l) {
			q.Args = append(q.Args, []byte(w))
		}
		q.Spec = command.Lookup(q.Args)
		reqs = append(reqs, q)
	}
	return string(c.Do(context.Background(), []byte("before"), reqs))
}

func TestStoreKeepsData(t *testing.T) {
	for _, policy := range []aof.Policy{aof.Always, aof.EverySec, aof.No} {
		o := storeOptions{data: t.TempDir(), fsync: policy}
		s := openPrimary(t, o)
		c := s.NewConn(func([]byte) {})
		if got := batch(c, "SET k v", "PUBLISH x y", "SUBSCRIBE a b", "CONFIG GET appendfsync"); !strings.HasPrefix(got, "before+OK\r\n:0\r\n*3\r\n") {
			t.Errorf("%v: %q", policy, got)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		s = openPrimary(t, o)
		c = s.NewConn(func([]byte) {})
		if got := batch(c, "GET k", "CONFIG GET appendfsync"); !strings.HasPrefix(got, "before$1\r\nv\r\n*2\r\n") || !strings.Contains(got, policy.String()) {
			t.Errorf("%v: %q", policy, got)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDevRefusesDataInUse(t *testing.T) {
	o := options(t)
	o.Regions = o.Regions[:1]
	d := startDev(t, o)
	_, err := StartDev(t.Context(), o)
	var usage *UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	closeDev(t, d)
	closeDev(t, startDev(t, o))
}

// A data directory from before there was an append-only file has a snapshot.
func TestStoreLoadsAnOldSnapshot(t *testing.T) {
	dir := t.TempDir()
	e := embedded.New(embedded.Options{})
	batch(e.NewConn(embedded.ConnOptions{}), "SET old data")
	var b bytes.Buffer
	if err := e.Snapshot(&b, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, snapshotName), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ do, want string }{{"APPEND old +", "before:5\r\n"}, {"GET old", "before$5\r\ndata+\r\n"}} {
		s := openPrimary(t, storeOptions{data: dir})
		if got := batch(s.NewConn(nil), step.do); got != step.want {
			t.Errorf("%s: %q", step.do, got)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A write whose effects can't be logged is never answered as if all were well.
func TestStoreOnAFullDisk(t *testing.T) {
	const (
		unknown = "-UNKNOWNOUTCOME the command was executed but may be lost: Errors writing to the AOF file: No space left on device\r\n"
		misconf = "-MISCONF Errors writing to the AOF file: No space left on device\r\n"
	)
	disk := &fullDisk{}
	o := storeOptions{data: t.TempDir(), fsync: aof.Always, fs: disk}
	s := openPrimary(t, o)
	c := s.NewConn(func([]byte) {})
	batch(c, "SET k v", "SET text x")
	disk.full.Store(true)
	if got, want := batch(c, "GET k", "SET k w", "INCR text", "MULTI", "SET k z", "EXEC", "DBSIZE"),
		"before$1\r\nv\r\n"+unknown+"-ERR value is not an integer or out of range\r\n+OK\r\n+QUEUED\r\n"+unknown+":2\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := batch(c, "GET k", "SET k w", "MULTI", "SET k w", "EXEC"),
		"before$1\r\nz\r\n"+misconf+"+OK\r\n"+misconf+"-EXECABORT Transaction discarded because of previous errors.\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := batch(c, "INFO persistence"); !strings.Contains(got, "aof_last_write_status:err") {
		t.Errorf("got %q", got)
	}
	disk.full.Store(false)
	if err := s.close(); err != nil { // which tries again
		t.Fatal(err)
	}
	s = openPrimary(t, o)
	if got := batch(s.NewConn(nil), "GET k"); got != "before$1\r\nz\r\n" {
		t.Errorf("got %q", got)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}
