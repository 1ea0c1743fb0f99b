package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// A client outside the private network reaches a database as a byte stream through the control API: GET …/connect with
// Upgrade (RFC 9110, 7.8) to this protocol. Behind the answer 101 the connection carries RESP both ways, as if it had
// been made to the node's gateway; the database asks for its password as always.
const connectProtocol = "respmesh-tcp"

// maxStreams bounds the streams that a server carries at a time. They don't count as requests in flight.
const maxStreams = 512

// streamCounts counts the streams of each database. One may have half of those that others leave, so that there is always room for
// another.
type streamCounts struct {
	mu    sync.Mutex
	of    map[string]int
	total int
}

// enter takes a place; leave gives it back.
func (s *streamCounts) enter(db string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if others := s.total - s.of[db]; s.of[db] >= (maxStreams-others)/2 {
		return nil, false
	}
	s.of[db]++
	s.total++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.total--
		if s.of[db]--; s.of[db] == 0 {
			delete(s.of, db)
		}
	}, true
}

// upgrades tells whether a request asks for a stream.
func upgrades(r *http.Request) bool { return r.Header.Get("Upgrade") == connectProtocol }

// connectDatabase carries a stream until one side ends it, or the request's context ends: that of the http.Server.
func connectDatabase(c *call) (any, error) {
	switch {
	case c.s.opt.Connect == nil:
		return nil, failf(CodeUnavailable, "this node has no gateway to databases; ask another")
	case !upgrades(c.Request) || c.ProtoMajor != 1:
		return nil, failf(CodeInvalid, "this is a byte stream: ask for it by HTTP/1.1 with Upgrade: %s", connectProtocol)
	}
	org, name := c.PathValue("org"), c.PathValue("db")
	if _, ok := c.topo.Database(org, name); !ok {
		return nil, failf(CodeNotFound, "database %s/%s isn't there; respmesh redis list shows what is", clip(org), clip(name))
	}
	leave, ok := c.s.ofDatabases.enter(org + "/" + name)
	if !ok {
		return nil, failf(CodeUnavailable, "too many connections to database %s/%s by this node's API; close some, or connect by the private network", org, name)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.Context(), requestTimeout)
	db, err := c.s.opt.Connect(ctx, org, name)
	cancel()
	if err != nil {
		c.s.log.Warn("no connection to the database", "org", org, "database", name, "err", err)
		return nil, failf(CodeUnavailable, "this node can't reach database %s/%s; respmesh redis status says why", org, name)
	}
	defer db.Close()
	client, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Time{}); err != nil { // those of a request
		return nil, nil
	}
	if _, err := fmt.Fprintf(client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", connectProtocol); err != nil {
		return nil, nil // the client went away; there is nobody to tell
	}
	stop := context.AfterFunc(c.Context(), func() { client.Close(); db.Close() })
	defer stop()
	// What was read ahead, then the connection itself: reads through net/http's reader end the request's context at the
	// client's end, but the client may still listen.
	ahead, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	if err != nil {
		return nil, nil
	}
	carry(&bufferedConn{client, io.MultiReader(bytes.NewReader(ahead), client)}, db)
	return nil, nil
}

// carry copies both ways until both have ended. An end is passed on as such: who has said all may still listen.
func carry(a, b net.Conn) {
	pass := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
			return
		}
		to.Close()
	}
	var wg sync.WaitGroup
	wg.Go(func() { pass(b, a) })
	pass(a, b)
	a.Close() // the database is gone: nobody answers from now on
	wg.Wait()
}

// bufferedConn reads first what was read ahead.
type bufferedConn struct {
	net.Conn
	r io.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// CloseWrite ends what we say; the other side may go on.
func (c *bufferedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// Connect opens a byte stream to a database's gateway on the node that answers the API. The context is for the opening
// only.
func (c *Client) Connect(ctx context.Context, org, db string) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s: %w", c.base, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	stream, err := c.upgrade(conn, databasePath(org, db)+"/connect")
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer from %s: %w", c.base, ctx.Err())
		}
		return nil, err
	}
	return stream, nil
}

// dial connects to the API's host. The stream isn't a request of the transport's: that would hide the connection, and
// half of it couldn't be closed.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	host, port := c.base.Hostname(), c.base.Port()
	secure := c.base.Scheme == "https"
	if port == "" {
		port = "80"
		if secure {
			port = "443"
		}
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil || !secure {
		return conn, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t, ok := c.http.Transport.(*http.Transport); ok && t.TLSClientConfig != nil {
		config = t.TLSClientConfig.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	config.NextProtos = []string{"http/1.1"}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

func (c *Client) upgrade(conn net.Conn, path string) (net.Conn, error) {
	req, err := http.NewRequest(http.MethodGet, c.base.String()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	c.headers(req)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", connectProtocol)
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("no answer from %s: %w", c.base, err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it closed the connection")
		}
		return nil, fmt.Errorf("no answer from %s: %w", c.base, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != connectProtocol {
		return nil, c.refusal(resp)
	}
	return &bufferedConn{conn, r}, nil
}
