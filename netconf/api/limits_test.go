package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"respmesh/netconf"
)

func TestNoRoom(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	c := m.client(TrustToken, "admin")
	hash := strings.Repeat("0", 64)
	err := m.control.Registry.Update(func(d *netconf.Draft) error {
		for i := range maxUsers {
			if err := d.SetUser(netconf.User{Org: "acme", Database: "demo", Name: fmt.Sprint("u", i), PasswordHash: hash, Rules: "+@read"}); err != nil {
				return err
			}
		}
		for i := range maxTokens {
			if err := d.AddToken(netconf.Token{ID: fmt.Sprint("t", i), Hash: hash, Scope: netconf.ScopeOrg, Org: "acme", Created: time.Now()}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.PutUser(ctx, "acme", "demo", "one-more", UserRequest{Rules: "+@read"})
	want(t, err, CodeConflict, "database acme/demo has 100 users, which is the most there can be; remove some first")
	if u, err := c.PutUser(ctx, "acme", "demo", "u7", UserRequest{Rules: "+@write"}); err != nil || u.Password != "" {
		t.Errorf("one that is there: %+v, %v", u, err)
	}
	_, err = c.CreateToken(ctx, TokenRequest{Scope: netconf.ScopeOrg, Org: "acme"})
	want(t, err, CodeConflict, "org acme has 1002 tokens")
	if _, err := c.CreateToken(ctx, TokenRequest{Scope: netconf.ScopeOrg, Org: "personal"}); err != nil {
		t.Error(err)
	}
}

// Tokens that expired long ago don't pile up.
func TestOldTokensGo(t *testing.T) {
	m, ctx := newMesh(t), t.Context()
	err := m.control.Registry.Update(func(d *netconf.Draft) error {
		for id, age := range map[string]time.Duration{"old": 31 * 24 * time.Hour, "new": time.Hour} {
			ended := time.Now().Add(-age)
			k := netconf.Token{ID: id, Hash: strings.Repeat("0", 64), Scope: netconf.ScopeNode, Created: ended.Add(-time.Hour), Expires: ended}
			if err := d.AddToken(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.client(TrustToken, "admin").CreateToken(ctx, TokenRequest{Scope: netconf.ScopeNode}); err != nil {
		t.Fatal(err)
	}
	topo, _ := m.control.Current()
	if _, ok := topo.Token("old"); ok {
		t.Error("the old one is still there")
	}
	if _, ok := topo.Token("new"); !ok {
		t.Error("the one that has just expired is gone: its error can't say so any more")
	}
}

// Whatever a body holds, the answer is an answer.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{"{}", `{"name":"x","primary_region":"mad"}`, `{"near":"1ms","read_regions":[]}`, "null", "[", `{"engine":{"kind":"redis"}}`, `{"rules":"~* +@all"}`} {
		f.Add(seed)
	}
	paths := []string{"POST /v1/orgs", "POST /v1/orgs/acme/databases", "PATCH " + demo, "PUT " + demo + "/users/u", "POST " + demo + "/explain",
		"POST /v1/tokens", "POST /v1/orgs/acme/peers", "POST /v1/join"}
	f.Fuzz(func(t *testing.T, body string) {
		m := newMeshHeld(t, nil) // the validation takes a hundred times as long as the work
		m.answers()
		for _, p := range paths {
			method, path, _ := strings.Cut(p, " ")
			if status, answer := m.request(t, "admin", method, path, body); status >= 500 {
				t.Errorf("%s %q: %d %s", p, body, status, answer)
			}
		}
	})
}
