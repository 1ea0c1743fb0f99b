package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"respmesh/netconf"
)

// What a node answers for itself, to the others.

var errNoLocal = &Error{Code: CodeUnavailable, Message: "this node doesn't answer for itself"}

func localStatus(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	if c.s.opt.Local == nil {
		return nil, errNoLocal
	}
	return answer(c.s.opt.Local.DatabaseStatus(c.Context(), d.Org, d.Name))
}

func localExplain(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	in, err := c.explainRequest()
	if err != nil {
		return nil, err
	}
	if c.s.opt.Local == nil {
		return nil, errNoLocal
	}
	return answer(c.s.opt.Local.Explain(c.Context(), d.Org, d.Name, in.Args))
}

func localLatency(c *call) (any, error) {
	if c.s.opt.Local == nil {
		return nil, errNoLocal
	}
	rows, err := c.s.opt.Local.Latency(c.Context())
	return answer(Latency{Regions: []string{}, Rows: append([]LatencyRow{}, rows...)}, err)
}

// FleetOptions say how to reach the other nodes. All but Backup are needed.
type FleetOptions struct {
	Control Control
	Node    string // this node, which Local answers for
	Local   Local
	// Dial connects to a node's infrastructure address over the mesh.
	Dial   func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	Port   uint16 // where the nodes' handlers with TrustMesh listen; 0: 17379
	Backup func(ctx context.Context, w io.Writer) error
}

// MeshFleet is a Fleet that asks each node's own API over the mesh.
type MeshFleet struct {
	opt       FleetOptions
	transport *http.Transport
}

const (
	nodeTimeout = 2 * time.Second // a node that doesn't answer in this time is shown as away
	askAtOnce   = 16
	defaultPort = 17379
)

// NewFleet makes a Fleet. It starts nothing; Close lets go of idle connections.
func NewFleet(o FleetOptions) (*MeshFleet, error) {
	if o.Control == nil || o.Local == nil || o.Dial == nil || o.Node == "" {
		return nil, errors.New("api: FleetOptions lacks Control, Local, Dial or Node")
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	return &MeshFleet{opt: o, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			a, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			return o.Dial(ctx, a)
		},
		ResponseHeaderTimeout: nodeTimeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   2,
		MaxConnsPerHost:       8,
	}}, nil
}

// Close lets go of idle connections. It may be called twice.
func (f *MeshFleet) Close() error {
	f.transport.CloseIdleConnections()
	return nil
}

// client asks one node.
func (f *MeshFleet) client(n netconf.Node) (*Client, error) {
	return NewClient(ClientOptions{
		URL:  "http://" + netip.AddrPortFrom(n.Addr, f.opt.Port).String(),
		HTTP: &http.Client{Transport: f.transport},
	})
}

// NodeClient is a client of a node over the mesh, for what only nodes may ask.
func (f *MeshFleet) NodeClient(node string) (*Client, error) {
	topo, _ := f.opt.Control.Current()
	n, ok := topo.Node(node)
	if !ok {
		return nil, noNode(node)
	}
	return f.client(n)
}

// nodePath is where a node answers for itself about a database.
func nodePath(org, db string) string {
	return "/v1/node" + strings.TrimPrefix(databasePath(org, db), "/v1")
}

// ask asks all nodes at once, a bounded number at a time; answers come in the order of the nodes.
func ask[T any](ctx context.Context, nodes []netconf.Node, one func(context.Context, netconf.Node) T) []T {
	out := make([]T, len(nodes))
	places := make(chan struct{}, askAtOnce)
	var wg sync.WaitGroup
	for i, n := range nodes {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
			defer cancel()
			out[i] = one(ctx, n)
		})
	}
	wg.Wait()
	return out
}

// DatabaseStatus implements Fleet.
func (f *MeshFleet) DatabaseStatus(ctx context.Context, org, db string) ([]NodeDatabaseStatus, error) {
	topo, _ := f.opt.Control.Current()
	return ask(ctx, topo.Nodes, func(ctx context.Context, n netconf.Node) NodeDatabaseStatus {
		st, err := f.nodeStatus(ctx, n, org, db)
		switch {
		case errors.Is(err, netconf.ErrNotFound): // the news hasn't reached it
			st = NodeDatabaseStatus{Role: RoleNone, State: StateWaiting, Error: "the node doesn't know of the database yet"}
		case err != nil:
			st = NodeDatabaseStatus{Role: RoleNone, State: StateAway, Error: away(err)}
		}
		st.Node, st.Region = n.Name, n.Region
		return st
	}), nil
}

func (f *MeshFleet) nodeStatus(ctx context.Context, n netconf.Node, org, db string) (NodeDatabaseStatus, error) {
	if n.Name == f.opt.Node {
		return f.opt.Local.DatabaseStatus(ctx, org, db)
	}
	c, err := f.client(n)
	if err != nil {
		return NodeDatabaseStatus{}, err
	}
	return get[NodeDatabaseStatus](ctx, c, nodePath(org, db)+"/status", nil)
}

// RotateKey implements Fleet.
func (f *MeshFleet) RotateKey(ctx context.Context, node string) error {
	if node == f.opt.Node {
		return f.opt.Local.RotateKey(ctx)
	}
	c, err := f.NodeClient(node)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, "/v1/node/rotate-key", nil, nil, nil)
}

// away says why a node's answer is missing.
func away(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", nodeTimeout)
	}
	return err.Error()
}

// Explain implements Fleet: it asks this node, or the first node of the region that answers.
func (f *MeshFleet) Explain(ctx context.Context, org, db string, in ExplainRequest) (Explanation, error) {
	topo, _ := f.opt.Control.Current()
	self, _ := topo.Node(f.opt.Node)
	if in.Region == "" || in.Region == self.Region {
		return f.opt.Local.Explain(ctx, org, db, in.Args)
	}
	var failed []string
	for _, n := range topo.NodesIn(in.Region) {
		x, err := f.explainAt(ctx, n, org, db, in)
		if told, ok := errors.AsType[*Error](err); err == nil || ok && told.Code != CodeUnavailable && told.Code != codeUnknown {
			return x, err
		}
		failed = append(failed, n.Name+": "+away(err))
	}
	return Explanation{}, failf(CodeUnavailable, "no node of region %s answers (%s); respmesh nodes list shows which are online", in.Region, strings.Join(failed, "; "))
}

func (f *MeshFleet) explainAt(ctx context.Context, n netconf.Node, org, db string, in ExplainRequest) (Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	c, err := f.client(n)
	if err != nil {
		return Explanation{}, err
	}
	return post[Explanation](ctx, c, nodePath(org, db)+"/explain", ExplainRequest{Args: in.Args})
}

// Latency implements Fleet: of several nodes' measurements between two regions the shortest counts. Every pair is in
// the answer, those that nobody measured too.
func (f *MeshFleet) Latency(ctx context.Context) (Latency, error) {
	topo, _ := f.opt.Control.Current()
	type pair struct{ from, to string }
	best := map[pair]float64{}
	for _, rows := range ask(ctx, topo.Nodes, f.nodeLatency) {
		for _, r := range rows {
			p := pair{r.From, r.To}
			if have, ok := best[p]; r.Known && (!ok || r.RTTMS < have) {
				best[p] = r.RTTMS
			}
		}
	}
	var l Latency
	for _, n := range topo.Nodes {
		l.Regions = append(l.Regions, n.Region)
	}
	slices.Sort(l.Regions)
	l.Regions = slices.Compact(l.Regions)
	for _, from := range l.Regions {
		for _, to := range l.Regions {
			rtt, known := best[pair{from, to}]
			l.Rows = append(l.Rows, LatencyRow{From: from, To: to, RTTMS: rtt, Known: known})
		}
	}
	slices.SortFunc(l.Rows, func(a, b LatencyRow) int {
		return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	return l, nil
}

// nodeLatency is what a node measured; nothing if it doesn't answer.
func (f *MeshFleet) nodeLatency(ctx context.Context, n netconf.Node) []LatencyRow {
	if n.Name == f.opt.Node {
		rows, _ := f.opt.Local.Latency(ctx)
		return rows
	}
	c, err := f.client(n)
	if err != nil {
		return nil
	}
	l, _ := get[Latency](ctx, c, "/v1/node/latency", nil)
	return l.Rows
}

// Backup implements Fleet.
func (f *MeshFleet) Backup(ctx context.Context, w io.Writer) error {
	if f.opt.Backup == nil {
		return failf(CodeUnavailable, "this node can't back the control plane up; ask one that holds it")
	}
	return f.opt.Backup(ctx, w)
}
