package node

import (
	"net/netip"
	"testing"

	"respmesh/mesh"
	"respmesh/netconf"
	"respmesh/resp/frame"
)

// TestRoamingPeer has one peer, with one device, reach a database through the node of each region; a peer that doesn't
// roam reaches that of its own region only.
func TestRoamingPeer(t *testing.T) {
	d := startDev(t, options(t))
	for _, roaming := range []bool{true, false} {
		name := "stays"
		if roaming {
			name = "roams"
		}
		key, err := mesh.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		var peer netconf.Peer
		if _, err := d.control.registry.Update(t.Context(), "test", func(draft *netconf.Draft) (err error) {
			peer, err = draft.AddPeer(netconf.Peer{Org: "personal", Name: name, Region: "mad", Key: key.Public().String(), Roaming: roaming})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		topology, _ := d.control.registry.Current()
		db, _ := topology.Database("personal", "demo")
		org, _ := topology.Org("personal")
		filter, err := mesh.NewFilter(mesh.FilterRules{Role: mesh.RolePeer, Orgs: []netip.Prefix{org.Prefix}})
		if err != nil {
			t.Fatal(err)
		}
		device, err := mesh.New(mesh.Config{PrivateKey: key, Filter: filter, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Addrs: []netip.Addr{peer.Addr}})
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		var peers []mesh.Peer
		for _, n := range d.nodes {
			eventually(t, "the node has the revision", func() bool {
				stats := n.device.Stats()
				for _, s := range stats {
					if s.PublicKey == key.Public() {
						return true
					}
				}
				return !roaming && n.opts.Region != "mad"
			})
			addr, _ := topology.RegionalAddress(db, n.opts.Region)
			region, _ := addr.Prefix(96) // P:0:2:R::/96
			peers = append(peers, mesh.Peer{PublicKey: n.PublicKey(), Endpoint: n.WireGuard(), AllowedIPs: []netip.Prefix{region}})
		}
		if err := device.SetPeers(peers); err != nil {
			t.Fatal(err)
		}
		for _, n := range d.nodes {
			for _, s := range n.device.Stats() {
				if s.PublicKey == key.Public() && !roaming && n.opts.Region != "mad" {
					t.Errorf("%s accepts a peer of another region", n.opts.Name)
				}
			}
			if !roaming && n.opts.Region != "mad" {
				continue
			}
			addr, _ := topology.RegionalAddress(db, n.opts.Region)
			conn, err := device.DialTCP(t.Context(), peer.Addr, netip.AddrPortFrom(addr, redisPort))
			if err != nil {
				t.Fatalf("%s: %v", n.opts.Name, err)
			}
			defer conn.Close()
			if _, err := conn.Write(frame.AppendCommandString(nil, "PING")); err != nil {
				t.Fatal(err)
			}
			var reply frame.Reply
			if err := frame.NewReader(conn).ReadReply(&reply); err != nil || string(reply.Text()) != "PONG" {
				t.Errorf("%s answers %q, %v", n.opts.Name, reply.Text(), err)
			}
		}
	}
}
