package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// nodeInfo is what `respmesh nodes list --json` says of a node.
type nodeInfo struct {
	Name      string `json:"name"`
	PublicKey string `json:"public_key"`
	Address   string `json:"address"`
	Endpoint  string `json:"endpoint"`
	Tunnel    string `json:"tunnel"`
	Online    bool   `json:"online"`

	NarrowPaths []struct {
		Node string `json:"node"`
		MTU  int    `json:"mtu"`
	} `json:"narrow_paths"`
}

// NodeList asks for all nodes.
func (l *Lab) NodeList(ctx context.Context) (list []nodeInfo, err error) {
	out, err := l.CLI(ctx, "nodes", "list", "--json")
	if err != nil {
		return nil, err
	}
	return list, json.Unmarshal([]byte(out), &list)
}

// Attach has the peer's interface use another node of its region, and send what goes to some prefixes beside its org's there.
func (p *Peer) Attach(ctx context.Context, node string, more ...netip.Prefix) error {
	list, err := p.lab.NodeList(ctx)
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.Name != node {
			continue
		}
		allowed := p.Prefix.String()
		var s script
		for _, m := range more {
			allowed += "," + m.String()
			s.add("ip -6 route replace %s dev %s", m, p.Interface)
		}
		// Also if it is the same: what the two had before, one of them may have forgotten.
		s.add("wg set %s peer %s remove", p.Interface, p.NodeKey)
		s.add("wg set %s peer %s endpoint %s persistent-keepalive 5 allowed-ips %s", p.Interface, n.PublicKey, n.Endpoint, allowed)
		p.NodeKey = n.PublicKey
		return p.script(ctx, s)
	}
	return fmt.Errorf("no node %s", node)
}

// Filtered counts the packets that a node's filter has dropped for a reason.
func (n *Node) Filtered(ctx context.Context, reason string) (total float64, err error) {
	out, err := n.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "respmesh_mesh_filtered_packets_total{") && strings.Contains(line, `reason="`+reason+`"`) {
			var v float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):], &v); err != nil {
				return 0, fmt.Errorf("metrics: %q: %w", line, err)
			}
			total += v
		}
	}
	return total, nil
}

// Metrics are what the node tells Prometheus.
func (n *Node) Metrics(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://[::1]:17379/metrics", nil)
	if err != nil {
		return "", err
	}
	code, out, err := n.HTTP(req)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("metrics of %s: %d: %.1000s", n.Name, code, out)
	}
	return out, err
}

// HTTP sends a request from this host, to an address.
func (h *Host) HTTP(req *http.Request) (code int, body string, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, at string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(at)
		if err != nil {
			return nil, err
		}
		return h.Dial(ctx, net.Dialer{Timeout: connectWithin}, to)
	}}
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, string(out), err
}
