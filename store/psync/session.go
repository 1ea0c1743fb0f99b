package psync

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/resp/frame"
)

// session is one replica's connection at the primary. The goroutine of ServeConn
// reads; from PSYNC on another one writes.
//
//	Handshake ──PSYNC, can continue──────────────────→ Streaming
//	    └──PSYNC, SYNC──→ Snapshotting ──→ Sending ──→ Streaming
type session struct {
	p      *Primary
	conn   net.Conn
	addr   string // of conn
	cancel context.CancelCauseFunc

	state atomic.Int32
	acked atomic.Int64
	acks  atomic.Int64 // time of the last, Unix nanoseconds
	moved atomic.Int64 // when the snapshot last made progress, Unix nanoseconds
	cur   atomic.Pointer[cursor]

	// Of the handshake, used by the reading goroutine; ip and port not after it.
	authed bool
	psync2 bool
	legacy bool // came by SYNC: such replicas acknowledge nothing
	ip     string
	port   int
	out    []byte
}

// errQuit ends a session without being a failure.
var errQuit = errors.New("replica has quit")

// ServeConn serves a connection that speaks the replica's part of the protocol
// from here on: what r has read of it already comes first. It returns, with the
// connection closed, when the replica goes, doesn't show life, falls too far
// behind, or ctx ends; the error says which.
func (p *Primary) ServeConn(ctx context.Context, conn net.Conn, r *frame.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &session{p: p, conn: conn, addr: addr(conn), cancel: cancel, authed: p.opt.Password == ""}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	var wg sync.WaitGroup
	err := s.read(ctx, r, &wg)
	cancel(err)
	if stop() {
		_ = conn.Close()
	}
	wg.Wait()
	p.remove(s)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the first reason, not the closed connection that followed
	}
	p.opt.Logger.Info("replica disconnected", "addr", addr(conn), "reason", err)
	if errors.Is(err, errQuit) {
		return nil
	}
	return fmt.Errorf("serve replica %s: %w", addr(conn), err)
}

func addr(conn net.Conn) string {
	if a := conn.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// read handles commands until the connection ends.
func (s *session) read(ctx context.Context, r *frame.Reader, wg *sync.WaitGroup) error {
	var c frame.Command
	for {
		ok, err := r.NextCommand(&c)
		if err != nil {
			return err
		}
		if ok {
			if err := s.handle(ctx, c.Args, wg); err != nil {
				_ = s.flush()
				return err
			}
			continue
		}
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.fill(r); err != nil {
			return err
		}
	}
}

// fill reads more, as long as the replica shows life: by sending something, or
// by taking its snapshot.
func (s *session) fill(r *frame.Reader) error {
	deadline := time.Now().Add(s.p.opt.Timeout)
	for {
		if s.legacy {
			deadline = time.Time{}
		}
		if err := s.conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		err := r.Fill()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		deadline = time.Unix(0, s.moved.Load()).Add(s.p.opt.Timeout)
		if !deadline.After(time.Now()) {
			return fmt.Errorf("no sign of life for %v", s.p.opt.Timeout)
		}
	}
}

// flush sends the replies of the handshake. Once the stream runs there are none.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	return err
}

func (s *session) handle(ctx context.Context, args [][]byte, wg *sync.WaitGroup) error {
	name := strings.ToLower(string(args[0]))
	if s.state.Load() != int32(Handshake) {
		if name == "replconf" {
			s.acknowledge(args)
		}
		return nil // servers don't answer their replicas
	}
	if !s.authed && name != "auth" && name != "quit" {
		s.out = frame.AppendError(s.out, "NOAUTH Authentication required.")
		return nil
	}
	switch name {
	case "ping":
		s.out = frame.AppendSimple(s.out, "PONG")
	case "auth":
		s.auth(args)
	case "replconf":
		s.replconf(args)
	case "quit":
		s.out = frame.AppendSimple(s.out, "OK")
		return errQuit
	case "sync", "psync":
		return s.sync(ctx, args, wg)
	default:
		s.out = frame.AppendError(s.out, "ERR only replication commands are served on this connection")
	}
	return nil
}

func (s *session) auth(args [][]byte) {
	if len(args) != 2 && len(args) != 3 {
		s.out = frame.AppendError(s.out, "ERR wrong number of arguments for 'auth' command")
		return
	}
	want := s.p.opt.Password
	if want != "" && subtle.ConstantTimeCompare(args[len(args)-1], []byte(want)) != 1 {
		s.authed = false
		s.out = frame.AppendError(s.out, "WRONGPASS invalid username-password pair or user is disabled.")
		return
	}
	s.authed = true
	s.out = frame.AppendSimple(s.out, "OK")
}

// replconf takes what a replica says about itself. Unknown options come from
// newer servers and mean nothing here.
func (s *session) replconf(args [][]byte) {
	if len(args)%2 == 0 {
		s.out = frame.AppendError(s.out, "ERR syntax error")
		return
	}
	if len(args) == 3 && strings.EqualFold(string(args[1]), historyOption) {
		if s.p.opt.Telling != nil {
			s.p.opt.Telling(s.addr)
		}
		s.out = s.p.appendHistory(s.out, string(args[2]))
		return
	}
	for i := 1; i < len(args); i += 2 {
		value := string(args[i+1])
		switch strings.ToLower(string(args[i])) {
		case "listening-port":
			port, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				s.out = frame.AppendError(s.out, "ERR value is not an integer or out of range")
				return
			}
			s.port = int(port)
		case "ip-address":
			if len(value) > 255 {
				s.out = frame.AppendError(s.out, "ERR REPLCONF ip-address provided by replica instance is too long")
				return
			}
			s.ip = value
		case "capa":
			s.psync2 = s.psync2 || strings.EqualFold(value, "psync2")
		case "ack", "getack": // without an answer
			return
		}
	}
	s.out = frame.AppendSimple(s.out, "OK")
}

// acknowledge takes REPLCONF ACK <offset>.
func (s *session) acknowledge(args [][]byte) {
	if len(args) < 3 || !strings.EqualFold(string(args[1]), "ack") {
		return
	}
	offset, ok := frame.ParseInt(args[2])
	if !ok {
		return
	}
	first := s.acks.Swap(time.Now().UnixNano()) == 0
	if offset > s.acked.Load() || first {
		s.acked.Store(max(offset, s.acked.Load()))
		s.p.acknowledged()
	}
}

func (s *session) info() ReplicaInfo {
	in := ReplicaInfo{
		Addr: s.addr, IP: s.ip, Port: s.port,
		State: FeedState(s.state.Load()), Acked: s.acked.Load(),
	}
	if c := s.cur.Load(); c != nil {
		in.Sent = c.sent.Load()
	}
	if t := s.acks.Load(); t != 0 {
		in.LastAck = time.Unix(0, t)
	}
	return in
}
