package wan

import (
	"net"

	"golang.org/x/sys/unix"
)

const msgTruncated = unix.MSG_TRUNC

// growBuffers makes the socket's buffers as large as the kernel allows.
func growBuffers(c *net.UDPConn, size int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, opt := range [...]int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, size)
		}
	})
}
