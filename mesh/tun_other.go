//go:build !linux

package mesh

import "fmt"

// NewTUN makes a device over a TUN interface of this host; only on Linux.
func NewTUN(TUNConfig) (*TUN, error) {
	return nil, fmt.Errorf("%w: only on Linux", ErrTUNNotPermitted)
}
