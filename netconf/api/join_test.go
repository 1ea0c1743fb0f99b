package api

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

func wgPrivate(t *testing.T) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func nodeCSR(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.Request(key, name)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func (m *mesh) challenge(age time.Duration) JoinChallenge {
	return JoinChallenge{
		PublicKey: base64.StdEncoding.EncodeToString(m.server.joins.key.PublicKey().Bytes()),
		Nonce:     base64.StdEncoding.EncodeToString(m.server.joins.nonce(time.Now().Add(-age))),
	}
}

func (m *mesh) joinBody(t *testing.T, key *ecdh.PrivateKey, csr []byte, in JoinRequest) string {
	t.Helper()
	in.CSR = string(csr)
	if err := in.prove(key, m.challenge(0)); err != nil {
		t.Fatal(err)
	}
	return jsonOf(t, in)
}

// nodeToken makes a token of scope node as a user would.
func (m *mesh) nodeToken(t *testing.T, in TokenRequest) NewToken {
	t.Helper()
	in.Scope = netconf.ScopeNode
	made, err := m.client(TrustToken, "admin").CreateToken(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestJoin(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	ca, err := pki.OpenCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m.server.opt.Enroller = LocalEnroller{CA: func() *pki.CA { return ca }, Control: func() []string { return []string{"https://[fd00::1]:2379"} }}
	token := m.nodeToken(t, TokenRequest{Region: "lhr"})
	if left := time.Until(*token.Token.Expires); left < 59*time.Minute || left > time.Hour {
		t.Errorf("a node's token is good for %s", left)
	}
	c := m.client(TrustToken, "")
	o := JoinOptions{Token: token.Secret, Name: "lhr-1", Region: "lhr", Endpoint: "198.51.100.7:51820", WireGuard: wgPrivate(t), CSR: nodeCSR(t, "somebody-else")}
	got, err := c.Join(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	topo, _ := m.control.Current()
	n, ok := topo.Node("lhr-1")
	if !ok || n.Key != base64.StdEncoding.EncodeToString(o.WireGuard.PublicKey().Bytes()) || n.Endpoint != o.Endpoint || got.Node.Address != n.Addr.String() {
		t.Fatalf("%+v, kept %+v", got.Node, n)
	}
	if got.Control[0] != "https://[fd00::1]:2379" || got.Infra != topo.Infra.String() || got.Revision != topo.Revision {
		t.Errorf("%+v", got)
	}
	var state netconf.State
	if err := json.Unmarshal(got.State, &state); err != nil || len(state.Nodes) != 4 || len(state.Tokens) != 0 {
		t.Errorf("state: %v, %d nodes, %d tokens", err, len(state.Nodes), len(state.Tokens))
	}
	if _, err := netconf.NewTopology(got.Revision, state); err != nil {
		t.Errorf("the state isn't valid: %v", err)
	}
	if kept, _ := topo.Token(token.Token.ID); kept.UsedBy != n.Key {
		t.Errorf("used by %q", kept.UsedBy)
	}

	again, err := c.Join(ctx, o) // the first answer was lost
	if err != nil || again.Node.Address != got.Node.Address || again.Revision != got.Revision {
		t.Errorf("retry: %+v, %v", again.Node, err)
	}
	other := o
	other.Name = "lhr-2"
	_, err = c.Join(ctx, other)
	want(t, err, CodeConflict, "this WireGuard key joined as node lhr-1 in region lhr")
	other.WireGuard = wgPrivate(t)
	_, err = c.Join(ctx, other)
	want(t, err, CodeForbidden, "used already, by another node")

	if err := m.client(TrustToken, "admin").DeleteNode(ctx, "lhr-1", false); err != nil {
		t.Fatal(err)
	}
	_, err = c.Join(ctx, o)
	want(t, err, CodeForbidden, "was removed; ask for a new token")
}

func TestJoinRefuses(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	m.answers()
	c := m.client(TrustToken, "")
	good := JoinOptions{Name: "lhr-1", Region: "lhr", WireGuard: wgPrivate(t), CSR: nodeCSR(t, "lhr-1")}
	bound, revoked := m.nodeToken(t, TokenRequest{Region: "mad"}), m.nodeToken(t, TokenRequest{})
	if err := m.client(TrustToken, "admin").DeleteToken(ctx, revoked.Token.ID); err != nil {
		t.Fatal(err)
	}
	expired := m.nodeToken(t, TokenRequest{})
	err := m.control.Registry.Update(func(d *netconf.Draft) error {
		k, err := d.Token(expired.Token.ID)
		if err == nil {
			k.Created, k.Expires = k.Created.Add(-3*time.Hour), k.Expires.Add(-2*time.Hour)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, q := range map[string]struct {
		change func(*JoinOptions)
		code   Code
		text   string
	}{
		"no token":       {func(o *JoinOptions) { o.Token = "" }, CodeUnauthorized, "this is no token"},
		"bad secret":     {func(o *JoinOptions) { o.Token = m.tokens["node"] + "x" }, CodeUnauthorized, "copied wrongly"},
		"revoked":        {func(o *JoinOptions) { o.Token = revoked.Secret }, CodeUnauthorized, "it was revoked"},
		"expired":        {func(o *JoinOptions) { o.Token = expired.Secret }, CodeUnauthorized, "this token expired on 20"},
		"wrong scope":    {func(o *JoinOptions) { o.Token = m.tokens["admin"] }, CodeForbidden, "this token is of scope admin; joining needs one of scope node"},
		"wrong region":   {func(o *JoinOptions) { o.Token = bound.Secret }, CodeForbidden, "this token is for region mad"},
		"unknown region": {func(o *JoinOptions) { o.Region = "london" }, CodeInvalid, `unknown region "london"; did you mean lhr (London)`},
		"bad name":       {func(o *JoinOptions) { o.Name = "LHR" }, CodeInvalid, "use lower-case letters"},
		"taken name":     {func(o *JoinOptions) { o.Name = "mad-1" }, CodeExists, "node mad-1 already exists"},
		"bad endpoint":   {func(o *JoinOptions) { o.Endpoint = ":51820" }, CodeInvalid, "want host:port"},
		"no request":     {func(o *JoinOptions) { o.CSR = nil }, CodeInvalid, "csr: it has to be one PEM block"},
	} {
		o := good
		o.Token = m.tokens["node"]
		q.change(&o)
		_, err := c.Join(ctx, o)
		told, ok := errors.AsType[*Error](err)
		if !ok || told.Code != q.code || !strings.Contains(told.Message, q.text) {
			t.Errorf("%s: %s", what, describe(err))
		}
	}
	topo, _ := m.control.Current()
	if k, _ := topo.Token("node"); k.UsedBy != "" || len(topo.Nodes) != 3 {
		t.Errorf("something was done: token used by %q, %d nodes", k.UsedBy, len(topo.Nodes))
	}
}

// The proof holds for this key, this request and this server, for two minutes.
func TestJoinProof(t *testing.T) {
	m := newMesh(t)
	m.answers()
	key, csr := wgPrivate(t), string(nodeCSR(t, "lhr-1"))
	base := JoinRequest{Token: m.tokens["node"], Name: "lhr-1", Region: "lhr", CSR: csr}
	for what, q := range map[string]struct {
		challenge JoinChallenge
		change    func(*JoinRequest)
		status    int
	}{
		"another's key": {m.challenge(0), func(in *JoinRequest) {
			in.PublicKey = base64.StdEncoding.EncodeToString(wgPrivate(t).PublicKey().Bytes())
		}, http.StatusForbidden},
		"other name":      {m.challenge(0), func(in *JoinRequest) { in.Name = "lhr-2" }, http.StatusForbidden},
		"other endpoint":  {m.challenge(0), func(in *JoinRequest) { in.Endpoint = "192.0.2.9:1" }, http.StatusForbidden},
		"other csr":       {m.challenge(0), func(in *JoinRequest) { in.CSR = string(nodeCSR(t, "x")) }, http.StatusForbidden},
		"no proof":        {m.challenge(0), func(in *JoinRequest) { in.Proof = "" }, http.StatusForbidden},
		"low-order key":   {m.challenge(0), func(in *JoinRequest) { in.PublicKey = base64.StdEncoding.EncodeToString(make([]byte, 32)) }, http.StatusBadRequest},
		"short key":       {m.challenge(0), func(in *JoinRequest) { in.PublicKey = "AAAA" }, http.StatusBadRequest},
		"old nonce":       {m.challenge(3 * time.Minute), func(*JoinRequest) {}, http.StatusBadRequest},
		"another's nonce": {newMesh(t).challenge(0), func(*JoinRequest) {}, http.StatusBadRequest},
		"good":            {m.challenge(time.Minute), func(*JoinRequest) {}, http.StatusOK},
	} {
		in := base
		if err := in.prove(key, q.challenge); err != nil {
			t.Fatal(err)
		}
		q.change(&in)
		if status, body := m.request(t, "", "POST", "/v1/join", jsonOf(t, in)); status != q.status {
			t.Errorf("%s: %d %s", what, status, body)
		}
		if what != "good" {
			if topo, _ := m.control.Current(); len(topo.Nodes) > 4 {
				t.Fatalf("%s: it joined", what)
			}
		}
	}
}

// Of many that come with one token at once, one joins.
func TestJoinOnce(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	m.answers()
	c := m.client(TrustToken, "")
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		o := JoinOptions{Token: m.tokens["node"], Name: "lhr-" + string(rune('a'+i)), Region: "lhr", WireGuard: wgPrivate(t), CSR: nodeCSR(t, "x")}
		wg.Go(func() { _, results[i] = c.Join(ctx, o) })
	}
	wg.Wait()
	joined := 0
	for _, err := range results {
		if err == nil {
			joined++
			continue
		}
		want(t, err, CodeForbidden, "used already")
	}
	if topo, _ := m.control.Current(); joined != 1 || len(topo.Nodes) != 4 {
		t.Errorf("%d joined, %d nodes", joined, len(topo.Nodes))
	}
}

func TestReusableToken(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	m.answers()
	token, c := m.nodeToken(t, TokenRequest{Reusable: true}), m.client(TrustToken, "")
	for _, name := range []string{"lhr-1", "lhr-2"} {
		o := JoinOptions{Token: token.Secret, Name: name, Region: "lhr", WireGuard: wgPrivate(t), CSR: nodeCSR(t, name)}
		for range 2 {
			if _, err := c.Join(ctx, o); err != nil {
				t.Fatal(err)
			}
		}
	}
	if topo, _ := m.control.Current(); len(topo.Nodes) != 5 {
		t.Errorf("%d nodes", len(topo.Nodes))
	}
}

func TestJoinElsewhere(t *testing.T) {
	m := newMesh(t)
	_, err := m.client(TrustToken, "").Join(t.Context(), JoinOptions{WireGuard: wgPrivate(t)})
	want(t, err, CodeUnavailable, "join at one that does, which respmesh nodes list shows")
}
