package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"respmesh/mesh"
	"respmesh/netconf"
)

// hostName is the peer that this host is with --tun.
const hostName = "host"

// checkTUN refuses --tun where it can't work, before anything is started.
func checkTUN() error {
	if os.Geteuid() != 0 {
		return Usagef("--tun needs root: run it with sudo, or leave --tun out and use the ports on loopback")
	}
	return nil
}

// joinHost makes this host a peer in the primary's region: it reaches that region's node by UDP on loopback, as an
// app's VM there would.
func joinHost(ctx context.Context, d *Dev) (*mesh.TUN, error) {
	key, err := mesh.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	var peer netconf.Peer
	_, err = d.control.registry.Update(ctx, "dev", func(draft *netconf.Draft) (err error) {
		peer, err = draft.AddPeer(netconf.Peer{Org: d.opts.Org, Name: hostName, Region: d.opts.Primary, Key: key.Public().String()})
		return err
	})
	if err != nil {
		return nil, err
	}
	topology, _ := d.control.registry.Current()
	org, _ := topology.Org(d.opts.Org)
	node := d.primaryNode()
	filter, err := mesh.NewFilter(mesh.FilterRules{Role: mesh.RolePeer, Orgs: []netip.Prefix{org.Prefix}})
	if err != nil {
		return nil, err
	}
	device, err := mesh.NewTUN(mesh.TUNConfig{
		Config: mesh.Config{
			PrivateKey: key, Filter: filter, Log: d.opts.Log,
			Listen: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0),
			Addrs:  []netip.Addr{peer.Addr},
		},
		Routes: []netip.Prefix{org.Prefix},
	})
	if errors.Is(err, mesh.ErrTUNNotPermitted) {
		return nil, Usagef("--tun: %v", err)
	}
	if err != nil {
		return nil, fmt.Errorf("--tun: %w", err)
	}
	err = device.SetPeers([]mesh.Peer{{
		PublicKey: node.PublicKey(), Endpoint: node.WireGuard(), AllowedIPs: []netip.Prefix{org.Prefix},
	}})
	if err == nil {
		err = device.SetDNS(org.Resolver(), "internal")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--tun: %w", err), device.Close())
	}
	return device, nil
}

func (d *Dev) primaryNode() *Node {
	for _, n := range d.nodes {
		if n.opts.Region == d.opts.Primary {
			return n
		}
	}
	return nil
}
