package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// labs has a file for each lab, locked by the process that keeps it, that holds its folder's path.
	labs = "/run/respmesh-lab"
	// perHost has, per network namespace, the files that `ip netns exec` puts over those of /etc.
	perHost = "/etc/netns"
	// wgSockets is where wireguard-go has its control sockets.
	wgSockets = "/var/run/wireguard"
)

// namespace is the name of a host's network namespace.
func namespace(id, host string) string { return "rml-" + id + "-" + host }

// register gives the lab its ID and its folder.
func (l *Lab) register() error {
	if err := os.MkdirAll(labs, 0o700); err != nil {
		return err
	}
	raw := make([]byte, 2)
	_, _ = rand.Read(raw)
	l.ID = hex.EncodeToString(raw)
	f, err := os.OpenFile(filepath.Join(labs, l.ID), os.O_CREATE|os.O_EXCL|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	l.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if l.Dir, err = os.MkdirTemp("", "respmesh-lab-"+l.ID+"-"); err != nil {
		return err
	}
	if _, err := f.WriteString(l.Dir); err != nil {
		return err
	}
	return os.Chmod(l.Dir, 0o755) // some hosts' programs run unprivileged
}

// Sweep removes the labs whose process is gone.
func Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(labs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, sweep(ctx, filepath.Join(labs, e.Name()), e.Name()))
	}
	return errors.Join(errs...)
}

func sweep(ctx context.Context, path, id string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner was faster
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // in use
	}
	if info, err := f.Stat(); err != nil || info.Size() == 0 && time.Since(info.ModTime()) < time.Minute {
		return err // just being made
	}
	dir, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if d := string(dir); d != "" && !strings.HasPrefix(filepath.Base(d), "respmesh-lab-"+id+"-") {
		return fmt.Errorf("%s: %q isn't a lab's folder", path, d)
	}
	return errors.Join(remove(ctx, id, string(dir)), os.Remove(path))
}

// remove ends all processes of a lab and removes what it made outside its process.
func remove(ctx context.Context, id, dir string) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("ip netns list: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, namespace(id, "")) {
			names = append(names, name)
		}
	}
	var errs []error
	for _, name := range names {
		for range 50 { // until none is left: the killed take a moment, and may just have started others
			pids, err := exec.CommandContext(ctx, "ip", "netns", "pids", name).Output()
			if err != nil || len(pids) == 0 {
				break
			}
			for p := range strings.FieldsSeq(string(pids)) {
				if pid, err := strconv.Atoi(p); err == nil && pid != os.Getpid() {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		if out, err := exec.CommandContext(ctx, "ip", "netns", "delete", name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("ip netns delete %s: %w: %s", name, err, out))
		}
		errs = append(errs, os.RemoveAll(filepath.Join(perHost, name)))
	}
	_ = os.Remove(perHost) // if it's empty
	sockets, _ := filepath.Glob(filepath.Join(wgSockets, interfaceOf(id, "*")+".sock"))
	for _, s := range sockets {
		errs = append(errs, os.Remove(s))
	}
	if dir != "" {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
