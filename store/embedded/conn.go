package embedded

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// ConnOptions for NewConn.
type ConnOptions struct {
	ID    int64  // CLIENT ID; 0: the engine gives one
	Addr  string // the client's host:port, for CLIENT LIST
	Proto int    // 2 (default) or 3; HELLO changes it
	// Push takes frames that no command asked for now: messages of subscriptions. It must not block or keep the
	// slice. It may be called while Do runs, also before Do has returned the reply of the SUBSCRIBE: who writes to the
	// client holds such frames back until Do's replies are written. nil: the session can't subscribe.
	Push func([]byte)
	// Kill is called when somebody ends this session by CLIENT KILL. It must not block: who owns the client's connection
	// closes it soon after. Commands aren't executed any more then.
	Kill func()
}

// Conn is a client's session: what redis-server keeps per connection. One goroutine at a time may use it.
type Conn struct {
	e    *Engine
	id   int64
	addr string
	push func([]byte)

	// Written under the engine's lock in any mode, by the session itself; read by others under the write lock.
	name    string
	proto   int
	db      int
	since   int64 // unix ms
	active  int64
	last    *command.Spec
	quit    bool
	noEvict bool
	monitor bool
	track   *trackState

	multi      bool
	abort      bool // a command couldn't be queued: EXEC will fail
	queue      []queued
	queueFlags command.Flags

	watches []*watch
	dirty   bool    // a watched key was changed; under the write lock
	waiting *waiter // under the write lock

	subs subscriptions

	killed atomic.Bool // by another session
	gone   chan struct{}
	onKill func()

	limit int // of the replies of one DoWithin

	fromStream bool // the primary's replication stream
	x          call
}

// queued is a command between MULTI and EXEC, with its own copy of the arguments.
type queued struct {
	spec *command.Spec
	args [][]byte
	raw  []byte
}

// NewConn opens a session.
func (e *Engine) NewConn(o ConnOptions) *Conn {
	if o.ID == 0 {
		o.ID = e.nextID.Add(1)
	}
	if o.Proto != 3 {
		o.Proto = 2
	}
	now := e.now()
	c := &Conn{e: e, id: o.ID, addr: o.Addr, proto: o.Proto, push: o.Push, onKill: o.Kill, gone: make(chan struct{}), since: now, active: now}
	e.connsMu.Lock()
	e.conns[c.id] = c
	e.connsMu.Unlock()
	e.stats.conns.Add(1)
	e.stats.connected.Add(1)
	return c
}

// Close ends the session: its watches and subscriptions. No Do may be under way.
func (c *Conn) Close() error {
	c.e.connsMu.Lock()
	open := c.e.conns[c.id] == c
	if open {
		delete(c.e.conns, c.id)
	}
	c.e.connsMu.Unlock()
	if !open {
		return nil
	}
	c.e.stats.conns.Add(-1)
	c.e.lock()
	defer c.e.unlock()
	c.reset()
	return nil
}

// Quit tells whether the client has said QUIT: what it sent after that isn't executed.
func (c *Conn) Quit() bool { return c.quit }

// Do executes the commands in order and appends their replies, one each, to dst. It takes the engine's lock once, unless
// a command blocks: then it waits, without the lock, for a key, the command's time-out or ctx. When ctx ends,
// a blocked command takes nothing, and neither it nor what follows is answered; the same after QUIT.
func (c *Conn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	dst, _ = c.DoWithin(ctx, dst, reqs, math.MaxInt)
	return dst
}

// DoWithin is Do that stops after the command by which the replies have become longer than limit, and tells how many
// commands it has executed.
func (c *Conn) DoWithin(ctx context.Context, dst []byte, reqs []command.Request, limit int) (out []byte, done int) {
	c.limit = limit
	from := len(dst)
	for len(reqs) > 0 && !c.quit && !c.killed.Load() && len(dst)-from <= limit {
		now := reqs
		if c.e.paused.Load() {
			n, over := c.postponed(reqs)
			if n == 0 {
				if !c.await(ctx, over) {
					break
				}
				continue
			}
			now = reqs[:n]
		}
		var n int
		var w *waiter
		if c.shared(now) {
			dst, n = c.doShared(dst, now)
		} else {
			dst, n, w = c.doExclusive(dst, now)
		}
		reqs = reqs[n:]
		done += n
		if w != nil {
			var alive bool
			if dst, alive = c.wait(ctx, w, dst); !alive {
				break
			}
		}
	}
	return dst, done
}

// await waits for a channel to close and tells whether the session goes on.
func (c *Conn) await(ctx context.Context, over <-chan struct{}) (alive bool) {
	select {
	case <-over:
		return true
	case <-ctx.Done():
	case <-c.e.closed:
	case <-c.gone:
	}
	return false
}

// shared tells whether all commands get by with the read lock.
func (c *Conn) shared(reqs []command.Request) bool {
	if c.e.alone.Load() > 0 {
		return false
	}
	for i := range reqs {
		if s := reqs[i].Spec; s != nil && !c.e.handlers[s.ID].shared {
			return false
		}
	}
	return true
}

// enter takes the engine's lock for a session. A snapshot that is under way lets those go first who wait for it.
func (e *Engine) enter(lock sync.Locker) {
	if e.walks.Load() == 0 {
		lock.Lock()
		return
	}
	e.waits.Add(1)
	lock.Lock()
	e.waits.Add(-1)
}

func (c *Conn) doShared(dst []byte, reqs []command.Request) ([]byte, int) {
	e := c.e
	e.enter(e.mu.RLocker())
	if done := e.busy; done != nil {
		e.mu.RUnlock()
		return c.whileBusy(dst, reqs, done)
	}
	dst, n, _ := c.run(dst, reqs)
	lapsed := c.x.lapsed && !e.replica
	e.mu.RUnlock()
	if lapsed {
		// What the commands found expired goes now: DBSIZE and replicas shall know.
		e.lock()
		e.expireDue(e.now(), expireSlice)
		e.unlock()
	}
	return dst, n
}

func (c *Conn) doExclusive(dst []byte, reqs []command.Request) ([]byte, int, *waiter) {
	e := c.e
	e.enter(&e.mu)
	if done := e.busy; done != nil {
		e.mu.Unlock()
		dst, n := c.whileBusy(dst, reqs, done)
		return dst, n, nil
	}
	defer e.unlock()
	e.current = c
	dst, n, w := c.run(dst, reqs)
	e.current = nil
	if c.x.lapsed && !e.replica {
		e.expireDue(c.x.now, expireSlice)
	}
	return dst, n, w
}

// run executes commands under the lock until they end or one blocks, and tells how many that were.
func (c *Conn) run(dst []byte, reqs []command.Request) (out []byte, n int, w *waiter) {
	e, x := c.e, &c.x
	x.e, x.c, x.out, x.lapsed, x.fromStream = e, c, dst, false, c.fromStream
	x.startClock()
	var ahead hashes
	known := 0 // the hashes are of commands below this one
	for i := range reqs {
		if i > 0 && i%spanMost == 0 {
			x.settle()
			x.startClock()
		}
		if i == known && i+1 < len(reqs) {
			known = min(i+spanMost, len(reqs))
			x.ahead(reqs[i:known], &ahead)
		}
		n++
		x.begin(reqs[i].Spec, reqs[i].Args, reqs[i].Raw)
		if i < known {
			x.hashed, x.hash = x.firstKey(&reqs[i]), ahead[i%spanMost]
		}
		c.process(x)
		if e.effects.n > 0 {
			e.effects.end()
		}
		if len(e.ready) > 0 {
			x.settle() // who waited is timed too
			e.serveReady(x.now)
		}
		if len(e.own) > 0 {
			x.out = append(x.out, e.own...)
			e.own = e.own[:0]
		}
		if c.track != nil && c.track.caching && (x.spec == nil || x.spec.Name != "client|caching") && !c.multi {
			c.track.caching = false
		}
		if x.blocked != nil || c.quit || len(x.out)-len(dst) > c.limit {
			break
		}
	}
	x.settle()
	e.stats.commands.Add(int64(n))
	e.count(x)
	c.active = x.now
	out, w = x.out, x.blocked
	x.out, x.args, x.raw, x.hashed, x.db, x.blocked = nil, nil, nil, nil, nil, nil // what an idle session would keep alive
	return out, n, w
}

// begin prepares the call for a command.
func (x *call) begin(spec *command.Spec, args [][]byte, raw []byte) {
	x.spec, x.args, x.raw, x.hashed = spec, args, raw, nil
	x.dirty, x.rewritten = 0, false
	x.proto, x.dbIndex, x.db = x.c.proto, x.c.db, x.e.dbs[x.c.db]
}

// process is what redis-server does between having read a command and calling its function, in the same order.
func (c *Conn) process(x *call) {
	spec := x.spec
	if spec == nil {
		c.reject(x, command.UnknownError(x.args))
		return
	}
	c.last = spec
	switch {
	case c.e.handlers[spec.ID].handle == nil && spec.ArityOK(len(x.args)), (c.e.handlers[spec.ID].handle == nil || spec.IsContainer()) && len(x.args) > 1:
		x.spec = nil // nothing to count it by
		c.reject(x, command.UnknownError(x.args))
	case !spec.ArityOK(len(x.args)):
		c.reject(x, command.ArityError(spec))
	case c.multi && spec.Is(command.FlagNoMulti):
		c.reject(x, "ERR Command not allowed inside a transaction")
	case c.e.limit.max > 0 && !c.fromStream && c.refusedOOM(x):
		c.reject(x, errOOM)
	case c.refusedByLog(x):
	case c.refusedByOwner(x):
	case c.e.replica && !c.fromStream && c.writes(spec):
		c.reject(x, "READONLY You can't write against a read only replica.")
	case c.subs.count() > 0 && x.proto == 2 && !allowedSubscribed(spec):
		c.reject(x, "ERR Can't execute '"+spec.Name+"': only (P|S)SUBSCRIBE / "+
			"(P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	case c.multi && !immediate(spec):
		c.enqueue(spec, x.args, x.raw)
		x.simple("QUEUED")
	default:
		c.e.invoke(x)
	}
}

// reject refuses a command before it runs; a transaction is lost by that.
func (c *Conn) reject(x *call, text string) {
	if x.spec != nil {
		x.e.commands[x.spec.ID].rejected.Add(1)
	}
	if x.spec != nil && x.spec.Name == "exec" {
		c.discard()
		x.e.unwatch(c)
		x.errf("EXECABORT Transaction discarded because of: %s", text[indexCode(text):])
		return
	}
	c.abort = c.multi
	x.errf("%s", text)
}

// indexCode is where the text begins after "ERR ": EXECABORT leaves only that code out.
func indexCode(text string) int {
	if len(text) > 4 && text[:4] == "ERR " {
		return 4
	}
	return 0
}

// writes tells whether a command, or the transaction it executes, writes.
func (c *Conn) writes(spec *command.Spec) bool {
	return spec.Is(command.FlagWrite) || c.multi && spec.Name == "exec" && c.queueFlags&command.FlagWrite != 0
}

// refusedOOM tells whether there is no memory for a command. What all data take isn't added up again for commands that share
// the reading of the clock: where there is room for all of them, there is for each.
func (c *Conn) refusedOOM(x *call) bool {
	spec, size := x.spec, len(x.raw)
	deny := spec.Is(command.FlagDenyOOM)
	if !deny && !c.multi || x.roomy && size <= smallRequest {
		return false
	}
	if c.multi {
		switch spec.Name {
		case "exec":
			deny = c.queueFlags&command.FlagDenyOOM != 0
		case "discard", "quit", "reset":
		default:
			deny = deny || !c.e.handlers[spec.ID].shared // queueing takes memory too
		}
	}
	if !deny {
		return false
	}
	if x.roomy = c.e.plenty(); x.roomy && size <= overshoot {
		return false
	}
	return !c.e.makeRoom(int64(size))
}

func (c *Conn) enqueue(spec *command.Spec, args [][]byte, raw []byte) {
	q := queued{spec: spec, raw: slices.Clone(raw), args: make([][]byte, len(args))}
	// The arguments stand in raw in their order, each after its length.
	at := 0
	for i, a := range args {
		if at = argStart(q.raw, at, i == 0); at+len(a) > len(q.raw) {
			break
		}
		q.args[i] = q.raw[at : at+len(a) : at+len(a)]
		at += len(a) + 2
	}
	c.queue = append(c.queue, q)
	c.queueFlags |= spec.Flags
}

// argStart skips the header lines before an argument of a RESP array: two lines before the first, one before others.
func argStart(raw []byte, at int, first bool) int {
	lines := 1
	if first {
		lines = 2
	}
	for ; lines > 0; lines-- {
		for at < len(raw) && raw[at] != '\n' {
			at++
		}
		at++
	}
	return at
}

// reset brings the session back to the state of a new one, but for its protocol. Needs the write lock.
func (c *Conn) reset() {
	c.discard()
	c.e.unwatch(c)
	c.e.pubsub.drop(c)
	c.e.untrack(c)
	c.e.unmonitor(c)
	c.db, c.name = 0, ""
}

// setProto changes the shape of replies.
func (c *Conn) setProto(x *call, proto int) { c.proto, x.proto = proto, proto }

// applyLocked executes commands of the replication stream, up to the first that fails.
func (c *Conn) applyLocked(reqs []command.Request) (err error) {
	e, x := c.e, &c.x
	x.e, x.c, x.fromStream = e, c, true
	x.startClock()
	n := 0
	for i := range reqs {
		req := &reqs[i]
		if req.Spec != nil && req.Spec.Name == "replconf" {
			continue // about the link, not the data
		}
		if i > 0 && i%spanMost == 0 {
			x.settle()
			x.startClock()
		}
		n++
		x.out = x.out[:0]
		x.begin(req.Spec, req.Args, req.Raw)
		c.process(x)
		e.effects.end()
		if len(e.ready) > 0 { // of a replica's sessions, only XREAD waits
			e.serveReady(x.now)
		}
		x.blocked = nil
		if err = streamError(x.out, req); err != nil {
			err = fmt.Errorf("apply %.64q: %w", req.Args, err)
			break
		}
	}
	x.settle()
	e.stats.commands.Add(int64(n))
	e.count(x)
	x.args, x.raw, x.db = nil, nil, nil
	if cap(x.out) > effectsKeep {
		x.out = nil
	}
	return err
}

// streamError finds the error in the reply to a command of the stream, also inside EXEC's.
func streamError(out []byte, req *command.Request) error {
	if len(out) > 0 && out[0] == '-' {
		return replyError(out)
	}
	if req.Spec == nil || req.Spec.Name != "exec" || len(out) == 0 {
		return nil
	}
	var err error
	frame.Reply{Raw: out}.Each(func(r frame.Reply) bool {
		if r.IsError() {
			err = replyError(r.Raw)
		}
		return err == nil
	})
	return err
}

type replyError []byte

func (e replyError) Error() string { return string(e[1 : len(e)-2]) }
