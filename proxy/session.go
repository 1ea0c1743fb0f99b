package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/proxy/poll"
	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// session is one client connection. All that isn't said to be shared belongs to the goroutine that is at work for it: that of run,
// or whichever calls Ready.
type session struct {
	g      *Gateway
	id     int64
	conn   net.Conn
	polled *poll.Conn // conn, where a loop serves it; nil: run does
	out    *output
	r      *frame.Reader
	ctx    context.Context
	cancel context.CancelFunc
	since  time.Time
	peer   string // who is at the other end, if that is known

	user    *account  // nil: nobody yet
	users   *accounts // that user is one of
	proto   int
	db      int
	mode    readMode
	mute    bool // CLIENT REPLY OFF
	skip    bool // CLIENT REPLY SKIP: the next command
	closing bool // after what was answered
	leave   bool // at once

	monitors bool // MONITOR

	maxRequest int    // as the reader was told
	reading    int    // bytes counted in Gateway.requests
	bounded    bool   // commands have to be looked at by within
	nth        uint32 // command, for sample
	slot       bool   // holds one of Gateway.slots
	turn       turn

	// using is held while the session is at work: while it isn't, SetStore may close sc.
	using sync.Mutex
	tied  atomic.Pointer[ownStore] // where the session has what can't be moved; nil: nowhere

	sc      StoreConn // opened by the first command for the local store
	scOf    *ownStore
	scProto int // what sc was told last
	scDB    int
	tx      tx
	sub     subscriptions
	track   tracking

	led       bool // the batch was routed here because the local store led
	sawHere   bool // the local store has answered since another copy was asked
	rerouting bool // see reroute
	switched  bool // the command at hand has waited for a leader

	batch  int      // how many commands the local store executes at once: fewer where replies are big
	last   *link    // where the forwarded commands in flight are
	links  [2]*link // the shared links used last: [1] for reads, [0] for the rest
	kickme bool     // last has commands that weren't kicked

	mu      sync.Mutex // guards what CLIENT LIST of other sessions reads
	name    string
	libName string
	libVer  string

	who        atomic.Pointer[account] // user, for others
	listens    atomic.Int32            // subscriptions
	storeID    atomic.Int64            // CLIENT ID of sc, of a session that has subscribed
	waits      atomic.Pointer[waiting] // in a store
	seenDB     atomic.Int32
	seenProto  atomic.Int32
	lastCmd    atomic.Pointer[command.Spec]
	lastActive atomic.Int64
	bytesOut   int64
}

// work is what a session needs while it has something to do; idle sessions hold none.
type work struct {
	cur   command.Request   // being handled
	reqs  []command.Request // reqs[:n] wait for the local store
	n     int
	out   []byte // the session's own replies, not delivered yet
	keys  []command.Key
	hash  []uint64
	tally tally
	// patient: a command of this turn has waited for a primary, in vain; those behind it don't.
	patient bool
}

var works = sync.Pool{New: func() any { return &work{reqs: make([]command.Request, 0, 8)} }}

// maxBatch bounds how many commands the local store executes at once, bigReplies what it should answer at once.
const (
	firstBatch = 16 // until it is known how big a session's replies are
	maxBatch   = 128
	bigReplies = 256 << 10
)

// enqueue moves the command at hand into the batch. Its place keeps the memory of the one that was there before.
func (w *work) enqueue() {
	if w.n == len(w.reqs) {
		w.reqs = append(w.reqs, command.Request{})
	}
	w.reqs[w.n], w.cur = w.cur, w.reqs[w.n]
	w.n++
}

func newSession(g *Gateway, id int64, conn net.Conn) *session {
	s := &session{g: g, id: id, proto: 2, batch: firstBatch, since: time.Now(), users: g.users.Load()}
	if own := g.own.Load(); own == nil || !waits(own.Store) {
		if c, ok := g.opt.Loops.Adopt(conn, s); ok {
			s.polled, conn = c, c
		}
	}
	s.conn, s.r = conn, frame.NewReader(conn)
	s.ctx, s.cancel = context.WithCancel(withWorker(g.ctx, s))
	s.turn.share, s.turn.yield = g.share, s.polled.Yield
	s.out = newOutput(conn, g.opt.OutputLimit, g.wg.Go, s.wasCut)
	s.out.sum, s.out.most = &g.memory, int64(g.opt.MemoryLimit)
	s.maxRequest = g.view.Load().settings.MaxRequest
	s.be(s.users.open())
	s.seenProto.Store(2)
	s.lastActive.Store(s.since.UnixNano())
	return s
}

// wasCut is told by the output that it closed the connection.
func (s *session) wasCut(reason cutReason) {
	s.cancel()
	switch reason {
	case cutSlow:
		s.g.meters.cutSlow.Inc()
		s.g.log.Warn("client cut: it doesn't read its replies", "client", s.conn.RemoteAddr(), "peer", s.peer, "limit", s.g.opt.OutputLimit)
	case cutIdle:
		s.g.meters.cutIdle.Inc()
	case cutKilled, cutUser:
		s.g.meters.cutKilled.Inc()
	}
}

// rest has the session do nothing for a while.
func (s *session) rest(d time.Duration) {
	if d <= 0 {
		return
	}
	s.restUntil(d, nil)
}

// restUntil is rest, unless ended is closed first.
func (s *session) restUntil(d time.Duration, ended <-chan struct{}) {
	s.kick()
	defer s.away()()
	s.using.Unlock()
	defer s.using.Lock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ended:
	case <-s.ctx.Done():
	}
}

// kill ends the session from another goroutine.
func (s *session) kill(reason cutReason) { s.out.cut(reason) }

// run serves a client in a goroutine of its own until it leaves.
func (s *session) run() {
	for s.step(s.r.Fill()) {
	}
	s.end()
}

// Ready implements poll.Handler: it serves a client that has sent something.
func (s *session) Ready() (more bool) {
	switch err := s.r.Fill(); {
	case errors.Is(err, poll.ErrWait) || s.step(err):
		return true
	default:
		go s.end() // which may wait
		return false
	}
}

// step handles what was read, or couldn't be. False: the session is over.
func (s *session) step(err error) bool {
	if err != nil {
		if drained := s.g.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded); !drained {
			s.leave = err != io.EOF // after that the replies to what was asked are still wanted
		}
		return false
	}
	if !s.fits() {
		return false
	}
	w := works.Get().(*work)
	s.takeSlot()
	s.using.Lock()
	s.process(w)
	s.using.Unlock()
	s.giveSlot()
	if len(s.r.Buffered()) == 0 {
		s.countRequest(0) // the reader frees what was long before it waits
	}
	w.n, w.patient = 0, false
	if cap(w.reqs) <= maxBatch*2 && cap(w.out) <= linkKeep {
		w.out = w.out[:0]
		works.Put(w)
	}
	return !s.g.draining.Load() && !s.closing && !s.leave
}

// end gives everything back.
func (s *session) end() {
	if s.leave {
		s.out.cut(cutLocal)
	} else {
		s.out.finish(5 * time.Second)
	}
	s.cancel()
	s.countRequest(0)
	s.unmonitor()
	s.tx.pin.discard()
	s.sub.close()
	s.untrack()
	s.using.Lock()
	s.closeStore()
	s.using.Unlock()
	s.countOut()
	s.g.forget(s)
}

// countOut adds what was written to the client since the last time.
func (s *session) countOut() {
	if total := s.out.total(); total != s.bytesOut {
		s.g.meters.bytesOut.Add(float64(total - s.bytesOut))
		s.bytesOut = total
	}
}

// process executes everything that is in the buffer.
func (s *session) process(w *work) {
	began := time.Now()
	s.lastActive.Store(began.UnixNano())
	before := s.r.Consumed()
	set := &s.g.view.Load().settings
	if set.MaxRequest != s.maxRequest {
		s.maxRequest = set.MaxRequest
		s.applyLimits()
	}
	s.bounded = set.limited() || s.g.opt.Usage != nil
	if users := s.g.users.Load(); users != s.users {
		s.follow(users)
	}
	var last *command.Spec
	for !s.closing && !s.leave {
		req := &w.cur
		ok, err := s.r.NextCommand(&req.Command)
		if err != nil {
			s.protocolError(w, err)
			break
		}
		if !ok {
			break
		}
		if req.Excess > 0 {
			s.tooLong(w, req.Excess)
			continue
		}
		req.Spec = command.Lookup(req.Args)
		last = req.Spec
		s.handle(w, req)
		if w.n >= s.batch || len(w.out) >= bigReplies/4 {
			if s.commit(w); s.turn.over() {
				s.cede()
			}
		}
	}
	s.commit(w)
	s.kick()
	s.lastCmd.Store(last)
	s.g.meters.bytesIn.Add(float64(s.r.Consumed() - before))
	s.countOut()
	w.tally.flush(s.g.meters, time.Since(began))
}

// commit executes the batch and delivers all replies so far.
func (s *session) commit(w *work) {
	s.execute(w)
	if len(w.out) > 0 {
		s.out.deliver(w.out)
		if len(w.out) >= bigReplies/4 {
			s.pace()
		}
		w.out = w.out[:0]
	}
	if s.track.held {
		s.releaseInvalidations()
	}
}

// kick makes forwarded commands travel.
func (s *session) kick() {
	if s.kickme {
		s.last.kick()
		s.kickme = false
	}
}

func (s *session) protocolError(w *work, err error) {
	s.execute(w)
	if p, ok := errors.AsType[*frame.ProtocolError](err); ok {
		w.out = p.AppendReply(w.out)
		s.g.meters.cutProtocol.Inc()
		s.g.log.Debug("client sent what isn't RESP", "client", s.conn.RemoteAddr(), "peer", s.peer, "error", p.Reason)
	}
	s.closing = true
}
