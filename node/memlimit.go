package node

import (
	"math"
	"os"
	"runtime/debug"

	"respmesh/netconf"
)

// headroom is what a process needs besides the data: sessions, replication backlogs, links, the control plane.
const headroom = 512 << 20

// memoryNeed is how much memory the databases that a region holds may take in all, with what comes on top; false: one of them has no
// limit. The garbage collector works harder as it comes near: half of the data's size on top leaves it room.
func memoryNeed(t *netconf.Topology, region string) (bytes int64, bounded bool) {
	for _, db := range t.Databases {
		if !db.Holds(region) {
			continue
		}
		limit := db.MemoryLimit()
		if limit <= 0 || bytes > math.MaxInt64/4 {
			return math.MaxInt64, false
		}
		bytes += limit
	}
	return bytes + bytes/2 + headroom, true
}

// limitMemory tells Go's runtime, unless the environment does.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}

// followMemory hands on what the databases may need, when that has changed.
func (n *Node) followMemory(t *netconf.Topology) {
	if n.opts.LimitMemory == nil {
		return
	}
	if need, _ := memoryNeed(t, n.opts.Region); need != n.memory {
		n.memory = need
		n.opts.LimitMemory(need)
	}
}
