package node

import (
	"context"

	"respmesh/store/psync"
)

func (db *database) copy() *store { return db.store }

func (s *store) standing() standing { return standing{} }

func (s *store) following() (psync.ReplicaState, bool) {
	if s.replica == nil {
		return psync.ReplicaState{}, false
	}
	return s.replica.State(), true
}

func (db *database) handOver(context.Context) {}
