package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"respmesh/test/dev"
)

// Sidecar is a `respmesh sidecar` on a host, that nobody runs.
type Sidecar struct {
	*Host
	Ready SidecarReady

	cmd    *exec.Cmd
	stderr dev.Output
	exited chan struct{}
	err    error
}

// SidecarReady is the line that `respmesh sidecar --json` prints.
type SidecarReady struct {
	Ready bool   `json:"ready"`
	Peer  string `json:"peer"`
	Node  string `json:"node"`
	HTTP  string `json:"http"`
	DNS   string `json:"dns"`
}

// OrgToken makes a token of one org, in a file that unprivileged programs can read.
func (l *Lab) OrgToken(ctx context.Context, org, file string) (path string, err error) {
	secret, err := l.CLI(ctx, "token", "create", "--scope", "org", "--org", org)
	if err != nil {
		return "", err
	}
	path = filepath.Join(l.Dir, file)
	return path, errors.Join(os.WriteFile(path, []byte(secret), 0o600), os.Chown(path, nobody, nobody))
}

// Sidecar starts one on a host and waits until it is ready. The caller stops it.
func (h *Host) Sidecar(ctx context.Context, token string, args ...string) (*Sidecar, error) {
	argv := append([]string{h.lab.Binary, "sidecar", "--json", "--api", h.lab.API(), "--api-pin", h.lab.Pin, "--token-file", token}, args...)
	s := &Sidecar{Host: h, exited: make(chan struct{})}
	s.cmd = h.Command(context.WithoutCancel(ctx), unprivileged(argv...)...)
	stdout := &dev.Output{}
	s.cmd.Stdout, s.cmd.Stderr = stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	select {
	case <-stdout.Line():
		l := stdout.FirstLine()
		if err := json.Unmarshal([]byte(l), &s.Ready); err != nil || !s.Ready.Ready {
			return s, fmt.Errorf("the sidecar prints %q: %w", l, err)
		}
		return s, nil
	case <-s.exited:
		return s, fmt.Errorf("the sidecar ended: %w\n%s", s.err, s.Log())
	case <-ctx.Done():
		return s, fmt.Errorf("the sidecar isn't ready: %w\n%s", ctx.Err(), s.Log())
	}
}

// Log is what the sidecar has logged.
func (s *Sidecar) Log() string { return s.stderr.String() }

// Stop ends the sidecar as a container runtime does.
func (s *Sidecar) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
		return s.err
	case <-time.After(stopWithin):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("the sidecar still ran %v after SIGTERM\n%s", stopWithin, s.Log())
	}
}

// proc gives a line of the sidecar's /proc/PID/status.
func (s *Sidecar) proc(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "status"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(rest), " "), nil
		}
	}
	return "", fmt.Errorf("no %s in /proc", name)
}

// Memory is what the sidecar has resident, and how much of that is its own rather than pages of the program's file, in bytes.
func (s *Sidecar) Memory() (all, own int, err error) {
	for name, to := range map[string]*int{"VmRSS": &all, "RssAnon": &own} {
		text, err := s.proc(name)
		if err != nil {
			return 0, 0, err
		}
		kb, err := strconv.Atoi(strings.TrimSuffix(text, " kB"))
		if err != nil {
			return 0, 0, err
		}
		*to = kb << 10
	}
	return all, own, nil
}
