package psync

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/frame"
)

// link is a replica's one connection to its primary, from handshake to end.
type link struct {
	r      *Replica
	conn   net.Conn
	in     *frame.Reader
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the acker

	// Of the reading goroutine:
	goOn   bool  // PSYNC asks to continue
	online bool  // the stream was reached
	marked bool  // the snapshot had a mark instead of a length
	known  int64 // how far the primary knows the history that is here; -1: not at all, or it didn't say
	term   int64 // of the primary; 0: it didn't say
	goal   int64 // how far the primary was when it said so
	behind bool  // than that
	unsafe bool  // nothing is acknowledged, since it couldn't be kept; fixed once the handshake is over

	loading atomic.Bool // the acker sends signs of life instead of offsets
	eager   atomic.Bool // the acker repeats itself until the stream starts
	asked   chan struct{}
	applied chan struct{}
}

func newLink(r *Replica, conn net.Conn, cancel context.CancelCauseFunc) *link {
	l := &link{
		r: r, conn: conn, cancel: cancel, known: -1,
		asked: make(chan struct{}, 1), applied: make(chan struct{}, 1),
	}
	l.in = frame.NewReader(l)
	return l
}

// Read reads from the connection, as long as the primary shows life.
func (l *link) Read(p []byte) (int, error) {
	if err := l.conn.SetReadDeadline(time.Now().Add(l.r.opt.Timeout)); err != nil {
		return 0, err
	}
	n, err := l.conn.Read(p)
	if n > 0 {
		l.r.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (l *link) run(ctx context.Context) error {
	if err := l.introduce(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	full, replid, offset, err := l.psync()
	if err != nil {
		return fmt.Errorf("psync: %w", err)
	}
	log := l.r.opt.Log
	if full {
		l.countTail()
		l.loading.Store(true)
		l.r.got.Store(0)
		l.r.enter(Syncing, nil, 0)
		l.wg.Go(func() { l.acker(ctx) })
		if err := l.fullSync(replid, offset); err != nil {
			return fmt.Errorf("full resynchronisation: %w", err)
		}
		l.eager.Store(l.marked)
		l.loading.Store(false)
		l.r.full.Add(1)
	} else {
		l.r.partial.Add(1)
		log.rewind() // to what was asked for
		if now, _ := log.Position(); replid == "" {
			replid = now
		}
		at := log.Standing()
		term := at.Term
		if l.behind = at.Offset < l.goal; !l.behind && !l.unsafe {
			term = l.term
		}
		log.shift(replid, term)
		l.wg.Go(func() { l.acker(ctx) })
	}
	l.online = true
	l.r.enter(Online, nil, 0)
	signal(l.asked) // the first ACK makes a server start the stream
	return l.stream()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *link) write(p []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.r.opt.Timeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(p)
	return err
}

// introduce sends what comes before PSYNC in one go. PSYNC itself is only part of
// it on request: servers refuse it while they have replies to write.
func (l *link) introduce() error {
	o := &l.r.opt
	var out []byte
	steps := []string{"PING"}
	if o.Password != "" {
		steps = []string{"AUTH", "PING"}
		if o.User != "" {
			out = frame.AppendCommandString(out, "AUTH", o.User, o.Password)
		} else {
			out = frame.AppendCommandString(out, "AUTH", o.Password)
		}
	}
	out = frame.AppendCommandString(out, "PING")
	if o.ListeningPort != 0 {
		out = frame.AppendCommandString(out, "REPLCONF", "listening-port", strconv.Itoa(o.ListeningPort))
		steps = append(steps, "REPLCONF")
	}
	out = frame.AppendCommandString(out, "REPLCONF", "capa", "eof", "capa", "psync2")
	steps = append(steps, "REPLCONF")
	if o.Pipeline { // that is, with a Primary of this package
		at := o.Log.Standing()
		l.unsafe = l.safe() != nil // what a primary is asked to go on after counts as acknowledged
		if !l.unsafe {
			out = frame.AppendCommandString(out, "REPLCONF", historyOption, at.Replid)
			steps = append(steps, historyOption)
		}
		out = l.appendPsync(out, at)
	}
	if err := l.write(out); err != nil {
		return err
	}
	for _, step := range steps {
		line, err := l.line()
		if err != nil {
			return err
		}
		// An old server may not know a REPLCONF option; the rest must succeed.
		if step == historyOption {
			l.takeHistory(line)
			continue
		}
		if line[0] == '-' && step != "REPLCONF" {
			return fmt.Errorf("primary refuses %s: %s", step, line[1:])
		}
		if line[0] != '-' && line[0] != '+' {
			return fmt.Errorf("primary answers %s with %.40q", step, line)
		}
	}
	return nil
}

// line reads the next line that isn't empty: empty ones are signs of life.
func (l *link) line() (string, error) {
	for {
		b, err := l.in.ReadLine()
		if err != nil {
			return "", err
		}
		if len(b) > 0 {
			return string(b), nil
		}
	}
}

// safe makes what was applied as safe as an acknowledgement means.
func (l *link) safe() error {
	if l.r.opt.BeforeAck == nil {
		return nil
	}
	return l.r.opt.BeforeAck()
}

// appendPsync appends the PSYNC for what is here.
func (l *link) appendPsync(out []byte, at Position) []byte {
	have, applied := at.Replid, at.Offset
	if l.goOn = l.r.opt.Log.Synced(); !l.goOn {
		return frame.AppendCommandString(out, "PSYNC", "?", "-1")
	}
	return frame.AppendCommandString(out, "PSYNC", have, strconv.FormatInt(applied+1, 10))
}

// psync asks for the stream. With full, a snapshot of the position comes first;
// else replid is the history's name if the primary tells it.
func (l *link) psync() (full bool, replid string, offset int64, err error) {
	if !l.r.opt.Pipeline {
		at := l.r.opt.Log.Standing()
		_ = l.safe() // a server has nobody to choose instead
		if err := l.write(l.appendPsync(nil, at)); err != nil {
			return false, "", 0, err
		}
	}
	line, err := l.line()
	if err != nil {
		return false, "", 0, err
	}
	words := strings.Fields(line)
	switch {
	case line[0] == '-':
		return false, "", 0, fmt.Errorf("primary answers: %s", line[1:])
	case len(words) == 3 && words[0] == "+FULLRESYNC" && len(words[1]) == 40:
		offset, ok := frame.ParseInt([]byte(words[2]))
		if ok && offset >= 0 {
			return true, words[1], offset, nil
		}
	case l.goOn && len(words) == 1 && words[0] == "+CONTINUE":
		return false, "", 0, nil
	case l.goOn && len(words) == 2 && words[0] == "+CONTINUE" && len(words[1]) == 40:
		return false, words[1], 0, nil
	}
	return false, "", 0, fmt.Errorf("primary answers PSYNC with %.80q", line)
}

// eagerAck is how soon the ACK after a marked snapshot is repeated at first. The
// stream starts with the first ACK, but only one that comes after the server has
// seen its own child process end: an earlier one goes unnoticed.
const eagerAck = 5 * time.Millisecond

// acker is the goroutine that writes, once the handshake is over: offsets each
// second, when asked and shortly after batches; while loading, signs of life.
func (l *link) acker(ctx context.Context) {
	o := &l.r.opt
	tick := time.NewTicker(o.AckEvery)
	defer tick.Stop()
	soon := time.NewTimer(time.Hour)
	soon.Stop()
	defer soon.Stop()
	armed, told, again := false, int64(-1), eagerAck
	for {
		must := true
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.asked:
		case <-l.applied:
			if o.AckDelay >= 0 && !armed {
				soon.Reset(o.AckDelay)
				armed = true
			}
			continue
		case <-soon.C:
			armed, must = false, l.eager.Load()
		}
		if l.eager.Load() && !armed {
			soon.Reset(again)
			armed = true
			again *= 2
		}
		out := []byte{'\n'}
		if !l.loading.Load() {
			_, offset := o.Log.Position()
			if offset == told && !must {
				continue
			}
			told = offset
			err := l.safe()
			switch unsafe := err != nil && o.Pipeline; {
			case unsafe && !l.unsafe:
				l.cancel(fmt.Errorf("%w: %w", errUnsafe, err))
				return
			case !unsafe && l.unsafe:
				l.cancel(errSafe)
				return
			case !unsafe:
				out = frame.AppendCommandString(nil, "REPLCONF", "ACK", strconv.FormatInt(offset, 10))
			}
		}
		if err := l.write(out); err != nil {
			l.cancel(fmt.Errorf("acknowledge: %w", err))
			return
		}
	}
}
