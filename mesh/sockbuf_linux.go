package mesh

import (
	"net"

	"golang.org/x/sys/unix"
)

// growBuffers makes the socket's buffers as large as the kernel allows: with
// CAP_NET_ADMIN beyond net.core.rmem_max. Less only costs speed.
func growBuffers(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, opt := range [...]int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, socketBuffer)
		}
	})
}
