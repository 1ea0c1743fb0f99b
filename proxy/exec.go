package proxy

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// local queues a command for the local store's next batch.
func (s *session) local(w *work, req *command.Request, c class, t trait, v *view) {
	if !s.openHere(w, v) {
		return
	}
	switch {
	case t&(traitSubscribe|traitUnsubscribe) != 0 && !s.tx.open:
		s.subscribeHere(w, req, t)
		return
	case t&traitBlocking != 0 && !s.tx.open:
		s.blockHere(w, req)
		return
	case c == classRead && !v.localPrimary && s.mode == readNear:
		if need, all := s.pending(w, req); need > 0 || all {
			if !s.await(w, req, need, v) {
				return
			}
		}
	}
	if s.mute || s.skip {
		s.executeMute(w, req)
		return
	}
	s.led, s.sawHere = v.localPrimary, true
	if t&traitCached != 0 && !v.localPrimary && v.primaryReachable {
		s.scriptHere(w, req)
		return
	}
	w.enqueue()
}

// scriptHere executes a script that the local replica may not have; then the primary does.
func (s *session) scriptHere(w *work, req *command.Request) {
	s.execute(w)
	from := len(w.out)
	w.out = s.sc.Do(s.ctx, w.out, []command.Request{*req})
	s.sawHere = true
	if bytes.HasPrefix(w.out[from:], []byte("-NOSCRIPT")) {
		w.out = w.out[:from]
		s.forward(w, req, classRead, 0, decision{routePrimary, s.g.view.Load().primary, "the local replica doesn't have the script"})
	}
}

// execute runs the batch on the local store and appends the replies.
func (s *session) execute(w *work) {
	if w.n == 0 {
		return
	}
	n := w.n
	w.n = 0
	if s.track.on {
		s.holdInvalidations()
	}
	from := len(w.out)
	if !s.runBatch(w, n) {
		return
	}
	if len(w.out)-from > bigReplies {
		s.batch = max(1, s.batch/8)
	} else if s.batch < maxBatch {
		s.batch *= 2
	}
}

// runBatch executes w.reqs[:n], and has the client take what it can while the replies are long. False: they went elsewhere, or the
// client is gone.
func (s *session) runBatch(w *work, n int) bool {
	within, ok := s.sc.(BoundedConn)
	traced := s.g.sampled()
	for done := 0; done < n; {
		from, first, began := len(w.out), done, time.Now()
		if ok {
			var did int
			w.out, did = within.DoWithin(s.ctx, w.out, w.reqs[done:n], bigReplies)
			done += did
		}
		if fenced := s.led && !s.rerouting && !s.tx.here && !s.scOf.State().Primary; fenced || !ok {
			w.out = s.sc.Do(s.ctx, w.out, w.reqs[done:n])
			s.executed(w.reqs[first:n], began, w.out[from:], traced)
			if fenced || s.led && !s.rerouting && !s.tx.here && !s.scOf.State().Primary {
				s.reroute(w, from, w.reqs[first:n])
				return false
			}
			return true
		}
		s.executed(w.reqs[first:done], began, w.out[from:], traced)
		if done > first && len(w.out)-from >= s.g.opt.BigValue { // by the last, or it would have stopped before
			s.g.bigValue(w.reqs[done-1].Args, w.reqs[done-1].Spec, len(w.out)-from, "out")
		}
		switch {
		case done == first:
			return true // the client or the store is gone
		case done < n: // and so w.out is long: what comes next needs the room
			s.batch = max(1, s.batch/8)
			s.out.deliver(w.out)
			w.out = w.out[:0]
			if s.pace(); s.leave {
				return false
			}
		}
	}
	return true
}

// executed tells the slow log and, if it is to know, the tracer of commands that the local store has executed.
func (s *session) executed(reqs []command.Request, began time.Time, reply []byte, traced bool) {
	if took := time.Since(began); took > s.g.opt.SlowerThan {
		s.slowBatch(reqs, took)
	}
	if traced {
		s.traceBatch(reqs, began, reply)
	}
}

// executeMute runs one command whose reply nobody wants.
func (s *session) executeMute(w *work, req *command.Request) {
	s.execute(w)
	s.silent()
	s.sc.Do(s.ctx, nil, []command.Request{*req})
}

// openFor says whether the local store's connection is that of the view, and in the state of the session.
func (s *session) openFor(v *view) bool {
	return s.sc != nil && s.scOf == v.store && s.scProto == s.proto && s.scDB == s.db
}

// openStore brings the connection to the view's local store into the state of the session.
func (s *session) openStore(v *view) {
	if s.scOf != v.store {
		s.closeStore()
	}
	if s.sc == nil {
		s.sc, s.scOf = v.store.NewConn(s.out.push), v.store
		whenLost(s.sc, func() { s.out.cut(cutLocal) })
		s.scProto, s.scDB = 2, 0
	}
	if s.scProto != s.proto {
		s.scProto = s.proto
		quiet(s.ctx, s.sc, "HELLO", strconv.Itoa(s.proto))
	}
	if s.scDB != s.db {
		s.scDB = s.db
		quiet(s.ctx, s.sc, "SELECT", strconv.Itoa(s.db))
	}
}

// noteSeen is called before another copy is asked: it must be as far as what the session has seen of the local store.
func (s *session) noteSeen() {
	if s.sawHere && s.scOf != nil {
		if replid, offset := s.scOf.Position(); replid != "" {
			s.g.seen.raise(&replid, offset)
		}
	}
	s.sawHere = false
}

func (s *session) closeStore() {
	s.noteSeen()
	if s.sc != nil {
		s.sc.Close()
		s.sc, s.scOf = nil, nil
		s.storeID.Store(0)
	}
}

// prepare brings a new connection to a store into a protocol and a database.
func prepare(ctx context.Context, sc StoreConn, proto, db int) {
	if proto != 2 {
		quiet(ctx, sc, "HELLO", strconv.Itoa(proto))
	}
	if db != 0 {
		quiet(ctx, sc, "SELECT", strconv.Itoa(db))
	}
}

// quiet executes a command of the gateway's own and returns the reply.
func quiet(ctx context.Context, sc StoreConn, args ...string) []byte {
	req := request(args...)
	return sc.Do(ctx, nil, []command.Request{req})
}

func request(args ...string) command.Request {
	var req command.Request
	req.Raw = frame.AppendCommandString(nil, args...)
	for _, a := range args {
		req.Args = append(req.Args, []byte(a))
	}
	req.Spec = command.Lookup(req.Args)
	return req
}

// pending is the offset that the local replica must have reached before it may serve this read; all: it follows
// another history than the one that the node has seen, so nothing can be said.
func (s *session) pending(w *work, req *command.Request) (need int64, otherHistory bool) {
	if replid, applied := s.scOf.Position(); s.g.ryw.idle(replid, applied) {
		return 0, false
	}
	if req.Spec == nil || !req.Is(command.FlagReadonly) {
		return 0, false // INFO, TIME, …: not about keys
	}
	var ok bool
	w.hash, w.keys, ok = s.g.keysOf(w.hash[:0], w.keys, req.Spec, req.Args, s.db)
	return s.g.lacking(s.scOf, w.hash, !ok)
}

// lacking is what the local replica lacks of what the node's clients know of these keys, or of all, as pending says it.
func (g *Gateway) lacking(store Store, keys []uint64, all bool) (need int64, otherHistory bool) {
	if all {
		need = g.ryw.needAll()
	} else {
		need = g.ryw.need(keys)
	}
	replid, applied := store.Position()
	if g.ryw.history() != replid {
		return need, need > 0
	}
	if need <= applied {
		return 0, false
	}
	return need, false
}

// await waits until the local replica has applied what the node's clients wrote. When it doesn't in time, the
// primary serves the read; when that is out of reach, the local replica as it is. True: execute it here.
func (s *session) await(w *work, req *command.Request, need int64, v *view) bool {
	g := s.g
	s.commit(w)
	s.kick()
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, v.waitBound(g.opt.WaitBoundMin, g.opt.WaitBoundMax))
	back := s.away()
	err := s.scOf.Wait(ctx, g.ryw.history(), need)
	back()
	cancel()
	g.meters.waitSeconds.Observe(time.Since(began).Seconds())
	if err == nil {
		g.meters.waitLocal.Inc()
		return true
	}
	if !v.primaryReachable {
		g.meters.waitStale.Inc()
		return true
	}
	g.meters.waitPrimary.Inc()
	s.forward(w, req, classRead, 0, decision{routePrimary, v.primary, "the local replica didn't catch up in time"})
	return false
}

// blockHere executes a command that may wait, and watches whether the client leaves meanwhile.
func (s *session) blockHere(w *work, req *command.Request) {
	held := clone(req)
	s.commit(w)
	s.kick()
	if !s.tie() {
		s.storeLost(w)
		return
	}
	defer s.untie()
	ctx, cancel := context.WithCancel(s.ctx)
	stop := s.watch(cancel)
	var told atomic.Int32 // 0: no; 1: not to wait any more; 2: with an error
	s.waits.Store(&waiting{end: func(asError bool) { told.Store(1 + b2i(asError)); cancel() }})
	back := s.away()
	out := s.sc.Do(ctx, nil, []command.Request{held})
	back()
	s.waits.Store(nil)
	gone := stop()
	cancel()
	if gone {
		s.leave = true
		return
	}
	if how := told.Load(); how > 0 && nothing(out) {
		out = unblocked(nil, &held, how == 2, s.proto)
	}
	if !s.silent() {
		w.out = append(w.out, out...)
	}
}

func b2i(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// clone copies a request out of the reader's buffer.
func clone(req *command.Request) command.Request {
	c := command.Request{Spec: req.Spec}
	c.Raw = bytes.Clone(req.Raw)
	c.Args = make([][]byte, len(req.Args))
	for i, a := range req.Args {
		c.Args[i] = bytes.Clone(a)
	}
	return c
}

// watchAhead is how much a client may send while it is blocked before it isn't watched any more.
const watchAhead = 1 << 20

// watch reads ahead while the session waits for something else, in order to notice when the client leaves; then it
// calls gone. The function it returns ends that, and says whether the client has left. Requests taken from the reader
// before are invalid from here on.
func (s *session) watch(gone func()) (stop func() bool) {
	w := &watcher{r: s.r, conn: s.conn}
	if s.polled == nil {
		return w.start(gone, s.g.draining.Load)
	}
	s.polled.Block(true)
	end := w.start(gone, s.g.draining.Load)
	return func() bool {
		defer s.polled.Block(false)
		return end()
	}
}

type deadliner interface{ SetReadDeadline(time.Time) error }

type watcher struct {
	r    *frame.Reader
	conn deadliner
	more func(buffered []byte) // if set: is shown what has come
}

func (w *watcher) start(gone func(), draining func() bool) (stop func() bool) {
	stopping := make(chan struct{})
	done := make(chan bool, 1)
	go func() {
		for len(w.r.Buffered()) < watchAhead {
			err := w.r.Fill()
			if err == nil {
				if w.more != nil {
					w.more(w.r.Buffered())
				}
				continue
			}
			select {
			case <-stopping:
				if errors.Is(err, os.ErrDeadlineExceeded) {
					done <- false
					return
				}
			default:
			}
			gone()
			done <- true
			return
		}
		<-stopping
		done <- false
	}()
	return func() bool {
		close(stopping)
		w.conn.SetReadDeadline(longAgo)
		left := <-done
		w.conn.SetReadDeadline(time.Time{})
		if draining() {
			w.conn.SetReadDeadline(longAgo)
		}
		return left
	}
}
