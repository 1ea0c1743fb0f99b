package console

import (
	"encoding/json"
	"time"
)

// Unknown is the value of a duration that isn't known: no measurement, no handshake yet.
const Unknown time.Duration = -1

// Status is what the page shows. The node fills it in for each request; it holds no secret.
type Status struct {
	Version   string        `json:"version"`
	Revision  uint64        `json:"revision"` // of the topology
	Uptime    time.Duration `json:"-"`
	Databases []Database    `json:"databases"`
	Peers     []Peer        `json:"peers"`
}

// Database is one database with its copies.
type Database struct {
	Org     string `json:"org"`
	Name    string `json:"name"`
	Plan    string `json:"plan,omitempty"`
	Address string `json:"address"` // the private service address
	DNS     string `json:"dns"`
	Primary string `json:"primary"` // region
	// Password tells whether clients need one. The password itself never comes here.
	Password bool     `json:"password"`
	Regions  []Region `json:"regions"`
}

// Roles of a region for a database.
const (
	RolePrimary = "primary"
	RoleReplica = "replica"
	RoleNone    = "none" // a node without a copy: it forwards
)

// Region is a node as seen for one database.
type Region struct {
	Code string `json:"region"`
	City string `json:"city"`
	Role string `json:"role"`
	RESP string `json:"resp"` // host:port for clients on this machine; empty: only the private address

	RTT       time.Duration `json:"-"` // to the primary; Unknown
	Reachable bool          `json:"reachable"`

	State    string        `json:"state"`  // of the copy, a word or two: "online", "first sync 42%", "broken: …"
	Usable   bool          `json:"usable"` // reads may be served from it
	Lag      time.Duration `json:"-"`      // Unknown
	LagBytes int64         `json:"lag_bytes"`
	Offset   int64         `json:"offset"`

	Keys     int64  `json:"keys"`
	Sessions int64  `json:"sessions"`
	Commands uint64 `json:"commands"` // since the start; the page shows commands per second
	// PerSecond is set by the handler, from the growth of Commands between two looks; nil: not known yet.
	PerSecond *float64 `json:"commands_per_second"`
}

// Peer is one direction of a WireGuard tunnel: To as seen from the device of From.
type Peer struct {
	From      string        `json:"from"`
	To        string        `json:"to"`
	Endpoint  string        `json:"endpoint"`
	Handshake time.Duration `json:"-"` // age of the last one; Unknown: none yet
	Received  uint64        `json:"received_bytes"`
	Sent      uint64        `json:"sent_bytes"`
}

// MarshalJSON writes the uptime in seconds.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	return json.Marshal(struct {
		plain
		Uptime float64 `json:"uptime_seconds"`
	}{plain(s), s.Uptime.Seconds()})
}

// MarshalJSON writes durations in milliseconds, null for Unknown.
func (r Region) MarshalJSON() ([]byte, error) {
	type plain Region
	return json.Marshal(struct {
		plain
		RTT *float64 `json:"rtt_to_primary_ms"`
		Lag *float64 `json:"lag_ms"`
	}{plain(r), known(r.RTT, time.Millisecond), known(r.Lag, time.Millisecond)})
}

// MarshalJSON writes the age of the handshake in seconds, null for Unknown.
func (p Peer) MarshalJSON() ([]byte, error) {
	type plain Peer
	return json.Marshal(struct {
		plain
		Handshake *float64 `json:"handshake_age_seconds"`
	}{plain(p), known(p.Handshake, time.Second)})
}

func known(d, unit time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	v := float64(d) / float64(unit)
	return &v
}
