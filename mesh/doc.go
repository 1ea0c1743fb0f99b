// Package mesh is the WireGuard mesh between nodes, and between nodes and the
// peers of organisations.
//
// A [Device] is one WireGuard device with one UDP socket (golang.zx2c4.com/wireguard).
// Below it lies a tunnel: either a userspace TCP/IP stack (gVisor netstack, needs
// no privilege) or a kernel TUN (needs root); [Open] picks one, and [NewTUN] puts
// all programs of a host on the mesh. All carry IPv6 only, at MTU 1280, which
// every path carries.
//
// WireGuard checks only the inner source address of a packet: a key of one
// organisation could reach a listener of another. So every Device has a [Filter]
// on the decrypted side, in both directions; there is no device without one.
//
// Peers are reconciled by minimal difference ([Device.SetPeers]): replacing all
// peers would cut live sessions for up to 1.6 s.
//
// A [Prober] measures round-trip times through the mesh and says which nodes can
// be reached.
package mesh
