package embedded

import (
	"runtime"
	"runtime/metrics"
	"slices"
	"time"

	"respmesh/resp/command"
)

// begin notes that a script begins, at a tick that was read just before. One watch is for all scripts that follow each other: to
// set a timer for each would cost as much as a small script does.
func (s *scripts) begin(r *luaRuntime, p program, tick int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active, s.started, s.stop, s.heap, s.program = true, tick, r.stop, 0, p
	s.runs++
	if s.closing {
		r.stop.kill(errScriptClosed)
	}
	switch {
	case s.watched:
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(watchEvery, s.watch)
	default:
		s.timer.Reset(watchEvery)
	}
	s.watched = true
}

// end takes the lock back if the script had let go of it, and tells whether.
func (s *scripts) end(r *luaRuntime) bool {
	s.mu.Lock()
	s.active, s.stop = false, nil
	done := s.done
	s.done = nil
	s.mu.Unlock()
	if done == nil {
		return false
	}
	s.e.mu.Lock()
	s.e.busy = nil
	close(done)
	return true
}

func (s *scripts) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := s.runs == s.seen
	if same && !s.active {
		s.watched = false
		return
	}
	s.seen = s.runs
	s.timer.Reset(watchEvery)
	if !same || !s.active {
		return // whoever runs has just begun
	}
	if s.done == nil && s.patience > 0 && s.running() >= s.patience {
		s.done = make(chan struct{})
		s.e.busy = s.done
		s.e.mu.Unlock() // on behalf of the script, which holds it
	}
	s.watchMemory()
}

// running is for how long the script has run.
func (s *scripts) running() time.Duration { return time.Duration(s.e.clock.tick() - s.started) }

// watchMemory ends a script under which the process grows too much. What is garbage doesn't count, so before that
// the garbage is collected.
func (s *scripts) watchMemory() {
	metrics.Read(s.sample[:])
	now := s.sample[0].Value.Uint64()
	if s.heap == 0 {
		s.heap = now
	}
	limit := uint64(s.e.opts.ScriptMemory)
	if now < s.heap+limit {
		return
	}
	runtime.GC()
	metrics.Read(s.sample[:])
	if live := s.sample[1].Value.Uint64(); live >= s.heap+limit {
		s.stop.kill(errScriptMemory)
	}
}

func (s *scripts) limit() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.patience
}

func (s *scripts) setLimit(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patience = d
}

// kill is SCRIPT KILL or FUNCTION KILL; it needs no lock of the engine.
func (s *scripts) kill(function bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.active:
		return errNotBusy
	case s.conn.fromStream:
		return "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed."
	case s.wrote.Load():
		return errUnkillable
	case function != s.program.function:
		return s.program.busy()
	case function:
		s.stop.kill(errFunctionKilled)
	default:
		s.stop.kill(errKilled)
	}
	return ""
}

// busy is the error of a command that can't run during the program.
func (p *program) busy() string {
	if p.function {
		return errFunctionBusy
	}
	return errScriptBusy
}

func (s *scripts) busy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.program.busy()
}

// close ends the script under way and lets none begin.
func (s *scripts) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	if s.active {
		s.stop.kill(errScriptClosed)
	}
}

// lock takes the write lock for the engine's own work, when no script that has let go of it is under way.
func (e *Engine) lock() {
	e.mu.Lock()
	for e.busy != nil {
		done := e.busy
		e.mu.Unlock()
		<-done
		e.mu.Lock()
	}
}

func (e *Engine) rlock() {
	e.mu.RLock()
	for e.busy != nil {
		done := e.busy
		e.mu.RUnlock()
		<-done
		e.mu.RLock()
	}
}

// whileBusy answers commands while a script is under way that has let go of the lock: with BUSY but for the few that may
// run now. It stops, having waited for the script, at one of them that needs the data.
func (c *Conn) whileBusy(dst []byte, reqs []command.Request, done <-chan struct{}) ([]byte, int) {
	x := &c.x
	x.e, x.c, x.out, x.lapsed, x.now = c.e, c, dst, false, c.e.now()
	n := 0
	for i := range reqs {
		if !c.answerBusy(x, &reqs[i]) {
			<-done
			break
		}
		if n++; c.quit {
			break
		}
	}
	out := x.out
	x.out, x.args, x.raw, x.db = nil, nil, nil, nil
	return out, n
}

func (c *Conn) answerBusy(x *call, req *command.Request) bool {
	spec := req.Spec
	x.spec, x.args, x.raw, x.proto = spec, req.Args, req.Raw, c.proto
	x.dirty, x.rewritten = 0, false
	handle := handler(nil)
	if spec != nil {
		handle = c.e.handlers[spec.ID].handle
	}
	switch {
	case spec == nil || handle == nil && (len(x.args) > 1 || spec.ArityOK(len(x.args))):
		c.reject(x, command.UnknownError(x.args))
	case len(c.watches) > 0 && (spec.Name == "exec" || spec.Is(command.FlagAllowBusy)):
		return false
	case !spec.ArityOK(len(x.args)):
		c.reject(x, command.ArityError(spec))
	case spec.Name == "function|stats":
		c.e.scripts.stats(x)
	case spec.Name == "script|kill", spec.Name == "function|kill":
		if text := c.e.scripts.kill(spec.Name == "function|kill"); text != "" {
			x.err(text)
		} else {
			x.ok()
		}
	case slices.Contains([]string{"multi", "discard", "quit", "auth", "hello", "unwatch"}, spec.Name):
		handle(x)
	case spec.Is(command.FlagAllowBusy):
		return false
	default:
		c.reject(x, c.e.scripts.busy())
	}
	return true
}
