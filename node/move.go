package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/netconf/etcd"
	"respmesh/resp/frame"
	"respmesh/store/psync"
	"respmesh/store/redis"
)

// A database is moved to another engine by the node that leads it, when its record says that another is wanted (Pending):
//
//	copy, catch up ──▶ hold writes ──▶ the target has everything, and could lead ──▶ commit ──▶ serve it
//
// The commit is one transaction of the control plane that makes the wanted engine the record's, on the condition that this
// node still holds the lease. Until then the target takes no write of ours, from then on the source none. So whoever leads next,
// after a crash at any moment, goes on with the one that the record names, and has all that was acknowledged. Writes that are
// held up are kept by the gateways (see hold.go). A move that fails is undone, and tried again later.

const (
	// moveHold bounds how long writes are held up; gateways keep them a little longer.
	moveHold = 2 * time.Second
	// moveAgain is when a move that failed is tried again, first and at most.
	moveAgain     = 10 * time.Second
	moveAgainMost = 5 * time.Minute
	// copyTimeout bounds the copying.
	copyTimeout = 12 * time.Hour
	// commitTimeout bounds one attempt to commit.
	commitTimeout = 2 * time.Second
	movePoll      = 50 * time.Millisecond
)

var errWithdrawn = errors.New("the database is to stay where it is, or to go elsewhere")

// moves moves the database whenever it is to be elsewhere and this node leads it.
func (h *heldCopy) moves() {
	var failed netconf.Engine
	var retryAt time.Time
	pause := moveAgain
	for h.ctx.Err() == nil {
		t, changed := h.db.node.source.Current()
		conf, ok := t.DatabaseByID(h.db.conf.ID)
		wanted := ok && conf.Pending != (netconf.Engine{}) && h.leads.Load()
		var again <-chan time.Time
		switch wait := time.Until(retryAt); {
		case !wanted:
			failed, pause = netconf.Engine{}, moveAgain
			h.moving.Store(nil)
		case failed == conf.Pending && wait > 0:
			again = time.After(wait)
		default:
			err := h.moveWhile(conf)
			if errors.Is(err, redis.ErrUncertain) {
				h.unsettled.Store(true)
				h.resolve()
			}
			if err == nil || h.ctx.Err() != nil {
				h.moving.Store(nil)
				continue
			}
			failed, retryAt = conf.Pending, time.Now().Add(pause)
			h.log.Warn("the database couldn't be moved to another engine; it stays where it is", "to", conf.Pending.String(), "err", err, "again", pause)
			h.moving.Store(&api.Moving{To: conf.Pending.String(), Phase: api.MoveWaiting, Error: err.Error()})
			again, pause = time.After(pause), min(2*pause, moveAgainMost)
		}
		select {
		case <-h.ctx.Done():
			return
		case <-changed:
		case <-h.turned:
		case <-again:
		}
	}
}

// moveWhile moves the database as long as that is wanted and this node leads.
func (h *heldCopy) moveWhile(conf netconf.Database) error {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	done := conf
	done.Moved()
	ended := make(chan error, 1)
	go func() { ended <- h.move(ctx, conf) }()
	for {
		t, changed := h.db.node.source.Current()
		now, ok := t.DatabaseByID(conf.ID)
		committed := now.Pending == (netconf.Engine{}) && now.Engine == done.Engine // the state may come before the commit's answer
		if !ok || now.Pending != conf.Pending && !committed || !h.leads.Load() {
			cancel()
		}
		select {
		case err := <-ended:
			return err
		case <-changed:
		case <-h.turned:
		}
	}
}

// resolve is for a move of which it isn't known whether it was made. As long as this node leads it asks the control plane, and then
// serves what the record names; without the lead, whoever has it next does.
func (h *heldCopy) resolve() {
	for h.ctx.Err() == nil && h.leads.Load() {
		try, cancel := context.WithTimeout(h.ctx, commitTimeout)
		err := h.db.node.session.Update(try, h.db.conf.ID, "node "+h.db.node.opts.Name, func(*netconf.Draft) error { return nil }) // reads the newest
		cancel()
		if err == nil {
			err = h.lead(h.ctx, h.term.Load())
		}
		if err == nil {
			return
		}
		h.log.Warn("it isn't known yet whether the database was moved to another engine; writes wait", "err", err)
		select {
		case <-h.ctx.Done():
		case <-h.turned:
		case <-time.After(movePoll):
		}
	}
}

// settle tidies up after such a move, by what the record names. Called with changing held.
func (h *heldCopy) settle(conf netconf.Database) {
	s, o := h.store.Load(), h.outside.Load()
	switch {
	case conf.Engine.Embedded() && s != nil:
		s.release()
	case !conf.Engine.Embedded() && o != nil:
		if s != nil {
			h.store.Store(nil)
			if err := errors.Join(s.close(), h.removeCopy()); err != nil {
				h.log.Warn("the copy of a move that wasn't made is left", "err", err)
			}
		}
		h.heal(o)
	}
}

func (h *heldCopy) move(ctx context.Context, conf netconf.Database) error {
	h.log.Info("moves the database to another engine", "from", conf.Engine.String(), "to", conf.Pending.String())
	h.moving.Store(&api.Moving{To: conf.Pending.String(), Phase: api.MoveChecking})
	opt := redis.MoveOptions{
		ID: conf.ID, Overwrite: conf.Pending.Supervised(), SyncTimeout: copyTimeout, FenceTimeout: moveHold, Log: h.log,
		Commit: func(ctx context.Context) error { return h.commit(ctx, conf) },
		Progress: func(p redis.Progress) {
			h.moving.Store(&api.Moving{To: conf.Pending.String(), Phase: p.Phase, Left: p.Left})
		},
	}
	if conf.Pending.Embedded() {
		return h.moveHome(ctx, conf, opt)
	}
	return h.moveOut(ctx, conf, opt)
}

// commit makes the wanted engine the record's.
func (h *heldCopy) commit(ctx context.Context, conf netconf.Database) error {
	done := conf
	done.Moved()
	for tried := false; ; tried = true {
		try, cancel := context.WithTimeout(ctx, commitTimeout)
		err := h.db.node.session.Update(try, conf.ID, "node "+h.db.node.opts.Name, func(d *netconf.Draft) error {
			db, err := d.Database(conf.Org, conf.Name)
			switch {
			case err != nil:
				return err
			case db.ID == conf.ID && db.Pending == conf.Pending:
				db.Moved()
			case db.ID != conf.ID || db.Pending != (netconf.Engine{}) || db.Engine != done.Engine:
				return errWithdrawn
			}
			return nil
		})
		cancel()
		open := errors.Is(err, netconf.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
		switch {
		case err == nil:
			return nil
		case open && ctx.Err() != nil, tried && errors.Is(err, etcd.ErrHeld): // an earlier attempt may have got through
			return fmt.Errorf("%w: %w", redis.ErrUncertain, err)
		case !open:
			return err
		}
	}
}

// moveOut moves the database from the embedded engine to a server.
func (h *heldCopy) moveOut(ctx context.Context, conf netconf.Database, opt redis.MoveOptions) error {
	s := h.store.Load()
	if s == nil || h.outside.Load() != nil {
		return errors.New("the node has no copy to move")
	}
	if dir := h.supervisedDir(); conf.Pending.Supervised() && dir != "" {
		if err := os.RemoveAll(dir); err != nil { // of a move that was interrupted
			return err
		}
	}
	o, err := h.connect(ctx, conf.Pending)
	if err != nil {
		return err
	}
	if err := redis.ToServer(ctx, embeddedSide{s, h}, o.server, opt); err != nil {
		return errors.Join(err, o.close())
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.outside.Load() != nil { // the election was faster
		return o.close()
	}
	if h.leads.Load() {
		o.lead()
	}
	return h.exchange(h.ctx, o)
}

// moveHome moves the database from a server to the embedded engine.
func (h *heldCopy) moveHome(ctx context.Context, conf netconf.Database, opt redis.MoveOptions) error {
	o := h.outside.Load()
	if o == nil {
		return errors.New("the node isn't attached to the server")
	}
	s, err := h.openBeside(o, conf)
	if err != nil {
		return err
	}
	side := followerSide{s, h, o}
	if err = side.Follow(nil); err == nil {
		err = h.awaitCopy(ctx, s, conf)
	}
	if err == nil {
		err = redis.FromServer(ctx, o.server, side, side, opt)
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.outside.Load() != o { // this node doesn't lead any more: the copy follows who does
		return err
	}
	if errors.Is(err, redis.ErrUncertain) {
		s.fence() // the record will say whether it counts
		return err
	}
	if err != nil {
		h.store.Store(nil)
		return errors.Join(err, s.close(), h.removeCopy())
	}
	if !h.leads.Load() {
		s.fence()
	}
	return h.exchangeBack(h.ctx, s, o, func() error {
		err := o.close()
		if dir := h.supervisedDir(); o.conf.Supervised() && dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	})
}

// openBeside opens an empty embedded store beside the server that serves.
func (h *heldCopy) openBeside(o *outside, conf netconf.Database) (*store, error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.outside.Load() != o {
		return nil, errors.New("the node doesn't lead any more")
	}
	if old := h.store.Swap(nil); old != nil {
		if err := old.close(); err != nil {
			return nil, err
		}
	}
	if err := h.removeCopy(); err != nil {
		return nil, err
	}
	return h.openStore(conf)
}

// awaitCopy waits until the embedded store has a first copy, also on disk.
func (h *heldCopy) awaitCopy(ctx context.Context, s *store, conf netconf.Database) error {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	tick := time.NewTicker(movePoll)
	defer tick.Stop()
	for !s.online() {
		if r, ok := s.following(); ok {
			if r.Phase == psync.Broken {
				return fmt.Errorf("the embedded engine can't follow the server: %w", r.Err)
			}
			h.moving.Store(&api.Moving{To: conf.Pending.String(), Phase: api.MoveCopying, Left: max(0, r.Total-r.Received)})
		}
		if st := h.outside.Load(); st != nil && !st.state().Usable {
			return errors.New(st.state().Reason)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("copy the data: %w", ctx.Err())
		}
	}
	return s.awaitBase(ctx)
}

// embeddedSide is the store for a move to a server.
type embeddedSide struct {
	*store
	h *heldCopy
}

// Fence implements redis.Fence.
func (e embeddedSide) Fence() {
	e.hold()
	e.h.db.gateway.Refresh()
}

// Unfence implements redis.Fence.
func (e embeddedSide) Unfence() {
	e.release()
	e.h.db.gateway.Refresh()
}

// ServeConn implements redis.Embedded.
func (e embeddedSide) ServeConn(ctx context.Context, conn net.Conn, r *frame.Reader) error {
	return e.primary.ServeConn(ctx, conn, r)
}

// followerSide is the store for a move from a server.
type followerSide struct {
	s *store
	h *heldCopy
	o *outside
}

// Follow implements redis.Follower: by the way that other nodes' replicas take, which keeps the server's heartbeat up.
func (f followerSide) Follow(func(context.Context) (net.Conn, error)) error {
	return f.s.follow(f.h.ctx, func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		f.h.wg.Go(func() { _ = f.o.replicate(f.h.ctx, far, frame.NewReader(far)) })
		return near, nil
	}, nil, f.o.server.Addr())
}

// Wait implements redis.Follower.
func (f followerSide) Wait(ctx context.Context, replid string, offset int64) error {
	return f.s.log.Wait(ctx, replid, offset)
}

// Position implements redis.Follower.
func (f followerSide) Position() (string, int64) { return f.s.log.Position() }

// Lead implements redis.Follower.
func (f followerSide) Lead(ctx context.Context) error {
	f.h.changing.Lock()
	defer f.h.changing.Unlock()
	if ctx.Err() != nil || !f.h.leads.Load() || f.h.outside.Load() != f.o {
		return errors.New("the node doesn't lead any more")
	}
	return f.s.lead(ctx, f.h.term.Load())
}

// Fence implements redis.Fence.
func (f followerSide) Fence() {
	f.o.fence()
	f.h.db.gateway.Refresh()
}

// Unfence implements redis.Fence.
func (f followerSide) Unfence() {
	if f.h.leads.Load() {
		f.o.lead()
	}
	f.h.db.gateway.Refresh()
}
