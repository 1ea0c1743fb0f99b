package node

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// maxRelayed bounds the connections that a relay carries at once.
const maxRelayed = 256

// relay carries TCP connections from a listener on the mesh to an address of this host: what runs here in the kernel's
// network, such as etcd, is reached from the other nodes so, whatever tunnel they have.
type relay struct {
	listener net.Listener
	to       string
	log      *slog.Logger
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	slots    chan struct{}
}

func startRelay(l net.Listener, to string, log *slog.Logger) *relay {
	r := &relay{listener: l, to: to, log: log, slots: make(chan struct{}, maxRelayed)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.accept)
	return r
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			if r.ctx.Err() == nil {
				r.log.Error("relay stopped", "to", r.to, "err", err)
			}
			return
		}
		select {
		case r.slots <- struct{}{}:
			r.wg.Go(func() {
				defer func() { <-r.slots }()
				r.carry(conn)
			})
		default:
			conn.Close()
		}
	}
}

// carry copies both ways until both have ended.
func (r *relay) carry(from net.Conn) {
	defer from.Close()
	dialer := net.Dialer{Timeout: 2 * time.Second}
	to, err := dialer.DialContext(r.ctx, "tcp", r.to)
	if err != nil {
		r.log.Warn("relay: no connection", "to", r.to, "err", err)
		return
	}
	defer to.Close()
	stop := context.AfterFunc(r.ctx, func() { from.Close(); to.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pipe(to, from) })
	wg.Go(func() { pipe(from, to) })
	wg.Wait()
}

// pipe copies one way, and says that no more comes.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either side may go away at any time
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	to.Close()
}

// close ends all connections and waits for them.
func (r *relay) close() error {
	r.cancel()
	r.listener.Close()
	r.wg.Wait()
	return nil
}
