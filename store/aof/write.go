package aof

import (
	"errors"
	"io"
	"os"
)

// keepBuffer is the largest buffer kept for the next round.
const keepBuffer = 4 << 20

// Append adds what was done to the log; it only copies p. It must be called in the order of the effects. Each
// call holds whole commands, and transactions whole.
func (w *Writer) Append(p []byte) {
	w.mu.Lock()
	w.appendLocked(p)
	w.mu.Unlock()
}

func (w *Writer) appendLocked(p []byte) {
	if !w.suspended {
		w.buf = append(w.buf, p...)
		w.appended.Add(int64(len(p)))
	}
}

// Mark adds an annotation, a line that Redis skips and Load returns: it is about what is appended next.
func (w *Writer) Mark(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.appendLocked([]byte(markPrefix + text + "\r\n"))
}

const markPrefix = "#respmesh "

// Suspend leaves the files as they are, and drops what is appended, until a rewrite has begun: the data were replaced by
// others, to which what comes now belongs. A crash before the end of the rewrite finds the old ones.
func (w *Writer) Suspend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspended = true
}

// Suspended tells whether a rewrite has to begin.
func (w *Writer) Suspended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.suspended
}

// Appended is the position after what was appended last.
func (w *Writer) Appended() int64 { return w.appended.Load() }

// Committed is the position up to which Commit returns at once.
func (w *Writer) Committed() int64 { return w.done.Load() }

// Commit returns nil once everything up to a position is written, and on the disk if the policy is Always. An error
// says that it may or may not be there later.
func (w *Writer) Commit(pos int64) error {
	for w.done.Load() < pos {
		if err := w.Err(); err != nil {
			return err
		}
		if others := w.lead(); others != nil {
			<-others
			continue
		}
		err := w.flush(false)
		w.unlead()
		if err != nil {
			return err
		}
	}
	return nil
}

// lead makes the caller the one who writes, until unlead; if there is one, it returns a channel that is
// closed when that one is done.
func (w *Writer) lead() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.leading {
		w.leading = true
		return nil
	}
	if w.round == nil {
		w.round = make(chan struct{})
	}
	return w.round
}

// waitLead makes the caller the one who writes, when its turn comes.
func (w *Writer) waitLead() {
	for others := w.lead(); others != nil; others = w.lead() {
		<-others
	}
}

func (w *Writer) unlead() {
	w.mu.Lock()
	w.leading = false
	round := w.round
	w.round = nil
	w.mu.Unlock()
	if round != nil {
		close(round)
	}
}

// flush writes what was appended, and brings it to the disk if sync or if the policy says so. The caller leads. After a
// failed write it tries again where that stopped.
func (w *Writer) flush(sync bool) error {
	if w.file == nil {
		return ErrClosed
	}
	failed := w.failure.Load()
	if failed != nil && failed.lost {
		return failed
	}
	sync = sync || failed != nil || w.opts.Policy == Always
	next := w.take()
	for len(w.pending) > 0 || next != nil {
		p := w.pending
		if next != nil {
			p = p[:next.at-w.written]
		}
		if len(p) > 0 {
			n, err := w.file.Write(p)
			n = min(max(n, 0), len(p))
			w.pending = w.pending[n:]
			w.written += int64(n)
			w.size.Add(int64(n))
			if err == nil && n < len(p) {
				err = io.ErrShortWrite
			}
			if err != nil {
				return w.fail(err, false)
			}
		}
		if next != nil {
			// The old file must be whole before the new one has anything: a gap between them couldn't be loaded.
			if err := w.file.Sync(); err != nil {
				return w.fail(err, true)
			}
			w.synced = w.written
			if err := w.file.Close(); err != nil {
				w.log.Warn("closing the old part of the append-only file failed", "err", err)
			}
			w.file = next.file
			w.mu.Lock()
			w.switches = w.switches[1:]
			w.mu.Unlock()
			next = w.take()
		}
	}
	if sync && w.synced < w.written {
		if err := w.file.Sync(); err != nil {
			return w.fail(err, true)
		}
		w.synced = w.written
	}
	w.recovered()
	w.done.Store(w.written)
	return nil
}

// take adds what was appended to pending and returns the next change of files in it.
func (w *Writer) take() (next *fileSwitch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		done := w.spare
		w.spare = nil
		if cap(done) > keepBuffer {
			done = nil
		}
		w.pending, w.buf, w.spare = w.buf, done[:0], w.buf[:0]
	} else {
		w.pending = append(w.pending, w.buf...)
		w.buf, w.spare = w.buf[:0], nil
	}
	if len(w.switches) > 0 {
		return w.switches[0]
	}
	return nil
}

// fail notes that writing failed: until it succeeds Err tells so.
func (w *Writer) fail(err error, lost bool) error {
	f := &Failure{Err: err, lost: lost}
	if w.failure.Swap(f) == nil {
		w.log.Error("the append-only file can't be written; writes are refused until it can", "err", err)
	}
	return f
}

func (w *Writer) recovered() {
	if w.failure.Load() != nil {
		w.failure.Store(nil)
		w.log.Warn("the append-only file can be written again")
	}
}

// switchAt makes what is appended from now on go to f. replaced: the rewrite began after Suspend. One that didn't, and is
// overtaken by it, leaves the writer suspended: f stands in the manifest after files of other data.
func (w *Writer) switchAt(f File, replaced bool) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.appended.Load()
	if replaced {
		w.suspended = false
	}
	w.switches = append(w.switches, &fileSwitch{at: at, file: f})
	return at
}

// adopt goes over to the file that begins at a position, if the writer hasn't come to it: what was appended before
// is in the new base, of baseSize bytes, so that whatever couldn't be written of it needn't be.
func (w *Writer) adopt(at, baseSize int64) error {
	w.waitLead()
	defer w.unlead()
	w.take()
	for {
		w.mu.Lock()
		if len(w.switches) == 0 || w.switches[0].at > at {
			w.mu.Unlock()
			break
		}
		next := w.switches[0]
		w.switches = w.switches[1:]
		w.mu.Unlock()
		if w.file != nil {
			if err := w.file.Close(); err != nil {
				w.log.Warn("closing the old part of the append-only file failed", "err", err)
			}
		}
		w.file = next.file
		w.pending = w.pending[next.at-w.written:]
		w.written, w.synced = next.at, next.at
	}
	w.recovered()
	err := w.flush(true)
	w.size.Store(baseSize + w.written - at)
	return err
}

// syncNow brings to the disk what is written, without keeping others from writing.
func (w *Writer) syncNow() {
	w.waitLead()
	f, pos, due := w.file, w.written, w.synced < w.written
	w.unlead()
	if !due || f == nil {
		return
	}
	err := f.Sync()
	w.waitLead()
	defer w.unlead()
	switch {
	case errors.Is(err, os.ErrClosed):
		// The file was changed meanwhile, which has synced it.
	case err != nil:
		w.fail(err, true)
	default:
		w.synced = max(w.synced, pos)
	}
}
