package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"respmesh/mesh"
)

// Addresses: outside the tunnel by IPv4, inside it below one /48.
const (
	outsidePort = 51820
	inside      = "fd00:be:be"
)

func outsideAddr(n int) string { return fmt.Sprintf("10.255.%d.%d", 76+n, n) }
func insideAddr(n int) string  { return inside + "::" + strconv.Itoa(n) }

// setup is what a child is told, by its standard input: it holds a key.
type setup struct {
	Kind    kind
	Self    int // 1 or 2
	Key     string
	Peer    string // public key
	Connect string // address and port of the server; empty for the server
	Listen  string
	Seconds float64
	Conns   int
	Profile string
}

// host is one network namespace.
type host struct {
	n     int
	name  string
	procs []*exec.Cmd
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// makeHosts makes two of them with a path between.
func makeHosts(ctx context.Context, p path) (hosts []*host, remove func(), err error) {
	var between *middle
	remove = func() {
		for _, h := range hosts {
			for _, p := range h.procs {
				_ = p.Process.Kill()
				_ = p.Wait()
			}
			_ = ip(context.WithoutCancel(ctx), "netns", "delete", h.name)
		}
		if between != nil {
			_ = between.close(context.WithoutCancel(ctx))
		}
	}
	id := strconv.Itoa(os.Getpid())
	for n := 1; n <= 2; n++ {
		h := &host{n: n, name: fmt.Sprintf("rmbench%d-%s", n, id)}
		if err := ip(ctx, "netns", "add", h.name); err != nil {
			remove()
			return nil, nil, err
		}
		hosts = append(hosts, h)
		for _, args := range [][]string{
			{"-n", h.name, "link", "set", "lo", "up"},
			{"netns", "exec", h.name, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=" + p.congestion}, // by IPv6 too
		} {
			if err := ip(ctx, args...); err != nil {
				remove()
				return nil, nil, err
			}
		}
	}
	if p.far() {
		if between, err = makeMiddle(ctx, p, hosts); err != nil {
			remove()
			return nil, nil, err
		}
		return hosts, remove, nil
	}
	cable := [][]string{
		{"link", "add", "rmb1", "netns", hosts[0].name, "type", "veth", "peer", "name", "rmb2", "netns", hosts[1].name},
	}
	for _, h := range hosts {
		nic := "rmb" + strconv.Itoa(h.n)
		cable = append(cable,
			[]string{"-n", h.name, "addr", "add", outsideAddr(h.n) + "/16", "dev", nic},
			[]string{"-n", h.name, "link", "set", nic, "up"})
	}
	for _, args := range cable {
		if err := ip(ctx, args...); err != nil {
			remove()
			return nil, nil, err
		}
	}
	return hosts, remove, nil
}

// start runs a program on the host.
func (h *host) start(ctx context.Context, in []byte, stderr io.Writer, args ...string) (io.Reader, error) {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.name}, args...)...)
	cmd.Stderr = stderr
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h.procs = append(h.procs, cmd)
	return out, nil
}

// wireguard starts Debian's wireguard-go.
func (h *host) wireguard(ctx context.Context, dir string, key mesh.PrivateKey, peer mesh.PublicKey) error {
	other := 3 - h.n
	conf := filepath.Join(dir, h.name+".conf")
	text := fmt.Sprintf("[Interface]\nPrivateKey = %s\nListenPort = %d\n[Peer]\nPublicKey = %s\nEndpoint = %s:%d\nAllowedIPs = %s/128\n",
		key.Encode(), outsidePort, peer, outsideAddr(other), outsidePort, insideAddr(other))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	nic := fmt.Sprintf("rmwg%d", h.n)
	// Its advice to use the kernel's goes nowhere.
	if _, err := h.start(ctx, nil, nil, "wireguard-go", "-f", nic); err != nil {
		return err
	}
	var err error
	for range 500 {
		if err = ip(ctx, "netns", "exec", h.name, "wg", "setconf", nic, conf); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond) // until it listens
	}
	for _, args := range [][]string{
		{"-n", h.name, "link", "set", nic, "mtu", strconv.Itoa(mesh.DefaultMTU), "up"},
		{"-n", h.name, "addr", "add", insideAddr(h.n) + "/64", "dev", nic, "nodad"},
	} {
		if err == nil {
			err = ip(ctx, args...)
		}
	}
	return err
}

// measure runs the server on one host and the client on the other.
func measure(ctx context.Context, o options, w way, p path) (r result, err error) {
	hosts, remove, err := makeHosts(ctx, p)
	if err != nil {
		return r, err
	}
	defer remove()
	dir, err := os.MkdirTemp("", "bench-mesh-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	var keys [2]mesh.PrivateKey
	for i := range keys {
		if keys[i], err = mesh.NewPrivateKey(); err != nil {
			return r, err
		}
	}
	if w.client == wgGo {
		for i, h := range hosts {
			if err := h.wireguard(ctx, dir, keys[i], keys[1-i].Public()); err != nil {
				return r, err
			}
		}
	}
	at, clientHost := insideAddr(2), hosts[0]
	if w.client == plain {
		at = outsideAddr(2)
	}
	if w.name == "loopback" {
		at, clientHost = "::1", hosts[1]
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	listen := netip.AddrPortFrom(netip.MustParseAddr(at), 7379).String()
	server := setup{Kind: w.server, Self: 2, Key: keys[1].Encode(), Peer: keys[0].Public().String(), Listen: listen}
	client := setup{Kind: w.client, Self: 1, Key: keys[0].Encode(), Peer: keys[1].Public().String(), Connect: listen, Seconds: o.seconds, Conns: o.conns}
	if o.profile != "" {
		client.Profile = filepath.Join(o.profile, w.name+".prof")
	}
	in, _ := json.Marshal(server)
	out, err := hosts[1].start(ctx, in, os.Stderr, self, "-child", "server")
	if err != nil {
		return r, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		return r, fmt.Errorf("the server said %q, %v", line, err)
	}
	in, _ = json.Marshal(client)
	out, err = clientHost.start(ctx, in, os.Stderr, self, "-child", "client")
	if err != nil {
		return r, err
	}
	lines := bufio.NewReader(out)
	for {
		before := processorTime(hosts)
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return r, fmt.Errorf("the client ended: %w", err)
		}
		spent := (processorTime(hosts) - before).Seconds()
		if err := json.Unmarshal(line, &r); err != nil {
			return r, err
		}
		switch {
		case r.BulkBytes > 0:
			r.BulkCPU = spent
			_, err := io.Copy(io.Discard, lines) // until it has written its profile
			return r, err
		case r.Ops > 0:
			r.OpsCPU = spent
		}
	}
}

// processorTime is what the processes on the hosts have used so far.
func processorTime(hosts []*host) time.Duration {
	var ticks int64
	for _, h := range hosts {
		for _, p := range h.procs {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
			if err != nil {
				continue // it has ended
			}
			fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
			for _, f := range fields[11:13] { // user and system, in hundredths
				n, _ := strconv.ParseInt(f, 10, 64)
				ticks += n
			}
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
