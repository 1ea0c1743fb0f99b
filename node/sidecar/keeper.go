package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"respmesh/mesh"
)

// keeper is the data directory: the key, the last membership, and a lock, since two sidecars with one key would take each
// other's packets.
type keeper struct {
	dir  string
	lock *os.File
	last string // what was saved last
}

const (
	keyName  = "wireguard.key"
	meshName = "mesh.json"
)

// ErrInUse is what a second sidecar on a data directory is refused with.
var ErrInUse = errors.New("in use by another sidecar")

func openKeeper(dir string) (*keeper, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return &keeper{dir: dir, lock: f}, nil
}

func (k *keeper) close() error { return k.lock.Close() }

func (k *keeper) key() (mesh.PrivateKey, error) {
	return mesh.LoadOrCreateKey(filepath.Join(k.dir, keyName))
}

// load is nil where nothing was kept.
func (k *keeper) load() (*membership, error) {
	raw, err := os.ReadFile(filepath.Join(k.dir, meshName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := new(membership)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("%s: %w", meshName, err)
	}
	if !m.Address.IsValid() || !m.Prefix.IsValid() || len(m.Nodes) == 0 {
		return nil, fmt.Errorf("%s isn't complete", meshName)
	}
	return m, nil
}

// save replaces what was kept, so that a crash leaves the old or the new.
func (k *keeper) save(m *membership) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if string(raw) == k.last {
		return nil
	}
	f, err := os.CreateTemp(k.dir, meshName+".*.new") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is none
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(k.dir, meshName)); err != nil {
		return err
	}
	k.last = string(raw)
	return nil
}
