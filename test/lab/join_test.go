package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestJoin: who has no good token doesn't get in, and is told why.
func TestJoin(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	fresh := func(name string) *Node {
		host := w.lab.Host("nrt-1")
		n := &Node{Host: host, Data: filepath.Join(w.lab.Dir, "nodes", name), LogFile: filepath.Join(w.lab.Dir, name+".log")}
		if err := os.MkdirAll(n.Data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := n.own(n.Data); err != nil {
			t.Fatal(err)
		}
		return n
	}
	join := func(ctx context.Context, n *Node, secret string, pin string) error {
		token, err := n.Secret("token-"+filepath.Base(n.Data), secret)
		if err != nil {
			t.Fatal(err)
		}
		return n.Start(ctx, "--join", w.lab.API(), "--pin", pin, "--token-file", token, "--region", "nrt", "--name", filepath.Base(n.Data),
			"--wireguard", "[::]:51998", "--http", "0", "--endpoint", n.Addr.String()+":51998")
	}
	secret := func(args ...string) string {
		return w.cli(t, append([]string{"token", "create"}, args...)...)
	}
	used, err := os.ReadFile(filepath.Join(w.lab.Dir, "nrt-2.token"))
	if err != nil {
		t.Fatal(err)
	}
	expired := secret("--scope", "node", "--ttl", "1s")
	made := time.Now()
	forged := secret("--scope", "node")
	forged = forged[:len(forged)-4] + strings.Map(func(r rune) rune { return 'a' + (r+1)%26 }, forged[len(forged)-4:])
	for _, test := range []struct {
		name, token, pin string
		because          string
	}{
		{"bad", forged, w.lab.Pin, "token"},
		{"none", "rm_nobody.nothing", w.lab.Pin, "token"},
		{"nonsense", "nonsense", w.lab.Pin, "token"},
		{"used", string(used), w.lab.Pin, "used"},
		{"elsewhere", secret("--scope", "node", "--region", "mad"), w.lab.Pin, "mad"},
		{"noscope", secret("--scope", "org", "--org", "blog"), w.lab.Pin, "token"},
		{"impostor", secret("--scope", "node"), strings.Repeat("A", 43) + "=", "pin"},
		{"expired", expired, w.lab.Pin, "expired"},
	} {
		if test.name == "expired" {
			<-time.After(time.Until(made.Add(1100 * time.Millisecond)))
		}
		n := fresh(test.name)
		refused(t, "", join(ctx, n, test.token, test.pin), test.because)
		if n.Runs() {
			t.Errorf("%s runs", test.name)
			n.Kill()
		}
	}
	list, err := w.lab.NodeList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(order) {
		t.Errorf("the mesh has %d nodes, want %d", len(list), len(order))
	}
}
