package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is a machine of the lab: a network namespace with an /etc/resolv.conf of its own.
type Host struct {
	Name   string
	Region string // whose network it is in
	Addr   netip.Addr
	lab    *Lab
}

// nobody is who programs run as that need no privilege.
const nobody = 65534

// Namespace is what `ip netns` knows it by.
func (h *Host) Namespace() string { return namespace(h.lab.ID, h.Name) }

// Command is a program on this host.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.Namespace()}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(h.lab.Dir, "bin")+":"+os.Getenv("PATH"), "HOME="+h.lab.Dir)
	cmd.WaitDelay = time.Second
	return cmd
}

// unprivileged makes a command one that nobody runs.
func unprivileged(args ...string) []string {
	return append([]string{"setpriv", fmt.Sprint("--reuid=", nobody), fmt.Sprint("--regid=", nobody), "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"}, args...)
}

// Run runs a program on this host and gives what it prints.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	return run(h.Command(ctx, args...))
}

func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), err
}

// Dial connects from this host.
func (h *Host) Dial(ctx context.Context, d net.Dialer, to netip.AddrPort) (c net.Conn, err error) {
	err = h.inside(func() (err error) {
		c, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

// inside runs a function on a thread that is in the host's network namespace meanwhile. Sockets belong to it that the function
// itself opens, not those of goroutines that it starts.
func (h *Host) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := enter(filepath.Join("/run/netns", h.Namespace()))
		if err == nil {
			err = f()
			if berr := back(); berr != nil {
				done <- errors.Join(err, berr)
				return // still locked: the thread ends with this goroutine
			}
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// enter puts the thread into a network namespace; back leaves it again.
func enter(path string) (back func() error, err error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	ns, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	if err := errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close()); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return func() error { return errors.Join(unix.Setns(int(own.Fd()), unix.CLONE_NEWNET), own.Close()) }, nil
}

// resolvConf is the host's /etc/resolv.conf.
func (h *Host) resolvConf() string { return filepath.Join(perHost, h.Namespace(), "resolv.conf") }
