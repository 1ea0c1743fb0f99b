package node

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"respmesh/console"
	"respmesh/mesh"
	"respmesh/netconf"
)

// collector gives what is known at the moment of a scrape: WireGuard, round trips, replication, data. What happens
// per command is counted by the proxy's metrics.
type collector struct {
	nodes []*Node
	more  meshDescs

	rtt, reachable                       *prometheus.Desc
	handshake, received, sent, filtered  *prometheus.Desc
	lagBytes, lagSeconds, offset, usable *prometheus.Desc
	fullSyncs, partialSyncs              *prometheus.Desc
	keys, memory, hits, misses, expired  *prometheus.Desc
	readsFrom, today, engine             *prometheus.Desc
	diskFailing                          *prometheus.Desc
}

func newCollector(nodes []*Node) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("respmesh_"+name, help, labels, nil)
	}
	db := []string{"database", "region"}
	return &collector{
		nodes:        nodes,
		more:         newMeshDescs(),
		rtt:          desc("mesh_rtt_seconds", "Median round-trip time to another node, over the mesh.", "region", "peer"),
		reachable:    desc("mesh_reachable", "1 if the other node answers probes.", "region", "peer"),
		handshake:    desc("wireguard_handshake_age_seconds", "Time since the last WireGuard handshake with a peer.", "region", "peer"),
		received:     desc("wireguard_received_bytes_total", "Bytes received from a peer, WireGuard's own included.", "region", "peer"),
		sent:         desc("wireguard_sent_bytes_total", "Bytes sent to a peer, WireGuard's own included.", "region", "peer"),
		filtered:     desc("mesh_filtered_packets_total", "Packets dropped by the packet filter.", "region", "direction", "reason"),
		lagBytes:     desc("replication_lag_bytes", "Bytes of the primary's stream that a replica hasn't applied, where the primary is in the same process (dev).", db...),
		lagSeconds:   desc("replication_heard_seconds", "Time since a replica last heard its primary.", db...),
		offset:       desc("replication_offset_bytes", "Position in the replication stream.", db...),
		usable:       desc("store_usable", "1 if the copy may serve reads.", db...),
		diskFailing:  desc("store_disk_failing", "1 if the disk doesn't take the copy's data; it acknowledges nothing then.", db...),
		fullSyncs:    desc("replication_full_syncs_total", "Full resynchronisations of a replica.", db...),
		partialSyncs: desc("replication_partial_syncs_total", "Partial resynchronisations of a replica.", db...),
		keys:         desc("store_keys", "Keys in all databases of the store.", db...),
		memory:       desc("store_memory_bytes", "Memory that the store's data takes, as accounted.", db...),
		hits:         desc("store_keyspace_hits_total", "Reads that found their key.", db...),
		misses:       desc("store_keyspace_misses_total", "Reads that didn't.", db...),
		expired:      desc("store_expired_keys_total", "Keys removed because their time was over.", db...),
		today:        desc("commands_today", "Charged commands of the node's clients since midnight UTC.", db...),
		readsFrom:    desc("reads_from", "1 for the node that plain reads are served from.", "database", "region", "node"),
		engine:       desc("store_engine", "1 for the kind of engine that the copy here is in.", "database", "region", "engine"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	offsets := make(map[databaseKey]int64) // of the primaries
	for _, n := range c.nodes {
		for _, db := range n.all() {
			if o := db.outside(); o != nil && o.State().Primary {
				_, offsets[databaseKey{db.conf.Org, db.conf.Name}] = o.Position()
			} else if db.copy() != nil && db.copy().leads() {
				_, offsets[databaseKey{db.conf.Org, db.conf.Name}] = db.copy().Position()
			}
		}
	}
	for _, n := range c.nodes {
		c.mesh(ch, n)
		c.more.collect(ch, n)
		for _, db := range n.all() {
			primary, ok := offsets[databaseKey{db.conf.Org, db.conf.Name}]
			if !ok {
				primary = -1
			}
			c.database(ch, n, db, primary)
		}
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func count[N int64 | uint64](ch chan<- prometheus.Metric, d *prometheus.Desc, v N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (c *collector) mesh(ch chan<- prometheus.Metric, n *Node) {
	region := n.opts.Region
	topology, _ := n.source.Current()
	for _, other := range topology.Nodes {
		if other.Name == n.opts.Name {
			continue
		}
		rtt, ok := n.prober.RTT(other.Addr)
		gauge(ch, c.reachable, number(ok), region, other.Name)
		if ok {
			gauge(ch, c.rtt, rtt.Seconds(), region, other.Name)
		}
	}
	for _, p := range n.peerStatus(topology) {
		if p.To == "" {
			continue // it has just joined, or has a new key
		}
		if p.Handshake != console.Unknown {
			gauge(ch, c.handshake, p.Handshake.Seconds(), region, p.To)
		}
		count(ch, c.received, p.Received, region, p.To)
		count(ch, c.sent, p.Sent, region, p.To)
	}
	for _, reason := range mesh.Reasons() {
		count(ch, c.filtered, n.filter.Drops(mesh.Inbound, reason), region, "in", reason.String())
		count(ch, c.filtered, n.filter.Drops(mesh.Outbound, reason), region, "out", reason.String())
	}
}

// database gives what a node knows of a database. primaryOffset is negative where the primary isn't in this process.
func (c *collector) database(ch chan<- prometheus.Metric, n *Node, db *database, primaryOffset int64) {
	labels := []string{db.conf.Org + "/" + db.conf.Name, n.opts.Region}
	gauge(ch, c.readsFrom, 1, append(labels, db.gateway.Status().ReadsFrom)...)
	gauge(ch, c.today, float64(n.charges.of(db.conf.ID).n.Load()), labels...)
	if o := db.outside(); o != nil {
		c.outside(ch, o, labels)
		return
	}
	if db.copy() == nil {
		return
	}
	_, offset := db.copy().Position()
	gauge(ch, c.offset, float64(offset), labels...)
	gauge(ch, c.usable, number(db.copy().State().Usable), labels...)
	gauge(ch, c.diskFailing, number(db.copy().diskErr() != nil), labels...)
	gauge(ch, c.engine, 1, append(labels, netconf.EngineEmbedded)...)
	info := db.copy().engine.Info()
	gauge(ch, c.keys, float64(info.Keys), labels...)
	gauge(ch, c.memory, float64(info.Memory), labels...)
	count(ch, c.hits, info.Hits, labels...)
	count(ch, c.misses, info.Misses, labels...)
	count(ch, c.expired, info.Expired, labels...)
	if db.copy().leads() {
		return
	}
	r, _ := db.copy().following()
	if primaryOffset >= 0 {
		gauge(ch, c.lagBytes, float64(max(0, primaryOffset-offset)), labels...)
	}
	if !r.LastHeard.IsZero() {
		gauge(ch, c.lagSeconds, time.Since(r.LastHeard).Seconds(), labels...)
	}
	count(ch, c.fullSyncs, r.FullSyncs, labels...)
	count(ch, c.partialSyncs, r.PartialSyncs, labels...)
}

// outside is about a database on a server or a cluster.
func (c *collector) outside(ch chan<- prometheus.Metric, o *outside, labels []string) {
	_, offset := o.Position()
	gauge(ch, c.offset, float64(offset), labels...)
	gauge(ch, c.usable, number(o.state().Usable), labels...)
	gauge(ch, c.engine, 1, append(labels, o.conf.Kind)...)
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	u, err := o.usage(ctx)
	if err != nil {
		return // usable says so
	}
	gauge(ch, c.keys, float64(u.Keys), labels...)
	gauge(ch, c.memory, float64(u.Memory), labels...)
	count(ch, c.hits, u.Hits, labels...)
	count(ch, c.misses, u.Misses, labels...)
	count(ch, c.expired, u.Expired, labels...)
}

func number(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}
