package node

import (
	"fmt"
	"log/slog"
	"net/netip"

	"respmesh/netconf"
	"respmesh/store/aof"
	"respmesh/store/redis"
)

// DevOptions are the flags of `respmesh dev`.
type DevOptions struct {
	Regions     []string
	Primary     string   // empty: the first region
	Replicas    []string // regions with a replica, if ReplicasSet; else all
	ReplicasSet bool
	Org, Name   string
	WAN         string // "world" or "none"
	Port, HTTP  int    // 0: free ones
	Listen      []string
	Data        string         // empty: a temporary directory, and no data in it
	Engine      netconf.Engine // zero: what Data says, or embedded
	Cluster     bool           // start one for Engine
	AppendFsync string         // "always", "everysec" (also if empty) or "no": when what is kept in Data is brought to the disk
	TUN         bool
	Password    string
	Trace       TraceOptions
	Version     string
	Log         *slog.Logger
}

// check refuses what can't be, and fills in the defaults.
func (o *DevOptions) check() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := o.Trace.check(); err != nil {
		return err
	}
	if len(o.Regions) == 0 {
		return Usagef("--regions is empty; give at least one region")
	}
	seen := map[string]bool{}
	for _, code := range o.Regions {
		if _, err := netconf.CheckRegion(code); err != nil {
			return Usagef("--regions: %v", err)
		}
		if seen[code] {
			return Usagef("--regions: %s is given twice", code)
		}
		seen[code] = true
	}
	if o.Primary == "" {
		o.Primary = o.Regions[0]
	}
	if !seen[o.Primary] {
		return Usagef("--primary: %q isn't one of the regions %v", o.Primary, o.Regions)
	}
	if !o.ReplicasSet {
		o.Replicas = o.Regions
	}
	for _, code := range o.Replicas {
		if !seen[code] {
			return Usagef("--replicas: %q isn't one of the regions %v", code, o.Regions)
		}
	}
	if err := netconf.ValidateName(o.Org); err != nil {
		return Usagef("--org: %v", err)
	}
	if err := netconf.ValidateName(o.Name); err != nil {
		return Usagef("--name: %v", err)
	}
	if o.WAN != "world" && o.WAN != "none" {
		return Usagef("--wan: %q is neither world nor none", o.WAN)
	}
	if _, err := aof.ParsePolicy(o.AppendFsync); err != nil && o.AppendFsync != "" {
		return Usagef("--appendfsync: %v", err)
	}
	if err := o.checkEngine(); err != nil {
		return err
	}
	if o.AppendFsync != "" && o.Data == "" {
		return Usagef("--appendfsync is about what --data keeps; give --data too")
	}
	if o.Port < 0 || o.Port+len(o.Regions)-1 > 65535 {
		return Usagef("--port: %d is out of range; with %d regions it may be at most %d", o.Port, len(o.Regions), 65536-len(o.Regions))
	}
	if o.HTTP < 0 || o.HTTP > 65535 {
		return Usagef("--http: %d is out of range", o.HTTP)
	}
	if len(o.Listen) == 0 {
		return Usagef("--listen is empty; give at least one address")
	}
	for _, host := range o.Listen {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return Usagef("--listen: %q isn't an IP address", host)
		}
		if !addr.IsLoopback() && o.Password == "" {
			return Usagef("--listen: %s can be reached from outside this machine; set a password in RESPMESH_PASSWORD first", host)
		}
	}
	if o.TUN {
		return checkTUN()
	}
	return nil
}

// fsync is the policy of checked options.
func (o *DevOptions) fsync() aof.Policy {
	policy, _ := aof.ParsePolicy(o.AppendFsync)
	return policy
}

// checkEngine refuses what can't be started here.
func (o *DevOptions) checkEngine() error {
	if o.Cluster || o.Engine.Supervised() {
		if _, err := redis.Installed(); err != nil {
			return fmt.Errorf("--engine: %w", err)
		}
	}
	if o.Cluster || o.Engine.Kind == netconf.EngineCluster {
		if o.ReplicasSet && len(o.Replicas) > 0 {
			return Usagef("--replicas: a cluster has replicas of its own, and all regions use it; leave the flag away")
		}
		o.Replicas = nil
	}
	return nil
}
