package api

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"respmesh/netconf"
)

const demo = "/v1/orgs/acme/databases/demo"

// Bodies and parameters of the wrong shape: a clear error, and nothing done.
func TestBadRequests(t *testing.T) {
	m := newMesh(t)
	m.answers()
	before, _ := m.control.Current()
	dbs := "/v1/orgs/acme/databases"
	for _, q := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"POST", "/v1/orgs", ` `, 400, "the body is empty; send one JSON object"},
		{"POST", "/v1/orgs", `{"name":"x"`, 400, "the body isn't JSON"},
		{"POST", "/v1/orgs", `["x"]`, 400, "the body has to be one JSON object"},
		{"POST", "/v1/orgs", `null`, 400, "the body has to be one JSON object"},
		{"POST", "/v1/orgs", `{"name":"x"} {}`, 400, "the body isn't JSON"},
		{"POST", "/v1/orgs", `{"name":"x","colour":1}`, 400, `field "colour" isn't known; this takes name`},
		{"POST", "/v1/orgs", `{"Name":"x"}`, 400, `field "Name" isn't known; this takes name`},
		{"POST", "/v1/orgs", `{"name":"x","name":"y"}`, 400, `field name is given twice`},
		{"POST", "/v1/orgs", `{"name":null}`, 400, "field name is null; leave it out, or give it a value"},
		{"POST", "/v1/orgs", `{"name":7}`, 400, "field name: it is a number, but has to be text"},
		{"POST", "/v1/orgs", `{}`, 400, "name: it is empty; use lower-case letters"},
		{"POST", "/v1/orgs", `{"name":"UPPER"}`, 400, "it doesn't start with a lower-case letter"},
		{"POST", "/v1/orgs", `{"name":"` + strings.Repeat("a", 64) + `"}`, 400, "64 characters; use"},
		{"POST", "/v1/orgs", `{"name":"` + strings.Repeat("a", 1<<20) + `"}`, 413, "larger than 1048576 bytes"},
		{"POST", "/v1/orgs", `{"name":"acme"}`, 409, "org acme already exists"},
		{"GET", "/v1/orgs", `{}`, 400, "this request takes no body"},
		{"POST", demo + "/reset", `{}`, 400, "this request takes no body"},
		{"GET", "/v1/orgs?x=1", "", 400, `parameter "x" isn't known; this takes none`},
		{"GET", "/v1/databases?o=acme", "", 400, `parameter "o" isn't known; this takes org`},
		{"GET", "/v1/databases?org=acme&org=b", "", 400, "parameter org is given twice"},
		{"GET", "/v1/databases?org=nowhere", "", 404, `org "nowhere" isn't there; respmesh orgs list shows what is`},
		{"GET", "/v1/audit?limit=0", "", 400, "parameter limit is \"0\", but has to be a whole number from 1 to 1000"},
		{"GET", "/v1/audit?limit=1001", "", 400, "from 1 to 1000"},
		{"GET", "/v1/audit?before=-1", "", 400, "parameter before"},
		{"DELETE", "/v1/nodes/mad-1?force=yes", "", 400, "has to be true or false"},

		{"POST", dbs, `{"name":"x"}`, 400, "primary_region is missing"},
		{"POST", dbs, `{"name":"x","primary_region":"madrid"}`, 400, `unknown region "madrid"; did you mean mad (Madrid)?`},
		{"POST", dbs, `{"name":"x","primary_region":"lhr"}`, 409, "region lhr has no node; regions with one: ams, mad, nrt"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","read_regions":["mad"]}`, 400, "it is the primary's"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","read_regions":["ams","ams"]}`, 400, "named twice"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","read_regions":"ams"}`, 400, "field read_regions: it is a string, but has to be a list"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","plan":"huge"}`, 400, `plan "huge": use one of free, payg, 250mb`},
		{"POST", dbs, `{"name":"x","primary_region":"mad","plan":"free","max_memory":268435457}`, 400, "more than plan free allows (268435456 bytes); ask for less, or take a larger plan"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","max_memory":-1}`, 400, "is negative"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","max_memory":1.5}`, 400, "field max_memory: it is a number 1.5, but has to be a whole number"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","near":"25"}`, 400, "is no duration; write it as 25ms or 1.5s"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","near":25}`, 400, "field near: it is a number, but has to be a duration such as 25ms"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","hedge":"2h"}`, 400, "hedge 2h0m0s has to be between 0s and 1h0m0s"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","max_lag":"-1s"}`, 400, "max_lag -1s has to be between 0s and 1h0m0s"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","min_replicas":1}`, 409, "only 0 other nodes hold it; add read regions or nodes"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","engine":{"kind":"mysql"}}`, 400, "want embedded, redis or cluster"},
		{"POST", dbs, `{"name":"x","primary_region":"mad","engine":{"kind":"redis","url":"http://h","x":1}}`, 400, `field "x" isn't known`},
		{"POST", dbs, `{"name":"demo","primary_region":"mad"}`, 409, "database acme/demo already exists"},
		{"PATCH", demo, `{"primary_region":"ams"}`, 409, "the primary region can't change (it is mad); make a new database in ams and copy the data"},
		{"PATCH", demo, `{"read_regions":null}`, 400, "field read_regions is null"},
		{"PATCH", demo, `{"plan":"10mb"}`, 400, "use one of free"},
		{"PATCH", demo, `{"max_memory":999999999999}`, 400, "more than plan free allows"},
		{"PATCH", "/v1/orgs/acme/databases/cart", `{}`, 404, "database acme/cart isn't there; respmesh redis list shows what is"},

		{"POST", demo + "/explain", `{"args":[]}`, 400, "args has to hold a command"},
		{"POST", demo + "/explain", `{"args":["GET","k"],"region":"lhr"}`, 409, "region lhr has no node"},
		{"PUT", demo + "/users/default", `{"rules":"~* +@all"}`, 400, "the user default is the database's own"},
		{"PUT", demo + "/users/a:b", `{"rules":"~* +@all"}`, 400, "use letters, digits"},
		{"PUT", demo + "/users/u", `{"rules":""}`, 400, "rules are missing; write them as"},
		{"PUT", demo + "/users/u", `{"rules":"~* +@all >geheim"}`, 400, "a rule that sets a password isn't possible"},
		{"PUT", demo + "/users/u", `{"rules":"get"}`, 400, `rule "get" isn't possible`},
		{"PUT", demo + "/users/u", `{"rules":"~* +@all","password":"short"}`, 400, "16 to 512 characters"},
		{"GET", demo + "/users/u", "", 404, `user "u" of database acme/demo isn't there`},
		{"DELETE", demo + "/users/u", "", 404, "isn't there"},

		{"POST", "/v1/orgs/acme/peers", `{"name":"p","region":"ams","public_key":"x"}`, 400, "want the base64 form of 32 bytes"},
		{"POST", "/v1/orgs/acme/peers", `{"name":"p","region":"ams","public_key":"` + wgKey("mad") + `"}`, 409, "its key already exists: it is that of"},
		{"GET", "/v1/orgs/acme/peers/p", "", 404, "peer acme/p isn't there"},
		{"DELETE", "/v1/orgs/acme/peers/p", "", 404, "peer acme/p isn't there"},
		{"POST", "/v1/orgs/acme/peers/p/reset", `{"public_key":"` + wgKey("x") + `"}`, 404, "peer acme/p isn't there"},

		{"POST", "/v1/tokens", `{"scope":"root"}`, 400, `scope "root" isn't known; it is admin, org, read-only or node`},
		{"POST", "/v1/tokens", `{}`, 400, "scope is missing"},
		{"POST", "/v1/tokens", `{"scope":"org"}`, 400, "a token of scope org needs an org"},
		{"POST", "/v1/tokens", `{"scope":"org","org":"nowhere"}`, 404, `org "nowhere"`},
		{"POST", "/v1/tokens", `{"scope":"admin","org":"acme"}`, 400, "leave org out, or use scope org"},
		{"POST", "/v1/tokens", `{"scope":"admin","reusable":true}`, 400, "are for tokens of scope node"},
		{"POST", "/v1/tokens", `{"scope":"node","region":"xxx"}`, 400, "unknown region"},
		{"POST", "/v1/tokens", `{"scope":"node","ttl":"10ms"}`, 400, "ttl 10ms has to be between 1s and"},
		{"DELETE", "/v1/tokens/nope", "", 404, "respmesh token list"},

		{"POST", "/v1/nodes/nope/drain", "", 404, "respmesh nodes list"},
		{"DELETE", "/v1/nodes/mad-1", "", 409, "node mad-1 is the only one of region mad, the primary region of acme/demo, personal/demo"},
		{"DELETE", "/v1/orgs/acme", "", 409, "it still has database demo"},
	} {
		status, body := m.request(t, "admin", q.method, q.path, q.body)
		if status != q.status || !strings.Contains(unescaped(body), q.text) {
			t.Errorf("%s %s %.100s: %d %s, want %d with %q", q.method, q.path, q.body, status, body, q.status, q.text)
		}
		if strings.Contains(body, "geheim") {
			t.Errorf("a secret is repeated: %s", body)
		}
	}
	if after, _ := m.control.Current(); after != before {
		t.Errorf("revision %d became %d: something was done", before.Revision, after.Revision)
	}
}

func unescaped(body string) string { return strings.ReplaceAll(body, `\"`, `"`) }

func TestContentType(t *testing.T) {
	m := newMesh(t)
	for kind, status := range map[string]int{
		"":                                  415,
		"text/plain":                        415,
		"application/x-www-form-urlencoded": 415,
		"application/json; charset=latin1":  415,
		"application/json; charset=UTF-8":   201,
	} {
		got, body := m.request(t, "admin", "POST", "/v1/orgs", `{"name":"shop"}`, "Content-Type", kind)
		if got != status {
			t.Errorf("%q: %d %s", kind, got, body)
		}
	}
}

func TestIfMatch(t *testing.T) {
	m := newMesh(t)
	topo, _ := m.control.Current()
	seen := fmt.Sprintf("%q", fmt.Sprint(topo.Revision))
	if status, body := m.request(t, "admin", "PATCH", demo, `{"eviction":true}`, "If-Match", seen); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	status, body := m.request(t, "admin", "PATCH", demo, `{"eviction":false}`, "If-Match", seen)
	if status != http.StatusPreconditionFailed || !strings.Contains(body, "you saw revision 2, now it is 3; look again and repeat") {
		t.Errorf("%d %s", status, body)
	}
	if topo, _ := m.control.Current(); !topo.Databases[0].Eviction {
		t.Error("the second change was made")
	}
	for _, wrong := range []string{"2", `W/"2"`, `"x"`, "*", `"2", "3"`} {
		if status, body := m.request(t, "admin", "DELETE", demo, "", "If-Match", wrong); status != 400 {
			t.Errorf("If-Match: %s: %d %s", wrong, status, body)
		}
	}
	// The client's side of it.
	c := m.client(TrustToken, "admin")
	d, err := c.Database(t.Context(), "acme", "demo")
	if err != nil {
		t.Fatal(err)
	}
	want(t, c.DeleteDatabase(WithRevision(t.Context(), d.Revision-1), "acme", "demo"), CodeRevision, "it was changed in between")
	if err := c.DeleteDatabase(WithRevision(t.Context(), d.Revision), "acme", "demo"); err != nil {
		t.Error(err)
	}
}

// A memory limit follows the plan unless it is the database's own.
func TestPlanLimits(t *testing.T) {
	const mb, gb = 1 << 20, 1 << 30
	plan := func(code string) *string { return &code }
	limit := func(n int64) *int64 { return &n }
	for _, q := range []struct {
		plan  string
		have  int64
		patch DatabasePatch
		want  int64
	}{
		{"free", 256 * mb, DatabasePatch{Plan: plan("1gb")}, gb},
		{"free", 100 * mb, DatabasePatch{Plan: plan("1gb")}, 100 * mb},
		{"1gb", 500 * mb, DatabasePatch{Plan: plan("250mb")}, 250 * mb},
		{"1gb", gb, DatabasePatch{Plan: plan("1gb")}, gb},
		{"1gb", 500 * mb, DatabasePatch{Plan: plan("1gb")}, 500 * mb},
		{"1gb", 500 * mb, DatabasePatch{MaxMemory: limit(0)}, gb},
		{"1gb", gb, DatabasePatch{Plan: plan("5gb"), MaxMemory: limit(2 * gb)}, 2 * gb},
		{"", 0, DatabasePatch{MaxMemory: limit(7)}, 7},
		{"", 0, DatabasePatch{Plan: plan("free")}, 256 * mb},
	} {
		db := netconf.Database{Plan: q.plan, MaxMemory: q.have}
		if err := q.patch.apply(&db); err != nil || db.MaxMemory != q.want {
			t.Errorf("%s with %d, %+v: %d, %v", q.plan, q.have, q.patch, db.MaxMemory, err)
		}
	}
}

func TestControlAway(t *testing.T) {
	m := newMesh(t)
	m.control.fail = fmt.Errorf("%w: dial tcp: refused", netconf.ErrUnavailable)
	status, body := m.request(t, "admin", "POST", "/v1/orgs", `{"name":"shop"}`)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "nodes serve on from what they know") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := m.request(t, "admin", "GET", demo, ""); status != 200 {
		t.Errorf("reading: %d %s", status, body)
	}
	m.control.fail = io.ErrUnexpectedEOF // something that nobody foresaw
	status, body = m.request(t, "admin", "POST", "/v1/orgs", `{"name":"shop"}`)
	if status != http.StatusInternalServerError || strings.Contains(body, "EOF") {
		t.Errorf("%d %s", status, body)
	}
}

func TestNodes(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	since := time.Unix(1e9, 0).UTC()
	topo, _ := m.control.Current()
	m.control.Registry = netconf.RegistryOf(topo.WithLive(netconf.Live{Nodes: map[string]netconf.NodeLive{
		"nrt-1": {Since: since, Version: "1.0", Tunnel: "tun", Revision: 2},
	}}))
	c := m.client(TrustToken, "admin")
	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) != 3 || nodes[0].Online || !nodes[2].Online || !nodes[2].Since.Equal(since) || nodes[2].Tunnel != "tun" {
		t.Fatalf("%+v, %v", nodes, err)
	}
	want(t, c.DeleteNode(ctx, "nrt-1", false), CodeConflict, "node nrt-1 still serves; run respmesh nodes drain nrt-1 first")
	if n, err := c.DrainNode(ctx, "nrt-1"); err != nil || !n.Draining || !n.Online {
		t.Fatalf("%+v, %v", n, err)
	}
	if err := c.DeleteNode(ctx, "nrt-1", false); err != nil {
		t.Error(err)
	}
	if err := c.DeleteNode(ctx, "mad-1", true); err != nil {
		t.Error(err)
	}
}

func TestAuditPages(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	c := m.client(TrustToken, "admin")
	for i := range 5 {
		if _, err := c.CreateOrg(ctx, OrgRequest{Name: fmt.Sprintf("org-%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	var revisions []uint64
	for before := uint64(0); ; {
		page, err := c.Audit(ctx, 2, before)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			revisions = append(revisions, r.Revision)
			if r.Actor != "token admin (admin)" {
				t.Errorf("actor %q", r.Actor)
			}
		}
		if before = page.Before; before == 0 {
			break
		}
	}
	if fmt.Sprint(revisions) != "[7 6 5 4 3]" {
		t.Errorf("revisions %v", revisions)
	}
}

func TestBackupBreaksOff(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	m.answers()
	c := m.plainClient(TrustToken, "admin")
	m.fleet.backup = func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<16))
		return fmt.Errorf("the disk is gone: %w", err)
	}
	var got strings.Builder
	if err := c.Backup(ctx, &got); err == nil || !strings.Contains(err.Error(), "it broke off") {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	m.fleet.backup = func(io.Writer) error { return netconf.ErrUnavailable }
	want(t, c.Backup(ctx, io.Discard), CodeUnavailable, "the control plane can't be reached")
	m.fleet.backup = func(w io.Writer) error { _, err := w.Write([]byte("all")); return err }
	got.Reset()
	if err := c.Backup(ctx, &got); err != nil || got.String() != "all" {
		t.Errorf("%q, %v", got.String(), err)
	}
}
