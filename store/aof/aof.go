// Package aof keeps a database's changes on disk in Redis 7's multi-part append-only file, so that a crash loses no more
// than the policy allows. The files are those of redis-server 7.0 (aof.c), which loads ours, and we its.
//
// In the directory appendonlydir stand
//
//	appendonly.aof.manifest      which of the files count, in which order
//	appendonly.aof.N.base.rdb    the data at one moment, as an RDB
//	appendonly.aof.M.incr.aof    what has happened since, as RESP commands; one or more
//
// with one line per file in the manifest, `file NAME seq N type b|i|h`: base, incremental, or history, which is about to
// be deleted. Each incremental file begins with SELECT; its
// lines that begin with #respmesh are marks (see Writer.Mark). A Writer appends to the last one. Rewriting takes a snapshot
// into a new base, goes on in a new incremental file from the very moment of the snapshot, and then forgets the others.
//
// The way of a write:
//
//	engine, under its lock   Append copies the effects into a buffer: no I/O
//	the session, afterwards  Commit, before it answers: the bytes are with the kernel (everysec, no) or on the
//	                         disk (always). Whoever comes first writes for all who have come by then, so that
//	                         one write(2) and one fsync serve many sessions.
//
// When a write fails, Err says so until it has succeeded: the engine refuses its clients' writes meanwhile. What was
// appended stays in memory and is written once that is possible again. After a failed fsync nobody knows what of the file
// is on disk, and trying again tells nothing (Linux forgets the pages), so the way back is a rewrite.
package aof

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"respmesh/resp/command"
)

// Policy says when the file is brought to the disk.
type Policy uint8

// The policies, by their names in Redis.
const (
	EverySec Policy = iota // each second
	Always                 // before a write is answered
	No                     // when the kernel sees fit
)

func (p Policy) String() string {
	switch p {
	case Always:
		return "always"
	case No:
		return "no"
	}
	return "everysec"
}

// ParsePolicy reads the name of a policy.
func ParsePolicy(s string) (Policy, error) {
	for _, p := range []Policy{Always, EverySec, No} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%q is none of always, everysec, no", s)
}

// A Target takes what a file holds. It must not expire keys on its own account meanwhile.
type Target interface {
	// Restore replaces all data by an RDB.
	Restore(r io.Reader) error
	// Apply executes commands in order; SELECT, MULTI, EXEC and DISCARD are among them. The requests are
	// invalid once it has returned.
	Apply(reqs []command.Request) error
}

// A Source gives the data for a base file.
type Source interface {
	// Snapshot writes an RDB of all databases. It calls at, once, at the moment whose data these are, while nothing is
	// appended; what is appended next begins with SELECT.
	Snapshot(w io.Writer, at func()) error
}

// Options for Open. Only Dir is required.
type Options struct {
	Dir    string // holds appendonlydir
	Policy Policy
	FS     FS // nil: the operating system's
	// A rewrite begins when the files have grown by RewritePercent over what the last one left (100 if 0, negative for
	// never) and have RewriteMinSize bytes (64 MiB if 0).
	RewritePercent int
	RewriteMinSize int64
	Log            *slog.Logger
}

const (
	dirName = "appendonlydir" // Redis's names
	prefix  = "appendonly.aof"

	// tick is how often everysec brings the file to the disk, and a failed write is tried again.
	tick = time.Second
	// maxBackoff bounds the pause between failed rewrites.
	maxBackoff = time.Minute
)

// ErrClosed is the answer of a Writer that isn't open: before Start and after Close.
var ErrClosed = errors.New("the append-only file is closed")

// A Failure is why the file can't be written at present. Its text is Redis's.
type Failure struct {
	Err  error
	lost bool // an fsync failed: a rewrite must come first
}

func (f *Failure) Error() string {
	reason := f.Err
	var errno syscall.Errno
	if errors.As(f.Err, &errno) {
		reason = errno
	}
	text := []byte(reason.Error())
	if len(text) > 0 && 'a' <= text[0] && text[0] <= 'z' {
		text[0] -= 'a' - 'A' // as strerror writes it
	}
	return "Errors writing to the AOF file: " + string(text)
}

// Unwrap gives the error of the file system.
func (f *Failure) Unwrap() error { return f.Err }

// A Writer is the append-only file of one store: Open, Load, Start, then Append and Commit, at the end Close. Append,
// Commit and what reports may be called concurrently.
type Writer struct {
	opts   Options
	fs     FS
	dir    string
	log    *slog.Logger
	source Source

	appended atomic.Int64 // position: bytes appended since Open
	done     atomic.Int64 // up to here Commit's promise holds
	failure  atomic.Pointer[Failure]
	size     atomic.Int64 // of the files that count, with what is being written
	baseline atomic.Int64 // size that the last rewrite left

	mu        sync.Mutex // taken under the engine's lock: never held over I/O
	buf       []byte     // appended, not taken by a leader
	switches  []*fileSwitch
	suspended bool // what is appended belongs to data that have no base yet
	leading   bool
	round     chan struct{} // closed when the leader is done; nil: nobody waits

	// What follows belongs to the leader.
	file    File   // nil before Start and after Close
	pending []byte // taken, not written
	spare   []byte // the other buffer
	written int64  // position
	synced  int64

	rewriting sync.Mutex // guards what follows; held for a whole rewrite
	manifest  manifest
	inRewrite atomic.Bool
	failures  int       // rewrites in a row
	notBefore time.Time // the next try

	stop    chan struct{}
	closing sync.Once
	closed  error
	running sync.WaitGroup
}

// fileSwitch says that what is appended from a position on goes to another file.
type fileSwitch struct {
	at   int64
	file File
}

// Open reads the manifest, if there is one. Load and Start must follow.
func Open(o Options) (*Writer, error) {
	o.RewritePercent = cmp.Or(o.RewritePercent, 100)
	o.RewriteMinSize = cmp.Or(o.RewriteMinSize, 64<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = OS{}
	}
	w := &Writer{opts: o, fs: o.FS, log: o.Log, dir: filepath.Join(o.Dir, dirName), stop: make(chan struct{})}
	err := w.fs.Mkdir(w.dir)
	if err == nil {
		err = w.fs.SyncDir(o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("append-only file: %w", err)
	}
	if w.manifest, err = readManifest(w.fs, w.path(manifestName)); err != nil {
		return nil, fmt.Errorf("append-only file: %w", err)
	}
	return w, nil
}

// Found tells whether there are files to load.
func (w *Writer) Found() bool { return !w.manifest.empty() }

func (w *Writer) path(name string) string { return filepath.Join(w.dir, name) }

// Start begins to take changes. Without files there, it makes them, from the data in s. Load must have been called
// if Found.
func (w *Writer) Start(s Source) error {
	w.source = s
	if w.manifest.empty() {
		if err := w.Rewrite(); err != nil {
			return err
		}
	} else if err := w.reopen(); err != nil {
		return fmt.Errorf("append-only file: %w", err)
	}
	w.running.Go(w.background)
	return nil
}

// reopen goes on in the last incremental file, or begins one after a lone base.
func (w *Writer) reopen() error {
	w.rewriting.Lock()
	defer w.rewriting.Unlock()
	m := w.manifest
	if len(m.incr) == 0 {
		f, next, err := w.nextIncr()
		if err != nil {
			return err
		}
		if err := next.write(w.fs, w.dir); err != nil {
			return errors.Join(err, f.Close())
		}
		w.manifest, w.file = next, f
	} else {
		f, err := w.fs.OpenFile(w.path(m.incr[len(m.incr)-1].name), writeAppend, filePerm)
		if err != nil {
			return err
		}
		w.file = f
	}
	w.dropHistory()
	return nil
}

// Info is what metrics and INFO read.
type Info struct {
	Policy     Policy
	Size, Base int64 // bytes in the files now, and after the last rewrite
	Rewriting  bool
}

// Info reports on the files.
func (w *Writer) Info() Info {
	return Info{Policy: w.opts.Policy, Size: w.size.Load(), Base: w.baseline.Load(), Rewriting: w.inRewrite.Load()}
}

// Err says why the file can't be written at present: a *Failure, or nil.
func (w *Writer) Err() error {
	if f := w.failure.Load(); f != nil {
		return f
	}
	return nil
}

// Close brings everything to the disk, whatever the policy, and ends the background work. No Append may be under way.
func (w *Writer) Close() error {
	w.closing.Do(func() {
		close(w.stop)
		w.running.Wait()
		w.rewriting.Lock() // a Rewrite by a caller ends early
		defer w.rewriting.Unlock()
		w.waitLead()
		defer w.unlead()
		var err error
		if w.file != nil {
			err = w.flush(true)
		}
		w.mu.Lock()
		switches := w.switches
		w.switches = nil
		w.mu.Unlock()
		for _, s := range switches {
			err = errors.Join(err, s.file.Close())
		}
		if w.file != nil {
			err = errors.Join(err, w.file.Close())
			w.file = nil
		}
		w.failure.Store(&Failure{Err: ErrClosed, lost: true}) // what an engine that outlives it does can't be kept
		if err != nil {
			w.closed = fmt.Errorf("close append-only file: %w", err)
		}
	})
	return w.closed
}
