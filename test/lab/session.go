package lab

import (
	"context"
	"net"
	"net/netip"
	"time"

	"respmesh/test/dev"
)

// Session is a client's connection to a database.
type Session struct{ *dev.Client }

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
	c, err := dev.NewClient(conn, d.Password)
	if err != nil {
		return nil, err
	}
	return &Session{c}, nil
}

// Reaches connects, without patience: a kernel sends a lost SYN again after a second, then two, and so on.
func (h *Host) Reaches(ctx context.Context, d Database) error {
	conn, err := h.Dial(ctx, net.Dialer{Timeout: 250 * time.Millisecond}, netip.AddrPortFrom(d.Address, redisPort))
	if err != nil {
		return err
	}
	return conn.Close()
}
