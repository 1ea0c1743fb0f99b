package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"time"

	"respmesh/mesh"
)

const (
	// heardEvery bounds how long a peer must have been there to be called after a crash.
	heardEvery = 3 * time.Second
	// heardMost bounds the file. Who isn't in it comes by itself, later.
	heardMost = 16384
	heardSize = 4 << 20
)

// heard keeps where the peers that come by themselves were last heard, so that the node calls them when it starts again: their
// sessions are with the process before.
type heard struct {
	path   string // "": it isn't kept
	device *mesh.Device
	log    *slog.Logger
	before map[mesh.PublicKey]netip.AddrPort // what the file said at the start
	kept   map[mesh.PublicKey]netip.AddrPort // what it says now
}

type heardFile struct {
	Peers map[string]netip.AddrPort `json:"peers"` // by public key
}

// openHeard reads the file. What can't be read is forgotten: the peers come by themselves.
func openHeard(path string, device *mesh.Device, log *slog.Logger) *heard {
	h := &heard{path: path, device: device, log: log, before: make(map[mesh.PublicKey]netip.AddrPort)}
	if path == "" {
		return h
	}
	f, err := readHeard(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("where peers were last heard is forgotten: the file can't be read", "file", path, "err", err)
	}
	for text, at := range f.Peers {
		if key, err := mesh.ParsePublicKey(text); err == nil && at.IsValid() && len(h.before) < heardMost {
			h.before[key] = at
		}
	}
	h.kept = maps.Clone(h.before)
	return h
}

func readHeard(path string) (f heardFile, err error) {
	file, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, heardSize))
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(raw, &f)
}

// run calls the peers that were there before, and then writes down those that are there, until ctx ends.
func (h *heard) run(ctx context.Context) {
	h.device.Recall(ctx, h.before)
	if h.path == "" {
		return
	}
	tick := time.NewTicker(heardEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := h.save(); err != nil {
			h.log.Warn("where peers were last heard isn't kept", "err", err)
		}
	}
}

// save writes the file, if it isn't what it should be.
func (h *heard) save() error {
	now := h.device.Heard()
	if maps.Equal(now, h.kept) {
		return nil
	}
	f := heardFile{Peers: make(map[string]netip.AddrPort)}
	for key, at := range now {
		if len(f.Peers) == heardMost {
			break
		}
		f.Peers[key.String()] = at
	}
	if err := replaceJSON(h.path, f); err != nil {
		return fmt.Errorf("peers last heard: %w", err)
	}
	h.kept = now
	return nil
}
