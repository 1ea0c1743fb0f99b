package mesh

import (
	"errors"
	"net/netip"
	"sync"
)

// ErrTUNNotPermitted is what a kernel TUN is refused with without the right to make interfaces.
var ErrTUNNotPermitted = errors.New("a TUN interface needs root or CAP_NET_ADMIN, and /dev/net/tun")

// TUNConfig says what the device of a host is, with which all of its programs are on the mesh.
type TUNConfig struct {
	Config
	Name       string         // of the interface; "": as Config.Interface says
	Routes     []netip.Prefix // what lies behind the interface, beside what the peers have
	ResolvConf string         // "": /etc/resolv.conf; where systemd-resolved doesn't run
}

// TUN is a device whose tunnel is an interface of this host, so that every
// program on it reaches the mesh.
type TUN struct {
	*Device
	name string

	mu  sync.Mutex
	dns resolver // guarded by mu
}

// NewTUN makes a device over a TUN interface of this host, in the network
// namespace of the calling thread. Closing it removes the interface with its
// addresses and routes.
func NewTUN(c TUNConfig) (*TUN, error) {
	if c.Name != "" {
		c.Interface = c.Name
	}
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	k, err := newKernelTunnel(c.Config)
	if err != nil {
		return nil, err
	}
	d, err := newDevice(c.Config, k)
	if err != nil {
		return nil, err
	}
	t := &TUN{Device: d, name: d.Interface()}
	t.dns = newResolver(t.name, c.ResolvConf)
	// Routes come after the addresses: the kernel prefers a source address that is already there.
	// What a killed run left in the resolver's configuration goes now.
	if err := errors.Join(k.keepRoutes(c.Routes), t.RestoreDNS()); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Name is the name of the interface.
func (t *TUN) Name() string { return t.name }

// SetDNS has this host ask the given server for names below domain. Where
// systemd-resolved runs only these names go there; elsewhere the server comes first in
// /etc/resolv.conf, and is asked for everything.
func (t *TUN) SetDNS(server netip.Addr, domain string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dns.set(server, domain)
}

// RestoreDNS undoes SetDNS; Close does it too.
func (t *TUN) RestoreDNS() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dns.restore()
}

// Close gives the host its resolver back and removes the interface.
func (t *TUN) Close() error { return errors.Join(t.RestoreDNS(), t.Device.Close()) }
