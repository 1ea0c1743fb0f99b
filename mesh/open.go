package mesh

import (
	"errors"
	"fmt"
)

// Tunnel is a kind of tunnel.
type Tunnel string

// The kinds of tunnels. TunnelAuto takes a kernel TUN where this process may make one, and else a userspace stack.
const (
	TunnelAuto      Tunnel = "auto"
	TunnelTUN       Tunnel = "tun"
	TunnelUserspace Tunnel = "userspace"
)

// ParseTunnel reads a tunnel's name, as people write it in flags.
func ParseTunnel(s string) (Tunnel, error) {
	switch t := Tunnel(s); t {
	case "":
		return TunnelAuto, nil
	case TunnelAuto, TunnelTUN, TunnelUserspace:
		return t, nil
	}
	return "", fmt.Errorf("tunnel %q: use auto, tun or userspace", s)
}

// Open makes a device over the tunnel that the configuration asks for, and brings it up. A kernel TUN is made in the network
// namespace of the calling thread; it serves this process only where the filter's role is RoleNode, and goes away with
// the process, however that ends.
func Open(c Config) (*Device, error) {
	tunnel, err := ParseTunnel(string(c.Tunnel))
	if err != nil {
		return nil, fmt.Errorf("mesh device: %w", err)
	}
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	if tunnel != TunnelUserspace {
		k, err := newKernelTunnel(c)
		if err == nil {
			return newDevice(c, k)
		}
		if tunnel == TunnelTUN || !errors.Is(err, ErrTUNNotPermitted) {
			return nil, err
		}
		c.Log.Info("the mesh runs in userspace", "reason", err)
	}
	n, err := newNetstack(c.MTU, rtoBounds{c.MinRTO, c.MaxRTO})
	if err != nil {
		return nil, err
	}
	return newDevice(c, n)
}

// New is Open with a userspace tunnel.
func New(c Config) (*Device, error) {
	c.Tunnel = TunnelUserspace
	return Open(c)
}
