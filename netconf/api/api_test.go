package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"respmesh/netconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Control over the registry in memory.
type memory struct {
	*netconf.Registry
	mu    sync.Mutex
	audit []netconf.AuditRecord
	fail  error // what Update fails with
}

func (m *memory) Update(_ context.Context, actor string, change func(*netconf.Draft) error) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	if err := m.Registry.Update(change); err != nil {
		return 0, err
	}
	t, _ := m.Current()
	m.audit = append(m.audit, netconf.AuditRecord{Revision: t.Revision, Time: time.Unix(1e9, 0).UTC(), Actor: actor, What: []string{"something"}})
	return t.Revision, nil
}

func (m *memory) Audit(_ context.Context, limit int, before uint64) ([]netconf.AuditRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var page []netconf.AuditRecord
	for _, r := range slices.Backward(m.audit) {
		if (before == 0 || r.Revision < before) && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, nil
}

func (m *memory) Connected() bool { return m.fail == nil }

// fakeFleet answers what its fields say.
type fakeFleet struct {
	status  func(org, db string) ([]NodeDatabaseStatus, error)
	explain func(org, db string, in ExplainRequest) (Explanation, error)
	latency func() (Latency, error)
	backup  func(w io.Writer) error
}

func (f *fakeFleet) DatabaseStatus(_ context.Context, org, db string) ([]NodeDatabaseStatus, error) {
	return f.status(org, db)
}
func (f *fakeFleet) Explain(_ context.Context, org, db string, in ExplainRequest) (Explanation, error) {
	return f.explain(org, db, in)
}
func (f *fakeFleet) Latency(context.Context) (Latency, error)    { return f.latency() }
func (f *fakeFleet) Backup(_ context.Context, w io.Writer) error { return f.backup(w) }

func wgKey(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(h[:])
}

// mesh is a server over a mesh of three nodes and two orgs, with a token of each kind.
type mesh struct {
	t       *testing.T
	control *memory
	fleet   *fakeFleet
	server  *Server
	held    *held
	tokens  map[string]string // "admin", "org", "other-org", "read-only", "org-read-only", "node"
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	return newMeshHeld(t, newHeld(t))
}

func newMeshHeld(t *testing.T, h *held) *mesh {
	t.Helper()
	m := &mesh{t: t, held: h, control: &memory{Registry: netconf.NewRegistry()}, fleet: &fakeFleet{}, tokens: map[string]string{}}
	err := m.control.Registry.Update(func(d *netconf.Draft) error {
		for _, region := range []string{"mad", "ams", "nrt"} {
			n := netconf.Node{Name: region + "-1", Region: region, Key: wgKey(region), Endpoint: "192.0.2.1:51820"}
			if _, err := d.AddNode(n); err != nil {
				return err
			}
		}
		for _, org := range []string{"acme", "personal"} {
			if _, err := d.AddOrg(org); err != nil {
				return err
			}
			if _, err := d.AddDatabase(netconf.Database{Org: org, Name: "demo", Primary: "mad", Replicas: []string{"ams"}, Plan: "free", MaxMemory: 256 << 20}); err != nil {
				return err
			}
		}
		for name, k := range map[string]netconf.Token{
			"admin":         {Scope: netconf.ScopeAdmin},
			"org":           {Scope: netconf.ScopeOrg, Org: "acme"},
			"other-org":     {Scope: netconf.ScopeOrg, Org: "personal"},
			"read-only":     {Scope: netconf.ScopeReadOnly},
			"org-read-only": {Scope: netconf.ScopeReadOnly, Org: "acme"},
			"node":          {Scope: netconf.ScopeNode},
		} {
			secret, hash := newSecret()
			k.ID, k.Hash, k.Name, k.Created = strings.ReplaceAll(name, "-", ""), hash, name, time.Now()
			d.Tokens = append(d.Tokens, k)
			m.tokens[name] = tokenPrefix + k.ID + "." + secret
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.server, err = NewServer(Options{Control: m.control, Fleet: m.fleet, Version: "1.2.3", Node: "mad-1"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// client is a client over loopback with a token of newMesh; "" none.
func (m *mesh) client(trust Trust, token string) *Client {
	m.t.Helper()
	return m.clientOf(m.held.wrap(m.server.Handler(trust)), token)
}

// plainClient is one whose answers stream.
func (m *mesh) plainClient(trust Trust, token string) *Client {
	m.t.Helper()
	return m.clientOf(m.server.Handler(trust), token)
}

func (m *mesh) clientOf(h http.Handler, token string) *Client {
	m.t.Helper()
	srv := httptest.NewServer(h)
	m.t.Cleanup(srv.Close)
	c, err := NewClient(ClientOptions{URL: srv.URL, Token: m.tokens[token]})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(c.Close)
	return c
}

// want asserts an error's code and a part of its text.
func want(t *testing.T, err error, code Code, text string) {
	t.Helper()
	told, ok := errors.AsType[*Error](err)
	if !ok || told.Code != code || !strings.Contains(told.Message, text) {
		t.Fatalf("got %v, want %s with %q", describe(err), code, text)
	}
	if told.Status != code.status() {
		t.Fatalf("status %d for %s", told.Status, code)
	}
}

func describe(err error) string {
	if told, ok := errors.AsType[*Error](err); ok {
		return fmt.Sprintf("%s %q", told.Code, told.Message)
	}
	return fmt.Sprint(err)
}

func TestDatabaseLife(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	c := m.client(TrustToken, "org")
	made, err := c.CreateDatabase(ctx, "acme", DatabaseRequest{Name: "cart", Primary: "mad", ReadRegions: []string{"nrt", "ams"}, Plan: "250mb", Eviction: true})
	if err != nil {
		t.Fatal(err)
	}
	d := made.Database
	if d.Host != "cart.acme.internal" || d.URL != "redis://default@cart.acme.internal:6379" || d.MaxMemory != 250<<20 ||
		!slices.Equal(d.ReadRegions, []string{"ams", "nrt"}) || d.Engine.Kind != "embedded" || !d.Eviction {
		t.Errorf("%+v", d)
	}
	if len(made.Password) < 26 || made.URL != "redis://default:"+made.Password+"@cart.acme.internal:6379" {
		t.Errorf("password %q, URL %q", made.Password, made.URL)
	}
	topo, _ := m.control.Current()
	if kept, _ := topo.Database("acme", "cart"); kept.PasswordHash != hashSecret(made.Password) {
		t.Error("the hash that is kept isn't the password's")
	}

	list, err := c.Databases(ctx, "")
	if err != nil || len(list) != 2 || list[0].Name != "cart" {
		t.Fatalf("%+v, %v", list, err)
	}
	regions, plan, lag := []string{}, "1gb", Duration(time.Second)
	d, err = c.UpdateDatabase(ctx, "acme", "cart", DatabasePatch{ReadRegions: &regions, Plan: &plan, MaxLag: &lag})
	if err != nil || len(d.ReadRegions) != 0 || d.MaxMemory != 1<<30 || d.MaxLag != lag || !d.Eviction {
		t.Fatalf("%+v, %v", d, err)
	}
	again, err := c.ResetDatabase(ctx, "acme", "cart")
	if err != nil || again.Password == made.Password {
		t.Fatalf("%+v, %v", again, err)
	}
	if err := c.DeleteDatabase(ctx, "acme", "cart"); err != nil {
		t.Fatal(err)
	}
	_, err = c.Database(ctx, "acme", "cart")
	want(t, err, CodeNotFound, "database acme/cart isn't there; respmesh redis list shows what is")
	if !errors.Is(err, netconf.ErrNotFound) {
		t.Error("it isn't a netconf.ErrNotFound")
	}
}

func TestOrgs(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	c := m.client(TrustLoopback, "")
	o, err := c.CreateOrg(ctx, OrgRequest{Name: "shop"})
	if err != nil || !strings.HasSuffix(o.Resolver, "::3") {
		t.Fatalf("%+v, %v", o, err)
	}
	_, err = c.CreateOrg(ctx, OrgRequest{Name: "shop"})
	want(t, err, CodeExists, "org shop already exists")
	if err := c.DeleteOrg(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	want(t, c.DeleteOrg(ctx, "acme"), CodeConflict, "it still has database demo")
	want(t, c.DeleteOrg(ctx, "shop"), CodeNotFound, "respmesh orgs list")
	orgs, err := m.client(TrustToken, "org").Orgs(ctx)
	if err != nil || len(orgs) != 1 || orgs[0].Name != "acme" || orgs[0].Databases != 1 {
		t.Errorf("%+v, %v", orgs, err)
	}
	if got := m.control.audit[0].Actor; got != "loopback" {
		t.Errorf("actor %q", got)
	}
}

func TestUnknownPlaces(t *testing.T) {
	m := newMesh(t)
	srv := httptest.NewServer(m.server.Handler(TrustLoopback))
	defer srv.Close()
	for _, q := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 404}, {"GET", "/v1/nothing", 404}, {"PUT", "/v1/orgs", 405}, {"GET", "/v1/openapi.json", 200},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), q.method, srv.URL+q.path, nil)
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != q.status || resp.Header.Get("Content-Type") != contentJSON {
			t.Errorf("%s %s: %d %s %s", q.method, q.path, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
	}
}

func (f *fakeFleet) RotateKey(context.Context, string) error { return nil }
