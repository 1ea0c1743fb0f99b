package redis

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Fence holds up writes while a database changes its engine.
type Fence interface {
	// Fence returns when no write of a client is under way or accepted any more.
	Fence()
	// Unfence undoes it: the move has failed, and the database goes on where it was.
	Unfence()
}

// Embedded is the side of a move that is the embedded engine, as primary.
type Embedded interface {
	Fence
	// ServeConn serves a replica: psync.Primary's.
	ServeConn(ctx context.Context, conn net.Conn, r *frame.Reader) error
	Position() (replid string, offset int64)
	// Wait returns nil at once for what was part of the history.
	Wait(ctx context.Context, replid string, offset int64) error
}

// Follower is the embedded engine that a database moves to.
type Follower interface {
	// Follow begins to follow the server that dial connects to, and returns.
	Follow(dial func(ctx context.Context) (net.Conn, error)) error
	// Wait returns nil once the position has been applied.
	Wait(ctx context.Context, replid string, offset int64) error
	Position() (replid string, offset int64)
	// Lead ends following: the copy takes writes when it returns.
	Lead(ctx context.Context) error
}

// MoveOptions are of both directions.
type MoveOptions struct {
	ID string // of the database, to know its own traces in a server
	// Commit makes the move count, when the target has all data and before it takes writes. After an error the move is undone,
	// unless that is ErrUncertain.
	Commit       func(ctx context.Context) error
	Overwrite    bool          // the target may hold data, which will be gone
	SyncTimeout  time.Duration // for the copy of the data; default 1 h
	FenceTimeout time.Duration // how long writes may be held up; default 5 s
	// Listen is the host:port at which the server reaches this process; default: where the connection to it comes from,
	// any port.
	Listen   string
	Progress func(Progress)
	Log      *slog.Logger
}

// Progress tells how far a move is.
type Progress struct {
	Phase string // "copying", "catching up", "switching"
	Left  int64  // bytes
}

func (o MoveOptions) withDefaults() MoveOptions {
	def(&o.SyncTimeout, time.Hour)
	def(&o.FenceTimeout, 5*time.Second)
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Commit == nil {
		o.Commit = func(context.Context) error { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

const (
	movePoll = 10 * time.Millisecond
	nearby   = 1 << 20 // bytes of lag at which writes are held up for the rest
	noWrites = "1000000"
)

// ToServer moves a database from the embedded engine to a server: that follows as a replica until it has everything, writes
// are held up for the rest, and it is promoted. When it returns nil the server is the primary and from must not take
// writes any more; after an error the database is where it was, and the server as it was but for what Overwrite allowed.
func ToServer(ctx context.Context, from Embedded, to *Engine, opt MoveOptions) error {
	opt = opt.withDefaults()
	ours, err := leftByUs(ctx, from, to, opt)
	if err != nil {
		return fmt.Errorf("check the target: %w", err)
	}
	if err := to.Check(ctx); err != nil {
		return fmt.Errorf("check the target: %w", err)
	}
	in, err := to.info(ctx)
	if err != nil {
		return fmt.Errorf("check the target: %w", err)
	}
	if n := in.keys(); n > 0 && !opt.Overwrite && !ours {
		return fmt.Errorf("%w: %d keys; empty it, or say that they may be overwritten", ErrNotEmpty, n)
	}
	m := &toServer{from: from, to: to, opt: opt, secret: opt.marker() + rand.Text()}
	stop, err := m.listen(ctx)
	if err != nil {
		return fmt.Errorf("listen for the target: %w", err)
	}
	defer stop()
	if err := m.run(ctx); errors.Is(err, ErrUncertain) {
		return err
	} else if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return errors.Join(err, m.undo(undo))
	}
	return nil
}

// leftByUs makes a target that an interrupted move of the same database has left as a replica a primary again, empty. It tells
// whether the data on a primary are what such a move has copied, or what the database has left there, and nobody has written to
// them since.
func leftByUs(ctx context.Context, from Embedded, to *Engine, opt MoveOptions) (bool, error) {
	in, err := to.info(ctx)
	if err != nil {
		return false, err
	}
	f, err := to.ask(ctx, "CONFIG", "GET", "masterauth")
	if err != nil {
		return false, ignoreReply(f, err)
	}
	if pair := texts(f); len(pair) != 2 || !strings.HasPrefix(pair[1], opt.marker()) {
		return false, nil
	}
	if in.replica() {
		for _, c := range [][]string{{"REPLICAOF", "NO", "ONE"}, {"FLUSHALL"}} {
			if _, err := to.ask(ctx, c...); err != nil {
				return false, err
			}
		}
		return true, to.probeNow(ctx)
	}
	if pair, err := to.config(ctx, "min-replicas-to-write"); err != nil || pair == noWrites {
		return err == nil, err // FromServer has left it so
	}
	upTo := in.int("second_repl_offset") - 1
	if in.int("master_repl_offset") != upTo {
		return false, nil
	}
	now, cancel := context.WithTimeout(ctx, movePoll)
	defer cancel()
	return from.Wait(now, in["master_replid2"], upTo) == nil, nil
}

// config is the value of one setting.
func (e *Engine) config(ctx context.Context, name string) (string, error) {
	f, err := e.ask(ctx, "CONFIG", "GET", name)
	if pair := texts(f); err == nil && len(pair) == 2 {
		return pair[1], nil
	}
	return "", err
}

// probeNow learns what the server is.
func (e *Engine) probeNow(ctx context.Context) error {
	in, err := e.info(ctx)
	if err == nil {
		_, err = e.learn(in)
	}
	return err
}

type toServer struct {
	from   Embedded
	to     *Engine
	opt    MoveOptions
	secret string
	ln     net.Listener
	auth   string // the server's masterauth before
}

// listen serves the server's replica link, and nobody else's.
func (m *toServer) listen(ctx context.Context) (stop func(), err error) {
	addr := m.opt.Listen
	if addr == "" {
		if addr, err = m.localAddr(ctx); err != nil {
			return nil, err
		}
	}
	if m.ln, err = net.Listen("tcp", addr); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := m.ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { m.serve(ctx, conn) })
		}
	})
	return func() {
		cancel()
		m.ln.Close()
		wg.Wait()
	}, nil
}

// localAddr is where the server can reach this process: over loopback, or where we come from when we connect.
func (m *toServer) localAddr(ctx context.Context) (string, error) {
	if m.to.target.network == "unix" {
		return "127.0.0.1:0", nil
	}
	conn, err := m.to.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return net.JoinHostPort(host, "0"), err
}

// serve lets in who knows the secret.
func (m *toServer) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r := frame.NewReader(conn)
	r.SetLimits(frame.PreAuthLimits)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var c frame.Command
	for {
		if err := r.ReadCommand(&c); err != nil {
			return
		}
		if !command.EqualFold(c.Args[0], "auth") {
			conn.Write(frame.AppendError(nil, "NOAUTH Authentication required."))
			continue
		}
		if subtle.ConstantTimeCompare(c.Args[len(c.Args)-1], []byte(m.secret)) != 1 {
			conn.Write(frame.AppendError(nil, "WRONGPASS invalid username-password pair or user is disabled."))
			return
		}
		conn.Write(frame.AppendSimple(nil, "OK"))
		break
	}
	conn.SetReadDeadline(time.Time{})
	r.SetLimits(frame.DefaultLimits)
	if err := m.from.ServeConn(ctx, conn, r); err != nil && ctx.Err() == nil {
		m.opt.Log.Warn("target's replica link ended", "error", err)
	}
}

func (m *toServer) run(ctx context.Context) error {
	host, port, err := net.SplitHostPort(m.ln.Addr().String())
	if err != nil {
		return err
	}
	if f, err := m.to.ask(ctx, "CONFIG", "GET", "masterauth"); err == nil {
		if pair := texts(f); len(pair) == 2 {
			if m.auth = pair[1]; strings.HasPrefix(m.auth, m.opt.marker()) {
				m.auth = "" // left by a move that was interrupted
			}
		}
	}
	for _, c := range [][]string{
		{"CONFIG", "SET", "masterauth", m.secret, "masteruser", ""},
		{"REPLICAOF", host, port},
	} {
		if _, err := m.to.ask(ctx, c...); err != nil {
			return fmt.Errorf("have the target follow: %w", err)
		}
	}
	sctx, cancel := context.WithTimeout(ctx, m.opt.SyncTimeout)
	defer cancel()
	if err := m.follow(sctx, "catching up", nearby); err != nil {
		return fmt.Errorf("copy the data: %w", err)
	}
	m.opt.Progress(Progress{Phase: "switching"})
	m.from.Fence()
	fctx, cancel := context.WithTimeout(ctx, m.opt.FenceTimeout)
	defer cancel()
	err = m.follow(fctx, "switching", 0)
	if err == nil {
		_, err = m.to.ask(fctx, "REPLICAOF", "NO", "ONE")
	}
	if err == nil {
		err = m.promoted(fctx)
	}
	if err == nil {
		err = m.opt.Commit(ctx)
	}
	if errors.Is(err, ErrUncertain) {
		return fmt.Errorf("switch: %w", err)
	}
	if err != nil {
		m.from.Unfence()
		return fmt.Errorf("switch: %w", err)
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.opt.FenceTimeout)
	defer cancel()
	if err := m.restore(rctx); err != nil {
		m.opt.Log.Warn("target's configuration wasn't put back", "error", err)
	}
	return nil
}

// follow waits until the server is at most lag bytes behind, in our history.
func (m *toServer) follow(ctx context.Context, phase string, lag int64) error {
	tick := time.NewTicker(movePoll)
	defer tick.Stop()
	var last info
	for {
		replid, offset := m.from.Position()
		f, err := m.to.ask(ctx, "INFO", "replication")
		if err == nil {
			last = parseInfo(f.Text())
			id, at := last.history()
			switch {
			case !last.replica():
				return errors.New("somebody has promoted the target meanwhile")
			case last["master_sync_in_progress"] == "1":
				m.opt.Progress(Progress{Phase: "copying", Left: max(0, last.int("master_sync_left_bytes"))})
			case last["master_link_status"] == "up" && id == replid:
				m.opt.Progress(Progress{Phase: phase, Left: max(0, offset-at)})
				if offset-at <= lag {
					return nil
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the target didn't get so far in time (link %s): %w", last["master_link_status"], errors.Join(ctx.Err(), err))
		}
	}
}

// promoted waits until the engine knows the server as a primary.
func (m *toServer) promoted(ctx context.Context) error {
	for {
		f, err := m.to.ask(ctx, "INFO", "replication")
		if err != nil {
			return err
		}
		in := parseInfo(f.Text())
		if !in.replica() {
			_, err := m.to.learn(in)
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// restore puts back what was changed for the move, and lets the server take writes if an earlier move left it without.
func (m *toServer) restore(ctx context.Context) error {
	_, err := m.to.ask(ctx, "CONFIG", "SET", "masterauth", m.auth)
	f, err2 := m.to.ask(ctx, "CONFIG", "GET", "min-replicas-to-write")
	if pair := texts(f); err2 == nil && len(pair) == 2 && pair[1] == noWrites {
		_, err2 = m.to.ask(ctx, "CONFIG", "SET", "min-replicas-to-write", "0")
	}
	return errors.Join(err, err2)
}

// undo makes the server a primary of its own again, empty if it was.
func (m *toServer) undo(ctx context.Context) error {
	_, err := m.to.ask(ctx, "REPLICAOF", "NO", "ONE")
	if err == nil && !m.opt.Overwrite {
		_, err = m.to.ask(ctx, "FLUSHALL", "ASYNC")
	}
	if err != nil {
		return fmt.Errorf("put the target back: %w", err)
	}
	return m.restore(ctx)
}

// marker begins the secret that a target has as its masterauth while a database is on its way to it, so that a move that was
// interrupted can be told from a server that follows something else.
func (o MoveOptions) marker() string { return "respmesh:" + o.ID + ":" }

// Heal puts back what an interrupted move of a database has left in the settings of its server. The caller knows that the
// data are on it. Where the server doesn't let its settings be changed nothing was.
func (e *Engine) Heal(ctx context.Context, id string) error {
	f, err := e.ask(ctx, "CONFIG", "GET", "min-replicas-to-write")
	if err != nil {
		return ignoreReply(f, err)
	}
	if pair := texts(f); len(pair) == 2 && pair[1] == noWrites {
		if f, err = e.ask(ctx, "CONFIG", "SET", "min-replicas-to-write", "0"); err != nil {
			return ignoreReply(f, err)
		}
	}
	if f, err = e.ask(ctx, "CONFIG", "GET", "masterauth"); err != nil {
		return ignoreReply(f, err)
	}
	if pair := texts(f); len(pair) == 2 && strings.HasPrefix(pair[1], MoveOptions{ID: id}.marker()) {
		f, err = e.ask(ctx, "CONFIG", "SET", "masterauth", "")
	}
	return ignoreReply(f, err)
}

// ignoreReply leaves errors that aren't the server's answer.
func ignoreReply(f frame.Reply, err error) error {
	if f.IsError() {
		return nil
	}
	return err
}

// FromServer moves a database from a server to the embedded engine: that follows until it has everything, the server
// holds up writes for the rest, and the copy leads. From then on the server refuses writes, so that nobody who still uses
// it loses any. fence, if it isn't nil, is for the clients of this mesh: they then aren't told of it. After an error
// the database is where it was.
func FromServer(ctx context.Context, from *Engine, to Follower, fence Fence, opt MoveOptions) error {
	opt = opt.withDefaults()
	if err := from.Check(ctx); err != nil {
		return fmt.Errorf("check the source: %w", err)
	}
	if err := to.Follow(from.Dial); err != nil {
		return fmt.Errorf("follow the source: %w", err)
	}
	sctx, cancel := context.WithTimeout(ctx, opt.SyncTimeout)
	defer cancel()
	if err := catchUp(sctx, from, to, opt); err != nil {
		return fmt.Errorf("copy the data: %w", err)
	}
	opt.Progress(Progress{Phase: "switching"})
	if fence != nil {
		fence.Fence()
	}
	fctx, cancel := context.WithTimeout(ctx, opt.FenceTimeout)
	defer cancel()
	err := takeOver(fctx, from, to, opt)
	if err == nil {
		err = opt.Commit(ctx)
	}
	if errors.Is(err, ErrUncertain) {
		return fmt.Errorf("switch: %w", err)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), opt.FenceTimeout)
	defer cancel()
	if err != nil && fence != nil {
		defer fence.Unfence()
	}
	if err != nil {
		if _, e := from.ask(undo, "CONFIG", "SET", "min-replicas-to-write", "0"); e != nil {
			opt.Log.Warn("source may go on refusing writes", "error", e)
		}
		err = fmt.Errorf("switch: %w", err)
	}
	_, e := from.ask(undo, "CLIENT", "UNPAUSE")
	if e != nil {
		opt.Log.Warn("source holds up writes for a few seconds more", "error", e)
	}
	return err
}

// takeOver is what happens while the source holds up writes.
func takeOver(ctx context.Context, from *Engine, to Follower, opt MoveOptions) error {
	if _, err := from.ask(ctx, "CLIENT", "PAUSE", strconv.FormatInt(opt.FenceTimeout.Milliseconds(), 10), "WRITE"); err != nil {
		return err
	}
	f, err := from.ask(ctx, "INFO", "replication")
	if err != nil {
		return err
	}
	in := parseInfo(f.Text())
	if in.replica() {
		return ErrReplica
	}
	replid, offset := in.history()
	if err := to.Wait(ctx, replid, offset); err != nil {
		return fmt.Errorf("the copy didn't get so far in time: %w", err)
	}
	// Should the pause end before all is done, and for who goes on using the server.
	if _, err := from.ask(ctx, "CONFIG", "SET", "min-replicas-to-write", noWrites); err != nil {
		opt.Log.Warn("source can't be kept from taking writes of others", "error", err)
	} else if auth, err := from.config(ctx, "masterauth"); err == nil && auth == "" {
		if _, err := from.ask(ctx, "CONFIG", "SET", "masterauth", opt.marker()+"left"); err != nil {
			opt.Log.Warn("source isn't marked as left", "error", err)
		}
	}
	return to.Lead(ctx)
}

// catchUp waits until the follower is in the source's history, and near its end.
func catchUp(ctx context.Context, from *Engine, to Follower, opt MoveOptions) error {
	tick := time.NewTicker(movePoll)
	defer tick.Stop()
	for {
		f, err := from.ask(ctx, "INFO", "replication")
		if err == nil {
			replid, offset := parseInfo(f.Text()).history()
			if id, at := to.Position(); id == replid {
				opt.Progress(Progress{Phase: "catching up", Left: max(0, offset-at)})
				if offset-at <= nearby {
					return nil
				}
			} else {
				opt.Progress(Progress{Phase: "copying"})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
