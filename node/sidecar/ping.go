package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// pinger measures one node over a connection that it keeps.
type pinger struct {
	dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

	conn net.Conn
	node string // key of the node that conn leads to
	to   netip.AddrPort
}

// maxPong bounds the reply. An error that asks for a password is one too, and short.
const maxPong = 512

// ping sends a PING and waits for a reply, whatever it is: who answers is alive. A connection that was ended is opened again,
// since nodes end those that don't log in.
func (p *pinger) ping(ctx context.Context, node string, to netip.AddrPort, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if p.conn != nil && (p.node != node || p.to != to) {
		p.close()
	}
	for {
		kept := p.conn != nil
		if !kept {
			conn, err := p.dial(ctx, to)
			if err != nil {
				return 0, silence(err, timeout)
			}
			p.conn, p.node, p.to = conn, node, to
		}
		rtt, err := p.exchange(ctx)
		if err == nil {
			return rtt, nil
		}
		p.close()
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || !kept {
			return 0, silence(err, timeout)
		}
	}
}

func silence(err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no answer within %v", timeout.Round(time.Millisecond))
	}
	return err
}

func (p *pinger) exchange(ctx context.Context) (time.Duration, error) {
	conn := p.conn // the function below may run after this one has returned
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	began := time.Now()
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return 0, err
	}
	var buf [maxPong]byte
	for n := 0; ; {
		k, err := conn.Read(buf[n:])
		n += k
		switch {
		case n > 0 && buf[n-1] == '\n':
			return time.Since(began), nil
		case err != nil:
			return 0, err
		case n == len(buf):
			return 0, errors.New("what answers isn't a node")
		}
	}
}

func (p *pinger) close() {
	if p.conn != nil {
		reset(p.conn)
		p.conn = nil
	}
}

// reset ends a connection without its unsent rest, so that the other end learns at once that it is broken.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	c.Close()
}
