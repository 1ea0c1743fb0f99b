package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUpstream: where the operator gave upstreams (mad, nrt) an org's resolver is a host's only one; elsewhere (ams) it refuses what
// isn't its own. What is its own never leaves the mesh.
func TestUpstream(t *testing.T) {
	w := world(t)
	u, err := w.lab.Upstream()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}()
	dig := func(h *Host, args ...string) string {
		t.Helper()
		return mustRun(t, h, append([]string{"dig", "+time=5", "+tries=1"}, args...)...)
	}
	app, other := w.ShopApp.Host, w.BlogApp.Host
	for _, q := range [][]string{{"A", "www.example.org"}, {"A", "WWW.example.ORG"}, {"+tcp", "A", "www.example.org"}} {
		if got := dig(app, append([]string{"+short"}, q...)...); got != "192.0.2.7" {
			t.Errorf("dig %v says %q", q, got)
		}
	}
	if n := len(u.Asked()); n != 1 {
		t.Errorf("the upstream was asked %d times, want once: the answer is good for 300 s", n)
	}
	if got := dig(app, "AAAA", "www.example.org"); !strings.Contains(got, "2001:db8::7") {
		t.Errorf("AAAA:\n%s", got)
	}
	if got := dig(app, "A", "nosuch.example.org"); !strings.Contains(got, "status: NXDOMAIN") {
		t.Errorf("a name that isn't there:\n%s", got)
	}
	// As programs ask: glibc.
	if got := mustRun(t, app, "getent", "ahosts", "www.example.org"); !strings.Contains(got, "192.0.2.7") || !strings.Contains(got, "2001:db8::7") {
		t.Errorf("getent: %s", got)
	}
	before := len(u.Asked())
	for _, q := range [][]string{
		{"AAAA", w.Cart.Host()}, {"A", w.Cart.Host()}, {"AAAA", "nosuch.shop.internal"}, {"AAAA", w.Posts.Host()}, {"AAAA", "internal"}, {"TXT", "_databases.internal"},
		{"-x", w.Cart.Address.String()}, {"-x", w.Posts.Address.String()}, {"-x", "fd00::1"}, {"A", "printer.local"}, {"A", "localhost"}, {"A", "x.onion"},
	} {
		dig(app, q...)
	}
	if asked := u.Asked(); len(asked) != before {
		t.Errorf("the upstream was asked about %v", asked[before:])
	}
	if got := dig(other, "A", "www.example.org"); !strings.Contains(got, "status: REFUSED") {
		t.Errorf("a node without upstreams says\n%s", got)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if got := dig(app, "A", "another.example.org"); !strings.Contains(got, "status: SERVFAIL") {
		t.Errorf("without its upstream the node says\n%s", got)
	}
	t.Logf("without its upstream the node answered after %v", time.Since(began))
	if got := dig(app, "+short", "A", "www.example.org"); got != "192.0.2.7" {
		t.Errorf("what was answered before: %q", got)
	}
	if got := dig(app, "+short", "AAAA", w.Cart.Host()); got != w.Cart.Address.String() {
		t.Errorf("its own name: %q", got)
	}
}

// lookup is a program that asks as programs do, linked with musl.
const lookup = `
#include <stdio.h>
#include <string.h>
#include <netdb.h>
#include <arpa/inet.h>

int main(int argc, char **argv) {
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
	int err = getaddrinfo(argv[1], "6379", &hints, &found);
	if (err) {
		puts(gai_strerror(err));
		return 0;
	}
	for (; found; found = found->ai_next) {
		char text[INET6_ADDRSTRLEN];
		void *addr = found->ai_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr
			: (void *)&((struct sockaddr_in *)found->ai_addr)->sin_addr;
		puts(inet_ntop(found->ai_family, addr, text, sizeof text));
	}
	return 0;
}
`

// TestMusl: the C library of Alpine asks for A and AAAA at once and fails if either is an error, so names that have only the one have
// to say of the other that it is empty.
func TestMusl(t *testing.T) {
	w := world(t)
	cc, err := exec.LookPath("musl-gcc")
	if err != nil {
		t.Skip("NOT TESTED: musl's resolver: run scripts/install-test-deps")
	}
	source := filepath.Join(t.TempDir(), "lookup.c")
	if err := os.WriteFile(source, []byte(lookup), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(w.lab.Dir, "bin", "lookup-musl")
	if out, err := exec.CommandContext(t.Context(), cc, "-static", "-O1", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("musl-gcc: %v\n%s", err, out)
	}
	u, err := w.lab.Upstream()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}()
	one := w.Cart.Address.String()
	regional := func(name string) []string {
		return strings.Fields(mustRun(t, w.ShopApp.Host, "dig", "+short", "AAAA", name))
	}
	const nothing = "Name does not resolve"
	for _, test := range []struct {
		h    *Host
		name string
		want []string
	}{
		{w.ShopApp.Host, w.Cart.Host(), []string{one}},
		{w.ShopApp.Host, strings.ToUpper(w.Cart.Host()), []string{one}},
		{w.ShopApp.Host, "mad." + w.Cart.Host(), regional("mad." + w.Cart.Host())},
		{w.ShopApp.Host, "top2.nearest.of." + w.Cart.Host(), regional("top2.nearest.of." + w.Cart.Host())},
		{w.ShopApp.Host, "_api.internal", []string{w.ShopApp.DNS.String()}},
		{w.ShopApp.Host, "nosuch.shop.internal", []string{nothing}},
		{w.ShopApp.Host, w.Posts.Host(), []string{nothing}},
		{w.ShopApp.Host, "www.example.org", []string{"192.0.2.7", "2001:db8::7"}}, // by the upstream
		{w.BlogApp.Host, "www.example.org", []string{"Try again"}},                // refused, by the only resolver
		{w.BlogApp.Host, w.Posts.Host(), []string{w.Posts.Address.String()}},
	} {
		got := strings.Split(mustRun(t, test.h, program, test.name), "\n")
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("musl finds %q for %s on %s, want %q", got, test.name, test.h.Name, test.want)
		}
	}
}
