// Package dev runs `respmesh dev` as a process of its own and talks to it as its users do: the ready line that --json
// prints, the RESP ports of its regions, and the admin port. It imports nothing of ours.
package dev

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Ready is the line that `respmesh dev --json` prints once it serves.
type Ready struct {
	Ready    bool     `json:"ready"`
	Admin    string   `json:"admin"`
	Database Database `json:"database"`
	Regions  []Region `json:"regions"`
}

// Database is how clients inside the private network reach it.
type Database struct {
	Org     string `json:"org"`
	Name    string `json:"name"`
	Address string `json:"address"`
	DNS     string `json:"dns"`
	URL     string `json:"url"`
}

// Region is one node of the mesh.
type Region struct {
	Code      string  `json:"region"`
	Role      string  `json:"role"`
	RESP      string  `json:"resp"`
	WireGuard string  `json:"wireguard"`
	RTT       float64 `json:"rtt_to_primary_ms"`
}

// RoundTrip is the time to the primary and back.
func (r Region) RoundTrip() time.Duration { return time.Duration(r.RTT * float64(time.Millisecond)) }

// Host and Port of the RESP address, as redis-cli wants them.
func (r Region) Host() string { h, _, _ := net.SplitHostPort(r.RESP); return h }
func (r Region) Port() string { _, p, _ := net.SplitHostPort(r.RESP); return p }

// Options of a start.
type Options struct {
	Binary  string
	Args    []string             // of `respmesh dev`, added to --json and free ports
	Prefix  []string             // a command to run it under
	Env     []string             // added to the environment
	SysProc *syscall.SysProcAttr // namespaces
	Timeout time.Duration        // to become ready; default 30 s
}

// Process is a running mesh.
type Process struct {
	Ready
	Startup time.Duration // from start to the ready line
	Temp    string        // its TMPDIR, ours to remove

	cmd    *exec.Cmd
	stdout Output
	stderr Output
	exited chan struct{}
	err    error // how it ended; valid once exited is closed
}

// Start runs the program and waits until it says that it's ready.
func Start(ctx context.Context, o Options) (*Process, error) {
	temp, err := os.MkdirTemp("", "respmesh-test")
	if err != nil {
		return nil, err
	}
	args := append([]string{"dev", "--json", "--port", "0", "--http", "0"}, o.Args...)
	argv := append(append(o.Prefix[:len(o.Prefix):len(o.Prefix)], o.Binary), args...)
	p := &Process{
		Temp:   temp,
		cmd:    exec.Command(argv[0], argv[1:]...),
		exited: make(chan struct{}),
	}
	p.cmd.Env = append(append(os.Environ(), "TMPDIR="+temp, RaceOptions), o.Env...)
	p.cmd.SysProcAttr = o.SysProc
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		_ = os.RemoveAll(temp)
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	timeout := time.NewTimer(o.Timeout)
	defer timeout.Stop()
	select {
	case <-p.stdout.Line():
		p.Startup = time.Since(begin)
		line := p.stdout.FirstLine()
		if err = json.Unmarshal([]byte(line), &p.Ready); err != nil || !p.Ready.Ready || len(p.Regions) == 0 {
			err = fmt.Errorf("the ready line is %q: %w", line, err)
		}
	case <-p.exited:
		err = fmt.Errorf("ended before it was ready: %v\n%s", p.err, p.Stderr())
	case <-timeout.C:
		err = fmt.Errorf("not ready after %v\n%s", o.Timeout, p.Stderr())
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// Region finds a region of the mesh by its code.
func (p *Process) Region(code string) Region {
	for _, r := range p.Regions {
		if r.Code == code {
			return r
		}
	}
	panic("no region " + code)
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stderr and Stdout are what it has printed.
func (p *Process) Stderr() string { return p.stderr.String() }
func (p *Process) Stdout() string { return p.stdout.String() }

// Stop signals the process and waits for its end. It reports an exit status other than 0, data races and files left in its
// temporary directory, and returns how long the end took.
func (p *Process) Stop(sig os.Signal, limit time.Duration) (time.Duration, error) {
	begin := time.Now()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-p.exited:
	case <-timeout.C:
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // the stacks say where it hangs
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
		}
		p.Kill()
		return limit, fmt.Errorf("still running %v after %v\n%s", limit, sig, tail(p.Stderr(), 20000))
	}
	took := time.Since(begin)
	defer os.RemoveAll(p.Temp)
	err := p.err
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, tail(p.Stderr(), 20000))
	}
	if _, race, ok := strings.Cut(p.Stderr(), "WARNING: DATA RACE"); ok {
		err = errors.Join(err, fmt.Errorf("data race:\n%s", race[:min(len(race), 8000)]))
	}
	left, globErr := filepath.Glob(filepath.Join(p.Temp, "*"))
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %v", left))
	}
	return took, errors.Join(err, globErr)
}

// Kill ends the process at once and removes what it left.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
	_ = os.RemoveAll(p.Temp)
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Get and Post speak to the admin port.
func (p *Process) Get(ctx context.Context, path string) ([]byte, error) {
	return p.http(ctx, http.MethodGet, path)
}

func (p *Process) Post(ctx context.Context, path string) ([]byte, error) {
	return p.http(ctx, http.MethodPost, path)
}

func (p *Process) http(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.Admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// Cut and Heal stop and restore all that the WAN carries from and to a region.
func (p *Process) Cut(ctx context.Context, region string) error {
	_, err := p.Post(ctx, "/wan/cut?region="+region)
	return err
}

func (p *Process) Heal(ctx context.Context, region string) error {
	_, err := p.Post(ctx, "/wan/heal?region="+region)
	return err
}

// Link counts what the WAN relay carried in one direction.
type Link struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Dropped uint64 `json:"dropped"`
}

// WAN reads the relay's counters.
func (p *Process) WAN(ctx context.Context) ([]Link, error) {
	body, err := p.Get(ctx, "/wan")
	if err != nil {
		return nil, err
	}
	var links []Link
	if err := json.Unmarshal(body, &links); err != nil {
		return nil, fmt.Errorf("/wan answers %q: %w", body, err)
	}
	return links, nil
}

// Sample is one line of /metrics.
type Sample struct {
	Name   string // with its labels, as printed
	Value  float64
	Labels string
}

// Metrics reads all samples of the metrics whose names contain part.
func (p *Process) Metrics(ctx context.Context, part string) ([]Sample, error) {
	body, err := p.Get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	var out []Sample
	sc := bufio.NewScanner(bytes.NewReader(body))
	for sc.Scan() {
		line := sc.Text()
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		name, labels, _ := strings.Cut(line[:i], "{")
		if !strings.Contains(name, part) {
			continue
		}
		s := Sample{Name: name, Labels: strings.TrimSuffix(labels, "}")}
		if _, err := fmt.Sscan(line[i+1:], &s.Value); err != nil {
			return nil, fmt.Errorf("metrics line %q: %w", line, err)
		}
		out = append(out, s)
	}
	return out, sc.Err()
}
