package psync

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"respmesh/resp/frame"
)

// noLink is Redis's answer of a replica that has nothing to give.
const noLink = "NOMASTERLINK Can't SYNC while not connected with my master"

// sync answers PSYNC <replid> <offset> and SYNC, and starts the feeding.
func (s *session) sync(ctx context.Context, args [][]byte, wg *sync.WaitGroup) error {
	replid, offset := "?", int64(0)
	switch {
	case strings.EqualFold(string(args[0]), "sync") && len(args) == 1:
		s.legacy = true
	case len(args) == 3:
		next, ok := frame.ParseInt(args[2])
		if !ok {
			s.out = frame.AppendError(s.out, "ERR value is not an integer or out of range")
			return nil
		}
		replid, offset = string(args[1]), next-1
	default: // also PSYNC … FAILOVER: who is the primary isn't decided here
		s.out = frame.AppendError(s.out, "ERR syntax error")
		return nil
	}
	log := s.p.opt.Log
	if !log.Synced() {
		s.out = frame.AppendError(s.out, noLink)
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	cur, ok := log.subscribe(replid, offset, s.p.opt.MaxUnsent, s.cancel)
	s.touch()
	if ok {
		s.p.continued.Add(1)
		s.acked.Store(offset)
		s.cur.Store(cur)
		s.state.Store(int32(Streaming))
	} else {
		s.p.full.Add(1)
		if replid != "?" {
			s.p.refused.Add(1)
		}
		s.state.Store(int32(Snapshotting))
	}
	s.p.add(s)
	s.p.acknowledged()
	wg.Go(func() {
		s.cancel(s.feed(ctx, replid, ok))
		if c := s.cur.Load(); c != nil {
			c.close()
		}
	})
	return nil
}

func (s *session) touch() { s.moved.Store(time.Now().UnixNano()) }

// feed is the writing goroutine.
func (s *session) feed(ctx context.Context, asked string, partial bool) error {
	log := s.p.opt.Logger.With("addr", addr(s.conn))
	if partial {
		replid, _ := s.p.opt.Log.Position()
		line := "+CONTINUE\r\n"
		if s.psync2 {
			line = "+CONTINUE " + replid + "\r\n"
		}
		log.Info("replica continues", "replid", replid, "offset", s.acked.Load())
		if _, err := s.conn.Write([]byte(line)); err != nil {
			return err
		}
		return s.stream(ctx)
	}
	log.Info("replica resynchronises fully", "asked", asked)
	if err := s.fullSync(ctx); err != nil {
		return fmt.Errorf("full resynchronisation: %w", err)
	}
	log.Info("replica has its snapshot", "offset", s.cur.Load().sent.Load())
	return s.stream(ctx)
}

// fullSync sends a snapshot. Its length is known, so the plain framing does: a
// replica then needs no mark, and the stream may follow at once.
func (s *session) fullSync(ctx context.Context) error {
	sp := &spool{dir: s.p.opt.SpoolDir, limit: s.p.opt.SpoolMemory}
	defer sp.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	began := make(chan string, 1) // the answer to PSYNC, once the position is known
	made := make(chan error, 1)
	wg.Go(func() { made <- s.snapshot(ctx, sp, began) })
	alive := time.NewTicker(s.p.opt.PingEvery)
	defer alive.Stop()
	for {
		select {
		case header := <-began:
			if _, err := s.conn.Write([]byte(header)); err != nil {
				return err
			}
		case <-alive.C: // lest the replica think us dead
			s.touch()
			if _, err := s.conn.Write([]byte{'\n'}); err != nil {
				return err
			}
		case err := <-made:
			select {
			case header := <-began:
				if _, err := s.conn.Write([]byte(header)); err != nil {
					return err
				}
			default:
			}
			if err != nil {
				return err
			}
			s.state.Store(int32(Sending))
			s.touch()
			if _, err := fmt.Fprintf(s.conn, "$%d\r\n", sp.size); err != nil {
				return err
			}
			if err := sp.copyTo(s.conn, func(int) { s.touch() }); err != nil {
				return err
			}
			s.state.Store(int32(Streaming))
			s.p.acknowledged()
			return nil
		}
	}
}

// snapshot has the engine write its data to sp and takes a place in the stream
// at the moment of the snapshot.
func (s *session) snapshot(ctx context.Context, sp *spool, began chan<- string) error {
	select { // before the gate: at a replica nothing is applied while that is held
	case s.p.snapshots <- struct{}{}:
		defer func() { <-s.p.snapshots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	log := s.p.opt.Log
	err := log.Snapshot(func(at func()) error {
		return s.p.opt.Source.Snapshot(abortable{ctx, sp}, at)
	}, func(Position) {
		cur, replid, offset := log.subscribeHere(s.p.opt.MaxUnsent, s.cancel)
		s.cur.Store(cur)
		if !s.legacy {
			began <- fmt.Sprintf("+FULLRESYNC %s %d\r\n", replid, offset)
		}
	})
	if errors.Is(err, errUnsynced) {
		began <- "-" + noLink + "\r\n"
		return errRenamed
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if s.cur.Load() == nil {
		return fmt.Errorf("snapshot: its position wasn't noted")
	}
	return nil
}

// stream sends what the log has and gets. Each piece goes out as soon as it is
// there; what comes while one is being written goes out with the next.
func (s *session) stream(ctx context.Context) error {
	cur := s.cur.Load()
	quiet := time.NewTimer(s.p.opt.PingEvery)
	defer quiet.Stop()
	for {
		if b := cur.ready(); b != nil {
			select {
			case <-cur.gone: // looked at after the bytes: they may be of a new history
				return cur.cause
			default:
			}
			n, err := s.conn.Write(b)
			cur.advance(n)
			if err != nil {
				return err
			}
			continue
		}
		quiet.Reset(s.p.opt.PingEvery)
		select {
		case <-cur.wake:
		case now := <-quiet.C:
			s.p.ping(now)
		case <-cur.gone:
			return cur.cause
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// abortable lets a snapshot stop early when its replica is gone.
type abortable struct {
	ctx context.Context
	sp  *spool
}

func (a abortable) Write(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, context.Cause(a.ctx)
	}
	return a.sp.Write(p)
}
