package node

import (
	"net"
	"slices"
	"strconv"

	"respmesh/netconf"
)

// Roles of a region, as DevReady gives them.
const (
	RolePrimary = "primary"
	RoleReplica = "replica"
	RoleNone    = "none"
	RoleCluster = "cluster" // reads and writes where the cluster's shards are
)

// DevReady is the line that `dev --json` prints.
type DevReady struct {
	Ready    bool        `json:"ready"`
	Admin    string      `json:"admin"`
	Database DevDatabase `json:"database"`
	Regions  []DevRegion `json:"regions"`
}

// DevDatabase says how to reach the database inside the private network.
type DevDatabase struct {
	Org     string `json:"org"`
	Name    string `json:"name"`
	Address string `json:"address"`
	DNS     string `json:"dns"`
	URL     string `json:"url"`
	Engine  string `json:"engine"`
}

// DevRegion is one node.
type DevRegion struct {
	Region    string  `json:"region"`
	Role      string  `json:"role"`
	RESP      string  `json:"resp"`
	WireGuard string  `json:"wireguard"`
	RTT       float64 `json:"rtt_to_primary_ms"`
}

// Host splits the address of the region's Redis port.
func (r DevRegion) Host() (host, port string) {
	host, port, _ = net.SplitHostPort(r.RESP)
	return host, port
}

// Ready describes what runs.
func (d *Dev) Ready() DevReady {
	topology, _ := d.control.registry.Current()
	db, _ := topology.Database(d.opts.Org, d.opts.Name)
	ready := DevReady{
		Ready: true, Admin: d.admin.url,
		Database: DevDatabase{
			Org: db.Org, Name: db.Name, Address: db.Address.String(), DNS: dnsName(db),
			URL:    "redis://" + net.JoinHostPort(db.Address.String(), strconv.Itoa(redisPort)),
			Engine: db.Engine.String(),
		},
	}
	for i, n := range d.nodes {
		rtt, _ := (*nodeMesh)(n).RTT(nodeName(d.opts.Primary))
		ready.Regions = append(ready.Regions, DevRegion{
			Region: n.opts.Region, Role: roleOf(db, n.opts.Region), RESP: d.addrs[i],
			WireGuard: n.WireGuard().String(), RTT: float64(rtt.Microseconds()) / 1000,
		})
	}
	return ready
}

func dnsName(db netconf.Database) string { return db.Name + "." + db.Org + ".internal" }

func roleOf(db netconf.Database, region string) string {
	switch {
	case db.Engine.Kind == netconf.EngineCluster:
		return RoleCluster
	case region == db.Primary:
		return RolePrimary
	case slices.Contains(db.Replicas, region):
		return RoleReplica
	}
	return RoleNone
}
