package mesh

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	wgdevice "golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// Defaults of Config. 1280 is IPv6's minimum, so every path carries it.
const (
	DefaultMTU    = 1280
	DefaultMinRTO = 40 * time.Millisecond
	DefaultMaxRTO = 2 * time.Second

	DefaultConnsPerPeer = 4096
)

// lastWords is what the resets of a removed peer's connections have to leave by, before its key is gone.
const lastWords = 20 * time.Millisecond

// ErrClosed is what a closed device answers.
var ErrClosed = fmt.Errorf("mesh device: %w", net.ErrClosed)

// Config says what a device is.
type Config struct {
	PrivateKey PrivateKey
	// Listen is the UDP address of WireGuard. Port 0 takes a free one; an
	// unspecified address listens on all interfaces, IPv4 and IPv6.
	Listen netip.AddrPort
	Addrs  []netip.Addr // the addresses it answers for; SetAddrs changes them
	MTU    int          // zero: DefaultMTU
	Filter *Filter      // required
	Log    *slog.Logger // nil: discards

	// Tunnel says what stands behind the device; "" is TunnelAuto. Interface is the name of the kernel's, at most 15 bytes; ""
	// takes the first of respmesh0, respmesh1, … that is free.
	Tunnel    Tunnel
	Interface string

	// Resolve finds the addresses of peers that are given by name; nil: as the host does.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	// ConnsPerPeer bounds the TCP connections accepted from one address of an organisation; zero: DefaultConnsPerPeer.
	ConnsPerPeer int

	// MinRTO and MaxRTO bound TCP's retransmission timer. A small minimum makes
	// small requests survive loss; a small maximum lets old connections go on soon
	// after a cut has healed. A kernel TUN knows the maximum from Linux 6.15 on, and
	// not below a second.
	MinRTO, MaxRTO time.Duration
}

type rtoBounds struct{ min, max time.Duration }

func (c *Config) setDefaults() error {
	if c.PrivateKey.IsZero() {
		return errors.New("mesh device: no private key")
	}
	if c.Filter == nil {
		return errors.New("mesh device: no packet filter")
	}
	if !c.Listen.Addr().IsValid() {
		return errors.New("mesh device: no address to listen on")
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.MTU < DefaultMTU || c.MTU > 9000 {
		return fmt.Errorf("mesh device: MTU %d: want %d to 9000", c.MTU, DefaultMTU)
	}
	if c.MinRTO == 0 {
		c.MinRTO = DefaultMinRTO
	}
	if c.MaxRTO == 0 {
		c.MaxRTO = DefaultMaxRTO
	}
	if c.MinRTO < time.Millisecond || c.MaxRTO < c.MinRTO {
		return fmt.Errorf("mesh device: RTO from %s to %s: want 1ms <= minimum <= maximum", c.MinRTO, c.MaxRTO)
	}
	if c.ConnsPerPeer == 0 {
		c.ConnsPerPeer = DefaultConnsPerPeer
	}
	if c.ConnsPerPeer < 0 {
		return fmt.Errorf("mesh device: %d connections per peer: want at least 1", c.ConnsPerPeer)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// tunnel is what stands behind a device: a userspace stack or the kernel's.
type tunnel interface {
	link() tun.Device
	kind() Tunnel
	addressing
	sockets
	io.Closer
}

type addressing interface {
	addAddr(netip.Addr) error
	removeAddr(netip.Addr) error
	setRoutes([]netip.Prefix) error // what lies behind the tunnel
}

type sockets interface {
	dialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (meshConn, error)
	listenTCP(netip.AddrPort) (net.Listener, error) // Accept gives meshConns
	listenUDP(netip.AddrPort) (net.PacketConn, error)
}

// Device is one WireGuard device over one tunnel.
type Device struct {
	log    *slog.Logger
	wg     *wgdevice.Device
	tunnel tunnel
	listen netip.AddrPort
	conns  *conns
	filter *Filter
	watch  *watcher
	flood  *flood
	cut    *cutter

	mu     sync.Mutex
	key    PublicKey               // guarded by mu
	closed bool                    // guarded by mu
	peers  map[PublicKey]Peer      // what WireGuard was last told, guarded by mu
	addrs  map[netip.Addr]struct{} // guarded by mu
}

// newDevice owns the tunnel from here on, also when it fails.
func newDevice(c Config, t tunnel) (*Device, error) {
	var b conn.Bind = newBind(c.Listen)
	if c.Listen.Addr().IsUnspecified() {
		// On several interfaces an answer has to leave by the one the question came
		// in; WireGuard's own Bind sees to that.
		b = conn.NewDefaultBind()
	}
	d := &Device{
		key:    c.PrivateKey.Public(),
		log:    c.Log,
		tunnel: t,
		peers:  make(map[PublicKey]Peer),
		addrs:  make(map[netip.Addr]struct{}),
		filter: c.Filter,
		cut:    new(cutter),
		conns:  newConns(c.ConnsPerPeer, c.Filter, c.Log),
	}
	d.flood = newFlood(d.key)
	d.watch = newWatcher(d, c.Resolve)
	d.wg = wgdevice.NewDevice(filtered{t.link(), c.Filter, &dropLog{log: c.Log}, d.cut}, newHandshakes(b, d.flood), wgLogger(c.Log))
	fail := func(err error) (*Device, error) {
		d.Close()
		return nil, fmt.Errorf("mesh device: %w", err)
	}
	if err := d.wg.IpcSet("private_key=" + c.PrivateKey.hex() + "\nlisten_port=" + strconv.Itoa(int(c.Listen.Port())) + "\n"); err != nil {
		return fail(err)
	}
	if err := d.SetAddrs(c.Addrs); err != nil {
		return fail(err)
	}
	if err := d.wg.Up(); err != nil {
		return fail(err)
	}
	state, err := d.wg.IpcGet()
	if err != nil {
		return fail(err)
	}
	port, _ := parseState(state)
	if port == 0 {
		return fail(errors.New("WireGuard has no port"))
	}
	d.listen = netip.AddrPortFrom(c.Listen.Addr(), port)
	return d, nil
}

// PublicKey is what peers know this device by.
func (d *Device) PublicKey() PublicKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.key
}

// ListenPort is the UDP address WireGuard listens on, with the port it got.
func (d *Device) ListenPort() netip.AddrPort { return d.listen }

// SetPeers makes the given list the list of peers. Only what differs from the
// last list is touched; sessions of the other peers don't notice. An invalid
// list changes nothing.
func (d *Device) SetPeers(peers []Peer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	want, err := normalizePeers(d.key, peers)
	if err != nil {
		return err
	}
	if d.closed {
		return ErrClosed
	}
	diff := diffPeers(d.peers, want)
	if diff == "" {
		d.peers = want
		d.watch.setLocked(want)
		return nil
	}
	if err := d.tunnel.setRoutes(routesOf(want)); err != nil {
		return fmt.Errorf("set peers: %w", err)
	}
	// Before: so that the other end learns of it while it is still a peer. After: what came in meanwhile.
	gone := goneAddrs(d.peers, want)
	defer d.conns.bar(gone)() // or it connects again at once, for as long as its key is there
	if d.conns.abort(gone) > 0 {
		time.Sleep(lastWords)
	}
	defer d.conns.abort(gone)
	if err := d.wg.IpcSet(diff); err != nil {
		// It may have done a part: start the next time from what it says itself.
		if state, gerr := d.wg.IpcGet(); gerr == nil {
			_, stats := parseState(state)
			d.peers = peersOf(stats)
		}
		return fmt.Errorf("set peers: %w", err)
	}
	d.peers = want
	d.watch.setLocked(want)
	return nil
}

func peersOf(stats []PeerStats) map[PublicKey]Peer {
	m := make(map[PublicKey]Peer, len(stats))
	for _, s := range stats {
		// No endpoint: the wanted one is set again.
		p := Peer{PublicKey: s.PublicKey, AllowedIPs: s.AllowedIPs, Keepalive: -1}
		m[p.PublicKey] = p
	}
	return m
}

// SetAddrs makes the given addresses those the device answers for. Connections on
// an address that goes away stall and time out.
func (d *Device) SetAddrs(addrs []netip.Addr) error {
	want := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		if !a.Is6() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("mesh device: address %s: want an IPv6 unicast address", a)
		}
		want[a] = struct{}{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	var errs []error
	for _, a := range addrs {
		if _, have := d.addrs[a]; have {
			continue
		}
		if err := d.tunnel.addAddr(a); err != nil {
			errs = append(errs, fmt.Errorf("add address %s: %w", a, err))
			continue
		}
		d.addrs[a] = struct{}{}
	}
	for a := range d.addrs {
		if _, stays := want[a]; stays {
			continue
		}
		if err := d.tunnel.removeAddr(a); err != nil {
			errs = append(errs, fmt.Errorf("remove address %s: %w", a, err))
			continue
		}
		delete(d.addrs, a)
	}
	return errors.Join(errs...)
}

// DialTCP connects through the tunnel. from is one of the device's addresses, or
// the zero value for any.
func (d *Device) DialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	c, err := d.tunnel.dialTCP(ctx, from, to)
	if err != nil {
		return nil, err
	}
	d.conns.add(c)
	return c, nil
}

// ListenTCP listens inside the tunnel, on one of the device's addresses.
func (d *Device) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	l, err := d.tunnel.listenTCP(at)
	if err != nil {
		return nil, err
	}
	return countedListener{l, d.conns}, nil
}

// ClosePeer ends the TCP connections with an address at once, and says how many there were. They end with a reset.
func (d *Device) ClosePeer(addr netip.Addr) int {
	return d.conns.abort([]netip.Addr{addr})
}

// Kind is the tunnel that the device has: TunnelTUN or TunnelUserspace.
func (d *Device) Kind() Tunnel { return d.tunnel.kind() }

// Interface is the name of the kernel's interface; "" in userspace.
func (d *Device) Interface() string {
	if d.Kind() == TunnelUserspace {
		return ""
	}
	name, err := d.tunnel.link().Name()
	if err != nil {
		return "" // it is closed
	}
	return name
}

// ListenUDP listens inside the tunnel.
func (d *Device) ListenUDP(at netip.AddrPort) (net.PacketConn, error) { return d.tunnel.listenUDP(at) }

// Close ends the device, its connections and its listeners, and waits for what it
// started. Further calls do nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	d.mu.Unlock()
	if was {
		return nil
	}
	// The tunnel's link is closed by WireGuard, and that frees whoever waits in it;
	// then the stack can go.
	d.wg.Close()
	d.watch.close()
	return d.tunnel.Close()
}

// HandshakesDropped counts the handshake initiations that WireGuard wasn't given: those that weren't meant for this device, and
// those that came too fast from one address.
func (d *Device) HandshakesDropped() (wrong, fast uint64) {
	return d.flood.wrong.Load(), d.flood.fast.Load()
}

// SetPrivateKey gives the device a new key, live. The others have to know it at about the same time: they and the device find
// each other again within a tenth of a second of the later of the two.
func (d *Device) SetPrivateKey(k PrivateKey) error {
	if k.IsZero() {
		return errors.New("mesh device: no private key")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	if _, taken := d.peers[k.Public()]; taken {
		return fmt.Errorf("%w: the device's new key is that of a peer", ErrPeers)
	}
	if err := d.wg.IpcSet("private_key=" + k.hex() + "\n"); err != nil {
		return fmt.Errorf("set private key: %w", err)
	}
	d.key = k.Public()
	d.flood.setKey(d.key)
	// WireGuard would wait for the next packet. Where there was one already, a second initiation would make the answer to the
	// first worthless, and be refused itself: a peer takes one in 50 ms.
	for key := range d.peers {
		d.handshake(key, false)
	}
	return nil
}

// PeerStats are what WireGuard knows about a peer.
type PeerStats struct {
	PublicKey     PublicKey
	Endpoint      netip.AddrPort // where it was last heard, or what was configured
	LastHandshake time.Time      // zero: never
	RxBytes       uint64         // including WireGuard's own
	TxBytes       uint64
	Keepalive     time.Duration
	AllowedIPs    []netip.Prefix
	Host          string // the endpoint as it was given, if by name
	ResolveErr    error  // why that name has no address; the last one that it had is used on
}

// Stats tells about every peer, in no order. A closed device has none.
func (d *Device) Stats() []PeerStats {
	stats := d.stats()
	for i := range stats {
		stats[i].Host, stats[i].ResolveErr = d.watch.failed(stats[i].PublicKey)
	}
	return stats
}

func (d *Device) stats() []PeerStats {
	state, err := d.wg.IpcGet()
	if err != nil {
		return nil
	}
	_, stats := parseState(state)
	return stats
}

// parseState reads WireGuard's UAPI "get" answer:
// https://www.wireguard.com/xplatform/#configuration-protocol
func parseState(s string) (port uint16, peers []PeerStats) {
	var p *PeerStats
	var sec, nsec int64
	finish := func() {
		if p != nil && (sec != 0 || nsec != 0) {
			p.LastHandshake = time.Unix(sec, nsec)
		}
		sec, nsec = 0, 0
	}
	for line := range strings.Lines(s) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		number := func() uint64 { n, _ := strconv.ParseUint(value, 10, 64); return n }
		if key == "listen_port" {
			port = uint16(number())
		}
		if key == "public_key" {
			finish()
			peers = append(peers, PeerStats{})
			p = &peers[len(peers)-1]
			if b, err := hex.DecodeString(value); err == nil && len(b) == KeyLen {
				p.PublicKey = PublicKey(b)
			}
		}
		if p == nil {
			continue
		}
		switch key {
		case "endpoint":
			p.Endpoint, _ = netip.ParseAddrPort(value)
		case "last_handshake_time_sec":
			sec = int64(number())
		case "last_handshake_time_nsec":
			nsec = int64(number())
		case "rx_bytes":
			p.RxBytes = number()
		case "tx_bytes":
			p.TxBytes = number()
		case "persistent_keepalive_interval":
			p.Keepalive = time.Duration(number()) * time.Second
		case "allowed_ip":
			if a, err := netip.ParsePrefix(value); err == nil {
				p.AllowedIPs = append(p.AllowedIPs, a)
			}
		}
	}
	finish()
	return port, peers
}

// wgLogger passes WireGuard's log on. Its messages carry shortened public keys,
// never private ones.
func wgLogger(log *slog.Logger) *wgdevice.Logger {
	l := &wgdevice.Logger{Verbosef: wgdevice.DiscardLogf, Errorf: func(format string, args ...any) {
		message := fmt.Sprintf(format, args...)
		if strings.Contains(message, "no known endpoint") {
			log.Debug("wireguard", "message", message) // it comes to us, or its name isn't resolved yet
			return
		}
		log.Warn("wireguard", "message", message)
	}}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		l.Verbosef = func(format string, args ...any) {
			log.Debug("wireguard", "message", fmt.Sprintf(format, args...))
		}
	}
	return l
}
