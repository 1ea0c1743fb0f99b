package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"respmesh/resp/frame"
)

// dialAddr opens a connection; c is for TLS, nil for none.
func dialAddr(ctx context.Context, network, addr string, c *tls.Config) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5}}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	if c == nil {
		return conn, nil
	}
	if c.ServerName == "" {
		c = c.Clone()
		c.ServerName, _, _ = net.SplitHostPort(addr)
	}
	secure := tls.Client(conn, c)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return secure, nil
}

// greeting is what a connection begins with.
type greeting struct {
	user, pass string
	proto      int
	readonly   bool // a cluster's replica is to be read
	info       bool // the server is to say what it is
	member     bool // of a cluster
}

// greet brings a new connection into its state. The context's end closes the connection.
func greet(ctx context.Context, conn net.Conn, g greeting) (*frame.Reader, info, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var out []byte
	var steps []string
	step := func(args ...string) {
		out = frame.AppendCommandString(out, args...)
		steps = append(steps, args[0])
	}
	switch {
	case g.user != "":
		step("AUTH", g.user, g.pass)
	case g.pass != "":
		step("AUTH", g.pass)
	}
	if g.proto == 3 {
		step("HELLO", "3")
	}
	if g.readonly {
		step("READONLY")
	}
	if g.info {
		step("INFO", "replication")
		step("PING") // INFO is answered while the server loads its data, this isn't
	}
	if len(steps) == 0 {
		step("PING")
	}
	r := frame.NewReader(conn)
	if _, err := conn.Write(out); err != nil {
		return nil, nil, fmt.Errorf("greet the server: %w", err)
	}
	var in info
	for _, s := range steps {
		var f frame.Reply
		if err := r.ReadReply(&f); err != nil {
			return nil, nil, fmt.Errorf("greet the server: %w", err)
		}
		if f.IsError() && (s == "AUTH" || s == "HELLO" || s == "READONLY" || isNoAuth(f)) {
			return nil, nil, fmt.Errorf("the server refuses %s: %s", s, f.Text())
		}
		if s == "PING" && bytes.HasPrefix(f.Raw, []byte("-LOADING")) {
			return nil, nil, errLoading
		}
		if s == "INFO" && !f.IsError() { // an ACL may forbid it
			in = parseInfo(f.Text())
		}
	}
	if !stop() {
		return nil, nil, ctx.Err()
	}
	return r, in, nil
}

func isNoAuth(f frame.Reply) bool { return len(f.Text()) > 6 && string(f.Text()[:6]) == "NOAUTH" }
