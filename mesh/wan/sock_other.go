//go:build !linux

package wan

import (
	"net"
	"syscall"
)

const msgTruncated = syscall.MSG_TRUNC

func growBuffers(c *net.UDPConn, size int) {
	_ = c.SetReadBuffer(size)
	_ = c.SetWriteBuffer(size)
}
