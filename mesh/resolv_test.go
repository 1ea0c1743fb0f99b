package mesh

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolvConf(t *testing.T) {
	const before = "# by hand\nnameserver 192.0.2.1\nsearch example.org\noptions edns0\n"
	path := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(path, []byte(before), 0o644))
	inode := func() os.FileInfo { st, err := os.Stat(path); must(t, err); return st }
	was := inode()
	r := resolvConf{path}
	read := func() string { b, err := os.ReadFile(path); must(t, err); return string(b) }

	must(t, r.set(addr(orgA, 3), "internal"))
	want := "nameserver fd00:a:a::3 " + resolvMark + "\n" + before
	if got := read(); got != want {
		t.Errorf("set: %q", got)
	}
	// A killed run, and then another one.
	must(t, r.set(addr(orgB, 3), "internal"))
	if got := read(); strings.Count(got, resolvMark) != 1 || !strings.HasPrefix(got, "nameserver fd00:b:b::3 ") {
		t.Errorf("set again: %q", got)
	}
	for range 2 {
		must(t, r.restore())
		if got := read(); got != before {
			t.Errorf("restored: %q", got)
		}
	}
	if !os.SameFile(was, inode()) {
		t.Error("the file was replaced; a mount can't be")
	}
	missing := resolvConf{filepath.Join(t.TempDir(), "none")}
	must(t, missing.restore())
	must(t, missing.set(addr(orgA, 3), "internal"))
}

func TestResolved(t *testing.T) {
	var ran []string
	var fail error
	r := &resolved{link: "respmesh0", run: func(args ...string) error {
		ran = append(ran, strings.Join(args, " "))
		return fail
	}}
	must(t, r.restore())
	must(t, r.set(netip.MustParseAddr("fd00:a:a::3"), "internal."))
	must(t, r.restore())
	must(t, r.restore())
	want := "dns respmesh0 fd00:a:a::3, domain respmesh0 ~internal, revert respmesh0"
	if got := strings.Join(ran, ", "); got != want {
		t.Errorf("ran %s", got)
	}
	ran, fail = nil, errors.New("no such link")
	if r.set(addr(orgA, 3), "internal") == nil || ran[len(ran)-1] != "revert respmesh0" {
		t.Errorf("failed: ran %v", ran)
	}
}
