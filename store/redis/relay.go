package redis

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Dial connects to the server as far as the point where a replica begins its handshake: authenticated.
func (e *Engine) Dial(ctx context.Context) (net.Conn, error) {
	conn, _, err := e.dialRaw(ctx)
	return conn, err
}

func (e *Engine) dialRaw(ctx context.Context) (net.Conn, *frame.Reader, error) {
	conn, err := e.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	g := e.srv.greeting
	g.proto, g.info = 2, e.target.master != ""
	r, in, err := greet(ctx, conn, g)
	if err == nil && in.replica() {
		err = fmt.Errorf("%s: %w", e.Addr(), ErrReplica)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, r, nil
}

// askConn sends a command on a connection that nobody else uses.
func askConn(ctx context.Context, conn net.Conn, r *frame.Reader, args ...string) (frame.Reply, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var f frame.Reply
	if _, err := conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		return f, err
	}
	if err := r.ReadReply(&f); err != nil {
		return f, err
	}
	if f.IsError() {
		return f, fmt.Errorf("it answers %q", f.Text())
	}
	return f, nil
}

// Replicate serves a replica on conn from here on, by what the server says: r is what was read of conn. The server's
// password isn't the replica's business. It returns, with conn closed, when either side goes or ctx ends.
func (e *Engine) Replicate(ctx context.Context, conn net.Conn, r *frame.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	dctx, done := context.WithTimeout(ctx, e.opt.DialTimeout)
	up, in, err := e.dialRaw(dctx)
	done()
	if err != nil {
		conn.Write(frame.AppendError(nil, "NOMASTERLINK "+e.where()+" is unreachable"))
		return fmt.Errorf("relay replica: %w", err)
	}
	defer up.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); up.Close() })
	defer stop()
	if err := e.introduce(conn, r, up, in); err != nil {
		return fmt.Errorf("relay replica's handshake: %w", err)
	}
	e.relays.Add(1)
	defer e.relays.Add(-1)
	e.probeSoon() // a first replica gives the history another name
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(up, r)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(conn, in)
		ended <- err
	}()
	err = <-ended
	conn.Close()
	up.Close()
	<-ended
	if err == nil {
		err = io.EOF
	}
	return fmt.Errorf("relay replica: %w", err)
}

// introduce passes the handshake on, one command at a time: a server refuses PSYNC while it has replies to write.
func (e *Engine) introduce(conn net.Conn, r *frame.Reader, up net.Conn, in *frame.Reader) error {
	var c frame.Command
	for {
		if err := r.ReadCommand(&c); err != nil {
			return err
		}
		switch {
		case command.EqualFold(c.Args[0], "auth"):
			if _, err := conn.Write(frame.AppendSimple(nil, "OK")); err != nil {
				return err
			}
			continue
		case command.EqualFold(c.Args[0], "ping"), command.EqualFold(c.Args[0], "replconf"):
		case command.EqualFold(c.Args[0], "psync"), command.EqualFold(c.Args[0], "sync"):
			_, err := up.Write(c.Raw)
			return err
		default: // the connection has the rights of the engine's user
			if _, err := conn.Write(frame.AppendError(nil, "ERR only replication commands are served on this connection")); err != nil {
				return err
			}
			continue
		}
		if _, err := up.Write(c.Raw); err != nil {
			return err
		}
		line, err := in.ReadLine()
		if err != nil {
			return err
		}
		if _, err := conn.Write(append(append([]byte(nil), line...), "\r\n"...)); err != nil {
			return err
		}
	}
}
