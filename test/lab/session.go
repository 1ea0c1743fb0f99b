package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/tidwall/resp"
)

// Session is a client's connection to a database.
type Session struct {
	conn net.Conn
	r    *resp.Reader
}

const (
	connectWithin = 5 * time.Second
	redisPort     = 6379
	controlPort   = 17379 // of the control API at an org's resolver
)

// Session connects from a host to a database by its private address, and authenticates.
func (h *Host) Session(ctx context.Context, d Database) (*Session, error) {
	conn, err := h.Dial(ctx, net.Dialer{Timeout: connectWithin}, netip.AddrPortFrom(d.Address, redisPort))
	if err != nil {
		return nil, err
	}
	s := &Session{conn: conn, r: resp.NewReader(conn)}
	if _, err := s.Do("AUTH", d.Password); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

// Reaches connects, without patience: a kernel sends a lost SYN again after a second, then two, and so on.
func (h *Host) Reaches(ctx context.Context, d Database) error {
	conn, err := h.Dial(ctx, net.Dialer{Timeout: 250 * time.Millisecond}, netip.AddrPortFrom(d.Address, redisPort))
	if err != nil {
		return err
	}
	return conn.Close()
}

// Close ends the connection.
func (s *Session) Close() error { return s.conn.Close() }

// Reply is an error reply of the server; the connection goes on.
type Reply string

func (r Reply) Error() string { return string(r) }

// doWithin is longer than anything in the mesh may take to answer.
const doWithin = 20 * time.Second

// Do sends a command and gives its reply as text. Error replies are of type Reply; other errors are the connection's.
func (s *Session) Do(args ...string) (string, error) { return s.DoWithin(doWithin, args...) }

// DoWithin is Do with another time limit.
func (s *Session) DoWithin(limit time.Duration, args ...string) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(s.conn, b.String()); err != nil {
		return "", err
	}
	v, _, err := s.r.ReadValue()
	switch {
	case err != nil:
		return "", err
	case v.Type() == resp.Error:
		return "", Reply(v.Error().Error())
	case v.IsNull():
		return "(nil)", nil
	}
	return v.String(), nil
}
