package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"respmesh/netconf"
)

// principal is who asks.
type principal struct {
	scope   netconf.Scope // "" for nobody
	org     string        // of scope org, and of read-only about one
	tokenID string        // "" without a token
	node    string        // the node that asks over the mesh; its scope is ScopeNode
	actor   string        // for the audit log
	expires time.Time     // zero: never
}

// identify finds out who asks. Nobody is no error here: public routes are for everybody.
func (s *Server) identify(r *http.Request, trust Trust, topo *netconf.Topology) (principal, error) {
	source := sourceOf(r)
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		if wait := s.failures.wait(source); wait > 0 {
			return principal{}, tooMany(wait)
		}
		who, err := bearer(values, topo)
		if err != nil {
			s.failures.add(source)
			s.log.Warn("control API: authentication failed", "source", source, "path", r.URL.Path)
		}
		return who, err
	}
	switch trust {
	case TrustLoopback:
		if source.IsLoopback() && loopbackHost(r.Host) {
			return principal{scope: netconf.ScopeAdmin, actor: "loopback"}, nil
		}
	case TrustMesh:
		if n, ok := topo.NodeAt(source); ok {
			return principal{scope: netconf.ScopeNode, node: n.Name, actor: "node " + n.Name}, nil
		}
	}
	return principal{}, nil
}

// sourceOf is the address that a request comes from; the zero Addr if the connection has none.
func sourceOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// loopbackHost tells whether a Host header names this machine: a page that had its name resolve to ::1 can't.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}

// bearer is the holder of a token.
func bearer(headers []string, topo *netconf.Topology) (principal, error) {
	scheme, text, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return principal{}, failf(CodeUnauthorized, "send one header Authorization: Bearer rm_id.secret")
	}
	t, err := checkToken(strings.TrimSpace(text), topo.Token, time.Now())
	if err != nil {
		return principal{}, err
	}
	actor := "token " + t.ID
	if t.Name != "" {
		actor += " (" + t.Name + ")"
	}
	return principal{scope: t.Scope, org: t.Org, tokenID: t.ID, actor: actor, expires: t.Expires}, nil
}

// checkToken finds the record of a token's text and compares the secret.
func checkToken(text string, find func(id string) (netconf.Token, bool), now time.Time) (netconf.Token, error) {
	id, secret, ok := splitToken(text)
	if !ok {
		return netconf.Token{}, failf(CodeUnauthorized, "this is no token: a token is written rm_id.secret")
	}
	t, known := find(id)
	// An unknown token costs the same as a known one with a wrong secret, and is answered alike.
	if same := subtle.ConstantTimeCompare([]byte(hashSecret(secret)), []byte(t.Hash)); same != 1 || !known {
		return netconf.Token{}, failf(CodeUnauthorized, "this token isn't good: it was revoked, or is another mesh's, or was copied wrongly; ask for a new one")
	}
	if t.Expired(now) {
		return netconf.Token{}, expired(t)
	}
	return t, nil
}

func expired(t netconf.Token) error {
	return failf(CodeUnauthorized, "this token expired on %s; ask for a new one", t.Expires.UTC().Format(time.RFC3339))
}

const tokenPrefix = "rm_"

func splitToken(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	id, secret, dot := strings.Cut(rest, ".")
	return id, secret, ok && dot && id != "" && secret != "" && len(text) <= 128
}

// newSecret makes a token's or a password's secret: 26 characters, 130 random bits.
func newSecret() (secret, hash string) {
	secret = strings.ToLower(rand.Text())
	return secret, hashSecret(secret)
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// authorize tells whether the caller may use the route, for the org in its path.
func (c *call) authorize() error {
	who, need := c.who, c.route.access
	if need == accessPublic {
		return nil
	}
	if who.scope == "" {
		return failf(CodeUnauthorized, "a token is needed; set RESPMESH_TOKEN, or send it as Authorization: Bearer rm_id.secret")
	}
	if who.scope == netconf.ScopeAdmin {
		return nil
	}
	if who.scope == netconf.ScopeNode {
		if who.node != "" && (need == accessNode || need == accessAny) {
			return nil
		}
		if who.node == "" {
			return failf(CodeForbidden, "this token is for joining as a node only; use one of scope admin or org")
		}
		return failf(CodeForbidden, "a node may not do this; use a token")
	}
	org, readOnly := c.PathValue("org"), who.scope == netconf.ScopeReadOnly
	switch {
	case need == accessAny:
		return nil
	case need == accessAdmin, need == accessNode:
		return failf(CodeForbidden, "this token is of scope %s; this needs one of scope admin", who.scope)
	case readOnly && (need == accessWrite || need == accessTokens):
		return failf(CodeForbidden, "this token is read-only; use one of scope admin or org")
	case who.org != "" && org != "" && org != who.org:
		return failf(CodeForbidden, "this token is for org %s; use one for org %s", who.org, clip(org))
	case need == accessRead, need == accessWrite, need == accessTokens:
		return nil
	case need == accessReadAll && who.org == "":
		return nil
	}
	return failf(CodeForbidden, "this needs a token of scope admin")
}

// sees tells whether the caller may know of an org's things.
func (p principal) sees(org string) bool { return p.org == "" || p.org == org }
