package aof

import (
	"bufio"
	"errors"
	"fmt"
	"time"
)

const (
	// A base file is brought to the disk in pieces of syncPiece, lest its end be one long fsync that others wait for.
	syncPiece  = 8 << 20
	baseBuffer = 256 << 10
	tempBase   = "temp-rewriteaof.base.rdb"
)

// background brings the file to the disk each second, tries again what failed, and rewrites when it is time.
func (w *Writer) background() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		failed := w.failure.Load()
		if failed == nil || !failed.lost {
			w.waitLead()
			_ = w.flush(false) // Err tells
			w.unlead()
			if w.opts.Policy == EverySec && w.Err() == nil {
				w.syncNow()
			}
		}
		if failed = w.failure.Load(); failed != nil && failed.lost || failed == nil && w.grown() {
			w.tryRewrite()
		}
	}
}

// grown tells whether the files are so large that a rewrite is due.
func (w *Writer) grown() bool {
	if w.opts.RewritePercent < 0 {
		return false
	}
	size, base := w.size.Load(), max(w.baseline.Load(), 1)
	return size >= w.opts.RewriteMinSize && float64(size-base) >= float64(base)*float64(w.opts.RewritePercent)/100
}

// tryRewrite starts a rewrite in the background, unless one is under way or the last ones failed just now.
func (w *Writer) tryRewrite() {
	if !w.rewriting.TryLock() {
		return
	}
	if time.Now().Before(w.notBefore) {
		w.rewriting.Unlock()
		return
	}
	w.running.Go(func() {
		defer w.rewriting.Unlock()
		if err := w.rewrite(); err != nil && !errors.Is(err, ErrClosed) {
			pause := min(tick<<min(w.failures, 10), maxBackoff)
			w.failures++
			w.notBefore = time.Now().Add(pause)
			w.log.Error("rewriting the append-only file failed", "err", err, "next try in", pause)
			return
		}
		w.failures = 0
	})
}

// Rewrite replaces the files by a snapshot of the data and what comes after it. Writes go on meanwhile.
func (w *Writer) Rewrite() error {
	w.rewriting.Lock()
	defer w.rewriting.Unlock()
	return w.rewrite()
}

// rewrite needs w.rewriting. The order of its steps makes every crash leave files that load:
//
//  1. a new, empty incremental file is in the manifest after the present ones (at the very first there are none, and
//     the manifest is written with the base);
//  2. from the moment of the snapshot on, what is appended goes there, once the old file is whole on the disk;
//  3. the snapshot is whole on the disk, under its name;
//  4. the manifest has the new base and the new incremental file, and the others as history;
//  5. the history is deleted.
//
// After Suspend the present files are of other data than what goes to the new one: then step 1 is left out, as at the very
// first.
func (w *Writer) rewrite() error {
	if w.stopped() {
		return ErrClosed
	}
	w.inRewrite.Store(true)
	defer w.inRewrite.Store(false)
	began := time.Now()
	first := w.manifest.empty()
	incr, next, err := w.nextIncr()
	if err != nil {
		return fmt.Errorf("rewrite append-only file: %w", err)
	}
	w.manifest.incrSeq = next.incrSeq // whatever happens, the name isn't used again
	replaced := w.Suspended()
	if !first && !replaced {
		if err := next.write(w.fs, w.dir); err != nil {
			return errors.Join(fmt.Errorf("rewrite append-only file: %w", err), incr.Close())
		}
		w.manifest = next
	}
	w.presync()
	at, switched := int64(0), false
	next = next.withBase()
	w.manifest.baseSeq = next.baseSeq
	base := &baseFile{w: w}
	err = replaceFile(w.fs, w.dir, w.path(tempBase), w.path(next.base.name), func(f File) error {
		base.file = f
		b := bufio.NewWriterSize(base, baseBuffer)
		if err := w.source.Snapshot(b, func() { at, switched = w.switchAt(incr, replaced), true }); err != nil {
			return err
		}
		return b.Flush()
	})
	if err == nil {
		err = next.write(w.fs, w.dir)
	}
	if err != nil {
		if !switched {
			err = errors.Join(err, incr.Close())
		} else if replaced {
			w.Suspend() // the new file isn't in the manifest
		}
		return fmt.Errorf("rewrite append-only file: %w", err)
	}
	w.manifest = next
	w.baseline.Store(base.size)
	err = w.adopt(at, base.size)
	w.dropHistory()
	if err != nil {
		return fmt.Errorf("rewrite append-only file: %w", err)
	}
	w.log.Info("append-only file rewritten", "base", next.base.name, "bytes", base.size, "took", time.Since(began))
	return nil
}

// nextIncr makes the incremental file that comes next, and the manifest with it.
func (w *Writer) nextIncr() (File, manifest, error) {
	next := w.manifest.withIncr()
	f, err := w.fs.OpenFile(w.path(next.incr[len(next.incr)-1].name), writeNew, filePerm)
	if err != nil {
		return nil, manifest{}, err
	}
	return f, next, nil
}

// presync brings the present file to the disk before the change of files has to, so that that is short.
func (w *Writer) presync() {
	w.waitLead()
	started := w.file != nil
	if started {
		_ = w.flush(false) // Err tells; the new base may be the way out
	}
	w.unlead()
	if started && w.Err() == nil {
		w.syncNow()
	}
}

// dropHistory deletes files that are no longer needed. One that can't be deleted stays in the manifest, as history.
func (w *Writer) dropHistory() {
	if len(w.manifest.history) == 0 {
		return
	}
	next := w.manifest
	next.history = nil
	for _, p := range w.manifest.history {
		if err := w.fs.Remove(w.path(p.name)); err != nil && !isNotExist(err) {
			w.log.Warn("an old part of the append-only file can't be deleted", "file", p.name, "err", err)
			next.history = append(next.history, p)
		}
	}
	if err := next.write(w.fs, w.dir); err != nil {
		w.log.Warn("the manifest still lists files that are deleted, as history", "err", err)
		return
	}
	w.manifest = next
}

func (w *Writer) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// baseFile writes a base: it syncs it in pieces, and ends when the Writer closes.
type baseFile struct {
	w     *Writer
	file  File
	size  int64
	dirty int
}

func (b *baseFile) Write(p []byte) (int, error) {
	if b.w.stopped() {
		return 0, ErrClosed
	}
	n, err := b.file.Write(p)
	b.size += int64(n)
	if b.dirty += n; err == nil && b.dirty >= syncPiece {
		b.dirty = 0
		err = b.file.Sync()
	}
	return n, err
}
