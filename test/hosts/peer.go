package hosts

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

// Peer is a client of an org's private network: WireGuard's own userspace stack, with what `respmesh wireguard create` prints.
type Peer struct {
	dev      *device.Device
	net      *netstack.Net
	resolver netip.AddrPort
}

// Peer makes a peer that is attached in a region.
func (m *Mesh) Peer(ctx context.Context, org, region, name string) (*Peer, error) {
	out, err := m.CLI(ctx, "wireguard", "create", org, region, name)
	if err != nil {
		return nil, err
	}
	conf := make(map[string]string)
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), " = "); ok {
			conf[k] = v
		}
	}
	self, err1 := netip.ParsePrefix(conf["Address"])
	resolver, err2 := netip.ParseAddr(conf["DNS"])
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("wireguard create prints %q: %w", out, err)
	}
	tun, stack, err := netstack.CreateNetTUN([]netip.Addr{self.Addr()}, nil, 1280)
	if err != nil {
		return nil, err
	}
	digits := func(key string) string {
		b, _ := base64.StdEncoding.DecodeString(key) // one that isn't a key is refused below
		return hex.EncodeToString(b)
	}
	p := &Peer{net: stack, resolver: netip.AddrPortFrom(resolver, 53)}
	p.dev = device.NewDevice(tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	set := fmt.Sprintf("private_key=%s\npublic_key=%s\nendpoint=%s\n", digits(conf["PrivateKey"]), digits(conf["PublicKey"]), conf["Endpoint"])
	for _, prefix := range strings.Split(conf["AllowedIPs"], ", ") {
		set += "allowed_ip=" + prefix + "\n"
	}
	if err := errors.Join(p.dev.IpcSet(set), p.dev.Up()); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close ends the peer.
func (p *Peer) Close() { p.dev.Close() }

// TXT asks the resolver of the node where the peer is attached.
func (p *Peer) TXT(ctx context.Context, name string) (string, error) {
	c, err := p.net.DialUDPAddrPort(netip.AddrPort{}, p.resolver)
	if err != nil {
		return "", err
	}
	defer c.Close()
	r, _, err := (&dns.Client{}).ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion(name, dns.TypeTXT), &dns.Conn{Conn: c})
	if err != nil {
		return "", err
	}
	for _, rr := range r.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			return strings.Join(txt.Txt, ""), nil
		}
	}
	return "", fmt.Errorf("%s: %s without TXT", name, dns.RcodeToString[r.Rcode])
}
