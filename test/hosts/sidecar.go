package hosts

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

// nobody is the user and the group that sidecars run as when the tests are root's.
const nobody = 65534

// Sidecar is one `respmesh sidecar`, as a user without privileges.
type Sidecar struct {
	Ready SidecarReady

	cmd    *exec.Cmd
	stderr dev.Output
	exited chan struct{}
	err    error
}

// SidecarReady is the line that `respmesh sidecar --json` prints.
type SidecarReady struct {
	Ready     bool   `json:"ready"`
	Peer      string `json:"peer"`
	Address   string `json:"address"`
	Node      string `json:"node"`
	Databases []struct {
		Database  string   `json:"database"`
		Addresses []string `json:"addresses"`
	} `json:"databases"`
	HTTP string `json:"http"`
	DNS  string `json:"dns"`
}

// OrgToken makes a token of one org.
func (m *Mesh) OrgToken(ctx context.Context, org string) (id, secret string, err error) {
	out, err := m.CLI(ctx, "token", "create", "--scope", "org", "--org", org, "--json")
	if err != nil {
		return "", "", err
	}
	var made struct {
		Secret string
		Token  struct{ ID string }
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Secret == "" {
		return "", "", fmt.Errorf("token create prints %q: %w", out, err)
	}
	return made.Token.ID, made.Secret, nil
}

// NobodyDir makes a directory that is the unprivileged user's own, and removed by the caller.
func NobodyDir() (string, error) {
	dir, err := os.MkdirTemp("", "sidecar-*")
	if err != nil || os.Geteuid() != 0 {
		return dir, err
	}
	return dir, os.Chown(dir, nobody, nobody)
}

// StartSidecar runs a sidecar with a token, and waits until it is ready. The program is copied into dir, which the user of the
// sidecar can read.
func (m *Mesh) StartSidecar(ctx context.Context, dir, token string, args ...string) (*Sidecar, error) {
	binary := filepath.Join(dir, "respmesh")
	if _, err := os.Stat(binary); err != nil {
		// As it is installed. Written at one stroke it would lie in the kernel's cache in pieces of 2 MiB, and be resident in
		// such pieces.
		if out, err := exec.CommandContext(ctx, "install", "-m", "755", m.Binary, binary).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("install: %w: %s", err, out)
		}
	}
	all := append([]string{binary, "sidecar", "--json", "--http", "127.0.0.1:0", "--api", m.Nodes[0].Ready.Public, "--api-pin", m.Nodes[0].Ready.Pin}, args...)
	if os.Geteuid() == 0 {
		id := strconv.Itoa(nobody)
		all = append([]string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs", "--bounding-set", "-all"}, all...)
	}
	s := &Sidecar{exited: make(chan struct{}), cmd: exec.Command(all[0], all[1:]...)}
	s.cmd.Dir = dir
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "RESPMESH_TOKEN=" + token, dev.RaceOptions}
	stdout := &dev.Output{}
	s.cmd.Stdout, s.cmd.Stderr = stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	select {
	case <-stdout.Line():
		l := stdout.FirstLine()
		if err := json.Unmarshal([]byte(l), &s.Ready); err != nil {
			return s, fmt.Errorf("the sidecar prints %q: %w", l, err)
		}
		return s, nil
	case <-s.exited:
		return s, fmt.Errorf("the sidecar ended: %w\n%s", s.err, s.Log())
	case <-ctx.Done():
		return s, errors.Join(fmt.Errorf("the sidecar isn't ready: %w\n%s", ctx.Err(), s.Log()), s.Stop(time.Second))
	}
}

// Log is what the sidecar has printed to standard error.
func (s *Sidecar) Log() string { return s.stderr.String() }

// PID is the sidecar's process.
func (s *Sidecar) PID() int { return s.cmd.Process.Pid }

// Stop ends the sidecar as a container runtime does.
func (s *Sidecar) Stop(limit time.Duration) error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(limit):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("the sidecar still ran %v after SIGTERM\n%s", limit, s.Log())
	}
	err := s.err
	if err != nil {
		err = fmt.Errorf("sidecar: %w\n%s", err, s.Log())
	}
	if strings.Contains(s.Log(), "WARNING: DATA RACE") {
		err = errors.Join(err, fmt.Errorf("data race:\n%s", s.Log()))
	}
	return err
}

// Memory is the resident memory of a process in bytes.
func Memory(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}
