package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DefaultKeepalive keeps the path to a peer open, and lets a restarted node be
// found in half a second instead of fifteen.
const DefaultKeepalive = 25 * time.Second

// ErrPeers is what an invalid list of peers is refused with; nothing was changed.
var ErrPeers = errors.New("invalid peers")

// Peer is the other end of a WireGuard session.
type Peer struct {
	PublicKey  PublicKey
	Endpoint   netip.AddrPort // the zero value: it comes to us first, or Host says where it is
	Host       string         // name:port, instead of Endpoint; looked up again when the peer falls silent
	AllowedIPs []netip.Prefix // the addresses that are this peer's, and nobody else's
	Keepalive  time.Duration  // zero: DefaultKeepalive; negative: off; whole seconds
}

// normalize gives a copy in the one form in which peers are compared.
func (p Peer) normalize() (Peer, error) {
	switch {
	case p.PublicKey.IsZero():
		return p, fmt.Errorf("%w: a peer has no public key", ErrPeers)
	case p.Endpoint != netip.AddrPort{} && (!p.Endpoint.IsValid() || p.Endpoint.Port() == 0):
		return p, fmt.Errorf("%w: peer %s: bad endpoint %s", ErrPeers, p.PublicKey, p.Endpoint)
	case p.Keepalive > 65535*time.Second:
		return p, fmt.Errorf("%w: peer %s: keepalive %s is above 65535 s", ErrPeers, p.PublicKey, p.Keepalive)
	}
	if p.Host != "" {
		host, port, err := checkHost(p.Host)
		if err != nil {
			return p, fmt.Errorf("%w: peer %s: bad endpoint %.300q: %w", ErrPeers, p.PublicKey, p.Host, err)
		}
		if p.Endpoint.IsValid() {
			return p, fmt.Errorf("%w: peer %s: both an endpoint %s and a host %s", ErrPeers, p.PublicKey, p.Endpoint, p.Host)
		}
		if a, err := netip.ParseAddr(host); err == nil {
			p.Endpoint, p.Host = netip.AddrPortFrom(a, port), ""
		}
	}
	if strings.ContainsFunc(p.Endpoint.Addr().Zone(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		// It is written into a protocol of lines.
		return p, fmt.Errorf("%w: peer %s: bad endpoint: zone %q", ErrPeers, p.PublicKey, p.Endpoint.Addr().Zone())
	}
	switch {
	case p.Keepalive == 0:
		p.Keepalive = DefaultKeepalive
	case p.Keepalive < 0:
		p.Keepalive = 0
	default: // a keepalive of half a second must not become "off"
		p.Keepalive = max(p.Keepalive.Truncate(time.Second), time.Second)
	}
	if p.Endpoint.IsValid() {
		p.Endpoint = netip.AddrPortFrom(p.Endpoint.Addr().Unmap(), p.Endpoint.Port())
	}
	p.AllowedIPs = slices.Clone(p.AllowedIPs)
	for i, a := range p.AllowedIPs {
		if !a.IsValid() || !a.Addr().Is6() || a.Addr().Is4In6() {
			return p, fmt.Errorf("%w: peer %s: allowed IP %s: want an IPv6 prefix", ErrPeers, p.PublicKey, a)
		}
		p.AllowedIPs[i] = a.Masked()
	}
	slices.SortFunc(p.AllowedIPs, comparePrefixes)
	p.AllowedIPs = slices.Compact(p.AllowedIPs)
	return p, nil
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// normalizePeers checks a whole list. WireGuard itself would let a second peer
// silently take over another's allowed IP.
func normalizePeers(self PublicKey, peers []Peer) (map[PublicKey]Peer, error) {
	byKey := make(map[PublicKey]Peer, len(peers))
	var owned []ownedPrefix
	for _, p := range peers {
		p, err := p.normalize()
		if err != nil {
			return nil, err
		}
		if p.PublicKey == self {
			return nil, fmt.Errorf("%w: %s is this device's own key", ErrPeers, p.PublicKey)
		}
		if _, twice := byKey[p.PublicKey]; twice {
			return nil, fmt.Errorf("%w: peer %s given twice", ErrPeers, p.PublicKey)
		}
		byKey[p.PublicKey] = p
		for _, a := range p.AllowedIPs {
			owned = append(owned, ownedPrefix{a, p.PublicKey})
		}
	}
	if err := checkOverlaps(owned); err != nil {
		return nil, err
	}
	return byKey, nil
}

type ownedPrefix struct {
	netip.Prefix
	owner PublicKey
}

// checkOverlaps refuses prefixes of which two peers have a part.
func checkOverlaps(owned []ownedPrefix) error {
	slices.SortFunc(owned, func(a, b ownedPrefix) int {
		return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), slices.Compare(a.owner[:], b.owner[:]))
	})
	var around []ownedPrefix // those that contain the last one, the widest first
	for _, o := range owned {
		for len(around) > 0 && !around[len(around)-1].Contains(o.Addr()) {
			around = around[:len(around)-1]
		}
		for _, a := range around {
			if a.owner != o.owner {
				return fmt.Errorf("%w: allowed IP %s of %s overlaps %s of %s", ErrPeers, o.Prefix, o.owner, a.Prefix, a.owner)
			}
		}
		around = append(around, o)
	}
	return nil
}

// diffPeers writes the UAPI commands that lead from one list to the other. New
// and changed peers come first, so that an address moving to a new key is never
// nobody's; removals follow. A removal names only what the peer still owns.
func diffPeers(have, want map[PublicKey]Peer) string {
	var b strings.Builder
	for _, key := range sortedKeys(want) {
		w := want[key]
		h, exists := have[key]
		var lines []string
		if w.Endpoint.IsValid() && w.Endpoint != h.Endpoint {
			// Compared with what was asked for, not with where the peer is now: it may roam.
			lines = append(lines, "endpoint="+w.Endpoint.String())
		}
		for _, a := range w.AllowedIPs {
			if !slices.Contains(h.AllowedIPs, a) {
				lines = append(lines, "allowed_ip="+a.String())
			}
		}
		for _, a := range h.AllowedIPs {
			if !slices.Contains(w.AllowedIPs, a) {
				lines = append(lines, "allowed_ip=-"+a.String())
			}
		}
		// Last: turning it on sends a packet at once.
		if !exists || w.Keepalive != h.Keepalive {
			lines = append(lines, fmt.Sprintf("persistent_keepalive_interval=%d", w.Keepalive/time.Second))
		}
		if exists && len(lines) == 0 {
			continue
		}
		b.WriteString("public_key=" + key.hex() + "\n")
		if exists {
			b.WriteString("update_only=true\n")
		}
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	for _, key := range sortedKeys(have) {
		if _, stays := want[key]; !stays {
			b.WriteString("public_key=" + key.hex() + "\nremove=true\n")
		}
	}
	return b.String()
}

func sortedKeys(m map[PublicKey]Peer) []PublicKey {
	keys := make([]PublicKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b PublicKey) int { return slices.Compare(a[:], b[:]) })
	return keys
}

// routesOf are the prefixes behind a tunnel: the /48s in which the peers' addresses lie. One route for each address would be
// many, and what nobody owns must not leave by another way.
func routesOf(peers map[PublicKey]Peer) []netip.Prefix {
	seen := make(map[netip.Prefix]struct{})
	for _, p := range peers {
		for _, a := range p.AllowedIPs {
			if a.Bits() > 48 {
				a = netip.PrefixFrom(a.Addr(), 48).Masked()
			}
			seen[a] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), comparePrefixes)
}

// goneAddrs are the single addresses that some peer had and none has any more.
func goneAddrs(have, want map[PublicKey]Peer) []netip.Addr {
	stays := make(map[netip.Prefix]struct{})
	for _, p := range want {
		for _, a := range p.AllowedIPs {
			stays[a] = struct{}{}
		}
	}
	var gone []netip.Addr
	for _, p := range have {
		for _, a := range p.AllowedIPs {
			if _, ok := stays[a]; !ok && a.IsSingleIP() {
				gone = append(gone, a.Addr())
			}
		}
	}
	return gone
}
