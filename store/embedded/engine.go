// Package embedded is an in-process database that answers as redis-server 7.0.15 does.
//
// An Engine holds the data; a Conn is one client's session on it. Commands come parsed (resp/command) and in
// batches: Conn.Do takes the engine's one lock once per batch, shared when all its commands only read. What a command
// changed goes, as commands, to Options.Sink in the order in which it happened; a replica gets it by Engine.Apply.
//
// The reference for replies, errors and propagation is redis-server 7.0.15 itself; the tests in
// vectors_test.go ask it.
package embedded

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/command"
)

// Options for New. The zero value is a primary with 16 databases and no limit.
type Options struct {
	Databases int    // 16 if 0
	HashSeed  uint64 // decides the order of SCAN: the same on all nodes of a database
	MaxMemory int64  // bytes, 0: no limit
	Eviction  Policy // which keys go when memory is full; "" is NoEviction: writes are refused
	Replica   bool   // starts as a replica: see SetReplica
	// Forwards: who owns the engine sends clients' writes to the primary. Then INFO, ROLE and HELLO say master even
	// on a replica, since clients that look there (StackExchange.Redis, for one) would refuse to write; INFO's fields
	// that begin with respmesh_ tell what the copy is.
	Forwards bool
	Version  string // respmesh's own version, for INFO
	Now      func() time.Time
	Log      *slog.Logger
	Sink     Sink // nil: effects go nowhere
	// ScriptTimeLimit is how long a script may run before other clients are answered BUSY and SCRIPT KILL works: 5 s if 0.
	ScriptTimeLimit time.Duration
	// ScriptMemory is by how many bytes the process may grow while a script runs before the script is ended: 512 MiB if 0.
	ScriptMemory int64
	// Replication supplies what INFO and ROLE say about replication; nil: a primary without replicas. It is called
	// without locks that Sink's methods take, but under the engine's.
	Replication func() Replication
	// Await is WAIT: it returns how many replicas have all that has gone to Sink so far, as soon as they are n, or when
	// ctx ends. nil: there are none. Inside EXEC it is called under the engine's lock, with a ctx that has ended.
	Await func(ctx context.Context, n int) int
	// LogFailure says why what goes to Sink can't be kept at present; clients' writes are refused meanwhile, with
	// MISCONF and its text. It is asked before each write, under the engine's lock. nil: it always can.
	LogFailure func() error
	// Saver is SAVE, BGSAVE, LASTSAVE and BGREWRITEAOF; nil: those commands aren't there.
	Saver Saver
	// Refuse says why a primary's clients may not write at present, as the whole text of the reply; nil: they may. It is
	// asked before what writes or may do so, such as scripts, under the engine's lock.
	Refuse func() error
	// Persistence supplies what INFO and CONFIG GET say about the append-only file; nil: there is none.
	Persistence func() Persistence
}

// Sink takes the effects of commands: RESP commands, called under the engine's write lock, in order. It must not
// keep p.
type Sink interface{ Append(p []byte) }

// Replication is what the owner of the replication link knows.
type Replication struct {
	Replid   string // 40 hexadecimal digits
	Offset   int64
	Replicas []ReplicaLink // of a primary

	PrimaryHost string // of a replica
	PrimaryPort int
	LinkUp      bool
	Syncing     bool
	LastHeard   time.Time

	// How often replicas were given all data, or could go on, or couldn't although they asked for it.
	SyncFull, SyncPartialOK, SyncPartialErr int64
	// The history before a promotion, which replicas of the former primary go on from; "" for none.
	Replid2      string
	SecondOffset int64
}

// ReplicaLink is one replica of a primary.
type ReplicaLink struct {
	Addr   string // host:port
	State  string // Redis's words: wait_bgsave, send_bulk, online
	Offset int64
	Lag    time.Duration
}

// Info is what metrics read. Memory is the estimate that MaxMemory limits.
type Info struct {
	Keys, Expires                    int
	Memory                           int64
	Hits, Misses, Expired, Evicted   int64
	Commands, Conns, Blocked, Subscr int64
}

// Engine is a database server without a network. Its methods may be called concurrently.
type Engine struct {
	opts     Options
	handlers []bound
	started  time.Time
	runID    string
	nextID   atomic.Int64
	stats    stats

	closed  chan struct{}
	close   sync.Once
	running sync.WaitGroup

	pubsub pubsub

	connsMu sync.Mutex
	conns   map[int64]*Conn

	snapshots sync.Mutex // one at a time

	alone atomic.Int32 // >0: reading commands don't share the lock either, since they publish something

	commands  []commandStat // by Spec.ID
	errors    errorCounts
	untracked atomic.Bool // latency-tracking is off
	slow      slowlog
	clock     clockBase
	paused    atomic.Bool

	mu          sync.RWMutex // guards what follows; also the methods of types below that say so
	walks       atomic.Int32 // snapshots under way
	waits       atomic.Int32 // sessions that wait for mu meanwhile
	dbs         []*keyspace
	limit       memoryLimit
	events      events
	latency     latencyMonitor
	percentiles []float64 // of INFO's latencystats
	tracking    tracking
	monitors    []*Conn
	pause       pause
	current     *Conn  // whose commands are under way
	own         []byte // frames for current, to go after its reply
	replica     bool
	effects     effects
	watched     []map[string][]*watch // by database
	waiting     []map[string][]*waiter
	counting    map[*waiter]bool // those in WAIT
	ready       []readyKey
	woken       []*waiter // served, to be told when the lock is released
	stream      *Conn     // the session of Apply
	snapMark    uint32    // of the last snapshot
	scripts     scripts
	functions   functions
	busy        chan struct{} // not nil: a script has let go of mu and has the rest until this is closed
}

// stats are counted by readers too, hence atomic.
type stats struct {
	commands, hits, misses, expired, evicted, blocked, conns, connected atomic.Int64
	peak                                                                atomic.Int64 // the most memory seen
}

// New starts an engine. Close ends it.
func New(opts Options) *Engine {
	if opts.Databases == 0 {
		opts.Databases = 16
	}
	wall := opts.Now
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Eviction == "" {
		opts.Eviction = NoEviction
	}
	if opts.ScriptTimeLimit == 0 {
		opts.ScriptTimeLimit = defaultScriptTime
	}
	if opts.ScriptMemory == 0 {
		opts.ScriptMemory = defaultScriptMemory
	}
	if opts.Replication == nil {
		id := randomHex(40)
		opts.Replication = func() Replication { return Replication{Replid: id} }
	}
	if opts.Await == nil {
		opts.Await = func(ctx context.Context, n int) int {
			if n > 0 {
				<-ctx.Done()
			}
			return 0
		}
	}
	e := &Engine{
		opts:     opts,
		handlers: bindCommands(),
		started:  opts.Now(),
		runID:    randomHex(40),
		closed:   make(chan struct{}),
		conns:    map[int64]*Conn{},
		dbs:      make([]*keyspace, opts.Databases),
		watched:  make([]map[string][]*watch, opts.Databases),
		waiting:  make([]map[string][]*waiter, opts.Databases),
		counting: map[*waiter]bool{},
		effects:  effects{sink: opts.Sink, say: true},
		replica:  opts.Replica,
		limit:    memoryLimit{max: opts.MaxMemory, policy: opts.Eviction, samples: evictSamples, lfuLog: lfuLogFactor, lfuDecay: lfuDecayTime},
	}
	for i := range e.dbs {
		e.dbs[i] = newKeyspace(opts.HashSeed)
		e.watched[i] = map[string][]*watch{}
		e.waiting[i] = map[string][]*waiter{}
	}
	if opts.Saver == nil {
		for _, r := range saveCommands() {
			e.handlers[command.ByName(r.name).ID].handle = nil
		}
	}
	e.commands = make([]commandStat, command.Count)
	e.clock.init(wall)
	e.percentiles = []float64{50, 99, 99.9}
	e.slow.init()
	e.tracking.init()
	e.pubsub.init()
	e.scripts.init(e)
	e.functions = newFunctions()
	if e.replica {
		e.effects.sink = nil
	}
	e.stream = &Conn{e: e, proto: 2, fromStream: true}
	e.running.Go(e.housekeeping)
	return e
}

// Close ends the background work and the waits of blocked sessions.
func (e *Engine) Close() error {
	e.close.Do(func() {
		close(e.closed)
		e.scripts.close()
	})
	e.running.Wait()
	return nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[rand.IntN(16)]
	}
	return string(b)
}

// showsReplica tells whether clients are told that this is a replica. The caller holds the lock.
func (e *Engine) showsReplica() bool { return e.replica && !e.opts.Forwards }

func (e *Engine) now() int64 { return e.opts.Now().UnixMilli() }

// Info reports on the engine.
func (e *Engine) Info() Info {
	e.rlock()
	defer e.mu.RUnlock()
	in := Info{
		Memory: e.memoryLocked(), Hits: e.stats.hits.Load(), Misses: e.stats.misses.Load(),
		Expired: e.stats.expired.Load(), Evicted: e.stats.evicted.Load(), Commands: e.stats.commands.Load(),
		Conns: e.stats.conns.Load(), Blocked: e.stats.blocked.Load(), Subscr: int64(e.pubsub.sessions()),
	}
	for _, db := range e.dbs {
		in.Keys += db.len()
		in.Expires += db.expires()
	}
	return in
}

// SetReplica makes the engine a replica, which refuses its clients' writes, hides expired keys without deleting them
// and lets nothing through to the Sink, or a primary again.
func (e *Engine) SetReplica(on bool) {
	e.lock()
	defer e.unlock()
	if e.replica == on {
		return
	}
	e.replica = on
	e.effects.forget()
	// The stream goes on where it is: from a primary that shares it, without a SELECT.
	e.stream.discard()
	if !on {
		e.effects.sink, e.effects.db = e.opts.Sink, e.stream.db
		return
	}
	e.effects.flush()
	e.effects.sink, e.stream.db = nil, e.effects.db
	const text = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
	for _, queues := range e.waiting {
		for len(queues) > 0 {
			for _, q := range queues {
				e.refuse(q[0], text)
				break
			}
		}
	}
	for w := range e.counting {
		e.refuse(w, text)
	}
}

// unlock ends a stay under the write lock: it hands the effects over and then tells those who were served.
func (e *Engine) unlock() {
	if len(e.ready) > 0 { // of what has expired
		e.serveReady(e.now())
	}
	if e.tracking.sessions > 0 {
		e.trimTracking()
		e.broadcast()
	}
	e.effects.flush()
	woken := e.woken
	e.woken = nil
	e.mu.Unlock()
	for _, w := range woken {
		close(w.done)
	}
}

// invoke runs one command and propagates it. The caller ends the unit of effects.
func (e *Engine) invoke(x *call) {
	spec, args, from := x.spec, x.args, len(x.out)
	alone := x.timedAlone()
	start := x.tick
	x.failed = false
	e.handlers[spec.ID].handle(x)
	if x.dirty > 0 && !x.rewritten {
		e.effects.addRaw(x.dbIndex, x.raw)
	}
	failed := x.failed
	x.failed = false // a transaction doesn't fail with a command of its own
	if x.blocked == nil {
		x.count(spec, args, alone, failed, start, from)
	}
	if len(e.monitors) > 0 {
		x.show(spec, args)
	}
	if x.c != nil && x.c.track != nil && spec.Is(command.FlagReadonly) && spec.Name != "eval_ro" && spec.Name != "evalsha_ro" {
		if x.c == &e.scripts.conn { // as in Redis, the keys that the script was given
			spec, args = e.scripts.caller.spec, e.scripts.caller.args
		}
		x.remember(spec, args)
	}
}

// count adds a call's (or batch's) counters to the engine's.
func (e *Engine) count(x *call) {
	x.flushTally()
	if x.hits > 0 {
		e.stats.hits.Add(x.hits)
	}
	if x.misses > 0 {
		e.stats.misses.Add(x.misses)
	}
	x.hits, x.misses = 0, 0
}

// Apply executes commands from the primary's replication stream, all of them or up to the first that can't be
// applied: the data then is no longer the primary's, and the error says why.
func (e *Engine) Apply(reqs []command.Request) error { return e.ApplyThen(reqs, func() {}) }

// ApplyThen is Apply; nobody sees the effects before then, which is called if all were applied, has returned.
func (e *Engine) ApplyThen(reqs []command.Request, then func()) error {
	e.lock()
	defer e.unlock()
	if err := e.stream.applyLocked(reqs); err != nil {
		return err
	}
	then()
	return nil
}
