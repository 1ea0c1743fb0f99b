package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"respmesh/mesh"
	"respmesh/netconf"
)

// A node's WireGuard key is replaced in this order, so that a crash at any point leaves a key that the others know or will
// know: the new key is written beside the old one, the control plane is told, the device takes it, the file takes the
// old one's place.

// nextKeyName is the new key's file until the device has it.
const nextKeyName = wireguardKeyName + ".next"

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
	_, err = s.control.registry.Update(ctx, "node "+s.opts.Name, func(d *netconf.Draft) error {
		for i := range d.Nodes {
			if d.Nodes[i].Name == s.opts.Name {
				d.Nodes[i].Key = key.Public().String()
				return nil
			}
		}
		return fmt.Errorf("node %s %w", s.opts.Name, netconf.ErrNotFound)
	})
	if err != nil {
		return err
	}
	if err := s.node.device.SetPrivateKey(key); err != nil {
		return err
	}
	if err := os.Rename(s.path(nextKeyName), s.path(wireguardKeyName)); err != nil {
		return err
	}
	s.opts.Log.Info("the node has a new WireGuard key", "key", key.Public())
	return nil
}

// finishRotation takes a key that the others know already, where the last process ended in between.
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
