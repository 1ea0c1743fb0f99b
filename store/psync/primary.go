package psync

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/frame"
)

// PrimaryOptions configure a Primary. Log and Source are required.
type PrimaryOptions struct {
	Log    *Log
	Source Source

	PingEvery   time.Duration // how long the stream may be silent; default 1 s
	Timeout     time.Duration // a replica that shows no life for so long is dropped; default 60 s
	MaxUnsent   int64         // a replica further behind is cut and must resynchronise; default 256 MiB
	SpoolMemory int           // bigger snapshots go to a temporary file; default 8 MiB
	SpoolDir    string        // for that file; default os.TempDir
	Password    string        // if set, replicas must AUTH
	// Telling is called before a replica is told the term. May be nil.
	Telling func(addr string)
	Logger  *slog.Logger
}

func (o PrimaryOptions) withDefaults() PrimaryOptions {
	o.PingEvery = cmp.Or(o.PingEvery, time.Second)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.MaxUnsent = cmp.Or(o.MaxUnsent, 256<<20)
	o.SpoolMemory = cmp.Or(o.SpoolMemory, 8<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Primary feeds replicas from a Log. On a node that is a replica itself it
// feeds sub-replicas, with the bytes that came from above.
type Primary struct {
	opt       PrimaryOptions
	lastPing  atomic.Int64  // Unix nanoseconds
	askedAt   atomic.Int64  // offset after the last GETACK
	full      atomic.Int64  // how often a replica was given all data,
	continued atomic.Int64  // or could go on,
	refused   atomic.Int64  // or couldn't although it asked to
	snapshots chan struct{} // a place for who makes a snapshot: one at a time

	mu       sync.Mutex
	sessions []*session
	changed  chan struct{} // closed and replaced when an offset was acknowledged
	awaited  bool          // somebody waits for changed
}

// NewPrimary returns a Primary. It runs no goroutines but those of ServeConn.
func NewPrimary(opt PrimaryOptions) *Primary {
	return &Primary{opt: opt.withDefaults(), changed: make(chan struct{}), snapshots: make(chan struct{}, 1)}
}

// FeedState is where a replica's connection stands.
type FeedState int32

// The states of a replica's connection, in order.
const (
	Handshake    FeedState = iota // before PSYNC
	Snapshotting                  // its snapshot is being made
	Sending                       // its snapshot is being sent
	Streaming                     // it gets the stream
)

func (s FeedState) String() string {
	switch s {
	case Handshake:
		return "handshake"
	case Snapshotting:
		return "wait_bgsave"
	case Sending:
		return "send_bulk"
	}
	return "online"
}

// ReplicaInfo describes a connected replica.
type ReplicaInfo struct {
	Addr    string // of the connection
	IP      string // where the replica says it can be reached, if it does
	Port    int
	State   FeedState
	Sent    int64     // offset up to which the stream has been given to the connection
	Acked   int64     // offset that the replica has said it applied
	LastAck time.Time // zero before the first
}

// Replicas lists the connections that have come as far as PSYNC, oldest first.
func (p *Primary) Replicas() []ReplicaInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]ReplicaInfo, 0, len(p.sessions))
	for _, s := range p.sessions {
		out = append(out, s.info())
	}
	return out
}

// Syncs counts, since the start, how often a replica was given all data, could go on where it was, and couldn't
// although it asked for that.
func (p *Primary) Syncs() (full, continued, refused int64) {
	return p.full.Load(), p.continued.Load(), p.refused.Load()
}

// Acked returns how many replicas have said that they applied offset.
func (p *Primary) Acked(offset int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ackedLocked(offset)
}

func (p *Primary) ackedLocked(offset int64) int { return p.HaveLocked(offset, nil) }

func (p *Primary) add(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions = append(p.sessions, s)
}

func (p *Primary) remove(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions = slices.DeleteFunc(p.sessions, func(o *session) bool { return o == s })
	p.changedLocked()
}

// acknowledged wakes those who wait for replicas.
func (p *Primary) acknowledged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changedLocked()
}

func (p *Primary) changedLocked() {
	if p.awaited {
		p.awaited = false
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// pingFrame is what an idle primary puts into the stream.
var pingFrame = frame.AppendCommandString(nil, "PING")

// ping adds a PING to the stream when it has been silent. Only the head of a
// chain may: below it, offsets must stay those of the head's bytes.
func (p *Primary) ping(now time.Time) {
	last := p.lastPing.Load()
	if now.UnixNano()-last < int64(p.opt.PingEvery)/2 || p.opt.Log.following.Load() {
		return
	}
	if p.lastPing.CompareAndSwap(last, now.UnixNano()) { // one of the sessions does it for all
		p.opt.Log.append(pingFrame, false)
	}
}
