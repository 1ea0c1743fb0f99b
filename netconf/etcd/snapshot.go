package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"respmesh/netconf"
)

// snapshotFormat is the version of the snapshot file.
const snapshotFormat = 1

// snapshotFile is the last good state on disk. It has the hashes of passwords and the URLs of engines: mode 0600.
type snapshotFile struct {
	Format    int                        `json:"format"`
	Revision  uint64                     `json:"revision"`
	State     netconf.State              `json:"state"`
	Primaries map[string]netconf.Primary `json:"primaries,omitempty"` // who was it last: none holds a lease here
}

// readSnapshot publishes the state of the snapshot file, if there is a good one.
func (r *Registry) readSnapshot() bool {
	if r.snapshot == "" {
		return false
	}
	t, err := readSnapshot(r.snapshot)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil:
		r.log.Error("the snapshot of the control state can't be used", "file", r.snapshot, "error", err)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.model = modelOf(t)
	r.publishLocked(t)
	<-r.save // just read
	return true
}

func readSnapshot(file string) (*netconf.Topology, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var s snapshotFile
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if s.Format != snapshotFormat {
		return nil, fmt.Errorf("it has format %d, this program knows %d", s.Format, snapshotFormat)
	}
	t, err := netconf.NewTopology(s.Revision, s.State)
	if err != nil {
		return nil, err
	}
	return t.WithLive(netconf.Live{Primaries: s.Primaries}), nil
}

// saveSnapshots keeps the snapshot file at the current state until ctx ends, and brings it up to date then.
func (r *Registry) saveSnapshots(ctx context.Context) {
	var last []byte
	save := func() {
		t, _ := r.Current()
		if t.Revision == 0 {
			return
		}
		s := snapshotFile{Format: snapshotFormat, Revision: t.Revision, State: t.State, Primaries: make(map[string]netconf.Primary, len(t.Live.Primaries))}
		for id, p := range t.Live.Primaries {
			s.Primaries[id] = netconf.Primary{Node: p.Node, Term: p.Term}
		}
		raw, err := json.Marshal(s)
		if err == nil && !bytes.Equal(raw, last) {
			err = writeFile(r.snapshot, raw)
		}
		if err != nil {
			r.log.Error("the snapshot of the control state can't be written", "file", r.snapshot, "error", err)
			return
		}
		last = raw
	}
	for {
		select {
		case <-r.save:
			save()
		case <-ctx.Done():
			save()
			return
		}
	}
}

// writeFile replaces a file in one step: after a crash it is the old one or the new one.
func writeFile(file string, data []byte) (err error) {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, filepath.Base(file)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err = os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
