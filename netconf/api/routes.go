package api

import "net/http"

// access says who may use a route.
type access int

const (
	accessPublic  access = iota // anybody
	accessAny                   // whoever has a token for more than joining, and nodes
	accessRead                  // looks at one org's things: admin, read-only, that org
	accessWrite                 // changes one org's things: admin, that org
	accessReadAll               // looks at the mesh: admin, and read-only unless it is about one org
	accessTokens                // admin, and org for its own
	accessAdmin                 // admin
	accessNode                  // the mesh's nodes, and admin
)

// param is a query parameter.
type param struct {
	name, kind, doc string // kind: string, integer or boolean
}

// route is one endpoint. in and out are zero values of the types of its bodies, for the description; nil: none.
type route struct {
	method, path string
	access       access
	handle       func(*call) (any, error)
	in, out      any
	query        []param
	of           subject // whose revision is the ETag, and what If-Match is about
	created      bool    // answers 201
	stream       bool    // writes the answer itself
	upgrade      bool    // and takes the connection: answers 101
	doc          string
}

func (r route) status() int {
	switch {
	case r.created:
		return http.StatusCreated
	case r.upgrade:
		return http.StatusSwitchingProtocols
	case r.out == nil && !r.stream:
		return http.StatusNoContent
	}
	return http.StatusOK
}

// routes is the whole API.
func routes() []route {
	const (
		get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete

		orgs     = "/v1/orgs"
		org      = orgs + "/{org}"
		dbs      = org + "/databases"
		db       = dbs + "/{db}"
		user     = db + "/users/{user}"
		node     = "/v1/nodes/{node}"
		nodeSelf = "/v1/node"
		dbInOrg  = "/orgs/{org}/databases/{db}"
		peers    = org + "/peers"
	)
	return []route{
		{method: get, path: "/v1/openapi.json", access: accessPublic, handle: getOpenAPI, out: anyObject{}, doc: "This description"},
		{method: get, path: "/v1/version", access: accessPublic, handle: getVersion, out: Version{}, doc: "What answers"},
		{method: get, path: "/v1/plans", access: accessPublic, handle: getPlans, out: Plans{}, doc: "List the plans"},
		{method: get, path: "/v1/regions", access: accessAny, handle: getRegions, out: Regions{}, doc: "List the regions"},

		{method: get, path: orgs, access: accessRead, handle: listOrgs, out: Orgs{}, doc: "List the orgs that the token may see"},
		{method: post, path: orgs, access: accessAdmin, handle: createOrg, in: OrgRequest{}, out: Org{}, created: true, doc: "Make an org"},
		{method: get, path: org, access: accessRead, handle: getOrg, of: ofOrg, out: Org{}, doc: "Get an org"},
		{method: del, path: org, access: accessAdmin, handle: deleteOrg, of: ofOrg, doc: "Remove an org, which has to be empty"},

		{method: get, path: "/v1/databases", access: accessRead, handle: listDatabases, out: Databases{},
			query: []param{{"org", "string", "only this org's"}}, doc: "List the databases that the token may see"},
		{method: post, path: dbs, access: accessWrite, handle: createDatabase, in: DatabaseRequest{}, out: NewDatabase{}, created: true, doc: "Make a database; the answer holds its password, once"},
		{method: get, path: db, access: accessRead, handle: getDatabase, of: ofDatabase, out: Database{}, doc: "Get a database"},
		{method: patch, path: db, access: accessWrite, handle: patchDatabase, of: ofDatabase, in: DatabasePatch{}, out: Database{}, doc: "Change a database; clients go on"},
		{method: del, path: db, access: accessWrite, handle: deleteDatabase, of: ofDatabase, doc: "Remove a database and its data on all nodes"},
		{method: post, path: db + "/reset", access: accessWrite, handle: resetDatabase, of: ofDatabase, out: NewDatabase{}, doc: "Give the default user another password; the answer holds it, once"},
		{method: post, path: db + "/failover", access: accessWrite, handle: failoverDatabase, of: ofDatabase, in: FailoverRequest{}, out: Failover{},
			doc: "Have another node of the primary's region take the writes; by force, one that lacks some of them, where no copy that has all is left"},
		{method: get, path: db + "/status", access: accessRead, handle: databaseStatus, out: DatabaseStatus{}, doc: "Ask all nodes about a database"},
		{method: post, path: db + "/explain", access: accessRead, handle: explain, in: ExplainRequest{}, out: Explanation{}, doc: "Say where a command would go, and why; it isn't executed"},
		{method: get, path: db + "/connect", access: accessWrite, handle: connectDatabase, stream: true, upgrade: true,
			doc: "Upgrade to " + connectProtocol + ": a byte stream to the database's gateway on this node, which asks for its password"},
		{method: get, path: db + "/users", access: accessRead, handle: listUsers, out: Users{}, doc: "List the users beside the default one"},
		{method: get, path: user, access: accessRead, handle: getUser, of: ofUser, out: User{}, doc: "Get a user"},
		{method: put, path: user, access: accessWrite, handle: putUser, of: ofUser, in: UserRequest{}, out: NewUser{}, doc: "Make or replace a user; the answer holds a password that was made, once"},
		{method: del, path: user, access: accessWrite, handle: deleteUser, of: ofUser, doc: "Remove a user; its sessions end"},

		{method: get, path: peers, access: accessRead, handle: listPeers, out: Peers{}, doc: "List the peers of an org"},
		{method: post, path: peers, access: accessWrite, handle: createPeer, in: PeerRequest{}, out: PeerConfig{}, created: true, doc: "Add a peer"},
		{method: get, path: peers + "/{peer}", access: accessRead, handle: getPeer, of: ofPeer, out: PeerConfig{}, doc: "Get a peer, with the nodes that accept it"},
		{method: del, path: peers + "/{peer}", access: accessWrite, handle: deletePeer, of: ofPeer, doc: "Remove a peer; its connections end"},
		{method: post, path: peers + "/{peer}/reset", access: accessWrite, handle: resetPeer, of: ofPeer, in: PeerKeyRequest{}, out: PeerConfig{}, doc: "Give a peer another key"},

		{method: get, path: "/v1/tokens", access: accessTokens, handle: listTokens, out: Tokens{}, doc: "List the tokens that the token may manage"},
		{method: post, path: "/v1/tokens", access: accessTokens, handle: createToken, in: TokenRequest{}, out: NewToken{}, created: true, doc: "Make a token; the answer holds its secret, once"},
		{method: del, path: "/v1/tokens/{id}", access: accessTokens, handle: deleteToken, doc: "Revoke a token"},

		{method: get, path: "/v1/nodes", access: accessReadAll, handle: listNodes, out: Nodes{}, doc: "List the nodes"},
		{method: post, path: node + "/drain", access: accessAdmin, handle: drainNode, out: Node{}, doc: "Have a node take no new sessions and give up its leases"},
		{method: post, path: node + "/undrain", access: accessAdmin, handle: undrainNode, out: Node{}, doc: "Take a drained node back"},
		{method: post, path: node + "/rotate-key", access: accessAdmin, handle: rotateNodeKey, doc: "Have a node make a new WireGuard key; its connections go on"},
		{method: del, path: node, access: accessAdmin, handle: deleteNode,
			query: []param{{"force", "boolean", "also one that serves, or is the last of a primary region"}}, doc: "Remove a node that is drained or away"},
		{method: get, path: "/v1/control", access: accessReadAll, handle: getControl, out: ControlPlane{}, doc: "Who carries the control plane, and who leads it"},
		{method: get, path: "/v1/latency", access: accessAny, handle: latency, out: Latency{}, doc: "Round trips between regions"},
		{method: get, path: "/v1/audit", access: accessReadAll, handle: audit, out: Audit{},
			query: []param{{"limit", "integer", "records at most: 1 to 1000, 100 if absent"}, {"before", "integer", "only records older than this revision"}},
			doc:   "A page of the audit log, newest first"},
		{method: get, path: "/v1/backup", access: accessAdmin, handle: backup, stream: true, doc: "A snapshot of the control plane's store"},

		{method: get, path: "/v1/join", access: accessPublic, handle: joinChallenge, out: JoinChallenge{}, doc: "What a node needs to prove that it holds its WireGuard key"},
		{method: post, path: "/v1/join", access: accessPublic, handle: join, in: JoinRequest{}, out: JoinResponse{}, doc: "Become a node of the mesh"},

		{method: post, path: nodeSelf + "/rotate-key", access: accessNode, handle: rotateOwnKey, doc: "Have this node make a new WireGuard key"},
		{method: get, path: nodeSelf + dbInOrg + "/status", access: accessNode, handle: localStatus, out: NodeDatabaseStatus{}, doc: "Node to node: a database as this node sees it"},
		{method: post, path: nodeSelf + dbInOrg + "/explain", access: accessNode, handle: localExplain, in: ExplainRequest{}, out: Explanation{}, doc: "Node to node: where a command of a client of this node would go"},
		{method: get, path: nodeSelf + "/latency", access: accessNode, handle: localLatency, out: Latency{}, doc: "Node to node: round trips from this node"},
		{method: post, path: nodeSelf + "/certificate", access: accessNode, handle: nodeCertificate, in: CertificateRequest{}, out: CertificateResponse{}, doc: "Node to node: renew the asking node's certificate"},
		{method: post, path: nodeSelf + "/authority", access: accessNode, handle: nodeAuthority, in: AuthorityRequest{}, out: AuthorityResponse{}, doc: "Node to node: hand the CA's key to a member of the control plane, sealed to it"},
	}
}

// anyObject stands for a JSON object that isn't described further.
type anyObject struct{}
