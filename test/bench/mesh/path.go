package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"respmesh/mesh/wan"
)

// path is what lies between the two hosts: a cable, or a network that delays and loses.
type path struct {
	rtt  time.Duration
	loss float64 // each way, from 0 to 1

	congestion string // the kernel's control of it
}

func (p path) far() bool { return p.rtt > 0 || p.loss > 0 }

func (p path) String() string {
	if !p.far() {
		return "A cable; the kernel uses " + p.congestion
	}
	return fmt.Sprintf("%v round trip, %g %% loss each way; the kernel uses %s", p.rtt, 100*p.loss, p.congestion)
}

// middle is the network between: a namespace with a router, that this process is.
type middle struct {
	name   string
	router *wan.Router
}

const wanDevice = "rmbwan"

// makeMiddle puts it between the hosts. What comes from a host goes to the router, and what comes from the router goes where it
// belongs.
func makeMiddle(ctx context.Context, p path, hosts []*host) (_ *middle, err error) {
	m := &middle{name: fmt.Sprintf("rmbenchw-%d", os.Getpid())}
	if err := ip(ctx, "netns", "add", m.name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close(ctx))
		}
	}()
	device, err := tunInside(m.name)
	if err != nil {
		return nil, err
	}
	m.router = wan.NewRouter(device, func(a netip.Addr) string {
		for _, h := range hosts {
			if a.String() == outsideAddr(h.n) {
				return h.name
			}
		}
		return ""
	}, wan.Options{Seed: 1})
	c := wan.Conditions{Delay: p.rtt / 2, Loss: p.loss}
	if err := errors.Join(m.router.Set(hosts[0].name, hosts[1].name, c), m.router.Set(hosts[1].name, hosts[0].name, c)); err != nil {
		return nil, err
	}
	steps := [][]string{
		{"-n", m.name, "link", "set", wanDevice, "txqueuelen", "20000", "up"}, // or bursts are lost here
		{"-n", m.name, "route", "add", "default", "dev", wanDevice, "table", "80"},
		{"netns", "exec", m.name, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf." + wanDevice + ".rp_filter=0"},
	}
	for _, h := range hosts {
		nic := fmt.Sprintf("rmb%d", h.n)
		gateway := strings.TrimSuffix(outsideAddr(h.n), fmt.Sprint(h.n)) + "254"
		steps = append(steps,
			[]string{"link", "add", nic, "netns", h.name, "type", "veth", "peer", "name", nic, "netns", m.name},
			[]string{"-n", h.name, "addr", "add", outsideAddr(h.n) + "/24", "dev", nic},
			[]string{"-n", h.name, "link", "set", nic, "up"},
			[]string{"-n", m.name, "addr", "add", gateway + "/24", "dev", nic},
			[]string{"-n", m.name, "link", "set", nic, "up"},
			[]string{"netns", "exec", m.name, "sysctl", "-qw", "net.ipv4.conf." + nic + ".rp_filter=0"},
			[]string{"-n", m.name, "rule", "add", "iif", nic, "lookup", "80"},
			[]string{"-n", h.name, "route", "add", "default", "via", gateway})
	}
	for _, args := range steps {
		if err := ip(ctx, args...); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *middle) close(ctx context.Context) error {
	var err error
	if m.router != nil {
		err = m.router.Close()
	}
	return errors.Join(err, ip(ctx, "netns", "delete", m.name))
}

// tunInside makes an interface in a namespace, on a thread that is in it meanwhile.
func tunInside(namespace string) (device *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		var ns *os.File
		if ns, err = os.Open(filepath.Join("/run/netns", namespace)); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		device, err = wan.OpenTUN(wanDevice)
	}()
	<-done
	return device, err
}
