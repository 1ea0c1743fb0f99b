package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"respmesh/mesh/wan"
)

// The lab's hosts. Those of a region are on its bridge, with the address that ends in number.
var plan = []struct {
	name, region string
	number       byte
}{
	{"mad-1", "mad", 1}, {"mad-2", "mad", 2}, {"ams-1", "ams", 1}, {"ams-2", "ams", 2}, {"nrt-1", "nrt", 1}, {"nrt-2", "nrt", 2},
	{"shop-app", "mad", 20}, {"blog-app", "ams", 20}, {"side-app", "ams", 21}, {"nat", "nrt", 30},
}

const (
	gateway    = 254
	wanDevice  = "wan0"
	wanTable   = "80"
	inside     = "192.168.80.1" // of nat, towards the laptop
	laptopAddr = "192.168.80.2"
)

// resolvconf stands in for the program that wg-quick hands a DNS server to: the host's resolver is that one from then on.
const resolvconf = `#!/bin/sh
case "$1" in
-a) cat >/etc/resolv.conf ;;
-d) : >/etc/resolv.conf ;;
esac
`

// install puts the programs that hosts run where everybody can.
func (l *Lab) install(binary string) error {
	bin := filepath.Join(l.Dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bin, "resolvconf"), []byte(resolvconf), 0o755); err != nil {
		return err
	}
	in, err := os.Open(binary)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(l.Binary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// wire makes the hosts and what is between them.
func (l *Lab) wire(ctx context.Context) (err error) {
	if l.net, err = l.host(ctx, "internet", "", netip.Addr{}); err != nil {
		return err
	}
	if err := l.openWAN(); err != nil {
		return err
	}
	var net script
	net.add("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.%s.rp_filter=0", wanDevice)
	net.add("ip link set %s up", wanDevice)
	net.add("ip route add default dev %s table %s", wanDevice, wanTable)
	for region := range regionNumbers {
		net.add("ip link add %s type bridge", region)
		net.add("sysctl -qw net.ipv4.conf.%s.rp_filter=0", region)
		net.add("ip addr add %s/24 dev %s", regionAddr(region, gateway), region)
		net.add("ip link set %s up", region)
		// What leaves the region goes through the WAN; what comes out of the WAN goes where it belongs.
		net.add("ip rule add iif %s lookup %s", region, wanTable)
	}
	if err := l.net.script(ctx, net); err != nil {
		return err
	}
	for _, p := range plan {
		h, err := l.host(ctx, p.name, p.region, regionAddr(p.region, p.number))
		if err != nil {
			return err
		}
		var s script
		s.add("ip link add eth0 type veth peer name %s netns %s", p.name, l.net.Namespace())
		s.add("ip addr add %s/24 dev eth0", h.Addr)
		s.add("ip link set eth0 up")
		s.add("ip -n %s link set %s master %s up", l.net.Namespace(), p.name, p.region)
		s.add("ip route add default via %s", regionAddr(p.region, gateway))
		if err := h.script(ctx, s); err != nil {
			return err
		}
	}
	return l.wireLaptop(ctx)
}

// wireLaptop puts a laptop behind the router nat, which masquerades.
func (l *Lab) wireLaptop(ctx context.Context) error {
	laptop, err := l.host(ctx, "laptop", "", netip.MustParseAddr(laptopAddr))
	if err != nil {
		return err
	}
	nat := l.Host("nat")
	var s script
	s.add("ip link add lan type veth peer name eth0 netns %s", laptop.Namespace())
	s.add("ip addr add %s/24 dev lan", inside)
	s.add("ip link set lan up")
	s.add("sysctl -qw net.ipv4.ip_forward=1")
	s.add("nft add table ip lab")
	s.add("nft add chain ip lab out { type nat hook postrouting priority 100 ; }")
	s.add("nft add rule ip lab out oifname eth0 masquerade")
	// As at home: what wasn't asked for from inside doesn't come in.
	s.add("nft add chain ip lab in { type filter hook forward priority 0 ; }")
	s.add("nft add rule ip lab in iifname eth0 ct state new drop")
	if err := nat.script(ctx, s); err != nil {
		return err
	}
	var in script
	in.add("ip addr add %s/24 dev eth0", laptopAddr)
	in.add("ip link set eth0 up")
	in.add("ip route add default via %s", inside)
	return laptop.script(ctx, in)
}

// host makes a host without a network.
func (l *Lab) host(ctx context.Context, name, region string, addr netip.Addr) (*Host, error) {
	h := &Host{Name: name, Region: region, Addr: addr, lab: l}
	if err := os.MkdirAll(filepath.Dir(h.resolvConf()), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(h.resolvConf(), nil, 0o644); err != nil {
		return nil, err
	}
	if _, err := run(exec.CommandContext(ctx, "ip", "netns", "add", h.Namespace())); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.hosts[name] = h
	l.mu.Unlock()
	_, err := h.Run(ctx, "ip", "link", "set", "lo", "up")
	return h, err
}

// script is commands that are run one after the other, by one shell.
type script []string

func (s *script) add(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

func (h *Host) script(ctx context.Context, s script) error {
	lines := strings.NewReplacer("{", `\{`, "}", `\}`, ";", `\;`).Replace(strings.Join(s, "\n"))
	cmd := h.Command(ctx, "sh", "-exs")
	cmd.Stdin = strings.NewReader(lines)
	_, err := run(cmd)
	return err
}

// openWAN starts the router between the regions.
func (l *Lab) openWAN() error {
	var device *os.File
	err := l.net.inside(func() (err error) {
		device, err = wan.OpenTUN(wanDevice)
		return err
	})
	if err != nil {
		return err
	}
	l.WAN = wan.NewRouter(device, regionOf, wan.Options{Seed: 1, Log: l.log})
	return l.Default()
}
