package lab

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Peer is a host that is in an org's network by a file that `respmesh wireguard create` wrote and wg-quick reads. Where the
// kernel has no WireGuard, wg-quick uses wireguard-go.
type Peer struct {
	*Host
	Org, PeerName string
	File          string
	Interface     string
	Address       netip.Addr
	DNS           netip.Addr
	Prefix        netip.Prefix // of the org
	NodeKey       string       // whom it's attached to
}

// interfaceOf is the name of a host's WireGuard interface. wireguard-go's sockets are in one folder for all namespaces.
func interfaceOf(id, host string) string { return "rm" + id + host }

// AddPeer makes a host a peer of an org, attached in a region.
func (l *Lab) AddPeer(ctx context.Context, host, org, region string) (*Peer, error) {
	p := &Peer{Host: l.Host(host), Org: org, PeerName: host, Interface: interfaceOf(l.ID, host)}
	p.File = filepath.Join(l.Dir, p.Interface+".conf")
	if _, err := l.CLI(ctx, "wireguard", "create", org, region, host, "--file", p.File); err != nil {
		return nil, err
	}
	if err := p.read(); err != nil {
		return nil, err
	}
	return p, p.Up(ctx)
}

// Up brings the interface up.
func (p *Peer) Up(ctx context.Context) error { return p.quick(ctx, "up") }

// Down takes it down.
func (p *Peer) Down(ctx context.Context) error { return p.quick(ctx, "down") }

func (p *Peer) quick(ctx context.Context, what string) error {
	cmd := p.Command(ctx, "wg-quick", what, p.File)
	cmd.Env = append(cmd.Env, "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1")
	_, err := run(cmd)
	return err
}

// read takes in what the file says.
func (p *Peer) read() error {
	f, err := os.Open(p.File)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " = ")
		switch key {
		case "Address":
			prefix, perr := netip.ParsePrefix(value)
			p.Address, err = prefix.Addr(), perr
		case "DNS":
			p.DNS, err = netip.ParseAddr(value)
		case "AllowedIPs":
			p.Prefix, err = netip.ParsePrefix(value)
		case "PublicKey":
			p.NodeKey = value
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", p.File, lines.Text(), err)
		}
	}
	return lines.Err()
}
