package mesh

import (
	"errors"
	"net/netip"
	"sync"
)

// DefaultTUNName is the interface's name where none is given.
const DefaultTUNName = "respmesh0"

// ErrTUNNotPermitted is what NewTUN answers without the right to make interfaces.
var ErrTUNNotPermitted = errors.New("a TUN interface needs root or CAP_NET_ADMIN, and /dev/net/tun")

// TUNConfig says what a kernel TUN device is. Of Config, MinRTO is given to the
// kernel's routes and MaxRTO isn't used.
type TUNConfig struct {
	Config
	Name       string         // of the interface; "": DefaultTUNName
	Routes     []netip.Prefix // what lies behind the interface
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
