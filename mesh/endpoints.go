package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	wgdevice "golang.zx2c4.com/wireguard/device"
)

// watcher looks after the peers that have an endpoint: it resolves those that are given by name, again when they fall silent,
// and starts a handshake with a silent peer after a second where WireGuard waits for fifteen. Silent is who is sent
// something and sends nothing. Peers without an endpoint come to us, and aren't watched.
type watcher struct {
	device  *Device
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	started bool          // guarded by the device's mu
	changed chan struct{} // the list of peers
	slots   chan struct{} // lookups at a time

	mu    sync.Mutex
	peers map[PublicKey]*watched // guarded by mu
}

// watched is what is known of a peer. Guarded by the watcher's mu.
type watched struct {
	host     string         // name:port; "": its endpoint is an address
	endpoint netip.AddrPort // of a name: the address used now
	err      error          // of the last lookup
	running  bool           // a lookup
	due      time.Time      // when the next lookup may be
	wait     time.Duration  // after that

	rx, tx uint64    // when it was last heard
	heard  time.Time // or first watched
}

const (
	watchEvery   = 500 * time.Millisecond
	watchShare   = 50 // asking WireGuard for all peers takes at most this part of the time
	silentAfter  = time.Second
	lookups      = 64
	lookupFirst  = time.Second // between lookups of a silent peer's name, doubled
	lookupMost   = 30 * time.Second
	lookupBounds = 5 * time.Second
)

func newWatcher(d *Device, resolve func(context.Context, string) ([]netip.Addr, error)) *watcher {
	if resolve == nil {
		resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	w := &watcher{device: d, resolve: resolve, changed: make(chan struct{}, 1), slots: make(chan struct{}, lookups), peers: make(map[PublicKey]*watched)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// checkHost reads name:port.
func checkHost(s string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	switch {
	case err != nil || n == 0:
		return "", 0, fmt.Errorf("port %q: want 1 to 65535", p)
	case host == "":
		return "", 0, errors.New("no host")
	case len(host) > 253:
		return "", 0, fmt.Errorf("a host name of %d bytes: at most 253", len(host))
	}
	return host, uint16(n), nil
}

// setLocked takes over the list of peers; the device's mu is held.
func (w *watcher) setLocked(peers map[PublicKey]Peer) {
	now := time.Now()
	w.mu.Lock()
	for key := range w.peers {
		if p, ok := peers[key]; !ok || !p.watched() {
			delete(w.peers, key)
		}
	}
	for key, p := range peers {
		if old := w.peers[key]; p.watched() && (old == nil || old.host != p.Host) {
			w.peers[key] = &watched{host: p.Host, due: now, wait: lookupFirst, heard: now}
		}
	}
	n := len(w.peers)
	w.mu.Unlock()
	if n > 0 && !w.started {
		w.started = true
		w.wg.Go(w.run)
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (p Peer) watched() bool { return p.Host != "" || p.Endpoint.IsValid() }

func (w *watcher) run() {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.changed:
		case <-tick.C:
		}
		start := time.Now()
		w.look(start)
		tick.Reset(max(watchEvery, watchShare*time.Since(start)))
	}
}

// look finds the silent peers, and starts lookups and handshakes.
func (w *watcher) look(now time.Time) {
	var stats []PeerStats
	w.mu.Lock()
	n := len(w.peers)
	w.mu.Unlock()
	if n > 0 {
		stats = w.device.stats()
	}
	var nudge []PublicKey
	w.mu.Lock()
	for _, s := range stats {
		p := w.peers[s.PublicKey]
		if p == nil {
			continue
		}
		if s.RxBytes != p.rx || s.TxBytes < p.tx {
			p.rx, p.tx, p.heard, p.wait = s.RxBytes, s.TxBytes, now, lookupFirst
		}
		silent := s.TxBytes > p.tx && now.Sub(p.heard) >= silentAfter
		switch {
		case p.host != "" && (silent || !p.endpoint.IsValid()):
			if !p.running && !now.Before(p.due) {
				p.running, p.due = true, now.Add(p.wait)
				p.wait = min(2*p.wait, lookupMost)
				w.wg.Go(func() { w.lookup(s.PublicKey, p, s.Endpoint, s.LastHandshake.IsZero()) })
			}
		case silent:
			nudge = append(nudge, s.PublicKey)
		}
	}
	w.mu.Unlock()
	for _, key := range nudge {
		w.device.handshake(key, false)
	}
}

// lookup resolves a peer's name and has WireGuard use the address.
func (w *watcher) lookup(key PublicKey, p *watched, now netip.AddrPort, never bool) {
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-w.ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(w.ctx, lookupBounds)
	defer cancel()
	host, port, _ := checkHost(p.host) // checked by SetPeers
	addrs, err := w.resolve(ctx, host)
	if err == nil {
		addrs = w.usable(addrs)
		if len(addrs) == 0 {
			err = fmt.Errorf("%s has no address of the family that this device listens on (%s)", host, w.device.listen.Addr())
		}
	}
	w.mu.Lock()
	p.running = false
	first := err != nil && p.err == nil
	p.err = err
	if err == nil {
		// The next one of several: this one is silent.
		at := slices.IndexFunc(addrs, func(a netip.Addr) bool { return netip.AddrPortFrom(a, port) == p.endpoint })
		p.endpoint = netip.AddrPortFrom(addrs[(at+1)%len(addrs)], port)
	}
	endpoint, current := p.endpoint, w.peers[key] == p
	w.mu.Unlock()
	switch {
	case w.ctx.Err() != nil || !current:
	case err != nil:
		if first {
			w.device.log.Warn("the peer's endpoint can't be resolved; trying again", "peer", key, "endpoint", p.host, "err", err)
		}
	case endpoint != now:
		w.device.log.Info("endpoint resolved", "peer", key, "name", p.host, "endpoint", endpoint)
		if err := w.device.moveTo(key, endpoint); err != nil {
			w.device.log.Warn("the peer's endpoint can't be used", "peer", key, "endpoint", endpoint, "err", err)
			return
		}
		w.device.handshake(key, true)
	default:
		w.device.handshake(key, never)
	}
}

// usable are the addresses that the device's socket can send to.
func (w *watcher) usable(addrs []netip.Addr) []netip.Addr {
	at := w.device.listen.Addr()
	var use []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		if at.IsUnspecified() || at.Is4() == a.Is4() {
			use = append(use, a)
		}
	}
	return use
}

// failed tells why a peer's name has no address.
func (w *watcher) failed(key PublicKey) (host string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.peers[key]; p != nil {
		return p.host, p.err
	}
	return "", nil
}

func (w *watcher) close() {
	w.cancel()
	w.wg.Wait()
}

// moveTo changes a peer's endpoint, if it still is a peer.
func (d *Device) moveTo(key PublicKey, to netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.peers[key]; !ok || d.closed {
		return nil
	}
	return d.wg.IpcSet("public_key=" + key.hex() + "\nupdate_only=true\nendpoint=" + to.String() + "\n")
}

// handshake starts one with a peer: at most one in five seconds, unless anew.
func (d *Device) handshake(key PublicKey, anew bool) {
	p := d.wg.LookupPeer(wgdevice.NoisePublicKey(key))
	if p == nil {
		return
	}
	if anew {
		p.ExpireCurrentKeypairs()
	}
	_ = p.SendHandshakeInitiation(false) // WireGuard logs what fails
}
