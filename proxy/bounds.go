package proxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// BoundedConn is a StoreConn that can stop a batch when its replies have become long. Without it a batch of a few reads
// of huge values is in memory at once.
type BoundedConn interface {
	StoreConn
	// DoWithin is Do that stops after the command by which the replies have become longer than limit, and says how many it
	// has executed.
	DoWithin(ctx context.Context, dst []byte, reqs []command.Request, limit int) (out []byte, done int)
}

// Usage counts the commands of the database that are charged for.
type Usage interface {
	// Charge adds n commands and returns how many there were today, as far as this node knows. It is called for each
	// command and must be cheap.
	Charge(n int) (today int64)
	// Own is the day and what this node has charged on it, and Others tells what all other nodes have. The primary's
	// LinkServer adds them up: see [LinkOptions].Charged.
	Own() (day string, n int64)
	Others(day string, n int64)
}

// limited says whether a command has to be looked at by within.
func (s *Settings) limited() bool { return s.MaxValue > 0 || s.CommandsPerSecond > 0 }

// within applies the database's limits to a command; false: it was answered. A rate above the limit delays.
func (s *session) within(w *work, req *command.Request, e *entry, set *Settings) bool {
	if u := s.g.opt.Usage; u != nil && !e.is(traitFree) {
		if n := u.Charge(1); set.DailyCommands > 0 && n > set.DailyCommands {
			s.g.meters.overQuota.Inc()
			s.refuse(w, fmt.Sprintf("ERR max daily request limit exceeded. Limit: %d, Usage: %d.", set.DailyCommands, n))
			return false
		}
	}
	if set.MaxValue > 0 {
		for _, a := range req.Args[1:] {
			if len(a) > set.MaxValue {
				s.refuse(w, fmt.Sprintf("ERR max value size exceeded. Limit: %d bytes, Actual: %d bytes", set.MaxValue, len(a)))
				return false
			}
		}
	}
	if set.CommandsPerSecond > 0 {
		if d := s.g.rate.take(time.Now(), set.CommandsPerSecond); d > 0 {
			s.g.meters.throttled.Inc()
			s.commit(w)
			s.rest(d)
		}
	}
	return true
}

// smallRequest is how long a request may be however many others there are.
const smallRequest = 256 << 10

// countRequest keeps the sum of what the requests of all sessions take.
func (s *session) countRequest(size int) (all int64) {
	if size <= smallRequest {
		size = 0
	}
	if size == s.reading {
		return 0
	}
	all = s.g.requests.Add(int64(size - s.reading))
	s.reading = size
	return all
}

// fits closes the session when all requests of the database together take too much for the one that it is about to send.
func (s *session) fits() bool {
	before := s.reading
	if all := s.countRequest(s.r.Size()); all <= int64(s.g.opt.MemoryLimit) || s.reading < before {
		return true
	}
	s.g.meters.cutMemory.Inc()
	s.out.deliver(frame.AppendError(nil, "ERR too many long requests at once: try again"))
	return false
}

// tooLong answers a request that was read past.
func (s *session) tooLong(w *work, size int) {
	s.refuse(w, fmt.Sprintf("ERR max request size exceeded. Limit: %d bytes, Actual: %d bytes", s.maxRequest, size))
}

// refuse answers a command with an error of the gateway's; a transaction is lost by that.
func (s *session) refuse(w *work, text string) {
	s.reply(w, frame.AppendError(s.begin(w), text))
	s.tx.spoil()
	if s.tx.open && s.tx.here {
		s.abortHere()
	}
}

// applyLimits tells the reader what the session may send.
func (s *session) applyLimits() {
	if s.user == nil {
		s.r.SetLimits(frame.PreAuthLimits)
		return
	}
	limits := s.g.opt.Limits
	limits.Request = s.maxRequest
	s.r.SetLimits(limits)
}

// rate lets so many commands through per second, and a tenth of a second's at once. It is the time at which the next one
// would be due if they came evenly.
type rate struct{ next atomic.Int64 }

// take says how long the command has to wait.
func (r *rate) take(now time.Time, perSecond int) time.Duration {
	step := int64(time.Second) / int64(perSecond)
	burst := max(int64(time.Second)/10, step)
	for {
		t, next := now.UnixNano(), r.next.Load()
		due := max(t, next)
		if r.next.CompareAndSwap(next, due+step) {
			return time.Duration(max(0, due-t-burst+step))
		}
	}
}

// slots bound how many sessions of the database work at the same time.
type slots struct {
	mu   sync.Mutex
	free sync.Cond
	used int
}

// take waits for a slot, and calls yield before it does; false: ctx ended.
func (p *slots) take(ctx context.Context, limit int, yield func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used >= limit {
		yield()
		stop := context.AfterFunc(ctx, func() { p.mu.Lock(); p.free.Broadcast(); p.mu.Unlock() })
		defer stop()
		for p.used >= limit && ctx.Err() == nil {
			p.free.Wait()
		}
	}
	if ctx.Err() != nil {
		return false
	}
	p.used++
	return true
}

func (p *slots) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	p.free.Signal()
}

// takeSlot is called when the session begins to work.
func (s *session) takeSlot() {
	if n := s.g.view.Load().settings.Concurrency; n > 0 {
		s.slot = s.g.slots.take(s.ctx, n, s.turn.yield)
	}
	s.turn.take(s.ctx)
}

func (s *session) giveSlot() {
	s.turn.give()
	if s.slot {
		s.slot = false
		s.g.slots.give()
	}
}

// away gives the slot and the turn back while the session waits for something else than the processor, and has others served.
func (s *session) away() (back func()) {
	s.polled.Yield()
	if !s.slot && s.turn.kind == turnNone {
		return func() {}
	}
	s.giveSlot()
	return s.takeSlot
}

// cede lets others go first. Nothing may be collected.
func (s *session) cede() {
	s.kick()
	s.using.Unlock()
	defer s.using.Lock()
	s.giveSlot()
	s.takeSlot()
}

// pace has the session stop when its client leaves too much untaken, until it takes some. One that takes nothing for
// too long is cut.
func (s *session) pace() {
	limit := s.g.opt.OutputLimit / 2
	if s.g.memory.Load() > int64(s.g.opt.MemoryLimit) {
		limit = keepBuffer // all have to save
	}
	if s.out.untaken() <= limit {
		return
	}
	s.kick()
	defer s.away()()
	if !s.out.below(limit, s.g.opt.SlowTimeout) {
		s.leave = true
	}
}

// below waits until the client has left less than limit untaken. False: it is gone, or was cut since it took nothing for too long.
func (o *output) below(limit int, patience time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.sizeLocked() > limit && !o.closed {
		before := o.written
		t := time.AfterFunc(patience, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.written == before {
				o.cutLocked(cutSlow)
			}
		})
		for o.sizeLocked() > limit && !o.closed && o.written == before {
			o.waitLocked()
		}
		t.Stop()
	}
	return !o.closed
}

func (o *output) sizeLocked() int { return len(o.buf) + o.handed + o.behind }

// countLocked keeps the gateway's sum of all outputs, to a few KiB.
func (o *output) countLocked() {
	const coarse = 4 << 10
	if o.sum == nil {
		return
	}
	size := o.sizeLocked()
	if o.closed {
		size = 0
	}
	if d := size - o.counted; d >= coarse || d <= -coarse || size == 0 && d != 0 {
		o.sum.Add(int64(d))
		o.counted = size
	}
}

// police ends sessions that have been idle for too long, and when outputs have been beyond the limit for a while the one that
// takes most. Every is how often it is called.
func (g *Gateway) police(now time.Time, set *Settings, every time.Duration) {
	if g.memory.Load() > int64(g.opt.MemoryLimit) {
		if g.pressed += every; g.pressed > g.opt.SlowTimeout {
			g.pressed = 0
			if all := g.snapshot(); len(all) > 0 {
				slices.MaxFunc(all, func(a, b *session) int { return a.out.untaken() - b.out.untaken() }).kill(cutSlow)
			}
		}
	} else {
		g.pressed = 0
	}
	if set.IdleTimeout <= 0 || now.Sub(g.policed) < min(time.Second, set.IdleTimeout/4) {
		return
	}
	g.policed = now
	g.mu.Lock()
	var idle []*session
	for _, s := range g.sessions {
		_, watches := g.monitors[s]
		if now.Sub(time.Unix(0, s.lastActive.Load())) > set.IdleTimeout && s.listens.Load() == 0 && s.waits.Load() == nil && !watches {
			idle = append(idle, s)
		}
	}
	g.mu.Unlock()
	for _, s := range idle {
		if all, _ := s.out.inFlight(); all == 0 {
			s.kill(cutIdle)
		}
	}
}
