package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
)

const (
	syncPoll = 200 * time.Millisecond
	// syncStall is how long nothing may change before the waiting ends.
	syncStall = 2 * time.Minute
)

// awaitStatus asks for a database's status until look has nothing more to say, and shows what it says. It gives up when that stays
// the same for long.
func awaitStatus(ctx context.Context, c *api.Client, db api.Database, p *progress, look func(api.DatabaseStatus) (line string, err error)) error {
	defer p.done()
	ticker := time.NewTicker(syncPoll)
	defer ticker.Stop()
	last, changed := "", time.Now()
	for {
		status, err := c.DatabaseStatus(ctx, db.Org, db.Name)
		line := ""
		switch {
		case errors.Is(err, netconf.ErrNotFound):
			return fmt.Errorf("while waiting for %s: %w", db.Name, err)
		case err != nil: // may pass: the node that answers may be on its way to another control plane
			line = "no answer: " + err.Error()
		default:
			if line, err = look(status); err != nil || line == "" {
				return err
			}
		}
		p.show(line)
		if line != last {
			last, changed = line, time.Now()
		}
		if time.Since(changed) > syncStall {
			return fmt.Errorf("nothing has changed for %s: %s; respmesh redis status %s/%s shows more", syncStall, line, db.Org, db.Name)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not waited to the end; it goes on: respmesh redis status %s/%s shows how far it is", db.Org, db.Name)
		case <-ticker.C:
		}
	}
}

// waitInSync waits until some regions of a database have a copy that serves, and shows how far the first copies are.
func waitInSync(ctx context.Context, c *api.Client, db api.Database, regions []string, p *progress) error {
	if len(regions) == 0 {
		return nil
	}
	var away []string
	err := awaitStatus(ctx, c, db, p, func(s api.DatabaseStatus) (line string, err error) {
		line, away, err = syncLine(s, regions)
		return line, err
	})
	if err == nil && len(away) > 0 {
		fmt.Fprintf(p.w, "No node answers in %s: the copies there are made when one does.\n", strings.Join(away, ", "))
	}
	return err
}

// syncLine says how far the regions are that don't serve yet; empty: all do. Away are those without a node that answers:
// they aren't worth waiting for.
func syncLine(s api.DatabaseStatus, regions []string) (line string, away []string, err error) {
	var parts []string
	for _, region := range regions {
		var best *api.NodeDatabaseStatus
		for i := range s.Nodes {
			n := &s.Nodes[i]
			if n.Region != region || n.State == api.StateAway {
				continue
			}
			if best == nil || closer(n, best) {
				best = n
			}
		}
		switch {
		case best == nil:
			away = append(away, region)
		case best.State == api.StateBroken:
			return "", nil, fmt.Errorf("node %s in %s can't hold a copy: %s", best.Node, region, best.Error)
		case best.State != api.StateReady || best.Role == api.RoleNone:
			parts = append(parts, region+": "+syncState(*best))
		}
	}
	return strings.Join(parts, "; "), away, nil
}

// closer tells whether a node is nearer to serving than another.
func closer(a, b *api.NodeDatabaseStatus) bool {
	order := []string{api.StateReady, api.StateStale, api.StateSyncing, api.StateWaiting, "", api.StateBroken}
	rank := func(n *api.NodeDatabaseStatus) int {
		if n.Role == api.RoleNone {
			return slices.Index(order, "")
		}
		return slices.Index(order, n.State)
	}
	return rank(a) < rank(b)
}

func syncState(n api.NodeDatabaseStatus) string {
	switch {
	case n.Role == api.RoleNone:
		return "about to begin"
	case n.State == api.StateStale && n.LagMS <= 0 && n.LagBytes <= 0:
		return "catching up"
	case n.State == api.StateStale:
		return "catching up, " + lag(n) + " behind"
	case n.State == api.StateSyncing && n.Sync != nil && n.Sync.Total > 0:
		percent := min(100, 100*n.Sync.Bytes/n.Sync.Total)
		return fmt.Sprintf("first sync %s of %s, %d%%, %s/s, lag %s", size(n.Sync.Bytes), size(n.Sync.Total), percent, size(int64(n.Sync.Rate)), lag(n))
	case n.State == api.StateSyncing && n.Sync != nil:
		return fmt.Sprintf("first sync %s, %s/s, lag %s", size(n.Sync.Bytes), size(int64(n.Sync.Rate)), lag(n))
	case n.State == api.StateSyncing:
		return "first sync begins"
	}
	return "waits for the primary"
}

// lag is how far behind a copy is: in time where that is known, else in bytes of the stream.
func lag(n api.NodeDatabaseStatus) string {
	if n.LagMS > 0 {
		if n.LagMS >= 1000 {
			return fmt.Sprintf("%.1f s", n.LagMS/1000)
		}
		return millis(n.LagMS)
	}
	return size(n.LagBytes)
}
