package proxy

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"respmesh/resp/frame"
)

// peer is a scripted LinkServer whose connections take exactly as many bytes as the test allows.
type peer struct {
	answer func(name string, args [][]byte) []byte // nil: no reply

	mu     sync.Mutex
	stopAt string // a write stops before this…
	extra  int    // …and so many bytes
	seen   []string
	conns  []*gated
}

func (p *peer) dial(context.Context) (net.Conn, error) {
	g := &gated{peer: p, out: make(chan []byte, 1024), closed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, g)
	return g, nil
}

func (p *peer) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.seen...)
}

func (p *peer) saw(name string) bool { return p.count(name) > 0 }

func (p *peer) count(name string) (n int) {
	for _, s := range p.names() {
		if s == name {
			n++
		}
	}
	return n
}

// drop ends all connections.
func (p *peer) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

// gated is the gateway's end of a connection to a peer.
type gated struct {
	peer   *peer
	in     bytes.Buffer
	out    chan []byte
	rest   []byte
	once   sync.Once
	closed chan struct{}
}

func (g *gated) Write(b []byte) (int, error) {
	g.peer.mu.Lock()
	stop, extra := g.peer.stopAt, g.peer.extra
	g.peer.mu.Unlock()
	n := len(b)
	if i := bytes.Index(b, []byte(stop)); stop != "" && i >= 0 {
		n = i + extra
	}
	g.take(b[:n])
	if n < len(b) {
		g.peer.mu.Lock()
		g.peer.seen = append(g.peer.seen, "stopped")
		g.peer.mu.Unlock()
		<-g.closed
		return n, net.ErrClosed
	}
	return n, nil
}

func (g *gated) take(b []byte) {
	g.in.Write(b)
	r := frame.NewReader(bytes.NewReader(bytes.Clone(g.in.Bytes())))
	var c frame.Command
	for r.ReadCommand(&c) == nil {
		g.in.Next(len(c.Raw))
		name := strings.ToLower(string(c.Args[0]))
		var reply []byte
		if name == "respmesh" {
			name = strings.ToLower(string(c.Args[1]))
			reply = []byte("+OK primary one 0\r\n")
			if name == "status" {
				reply = []byte("*5\r\n+primary\r\n:1\r\n+one\r\n:0\r\n:0\r\n")
			}
		} else if g.peer.answer != nil {
			reply = g.peer.answer(name, c.Args)
		}
		g.peer.mu.Lock()
		g.peer.seen = append(g.peer.seen, name)
		g.peer.mu.Unlock()
		if reply != nil {
			g.out <- reply
		}
	}
}

func (g *gated) Read(b []byte) (int, error) {
	if len(g.rest) == 0 {
		select {
		case g.rest = <-g.out:
		case <-g.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(b, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func (g *gated) Close() error                     { g.once.Do(func() { close(g.closed) }); return nil }
func (g *gated) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (g *gated) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (g *gated) SetDeadline(time.Time) error      { return nil }
func (g *gated) SetReadDeadline(time.Time) error  { return nil }
func (g *gated) SetWriteDeadline(time.Time) error { return nil }
