package node

import "net"

// peerOf says who is at the other end of a connection to the database. WireGuard vouches for the address, and the packet
// filter for the org; the listener checks that once more.
func (db *database) peerOf(conn net.Conn) (peer string, allowed bool) {
	at, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return "", true // a stream of the control API, which has checked who it is
	}
	addr := at.AddrPort().Addr().Unmap().WithZone("")
	topology, _ := db.node.source.Current()
	org, ok := topology.OrgOf(addr)
	switch {
	case !ok:
		return "", true // a listener outside the mesh
	case org.Name != db.conf.Org:
		db.node.log.Warn("connection refused: it comes from another org", "database", db.conf.Org+"/"+db.conf.Name, "org", org.Name, "addr", addr)
		return "", false
	}
	if p, ok := topology.PeerAt(addr); ok {
		return p.Org + "/" + p.Name, true
	}
	return "", true // as new as that this node hasn't heard of it
}
