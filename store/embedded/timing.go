package embedded

import (
	"sync/atomic"
	"time"

	"respmesh/resp/command"
)

// Reading the clock costs a tenth of what a GET does. So commands that can't take long share a reading: their time together is
// divided among them. A command that can take long is timed by itself, and so is all while the slow log wants short durations.

const (
	// spanMost is how many commands share one reading of the clock at most.
	spanMost = 32
	// A command with more than smallRequest bytes, or whose reply has more than smallReply, isn't one that can't take long.
	smallRequest = 4 << 10
	smallReply   = 16 << 10
	// spanPatience is the shortest duration, in microseconds, that the slow log may ask for without every command being timed:
	// more than spanMost small commands take.
	spanPatience = 1000
	// wallEvery is how often the wall clock is looked at, in nanoseconds: so soon a change of it is seen.
	wallEvery = 50_000_000
)

// clockBase tells the time: monotonic nanoseconds, of which only differences matter, and what they are on the wall's clock.
type clockBase struct {
	start   time.Time
	wall    func() time.Time // not nil: asked each time
	offset  atomic.Int64     // unix nanoseconds at start, as the wall's clock has it now
	renewed atomic.Int64     // tick of when offset was last looked at
}

func (c *clockBase) init(wall func() time.Time) {
	c.start, c.wall = time.Now(), wall
	c.offset.Store(c.start.UnixNano())
}

// tick is a monotonic time in nanoseconds.
func (c *clockBase) tick() int64 { return int64(time.Since(c.start)) }

// unixMilli is the wall's clock at a tick that has just been read.
func (c *clockBase) unixMilli(tick int64) int64 {
	if c.wall != nil {
		return c.wall().UnixMilli()
	}
	if tick-c.renewed.Load() > wallEvery {
		now := time.Now()
		c.offset.Store(now.UnixNano() - int64(now.Sub(c.start)))
		c.renewed.Store(tick)
	}
	return (tick + c.offset.Load()) / int64(time.Millisecond)
}

// quick tells whether a command takes about as long as any other whatever the data: only its own size matters.
func quick(spec *command.Spec) bool {
	switch spec.Name {
	case "set", "setex", "psetex", "getset": // not fast for Redis, since they free what was there
		return true
	case "xadd": // trims
		return false
	}
	return spec.Is(command.FlagFast) && !spec.Is(command.FlagBlocking|command.FlagPubSub)
}

// trimless tells whether the command is an XADD without options.
func (x *call) trimless() bool {
	return x.spec.Name == "xadd" && len(x.args) > 2 && string(x.args[2]) == "*"
}

// tallySlots is how many different commands a batch may mix before it touches the shared counters more than once.
const tallySlots = 4

// tally collects the calls of a batch, so that each command in it touches the shared counters once.
type tally struct {
	slots [tallySlots]tallySlot
	used  int

	open int64 // calls since the clock was read, which share the time since then
	spec *command.Spec
	args [][]byte // of the last of them
}

type tallySlot struct {
	spec                       *command.Spec
	calls, open, nanos, failed int64
}

// slot is where a command's calls are collected.
func (x *call) slot(spec *command.Spec) *tallySlot {
	t := &x.tally
	for i := range t.used {
		if t.slots[i].spec == spec {
			return &t.slots[i]
		}
	}
	if t.used == tallySlots {
		x.settle()
		x.flushTally()
	}
	s := &t.slots[t.used]
	t.used++
	*s = tallySlot{spec: spec}
	return s
}

// startClock reads the clock for a batch.
func (x *call) startClock() {
	x.tick = x.e.clock.tick()
	x.now = x.e.clock.unixMilli(x.tick)
	x.roomy = false
}

// timedAlone tells, before a command runs, whether it is timed by itself. If so, what was before it is settled.
func (x *call) timedAlone() bool {
	if quick := x.e.handlers[x.spec.ID].quick || x.trimless(); quick && !x.multi && !x.retry && len(x.raw) <= smallRequest && !x.e.slow.exact.Load() {
		return false
	}
	x.settle()
	x.roomy = false
	return true
}

// count counts a command that has run: one that was timed alone, since a tick, or one whose reply begins at from.
func (x *call) count(spec *command.Spec, args [][]byte, alone, failed bool, since int64, from int) {
	s := x.slot(spec)
	s.calls++
	if failed {
		s.failed++
	}
	if alone {
		x.tick = x.e.clock.tick()
		s.took(x.e, x.tick-since, 1)
		x.noteSlow(spec, args, x.tick-since)
		return
	}
	s.open++
	t := &x.tally
	t.open++
	t.spec, t.args = spec, args
	if len(x.out)-from > smallReply {
		x.settle()
	}
}

// settle reads the clock and divides the time since the last reading among the calls that share it. When they took long, the
// last one stands for them: it has a large reply, or something else held them up, for by themselves they are quick.
func (x *call) settle() {
	t := &x.tally
	if t.open == 0 {
		return
	}
	tick := x.e.clock.tick()
	nanos := tick - x.tick
	x.tick = tick
	each := nanos / t.open
	for i := range t.used {
		if s := &t.slots[i]; s.open > 0 {
			s.took(x.e, each, s.open)
			s.open = 0
		}
	}
	x.noteSlow(t.spec, t.args, nanos-each*(t.open-1))
	t.open, t.args = 0, nil
}

// took adds the time of n calls.
func (s *tallySlot) took(e *Engine, each, n int64) {
	s.nanos += each * n
	if e.untracked.Load() {
		return
	}
	c := &e.commands[s.spec.ID]
	h := c.latency.Load()
	if h == nil {
		c.latency.CompareAndSwap(nil, &histogram{})
		h = c.latency.Load()
	}
	h.add(each, uint32(n))
}

// noteSlow tells the slow log and the latency monitor of a command, if it took long enough for them.
func (x *call) noteSlow(spec *command.Spec, args [][]byte, nanos int64) {
	e := x.e
	if limit := e.slow.threshold.Load(); limit >= 0 && nanos >= limit*1000 && !spec.Is(command.FlagSkipSlowlog) {
		e.slow.add(x, spec, args, nanos)
	}
	if e.latency.threshold > 0 && nanos >= e.latency.threshold*int64(time.Millisecond) {
		event := "command"
		if spec.Is(command.FlagFast) {
			event = "fast-command"
		}
		e.latency.add(event, x.now/1000, nanos/int64(time.Millisecond))
	}
}

// flushTally adds what was collected to the shared counters. All of it has been settled.
func (x *call) flushTally() {
	t := &x.tally
	for i := range t.used {
		s := &t.slots[i]
		c := &x.e.commands[s.spec.ID]
		c.calls.Add(s.calls)
		c.nanos.Add(s.nanos)
		if s.failed > 0 {
			c.failed.Add(s.failed)
		}
	}
	t.used = 0
}
