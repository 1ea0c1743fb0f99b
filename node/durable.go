package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/embedded"
	"respmesh/store/psync"
)

// snapshotName is Redis's own name for a snapshot. One is loaded where there is no append-only file yet.
const snapshotName = "dump.rdb"

// openLog opens the append-only file.
func (s *store) openLog() (err error) {
	o := s.opts
	s.aof, err = aof.Open(aof.Options{Dir: o.data, Policy: o.fsync, FS: o.fs, Log: o.log})
	return err
}

// load fills the engine from the disk, and the log with the position of what was there.
func (s *store) load() error {
	at := s.log.Standing()
	if s.aof.Found() {
		sum, err := s.aof.Load(s.engine)
		if err != nil {
			return err
		}
		if p, err := psync.ParsePosition(sum.Mark); err == nil {
			at = p
			at.Offset += sum.After
		}
		s.loaded = true
		s.opts.log.Info("append-only file loaded", "bytes", sum.Bytes, "commands", sum.Commands, "replid", at.Replid, "offset", at.Offset, "term", at.Term)
	} else if found, err := s.loadSnapshot(filepath.Join(s.opts.data, snapshotName)); err != nil {
		return err
	} else if found {
		s.loaded = true
	}
	if s.loaded {
		s.log.Resume(at)
	}
	s.keep = &keeper{aof: s.aof, at: at, rebase: make(chan struct{}, 1), based: make(chan struct{})}
	close(s.keep.based)
	if err := s.aof.Start(aofSource{s}); err != nil {
		return err
	}
	s.log.Keep(s.keep)
	return nil
}

func (s *store) loadSnapshot(path string) (found bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close()
	if err := s.engine.Restore(f); err != nil {
		return false, fmt.Errorf("load snapshot %s: %w", path, err)
	}
	return true, nil
}

// persistence is what the engine's INFO and CONFIG GET say.
func (s *store) persistence() embedded.Persistence {
	i := s.aof.Info()
	saving, failed, last := s.saver.state()
	return embedded.Persistence{
		Saving: saving, SaveFailed: failed, LastSave: last,
		AppendOnly: true, Fsync: i.Policy.String(), Rewriting: i.Rewriting, Size: i.Size, Base: i.Base, Failure: s.aof.Err(),
	}
}

// keeper brings the log's effects to the append-only file, with marks that say where in which history they are: the bytes
// after a mark are the stream's from its offset on, so that a file cut off anywhere tells its position. What the stream has
// besides effects (PINGs) isn't kept: a mark follows where they were.
type keeper struct {
	aof    *aof.Writer
	rebase chan struct{} // has one: the data were replaced, a base must be written

	mu    sync.Mutex
	at    psync.Position // after what was appended last
	based chan struct{}  // closed: the file is of the data that are here
}

// Keep implements psync.Keeper.
func (k *keeper) Keep(offset int64, p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at.Offset != offset {
		k.at.Offset = offset
		k.aof.Mark(k.at.String())
	}
	k.aof.Append(p)
	k.at.Offset += int64(len(p))
}

// Moved implements psync.Keeper.
func (k *keeper) Moved(p psync.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = p
	k.aof.Mark(p.String())
}

// Replaced implements psync.Keeper.
func (k *keeper) Replaced(p psync.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = p
	k.aof.Suspend()
	select {
	case <-k.based:
		k.based = make(chan struct{})
	default:
	}
	select {
	case k.rebase <- struct{}{}:
	default:
	}
}

// begin is called when a file begins that is about what comes after p.
func (k *keeper) begin(p psync.Position, streamDB []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = p
	k.aof.Append(streamDB)
	k.aof.Mark(p.String())
}

// written is called when a base has been written; not yet if the data were replaced meanwhile.
func (k *keeper) written() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.aof.Suspended() {
		return
	}
	select {
	case <-k.based:
	default:
		close(k.based)
	}
}

func (k *keeper) whenBased() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.based
}

// aofSource gives the data for a base, at a moment when data and position agree.
type aofSource struct{ s *store }

// Snapshot implements aof.Source.
func (a aofSource) Snapshot(w io.Writer, at func()) error {
	s := a.s
	return s.log.Snapshot(func(at func()) error { return s.engine.Snapshot(w, at) }, func(p psync.Position) {
		at()
		var selected []byte
		if db, replica := s.engine.StreamDB(); replica { // its stream goes on without saying so
			selected = frame.AppendCommandString(nil, "SELECT", fmt.Sprint(db))
		}
		s.keep.begin(p, selected)
	})
}

// writeBases writes a base whenever the data were replaced, until the store is closed.
func (s *store) writeBases() {
	pause := time.Second
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.keep.rebase:
		}
		for s.aof.Suspended() {
			err := s.aof.Rewrite()
			s.unbased.Store(err != nil)
			if err == nil {
				pause = time.Second
				s.keep.written()
				continue
			}
			s.opts.log.Error("the copied data can't be written to disk; trying again", "err", err, "in", pause)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Minute)
		}
		s.keep.written()
	}
}

// kept brings to the disk, as far as the policy says, what is here. The error says why that isn't possible at present.
func (s *store) kept() error {
	if err := s.aof.Commit(s.aof.Appended()); err != nil {
		return err
	}
	return s.diskErr() // an fsync may have failed
}

// diskErr says why the disk doesn't take what is here; nil: it does, as far as is known, or nothing is kept.
func (s *store) diskErr() error {
	switch {
	case s.aof == nil:
		return nil
	case s.unbased.Load():
		return errUnbased
	}
	return s.aof.Err()
}

var errUnbased = errors.New("the copied data can't be written to disk")

// awaitBase waits until what is written here will be kept.
func (s *store) awaitBase(ctx context.Context) error {
	if s.keep == nil {
		return nil
	}
	select {
	case <-s.keep.whenBased():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the copied data aren't on disk yet: %w", ctx.Err())
	}
}
