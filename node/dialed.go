package node

import (
	"context"
	"net"
	"sync"
)

// dialed is a listener whose clients are in this process: the control API's streams to a database.
type dialed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newDialed() *dialed {
	return &dialed{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// dial opens a connection that Accept takes the other end of.
func (d *dialed) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case d.conns <- theirs:
		return ours, nil
	case <-d.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (d *dialed) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *dialed) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// Addr implements net.Listener.
func (d *dialed) Addr() net.Addr { return dialedAddr{} }

type dialedAddr struct{}

func (dialedAddr) Network() string { return "stream" }
func (dialedAddr) String() string  { return "api" }

// connect opens a connection to a database's gateway on this node, as a client of its would.
func (n *Node) connect(ctx context.Context, org, name string) (net.Conn, error) {
	db := n.database(org, name)
	if db == nil {
		return nil, errNotServed
	}
	return db.streams.dial(ctx)
}
