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
	created      bool // answers 201
	stream       bool // writes the answer itself
	doc          string
}

func (r route) status() int {
	switch {
	case r.created:
		return http.StatusCreated
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
		peers    = org + "/peers"
	)
	return []route{
		{method: get, path: "/v1/openapi.json", access: accessPublic, handle: getOpenAPI, out: anyObject{}, doc: "This description"},
		{method: get, path: "/v1/version", access: accessPublic, handle: getVersion, out: Version{}, doc: "What answers"},
		{method: get, path: "/v1/plans", access: accessPublic, handle: getPlans, out: Plans{}, doc: "List the plans"},
		{method: get, path: "/v1/regions", access: accessAny, handle: getRegions, out: Regions{}, doc: "List the regions"},

		{method: get, path: orgs, access: accessRead, handle: listOrgs, out: Orgs{}, doc: "List the orgs that the token may see"},
		{method: post, path: orgs, access: accessAdmin, handle: createOrg, in: OrgRequest{}, out: Org{}, created: true, doc: "Make an org"},
		{method: get, path: org, access: accessRead, handle: getOrg, out: Org{}, doc: "Get an org"},
		{method: del, path: org, access: accessAdmin, handle: deleteOrg, doc: "Remove an org, which has to be empty"},

		{method: get, path: "/v1/databases", access: accessRead, handle: listDatabases, out: Databases{},
			query: []param{{"org", "string", "only this org's"}}, doc: "List the databases that the token may see"},
		{method: post, path: dbs, access: accessWrite, handle: createDatabase, in: DatabaseRequest{}, out: NewDatabase{}, created: true, doc: "Make a database; the answer holds its password, once"},
		{method: get, path: db, access: accessRead, handle: getDatabase, out: Database{}, doc: "Get a database"},
		{method: patch, path: db, access: accessWrite, handle: patchDatabase, in: DatabasePatch{}, out: Database{}, doc: "Change a database; clients go on"},
		{method: del, path: db, access: accessWrite, handle: deleteDatabase, doc: "Remove a database and its data on all nodes"},
		{method: post, path: db + "/reset", access: accessWrite, handle: resetDatabase, out: NewDatabase{}, doc: "Give the default user another password; the answer holds it, once"},
	}
}

// anyObject stands for a JSON object that isn't described further.
type anyObject struct{}
