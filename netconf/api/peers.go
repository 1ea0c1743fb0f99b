package api

import (
	"slices"

	"respmesh/netconf"
)

// What a peer's WireGuard wants; see package mesh for why.
const (
	peerKeepalive = 25
	peerMTU       = 1280
)

func peerOf(p netconf.Peer) Peer {
	return Peer{Org: p.Org, Name: p.Name, Region: p.Region, PublicKey: p.Key, Address: p.Addr.String(), Roaming: p.Roaming}
}

func peerConfig(t *netconf.Topology, o netconf.Org, p netconf.Peer) PeerConfig {
	cfg := PeerConfig{
		Peer:       peerOf(p),
		DNS:        o.Resolver().String(),
		AllowedIPs: []string{o.Prefix.String()},
		Nodes:      []PeerNode{},
		Keepalive:  peerKeepalive,
		MTU:        peerMTU,
	}
	nodes := t.NodesIn(p.Region)
	if p.Roaming {
		nodes = t.Nodes
	}
	for _, n := range nodes {
		// What roams has sessions on nodes that drain, and has to know that they do.
		if !n.Draining || p.Roaming {
			cfg.Nodes = append(cfg.Nodes, PeerNode{Name: n.Name, Region: n.Region, PublicKey: n.Key, Endpoint: n.Endpoint, Draining: n.Draining})
		}
	}
	return cfg
}

func getPeer(c *call) (any, error) {
	o, err := c.org()
	if err != nil {
		return nil, err
	}
	p, ok := c.topo.Peer(o.Name, c.PathValue("peer"))
	if !ok {
		return nil, noPeer(o.Name, c.PathValue("peer"))
	}
	return peerConfig(c.topo, o, p), nil
}

func listPeers(c *call) (any, error) {
	o, err := c.org()
	if err != nil {
		return nil, err
	}
	l := Peers{Peers: []Peer{}}
	for _, p := range c.topo.PeersOf(o.Name) {
		l.Peers = append(l.Peers, peerOf(p))
	}
	return l, nil
}

func createPeer(c *call) (any, error) {
	var in PeerRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	o, err := c.org()
	if err != nil {
		return nil, err
	}
	var made netconf.Peer
	_, err = c.update(func(d *netconf.Draft) (err error) {
		if err := roomForPeer(d, o.Name); err != nil {
			return err
		}
		made, err = d.AddPeer(netconf.Peer{Org: o.Name, Name: in.Name, Region: in.Region, Key: in.PublicKey, Roaming: in.Roaming})
		return err
	})
	if err != nil {
		return nil, err
	}
	return peerConfig(c.topo, o, made), nil
}

func resetPeer(c *call) (any, error) {
	var in PeerKeyRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	o, err := c.org()
	if err != nil {
		return nil, err
	}
	name := c.PathValue("peer")
	var after netconf.Peer
	_, err = c.update(func(d *netconf.Draft) error {
		i := slices.IndexFunc(d.Peers, func(p netconf.Peer) bool { return p.Org == o.Name && p.Name == name })
		if i < 0 {
			return noPeer(o.Name, name)
		}
		d.Peers[i].Key = in.PublicKey
		after = d.Peers[i]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return peerConfig(c.topo, o, after), nil
}

func deletePeer(c *call) (any, error) {
	o, err := c.org()
	if err != nil {
		return nil, err
	}
	name := c.PathValue("peer")
	if _, ok := c.topo.Peer(o.Name, name); !ok {
		return nil, noPeer(o.Name, name)
	}
	_, err = c.update(func(d *netconf.Draft) error { return d.RemovePeer(o.Name, name) })
	return nil, err
}

func noPeer(org, name string) error {
	return failf(CodeNotFound, "peer %s/%s isn't there; respmesh wireguard list %s shows what is", org, clip(name), org)
}
