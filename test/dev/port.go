package dev

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreePort is a port of the loopback that nobody has now, by TCP and by UDP. It is below those that systems give to outgoing connections, or
// one of them could have it while a process that listens there is started again.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		if err = free(port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}

func free(port int) error {
	for _, host := range []string{"127.0.0.1", "::1"} {
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		t, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			return errors.Join(err, t.Close())
		}
		if err := errors.Join(t.Close(), u.Close()); err != nil {
			return err
		}
	}
	return nil
}
