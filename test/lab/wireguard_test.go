package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLifeOfAPeer takes one machine through all that `respmesh wireguard` does, with wg-quick and wireguard-go at the other
// end: a peer is made, gets another key, one of its own making, and is removed.
func TestLifeOfAPeer(t *testing.T) {
	w := world(t)
	l, ctx := w.lab, t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cli := func(args ...string) string {
		t.Helper()
		out, err := l.CLI(ctx, args...)
		must(err)
		return out
	}
	// The laptop's own interface makes room: both would route the org's prefix.
	must(w.Laptop.Down(ctx))
	defer func() { must(w.Laptop.Up(t.Context())) }()
	config := func(name string) *Peer {
		p := &Peer{Host: w.Laptop.Host, Org: "shop", PeerName: "visitor", Interface: interfaceOf(l.ID, name)}
		p.File = filepath.Join(l.Dir, p.Interface+".conf")
		return p
	}
	works := func(p *Peer, within time.Duration) {
		t.Helper()
		must(Eventually(ctx, within, func() error {
			_, err := p.Redis(ctx, w.Cart.Host(), w.Cart, "SET", "visitor", p.Interface)
			return err
		}))
	}

	first := config("v1")
	cli("wireguard", "create", "shop", "nrt", "visitor", "--file", first.File)
	info, err := os.Stat(first.File)
	must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %o", info.Mode().Perm())
	}
	if _, err := l.CLI(ctx, "wireguard", "create", "shop", "nrt", "another", "--file", first.File); err == nil || !strings.Contains(err.Error(), "isn't overwritten") {
		t.Errorf("a file that is there: %v", err)
	}
	must(first.read())
	list := cli("wireguard", "list", "shop")
	if !strings.Contains(list, "visitor") || !strings.Contains(list, first.Address.String()) || strings.Contains(list, "another") {
		t.Errorf("wireguard list:\n%s", list)
	}
	must(first.Up(ctx))
	works(first, 10*time.Second)

	second := config("v2")
	cli("wireguard", "reset", "shop", "visitor", "--file", second.File)
	must(second.read())
	if second.Address != first.Address {
		t.Errorf("reset changed the address from %s to %s", first.Address, second.Address)
	}
	must(Eventually(ctx, 3*time.Second, func() error {
		if first.Reaches(ctx, w.Cart) == nil {
			return os.ErrExist // the old key is still good
		}
		return nil
	}))
	must(first.Down(ctx))
	must(second.Up(ctx))
	works(second, 10*time.Second)
	must(second.Down(ctx))

	// With a key of its own making, whose private half nobody sees.
	private, err := w.Laptop.Run(ctx, "wg", "genkey")
	must(err)
	public, err := w.Laptop.Run(ctx, "sh", "-c", "echo "+private+" | wg pubkey")
	must(err)
	third := config("v3")
	text := cli("wireguard", "reset", "shop", "visitor", "--public-key", public)
	if strings.Contains(text, "\nPrivateKey") || !strings.Contains(text, "# PrivateKey = yours") {
		t.Errorf("with --public-key it prints\n%s", text)
	}
	must(os.WriteFile(third.File, []byte(strings.Replace(text, "# PrivateKey = yours", "PrivateKey = "+private, 1)), 0o600))
	must(third.read())
	must(third.Up(ctx))
	defer func() { must(third.Down(t.Context())) }()
	works(third, 10*time.Second)

	session, err := third.Session(ctx, w.Cart)
	must(err)
	defer session.Close()
	cli("wireguard", "remove", "shop", "visitor")
	began := time.Now()
	must(session.Conn.SetReadDeadline(began.Add(5 * time.Second)))
	_, err = session.Conn.Read(make([]byte, 1))
	t.Logf("the session ended after %v: %v", time.Since(began).Round(time.Millisecond), err)
	if took := time.Since(began); err == nil || took > time.Second {
		t.Errorf("the session of a peer that was removed ended after %v: %v", took, err)
	}
	if again, err := third.Session(ctx, w.Cart); err == nil {
		again.Close()
		t.Error("a peer that was removed can still connect")
	}
	if list := cli("wireguard", "list", "shop"); strings.Contains(list, "visitor") {
		t.Errorf("wireguard list:\n%s", list)
	}
}
