package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// resolver is the host's DNS configuration.
type resolver interface {
	set(server netip.Addr, domain string) error
	restore() error
}

// resolvMark ends the line that is ours; the resolvers of glibc, musl and Go
// ignore what follows the address.
const resolvMark = "# respmesh: removed when it ends"

// resolvConf is a host whose resolver is configured by a file. It is written in
// place, since in containers it is a mount that can't be replaced.
type resolvConf struct{ path string }

func (r resolvConf) set(server netip.Addr, _ string) error {
	return r.rewrite("nameserver " + server.String() + " " + resolvMark + "\n")
}

// restore also removes what a killed run left behind.
func (r resolvConf) restore() error { return r.rewrite("") }

func (r resolvConf) rewrite(first string) error {
	old, err := os.ReadFile(r.path)
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && first != "") {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("read the resolver's configuration: %w", err)
	}
	next := []byte(first)
	for line := range bytes.Lines(old) {
		if !bytes.Contains(line, []byte(resolvMark)) {
			next = append(next, line...)
		}
	}
	if bytes.Equal(old, next) {
		return nil
	}
	if err := os.WriteFile(r.path, next, 0o644); err != nil {
		return fmt.Errorf("write the resolver's configuration: %w", err)
	}
	return nil
}

// resolved is a host where systemd-resolved runs.
type resolved struct {
	link string
	run  func(args ...string) error // resolvectl
	done bool
}

func (r *resolved) set(server netip.Addr, domain string) error {
	r.done = true
	// "~" makes it a routing domain: only names below it go there.
	err := errors.Join(
		r.run("dns", r.link, server.String()),
		r.run("domain", r.link, "~"+strings.TrimSuffix(domain, ".")),
	)
	if err != nil {
		return errors.Join(err, r.restore())
	}
	return nil
}

func (r *resolved) restore() error {
	if !r.done {
		return nil
	}
	r.done = false
	return r.run("revert", r.link)
}

// newResolver finds out how this host resolves names.
func newResolver(link, path string) resolver {
	if path == "" {
		if _, err := os.Stat("/run/systemd/resolve/stub-resolv.conf"); err == nil {
			if ctl, err := exec.LookPath("resolvectl"); err == nil {
				return &resolved{link: link, run: func(args ...string) error { return runResolvectl(ctl, args) }}
			}
		}
		path = "/etc/resolv.conf"
	}
	return resolvConf{path}
}

func runResolvectl(ctl string, args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, ctl, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("resolvectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
