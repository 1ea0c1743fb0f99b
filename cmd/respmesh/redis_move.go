package main

import (
	"context"
	"fmt"

	"respmesh/netconf/api"
)

// waitMoved waits until a database is in the engine that it was to be moved to, and shows how far that is. A first failure
// ends the waiting: the node goes on trying, but somebody has to look.
func waitMoved(ctx context.Context, c *api.Client, db api.Database, p *progress) (api.Database, error) {
	err := awaitStatus(ctx, c, db, p, func(s api.DatabaseStatus) (string, error) {
		m := movingOf(s)
		switch {
		case s.Database.Pending == nil:
			db = s.Database
			return "", nil
		case m == nil:
			return "moving: no node has begun yet", nil
		case m.Error != "":
			db = s.Database
			return "", fmt.Errorf("%s wasn't moved and goes on where it was: %s; it is tried again, until respmesh redis update %s/%s --engine %s takes it back",
				db.Name, m.Error, db.Org, db.Name, takesBack(db.Engine))
		}
		return "moving: " + moveLine(*m), nil
	})
	return db, err
}

// takesBack is what --engine has to say for the engine that there is.
func takesBack(e api.Engine) string {
	if e.URL != "" {
		return e.URL
	}
	return e.Kind
}
