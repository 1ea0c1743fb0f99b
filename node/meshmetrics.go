package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"respmesh/mesh"
)

// meshDescs are what the mesh keeps out, what it loses, and who uses it.
type meshDescs struct {
	orgFiltered, peerSessions, refused, handshakes, pathMTU, mtuTrouble, probesLost *prometheus.Desc
}

func newMeshDescs() meshDescs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("respmesh_"+name, help, labels, nil)
	}
	return meshDescs{
		orgFiltered:  desc("mesh_org_filtered_packets_total", "Packets with a source in an org's prefix that the packet filter dropped.", "region", "org", "direction", "reason"),
		peerSessions: desc("peer_sessions", "Open sessions of a peer.", "database", "region", "peer"),
		refused:      desc("mesh_connections_refused_total", "Connections refused because a peer had too many.", "region"),
		handshakes:   desc("wireguard_handshakes_dropped_total", "Handshakes dropped: not for this node (wrong), or too many (fast).", "region", "reason"),
		pathMTU:      desc("mesh_path_mtu_bytes", "The largest packet known to pass to another node and back.", "region", "peer"),
		mtuTrouble:   desc("mesh_path_mtu_trouble", "1 if large packets are lost on the way to another node, while small ones pass.", "region", "peer"),
		probesLost:   desc("mesh_probes_lost_total", "Probes of another node that had no answer.", "region", "peer"),
	}
}

func (d *meshDescs) collect(ch chan<- prometheus.Metric, n *Node) {
	region := n.opts.Region
	topology, _ := n.source.Current()
	for _, org := range topology.Orgs {
		for _, reason := range mesh.Reasons() { // those that there are: most orgs have none
			for direction, name := range map[mesh.Direction]string{mesh.Inbound: "in", mesh.Outbound: "out"} {
				if drops := n.filter.OrgDrops(org.Prefix, direction, reason); drops > 0 {
					count(ch, d.orgFiltered, drops, region, org.Name, name, reason.String())
				}
			}
		}
	}
	count(ch, d.refused, n.device.ConnsRefused(), region)
	wrong, fast := n.device.HandshakesDropped()
	count(ch, d.handshakes, wrong, region, "wrong")
	count(ch, d.handshakes, fast, region, "fast")
	for _, p := range n.prober.Stats() {
		other, ok := topology.NodeAt(p.Addr)
		if !ok {
			continue
		}
		count(ch, d.probesLost, p.Lost, region, other.Name)
		gauge(ch, d.mtuTrouble, number(p.MTUTrouble), region, other.Name)
		if p.PathMTU > 0 {
			gauge(ch, d.pathMTU, float64(p.PathMTU), region, other.Name)
		}
	}
	for _, db := range n.all() {
		for peer, sessions := range db.gateway.Peers() {
			gauge(ch, d.peerSessions, float64(sessions), db.conf.Org+"/"+db.conf.Name, region, peer)
		}
	}
}
