package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"

	"respmesh/mesh"
)

// ends is one end of a way.
type ends struct {
	dial   func(context.Context, netip.AddrPort) (net.Conn, error)
	listen func(netip.AddrPort) (net.Listener, error)
	close  func()
}

func open(s setup) (ends, error) {
	switch s.Kind {
	case plain, wgGo:
		return ends{
			dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", to.String())
			},
			listen: func(at netip.AddrPort) (net.Listener, error) { return net.Listen("tcp", at.String()) },
			close:  func() {},
		}, nil
	case stock:
		return openStock(s)
	}
	return openMesh(s)
}

func openMesh(s setup) (ends, error) {
	key, err := mesh.ParsePrivateKey(s.Key)
	if err != nil {
		return ends{}, err
	}
	peer, err := mesh.ParsePublicKey(s.Peer)
	if err != nil {
		return ends{}, err
	}
	filter, err := mesh.NewFilter(mesh.FilterRules{Infra: netip.MustParsePrefix(inside + "::/48")})
	if err != nil {
		return ends{}, err
	}
	d, err := mesh.Open(mesh.Config{
		PrivateKey: key, Tunnel: mesh.Tunnel(s.Kind), Filter: filter,
		Listen: netip.AddrPortFrom(netip.IPv4Unspecified(), outsidePort),
		Addrs:  []netip.Addr{netip.MustParseAddr(insideAddr(s.Self))},
	})
	if err != nil {
		return ends{}, err
	}
	other := 3 - s.Self
	err = d.SetPeers([]mesh.Peer{{
		PublicKey: peer, Endpoint: netip.AddrPortFrom(netip.MustParseAddr(outsideAddr(other)), outsidePort),
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(insideAddr(other)), 128)},
	}})
	return ends{
		dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return d.DialTCP(ctx, netip.Addr{}, to)
		},
		listen: d.ListenTCP,
		close:  func() { _ = d.Close() },
	}, err
}

// openStock is WireGuard's own userspace stack, as its examples use it.
func openStock(s setup) (ends, error) {
	t, n, err := netstack.CreateNetTUN([]netip.Addr{netip.MustParseAddr(insideAddr(s.Self))}, nil, mesh.DefaultMTU)
	if err != nil {
		return ends{}, err
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	other := 3 - s.Self
	digits := func(key string) string {
		b, _ := base64.StdEncoding.DecodeString(key) // we made it
		return hex.EncodeToString(b)
	}
	err = d.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%s:%d\nallowed_ip=%s/128\n",
		digits(s.Key), outsidePort, digits(s.Peer), outsideAddr(other), outsidePort, insideAddr(other)))
	if err == nil {
		err = d.Up()
	}
	return ends{
		dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return n.DialContextTCPAddrPort(ctx, to)
		},
		listen: func(at netip.AddrPort) (net.Listener, error) { return n.ListenTCPAddrPort(at) },
		close:  d.Close,
	}, err
}
