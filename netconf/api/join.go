package api

import (
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

var errNoEnroller = &Error{Code: CodeUnavailable, Message: "this node can't take others in: it doesn't carry the control plane; join at one that does, which respmesh nodes list shows"}

// enrolls tells whether nodes can be taken in here now.
func (s *Server) enrolls() bool { return s.opt.Enroller != nil && s.opt.Enroller.Ready() }

func joinChallenge(c *call) (any, error) {
	if !c.s.enrolls() {
		return nil, errNoEnroller
	}
	return JoinChallenge{
		PublicKey: base64.StdEncoding.EncodeToString(c.s.joins.key.PublicKey().Bytes()),
		Nonce:     base64.StdEncoding.EncodeToString(c.s.joins.nonce(time.Now())),
	}, nil
}

func join(c *call) (any, error) {
	if !c.s.enrolls() {
		return nil, errNoEnroller
	}
	source := sourceOf(c.Request)
	if wait := c.s.failures.wait(source); wait > 0 {
		return nil, tooMany(wait)
	}
	var in JoinRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	now := time.Now()
	token, err := checkToken(in.Token, c.topo.Token, now)
	if err != nil {
		c.s.failures.add(source)
		c.s.log.Warn("join: authentication failed", "source", source)
		return nil, err
	}
	if err := in.check(token); err != nil {
		return nil, err
	}
	if err := c.s.joins.verify(in, now); err != nil {
		return nil, err
	}
	c.who = principal{scope: token.Scope, tokenID: token.ID, actor: "token " + token.ID}
	var node netconf.Node
	rev, err := c.update(func(d *netconf.Draft) (err error) {
		node, err = in.addTo(d, token.ID, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	material, err := c.s.opt.Enroller.Enrol(c.Context(), node, []byte(in.CSR))
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of node %s: %w", node.Name, err)
	}
	topo, err := c.reach(rev)
	if err != nil {
		return nil, err
	}
	state := topo.State
	state.Tokens = nil // no node needs their hashes
	raw, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("write the state: %w", err)
	}
	return JoinResponse{
		Node: nodeOf(topo, node), Infra: topo.Infra.String(), Revision: topo.Revision, State: raw,
		CA: string(material.CA), Certificate: string(material.Certificate), Control: append([]string{}, material.Control...),
	}, nil
}

// check is about the request alone, and the token's limits.
func (in JoinRequest) check(token netconf.Token) error {
	if token.Scope != netconf.ScopeNode {
		return failf(CodeForbidden, "this token is of scope %s; joining needs one of scope node: respmesh token create --scope node", token.Scope)
	}
	if err := netconf.ValidateName(in.Name); err != nil {
		return err
	}
	if _, err := netconf.CheckRegion(in.Region); err != nil {
		return err
	}
	if token.Region != "" && token.Region != in.Region {
		return failf(CodeForbidden, "this token is for region %s; join there, or ask for one for region %s", token.Region, in.Region)
	}
	if err := pki.CheckRequest([]byte(in.CSR)); err != nil {
		return failf(CodeInvalid, "csr: %s", err)
	}
	return nil
}

// addTo adds the node and uses the token up, both or neither.
func (in JoinRequest) addTo(d *netconf.Draft, tokenID string, now time.Time) (netconf.Node, error) {
	token, err := d.Token(tokenID)
	if err != nil {
		return netconf.Node{}, failf(CodeUnauthorized, "this token was revoked; ask for a new one")
	}
	if token.Expired(now) {
		return netconf.Node{}, expired(*token)
	}
	mine := slices.IndexFunc(d.Nodes, func(n netconf.Node) bool { return n.Key == in.PublicKey })
	switch {
	case mine >= 0 && (token.UsedBy == in.PublicKey || token.Reusable): // a retry
		n := &d.Nodes[mine]
		if n.Name != in.Name || n.Region != in.Region {
			return netconf.Node{}, failf(CodeConflict, "this WireGuard key joined as node %s in region %s; join as that, or with another key", n.Name, n.Region)
		}
		n.Endpoint = in.Endpoint
		return *n, nil
	case token.UsedBy == in.PublicKey && !token.Reusable:
		return netconf.Node{}, failf(CodeForbidden, "the node that joined with this token was removed; ask for a new token")
	case token.UsedBy != "" && !token.Reusable:
		return netconf.Node{}, failf(CodeForbidden, "this token was used already, by another node; ask for a new one")
	}
	if !token.Reusable {
		token.UsedBy = in.PublicKey
	}
	return d.AddNode(netconf.Node{Name: in.Name, Region: in.Region, Key: in.PublicKey, Endpoint: in.Endpoint})
}

// reach waits until the registry shows a revision.
func (c *call) reach(revision uint64) (*netconf.Topology, error) {
	for {
		topo, replaced := c.s.opt.Control.Current()
		if topo.Revision >= revision {
			return topo, nil
		}
		select {
		case <-replaced:
		case <-c.Context().Done():
			return nil, c.Context().Err()
		}
	}
}

// nodeCertificate renews the certificate of the node that asks.
func nodeCertificate(c *call) (any, error) {
	var in CertificateRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if !c.s.enrolls() {
		return nil, errNoEnroller
	}
	n, ok := c.topo.Node(c.who.node)
	if !ok {
		return nil, failf(CodeForbidden, "only a node may renew its certificate, over the mesh")
	}
	if err := pki.CheckRequest([]byte(in.CSR)); err != nil {
		return nil, failf(CodeInvalid, "csr: %s", err)
	}
	m, err := c.s.opt.Enroller.Enrol(c.Context(), n, []byte(in.CSR))
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of node %s: %w", n.Name, err)
	}
	return CertificateResponse{CA: string(m.CA), Certificate: string(m.Certificate), Control: append([]string{}, m.Control...)}, nil
}

// nodeAuthority hands the CA's key to another member of the control plane. No token is good for that.
func nodeAuthority(c *call) (any, error) {
	var in AuthorityRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if !c.s.enrolls() {
		return nil, errNoEnroller
	}
	n, ok := c.topo.Node(c.who.node)
	if !ok {
		return nil, failf(CodeForbidden, "only a node may ask for the CA's key, over the mesh")
	}
	q := pki.Question{Certificate: []byte(in.Certificate)}
	for _, f := range []struct {
		to   *[]byte
		name string
		text string
	}{{&q.PublicKey, "public_key", in.PublicKey}, {&q.Signature, "signature", in.Signature}} {
		var err error
		if *f.to, err = base64.StdEncoding.DecodeString(f.text); err != nil {
			return nil, failf(CodeInvalid, "%s has to be base64", f.name)
		}
	}
	sealed, err := c.s.opt.Enroller.Share(c.Context(), n, &q)
	if err != nil {
		c.s.log.Warn("the CA's key wasn't handed out", "to", n.Name, "err", err)
		return nil, err
	}
	c.s.log.Info("the CA's key was handed to another member of the control plane", "to", n.Name)
	return AuthorityResponse{Sealed: base64.StdEncoding.EncodeToString(sealed)}, nil
}

func questionBody(q *pki.Question) AuthorityRequest {
	return AuthorityRequest{
		Certificate: string(q.Certificate), PublicKey: base64.StdEncoding.EncodeToString(q.PublicKey), Signature: base64.StdEncoding.EncodeToString(q.Signature),
	}
}

// Authority asks for the CA's key, over the mesh. The answer is for the question's Take.
func (c *Client) Authority(ctx context.Context, q *pki.Question) (sealed []byte, err error) {
	out, err := post[AuthorityResponse](ctx, c, "/v1/node/authority", questionBody(q))
	if err != nil {
		return nil, err
	}
	if sealed, err = base64.StdEncoding.DecodeString(out.Sealed); err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	return sealed, nil
}

// JoinOptions say who joins.
type JoinOptions struct {
	Token, Name, Region string
	Endpoint            string           // where the others find the node's WireGuard, host:port; empty: it calls them
	WireGuard           *ecdh.PrivateKey // X25519
	CSR                 []byte           // PEM, of the node's key for the control plane: pki.Request
}

// Join makes a node part of the mesh. It may be repeated with the same options when the answer was lost.
func (c *Client) Join(ctx context.Context, o JoinOptions) (JoinResponse, error) {
	challenge, err := get[JoinChallenge](ctx, c, "/v1/join", nil)
	if err != nil {
		return JoinResponse{}, err
	}
	in := JoinRequest{Token: o.Token, Name: o.Name, Region: o.Region, Endpoint: o.Endpoint, CSR: string(o.CSR)}
	if err := in.prove(o.WireGuard, challenge); err != nil {
		return JoinResponse{}, err
	}
	if c.base.Scheme == "http" && !private(c.base.Hostname()) {
		return JoinResponse{}, fmt.Errorf("%w API address %s: a token isn't sent in the clear; use https and the node's pin", netconf.ErrInvalid, c.base)
	}
	return post[JoinResponse](ctx, c, "/v1/join", in)
}

// NodeCertificate renews the certificate of the node that asks over the mesh.
func (c *Client) NodeCertificate(ctx context.Context, csr []byte) (out CertificateResponse, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/node/certificate", nil, CertificateRequest{CSR: string(csr)}, &out)
	return out, err
}
