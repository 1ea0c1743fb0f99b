package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// One method for each endpoint.

func esc(s string) string { return url.PathEscape(s) }

func databasePath(org, db string) string { return "/v1/orgs/" + esc(org) + "/databases/" + esc(db) }

// get asks for an answer of type T.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (out T, err error) {
	err = c.call(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path string, in any) (out T, err error) {
	err = c.call(ctx, http.MethodPost, path, nil, in, &out)
	return out, err
}

// Version says what answers.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return get[Version](ctx, c, "/v1/version", nil)
}

// OpenAPI gives the description of the API.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/openapi.json", nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}

// Regions lists all regions, also those without a node.
func (c *Client) Regions(ctx context.Context) ([]Region, error) {
	l, err := get[Regions](ctx, c, "/v1/regions", nil)
	return l.Regions, err
}

// Plans lists the plans.
func (c *Client) Plans(ctx context.Context) ([]Plan, error) {
	l, err := get[Plans](ctx, c, "/v1/plans", nil)
	return l.Plans, err
}

// Orgs lists the orgs that the token may see.
func (c *Client) Orgs(ctx context.Context) ([]Org, error) {
	l, err := get[Orgs](ctx, c, "/v1/orgs", nil)
	return l.Orgs, err
}

// Org gives one.
func (c *Client) Org(ctx context.Context, name string) (Org, error) {
	return get[Org](ctx, c, "/v1/orgs/"+esc(name), nil)
}

// CreateOrg makes an org.
func (c *Client) CreateOrg(ctx context.Context, in OrgRequest) (Org, error) {
	return post[Org](ctx, c, "/v1/orgs", in)
}

// DeleteOrg removes an org, which has to be empty.
func (c *Client) DeleteOrg(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/orgs/"+esc(name), nil, nil, nil)
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	l, err := get[Nodes](ctx, c, "/v1/nodes", nil)
	return l.Nodes, err
}

// NodeList is Nodes, with why it isn't known who carries the control plane.
func (c *Client) NodeList(ctx context.Context) (Nodes, error) {
	return get[Nodes](ctx, c, "/v1/nodes", nil)
}

// ControlPlane says who carries the control plane.
func (c *Client) ControlPlane(ctx context.Context) (ControlPlane, error) {
	return get[ControlPlane](ctx, c, "/v1/control", nil)
}

// DrainNode has a node take no new sessions and give up its leases.
func (c *Client) DrainNode(ctx context.Context, name string) (Node, error) {
	return post[Node](ctx, c, "/v1/nodes/"+esc(name)+"/drain", nil)
}

// UndrainNode takes it back.
func (c *Client) UndrainNode(ctx context.Context, name string) (Node, error) {
	return post[Node](ctx, c, "/v1/nodes/"+esc(name)+"/undrain", nil)
}

// RotateNodeKey has a node make a new WireGuard key.
func (c *Client) RotateNodeKey(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/v1/nodes/"+esc(name)+"/rotate-key", nil, nil, nil)
}

// DeleteNode removes a node that is drained or away; with force any.
func (c *Client) DeleteNode(ctx context.Context, name string, force bool) error {
	var query url.Values
	if force {
		query = url.Values{"force": {"true"}}
	}
	return c.call(ctx, http.MethodDelete, "/v1/nodes/"+esc(name), query, nil, nil)
}

// Tokens lists the tokens that the token may manage.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	l, err := get[Tokens](ctx, c, "/v1/tokens", nil)
	return l.Tokens, err
}

// CreateToken makes a token.
func (c *Client) CreateToken(ctx context.Context, in TokenRequest) (NewToken, error) {
	return post[NewToken](ctx, c, "/v1/tokens", in)
}

// DeleteToken revokes a token.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tokens/"+esc(id), nil, nil, nil)
}

// Databases lists those of an org; of all that the token may see if org is empty.
func (c *Client) Databases(ctx context.Context, org string) ([]Database, error) {
	var query url.Values
	if org != "" {
		query = url.Values{"org": {org}}
	}
	l, err := get[Databases](ctx, c, "/v1/databases", query)
	return l.Databases, err
}

// Database gives one.
func (c *Client) Database(ctx context.Context, org, db string) (Database, error) {
	return get[Database](ctx, c, databasePath(org, db), nil)
}

// CreateDatabase makes a database; its password is only in this answer.
func (c *Client) CreateDatabase(ctx context.Context, org string, in DatabaseRequest) (NewDatabase, error) {
	return post[NewDatabase](ctx, c, "/v1/orgs/"+esc(org)+"/databases", in)
}

// UpdateDatabase changes what the patch names.
func (c *Client) UpdateDatabase(ctx context.Context, org, db string, in DatabasePatch) (out Database, err error) {
	err = c.call(ctx, http.MethodPatch, databasePath(org, db), nil, in, &out)
	return out, err
}

// DeleteDatabase removes a database and its data on all nodes.
func (c *Client) DeleteDatabase(ctx context.Context, org, db string) error {
	return c.call(ctx, http.MethodDelete, databasePath(org, db), nil, nil, nil)
}

// ResetDatabase gives the database's default user another password, which is only in this answer.
func (c *Client) ResetDatabase(ctx context.Context, org, db string) (NewDatabase, error) {
	return post[NewDatabase](ctx, c, databasePath(org, db)+"/reset", nil)
}

// Failover has another node of the primary's region take the writes.
func (c *Client) Failover(ctx context.Context, org, db string, in FailoverRequest) (Failover, error) {
	return post[Failover](ctx, c, databasePath(org, db)+"/failover", in)
}

// DatabaseStatus asks all nodes.
func (c *Client) DatabaseStatus(ctx context.Context, org, db string) (DatabaseStatus, error) {
	return get[DatabaseStatus](ctx, c, databasePath(org, db)+"/status", nil)
}

// Explain says where a command would go. It isn't executed.
func (c *Client) Explain(ctx context.Context, org, db string, in ExplainRequest) (Explanation, error) {
	return post[Explanation](ctx, c, databasePath(org, db)+"/explain", in)
}

// Users lists the users beside the default one.
func (c *Client) Users(ctx context.Context, org, db string) ([]User, error) {
	l, err := get[Users](ctx, c, databasePath(org, db)+"/users", nil)
	return l.Users, err
}

// PutUser makes or replaces a user.
func (c *Client) PutUser(ctx context.Context, org, db, user string, in UserRequest) (out NewUser, err error) {
	err = c.call(ctx, http.MethodPut, databasePath(org, db)+"/users/"+esc(user), nil, in, &out)
	return out, err
}

// DeleteUser removes a user.
func (c *Client) DeleteUser(ctx context.Context, org, db, user string) error {
	return c.call(ctx, http.MethodDelete, databasePath(org, db)+"/users/"+esc(user), nil, nil, nil)
}

// Latency gives the round trips between regions.
func (c *Client) Latency(ctx context.Context) (Latency, error) {
	return get[Latency](ctx, c, "/v1/latency", nil)
}

// Peers lists the peers of an org.
func (c *Client) Peers(ctx context.Context, org string) ([]Peer, error) {
	l, err := get[Peers](ctx, c, "/v1/orgs/"+esc(org)+"/peers", nil)
	return l.Peers, err
}

// Peer gives one, with the nodes that accept it.
func (c *Client) Peer(ctx context.Context, org, peer string) (PeerConfig, error) {
	return get[PeerConfig](ctx, c, "/v1/orgs/"+esc(org)+"/peers/"+esc(peer), nil)
}

// CreatePeer adds a peer.
func (c *Client) CreatePeer(ctx context.Context, org string, in PeerRequest) (PeerConfig, error) {
	return post[PeerConfig](ctx, c, "/v1/orgs/"+esc(org)+"/peers", in)
}

// ResetPeer gives a peer another key.
func (c *Client) ResetPeer(ctx context.Context, org, peer string, in PeerKeyRequest) (PeerConfig, error) {
	return post[PeerConfig](ctx, c, "/v1/orgs/"+esc(org)+"/peers/"+esc(peer)+"/reset", in)
}

// DeletePeer removes a peer; its connections end.
func (c *Client) DeletePeer(ctx context.Context, org, peer string) error {
	return c.call(ctx, http.MethodDelete, "/v1/orgs/"+esc(org)+"/peers/"+esc(peer), nil, nil, nil)
}

// Audit gives a page of the audit log, newest first: at most limit records (0: 100) older than a revision (0: all).
func (c *Client) Audit(ctx context.Context, limit int, before uint64) (Audit, error) {
	query := url.Values{}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if before > 0 {
		query.Set("before", strconv.FormatUint(before, 10))
	}
	return get[Audit](ctx, c, "/v1/audit", query)
}

// Backup writes a snapshot of the control plane's store. When it fails, what was written is incomplete.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, "/v1/backup", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil { // a server that fails midway breaks the chunked encoding
		return fmt.Errorf("backup from %s: it broke off: %w", c.base, err)
	}
	return nil
}
