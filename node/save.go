package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"respmesh/store/aof"
	"respmesh/store/embedded"
	"respmesh/store/psync"
)

// saver writes snapshots in Redis's format when a client asks for one, beside the append-only file: for copies elsewhere. At a
// start they count only where there is no append-only file.
type saver struct {
	s  *store
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	saving bool
	last   time.Time // of the latest that was complete, or of the start
	failed bool      // the latest
}

func newSaver(s *store) *saver {
	v := &saver{s: s, last: time.Now()}
	if info, err := os.Stat(v.path()); err == nil {
		v.last = info.ModTime()
	}
	return v
}

func (v *saver) path() string { return filepath.Join(v.s.opts.data, snapshotName) }

// begin notes that a snapshot is under way.
func (v *saver) begin() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.closed:
		return errors.New("the node is ending")
	case v.saving:
		return embedded.ErrSaving
	}
	v.saving = true
	v.wg.Add(1)
	return nil
}

// close waits for what is under way.
func (v *saver) close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.wg.Wait()
}

func (v *saver) write() error {
	defer v.wg.Done()
	err := v.snapshot()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.saving, v.failed = false, err != nil
	if err == nil {
		v.last = time.Now()
	}
	return err
}

// snapshot writes the file so that a crash leaves the old or the new one.
func (v *saver) snapshot() (err error) {
	f, err := os.CreateTemp(v.s.opts.data, "temp-*.rdb") // 0600
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer os.Remove(f.Name()) // after the rename there is none
	err = v.s.log.Snapshot(func(at func()) error { return v.s.engine.Snapshot(f, at) }, func(psync.Position) {})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), v.path())
	}
	if err == nil {
		err = aof.OS{}.SyncDir(v.s.opts.data)
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// Save implements embedded.Saver.
func (v *saver) Save() error {
	if err := v.begin(); err != nil {
		return err
	}
	return v.write()
}

// BackgroundSave implements embedded.Saver.
func (v *saver) BackgroundSave() error {
	if err := v.begin(); err != nil {
		return err
	}
	go func() { // close waits for it
		if err := v.write(); err != nil {
			v.s.opts.log.Error("snapshot failed", "err", err)
			return
		}
		v.s.opts.log.Info("snapshot written", "file", v.path())
	}()
	return nil
}

// BackgroundRewrite implements embedded.Saver.
func (v *saver) BackgroundRewrite() error {
	if v.s.aof.Info().Rewriting {
		return embedded.ErrSaving
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return errors.New("the node is ending")
	}
	v.wg.Go(func() {
		if err := v.s.aof.Rewrite(); err != nil {
			v.s.opts.log.Error("rewrite failed", "err", err)
		}
	})
	return nil
}

// LastSave implements embedded.Saver.
func (v *saver) LastSave() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// state is what INFO says.
func (v *saver) state() (saving, failed bool, last time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.saving, v.failed, v.last
}
