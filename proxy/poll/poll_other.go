//go:build !linux

package poll

import "net"

// Loop isn't there on this system: each connection has a goroutine of its own.
type Loop struct{}

func newLoop() (*Loop, error) { return new(Loop), nil }

func (*Loop) close() {}

func (*Loop) adopt(net.Conn, Handler) (*Conn, bool) { return nil, false }

// Conn is never made on this system.
type Conn struct{ net.Conn }

// Start does nothing.
func (c *Conn) Start() {}

// Yield does nothing.
func (c *Conn) Yield() {}

// Block does nothing.
func (c *Conn) Block(bool) {}

// TryWrite does nothing.
func (c *Conn) TryWrite([]byte) (int, error) { return 0, ErrWait }
