package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// World is the lab with two orgs that have a database and peers each.
type World struct {
	lab                      *Lab
	Cart, Posts              Database
	ShopApp, Laptop, BlogApp *Peer
}

// Database is one that the lab made.
type Database struct {
	Org, Name string
	Address   netip.Addr
	Password  string
	File      string // with the password
}

// Host is its name inside the private network.
func (d Database) Host() string { return d.Name + "." + d.Org + ".internal" }

// HasRegion tells whether the lab has a region.
func HasRegion(code string) bool { return regionNumbers[code] != 0 }

// Furnish makes two orgs: shop with the database cart, an app in mad and a laptop behind NAT, and blog with the database posts
// and an app in ams.
func (l *Lab) Furnish(ctx context.Context) (w *World, err error) {
	w = &World{lab: l}
	for _, org := range []string{"shop", "blog"} {
		if _, err := l.CLI(ctx, "orgs", "create", org); err != nil {
			return nil, err
		}
	}
	if w.Cart, err = l.CreateDatabase(ctx, "shop", "cart", "--region", "mad", "--replica-regions", "ams,nrt"); err != nil {
		return nil, err
	}
	if w.Posts, err = l.CreateDatabase(ctx, "blog", "posts", "--region", "ams", "--replica-regions", "mad"); err != nil {
		return nil, err
	}
	if w.ShopApp, err = l.AddPeer(ctx, "shop-app", "shop", "mad"); err != nil {
		return nil, err
	}
	if w.Laptop, err = l.AddPeer(ctx, "laptop", "shop", "nrt"); err != nil {
		return nil, err
	}
	w.BlogApp, err = l.AddPeer(ctx, "blog-app", "blog", "ams")
	return w, err
}

// CreateDatabase makes a database; its password goes to a file.
func (l *Lab) CreateDatabase(ctx context.Context, org, name string, args ...string) (d Database, err error) {
	out, err := l.CLI(ctx, append([]string{"redis", "create", "--json", "--org", org, "--name", name, "--plan", "payg", "--disable-eviction"}, args...)...)
	if err != nil {
		return d, err
	}
	var made struct {
		Password string
		Database struct{ Address netip.Addr }
		Address  netip.Addr
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return d, fmt.Errorf("redis create prints %q: %w", out, err)
	}
	if !made.Address.IsValid() {
		made.Address = made.Database.Address
	}
	d = Database{Org: org, Name: name, Address: made.Address, Password: made.Password, File: filepath.Join(l.Dir, org+"-"+name+".password")}
	return d, os.WriteFile(d.File, []byte(d.Password), 0o600)
}

// Redis runs redis-cli on a host.
func (h *Host) Redis(ctx context.Context, host string, d Database, args ...string) (string, error) {
	cmd := h.Command(ctx, append([]string{"timeout", "10", "redis-cli", "-e", "-h", host}, args...)...)
	cmd.Env = append(cmd.Env, "REDISCLI_AUTH="+d.Password)
	return run(cmd)
}

// Print says how to walk in.
func (w *World) Print(out io.Writer) error {
	l := w.lab
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "\nThe lab %s stands. Its hosts, each entered with  ip netns exec NAMESPACE bash\n\n", l.ID)
	fmt.Fprintf(t, "NAMESPACE\tADDRESS\tIN THE MESH\tWHAT\n")
	for _, n := range l.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\tnode, %s tunnel, log %s\n", n.Namespace(), n.Addr, n.Ready.Address, n.Ready.Tunnel, n.LogFile)
	}
	for _, p := range []*Peer{w.ShopApp, w.Laptop, w.BlogApp} {
		fmt.Fprintf(t, "%s\t%s\t%s\tpeer of org %s by %s\n", p.Namespace(), p.Addr, p.Address, p.Org, p.File)
	}
	fmt.Fprintf(t, "%s\t%s\t\ta host without WireGuard, for a sidecar\n", l.Host("side-app").Namespace(), l.Host("side-app").Addr)
	fmt.Fprintf(t, "%s\t%s\t\trouter of the laptop\n", l.Host("nat").Namespace(), l.Host("nat").Addr)
	fmt.Fprintf(t, "%s\t\t\tthe internet: bridges and the WAN\n", l.net.Namespace())
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nDatabases\n")
	for _, d := range []Database{w.Cart, w.Posts} {
		fmt.Fprintf(out, "  %s  %s  password in %s\n", d.Host(), d.Address, d.File)
	}
	app, first := w.ShopApp.Namespace(), l.Nodes[0]
	_, err := fmt.Fprintf(out, `
Try
  export REDISCLI_AUTH=$(cat %s)
  ip netns exec %s redis-cli -h %s
  ip netns exec %s dig +short AAAA nearest.of.%s
  export RESPMESH_TOKEN_FILE=%s
  ip netns exec %s %s nodes list
`, w.Cart.File, app, w.Cart.Host(), app, w.Cart.Host(), l.AdminToken(), first.Namespace(), l.Binary)
	return err
}

// Possible tells what is missing for a lab on this machine.
func Possible(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the lab makes network namespaces, which takes root")
	}
	var missing []string
	for _, tool := range []string{"ip", "nft", "setpriv", "sysctl", "wg", "wg-quick", "wireguard-go", "dig", "redis-cli"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if missing != nil {
		return fmt.Errorf("the lab needs %s: run scripts/install-test-deps", strings.Join(missing, ", "))
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return err
	}
	probe := namespace("probe", fmt.Sprint(os.Getpid()))
	if _, err := run(exec.CommandContext(ctx, "ip", "netns", "add", probe)); err != nil {
		return fmt.Errorf("network namespaces don't work here: %w", err)
	}
	_, err := run(exec.CommandContext(ctx, "ip", "netns", "delete", probe))
	return err
}
