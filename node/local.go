package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/store/psync"
)

// local is what the control API asks of the node that it runs on.
type local Node

// errNotServed is the answer for a database that the node hasn't heard of, or couldn't start.
var errNotServed = errors.New("the node doesn't serve the database yet; if that stays, its log says why")

// DatabaseStatus implements api.Local.
func (l *local) DatabaseStatus(ctx context.Context, org, name string) (api.NodeDatabaseStatus, error) {
	n := (*Node)(l)
	db := n.database(org, name)
	if db == nil { // heard of in a moment, or it couldn't be started
		return api.NodeDatabaseStatus{Node: n.opts.Name, Region: n.opts.Region, Role: api.RoleNone, State: api.StateWaiting, Error: errNotServed.Error()}, nil
	}
	return db.status(ctx), nil
}

// Explain implements api.Local.
func (l *local) Explain(_ context.Context, org, name string, args []string) (api.Explanation, error) {
	n := (*Node)(l)
	db := n.database(org, name)
	if db == nil {
		return api.Explanation{}, errNotServed
	}
	x := db.gateway.Explain(args...)
	return api.Explanation{
		Command: x.Command, Class: x.Class, From: n.opts.Name, Route: x.Route, Node: x.Node, Region: x.Region,
		RTTMS: millis(x.RTT), Reason: x.Reason, Second: x.Second, SecondMS: millis(x.SecondAfter), Database: org + "/" + name,
	}, nil
}

// Latency implements api.Local.
func (l *local) Latency(context.Context) ([]api.LatencyRow, error) {
	n := (*Node)(l)
	topology, _ := n.source.Current()
	seen := make(map[string]bool)
	var rows []api.LatencyRow
	for _, other := range topology.Nodes {
		if other.Region == n.opts.Region || seen[other.Region] {
			continue
		}
		seen[other.Region] = true
		rtt, ok := n.regionRTT(other.Region)
		rows = append(rows, api.LatencyRow{From: n.opts.Region, To: other.Region, RTTMS: millis(rtt), Known: ok})
	}
	return rows, nil
}

// RotateKey implements api.Local.
func (l *local) RotateKey(ctx context.Context) error {
	if l.rotateKey == nil {
		return &api.Error{Code: api.CodeUnavailable, Message: "the nodes of respmesh dev keep their keys"}
	}
	return l.rotateKey(ctx)
}

// status is what the node knows of the database.
func (db *database) status(ctx context.Context) api.NodeDatabaseStatus {
	gateway := db.gateway.Status()
	s := api.NodeDatabaseStatus{
		Node: db.node.opts.Name, Region: db.node.opts.Region, Role: api.RoleNone, State: api.StateReady,
		Sessions: int64(gateway.Sessions), ReadsFrom: gateway.ReadsFrom,
		Commands: db.rate.perSecond(time.Now(), gateway.Commands), Today: db.node.charges.of(db.conf.ID).n.Load(),
	}
	if gateway.PrimaryReachable {
		s.RTTMS = millis(gateway.PrimaryRTT)
	} else {
		s.State, s.Error = api.StateStale, "the primary can't be reached"
	}
	h := db.held.Load()
	if h == nil {
		return s
	}
	if text := h.trouble.Load(); text != nil {
		s.State, s.Error = api.StateWaiting, *text
	}
	if o := h.outside.Load(); o != nil {
		h.outsideStatus(ctx, o, &s)
		return s
	}
	store := h.store.Load()
	if store == nil {
		return s
	}
	s.Engine = netconf.EngineEmbedded
	info := store.engine.Info()
	st := store.standing()
	s.Replid, s.Offset, s.Term = st.Replid, st.Offset, st.Term
	s.Keys, s.Memory = int64(info.Keys), info.Memory
	state := store.State()
	if err := store.diskErr(); err != nil {
		defer func() {
			if s.Error == "" {
				s.Error = "the disk doesn't take the data: " + err.Error()
			}
		}()
	}
	if state.Primary || store.held.Load() {
		s.Role, s.State, s.Error, s.Moving = api.RolePrimary, api.StateReady, "", h.moving.Load()
		return s
	}
	s.Role = api.RoleReplica
	s.LagMS = -1
	if r, ok := store.following(); ok {
		if db.replicaStatus(&s, r); s.State == api.StateReady && !state.Usable {
			s.State = api.StateSyncing
		}
	} else {
		s.State, s.Error = api.StateWaiting, state.Reason
	}
	return s
}

// outsideStatus is about a database on a server or a cluster.
func (h *heldCopy) outsideStatus(ctx context.Context, o *outside, s *api.NodeDatabaseStatus) {
	s.Engine = o.conf.String()
	if o.conf.Supervised() {
		s.Engine += ": no other node can take over"
	}
	if !h.leads.Load() && o.many == nil {
		s.State, s.Error = api.StateWaiting, "the node has left the lead to another"
		return
	}
	s.Role, s.State, s.Error, s.Term = api.RolePrimary, api.StateReady, "", h.term.Load()
	s.Replid, s.Offset = o.Position()
	s.Moving = h.moving.Load()
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	u, err := o.usage(ctx)
	if err == nil {
		s.Keys, s.Memory = u.Keys, u.Memory
		s.Engine = strings.Replace(s.Engine, o.conf.Kind, u.Version, 1)
		if o.many != nil {
			s.Engine = "cluster of " + s.Engine
		}
	}
	if st := o.state(); !st.Usable {
		s.State, s.Error = api.StateBroken, st.Reason
	} else if err != nil {
		s.State, s.Error = api.StateStale, err.Error()
	}
}

func (db *database) replicaStatus(s *api.NodeDatabaseStatus, r psync.ReplicaState) {
	if !r.LastHeard.IsZero() {
		s.LagMS = millis(time.Since(r.LastHeard))
	}
	switch r.Phase {
	case psync.Online:
		s.State, s.Error = api.StateReady, ""
	case psync.Syncing:
		s.State, s.Sync = api.StateSyncing, &api.Sync{Bytes: r.Received, Total: r.Total, Rate: db.sync.perSecond(time.Now(), uint64(r.Received))}
	case psync.Broken:
		s.State, s.Error = api.StateBroken, fmt.Sprint(r.Err)
	default:
		if s.State = api.StateStale; s.Error == "" {
			s.Error = "not connected to the primary"
		}
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
