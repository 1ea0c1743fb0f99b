package proxy

import (
	"strings"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// pause is CLIENT PAUSE: until it ends the node's sessions don't go on, or not with what may write.
type pause struct {
	until time.Time
	all   bool
	ended chan struct{} // closed by CLIENT UNPAUSE, or when a longer pause takes its place
}

func (p *pause) holds(req *command.Request, e *entry) bool {
	if strings.HasPrefix(req.Name, "client|") {
		return false // or nobody could end it
	}
	return p.all || e.is(traitExec) || e.is(traitScript) && !req.Is(command.FlagReadonly) ||
		req.Is(command.FlagWrite|command.FlagMayReplicate)
}

// clientPause is CLIENT PAUSE ms [WRITE|ALL].
func clientPause(s *session, w *work, args [][]byte) {
	if len(args) < 3 || len(args) > 4 {
		w.error("ERR syntax error")
		return
	}
	ms, ok := frame.ParseInt(args[2])
	switch {
	case !ok || ms > int64(time.Hour*24*365/time.Millisecond):
		w.error("ERR timeout is not an integer or out of range")
		return
	case ms < 0:
		w.error("ERR timeout is negative")
		return
	case len(args) == 4 && !command.EqualFold(args[3], "write") && !command.EqualFold(args[3], "all"):
		w.error("ERR CLIENT PAUSE mode must be WRITE or ALL")
		return
	}
	next := &pause{
		until: time.Now().Add(time.Duration(ms) * time.Millisecond),
		all:   len(args) == 3 || command.EqualFold(args[3], "all"), ended: make(chan struct{}),
	}
	for {
		old := s.g.paused.Load()
		if old != nil && time.Now().Before(old.until) { // the stricter of both, and the longer
			next.all = next.all || old.all
			if old.until.After(next.until) {
				next.until = old.until
			}
		}
		if s.g.paused.CompareAndSwap(old, next) {
			if old != nil {
				close(old.ended)
			}
			break
		}
	}
	w.ok()
}

func clientUnpause(s *session, w *work) {
	if p := s.g.paused.Swap(nil); p != nil {
		close(p.ended)
	}
	w.ok()
}

// heed waits while a pause holds the command. What the request aliases stays valid: nothing is read meanwhile.
func (s *session) heed(w *work, req *command.Request, e *entry) {
	for {
		p := s.g.paused.Load()
		if p == nil || req.Spec != nil && !p.holds(req, e) || s.ctx.Err() != nil || s.g.draining.Load() {
			return
		}
		left := time.Until(p.until)
		if left <= 0 {
			if s.g.paused.CompareAndSwap(p, nil) {
				close(p.ended)
			}
			return
		}
		s.commit(w)
		s.restUntil(left, p.ended)
	}
}

// waiting is how a session that waits in a store can be told not to.
type waiting struct {
	end func(asError bool)
}

// nothing says whether a command that waited took nothing.
func nothing(out []byte) bool { return len(out) == 0 || (frame.Reply{Raw: out}).IsNull() }

const unblockedText = "UNBLOCKED client unblocked via CLIENT UNBLOCK"

// unblocked appends the reply of a command that was told not to wait any more.
func unblocked(dst []byte, req *command.Request, asError bool, proto int) []byte {
	if asError {
		return frame.AppendError(dst, unblockedText)
	}
	switch req.Name {
	case "blmove", "brpoplpush":
		return frame.AppendNull(dst, proto)
	case "wait":
		return frame.AppendInt(dst, 0)
	case "waitaof":
		return frame.AppendInt(frame.AppendInt(frame.AppendArray(dst, 2), 0), 0)
	}
	return frame.AppendNullArray(dst, proto)
}

// clientUnblock is CLIENT UNBLOCK id [TIMEOUT|ERROR].
func clientUnblock(s *session, w *work, args [][]byte) {
	if len(args) != 3 && len(args) != 4 {
		w.error("ERR wrong number of arguments for 'client|unblock' command")
		return
	}
	asError := len(args) == 4 && command.EqualFold(args[3], "error")
	if len(args) == 4 && !asError && !command.EqualFold(args[3], "timeout") {
		w.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
		return
	}
	id, ok := frame.ParseInt(args[2])
	if !ok {
		w.error("ERR value is not an integer or out of range")
		return
	}
	n := int64(0)
	if o := s.g.session(id); o != nil {
		if b := o.waits.Swap(nil); b != nil {
			b.end(asError)
			n = 1
		}
	}
	w.out = frame.AppendInt(w.out, n)
}
