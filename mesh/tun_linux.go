package mesh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// NewTUN makes a device over a TUN interface of this host, in the network
// namespace of the calling thread. Closing it removes the interface with its
// addresses and routes.
func NewTUN(c TUNConfig) (*TUN, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	if c.Name == "" {
		c.Name = DefaultTUNName
	}
	if len(c.Name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("TUN interface %q: a name has at most %d bytes", c.Name, unix.IFNAMSIZ-1)
	}
	dev, err := tun.CreateTUN(c.Name, c.MTU)
	if err != nil {
		return nil, tunError(c.Name, err)
	}
	k := &kernelTunnel{dev: dev}
	if err := k.setup(c); err != nil {
		dev.Close()
		return nil, fmt.Errorf("TUN interface %s: %w", c.Name, err)
	}
	d, err := newDevice(c.Config, k)
	if err != nil {
		return nil, err
	}
	t := &TUN{Device: d, name: k.nic.Attrs().Name, dns: newResolver(k.nic.Attrs().Name, c.ResolvConf)}
	fail := func(err error) (*TUN, error) {
		return nil, errors.Join(fmt.Errorf("TUN interface %s: %w", t.name, err), t.Close())
	}
	// Routes come last: the kernel prefers a source address that is already there.
	for _, r := range c.Routes {
		if err := k.addRoute(r, c.MinRTO); err != nil {
			return fail(err)
		}
	}
	// What a killed run left behind.
	if err := t.RestoreDNS(); err != nil {
		return fail(err)
	}
	return t, nil
}

func tunError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("TUN interface %s: %w", name, ErrTUNNotPermitted)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("TUN interface %s is in use by another process: %w", name, err)
	}
	if _, serr := os.Stat("/dev/net/tun"); serr != nil {
		return fmt.Errorf("TUN interface %s: %w: %w", name, ErrTUNNotPermitted, serr)
	}
	return fmt.Errorf("TUN interface %s: %w", name, err)
}

// kernelTunnel is the tunnel of the host's own TCP/IP stack.
type kernelTunnel struct {
	dev tun.Device
	nic netlink.Link
}

func (k *kernelTunnel) setup(c TUNConfig) error {
	name, err := k.dev.Name()
	if err != nil {
		return err
	}
	if k.nic, err = netlink.LinkByName(name); err != nil {
		return err
	}
	// Where these can't be written the kernel's defaults do as well, except that
	// IPv6 may be off; then adding the address says so.
	for file, value := range map[string]string{"disable_ipv6": "0", "accept_ra": "0", "addr_gen_mode": "1"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+file, []byte(value), 0o644)
	}
	if err := netlink.LinkSetMTU(k.nic, c.MTU); err != nil {
		return fmt.Errorf("set MTU %d: %w", c.MTU, err)
	}
	if err := netlink.LinkSetUp(k.nic); err != nil {
		return fmt.Errorf("bring it up: %w", err)
	}
	return nil
}

func (k *kernelTunnel) link() tun.Device { return k.dev }

func hostAddr(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{
		IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(128, 128)},
		// Nobody else is there who could have the address.
		Flags: unix.IFA_F_NODAD,
	}
}

func (k *kernelTunnel) addAddr(a netip.Addr) error {
	err := netlink.AddrAdd(k.nic, hostAddr(a))
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("IPv6 is disabled on this host (sysctl net.ipv6.conf.all.disable_ipv6): %w", err)
	}
	return err
}

func (k *kernelTunnel) removeAddr(a netip.Addr) error { return netlink.AddrDel(k.nic, hostAddr(a)) }

func (k *kernelTunnel) addRoute(p netip.Prefix, minRTO time.Duration) error {
	r := &netlink.Route{
		LinkIndex: k.nic.Attrs().Index,
		Dst:       &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)},
		RtoMin:    int(minRTO.Milliseconds()),
		// The lock is what makes it apply.
		RtoMinLock: true,
	}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("route %s: %w", p, err)
	}
	return nil
}

// Close has nothing to do: WireGuard has closed the interface.
func (k *kernelTunnel) Close() error { return nil }

func (k *kernelTunnel) dialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: kernelKeepalive()}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp6", to.String())
}

func (k *kernelTunnel) listenTCP(at netip.AddrPort) (net.Listener, error) {
	l := net.ListenConfig{KeepAliveConfig: kernelKeepalive()}
	return l.Listen(context.Background(), "tcp6", at.String())
}

func (k *kernelTunnel) listenUDP(at netip.AddrPort) (net.PacketConn, error) {
	return net.ListenUDP("udp6", net.UDPAddrFromAddrPort(at))
}

func kernelKeepalive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: keepaliveIdle, Interval: keepaliveInterval, Count: keepaliveCount}
}
