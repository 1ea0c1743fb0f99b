package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf/etcd"
)

// TestRestore takes a backup of a real control plane and starts another one from it.
func TestRestore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()

	start := func(data string) (*etcd.Member, *clientv3.Client) {
		m, err := etcd.StartMember(ctx, etcd.MemberOptions{Dir: data, Temporary: true})
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.Client(nil)
		if err != nil {
			t.Fatal(err)
		}
		return m, c
	}
	stop := func(m *etcd.Member, c *clientv3.Client) {
		c.Close()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}

	backup := filepath.Join(dir, "backup")
	m, c := start(filepath.Join(dir, "old"))
	if _, err := c.Put(ctx, "k", "before the backup"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(backup, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := etcd.Backup(ctx, c, f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	stop(m, c)

	data := filepath.Join(dir, "node")
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"control", "restore", backup, "--data", data}, &out, &errs); code != exitOK {
		t.Fatalf("exit status %d: %s", code, &errs)
	}
	if want := "The control plane was restored to " + data + "/control.\n\nNext: respmesh server --data " + data + "\n"; out.String() != want {
		t.Errorf("printed %q", &out)
	}
	m, c = start(filepath.Join(data, "control"))
	if r, err := c.Get(ctx, "k"); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "before the backup" {
		t.Errorf("restored %v, %v", r, err)
	}
	stop(m, c)

	// What is there isn't overwritten.
	errs.Reset()
	if code := run(ctx, []string{"control", "restore", backup, "--data", data}, &out, &errs); code != exitFailure || !strings.Contains(errs.String(), "has to be empty") {
		t.Errorf("a second time: exit status %d, %s", code, &errs)
	}
}
