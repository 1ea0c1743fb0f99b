package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"respmesh/mesh"
	"respmesh/netconf"
)

// A node's WireGuard key is replaced in four steps, none of which needs the one before to have arrived everywhere at once:
//
//  1. The node writes the new key beside the old one and makes it known as its next. The others take it as a peer that
//     has no addresses yet.
//  2. When the others say that they run on that state, or have had time to, the node's device takes the new key and calls
//     all others.
//  3. Each of the others gives the node's address to whichever of the two keys it last had a handshake with. That is the
//     gap: one round trip.
//  4. The node makes the new key known as its own, and the old one goes.
//
// A crash in between leaves a key that the others know.

const (
	// nextKeyName is the new key's file until the device has it.
	nextKeyName = wireguardKeyName + ".next"
	// keyKnownIn bounds the wait for nodes that are slow or away: they learn the key in the last step.
	keyKnownIn = 3 * time.Second
	// keyTakenIn bounds the wait for the others to be reached with the new key.
	keyTakenIn = 3 * time.Second
	// lookAtKeys is how often a node looks which key another one uses, while that has two.
	lookAtKeys = 20 * time.Millisecond
)

// rotate makes a new WireGuard key for the node.
func (s *Server) rotate(ctx context.Context) error {
	s.moving.Lock()
	defer s.moving.Unlock()
	if err := os.Remove(s.path(nextKeyName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := mesh.LoadOrCreateKey(s.path(nextKeyName))
	if err != nil {
		return err
	}
	next := key.Public().String()
	revision, err := s.setKeys(ctx, func(n *netconf.Node) { n.NextKey = next })
	if err != nil {
		return err
	}
	s.await(ctx, keyKnownIn, func(t *netconf.Topology, other string) bool { return t.Live.Nodes[other].Revision >= revision })
	began := time.Now()
	if err := s.node.device.SetPrivateKey(key); err != nil {
		return err
	}
	if err := os.Rename(s.path(nextKeyName), s.path(wireguardKeyName)); err != nil {
		return err
	}
	s.await(ctx, keyTakenIn, func(t *netconf.Topology, other string) bool {
		n, _ := t.Node(other)
		return s.node.handshakes()[n.Key].After(began)
	})
	if _, err := s.setKeys(ctx, func(n *netconf.Node) { n.Key, n.NextKey = next, "" }); err != nil {
		return err
	}
	s.opts.Log.Info("the node has a new WireGuard key", "key", next)
	return nil
}

// setKeys changes this node's keys in the state.
func (s *Server) setKeys(ctx context.Context, change func(*netconf.Node)) (revision uint64, err error) {
	return s.control.registry.Update(ctx, "node "+s.opts.Name, func(d *netconf.Draft) error {
		for i := range d.Nodes {
			if d.Nodes[i].Name == s.opts.Name {
				change(&d.Nodes[i])
				return nil
			}
		}
		return fmt.Errorf("node %s %w", s.opts.Name, netconf.ErrNotFound)
	})
}

// await waits until something holds for all other nodes that are there.
func (s *Server) await(ctx context.Context, bound time.Duration, holds func(t *netconf.Topology, other string) bool) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(lookAtKeys)
	defer tick.Stop()
	for {
		t, changed := s.control.registry.Current()
		all := true
		for other := range t.Live.Nodes {
			all = all && (other == s.opts.Name || holds(t, other))
		}
		if all {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// finishRotation takes a key that the others take for this node's own, where the last process ended in between. One that is
// only the next stays unused.
func (s *Server) finishRotation(t *netconf.Topology) error {
	self, ok := t.Node(s.opts.Name)
	if _, err := os.Stat(s.path(nextKeyName)); err != nil || !ok || self.Key == s.node.PublicKey().String() {
		return nil
	}
	key, err := mesh.LoadOrCreateKey(s.path(nextKeyName))
	if err != nil || key.Public().String() != self.Key {
		return err
	}
	if err := s.node.device.SetPrivateKey(key); err != nil {
		return err
	}
	return os.Rename(s.path(nextKeyName), s.path(wireguardKeyName))
}

// nodePeers are the other nodes. One that has two keys is two peers, of which the one in use has its address.
func (n *Node) nodePeers(t *netconf.Topology) []mesh.Peer {
	var last map[string]time.Time // handshakes, looked up if needed
	var peers []mesh.Peer
	for _, other := range t.Nodes {
		if other.Name == n.opts.Name {
			continue
		}
		used, spare := other.Key, other.NextKey
		if spare != "" {
			if last == nil {
				last = n.handshakes()
			}
			if last[spare].After(last[used]) {
				used, spare = spare, used
			}
		}
		peers = n.appendPeer(peers, other, used, true)
		if spare != "" {
			peers = n.appendPeer(peers, other, spare, false)
		}
	}
	return peers
}

func (n *Node) appendPeer(peers []mesh.Peer, other netconf.Node, key string, used bool) []mesh.Peer {
	public, err := mesh.ParsePublicKey(key)
	if err != nil {
		n.log.Error("node left out of the mesh", "peer", other.Name, "err", err)
		return peers
	}
	peer := mesh.Peer{PublicKey: public, Host: other.Endpoint}
	if n.opts.Endpoint != nil {
		peer.Endpoint, peer.Host = n.opts.Endpoint(other.Name), ""
	}
	if used {
		peer.AllowedIPs = hostRoutes(other.Addr)
	} else {
		peer.Keepalive = -1 // it doesn't answer by this key
	}
	return append(peers, peer)
}

// handshakes are the times of the last ones, by key.
func (n *Node) handshakes() map[string]time.Time {
	last := make(map[string]time.Time)
	for _, p := range n.device.Stats() {
		last[p.PublicKey.String()] = p.LastHandshake
	}
	return last
}

// followKeys gives the address of a node that has two keys to the one in use, as soon as that changes.
func (n *Node) followKeys(ctx context.Context) {
	for {
		t, changed := n.source.Current()
		var again <-chan time.Time
		for _, other := range t.Nodes {
			if other.NextKey != "" && other.Name != n.opts.Name {
				again = time.After(lookAtKeys)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			continue
		case <-again:
		}
		n.applying.Lock()
		_, _, peers := n.wanted(t)
		if err := n.device.SetPeers(peers); err != nil && ctx.Err() == nil {
			n.log.Error("a node's new key isn't followed", "err", err)
		}
		n.applying.Unlock()
	}
}
