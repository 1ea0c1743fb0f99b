package node

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// freePortTries bounds the search for a port that is free on all addresses.
const freePortTries = 50

// listenRESP opens the Redis ports: per region the listeners on all addresses.
func listenRESP(o DevOptions) ([][]net.Listener, error) {
	var all [][]net.Listener
	for i := range o.Regions {
		port := 0
		if o.Port != 0 {
			port = o.Port + i
		}
		listeners, err := listenHosts(o.Listen, port)
		if err != nil {
			for _, opened := range all {
				closeAll(opened)
			}
			return nil, listenError("--port", port, err)
		}
		all = append(all, listeners)
	}
	return all, nil
}

// listenError makes a taken or forbidden port the user's to change.
func listenError(flag string, port int, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return Usagef("%s: port %d is in use (%v); choose another, or 0 for a free one", flag, port, err)
	case errors.Is(err, syscall.EACCES):
		return Usagef("%s: port %d needs privileges; choose one above 1023", flag, port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return Usagef("--listen: this machine doesn't have the address: %v", err)
	}
	return fmt.Errorf("listen: %w", err)
}

// listenHosts opens one port on all addresses. Port 0 takes one that is free on each. An address family that the
// machine lacks is left out as long as one address remains.
func listenHosts(hosts []string, port int) ([]net.Listener, error) {
	var err error
	for range freePortTries {
		var listeners []net.Listener
		if listeners, err = listenOnce(hosts, port); err == nil {
			return listeners, nil
		}
		if port != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

func listenOnce(hosts []string, port int) ([]net.Listener, error) {
	var listeners []net.Listener
	var missing error
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
			missing = err
			continue
		}
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, l)
		port = l.Addr().(*net.TCPAddr).Port
	}
	if len(listeners) == 0 {
		return nil, missing
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}
