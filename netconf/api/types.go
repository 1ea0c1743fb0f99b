package api

import (
	"encoding/json"
	"fmt"
	"time"

	"respmesh/netconf"
)

// DefaultURL is where a local node, and `respmesh dev`, answer.
const DefaultURL = "http://[::1]:17379"

// The types of requests end in Request. Their optional fields are pointers where the zero value means something.
// `doc`, `enum`, `format` and `pattern` tags go into the OpenAPI description.

// Duration is a time.Duration that is written as Go writes it: "25ms", "1.5s".
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration; write it as 25ms or 1.5s", clip(string(text)))
	}
	*d = Duration(v)
	return nil
}

// Version says what answers.
type Version struct {
	Version string `json:"version" doc:"of respmesh"`
	API     string `json:"api" doc:"of this API" enum:"v1"`
	Node    string `json:"node,omitempty" doc:"the node that answered"`
}

// Region is a place where a node can stand.
type Region struct {
	Code  string  `json:"code"`
	City  string  `json:"city"`
	Lat   float64 `json:"lat"`
	Lon   float64 `json:"lon"`
	Nodes int     `json:"nodes" doc:"how many of the mesh's nodes are in it"`
}

// Plan is what a database may use.
type Plan struct {
	Code           string `json:"code"`
	MaxData        int64  `json:"max_data" doc:"bytes of memory"`
	MaxRequest     int64  `json:"max_request" doc:"bytes of one command"`
	CommandsPerDay int64  `json:"commands_per_day" doc:"0: no limit"`
	Price          string `json:"price"`
	Description    string `json:"description"`
}

// Org is a tenant: it owns a private prefix, databases and peers.
type Org struct {
	Name      string `json:"name"`
	Prefix    string `json:"prefix" doc:"its private IPv6 /48"`
	Resolver  string `json:"resolver" doc:"its DNS resolver's address"`
	Databases int    `json:"databases"`
	Peers     int    `json:"peers"`
}

// OrgRequest makes an org.
type OrgRequest struct {
	Name string `json:"name"`
}

// Node is one respmesh process in a region.
type Node struct {
	Name      string     `json:"name"`
	Region    string     `json:"region"`
	PublicKey string     `json:"public_key" doc:"WireGuard"`
	Address   string     `json:"address" doc:"inside the mesh"`
	Endpoint  string     `json:"endpoint,omitempty" doc:"where the others find its WireGuard, host:port"`
	Draining  bool       `json:"draining"`
	Online    bool       `json:"online"`
	Since     *time.Time `json:"since,omitempty" doc:"its start"`
	Version   string     `json:"version,omitempty"`
	Tunnel    string     `json:"tunnel,omitempty" doc:"userspace or tun"`
	Revision  uint64     `json:"revision,omitempty" doc:"of the topology that it runs on"`
	Control   string     `json:"control,omitempty" doc:"leader, member or learner of the control plane; absent: it doesn't carry it"`
	// NarrowPaths lose large packets, though small ones pass.
	NarrowPaths []NarrowPath `json:"narrow_paths,omitempty" doc:"paths to other nodes on which packets of the mesh's MTU are lost"`
}

// NarrowPath is a path to another node that packets of the mesh's MTU don't pass.
type NarrowPath struct {
	Node string `json:"node" doc:"the other end"`
	MTU  int    `json:"mtu,omitempty" doc:"bytes of the largest packet inside the tunnel that passes; absent: not known yet"`
}

// Parts in the control plane.
const (
	PartLeader  = "leader"
	PartMember  = "member"
	PartLearner = "learner" // catches up, and doesn't vote yet
)

// Kinds of control planes.
const (
	ControlOnNodes  = "nodes"   // members on nodes of the mesh
	ControlExternal = "etcd"    // a cluster that others run
	ControlInside   = "process" // respmesh dev
)

// ControlPlane says who carries the control plane.
type ControlPlane struct {
	Kind      string          `json:"kind" doc:"nodes: members on nodes of the mesh; etcd: a cluster that others run; process: respmesh dev"`
	Endpoints []string        `json:"endpoints,omitempty" doc:"of a cluster that others run"`
	Members   []ControlMember `json:"members" doc:"on nodes of the mesh"`
}

// ControlMember is a node that carries the control plane.
type ControlMember struct {
	Node   string `json:"node"`
	Region string `json:"region"`
	Role   string `json:"role" doc:"leader, member or learner"`
	Online bool   `json:"online" doc:"it answers"`
	Error  string `json:"error,omitempty" doc:"why it doesn't"`
	Bytes  int64  `json:"bytes,omitempty" doc:"of its data on disk"`
}

// Token lets its holder use the API; the secret is only in the answer that made it.
type Token struct {
	ID       string        `json:"id"`
	Name     string        `json:"name,omitempty"`
	Scope    netconf.Scope `json:"scope" enum:"admin,org,read-only,node"`
	Org      string        `json:"org,omitempty"`
	Region   string        `json:"region,omitempty"`
	Created  time.Time     `json:"created"`
	Expires  *time.Time    `json:"expires,omitempty" doc:"absent: never"`
	Expired  bool          `json:"expired"`
	Reusable bool          `json:"reusable"`
	UsedBy   string        `json:"used_by,omitempty" doc:"WireGuard key of the node that joined with it"`
}

// TokenRequest makes a token.
type TokenRequest struct {
	Name     string        `json:"name,omitempty" doc:"what it is for"`
	Scope    netconf.Scope `json:"scope" enum:"admin,org,read-only,node"`
	Org      string        `json:"org,omitempty" doc:"needed for scope org; for read-only it narrows"`
	Region   string        `json:"region,omitempty" doc:"of scope node: the only region where it may join"`
	TTL      *Duration     `json:"ttl,omitempty" doc:"how long it is good for; a node's: 1h unless said otherwise; others: as long as the maker's own"`
	Reusable bool          `json:"reusable,omitempty" doc:"of scope node: for many nodes rather than one"`
}

// NewToken is a token with its secret, which isn't kept.
type NewToken struct {
	Token  Token  `json:"token"`
	Secret string `json:"secret" doc:"the whole token: rm_id.secret; shown once"`
}

// Engine is what the primary's store runs on.
type Engine struct {
	Kind string `json:"kind" enum:"embedded,redis,cluster"`
	URL  string `json:"url,omitempty" doc:"of the server; answers hide its password"`
}

// Database is what a user creates.
type Database struct {
	ID          string     `json:"id"`
	Org         string     `json:"org"`
	Name        string     `json:"name"`
	Plan        string     `json:"plan"`
	Primary     string     `json:"primary_region"`
	ReadRegions []string   `json:"read_regions" doc:"without the primary's"`
	Address     string     `json:"address" doc:"its private IPv6 address, the same in every region"`
	Host        string     `json:"host" doc:"its DNS name inside the org's network"`
	URL         string     `json:"url" doc:"private, without the password"`
	Eviction    bool       `json:"eviction"`
	MaxMemory   int64      `json:"max_memory" doc:"bytes; 0: no limit"`
	MaxRequest  int64      `json:"max_request" doc:"bytes of one command; 0: no limit"`
	Near        Duration   `json:"near" doc:"a replica further than this isn't near; 0s: the node's default"`
	MaxLag      Duration   `json:"max_lag" doc:"a replica further behind isn't read; 0s: no bound"`
	Hedge       Duration   `json:"hedge" doc:"a read that another node's replica hasn't answered so long after its round trip is sent to a second copy too; 0s: never"`
	MinReplicas int        `json:"min_replicas" doc:"how many replicas must have a write before it is acknowledged"`
	MaxSessions int        `json:"max_sessions" doc:"clients of one node at a time; 0: the node's default"`
	PerSecond   int        `json:"commands_per_second" doc:"of one node; what is more is delayed; 0: no limit"`
	PerDay      int64      `json:"commands_per_day" doc:"of all nodes together, the plan's; 0: no limit"`
	Concurrency int        `json:"concurrency" doc:"sessions of one node at work at the same time; 0: no limit"`
	IdleTimeout Duration   `json:"idle_timeout" doc:"sessions that say nothing for longer are closed; 0s: never"`
	MaxValue    int64      `json:"max_value" doc:"bytes of one argument; 0: what a command may have"`
	Engine      Engine     `json:"engine" doc:"where the data are"`
	Pending     *Engine    `json:"pending_engine,omitempty" doc:"where they are moved to; the status says how far that is"`
	Created     *time.Time `json:"created,omitempty"`
	Revision    uint64     `json:"revision" doc:"of the state that made the database what it is; give it as If-Match to change only what was seen"`
}

// DatabaseRequest makes a database.
type DatabaseRequest struct {
	Name        string   `json:"name"`
	Primary     string   `json:"primary_region" doc:"can't be changed later"`
	ReadRegions []string `json:"read_regions,omitempty"`
	Plan        string   `json:"plan,omitempty" doc:"payg unless said otherwise"`
	Eviction    bool     `json:"eviction,omitempty"`
	MaxMemory   int64    `json:"max_memory,omitempty" doc:"bytes; 0: the plan's"`
	Near        Duration `json:"near,omitempty"`
	MaxLag      Duration `json:"max_lag,omitempty"`
	Hedge       Duration `json:"hedge,omitempty"`
	MinReplicas int      `json:"min_replicas,omitempty"`
	MaxSessions int      `json:"max_sessions,omitempty"`
	PerSecond   int      `json:"commands_per_second,omitempty"`
	Concurrency int      `json:"concurrency,omitempty"`
	IdleTimeout Duration `json:"idle_timeout,omitempty"`
	MaxValue    int64    `json:"max_value,omitempty"`
	Engine      *Engine  `json:"engine,omitempty"`
}

// DatabasePatch changes a database: what is absent stays.
type DatabasePatch struct {
	Primary     *string   `json:"primary_region,omitempty" doc:"can't change; accepted when it is the one that it has"`
	ReadRegions *[]string `json:"read_regions,omitempty" doc:"replaces all; [] leaves none"`
	Plan        *string   `json:"plan,omitempty"`
	Eviction    *bool     `json:"eviction,omitempty"`
	MaxMemory   *int64    `json:"max_memory,omitempty" doc:"bytes; 0: the plan's"`
	Near        *Duration `json:"near,omitempty"`
	MaxLag      *Duration `json:"max_lag,omitempty"`
	Hedge       *Duration `json:"hedge,omitempty"`
	MinReplicas *int      `json:"min_replicas,omitempty"`
	MaxSessions *int      `json:"max_sessions,omitempty"`
	PerSecond   *int      `json:"commands_per_second,omitempty"`
	Concurrency *int      `json:"concurrency,omitempty"`
	IdleTimeout *Duration `json:"idle_timeout,omitempty"`
	MaxValue    *int64    `json:"max_value,omitempty" doc:"bytes"`
	Engine      *Engine   `json:"engine,omitempty"`
}

// NewDatabase is a database with its password, which isn't kept.
type NewDatabase struct {
	Database Database `json:"database"`
	Password string   `json:"password" doc:"of the user default; shown once"`
	URL      string   `json:"url" doc:"private, with the password"`
}

// User is a user of a database beside the default one.
type User struct {
	Name  string `json:"name"`
	Rules string `json:"rules" doc:"Redis ACL rules, such as ~cache:* +@read"`
}

// UserRequest makes or replaces a user.
type UserRequest struct {
	Rules    string `json:"rules" doc:"Redis ACL rules: ~pattern, &channel, +command, -command, +@category, -@category"`
	Password string `json:"password,omitempty" doc:"at least 16 characters; absent: one is made for a new user, a known one keeps its own"`
}

// NewUser is a user with its password, where one was made.
type NewUser struct {
	User     User   `json:"user"`
	Password string `json:"password,omitempty" doc:"shown once; absent: it was given or has not changed"`
	URL      string `json:"url,omitempty" doc:"private, with the password, where one was made"`
}

// Roles and states of a database on a node.
const (
	RolePrimary = "primary"
	RoleReplica = "replica"
	RoleNone    = "none" // the node holds no copy: it forwards

	StateReady   = "ready"   // serves
	StateSyncing = "syncing" // takes its first copy: serves nothing yet
	StateStale   = "stale"   // behind, or cut off from the primary
	StateBroken  = "broken"  // can't follow: see the error
	StateWaiting = "waiting" // has nobody to follow
	StateAway    = "away"    // the node doesn't answer: see the error
)

// NodeDatabaseStatus is a database as one node sees it.
type NodeDatabaseStatus struct {
	Node      string  `json:"node"`
	Region    string  `json:"region"`
	Role      string  `json:"role" enum:"primary,replica,none"`
	State     string  `json:"state" enum:"ready,syncing,stale,broken,waiting,away"`
	Error     string  `json:"error,omitempty"`
	Replid    string  `json:"replid,omitempty"`
	Offset    int64   `json:"offset"`
	Term      int64   `json:"term,omitempty"`
	Sync      *Sync   `json:"sync,omitempty" doc:"while it takes its first copy"`
	LagMS     float64 `json:"lag_ms" doc:"how long ago it was current"`
	LagBytes  int64   `json:"lag_bytes" doc:"of the replication stream"`
	RTTMS     float64 `json:"rtt_ms" doc:"to the primary's node"`
	Sessions  int64   `json:"sessions"`
	Keys      int64   `json:"keys"`
	Memory    int64   `json:"memory" doc:"bytes"`
	Commands  float64 `json:"commands_per_second"`
	Today     int64   `json:"commands_today" doc:"charged since midnight UTC, of this node's clients"`
	ReadsFrom string  `json:"reads_from,omitempty" doc:"the node that reads go to from here"`
	Engine    string  `json:"engine,omitempty" doc:"what the data here are in; the primary's is the database's"`
	Moving    *Moving `json:"moving,omitempty" doc:"on the primary, while another engine is wanted"`
}

// Phases of a move to another engine.
const (
	MoveWaiting    = "waiting" // it failed, and is tried again: see the error
	MoveChecking   = "checking"
	MoveCopying    = "copying"
	MoveCatchingUp = "catching up"
	MoveSwitching  = "switching" // writes are held for a moment
)

// Moving is how far a move to another engine is.
type Moving struct {
	To    string `json:"to" doc:"the engine"`
	Phase string `json:"phase" enum:"waiting,checking,copying,catching up,switching"`
	Left  int64  `json:"left" doc:"bytes; 0: not known"`
	Error string `json:"error,omitempty" doc:"why it failed last; the data are where they were"`
}

// Sync is how far a first copy is.
type Sync struct {
	Bytes int64   `json:"bytes"`
	Total int64   `json:"total" doc:"0: not known"`
	Rate  float64 `json:"rate" doc:"bytes a second"`
}

// DatabaseStatus is a database as the mesh runs it now.
type DatabaseStatus struct {
	Database Database             `json:"database"`
	Primary  *PrimaryStatus       `json:"primary,omitempty" doc:"absent: no node of the primary region ever held it"`
	Nodes    []NodeDatabaseStatus `json:"nodes" doc:"one for each node, those that don't answer too"`
}

// PrimaryStatus says which node takes the writes.
type PrimaryStatus struct {
	Node string `json:"node"`
	Term int64  `json:"term"`
	Held bool   `json:"held" doc:"its lease runs"`
}

// FailoverRequest names the node that is to be the primary.
type FailoverRequest struct {
	Node  string `json:"node" doc:"of the primary's region"`
	Force bool   `json:"force,omitempty" doc:"also if it lacks writes that were acknowledged: they are lost. Refused while a copy that has more can be reached"`
}

// Failover says what was asked of the nodes; the status shows when it is done.
type Failover struct {
	Node   string               `json:"node"`
	From   string               `json:"from,omitempty" doc:"the primary until then, or the last one"`
	Term   int64                `json:"term" doc:"the last one before"`
	Force  bool                 `json:"force,omitempty"`
	Copies []NodeDatabaseStatus `json:"copies" doc:"the copies, as they stood"`
}

// ExplainRequest asks where a command would go.
type ExplainRequest struct {
	Args   []string `json:"args" doc:"the command and its arguments"`
	Region string   `json:"region,omitempty" doc:"of the node that the client is connected to; absent: the answering node's"`
}

// Explanation says where a command would go now, and why.
type Explanation struct {
	Command  string  `json:"command" doc:"empty: not known"`
	Class    string  `json:"class" doc:"what kind of command it is"`
	From     string  `json:"from" doc:"the node that the client is connected to"`
	Route    string  `json:"route"`
	Node     string  `json:"node,omitempty" doc:"where it would go; absent: nowhere"`
	Region   string  `json:"region,omitempty"`
	RTTMS    float64 `json:"rtt_ms" doc:"from the client's node to it"`
	Reason   string  `json:"reason"`
	Second   string  `json:"second,omitempty" doc:"the node that is asked as well when the answer takes longer than second_ms"`
	SecondMS float64 `json:"second_ms,omitempty"`
	Database string  `json:"database" doc:"org/name"`
}

// LatencyRow is the round trip between two regions, over the mesh.
type LatencyRow struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	RTTMS float64 `json:"rtt_ms"`
	Known bool    `json:"known" doc:"false: not measured, or nobody there answers"`
}

// Peer is an app VM, sidecar or person that joined an org's network.
type Peer struct {
	Org       string `json:"org"`
	Name      string `json:"name"`
	Region    string `json:"region"`
	PublicKey string `json:"public_key" doc:"WireGuard"`
	Address   string `json:"address"`
	Roaming   bool   `json:"roaming" doc:"the nodes of all regions accept it"`
}

// PeerRequest adds a peer. The private key stays with the peer.
type PeerRequest struct {
	Name      string `json:"name"`
	Region    string `json:"region" doc:"where it is attached"`
	PublicKey string `json:"public_key" doc:"WireGuard, base64"`
	Roaming   bool   `json:"roaming,omitempty" doc:"have the nodes of all regions accept it, as a sidecar needs"`
}

// PeerKeyRequest gives a peer another key; name and address stay.
type PeerKeyRequest struct {
	PublicKey string `json:"public_key" doc:"WireGuard, base64"`
}

// PeerConfig is a peer with all that its WireGuard file needs but the private key.
type PeerConfig struct {
	Peer       Peer       `json:"peer"`
	DNS        string     `json:"dns" doc:"the org's resolver"`
	AllowedIPs []string   `json:"allowed_ips"`
	Nodes      []PeerNode `json:"nodes" doc:"the nodes that accept it; take one"`
	Keepalive  int        `json:"persistent_keepalive" doc:"seconds"`
	MTU        int        `json:"mtu"`
}

// PeerNode is a node that a peer may attach to.
type PeerNode struct {
	Name      string `json:"name"`
	Region    string `json:"region"`
	PublicKey string `json:"public_key"`
	Endpoint  string `json:"endpoint,omitempty" doc:"host:port"`
	Draining  bool   `json:"draining,omitempty" doc:"takes no new sessions; only a roaming peer sees such nodes"`
}

// Audit is a page of the audit log, newest first.
type Audit struct {
	Records []netconf.AuditRecord `json:"records"`
	Before  uint64                `json:"before,omitempty" doc:"ask with it for the next page; absent: this was the last"`
}

// JoinChallenge is what a node needs to prove that it holds its WireGuard key.
type JoinChallenge struct {
	PublicKey string `json:"public_key" doc:"X25519, base64"`
	Nonce     string `json:"nonce" doc:"good for two minutes"`
}

// JoinRequest asks to become a node of the mesh.
type JoinRequest struct {
	Token     string `json:"token" doc:"of scope node"`
	Name      string `json:"name"`
	Region    string `json:"region"`
	PublicKey string `json:"wireguard_key" doc:"WireGuard public key, base64"`
	Endpoint  string `json:"endpoint,omitempty" doc:"where the others find its WireGuard, host:port"`
	CSR       string `json:"csr" doc:"PKCS #10, PEM: for its certificate in the control plane"`
	Nonce     string `json:"nonce" doc:"the challenge's"`
	Proof     string `json:"proof" doc:"base64; see package api, Enrolment"`
}

// JoinResponse is all that a node needs to run.
type JoinResponse struct {
	Node        Node            `json:"node"`
	Infra       string          `json:"infra" doc:"the nodes' own /48"`
	CA          string          `json:"ca" doc:"of the control plane, PEM"`
	Certificate string          `json:"certificate" doc:"of the node, PEM"`
	Control     []string        `json:"control" doc:"the control plane's endpoints"`
	Revision    uint64          `json:"revision"`
	State       json.RawMessage `json:"state" doc:"the mesh's state at that revision, as nodes keep it"`
}

// CertificateRequest renews a node's certificate.
type CertificateRequest struct {
	CSR string `json:"csr" doc:"PKCS #10, PEM"`
}

// CertificateResponse is a node's certificate with what belongs to it.
type CertificateResponse struct {
	CA          string   `json:"ca" doc:"of the control plane, PEM"`
	Certificate string   `json:"certificate" doc:"of the node, PEM"`
	Control     []string `json:"control" doc:"the control plane's endpoints"`
}

// AuthorityRequest asks for the key of the control plane's CA: see pki.Question.
type AuthorityRequest struct {
	Certificate string `json:"certificate" doc:"of the node, PEM"`
	PublicKey   string `json:"public_key" doc:"X25519, base64, for this request alone"`
	Signature   string `json:"signature" doc:"of the node's key over public_key, base64"`
}

// AuthorityResponse is the key, for the one who asked.
type AuthorityResponse struct {
	Sealed string `json:"sealed" doc:"HPKE (RFC 9180), base64"`
}

// Lists are objects, so that they can grow.
type (
	// Regions is the answer of GET /v1/regions.
	Regions struct {
		Regions []Region `json:"regions"`
	}
	// Plans is the answer of GET /v1/plans.
	Plans struct {
		Plans []Plan `json:"plans"`
	}
	// Orgs is the answer of GET /v1/orgs.
	Orgs struct {
		Orgs []Org `json:"orgs"`
	}
	// Nodes is the answer of GET /v1/nodes.
	Nodes struct {
		Nodes []Node `json:"nodes"`
		// ControlError says why no node's part in the control plane is known.
		ControlError string `json:"control_error,omitempty" doc:"why it isn't known which nodes carry the control plane"`
	}
	// Tokens is the answer of GET /v1/tokens.
	Tokens struct {
		Tokens []Token `json:"tokens"`
	}
	// Databases is the answer of GET /v1/databases.
	Databases struct {
		Databases []Database `json:"databases"`
		Revision  uint64     `json:"revision"`
	}
	// Users is the answer of GET …/users.
	Users struct {
		Users []User `json:"users"`
	}
	// Peers is the answer of GET …/peers.
	Peers struct {
		Peers []Peer `json:"peers"`
	}
	// Latency is the answer of GET /v1/latency.
	Latency struct {
		Regions []string     `json:"regions"`
		Rows    []LatencyRow `json:"rows"`
	}
)
