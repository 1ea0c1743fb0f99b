package mesh

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A peer without an endpoint comes to us. When this device starts anew, such a peer goes on with a session that nobody here
// knows, and its WireGuard takes 15 seconds to find out. Only the side that has forgotten can make it short: it calls the peers
// where it last heard them. A peer that is there answers with the key it has, so nothing is weakened; one that isn't is
// called as WireGuard does, for a minute and a half.

const (
	recallEvery = 10 * time.Millisecond
	recallBatch = 8 // a handshake costs about 0.2 ms of a processor: what is carried meanwhile mustn't notice
)

// Heard is where peers without an endpoint are: those that had a handshake not longer ago than a session lasts.
func (d *Device) Heard() map[PublicKey]netip.AddrPort {
	const lasts = 180 * time.Second
	d.mu.Lock()
	want := maps.Clone(d.peers)
	d.mu.Unlock()
	heard := make(map[PublicKey]netip.AddrPort)
	for _, s := range d.stats() {
		if p, ok := want[s.PublicKey]; ok && !p.watched() && s.Endpoint.IsValid() && time.Since(s.LastHandshake) < lasts {
			heard[s.PublicKey] = s.Endpoint
		}
	}
	return heard
}

// Recall calls peers where a device before this one had heard them, until ctx ends. Those that have come meanwhile, and those that
// aren't peers any more, are left alone.
func (d *Device) Recall(ctx context.Context, heard map[PublicKey]netip.AddrPort) {
	var call []PublicKey
	for _, s := range d.stats() {
		if _, ok := heard[s.PublicKey]; ok && !s.Endpoint.IsValid() {
			call = append(call, s.PublicKey)
		}
	}
	tick := time.NewTicker(recallEvery)
	defer tick.Stop()
	for batch := range slices.Chunk(call, recallBatch) {
		for _, key := range batch {
			if err := d.moveTo(key, heard[key]); err != nil {
				d.log.Debug("a peer can't be called where it was", "peer", key, "endpoint", heard[key], "err", err)
				continue
			}
			d.handshake(key, true) // something may have been sent to nowhere already
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
