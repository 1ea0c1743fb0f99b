package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
)

// waitMoved waits until a database is in the engine that it was to be moved to, and shows how far that is. A first failure
// ends the waiting: the node goes on trying, but somebody has to look.
func waitMoved(ctx context.Context, c *api.Client, db api.Database, p *progress) (api.Database, error) {
	defer p.done()
	ticker := time.NewTicker(syncPoll)
	defer ticker.Stop()
	last, changed := "", time.Now()
	for {
		s, err := c.DatabaseStatus(ctx, db.Org, db.Name)
		line := "no node has begun yet"
		switch {
		case errors.Is(err, netconf.ErrNotFound):
			return db, fmt.Errorf("while waiting for %s to be moved: %w", db.Name, err)
		case err != nil:
			line = "no answer: " + err.Error()
		case s.Database.Pending == nil:
			return s.Database, nil
		default:
			if m := movingOf(s); m != nil {
				if m.Error != "" {
					return s.Database, fmt.Errorf("%s wasn't moved and goes on where it was: %s; it is tried again, until respmesh redis update %s/%s --engine %s takes it back",
						db.Name, m.Error, db.Org, db.Name, takesBack(s.Database.Engine))
				}
				line = moveLine(*m)
			}
		}
		p.show("moving: " + line)
		if line != last {
			last, changed = line, time.Now()
		}
		if time.Since(changed) > syncStall {
			return db, fmt.Errorf("nothing has changed for %s: %s; respmesh redis status %s/%s shows more", syncStall, line, db.Org, db.Name)
		}
		select {
		case <-ctx.Done():
			return db, fmt.Errorf("not waited to the end; it goes on: respmesh redis status %s/%s shows how far it is", db.Org, db.Name)
		case <-ticker.C:
		}
	}
}

// takesBack is what --engine has to say for the engine that there is.
func takesBack(e api.Engine) string {
	if e.URL != "" {
		return e.URL
	}
	return e.Kind
}
