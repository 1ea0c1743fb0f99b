package embedded

import "respmesh/resp/command"

// refusedByOwner refuses what may write while the engine's owner doesn't want that, and tells whether it did. A script that
// has begun isn't stopped halfway.
func (c *Conn) refusedByOwner(x *call) bool {
	if c.e.opts.Refuse == nil || c.fromStream || c.e.replica || !c.writes(x.spec) && !x.spec.Is(command.FlagMayReplicate) {
		return false
	}
	err := c.e.opts.Refuse()
	if err != nil {
		c.reject(x, err.Error())
	}
	return err != nil
}

// StreamDB is the database that a replica's stream has selected. It is to be called by what Snapshot calls only.
func (e *Engine) StreamDB() (db int, replica bool) { return e.stream.db, e.replica }
