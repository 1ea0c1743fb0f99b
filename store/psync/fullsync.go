package psync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"respmesh/resp/frame"
	"respmesh/store/rdb"
)

// maxFailed is how many snapshots in a row may come whole and yet not load,
// before that is held to be the snapshot's fault and not the transfer's.
const maxFailed = 3

// fullSync takes the snapshot, which is of the given position.
func (l *link) fullSync(replid string, offset int64) error {
	p, err := l.payload()
	if err != nil {
		return err
	}
	l.r.enter(Syncing, nil, max(p.left, 0))
	log := l.r.opt.Log
	log.gate.Lock()
	before := log.unsynced
	log.unsynced = true
	log.gate.Unlock()
	err = l.load(p)
	log.gate.Lock()
	defer log.gate.Unlock()
	if err != nil {
		log.unsynced = before
		return err
	}
	log.mu.Lock()
	log.resetLocked(replid, offset, l.term)
	log.mu.Unlock()
	log.unsynced = false
	l.r.failed = 0
	return nil
}

// load hands the snapshot to the target and says whose fault it is if that fails.
func (l *link) load(p *payload) error {
	err := l.r.opt.Target.Restore(p)
	switch {
	case err == nil:
		_, err = io.Copy(io.Discard, p) // an RDB ends before its framing does
		return err
	case p.err != nil && p.err != io.EOF:
		return p.err // the link's
	case errors.Is(err, rdb.ErrUnsupported):
		return fmt.Errorf("%w: load snapshot: %w", ErrBroken, err)
	}
	l.r.failed++
	if l.r.failed >= maxFailed {
		return fmt.Errorf("%w: load snapshot (%d times): %w", ErrBroken, l.r.failed, err)
	}
	return fmt.Errorf("load snapshot: %w", err)
}

// payload is the snapshot on the wire, in either framing: $<length>, or
// $EOF:<mark> with the mark again at the end.
type payload struct {
	l    *link
	left int64  // bytes to come; -1 with a mark
	mark []byte // 40 bytes, nil with a length
	err  error  // what ended it: io.EOF when it came whole
}

const markLen = 40

func (l *link) payload() (*payload, error) {
	line, err := l.line()
	if err != nil {
		return nil, err
	}
	if line[0] == '-' {
		return nil, fmt.Errorf("primary aborts: %s", line[1:])
	}
	if mark, ok := strings.CutPrefix(line, "$EOF:"); ok && len(mark) == markLen {
		l.marked = true
		return &payload{l: l, left: -1, mark: []byte(mark)}, nil
	}
	if digits, ok := strings.CutPrefix(line, "$"); ok {
		if n, ok := frame.ParseInt([]byte(digits)); ok && n >= 0 {
			return &payload{l: l, left: n}, nil
		}
	}
	return nil, fmt.Errorf("primary announces its snapshot with %.80q", line)
}

// Read gives the snapshot's bytes and no more.
func (p *payload) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if len(b) == 0 {
		return 0, nil
	}
	var n int
	if p.mark != nil {
		n, p.err = p.readToMark(b)
	} else {
		n, p.err = p.readCounted(b)
	}
	p.l.r.got.Add(int64(n))
	if n > 0 && p.err == io.EOF {
		return n, nil // the next Read says so
	}
	return n, p.err
}

func (p *payload) readCounted(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.l.in.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	return n, cutShort(err)
}

// readToMark gives what can't be the mark, or a part of it.
func (p *payload) readToMark(b []byte) (int, error) {
	for {
		have := p.l.in.Buffered()
		safe, end := max(len(have)-markLen+1, 0), false
		if i := bytes.Index(have, p.mark); i >= 0 {
			safe, end = i, true
		}
		if safe > 0 {
			return p.l.in.Read(b[:min(len(b), safe)])
		}
		if end {
			var mark [markLen]byte
			_, err := io.ReadFull(p.l.in, mark[:])
			return 0, cmpErr(err, io.EOF)
		}
		if err := p.l.in.Fill(); err != nil {
			return 0, cutShort(err)
		}
	}
}

// cutShort: the connection's end is not the snapshot's.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
