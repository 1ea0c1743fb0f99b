//go:build !linux

package mesh

import (
	"fmt"
	"net/netip"
)

// kernelTunnel is only on Linux.
type kernelTunnel struct{ tunnel }

func newKernelTunnel(Config) (*kernelTunnel, error) {
	return nil, fmt.Errorf("%w: only on Linux", ErrTUNNotPermitted)
}

func (k *kernelTunnel) keepRoutes([]netip.Prefix) error { return nil }
