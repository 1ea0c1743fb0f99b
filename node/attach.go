package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"respmesh/netconf"
	"respmesh/proxy"
	"respmesh/store/redis"
)

const (
	// serverDir is where, below a database's data, a server that the node runs keeps its own.
	serverDir = "server"
	// lastWords is how long a store that was left still answers.
	lastWords = time.Second
	// healTimeout bounds one attempt to put a server's settings back.
	healTimeout = time.Second
	// joinAgain is when a cluster that couldn't be reached is tried again.
	joinAgain = time.Second
)

// leadOutside makes the node the one by which writes reach the server. Called with changing held.
func (h *heldCopy) leadOutside(ctx context.Context, conf netconf.Database, term int64) error {
	o := h.outside.Load()
	if o == nil {
		var err error
		if o, err = h.attach(ctx, conf); err != nil {
			return err
		}
	}
	o.lead()
	h.turn(term, true)
	return nil
}

// attach opens the way to the server in place of the embedded store, whose data are the server's now.
func (h *heldCopy) attach(ctx context.Context, conf netconf.Database) (*outside, error) {
	o, err := h.connect(ctx, conf.Engine)
	if err != nil {
		return nil, err
	}
	h.heal(o)
	h.log.Info("attached to the engine", "engine", conf.Engine.String())
	return o, h.exchange(ctx, o)
}

// exchange puts a server in the place of the embedded store, and removes that. Called with changing held.
func (h *heldCopy) exchange(ctx context.Context, o *outside) error {
	old := h.store.Swap(nil)
	h.outside.Store(o)
	if old != nil {
		old.leave()
	}
	err := h.show(ctx, o)
	if old == nil {
		return errors.Join(err, h.removeCopy())
	}
	h.retire(func() error { return errors.Join(old.close(), h.removeCopy()) })
	return err
}

// embed gives the embedded store, opened in place of the server if need be. Called with changing held.
func (h *heldCopy) embed(ctx context.Context, conf netconf.Database) (*store, error) {
	o, s := h.outside.Load(), h.store.Load()
	if s != nil && o == nil {
		return s, nil
	}
	if s == nil {
		var err error
		if s, err = h.openStore(conf); err != nil {
			return nil, err
		}
	}
	if o == nil {
		return s, h.exchangeBack(ctx, s, nil, nil)
	}
	return s, h.exchangeBack(ctx, s, o, o.close)
}

// exchangeBack puts an embedded store in the place of the server, if there is one, which end ends. Called with changing held.
func (h *heldCopy) exchangeBack(ctx context.Context, s *store, o *outside, end func() error) error {
	h.store.Store(s)
	h.outside.Store(nil)
	if o != nil {
		o.leave()
	}
	err := h.show(ctx, s)
	if o != nil {
		h.retire(end)
	}
	return err
}

// retire ends what the node has left, a little later: what it still answers over links has to arrive.
func (h *heldCopy) retire(end func() error) {
	h.leaving.Add(1)
	h.wg.Go(func() {
		defer h.leaving.Done()
		select {
		case <-h.ctx.Done():
		case <-time.After(lastWords):
		}
		if err := end(); err != nil {
			h.log.Error("the engine that was left couldn't be closed", "err", err)
		}
	})
}

// show gives the gateway another store. Sessions leave the old one with the command at hand.
func (h *heldCopy) show(ctx context.Context, s proxy.Store) error {
	leave, cancel := context.WithTimeout(ctx, leaveWait)
	defer cancel()
	if err := h.db.gateway.SetStore(leave, s); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// reattach takes another URL of the same server.
func (h *heldCopy) reattach(conf netconf.Database) {
	h.changing.Lock()
	defer h.changing.Unlock()
	old := h.outside.Load()
	if old == nil || conf.Engine.Embedded() || old.child != nil {
		return
	}
	o, err := h.connect(h.ctx, conf.Engine)
	if err != nil {
		_ = h.note(err)
		return
	}
	if h.leads.Load() {
		o.lead()
	}
	h.outside.Store(o)
	old.leave()
	_ = h.note(h.show(h.ctx, o))
	h.retire(old.close)
}

// connect makes the way to a server, which it starts if the node is to run it.
func (h *heldCopy) connect(ctx context.Context, e netconf.Engine) (_ *outside, err error) {
	o := &outside{conf: e}
	o.fenced.Store(true)
	o.feeding, o.cutReplicas = context.WithCancel(h.ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	url := e.URL
	if e.Supervised() {
		if err := h.supervise(ctx, o); err != nil {
			return nil, err
		}
		url = o.child.URL()
	}
	o.server, err = redis.Open(h.ctx, redis.Options{URL: url, Region: h.db.conf.Primary, Log: h.log})
	return o, err
}

// supervise starts a server of the node's own.
func (h *heldCopy) supervise(ctx context.Context, o *outside) (err error) {
	h.leaving.Wait() // one may still be about to end
	conf := h.conf()
	opt := redis.SuperviseOptions{Log: h.log, MaxMemory: conf.MaxMemory}
	if conf.Eviction {
		opt.Eviction = "allkeys-random"
	}
	if opt.Dir = h.supervisedDir(); opt.Dir == "" {
		if o.temp, err = os.MkdirTemp("", "respmesh-server-"); err != nil {
			return err
		}
		opt.Dir, opt.Fsync = o.temp, "off"
	} else {
		opt.Fsync = h.db.node.opts.Fsync.String()
	}
	o.child, err = redis.Supervise(ctx, opt)
	return err
}

// supervisedDir is where a server of the node's own keeps its data; empty: nowhere.
func (h *heldCopy) supervisedDir() string {
	if h.db.node.opts.Data == "" {
		return ""
	}
	return filepath.Join(h.db.dataDir(), serverDir)
}

// heal puts back what an interrupted move has changed of the server's settings. While the server can't be reached it tries
// on: until then it may refuse writes.
func (h *heldCopy) heal(o *outside) {
	try := func() error {
		ctx, cancel := context.WithTimeout(h.ctx, healTimeout)
		defer cancel()
		return o.server.Heal(ctx, h.db.conf.ID)
	}
	if try() == nil {
		return
	}
	h.wg.Go(func() {
		for try() != nil {
			select {
			case <-h.ctx.Done():
				return
			case <-time.After(healTimeout):
			}
			if h.outside.Load() != o {
				return
			}
		}
	})
}

// joinCluster connects to the cluster, as often as it takes.
func (h *heldCopy) joinCluster(ctx context.Context, conf netconf.Database) {
	for {
		many, err := redis.OpenCluster(ctx, redis.Options{URL: conf.Engine.URL, Log: h.log})
		if h.note(err) == nil {
			o := &outside{many: many, conf: conf.Engine}
			o.lead()
			h.outside.Store(o)
			if err := h.show(ctx, o); err != nil && ctx.Err() == nil {
				h.log.Error("the cluster can't be served", "err", err)
			}
			return
		}
		h.log.Warn("cluster can't be reached", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(joinAgain):
		}
	}
}

// removeCopy removes what the embedded store has kept on disk.
func (h *heldCopy) removeCopy() error {
	if h.db.node.opts.Data == "" {
		return nil
	}
	kept, err := os.ReadDir(h.db.dataDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, f := range kept {
		if f.Name() != serverDir {
			errs = append(errs, os.RemoveAll(filepath.Join(h.db.dataDir(), f.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the embedded engine's data: %w", err)
	}
	return nil
}

// usable is nil when what the node holds of the database can be read.
func (db *database) usable() error {
	h := db.held.Load()
	if h == nil {
		return nil
	}
	if s := h.serving(); s != nil {
		if st := s.State(); !st.Usable {
			return errors.New(st.Reason)
		}
		if o := h.outside.Load(); o != nil && !o.state().Usable {
			return errors.New(o.state().Reason)
		}
		return nil
	}
	if text := h.trouble.Load(); text != nil {
		return errors.New(*text)
	}
	return errors.New("the engine isn't attached yet")
}

// CheckEngine says what is wrong with the URL of an engine, as far as that can be known without connecting.
func CheckEngine(e netconf.Engine) error {
	if e.URL == "" {
		return nil
	}
	return redis.CheckURL(e.URL)
}
