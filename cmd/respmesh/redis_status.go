package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
)

func redisStatus(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status [DATABASE]", Short: "Show a database, and how it is on each node", Args: atMost(1, "one database"), ValidArgsFunction: r.completeDatabases,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			s, err := c.DatabaseStatus(cmd.Context(), db.Org, db.Name)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if r.json {
				return printJSON(w, s)
			}
			if err := vertical(w, describe(s)); err != nil {
				return err
			}
			fmt.Fprintln(w)
			var rows, failed [][]string
			for _, n := range s.Nodes {
				rows = append(rows, statusRow(n))
				if n.Error != "" {
					failed = append(failed, []string{n.Node, n.Error})
				}
			}
			if err := table(w, []string{"NODE", "REGION", "ROLE", "STATE", "LAG", "RTT", "SESSIONS", "KEYS", "MEMORY", "READS FROM"}, rows); err != nil {
				return err
			}
			if len(failed) > 0 {
				fmt.Fprintln(w)
				return table(w, []string{"NODE", "ERROR"}, failed)
			}
			return nil
		}),
	}
	r.bindOrg(cmd)
	return cmd
}

// describe lists what a database is set to.
func describe(s api.DatabaseStatus) [][2]string {
	d := s.Database
	eviction := "off: a full database refuses writes"
	if d.Eviction {
		eviction = "on: a full database evicts keys, at random those with a TTL, then any"
	}
	engine := netconf.Engine{Kind: d.Engine.Kind, URL: d.Engine.URL}
	where := engine.String()
	if d.Pending != nil {
		where += ", to be moved to " + netconf.Engine{Kind: d.Pending.Kind, URL: d.Pending.URL}.String() + moveState(s)
	}
	near, behind := "the node's default", "no bound"
	if d.Near > 0 {
		near = d.Near.String()
	}
	if d.MaxLag > 0 {
		behind = d.MaxLag.String()
	}
	hedge := "off: each read is sent to one copy"
	if d.Hedge > 0 {
		hedge = d.Hedge.String() + " after a read's round trip a second copy is asked"
	}
	primary := "none yet: writes fail"
	if engine.Kind == netconf.EngineCluster {
		primary = "each node reads and writes where the cluster's shards are"
	} else if p := s.Primary; p != nil {
		primary = fmt.Sprintf("%s (term %d)", p.Node, p.Term)
		if !p.Held {
			primary += ", its lease has ended: writes fail until another takes over"
		}
	}
	return [][2]string{
		{"ID", d.ID}, {"Name", d.Name}, {"Org", d.Org}, {"Plan", d.Plan},
		{"Primary Region", d.Primary}, {"Read Regions", strings.Join(d.ReadRegions, ", ")}, {"Private URL", d.URL},
		{"Address", d.Address}, {"Primary Node", primary}, {"Engine", where}, {"Memory Limit", limit(d.MaxMemory)},
		{"Eviction", eviction}, {"Near", near}, {"Max Lag", behind}, {"Hedge", hedge}, {"Min Replicas", strconv.Itoa(d.MinReplicas)},
		{"Limits", limitsOf(d)},
	}
}

// limitsOf is what the database's clients may take of a node.
func limitsOf(d api.Database) string {
	var parts []string
	say := func(given bool, format string, args ...any) {
		if given {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	say(d.PerDay > 0, "%d commands a day", d.PerDay)
	say(d.PerSecond > 0, "%d commands a second", d.PerSecond)
	say(d.MaxSessions > 0, "%d sessions", d.MaxSessions)
	say(d.Concurrency > 0, "%d at work at a time", d.Concurrency)
	say(d.MaxRequest > 0, "%s a request", size(d.MaxRequest))
	say(d.MaxValue > 0, "%s a value", size(d.MaxValue))
	say(d.IdleTimeout > 0, "%s idle", d.IdleTimeout)
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// moveState says how far the move to another engine is.
func moveState(s api.DatabaseStatus) string {
	m := movingOf(s)
	switch {
	case m == nil:
		return ""
	case m.Error != "":
		return "; that failed and is tried again: " + m.Error
	}
	return ": " + moveLine(*m)
}

// movingOf is what the node that leads says of a move.
func movingOf(s api.DatabaseStatus) *api.Moving {
	for i := range s.Nodes {
		if m := s.Nodes[i].Moving; m != nil {
			return m
		}
	}
	return nil
}

func moveLine(m api.Moving) string {
	if m.Left > 0 {
		return m.Phase + ", " + size(m.Left) + " left"
	}
	return m.Phase
}

func statusRow(n api.NodeDatabaseStatus) []string {
	if n.State == api.StateAway {
		return []string{n.Node, n.Region, n.Role, n.State, "", "", "", "", "", ""}
	}
	state, behind, keys, memory := n.State, "", "", ""
	if n.State == api.StateSyncing && n.Sync != nil && n.Sync.Total > 0 {
		state = fmt.Sprintf("syncing %d%%", min(100, 100*n.Sync.Bytes/n.Sync.Total))
	}
	if n.Role == api.RoleReplica {
		behind = lag(n)
	}
	if n.Role != api.RoleNone {
		keys, memory = strconv.FormatInt(n.Keys, 10), size(n.Memory)
	}
	rtt := ""
	if n.Role != api.RolePrimary {
		rtt = millis(n.RTTMS)
	}
	return []string{n.Node, n.Region, n.Role, state, behind, rtt, strconv.FormatInt(n.Sessions, 10), keys, memory, n.ReadsFrom}
}
