package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"respmesh/test/dev"
)

// Node is a `respmesh server` on a host of the same name.
type Node struct {
	*Host
	TUN     bool // runs as root with a TUN interface; else unprivileged, in user space
	Data    string
	LogFile string
	Ready   Ready

	mu     sync.Mutex
	cmd    *exec.Cmd // guarded by mu, as what follows
	exited chan struct{}
	err    error
}

// Ready is the line that `respmesh server --json` prints.
type Ready struct {
	Ready          bool       `json:"ready"`
	Node           string     `json:"node"`
	Region         string     `json:"region"`
	Tunnel         string     `json:"tunnel"`
	Address        netip.Addr `json:"address"`
	Public         string     `json:"public"`
	Pin            string     `json:"pin"`
	AdminTokenFile string     `json:"admin_token_file"`
}

const (
	wireGuardPort = "51820"
	apiPort       = "17380"
	readyWithin   = 40 * time.Second
	stopWithin    = 30 * time.Second // when all stop at once, members of the control plane wait for each other
)

// tuns are the nodes with a TUN interface.
var tuns = []string{"mad-1", "ams-1", "nrt-2"}

// The control plane is carried by the first three nodes: one per region.
var order = []string{"mad-1", "ams-1", "nrt-1", "mad-2", "ams-2", "nrt-2"}

const controlMembers = 3

func (l *Lab) startNodes(ctx context.Context) error {
	first, err := l.NewNode(order[0], slices.Contains(tuns, order[0]))
	if err != nil {
		return err
	}
	if err := first.Start(ctx, "--init", "--region", first.Region, "--name", first.Name, "--api-listen", first.Addr.String()+":"+apiPort); err != nil {
		return err
	}
	l.Pin = first.Ready.Pin
	l.Nodes = append(l.Nodes, first)
	// The members of the control plane enter one by one, so that they are these three.
	for _, name := range order[1:controlMembers] {
		if err := l.enter(ctx, name); err != nil {
			return err
		}
	}
	if err := l.awaitMembers(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(order))
	for i, name := range order[controlMembers:] {
		wg.Go(func() { errs[i] = l.enter(ctx, name) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// enter has a node join.
func (l *Lab) enter(ctx context.Context, name string) error {
	n, err := l.NewNode(name, slices.Contains(tuns, name))
	if err != nil {
		return err
	}
	token, err := l.NodeToken(ctx, n)
	if err != nil {
		return err
	}
	flags := l.JoinFlags(n, token)
	if slices.Contains(order[:controlMembers], name) { // nodes join at these
		flags = append(flags, "--api-listen", n.Addr.String()+":"+apiPort)
	}
	if err := n.Start(ctx, flags...); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Nodes = append(l.Nodes, n)
	return nil
}

// awaitMembers waits until the last node to enter is the last member of the control plane. The others hear of it later.
func (l *Lab) awaitMembers(ctx context.Context) error {
	n := l.Nodes[len(l.Nodes)-1]
	return Eventually(ctx, readyWithin, func() error {
		var id struct {
			Members []string `json:"members"`
		}
		raw, err := os.ReadFile(filepath.Join(n.Data, "node.json"))
		if err == nil {
			err = json.Unmarshal(raw, &id)
		}
		if err == nil && len(id.Members) != controlMembers {
			err = fmt.Errorf("the control plane's members are %v\n%s", id.Members, n.Log())
		}
		return err
	})
}

// NewNode prepares a node that isn't in a mesh.
func (l *Lab) NewNode(host string, tun bool) (*Node, error) {
	n := &Node{Host: l.Host(host), TUN: tun, Data: filepath.Join(l.Dir, "nodes", host), LogFile: filepath.Join(l.Dir, host+".log")}
	if err := os.MkdirAll(n.Data, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(n.Data, 0o700); err != nil {
		return nil, err
	}
	return n, n.own(n.Data)
}

// own gives a file to whom the node runs as.
func (n *Node) own(path string) error {
	if n.TUN {
		return nil
	}
	return os.Chown(path, nobody, nobody)
}

// Secret writes a file that only the node can read.
func (n *Node) Secret(name, secret string) (path string, err error) {
	path = filepath.Join(n.lab.Dir, n.Name+"."+name)
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		return "", err
	}
	return path, n.own(path)
}

// NodeToken makes a token for a node, in a file.
func (l *Lab) NodeToken(ctx context.Context, n *Node, args ...string) (path string, err error) {
	secret, err := l.CLI(ctx, append([]string{"token", "create", "--scope", "node"}, args...)...)
	if err != nil {
		return "", err
	}
	return n.Secret("token", secret)
}

// JoinFlags are those with which a node enters.
func (l *Lab) JoinFlags(n *Node, token string) []string {
	return l.Node(order[0]).JoinHere(n, token)
}

// JoinHere are the flags with which another node enters by this one.
func (n *Node) JoinHere(other *Node, token string) []string {
	return []string{"--join", n.API(), "--pin", n.Ready.Pin, "--token-file", token, "--region", other.Region, "--name", other.Name}
}

// API is where the first node answers other hosts.
func (l *Lab) API() string { return l.Node(order[0]).API() }

// API is where the node answers other hosts, if it carries the control plane.
func (n *Node) API() string { return "https://" + n.Addr.String() + ":" + apiPort }

// Endpoint is where other hosts find the node's WireGuard.
func (n *Node) Endpoint() string { return n.Addr.String() + ":" + wireGuardPort }

// Start runs the node until it says that it's ready. Without arguments it's what its data says.
func (n *Node) Start(ctx context.Context, args ...string) error {
	argv := []string{n.lab.Binary, "server", "--json", "--data", n.Data, "--endpoint", n.Endpoint(), "--control-members", fmt.Sprint(controlMembers)}
	if len(args) == 0 && n.Ready.Public != "" {
		argv = append(argv, "--api-listen", n.Addr.String()+":"+apiPort)
	}
	if at := upstreamAt(n.Region); at != "" {
		argv = append(argv, "--dns-upstream", at)
	}
	argv = append(argv, args...)
	if !n.TUN {
		argv = unprivileged(argv...)
	}
	cmd := n.Command(context.WithoutCancel(ctx), argv...)
	log, err := os.OpenFile(n.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	began := time.Now()
	fmt.Fprintf(log, "\n# %s %s\n", began.Format(time.RFC3339), strings.Join(cmd.Args, " "))
	stdout := &dev.Output{}
	cmd.Stdout, cmd.Stderr = stdout, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	n.mu.Lock()
	n.cmd, n.exited, n.err = cmd, exited, nil
	n.mu.Unlock()
	go func() {
		err := cmd.Wait()
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
		close(exited)
	}()
	limit, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	select {
	case <-stdout.Line():
		l := stdout.FirstLine()
		if err := json.Unmarshal([]byte(l), &n.Ready); err != nil || !n.Ready.Ready {
			return fmt.Errorf("%s prints %q: %w", n.Name, l, err)
		}
	case <-exited:
		return fmt.Errorf("%s ended: %w\n%s", n.Name, n.err, n.Log())
	case <-limit.Done():
		n.Kill()
		return fmt.Errorf("%s isn't ready: %w\n%s", n.Name, limit.Err(), n.Log())
	}
	n.lab.log.Info("a node is ready", "node", n.Name, "tunnel", n.Ready.Tunnel, "after", time.Since(began).Round(time.Millisecond))
	return nil
}

// Log is the end of what the node has logged.
func (n *Node) Log() string {
	raw, err := os.ReadFile(n.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-3000):])
}

// stacks are where the node's goroutines were when it got SIGQUIT.
func (n *Node) stacks() string {
	raw, err := os.ReadFile(n.LogFile)
	if err != nil {
		return err.Error()
	}
	at := max(0, bytes.LastIndex(raw, []byte("SIGQUIT: quit")))
	return string(raw[at:min(at+200_000, len(raw))])
}

// Logged tells whether the node has ever said something.
func (n *Node) Logged(text string) bool {
	raw, err := os.ReadFile(n.LogFile)
	return err == nil && bytes.Contains(raw, []byte(text))
}

func (n *Node) process() (*exec.Cmd, chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd, n.exited
}

// Runs tells whether the node's process is there.
func (n *Node) Runs() bool {
	_, exited := n.process()
	if exited == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}

// Kill ends the node at once, as a power cut would.
func (n *Node) Kill() {
	cmd, exited := n.process()
	_ = cmd.Process.Kill()
	<-exited
}

// Stop ends the node gracefully, if it runs.
func (n *Node) Stop() error {
	if !n.Runs() {
		return nil
	}
	cmd, exited := n.process()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-exited:
	case <-time.After(stopWithin):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // the stacks say where it hangs
		select {
		case <-exited:
		case <-time.After(5 * time.Second):
			n.Kill()
		}
		return fmt.Errorf("%s still runs %v after SIGTERM\n%s", n.Name, stopWithin, n.stacks())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return fmt.Errorf("%s: %w\n%s", n.Name, n.err, n.Log())
	}
	return nil
}

// AdminToken is the file with the administrator's token.
func (l *Lab) AdminToken() string { return filepath.Join(l.Dir, "nodes", order[0], "admin.token") }

// CLI runs the program as the administrator, on the host of the first node that runs.
func (l *Lab) CLI(ctx context.Context, args ...string) (string, error) {
	l.mu.Lock()
	at := l.Nodes[0]
	for _, n := range l.Nodes {
		if n.Runs() {
			at = n
			break
		}
	}
	l.mu.Unlock()
	return at.CLI(ctx, args...)
}

// CLI runs the program as the administrator, against this node's own API.
func (n *Node) CLI(ctx context.Context, args ...string) (string, error) {
	cmd := n.Command(ctx, append([]string{"respmesh"}, args...)...)
	cmd.Env = append(cmd.Env, "RESPMESH_TOKEN_FILE="+n.lab.AdminToken())
	return run(cmd)
}
