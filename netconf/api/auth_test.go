package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"respmesh/netconf"
)

func TestTokens(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	admin := m.client(TrustToken, "admin")
	ttl := Duration(2 * time.Hour)
	short, err := admin.CreateToken(ctx, TokenRequest{Scope: netconf.ScopeOrg, Org: "acme", Name: "ci", TTL: &ttl})
	if err != nil {
		t.Fatal(err)
	}
	if id, secret, ok := splitToken(short.Secret); !ok || id != short.Token.ID || len(secret) < 26 {
		t.Errorf("token %q of id %q", short.Secret, short.Token.ID)
	}
	m.tokens["ci"] = short.Secret
	ci := m.client(TrustToken, "ci")
	// It makes no token that may do more, or lives longer, than itself.
	for _, in := range []TokenRequest{
		{Scope: netconf.ScopeAdmin}, {Scope: netconf.ScopeNode}, {Scope: netconf.ScopeOrg, Org: "personal"},
	} {
		_, err := ci.CreateToken(ctx, in)
		want(t, err, CodeForbidden, "")
	}
	longer := Duration(3 * time.Hour)
	_, err = ci.CreateToken(ctx, TokenRequest{Scope: netconf.ScopeOrg, TTL: &longer})
	want(t, err, CodeForbidden, "ttl 3h0m0s is longer than this token lasts")
	child, err := ci.CreateToken(ctx, TokenRequest{Scope: netconf.ScopeReadOnly})
	if err != nil || child.Token.Org != "acme" || !child.Token.Expires.Equal(*short.Token.Expires) {
		t.Fatalf("%+v, %v", child.Token, err)
	}
	want(t, ci.DeleteToken(ctx, "admin"), CodeNotFound, `token "admin" isn't there`)
	list, err := ci.Tokens(ctx)
	if err != nil || len(list) != 4 { // ci, its child, org, org-read-only
		t.Errorf("%+v, %v", list, err)
	}

	if err := admin.DeleteToken(ctx, short.Token.ID); err != nil {
		t.Fatal(err)
	}
	_, err = ci.Orgs(ctx)
	want(t, err, CodeUnauthorized, "it was revoked")
}

func TestExpiredToken(t *testing.T) {
	m := newMesh(t)
	err := m.control.Registry.Update(func(d *netconf.Draft) error {
		k, err := d.Token("admin")
		if err == nil {
			k.Created, k.Expires = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Second)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.client(TrustToken, "admin").Orgs(t.Context())
	want(t, err, CodeUnauthorized, "this token expired on 20")
}

func TestAuthorizationHeader(t *testing.T) {
	m := newMesh(t)
	for header, text := range map[string]string{
		"Basic dXNlcjpwdw==":     "send one header Authorization: Bearer",
		"Bearer":                 "this is no token",
		"Bearer rm_admin":        "this is no token",
		"Bearer rm_admin.wrong":  "this token isn't good",
		"Bearer rm_nobody.wrong": "this token isn't good",
		"Bearer rm_" + strings.Repeat("x", 200) + ".y": "this is no token",
	} {
		status, body := m.request(t, "", "GET", "/v1/orgs", "", "Authorization", header)
		if status != http.StatusUnauthorized || !strings.Contains(body, text) {
			t.Errorf("%s: %d %s", header, status, body)
		}
		// A wrong token isn't nobody, also where nobody may come.
		if status, _ := m.request(t, "", "GET", "/v1/version", "", "Authorization", header); status != http.StatusUnauthorized {
			t.Errorf("%s: %d for what is public", header, status)
		}
	}
	if status, _ := m.request(t, "", "GET", "/v1/orgs", "", "Authorization", "bearer "+m.tokens["admin"]); status != 200 {
		t.Errorf("lower-case scheme: %d", status)
	}
}

// Too many failures: that source waits, also with a good token; others don't.
func TestFailedAttemptsAreLimited(t *testing.T) {
	m := newMesh(t)
	for i := range failureBurst {
		if status, body := m.request(t, "", "GET", "/v1/orgs", "", "Authorization", "Bearer rm_admin.guess"); status != 401 {
			t.Fatalf("attempt %d: %d %s", i, status, body)
		}
	}
	status, body := m.request(t, "admin", "GET", "/v1/orgs", "")
	if status != http.StatusTooManyRequests || !strings.Contains(body, "too many failed attempts from here; try again in 3s") {
		t.Errorf("%d %s", status, body)
	}
	join := jsonOf(t, JoinRequest{Token: m.tokens["node"]})
	m.answers()
	if status, _ := m.request(t, "", "POST", "/v1/join", join); status != http.StatusTooManyRequests {
		t.Errorf("join: %d", status)
	}
	if _, err := m.client(TrustToken, "admin").Orgs(t.Context()); err != nil { // from ::1
		t.Error(err)
	}
}

func TestFailuresRefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, who := newFailures(), netip.MustParseAddr("2001:db8::7")
		for range failureBurst {
			if w := f.wait(who); w != 0 {
				t.Fatalf("waits %s too early", w)
			}
			f.add(who)
		}
		if w := f.wait(netip.MustParseAddr("2001:db8::8")); w != failureRefill {
			t.Errorf("the same /64 waits %s", w)
		}
		if w := f.wait(netip.MustParseAddr("2001:db8:0:1::7")); w != 0 {
			t.Errorf("another /64 waits %s", w)
		}
		time.Sleep(failureRefill)
		if w := f.wait(who); w != 0 {
			t.Errorf("waits %s after a refill", w)
		}
		f.add(who)
		if w := f.wait(who); w != failureRefill {
			t.Errorf("one attempt was given back, but it waits %s after it", w)
		}
	})
}

func TestFailuresAreBounded(t *testing.T) {
	f := newFailures()
	for i := range 3 * failureSources {
		f.add(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if len(f.sources) != failureSources || f.order.Len() != failureSources {
		t.Errorf("%d sources, %d in order", len(f.sources), f.order.Len())
	}
}

// Without a token only this machine is an admin, and only when no browser is behind it.
func TestLoopbackTrust(t *testing.T) {
	m := newMesh(t)
	for _, q := range []struct {
		from, host string
		header     []string
		status     int
	}{
		{"[::1]:1", "[::1]:17379", nil, 201},
		{"127.0.0.1:1", "localhost:17379", nil, 201},
		{"[2001:db8::1]:1", "[::1]:17379", nil, 401},
		{"[::1]:1", "evil.example:17379", nil, 401},
		{"[::1]:1", "evil.example", nil, 401},
		{"[::1]:1", "[::1]:17379", []string{"Origin", "http://evil.example"}, 403},
		{"[::1]:1", "[::1]:17379", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"[::1]:1", "[::1]:17379", []string{"Authorization", "Bearer rm_admin.wrong"}, 401},
		{"[::1]:1", "[::1]:17379", []string{"Authorization", "Bearer " + m.tokens["read-only"]}, 403},
	} {
		r := httptest.NewRequest("POST", "http://x/v1/orgs", strings.NewReader(fmt.Sprintf(`{"name":"o-%d"}`, time.Now().UnixNano())))
		r.RemoteAddr, r.Host = q.from, q.host
		r.Header.Set("Content-Type", contentJSON)
		for i := 0; i < len(q.header); i += 2 {
			r.Header.Set(q.header[i], q.header[i+1])
		}
		w := httptest.NewRecorder()
		m.server.Handler(TrustLoopback).ServeHTTP(w, r)
		if w.Code != q.status {
			t.Errorf("from %s, host %s, %v: %d %s", q.from, q.host, q.header, w.Code, w.Body)
		}
	}
}

// An org's prefix isn't the infrastructure's, and a node's address counts only on the mesh's listener.
func TestMeshTrust(t *testing.T) {
	m := newMesh(t)
	m.answers()
	topo, _ := m.control.Current()
	n, _ := topo.Node("ams-1")
	for _, q := range []struct {
		trust  Trust
		from   netip.Addr
		status int
	}{
		{TrustMesh, n.Addr, 200}, {TrustMesh, n.Addr.Next(), 401}, {TrustMesh, topo.Orgs[0].PeerAddr(1, 1), 401},
		{TrustMesh, netip.IPv6Loopback(), 401}, {TrustToken, n.Addr, 401}, {TrustLoopback, n.Addr, 401},
	} {
		r := httptest.NewRequest("GET", "http://[::1]/v1/node/latency", nil)
		r.RemoteAddr = netip.AddrPortFrom(q.from, 4000).String()
		w := httptest.NewRecorder()
		m.server.Handler(q.trust).ServeHTTP(w, r)
		if w.Code != q.status {
			t.Errorf("trust %d from %s: %d %s", q.trust, q.from, w.Code, w.Body)
		}
	}
}
