package psync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ReplicaOptions configure a Replica. Log, Target and Dial are required.
type ReplicaOptions struct {
	Log    *Log
	Target Target
	// Dial connects to the primary, as far as the point where it expects the
	// first command of the handshake.
	Dial func(ctx context.Context) (net.Conn, error)

	User, Password string // for AUTH; without a password none is sent
	ListeningPort  int    // where this copy can be reached, told to the primary if set

	// Pipeline sends PSYNC without waiting for the answers to what comes before:
	// a round trip less. A Primary of this package takes that, a server doesn't.
	Pipeline bool

	DialTimeout time.Duration // default 5 s
	// Timeout is how long the primary may be silent before the link counts as
	// dead; default 10 s. A Primary of this package sends something each second,
	// a Redis server with default settings every 10: then take a minute.
	Timeout  time.Duration
	RetryMin time.Duration // the second retry's delay, the first comes at once; default 50 ms
	RetryMax time.Duration // what it doubles up to; default 1 s
	AckEvery time.Duration // default 1 s, as the protocol wants
	// AckDelay is how long after a batch its offset is acknowledged out of turn;
	// default 10 ms, negative: not at all.
	AckDelay time.Duration
	// BeforeAck is called before an offset is acknowledged: what was applied by
	// then should be as safe as an acknowledgement means. After an error nothing is
	// acknowledged, and with Pipeline the primary doesn't tell its term: it needn't
	// count on this copy. May be nil.
	BeforeAck func() error
	Logger    *slog.Logger
}

func (o ReplicaOptions) withDefaults() ReplicaOptions {
	o.DialTimeout = cmp.Or(o.DialTimeout, 5*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.RetryMin = cmp.Or(o.RetryMin, 50*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, time.Second)
	o.AckEvery = cmp.Or(o.AckEvery, time.Second)
	o.AckDelay = cmp.Or(o.AckDelay, 10*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Replica follows a primary. While it isn't Online the Target keeps what it
// has had and goes on serving it; whether that is fresh enough isn't for this
// package to say.
type Replica struct {
	opt       ReplicaOptions
	kick      chan struct{}
	heard     atomic.Int64  // last byte from the primary, Unix nanoseconds
	got       atomic.Int64  // bytes of the snapshot
	full      atomic.Uint64 // resynchronisations that succeeded
	partial   atomic.Uint64
	discarded atomic.Int64
	status    atomic.Pointer[status]

	mu      sync.Mutex // for transitions
	running bool
	failed  int // snapshots in a row that came whole but couldn't be loaded; of Run's goroutine
}

// status is what changes seldom; replaced as a whole.
type status struct {
	phase   Phase
	err     error
	total   int64
	changed chan struct{}
}

// Phase is what a Replica is doing.
type Phase int

// The phases of a Replica:
//
//	Connecting ──+FULLRESYNC──→ Syncing ──loaded──→ Online
//	  ↑   ↑  └────+CONTINUE────────────────────────→ │
//	  │   └──────────────── link lost ───────────────┤
//	  └─────────── link lost ──────┘                 │
//	Broken ←── can't be applied ── (Syncing, Online) ┘
const (
	Connecting Phase = iota // no link: dialling, or waiting to
	Syncing                 // taking a snapshot
	Online                  // applying the stream
	Broken                  // the primary has sent what can't be applied: for good
)

func (p Phase) String() string {
	return [...]string{"connecting", "syncing", "online", "broken"}[p]
}

// ReplicaState is a Replica's state at a moment.
type ReplicaState struct {
	Phase     Phase
	Err       error // Connecting: why the last attempt failed, if it did; Broken: why
	Received  int64 // Syncing: bytes of the snapshot so far
	Total     int64 // Syncing: its size; 0 if the primary doesn't know it
	Replid    string
	Offset    int64     // applied
	LastHeard time.Time // when the primary last sent anything; zero if never

	FullSyncs, PartialSyncs uint64 // that succeeded, since the start

	// Discarded counts what this copy had and its primary hadn't, so that it was
	// given up for the primary's data: bytes of the stream since the start.
	Discarded int64
}

// NewReplica returns a Replica; Run makes it follow. From now on the Log is that
// of a replica.
func NewReplica(opt ReplicaOptions) *Replica {
	r := &Replica{opt: opt.withDefaults(), kick: make(chan struct{}, 1)}
	r.status.Store(&status{changed: make(chan struct{})})
	r.opt.Log.follow()
	return r
}

// State returns the present state, without waiting for anything.
func (r *Replica) State() ReplicaState {
	st := r.status.Load()
	s := ReplicaState{Phase: st.phase, Err: st.err, Total: st.total,
		FullSyncs: r.full.Load(), PartialSyncs: r.partial.Load(), Discarded: r.discarded.Load()}
	if st.phase == Syncing {
		s.Received = r.got.Load()
	}
	s.Replid, s.Offset = r.opt.Log.Position()
	if t := r.heard.Load(); t != 0 {
		s.LastHeard = time.Unix(0, t)
	}
	return s
}

// Changed returns a channel that is closed when the phase (or the error) next
// changes. Ask for it before State, so that no change is missed.
func (r *Replica) Changed() <-chan struct{} { return r.status.Load().changed }

// Wait is the Log's Wait.
func (r *Replica) Wait(ctx context.Context, replid string, offset int64) error {
	return r.opt.Log.Wait(ctx, replid, offset)
}

// Kick drops the present connection, or attempt, and tries again at once: for
// when the network is known to have changed.
func (r *Replica) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// enter makes a transition.
func (r *Replica) enter(p Phase, err error, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.status.Load()
	r.status.Store(&status{phase: p, err: err, total: total, changed: make(chan struct{})})
	close(old.changed)
	switch {
	case p == Broken:
		r.opt.Logger.Error("replica is broken", "error", err)
	case p == Connecting && err != nil && old.phase != Connecting:
		r.opt.Logger.Warn("link to primary lost", "error", err)
	case p == Online:
		replid, offset := r.opt.Log.Position()
		r.opt.Logger.Info("replica is online", "replid", replid, "offset", offset)
	}
}

var errRunning = errors.New("replica runs already")

// Run follows the primary until ctx ends, whose error it returns, or until the
// replica is broken: then the error wraps ErrBroken. It may be called again
// after it has returned.
func (r *Replica) Run(ctx context.Context) error {
	r.mu.Lock()
	running := r.running
	r.running = true
	r.mu.Unlock()
	if running {
		return errRunning
	}
	defer func() {
		r.mu.Lock()
		r.running = false
		r.mu.Unlock()
	}()
	r.failed = 0
	r.enter(Connecting, nil, 0)
	for attempt := 0; ; attempt++ {
		began := time.Now()
		online, err := r.attempt(ctx)
		if ctx.Err() != nil {
			r.enter(Connecting, nil, 0)
			return ctx.Err()
		}
		if errors.Is(err, ErrBroken) {
			r.enter(Broken, err, 0)
			return err
		}
		r.enter(Connecting, err, 0)
		if online && time.Since(began) > r.opt.RetryMax || errors.Is(err, errKicked) || errors.Is(err, errSafe) || errors.Is(err, errUnsafe) {
			attempt = 0 // it was worth something
		}
		r.opt.Logger.Debug("no link to primary", "attempt", attempt, "error", err)
		if err := r.pause(ctx, attempt); err != nil {
			attempt = -1 // kicked: the outside world knows better
		}
	}
}

var (
	errKicked = errors.New("told to reconnect")
	errUnsafe = errors.New("what comes can't be kept; follows without acknowledging it")
	errSafe   = errors.New("what comes can be kept again")
)

// pause waits before attempt, the count of those that failed in a row less one.
// The error says that the wait was ended early.
func (r *Replica) pause(ctx context.Context, attempt int) error {
	if attempt == 0 {
		return nil
	}
	d := min(r.opt.RetryMin<<min(attempt-1, 20), r.opt.RetryMax)
	d = d/2 + rand.N(d/2+1) // half of it is jitter
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.kick:
		return errKicked
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt connects once and follows as long as that lasts. online says whether
// it came as far as the stream.
func (r *Replica) attempt(ctx context.Context) (online bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-r.kick:
			cancel(errKicked)
		case <-ctx.Done():
		}
	})
	defer wg.Wait()
	defer cancel(nil)
	dctx, stop := context.WithTimeout(ctx, r.opt.DialTimeout)
	conn, err := r.opt.Dial(dctx)
	stop()
	if err != nil {
		return false, fmt.Errorf("dial primary: %w", errors.Join(err, context.Cause(ctx)))
	}
	l := newLink(r, conn, cancel)
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		cancel(nil)
		if unhook() {
			_ = conn.Close()
		}
		l.wg.Wait()
	}()
	err = l.run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, ErrBroken) {
		err = cause
	}
	return l.online, err
}
