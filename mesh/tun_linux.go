package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// kernelTunnel is the tunnel of the host's own TCP/IP stack. Its interface isn't persistent: the kernel removes it, with its
// addresses and routes, when the process ends.
type kernelTunnel struct {
	guard *guard
	nic   netlink.Link
	rto   rtoBounds

	mu     sync.Mutex
	addrs  map[netip.Addr]struct{}   // guarded by mu
	fixed  []netip.Prefix            // routes that stay whatever the peers, guarded by mu
	routes map[netip.Prefix]struct{} // guarded by mu
	open   map[*kernelSocket]struct{}
	closed bool // guarded by mu
}

const (
	interfaceName = "respmesh"
	interfaces    = 64 // of one host that are tried
)

func newKernelTunnel(c Config) (*kernelTunnel, error) {
	dev, err := createTUN(c)
	if err != nil {
		return nil, err
	}
	k := &kernelTunnel{
		guard: newGuard(dev, c.Filter, c.Log), rto: rtoBounds{c.MinRTO, c.MaxRTO},
		addrs: make(map[netip.Addr]struct{}), routes: make(map[netip.Prefix]struct{}), open: make(map[*kernelSocket]struct{}),
	}
	if err := k.setup(c.MTU); err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return k, nil
}

// createTUN makes the interface with the name that was asked for, or with the first free one.
func createTUN(c Config) (tun.Device, error) {
	if len(c.Interface) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("TUN interface %q: a name has at most %d bytes", c.Interface, unix.IFNAMSIZ-1)
	}
	if c.Interface != "" {
		dev, err := tun.CreateTUN(c.Interface, c.MTU)
		if err != nil {
			return nil, tunError(c.Interface, err)
		}
		return dev, nil
	}
	for i := range interfaces {
		name := interfaceName + strconv.Itoa(i)
		if _, err := netlink.LinkByName(name); err == nil {
			continue
		}
		dev, err := tun.CreateTUN(name, c.MTU)
		if errors.Is(err, syscall.EBUSY) {
			continue // somebody else was faster
		}
		if err != nil {
			return nil, tunError(name, err)
		}
		return dev, nil
	}
	return nil, fmt.Errorf("TUN interface: %s0 to %s%d are all in use", interfaceName, interfaceName, interfaces-1)
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

func (k *kernelTunnel) setup(mtu int) error {
	name, err := k.guard.Name()
	if err != nil {
		return fmt.Errorf("TUN interface: %w", err)
	}
	fail := func(err error) error { return fmt.Errorf("TUN interface %s: %w", name, err) }
	if k.nic, err = netlink.LinkByName(name); err != nil {
		return fail(err)
	}
	// Where these can't be written the kernel's defaults do as well, except that IPv6 may be off; then adding the address
	// says so. Forwarding: the guard drops what would be forwarded in any case.
	for file, value := range map[string]string{"disable_ipv6": "0", "accept_ra": "0", "accept_redirects": "0", "addr_gen_mode": "1", "forwarding": "0"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+file, []byte(value), 0o644)
	}
	// A persistent interface of that name may have been made by hand, and used before.
	left, err := netlink.AddrList(k.nic, netlink.FAMILY_V6)
	if err != nil {
		return fail(err)
	}
	for _, a := range left {
		if err := netlink.AddrDel(k.nic, &a); err != nil {
			return fail(fmt.Errorf("remove address %s: %w", a.IP, err))
		}
	}
	if err := netlink.LinkSetMTU(k.nic, mtu); err != nil {
		return fail(fmt.Errorf("set MTU %d: %w", mtu, err))
	}
	if err := netlink.LinkSetUp(k.nic); err != nil {
		return fail(fmt.Errorf("bring it up: %w", err))
	}
	return nil
}

func (k *kernelTunnel) link() tun.Device { return k.guard }

func (k *kernelTunnel) kind() Tunnel { return TunnelTUN }

func hostAddr(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{
		IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(128, 128)},
		// Nobody else is there who could have the address.
		Flags: unix.IFA_F_NODAD,
	}
}

func (k *kernelTunnel) addAddr(a netip.Addr) error {
	// The kernel would let two interfaces have it, and then pick one.
	all, err := netlink.AddrList(nil, netlink.FAMILY_V6)
	if err != nil {
		return err
	}
	for _, other := range all {
		if ip, _ := netip.AddrFromSlice(other.IP); ip == a && other.LinkIndex != k.nic.Attrs().Index {
			name := strconv.Itoa(other.LinkIndex)
			if l, err := netlink.LinkByIndex(other.LinkIndex); err == nil {
				name = l.Attrs().Name
			}
			return fmt.Errorf("this host has it already, on interface %s", name)
		}
	}
	err = netlink.AddrAdd(k.nic, hostAddr(a))
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("IPv6 is disabled on this host (sysctl net.ipv6.conf.all.disable_ipv6): %w", err)
	}
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addrs[a] = struct{}{}
	k.guard.setAddrs(k.addrs)
	return nil
}

func (k *kernelTunnel) removeAddr(a netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.addrs, a)
	k.guard.setAddrs(k.addrs)
	return netlink.AddrDel(k.nic, hostAddr(a))
}

// keepRoutes adds routes that stay whatever the peers are.
func (k *kernelTunnel) keepRoutes(routes []netip.Prefix) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fixed = slices.Clone(routes)
	return k.routeLocked(routes, false)
}

func (k *kernelTunnel) setRoutes(routes []netip.Prefix) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.routeLocked(slices.Concat(k.fixed, routes), true)
}

func (k *kernelTunnel) routeLocked(want []netip.Prefix, only bool) error {
	for _, p := range want {
		if _, have := k.routes[p]; have {
			continue
		}
		if err := netlink.RouteAdd(k.route(p)); err != nil {
			if errors.Is(err, syscall.EEXIST) {
				return fmt.Errorf("TUN interface %s: another interface of this host has the route to %s: is another node running here?", k.nic.Attrs().Name, p)
			}
			return fmt.Errorf("TUN interface %s: route %s: %w", k.nic.Attrs().Name, p, err)
		}
		k.routes[p] = struct{}{}
	}
	if !only {
		return nil
	}
	for p := range k.routes {
		if slices.Contains(want, p) {
			continue
		}
		if err := netlink.RouteDel(k.route(p)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("TUN interface %s: remove route %s: %w", k.nic.Attrs().Name, p, err)
		}
		delete(k.routes, p)
	}
	return nil
}

func (k *kernelTunnel) route(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		LinkIndex: k.nic.Attrs().Index,
		Dst:       &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)},
		RtoMin:    int(k.rto.min.Milliseconds()),
		// The lock is what makes it apply.
		RtoMinLock: true,
	}
}

// Close ends the sockets; WireGuard has closed the interface.
func (k *kernelTunnel) Close() error {
	k.mu.Lock()
	k.closed = true
	open := slices.Collect(func(yield func(*kernelSocket) bool) {
		for s := range k.open {
			if !yield(s) {
				return
			}
		}
	})
	k.mu.Unlock()
	for _, s := range open {
		s.end()
	}
	return nil
}
