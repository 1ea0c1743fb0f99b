package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/frame"
)

// Options configure an [Engine] or a [Cluster].
type Options struct {
	URL    string // see CheckURL
	Region string // of the primary, in errors; empty: the server is named
	Log    *slog.Logger
	TLS    *tls.Config // instead of what a rediss:// URL says

	Conns        int           // that sessions share, for each protocol; default 2
	Warm         int           // idle connections kept ready for transactions and blocking commands, once asked for; default 2
	MaxOwn       int           // connections that sessions have alone; default 4096
	LargeCommand int           // bytes from which a command travels on a connection of its own; default 1 MiB
	DialTimeout  time.Duration // default 1 s
	StallTimeout time.Duration // a connection that gives no sign of life for so long, while it should, is given up; default 15 s
	ProbeEvery   time.Duration // how often the server is asked for its role; default 1 s

	// RTT is the round-trip time to a cluster's node; nil: as measured by the engine.
	RTT func(addr string) (time.Duration, bool)
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	def(&o.Conns, 2)
	def(&o.Warm, 2)
	def(&o.MaxOwn, 4096)
	def(&o.LargeCommand, 1<<20)
	def(&o.DialTimeout, time.Second)
	def(&o.StallTimeout, 15*time.Second)
	def(&o.ProbeEvery, time.Second)
	return o
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// State says what the engine may be asked.
type State struct {
	Primary   bool // the server is one, as far as is known
	Usable    bool
	LastHeard time.Time // from the server; zero: never
	Reason    string    // why it isn't usable
}

// Engine is a database on a real server, which somebody else runs. It connects when it is needed, and again when the
// connection is lost.
type Engine struct {
	opt    Options
	target *target
	table  *table
	srv    *server
	cancel context.CancelFunc
	wg     sync.WaitGroup
	nextID atomic.Int64

	hist    atomic.Pointer[history]
	state   atomic.Pointer[State]
	heard   atomic.Int64  // unix nano
	kick    chan struct{} // has room for one: probe now
	addr    atomic.Pointer[string]
	relays  atomic.Int32 // replicas in other nodes that follow through here
	closing sync.Once

	member bool         // of a cluster, where being a replica is nothing special
	rtt    atomic.Int64 // to the server, as probed: smoothed
	linked atomic.Bool  // of a member that is a replica: its link to the primary is up
}

// history is a replication id with how far it has come, as far as is known.
type history struct {
	id     string
	offset atomic.Int64
}

func (h *history) raise(to int64) {
	for {
		old := h.offset.Load()
		if old >= to || h.offset.CompareAndSwap(old, to) {
			return
		}
	}
}

// Open makes an engine. The server needn't be reachable yet: see Check.
func Open(ctx context.Context, opt Options) (*Engine, error) {
	t, err := parseURL(opt.URL)
	if err != nil {
		return nil, err
	}
	if t.tls != nil && opt.TLS != nil {
		t.tls, t.sentinelTLS = opt.TLS, opt.TLS
	}
	return newEngine(ctx, opt.withDefaults(), t, greeting{info: true}, newTable()), nil
}

func newEngine(ctx context.Context, opt Options, t *target, g greeting, tab *table) *Engine {
	e := &Engine{opt: opt, target: t, table: tab, kick: make(chan struct{}, 1), member: g.member}
	g.user, g.pass = t.user, t.pass
	e.hist.Store(&history{})
	e.state.Store(&State{Reason: "not connected to " + Redact(opt.URL) + " yet"})
	first := t.addrs[0]
	e.addr.Store(&first)
	ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	e.srv = newServer(ctx, &e.opt, g, e.dial, e.learn)
	e.srv.loads = func() { e.publish(State{Reason: "the server at " + e.Addr() + ": " + errLoading.Error()}) }
	e.wg.Go(func() { e.watch(ctx) })
	return e
}

// Close ends all connections. Sessions that still ask are answered with errors.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		e.cancel()
		e.srv.close()
		e.wg.Wait()
	})
	return nil
}

// NewConn opens a session. push receives asynchronous frames; it doesn't block.
func (e *Engine) NewConn(push func([]byte)) *Conn {
	c := &Conn{e: e, id: int(e.nextID.Add(1)), push: push, call: newCall()}
	c.proto.Store(2)
	return c
}

// Addr is where the server is, or was found last.
func (e *Engine) Addr() string { return *e.addr.Load() }

// dial connects to the server, which with Sentinel has to be found first.
func (e *Engine) dial(ctx context.Context) (net.Conn, error) {
	t := e.target
	if t.master == "" {
		return dialAddr(ctx, t.network, t.addrs[0], t.tls)
	}
	addr, err := t.findPrimary(ctx)
	if err != nil {
		return nil, err
	}
	e.addr.Store(&addr)
	return dialAddr(ctx, "tcp", addr, t.tls)
}

// learn takes what the server says of itself.
func (e *Engine) learn(in info) (moved func(int64), err error) {
	now := time.Now()
	e.heard.Store(now.UnixNano())
	e.linked.Store(in["master_link_status"] == "up")
	if in.replica() && !e.member {
		if e.target.master != "" { // it wasn't told yet that it is the primary, or it isn't any more
			return nil, fmt.Errorf("%s: %w", e.Addr(), ErrReplica)
		}
		e.publish(State{Reason: fmt.Sprintf("the server at %s is a replica of %s:%s now; promote it (REPLICAOF NO ONE), or attach its primary",
			e.Addr(), in["master_host"], in["master_port"])})
		return e.moved, nil // a replica says no offsets, and may be promoted
	}
	e.publish(State{Primary: !in.replica(), Usable: true})
	id, offset := in.history()
	h := e.hist.Load()
	for h.id != id {
		next := &history{id: id}
		next.offset.Store(offset)
		if e.hist.CompareAndSwap(h, next) {
			h = next
			break
		}
		h = e.hist.Load()
	}
	h.raise(offset)
	return e.moved, nil
}

// moved takes the offset behind a write. A server gets a new name for its history when its first replica comes, under
// which it goes on, so it isn't the connection that tells which history it is.
func (e *Engine) moved(offset int64) { e.hist.Load().raise(offset) }

func (e *Engine) publish(st State) {
	old := e.state.Load()
	if old.Primary == st.Primary && old.Usable == st.Usable && old.Reason == st.Reason {
		return
	}
	e.state.Store(&st)
	if st.Usable {
		e.opt.Log.Info("server is usable", "addr", e.Addr())
	} else {
		e.opt.Log.Warn("server isn't usable", "reason", st.Reason)
	}
}

// State says whether the server can be used. It is cheap.
func (e *Engine) State() State {
	st := *e.state.Load()
	if t := e.heard.Load(); t != 0 {
		st.LastHeard = time.Unix(0, t)
	}
	return st
}

// Position is at or after everything that was answered: it is cheap.
func (e *Engine) Position() (replid string, offset int64) {
	h := e.hist.Load()
	return h.id, h.offset.Load()
}

// Wait returns nil once the server has come to offset of this history. A primary has, unless the history is another.
func (e *Engine) Wait(ctx context.Context, replid string, offset int64) error {
	for {
		h := e.hist.Load()
		switch {
		case h.id != "" && h.id != replid:
			return ErrOtherHistory
		case h.id == replid && h.offset.Load() >= offset:
			return nil
		}
		e.probeSoon()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *Engine) probeSoon() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// heartbeat is a message on a shard channel that nobody listens to. The server puts it into its replication stream,
// where it tells replicas that the link is alive: an idle server's own PING comes every 10 s only.
var heartbeat = []string{"SPUBLISH", "respmesh:alive", ""}

// watch keeps the state current.
func (e *Engine) watch(ctx context.Context) {
	tick := time.NewTicker(e.opt.ProbeEvery)
	defer tick.Stop()
	var p *pipe
	for {
		var err error
		if p == nil || !p.alive() {
			p, err = e.srv.connect(2, false)
		}
		if err == nil {
			err = e.probe(ctx, p)
		}
		again := time.Duration(0)
		if err != nil && ctx.Err() == nil {
			if p != nil {
				p.close(err)
				p = nil
			}
			e.publish(State{Reason: err.Error()})
			again = backoffMax / 10
		}
		now := time.Now()
		e.srv.closeStalled(now)
		var soon <-chan time.Time
		if again > 0 {
			soon = time.After(again)
		}
		var gone chan struct{}
		if p != nil {
			gone = p.done
		}
		select {
		case <-tick.C:
		case <-e.kick:
		case <-soon:
		case <-gone:
			p = nil
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) probe(ctx context.Context, p *pipe) error {
	ctx, cancel := context.WithTimeout(ctx, e.opt.StallTimeout)
	defer cancel()
	if e.target.master != "" {
		if addr, err := e.target.findPrimary(ctx); err == nil && addr != e.Addr() {
			e.opt.Log.Info("primary has moved", "from", e.Addr(), "to", addr)
			e.srv.drop(errMoved)
			return errMoved
		}
	}
	if e.relays.Load() > 0 {
		if _, err := ask(ctx, p, heartbeat...); err != nil {
			return err
		}
	}
	began := time.Now()
	f, err := ask(ctx, p, "INFO", "replication")
	if old, now := e.rtt.Load(), int64(time.Since(began)); err == nil && old > 0 {
		e.rtt.Store((7*old + now) / 8)
	} else if err == nil {
		e.rtt.Store(now)
	}
	if err != nil {
		return fmt.Errorf("%s doesn't answer: %w", e.Addr(), err)
	}
	if f.IsError() { // BUSY, LOADING, an ACL: it lives
		e.heard.Store(time.Now().UnixNano())
		return nil
	}
	_, err = e.learn(parseInfo(f.Text()))
	if errors.Is(err, ErrReplica) {
		e.srv.drop(err)
	}
	return err
}

// Check connects and says what speaks against using the server, in a sentence for people.
func (e *Engine) Check(ctx context.Context) error {
	in, err := e.info(ctx)
	switch {
	case err != nil:
		return err
	case in.replica():
		return fmt.Errorf("%w of %s:%s; attach its primary, or promote it (REPLICAOF NO ONE)", ErrReplica, in["master_host"], in["master_port"])
	case in["cluster_enabled"] == "1":
		return errors.New("the server is a node of a cluster; attach it with redis+cluster://")
	}
	return nil
}

// info asks for all that INFO says.
func (e *Engine) info(ctx context.Context) (info, error) {
	f, err := e.ask(ctx, "INFO")
	if err != nil {
		return nil, err
	}
	return parseInfo(f.Text()), nil
}

// ask sends a command of the engine's own; an error reply is an error.
func (e *Engine) ask(ctx context.Context, args ...string) (frame.Reply, error) {
	var p *pipe
	var err error
	for range 3 {
		if p, err = e.srv.shared(2, 0, p); err != nil {
			return frame.Reply{}, err
		}
		var f frame.Reply
		f, err = ask(ctx, p, args...)
		if errors.Is(err, errNotSent) {
			continue
		}
		if err == nil && f.IsError() {
			err = fmt.Errorf("the server answers %s with %q", args[0], f.Text())
		}
		return f, err
	}
	return frame.Reply{}, err
}

// where names the server in errors for clients.
func (e *Engine) where() string {
	if e.opt.Region != "" {
		return "primary region " + e.opt.Region
	}
	return "server " + e.Addr()
}

// appendDown answers n commands that were not executed.
func (e *Engine) appendDown(dst []byte, n int) []byte {
	for range n {
		dst = frame.AppendError(dst, "MASTERDOWN "+e.where()+" is unreachable; the command was not executed")
	}
	return dst
}

// appendUnknown answers a command that may have been executed.
func (e *Engine) appendUnknown(dst []byte) []byte {
	return frame.AppendError(dst, "UNKNOWNOUTCOME link to "+e.where()+" was lost after the command was sent")
}

// appendNone answers commands for which there was no connection.
func (e *Engine) appendNone(dst []byte, err error, n int) []byte {
	if !errors.Is(err, errTooMany) {
		return e.appendDown(dst, n)
	}
	for range n {
		dst = frame.AppendError(dst, "ERR max number of connections for transactions and blocking commands reached")
	}
	return dst
}

// eachFrame visits the frames of a reply to several commands.
func eachFrame(raw []byte, visit func(frame.Reply)) {
	r := frame.NewReader(bytes.NewReader(raw))
	var f frame.Reply
	for r.ReadReply(&f) == nil {
		visit(f)
	}
}
