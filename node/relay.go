package node

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	maxRelayed = 256             // connections that a relay carries at once
	relayDial  = 3 * time.Second // to the other side
)

// dialKernel connects to an address of this host's own network.
func dialKernel(addr string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// relay carries TCP connections between the mesh and this host's own network: what runs here, such as etcd, is reached from
// the other nodes so, and reaches them, whatever tunnel they have.
type relay struct {
	listener net.Listener
	dial     func(ctx context.Context) (net.Conn, error)
	log      *slog.Logger
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	slots    chan struct{}
}

func startRelay(l net.Listener, dial func(ctx context.Context) (net.Conn, error), log *slog.Logger) *relay {
	r := &relay{listener: l, dial: dial, log: log, slots: make(chan struct{}, maxRelayed)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.accept)
	return r
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			if r.ctx.Err() == nil {
				r.log.Error("relay stopped", "from", r.listener.Addr(), "err", err)
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
	dial, cancel := context.WithTimeout(r.ctx, relayDial)
	to, err := r.dial(dial)
	cancel()
	if err != nil {
		r.log.Debug("relay: no connection", "from", r.listener.Addr(), "err", err)
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
