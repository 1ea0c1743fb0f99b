package psync

import (
	"errors"
	"fmt"
	"strings"

	"respmesh/resp/frame"
)

// A Position is how far a copy is in which history, with the history's former
// names: what has to be kept with the data to go on after a restart.
type Position struct {
	Replid string
	Offset int64
	Term   int64    // of the primary that the history is from; 0: unknown
	Former []Former // the latest first
}

// Former is a name that a history once had, and the offset up to which it holds.
type Former struct {
	Replid string
	UpTo   int64
}

// maxFormer bounds how many names are remembered: who was away for more
// changes of the primary gets all data anew.
const maxFormer = 8

const replidLen = 40

// String is one line without spaces at its ends, which ParsePosition reads.
func (p Position) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "replid=%s offset=%d term=%d", p.Replid, p.Offset, p.Term)
	for i, f := range p.Former {
		sep := ","
		if i == 0 {
			sep = " former="
		}
		fmt.Fprintf(&b, "%s%s:%d", sep, f.Replid, f.UpTo)
	}
	return b.String()
}

var errPosition = errors.New("not a replication position")

// ParsePosition reads what String wrote. Words it doesn't know are left out.
func ParsePosition(s string) (Position, error) {
	var p Position
	number := func(v string) (int64, error) {
		n, ok := frame.ParseInt([]byte(v))
		if !ok || n < 0 {
			return 0, fmt.Errorf("%w: %.40q", errPosition, v)
		}
		return n, nil
	}
	for word := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "replid":
			p.Replid = value
		case "offset":
			p.Offset, err = number(value)
		case "term":
			p.Term, err = number(value)
		case "former":
			for f := range strings.SplitSeq(value, ",") {
				id, upTo, _ := strings.Cut(f, ":")
				n, err := number(upTo)
				if err != nil || len(id) != replidLen {
					return Position{}, fmt.Errorf("%w: %.80q", errPosition, f)
				}
				p.Former = append(p.Former, Former{id, n})
			}
		}
		if err != nil {
			return Position{}, err
		}
	}
	if len(p.Replid) != replidLen || len(p.Former) > maxFormer {
		return Position{}, fmt.Errorf("%w: %.80q", errPosition, s)
	}
	return p, nil
}

// A Keeper is told what a log gets, in order and without gaps: what a disk needs.
// It is called under the log's lock, and so mustn't block or call the log.
type Keeper interface {
	// Keep takes effects: commands that changed the data, and whose first byte
	// has the given offset before it. p mustn't be kept.
	Keep(offset int64, p []byte)
	// Moved says that the history's name or term has changed. The data haven't.
	Moved(p Position)
	// Replaced says that all data were replaced by those of a position.
	Replaced(p Position)
}

// Resume sets the position of data that were loaded from a disk, in a log that
// has no history yet.
func (l *Log) Resume(p Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = true
	l.former, l.term, l.effects = p.Former, p.Term, p.Offset
	l.head, l.tail = nil, nil
	l.renameLocked(p.Replid, p.Offset)
}

// Keep has k told what the log gets from now on.
func (l *Log) Keep(k Keeper) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keeper = k
}

// Standing is Position with all that belongs to it. Its offset is that after the
// last effect: the PINGs that follow it are nothing that a copy could lack.
func (l *Log) Standing() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.standingLocked()
}

func (l *Log) standingLocked() Position {
	return Position{Replid: l.hist.Load().id, Offset: l.effects, Term: l.term, Former: l.former}
}

// Fence keeps the log from adding anything of its own to the stream: it is about
// to be another's. It doesn't wait.
func (l *Log) Fence() { l.following.Store(true) }

// Fresh says that there has never been any data.
func (l *Log) Fresh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.loaded && l.hist.Load().offset.Load() == 0
}

// Snapshot has src write its data to w, and calls at when it is known of which
// position they are. Where the data are at no position it gives an error.
func (l *Log) Snapshot(write func(at func()) error, at func(Position)) error {
	l.gate.Lock()
	if l.unsynced {
		l.gate.Unlock()
		return errUnsynced
	}
	held := true
	release := func() {
		if held {
			held = false
			l.gate.Unlock()
		}
	}
	defer release()
	return write(func() {
		at(l.Standing())
		release()
	})
}

var errUnsynced = errors.New("the data are being replaced")

// knownTo is how far the history of a name is known here; -1: not at all.
func (l *Log) knownTo(replid string) (upTo int64, now Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.standingLocked()
	if now.Replid == replid {
		return l.effects, now
	}
	for _, f := range l.former {
		if f.Replid == replid {
			return f.UpTo, now
		}
	}
	return -1, now
}

// tail counts the effects after an offset: bytes, and commands as far as the
// backlog still has them (-1 if not).
func (l *Log) tailAfter(offset int64) (bytes, commands int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes = l.effects - offset; bytes <= 0 {
		return 0, 0
	}
	if l.head == nil || l.head.base > offset {
		return bytes, -1
	}
	var r chainReader
	for c := l.head; c != nil; c = c.next.Load() {
		if n := c.n.Load(); c.base+n > offset {
			r.pieces = append(r.pieces, c.buf[max(0, offset-c.base):min(n, l.effects-c.base)])
		}
		if c.base+c.n.Load() >= l.effects {
			break
		}
	}
	in := frame.NewReader(&r)
	var c frame.Command
	for in.ReadCommand(&c) == nil {
		switch strings.ToLower(string(c.Args[0])) {
		case "select", "multi", "exec", "ping", "replconf":
		default:
			commands++
		}
	}
	return bytes, commands
}

// rewind takes back what follows the last effect: it changes no data, and the
// primary that the copy goes on with may have something else there.
func (l *Log) rewind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hist.Load()
	to := l.effects
	if h.offset.Load() == to {
		return
	}
	for _, c := range l.cursors {
		c.cut(errRenamed)
	}
	var before *chunk
	c := l.head
	for c != nil && c.base+c.n.Load() <= to && c.next.Load() != nil {
		before, c = c, c.next.Load()
	}
	switch {
	case c == nil || c.base > to:
		l.head, l.tail = nil, nil
	default: // others may be reading from it, so it isn't changed
		cut := &chunk{base: c.base, buf: make([]byte, len(c.buf))}
		copy(cut.buf, c.buf[:to-c.base])
		cut.n.Store(to - c.base)
		if before == nil {
			l.head = cut
		} else {
			before.next.Store(cut)
		}
		l.tail = cut
	}
	h.offset.Store(to)
}
