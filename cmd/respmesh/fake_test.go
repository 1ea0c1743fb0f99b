package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/resp/frame"
)

// fakeMesh is a mesh of three nodes behind a real API: what is configured is real, what runs is made up. It is the
// api.Control, and the api.Fleet.
type fakeMesh struct {
	*netconf.Registry
	mu    sync.Mutex
	polls map[string]int // how often a node was asked for a database's status
	broke string         // the node of this name can't hold a copy
}

func fakeKey(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(h[:])
}

// fakeState has two orgs, three nodes and one database.
func fakeState() netconf.State {
	d := netconf.Draft{State: netconf.State{
		Infra: netip.MustParsePrefix("fd00:0:1::/48"),
		Orgs: []netconf.Org{
			{Name: "personal", Prefix: netip.MustParsePrefix("fd00:0:2::/48")},
			{Name: "shop", Prefix: netip.MustParsePrefix("fd00:0:3::/48")},
		},
	}}
	for _, region := range []string{"mad", "ams", "nrt"} {
		n := netconf.Node{Name: region + "-1", Region: region, Key: fakeKey(region)}
		if region != "nrt" {
			n.Endpoint = region + ".example.com:51820"
		}
		if _, err := d.AddNode(n); err != nil {
			panic(err)
		}
	}
	if _, err := d.AddDatabase(netconf.Database{
		ID: "demo0000demo0000", Org: "personal", Name: "demo", Primary: "mad", Replicas: []string{"ams", "nrt"}, Plan: "payg", HashSeed: 1,
		Created: time.Unix(1_700_000_000, 0).UTC(),
	}); err != nil {
		panic(err)
	}
	return d.State
}

func newFakeMesh() (*fakeMesh, error) {
	t, err := netconf.NewTopology(1, fakeState())
	if err != nil {
		return nil, err
	}
	return &fakeMesh{Registry: netconf.RegistryOf(t), polls: map[string]int{}}, nil
}

func (m *fakeMesh) Current() (*netconf.Topology, <-chan struct{}) {
	t, changed := m.Registry.Current()
	since := time.Unix(1_700_000_000, 0).UTC()
	return t.WithLive(netconf.Live{
		Nodes: map[string]netconf.NodeLive{
			"mad-1": {Version: "v1.2.3", Since: since, Tunnel: "userspace", Revision: t.Revision},
			"ams-1": {Version: "v1.2.3", Since: since, Tunnel: "tun", Revision: t.Revision, Narrow: []netconf.NarrowPath{{Node: "mad-1", MTU: 1200}, {Node: "nrt-1"}}},
		},
		Primaries: map[string]netconf.Primary{"demo0000demo0000": {Node: "mad-1", Term: 3, Held: true}},
	}), changed
}

func (m *fakeMesh) Update(_ context.Context, _ string, change func(*netconf.Draft) error) (uint64, error) {
	if err := m.Registry.Update(change); err != nil {
		return 0, err
	}
	t, _ := m.Registry.Current()
	return t.Revision, nil
}

func (m *fakeMesh) Audit(context.Context, int, uint64) ([]netconf.AuditRecord, error) {
	return []netconf.AuditRecord{{Revision: 7, Time: time.Unix(1_700_000_000, 0), Actor: "token ops", What: []string{"database personal/demo: plan free → payg"}}}, nil
}

func (m *fakeMesh) controlPlane(context.Context) (api.ControlPlane, error) {
	return api.ControlPlane{Kind: api.ControlOnNodes, Members: []api.ControlMember{
		{Node: "ams-1", Region: "ams", Role: api.PartMember, Online: true, Bytes: 81920},
		{Node: "mad-1", Region: "mad", Role: api.PartLeader, Online: true, Bytes: 81920},
		{Node: "nrt-1", Region: "nrt", Role: api.PartMember, Error: "no answer"},
	}}, nil
}

func (m *fakeMesh) Connected() bool { return true }

// DatabaseStatus has each copy that isn't demo's sync in three steps.
func (m *fakeMesh) DatabaseStatus(_ context.Context, org, db string) ([]api.NodeDatabaseStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, _ := m.Registry.Current()
	d, ok := t.Database(org, db)
	if !ok {
		return nil, netconf.ErrNotFound
	}
	var all []api.NodeDatabaseStatus
	for _, n := range t.Nodes {
		s := api.NodeDatabaseStatus{Node: n.Name, Region: n.Region, Role: api.RoleNone, State: api.StateReady, Sessions: 2, RTTMS: 24.7, ReadsFrom: "mad-1"}
		if d.Holds(n.Region) {
			s.Role, s.ReadsFrom, s.Keys, s.Memory, s.LagMS = api.RoleReplica, n.Name, 1200, 3<<20, 1.5
		}
		switch {
		case n.Region == d.Primary:
			s.Role, s.LagMS, s.RTTMS = api.RolePrimary, 0, 0
		case m.broke == n.Name && s.Role == api.RoleReplica:
			s.State, s.Error = api.StateBroken, "the stream has FROBNICATE, which this engine doesn't know"
		case n.Region == "nrt" && d.Name == "demo":
			s = api.NodeDatabaseStatus{Node: n.Name, Region: n.Region, Role: s.Role, State: api.StateAway, Error: "no answer in 2s"}
		case s.Role == api.RoleReplica && d.Name != "demo" || n.Region == "nrt" && s.Role == api.RoleReplica:
			if i := int64(m.polls[d.ID+n.Name]); i < 3 {
				s.State, s.LagMS, s.Sync = api.StateSyncing, 0, &api.Sync{Bytes: i * 256 << 20, Total: 1 << 30, Rate: 93 << 20}
				s.LagBytes = 4096
			}
			m.polls[d.ID+n.Name]++
		}
		all = append(all, s)
	}
	return all, nil
}

func (m *fakeMesh) Explain(_ context.Context, org, db string, in api.ExplainRequest) (api.Explanation, error) {
	e := api.Explanation{Command: strings.ToLower(in.Args[0]), Class: "read", From: "mad-1", Route: "local", Node: "mad-1", Region: "mad",
		Reason: "its own replica is in sync", Database: org + "/" + db}
	if e.Command == "set" {
		e.Class, e.Route, e.Reason = "write", "primary", "writes go to the primary"
	}
	if in.Region != "" {
		e.From, e.RTTMS = in.Region+"-1", 24.7
	}
	return e, nil
}

func (m *fakeMesh) Latency(context.Context) (api.Latency, error) {
	return api.Latency{Regions: []string{"ams", "mad", "nrt"}, Rows: []api.LatencyRow{
		{From: "ams", To: "ams", RTTMS: 0.4, Known: true}, {From: "ams", To: "mad", RTTMS: 24.7, Known: true}, {From: "ams", To: "nrt", RTTMS: 238, Known: true},
		{From: "mad", To: "ams", RTTMS: 24.9, Known: true}, {From: "mad", To: "mad", RTTMS: 0.3, Known: true}, {From: "mad", To: "nrt"},
	}}, nil
}

func (m *fakeMesh) Backup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "a snapshot\n")
	return err
}

// connect is the gateway of personal/demo, whose password is "open sesame".
func (m *fakeMesh) connect(_ context.Context, org, db string) (net.Conn, error) {
	if db != "demo" {
		return nil, errors.New("no gateway")
	}
	ours, theirs := net.Pipe()
	go serveFakeDatabase(theirs)
	return ours, nil
}

func serveFakeDatabase(conn net.Conn) {
	defer conn.Close()
	known := false
	var c frame.Command
	for r := frame.NewReader(conn); r.ReadCommand(&c) == nil; {
		name := strings.ToLower(string(c.Args[0]))
		var out []byte
		switch {
		case name == "auth" && string(c.Args[len(c.Args)-1]) == "open sesame":
			known, out = true, frame.AppendSimple(nil, "OK")
		case name == "auth":
			out = frame.AppendError(nil, "WRONGPASS invalid username-password pair or user is disabled.")
		case !known:
			out = frame.AppendError(nil, "NOAUTH Authentication required.")
		case name == "get" && len(c.Args) == 2:
			out = frame.AppendBulkString(nil, "value of "+string(c.Args[1]))
		case name == "ping":
			out = frame.AppendSimple(nil, "PONG")
		default:
			out = frame.AppendError(nil, "ERR unknown command")
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// serveFake gives a script an API of its own; it ends with the script.
func serveFake(env *testscript.Env) error {
	mesh, err := newFakeMesh()
	if err != nil {
		return err
	}
	server, err := api.NewServer(api.Options{Control: mesh, Fleet: mesh, Connect: mesh.connect, ControlPlane: mesh.controlPlane, Version: "v1.2.3", Node: "mad-1"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	serve := func(trust api.Trust) (string, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		s := api.HTTPServer(server.Handler(trust), nil)
		s.BaseContext = func(net.Listener) context.Context { return ctx }
		done := make(chan error, 1)
		go func() { done <- s.Serve(ln) }()
		env.Defer(func() {
			cancel()
			s.Close()
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				panic(err)
			}
		})
		return "http://" + ln.Addr().String(), nil
	}
	dev, err := serve(api.TrustLoopback)
	if err != nil {
		return err
	}
	strict, err := serve(api.TrustToken)
	if err != nil {
		return err
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { taken.Close() })
	free, err := net.Listen("tcp", "127.0.0.1:0") // where nobody answers, once it is closed
	if err != nil {
		return err
	}
	free.Close()
	env.Setenv("RESPMESH_API", dev)
	env.Setenv("STRICT", strict) // wants a token
	env.Setenv("NOBODY", "http://"+free.Addr().String())
	env.Setenv("TAKEN", fmt.Sprint(taken.Addr().(*net.TCPAddr).Port))
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, ".config"))
	env.Setenv("TERM", "dumb")
	self, err := exec.LookPath("respmesh") // testscript's own PATH has it
	if err != nil {
		return err
	}
	env.Setenv("RESPMESH", self)
	env.Values[meshKey{}] = mesh
	return nil
}

type meshKey struct{}

// breaks makes a node of the fake mesh unable to hold a copy: `breaks NODE`.
func breaks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: breaks NODE")
	}
	mesh := ts.Value(meshKey{}).(*fakeMesh)
	mesh.mu.Lock()
	defer mesh.mu.Unlock()
	mesh.broke = args[0]
}

func (m *fakeMesh) RotateKey(context.Context, string) error { return nil }
