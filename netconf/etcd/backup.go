package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// restoredRevisions is how far the restored revision of etcd jumps: further than was written since the backup, so that
// who watched before notices and reads everything again.
const restoredRevisions = 1_000_000_000

// Backup writes all that etcd holds, as etcdctl's `snapshot save` does: a database file with its SHA-256 behind. It has
// the hashes of passwords and the URLs of engines in it.
func Backup(ctx context.Context, client *clientv3.Client, w io.Writer) error {
	resp, err := client.SnapshotWithVersion(ctx)
	if err != nil {
		return unavailable("back up", err)
	}
	n, err := io.Copy(w, resp.Snapshot)
	if err := errors.Join(err, resp.Snapshot.Close()); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	// The file is made of pages of at least 512 bytes.
	if n%512 != sha256.Size {
		return fmt.Errorf("back up: only %d bytes came, without the checksum: try again", n)
	}
	return nil
}

// RestoreOptions of a member whose data is made from a backup.
type RestoreOptions struct {
	Dir  string // its data; must not exist, or be empty
	Name string // "": "control"
	// Peers are its peer URLs, InitialCluster all members': see MemberOptions. Each member restores the same backup.
	Peers          []string
	InitialCluster string
}

// Restore makes the data of a new member from the backup in a file. The state is that of the backup: what was changed
// since is lost.
func Restore(backup string, o RestoreOptions) error {
	if o.Name == "" {
		o.Name = defaultName
	}
	if len(o.Peers) == 0 {
		o.Peers = []string{aloneURL}
	}
	if o.InitialCluster == "" {
		o.InitialCluster = o.Name + "=" + o.Peers[0]
	}
	if f, err := os.Open(backup); err != nil {
		return fmt.Errorf("restore: %w", err)
	} else {
		_ = f.Close()
	}
	// Only an empty directory: data that is there is never overwritten.
	if err := os.Remove(o.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restore: the data directory has to be empty: %w", err)
	}
	// Made beside it and renamed: nothing half done is left in its place.
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	parts, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".restore-") // 0700
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer os.RemoveAll(parts)
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath:        backup,
		Name:                o.Name,
		OutputDataDir:       filepath.Join(parts, "data"),
		PeerURLs:            o.Peers,
		InitialCluster:      o.InitialCluster,
		InitialClusterToken: clusterToken,
		InitialMmapSize:     quota,
		RevisionBump:        restoredRevisions,
		MarkCompacted:       true,
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := os.Chmod(filepath.Join(parts, "data"), 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := os.Rename(filepath.Join(parts, "data"), dir); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}
