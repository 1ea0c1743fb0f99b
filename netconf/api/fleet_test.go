package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"respmesh/netconf"
)

// pipes is a mesh of listeners by address, without a network.
type pipes map[netip.Addr]*pipeListener

type pipeListener struct {
	addr   netip.Addr
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.addr, defaultPort))
}

// from is a connection with a source address.
type from struct {
	net.Conn
	addr netip.Addr
}

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.addr, 40000))
}

func (p pipes) dial(source netip.Addr) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		l, ok := p[to.Addr()]
		if !ok || to.Port() != defaultPort {
			return nil, errors.New("no route")
		}
		a, b := net.Pipe()
		select {
		case l.conns <- from{b, source}:
			return a, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// nodeLocal answers for one node.
type nodeLocal struct{ netconf.Node }

func (n nodeLocal) DatabaseStatus(_ context.Context, org, db string) (NodeDatabaseStatus, error) {
	return NodeDatabaseStatus{Role: RoleReplica, State: StateReady, ReadsFrom: n.Name, Keys: int64(len(org + db))}, nil
}

func (n nodeLocal) Explain(_ context.Context, org, db string, args []string) (Explanation, error) {
	if args[0] == "BAD" {
		return Explanation{}, fmt.Errorf("%w command", netconf.ErrInvalid)
	}
	return Explanation{Command: args[0], From: n.Name, Database: org + "/" + db}, nil
}

func (n nodeLocal) Latency(context.Context) ([]LatencyRow, error) {
	return []LatencyRow{{From: n.Region, To: "nrt", RTTMS: 100, Known: true}, {From: n.Region, To: "ams", RTTMS: 24, Known: n.Region != "ams"}}, nil
}

// Three nodes: mad-1 asks, ams-1 answers, nrt-1 is away.
func TestMeshFleet(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	topo, _ := m.control.Current()
	mad, _ := topo.Node("mad-1")
	ams, _ := topo.Node("ams-1")
	mesh := pipes{ams.Addr: {ams.Addr, make(chan net.Conn), make(chan struct{})}}
	remote, err := NewServer(Options{Control: m.control, Local: nodeLocal{ams}})
	if err != nil {
		t.Fatal(err)
	}
	srv := HTTPServer(m.held.wrap(remote.Handler(TrustMesh)), nil)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(mesh[ams.Addr]) }()
	defer func() {
		srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	f, err := NewFleet(FleetOptions{Control: m.control, Node: "mad-1", Local: nodeLocal{mad}, Dial: mesh.dial(mad.Addr)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	st, err := f.DatabaseStatus(ctx, "acme", "demo")
	if err != nil || len(st) != 3 {
		t.Fatalf("%+v, %v", st, err)
	}
	if st[0].Node != "ams-1" || st[0].State != StateReady || st[0].ReadsFrom != "ams-1" || st[0].Keys != 8 || st[0].Region != "ams" {
		t.Errorf("%+v", st[0])
	}
	if st[1].ReadsFrom != "mad-1" || st[2].Node != "nrt-1" || st[2].State != StateAway || st[2].Error == "" {
		t.Errorf("%+v", st[1:])
	}
	if st, _ := f.DatabaseStatus(ctx, "acme", "new"); st[0].State != StateWaiting {
		t.Errorf("a database that the other doesn't know of: %+v", st[0])
	}

	for _, q := range []struct{ region, from string }{{"", "mad-1"}, {"mad", "mad-1"}, {"ams", "ams-1"}} {
		x, err := f.Explain(ctx, "acme", "demo", ExplainRequest{Args: []string{"GET", "k"}, Region: q.region})
		if err != nil || x.From != q.from || x.Database != "acme/demo" {
			t.Errorf("from %q: %+v, %v", q.region, x, err)
		}
	}
	_, err = f.Explain(ctx, "acme", "demo", ExplainRequest{Args: []string{"GET"}, Region: "nrt"})
	want(t, err, CodeUnavailable, "no node of region nrt answers (nrt-1: ")
	_, err = f.Explain(ctx, "acme", "demo", ExplainRequest{Args: []string{"BAD"}, Region: "ams"})
	want(t, err, CodeInvalid, "invalid command")

	l, err := f.Latency(ctx)
	if err != nil || fmt.Sprint(l.Regions) != "[ams mad nrt]" || len(l.Rows) != 9 {
		t.Fatalf("%+v, %v", l, err)
	}
	for _, r := range l.Rows {
		known := r.To == "nrt" && r.From != "nrt" || r.From == "mad" && r.To == "ams"
		if r.Known != known {
			t.Errorf("%+v", r)
		}
	}
	want(t, f.Backup(ctx, nil), CodeUnavailable, "can't back the control plane up")
	if _, err := f.NodeClient("nowhere"); !errors.Is(err, netconf.ErrNotFound) {
		t.Error(err)
	}
	// Over the mesh a node asks as itself: for its own certificate, and no more than nodes may.
	c, err := f.NodeClient("ams-1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Nodes(ctx)
	want(t, err, CodeForbidden, "a node may not do this; use a token")
}

func (nodeLocal) RotateKey(context.Context) error { return nil }
