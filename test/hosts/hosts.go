// Package hosts runs meshes of `respmesh server` processes, one per node, on this machine, and manages them with the
// program's own command line, as an operator does. It imports nothing of ours but the runner of processes.
package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"respmesh/test/dev"
)

// Mesh is a set of nodes. The first one made it and carries the control plane.
type Mesh struct {
	Binary string
	Dir    string
	Nodes  []*Node
}

// Node is one `respmesh server`.
type Node struct {
	Name, Region string
	Data         string
	HTTP         int // port of its API on loopback
	WireGuard    int // UDP port
	Args         []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	exited  chan struct{}
	err     error
	log     *dev.Output
	Ready   Ready
	Started time.Time
}

// Ready is the line that `respmesh server --json` prints.
type Ready struct {
	Ready          bool   `json:"ready"`
	Node           string `json:"node"`
	Tunnel         string `json:"tunnel"`
	Address        string `json:"address"`
	API            string `json:"api"`
	Public         string `json:"public"`
	Pin            string `json:"pin"`
	AdminTokenFile string `json:"admin_token_file"`
}

// New makes a mesh with a first node. Everything is below dir.
func New(ctx context.Context, binary, dir, region string, args ...string) (*Mesh, error) {
	m := &Mesh{Binary: binary, Dir: dir}
	n, err := m.node(region, region+"-1")
	if err != nil {
		return nil, err
	}
	n.Args = append([]string{"--api-listen", "127.0.0.1:0"}, args...)
	if err := m.start(ctx, n, "--init", "--region", n.Region, "--name", n.Name); err != nil {
		return nil, err
	}
	return m, nil
}

// Join adds a node, by the first one.
func (m *Mesh) Join(ctx context.Context, region, name string, args ...string) (*Node, error) {
	return m.JoinAt(ctx, m.Nodes[0], region, name, args...)
}

// JoinAt adds a node, by one that answers other hosts.
func (m *Mesh) JoinAt(ctx context.Context, by *Node, region, name string, args ...string) (*Node, error) {
	n, err := m.node(region, name)
	if err != nil {
		return nil, err
	}
	n.Args = args
	out, err := m.CLIAt(ctx, by, "token", "create", "--scope", "node", "--json")
	if err != nil {
		return nil, err
	}
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return nil, fmt.Errorf("token create prints %q: %w", out, err)
	}
	token := filepath.Join(m.Dir, name+".token")
	if err := os.WriteFile(token, []byte(made.Secret), 0o600); err != nil {
		return nil, err
	}
	return n, m.start(ctx, n, "--join", by.Ready.Public, "--pin", by.Ready.Pin, "--token-file", token, "--region", region, "--name", name)
}

// node finds ports for a node. They are free now, which has to do: an endpoint must be known before the node is there.
func (m *Mesh) node(region, name string) (n *Node, err error) {
	n = &Node{Name: name, Region: region, Data: filepath.Join(m.Dir, name)}
	if n.WireGuard, err = dev.FreePort(); err != nil {
		return nil, err
	}
	n.HTTP, err = dev.FreePort()
	return n, err
}

// start runs the node and waits until it says that it's ready.
func (m *Mesh) start(ctx context.Context, n *Node, first ...string) error {
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(n.WireGuard))
	args := append([]string{"server", "--json", "--data", n.Data, "--wireguard", at, "--endpoint", at,
		"--tunnel", "userspace", "--http", strconv.Itoa(n.HTTP)}, n.Args...)
	args = append(args, first...)
	cmd := exec.Command(m.Binary, args...)
	cmd.Env = append(os.Environ(), dev.RaceOptions)
	stdout, stderr := &dev.Output{}, &dev.Output{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	n.mu.Lock()
	n.cmd, n.log, n.exited, n.err = cmd, stderr, make(chan struct{}), nil
	exited := n.exited
	n.mu.Unlock()
	n.Started = time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		err := cmd.Wait()
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
		close(exited)
	}()
	select {
	case <-stdout.Line():
		l := stdout.FirstLine()
		if err := json.Unmarshal([]byte(l), &n.Ready); err != nil || !n.Ready.Ready {
			return fmt.Errorf("%s prints %q: %w", n.Name, l, err)
		}
	case <-exited:
		return fmt.Errorf("%s ended: %v\n%s", n.Name, n.err, n.Log())
	case <-ctx.Done():
		return fmt.Errorf("%s isn't ready: %w\n%s", n.Name, ctx.Err(), n.Log())
	}
	if !contains(m.Nodes, n) {
		m.Nodes = append(m.Nodes, n)
	}
	return nil
}

func contains(nodes []*Node, n *Node) bool {
	for _, have := range nodes {
		if have == n {
			return true
		}
	}
	return false
}

// Log is what the node has printed to standard error since its last start.
func (n *Node) Log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

// PID is that of its process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Kill ends the node at once, as a power cut would.
func (n *Node) Kill() {
	_ = n.cmd.Process.Kill()
	<-n.exited
}

// Stop ends the node gracefully. Data races and a bad exit status are errors.
func (n *Node) Stop(limit time.Duration) error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-n.exited:
	case <-time.After(limit):
		_ = n.cmd.Process.Signal(syscall.SIGQUIT) // the stacks say where it hangs
		select {
		case <-n.exited:
		case <-time.After(5 * time.Second):
			n.Kill()
		}
		return fmt.Errorf("%s still runs %v after SIGTERM\n%s", n.Name, limit, n.Log())
	}
	var err error
	if n.err != nil {
		err = fmt.Errorf("%s: %w\n%s", n.Name, n.err, n.Log())
	}
	if _, race, ok := strings.Cut(n.Log(), "WARNING: DATA RACE"); ok {
		err = errors.Join(err, fmt.Errorf("%s: data race:\n%s", n.Name, race[:min(len(race), 8000)]))
	}
	return err
}

// Start starts a node again that was stopped or killed, by its data alone.
func (m *Mesh) Start(ctx context.Context, n *Node) error { return m.start(ctx, n) }

// Close ends all nodes.
func (m *Mesh) Close(limit time.Duration) error {
	var wg sync.WaitGroup
	errs := make([]error, len(m.Nodes))
	for i, n := range m.Nodes {
		wg.Go(func() {
			select {
			case <-n.exited: // a test ended it
			default:
				errs[i] = n.Stop(limit)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// CLI runs the program against the first node's API, with the administrator's token, and gives what it prints.
func (m *Mesh) CLI(ctx context.Context, args ...string) (string, error) {
	return m.CLIAt(ctx, m.Nodes[0], args...)
}

// CLIAt runs the program against a node's API.
func (m *Mesh) CLIAt(ctx context.Context, n *Node, args ...string) (string, error) {
	cmd := m.Command(ctx, n, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("respmesh %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), err
}

// Command is the program, set up for a node's API.
func (m *Mesh) Command(ctx context.Context, n *Node, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.Binary, args...)
	cmd.Env = append(os.Environ(), "RESPMESH_API=http://127.0.0.1:"+strconv.Itoa(n.HTTP), "RESPMESH_TOKEN="+m.AdminToken(), "HOME="+m.Dir)
	return cmd
}

// AdminToken is that of the mesh, "" before the first node has made it.
func (m *Mesh) AdminToken() string {
	raw, err := os.ReadFile(filepath.Join(m.Nodes[0].Data, "admin.token"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// Node finds a node by its name.
func (m *Mesh) Node(name string) *Node {
	for _, n := range m.Nodes {
		if n.Name == name {
			return n
		}
	}
	panic("no node " + name)
}
