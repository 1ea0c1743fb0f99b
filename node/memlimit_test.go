package node

import (
	"math"
	"testing"

	"respmesh/netconf"
)

func TestMemoryNeed(t *testing.T) {
	db := func(primary, plan string, limit int64) netconf.Database {
		return netconf.Database{Primary: primary, Plan: plan, MaxMemory: limit}
	}
	for name, c := range map[string]struct {
		databases []netconf.Database
		want      int64
		bounded   bool
	}{
		"none":              {nil, headroom, true},
		"two and elsewhere": {[]netconf.Database{db("mad", "free", 0), db("mad", "payg", 64<<20), db("ams", "10gb", 0)}, 480<<20 + headroom, true},
		"one without":       {[]netconf.Database{db("mad", "free", 0), db("mad", "", 0)}, math.MaxInt64, false},
	} {
		got, bounded := memoryNeed(&netconf.Topology{State: netconf.State{Databases: c.databases}}, "mad")
		if got != c.want || bounded != c.bounded {
			t.Errorf("%s: %d, %v", name, got, bounded)
		}
	}
}
