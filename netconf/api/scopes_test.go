package api

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

// answers has a fleet, a local node and an enroller that answer anything.
func (m *mesh) answers() {
	*m.fleet = fakeFleet{
		status: func(string, string) ([]NodeDatabaseStatus, error) {
			return []NodeDatabaseStatus{{Node: "mad-1", Region: "mad", Role: RolePrimary, State: StateReady, Replid: strings.Repeat("a", 40), Sync: &Sync{Bytes: 1, Total: 2, Rate: 3}}}, nil
		},
		explain: func(org, db string, in ExplainRequest) (Explanation, error) {
			return Explanation{Command: in.Args[0], Class: "read", From: "mad-1", Route: "local", Node: "mad-1", Region: "mad", Reason: "it is here", Database: org + "/" + db}, nil
		},
		latency: func() (Latency, error) {
			return Latency{Regions: []string{"ams", "mad"}, Rows: []LatencyRow{{From: "ams", To: "mad", RTTMS: 24.5, Known: true}}}, nil
		},
		backup: func(w io.Writer) error { _, err := io.WriteString(w, "snapshot"); return err },
	}
	m.server.opt.Local = fakeLocal{}
	m.server.opt.ControlPlane = func(context.Context) (ControlPlane, error) {
		return ControlPlane{Kind: ControlOnNodes, Members: []ControlMember{{Node: "mad-1", Region: "mad", Role: PartLeader, Online: true, Bytes: 1}}}, nil
	}
	m.server.opt.Enroller = enrollerFunc(func(n netconf.Node, _ []byte) (Enrolment, error) {
		return Enrolment{CA: []byte("ca"), Certificate: []byte("cert of " + n.Name), Control: []string{"https://[fd00::1]:2379"}}, nil
	})
}

type enrollerFunc func(netconf.Node, []byte) (Enrolment, error)

func (f enrollerFunc) Enrol(_ context.Context, n netconf.Node, csr []byte) (Enrolment, error) {
	return f(n, csr)
}

func (enrollerFunc) Ready() bool { return true }

func (enrollerFunc) Share(_ context.Context, n netconf.Node, q *pki.Question) ([]byte, error) {
	return append([]byte("sealed to "+n.Name+" "), q.PublicKey...), nil
}

type fakeLocal struct{}

func (fakeLocal) DatabaseStatus(context.Context, string, string) (NodeDatabaseStatus, error) {
	return NodeDatabaseStatus{Node: "mad-1", Region: "mad", Role: RolePrimary, State: StateReady}, nil
}

func (fakeLocal) Explain(_ context.Context, org, db string, args []string) (Explanation, error) {
	return Explanation{Command: args[0], Database: org + "/" + db, Node: "mad-1", From: "mad-1"}, nil
}

func (fakeLocal) Latency(context.Context) ([]LatencyRow, error) {
	return []LatencyRow{{From: "mad", To: "ams", RTTMS: 20, Known: true}}, nil
}

// request sends one request as one of the principals and gives the status and the body.
func (m *mesh) request(t *testing.T, who, method, path, body string, header ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://[::1]:17379"+path, strings.NewReader(body))
	r.RemoteAddr = "[2001:db8::1]:4000"
	trust := TrustToken
	switch who {
	case "":
	case "mesh":
		topo, _ := m.control.Current()
		n, _ := topo.Node("ams-1")
		trust, r.RemoteAddr = TrustMesh, "["+n.Addr.String()+"]:4000"
	default:
		r.Header.Set("Authorization", "Bearer "+m.tokens[who])
	}
	if body != "" {
		r.Header.Set("Content-Type", contentJSON)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	m.held.wrap(m.server.Handler(trust)).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

var principals = []string{"", "admin", "org", "other-org", "read-only", "org-read-only", "node", "mesh"}

// scopeTable says for every route who may use it for things of org acme: in the order of principals, + yes, - no.
const scopeTable = `
GET    /v1/openapi.json                             ++++++++
GET    /v1/version                                  ++++++++
GET    /v1/plans                                    ++++++++
GET    /v1/regions                                  -+++++-+
GET    /v1/orgs                                     -+++++--
POST   /v1/orgs                                     -+------
GET    /v1/orgs/acme                                -++-++--
DELETE /v1/orgs/acme                                -+------
GET    /v1/databases                                -+++++--
GET    /v1/databases?org=acme                       -++-++--
POST   /v1/orgs/acme/databases                      -++-----
GET    /v1/orgs/acme/databases/demo                 -++-++--
PATCH  /v1/orgs/acme/databases/demo                 -++-----
DELETE /v1/orgs/acme/databases/demo                 -++-----
POST   /v1/orgs/acme/databases/demo/reset           -++-----
POST   /v1/orgs/acme/databases/demo/failover        -++-----
GET    /v1/orgs/acme/databases/demo/status          -++-++--
POST   /v1/orgs/acme/databases/demo/explain         -++-++--
GET    /v1/orgs/acme/databases/demo/connect         -++-----
GET    /v1/orgs/acme/databases/demo/users           -++-++--
GET    /v1/orgs/acme/databases/demo/users/u         -++-++--
PUT    /v1/orgs/acme/databases/demo/users/u         -++-----
DELETE /v1/orgs/acme/databases/demo/users/u         -++-----
GET    /v1/orgs/acme/peers                          -++-++--
POST   /v1/orgs/acme/peers                          -++-----
GET    /v1/orgs/acme/peers/p                        -++-++--
DELETE /v1/orgs/acme/peers/p                        -++-----
POST   /v1/orgs/acme/peers/p/reset                  -++-----
GET    /v1/tokens                                   -+++----
POST   /v1/tokens                                   -+++----
DELETE /v1/tokens/org                               -++-----
DELETE /v1/tokens/admin                             -+------
GET    /v1/nodes                                    -+--+---
POST   /v1/nodes/mad-1/drain                        -+------
POST   /v1/nodes/mad-1/undrain                      -+------
POST   /v1/nodes/mad-1/rotate-key                   -+------
DELETE /v1/nodes/mad-1                              -+------
GET    /v1/control                                  -+--+---
GET    /v1/latency                                  -+++++-+
GET    /v1/audit                                    -+--+---
GET    /v1/backup                                   -+------
GET    /v1/join                                     ++++++++
POST   /v1/join                                     ++++++++
GET    /v1/node/orgs/acme/databases/demo/status     -+-----+
POST   /v1/node/orgs/acme/databases/demo/explain    -+-----+
GET    /v1/node/latency                             -+-----+
POST   /v1/node/certificate                         -+-----+
POST   /v1/node/authority                           -+-----+
POST   /v1/node/rotate-key                          -+-----+
`

// Each route with each scope. Who may use a route gets an answer about the request, which here is often wrong.
func TestScopes(t *testing.T) {
	covered, h := map[string]bool{}, newHeld(t)
	for line := range strings.SplitSeq(strings.TrimSpace(scopeTable), "\n") {
		f := strings.Fields(line)
		method, path, may := f[0], f[1], f[2]
		for i, who := range principals {
			m := newMeshHeld(t, h)
			m.answers()
			status, body := m.request(t, who, method, path, "")
			refused := status == http.StatusUnauthorized || status == http.StatusForbidden ||
				method == "DELETE" && strings.HasPrefix(path, "/v1/tokens/") && status == http.StatusNotFound // another's isn't there
			if allowed := may[i] == '+'; allowed == refused {
				t.Errorf("%s %s as %q: %d %s", method, path, who, status, body)
			}
			if who == "" && refused && status != http.StatusUnauthorized {
				t.Errorf("%s %s without a token: %d, want 401", method, path, status)
			}
			if i == 0 {
				r := httptest.NewRequest(method, path, nil)
				_, pattern := m.server.mux.Handler(r)
				covered[pattern] = true
			}
		}
	}
	for _, r := range routes() {
		if !covered[r.method+" "+r.path] {
			t.Errorf("%s %s isn't in the table", r.method, r.path)
		}
	}
}

// A token of one org neither lists nor hears of another's things.
func TestOrgsAreApart(t *testing.T) {
	m := newMesh(t)
	for _, path := range []string{"/v1/orgs", "/v1/databases", "/v1/tokens"} {
		status, body := m.request(t, "org", "GET", path, "")
		if status != http.StatusOK || strings.Contains(body, "personal") {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	there, here := "/v1/orgs/personal/databases/demo", "/v1/orgs/nowhere/databases/demo"
	status1, body1 := m.request(t, "org", "GET", there, "")
	status2, body2 := m.request(t, "org", "GET", here, "")
	if status1 != status2 || strings.ReplaceAll(body1, "personal", "nowhere") != body2 {
		t.Errorf("a token tells which orgs there are: %s, %s", body1, body2)
	}
}

// Every route does its work once, and all that was sent is as described.
func TestEveryRoute(t *testing.T) {
	m := newMesh(t)
	m.answers()
	m.led(t, "acme", netconf.Primary{Node: "gone", Term: 4})
	key, csr := wgPrivate(t), nodeCSR(t, "lhr-1")
	db := "/v1/orgs/acme/databases/demo"
	for _, q := range []struct{ method, path, body, want string }{
		{"GET", "/v1/openapi.json", "", `"openapi"`},
		{"GET", "/v1/version", "", `"version":"1.2.3"`},
		{"GET", "/v1/plans", "", `"code":"free","max_data":268435456,"max_request":10485760,"commands_per_day":10000`},
		{"GET", "/v1/regions", "", `"code":"mad","city":"Madrid","lat":40.42,"lon":-3.7,"nodes":1`},
		{"GET", "/v1/orgs", "", `"name":"acme"`},
		{"POST", "/v1/orgs", `{"name":"shop"}`, `"databases":0`},
		{"GET", "/v1/orgs/shop", "", `"name":"shop"`},
		{"DELETE", "/v1/orgs/shop", "", ""},
		{"GET", "/v1/databases?org=acme", "", `"read_regions":["ams"]`},
		{"POST", "/v1/orgs/acme/databases", `{"name":"big","primary_region":"mad","read_regions":["ams"],"near":"15ms","max_lag":"2s","hedge":"20ms","min_replicas":0,"max_memory":1000000,
			"max_sessions":7,"commands_per_second":100,"concurrency":2,"idle_timeout":"1h","max_value":4096,
			"engine":{"kind":"redis","url":"redis://u:hidden@192.0.2.1:6379"}}`, `"near":"15ms","max_lag":"2s","hedge":"20ms","min_replicas":0,"max_sessions":7,"commands_per_second":100,"commands_per_day":0,"concurrency":2,"idle_timeout":"1h0m0s","max_value":4096,"engine":{"kind":"redis","url":"redis://u:xxxxx@192.0.2.1:6379"}`},
		{"GET", db, "", `"plan":"free"`},
		{"PATCH", db, `{"eviction":true,"read_regions":["nrt","ams"],"engine":{"kind":"embedded"}}`, `"read_regions":["ams","nrt"]`},
		{"PATCH", db, `{"max_sessions":9,"commands_per_second":5,"concurrency":0,"idle_timeout":"2s","max_value":1}`, `"max_sessions":9,"commands_per_second":5,"commands_per_day":10000,"concurrency":0,"idle_timeout":"2s","max_value":1,`},
		{"POST", db + "/reset", "", `"password":"`},
		{"GET", db + "/status", "", `"state":"ready"`},
		{"POST", db + "/failover", `{"node":"mad-1","force":true}`, `"node":"mad-1"`},
		{"POST", db + "/explain", `{"args":["GET","k"],"region":"ams"}`, `"reason":"it is here"`},
		{"PUT", db + "/users/app", `{"rules":"~cache:*   +@read"}`, `"rules":"~cache:* +@read"},"password":"`},
		{"GET", db + "/users", "", `"name":"app"`},
		{"GET", db + "/users/app", "", `"name":"app"`},
		{"DELETE", db + "/users/app", "", ""},
		{"POST", "/v1/orgs/acme/peers", `{"name":"laptop","region":"ams","public_key":"` + wgKey("p1") + `"}`, `"endpoint":"192.0.2.1:51820"`},
		{"POST", "/v1/orgs/acme/peers/laptop/reset", `{"public_key":"` + wgKey("p2") + `"}`, wgKey("p2")},
		{"GET", "/v1/orgs/acme/peers", "", `"region":"ams"`},
		{"GET", "/v1/orgs/acme/peers/laptop", "", `"endpoint":"192.0.2.1:51820"`},
		{"POST", "/v1/orgs/acme/peers", `{"name":"sidecar","region":"ams","roaming":true,"public_key":"` + wgKey("p3") + `"}`, `"name":"nrt-1","region":"nrt"`},
		{"DELETE", "/v1/orgs/acme/peers/laptop", "", ""},
		{"POST", "/v1/tokens", `{"scope":"read-only","name":"dashboard","ttl":"24h"}`, `"secret":"rm_`},
		{"GET", "/v1/tokens", "", `"name":"dashboard"`},
		{"DELETE", "/v1/tokens/orgreadonly", "", ""},
		{"GET", "/v1/nodes", "", `"control":"leader"`},
		{"GET", "/v1/control", "", `"role":"leader"`},
		{"POST", "/v1/nodes/nrt-1/drain", "", `"draining":true`},
		{"POST", "/v1/nodes/nrt-1/undrain", "", `"draining":false`},
		{"POST", "/v1/nodes/nrt-1/rotate-key", "", ""},
		{"POST", "/v1/node/rotate-key", "", ""},
		{"DELETE", "/v1/nodes/nrt-1?force=true", "", ""},
		{"GET", "/v1/latency", "", `"rtt_ms":24.5`},
		{"GET", "/v1/audit?limit=3", "", `"before":`},
		{"GET", "/v1/backup", "", "snapshot"},
		{"GET", "/v1/join", "", `"nonce"`},
		{"POST", "/v1/join", m.joinBody(t, key, csr, JoinRequest{Token: m.tokens["node"], Name: "lhr-1", Region: "lhr"}), `"certificate":"cert of lhr-1"`},
		{"GET", "/v1/node" + strings.TrimPrefix(db, "/v1") + "/status", "", `"role":"primary"`},
		{"POST", "/v1/node" + strings.TrimPrefix(db, "/v1") + "/explain", `{"args":["GET"]}`, `"command":"GET"`},
		{"GET", "/v1/node/latency", "", `"rtt_ms":20`},
		{"DELETE", db, "", ""},
	} {
		status, body := m.request(t, "admin", q.method, q.path, q.body)
		if status/100 != 2 || !strings.Contains(body, q.want) || q.want == "" && body != "" {
			t.Errorf("%s %s: %d %s", q.method, q.path, status, body)
		}
	}
	status, body := m.request(t, "mesh", "POST", "/v1/node/certificate", jsonOf(t, CertificateRequest{CSR: string(csr)}))
	if status != http.StatusOK || !strings.Contains(body, "cert of ams-1") {
		t.Errorf("renewal: %d %s", status, body)
	}
	status, body = m.request(t, "mesh", "POST", "/v1/node/authority", `{"certificate":"c","public_key":"a2V5","signature":""}`)
	if want := base64.StdEncoding.EncodeToString([]byte("sealed to ams-1 key")); status != http.StatusOK || !strings.Contains(body, want) {
		t.Errorf("the CA's key: %d %s", status, body)
	}
	for _, r := range routes() {
		if !r.upgrade && !m.held.ok[r.method+" "+r.path] { // streams have tests of their own
			t.Errorf("%s %s wasn't tried", r.method, r.path)
		}
	}
	topo, _ := m.control.Current()
	if d, _ := topo.Database("acme", "big"); d.Engine.URL != "redis://u:hidden@192.0.2.1:6379" {
		t.Errorf("the engine's URL that is kept is %q", d.Engine.URL)
	}
	for name, text := range m.tokens {
		_, secret, _ := splitToken(text)
		if strings.Contains(jsonOf(t, topo.State), secret) {
			t.Errorf("the secret of token %s is kept", name)
		}
	}
}

func (fakeLocal) RotateKey(context.Context) error { return nil }
