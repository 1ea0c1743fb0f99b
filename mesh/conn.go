package mesh

import (
	"errors"
	"net"
	"os"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// tcpConn and udpConn are gonet's connections with the errors of package net: a deadline that has passed is
// os.ErrDeadlineExceeded, which is how callers tell it from a broken connection. gonet has a type of its own.
type (
	tcpConn struct {
		*gonet.TCPConn
		held
		ep   tcpip.Endpoint
		pace pace
	}
	udpConn struct{ *gonet.UDPConn }
)

func (c *tcpConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	return n, netError(err)
}

func (c *tcpConn) Write(p []byte) (int, error) {
	if len(p) < paceBelow {
		c.pace.wait(c.ep)
	}
	n, err := c.TCPConn.Write(p)
	return n, netError(err)
}

// Close ends the connection gracefully.
func (c *tcpConn) Close() error {
	c.held.release()
	return c.TCPConn.Close()
}

// abort ends it with a reset.
func (c *tcpConn) abort() {
	c.held.release()
	c.ep.Abort()
}

// SetLinger is what [net.TCPConn.SetLinger] is: after 0, Close forgets what wasn't sent or acknowledged yet. Otherwise
// it is still delivered when the path heals, however late.
func (c *tcpConn) SetLinger(sec int) error {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: sec >= 0, Timeout: time.Duration(max(sec, 0)) * time.Second})
	return nil
}

func (c udpConn) Read(p []byte) (int, error) {
	n, err := c.UDPConn.Read(p)
	return n, netError(err)
}

func (c udpConn) Write(p []byte) (int, error) {
	n, err := c.UDPConn.Write(p)
	return n, netError(err)
}

func (c udpConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(p)
	return n, from, netError(err)
}

func (c udpConn) WriteTo(p []byte, to net.Addr) (int, error) {
	n, err := c.UDPConn.WriteTo(p, to)
	return n, netError(err)
}

func netError(err error) error {
	if err == nil {
		return nil
	}
	var op *net.OpError
	var timeout net.Error
	if !errors.As(err, &op) || !errors.As(op.Err, &timeout) || !timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return &net.OpError{Op: op.Op, Net: op.Net, Source: op.Source, Addr: op.Addr, Err: os.ErrDeadlineExceeded}
}
