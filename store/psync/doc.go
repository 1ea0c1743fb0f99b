// Package psync speaks Redis's replication protocol, PSYNC2, on both sides: a
// Primary feeds replicas, a Replica follows a primary, and a Log is the stream
// that both are about. Each side works with a real Redis or Valkey server
// (7.0 to 7.2, 7.2 to 8.x) as its peer. The protocol is that of replication.c of
// Redis 7.0.
//
// The stream is the sequence of commands that changed the data, as RESP. A
// position in it is (replid, offset): the random 40-digit name of a history, and
// how many bytes of it there have been, every byte counted. A replica holds the
// same bytes at the same offsets as its primary, so replicas can feed replicas,
// and anyone can continue with anyone who shares the history.
//
//	replica                                primary
//	AUTH, PING, REPLCONF listening-port,
//	REPLCONF capa eof capa psync2     →
//	                                  ←    +OK, +PONG, …
//	PSYNC <replid> <offset+1>         →    (PSYNC ? -1: no history yet)
//	                                  ←    +CONTINUE <replid>, then the stream, or
//	                                       +FULLRESYNC <replid> <offset>, \n…,
//	                                       $<len> and an RDB, or $EOF:<40 bytes>,
//	                                       an RDB and the 40 bytes; then the stream
//	REPLCONF ACK <offset>             →    each second, and after REPLCONF GETACK *
//
// A history may have two names: after a promotion the new primary starts a name
// of its own and remembers the old one, with the offset up to which it holds, so
// that the other replicas needn't start from scratch.
//
// The package knows no engine: Source and Target are what it needs of one.
package psync

import (
	"errors"
	"io"

	"respmesh/resp/command"
)

// A Source gives the data for a full resynchronisation.
type Source interface {
	// Snapshot writes an RDB of all databases. While the data is frozen, so that
	// nothing is applied or appended to the Log, it calls at, once. The database
	// that the stream has selected at that moment is in the auxiliary field
	// repl-stream-db, unless the stream goes on with a SELECT.
	Snapshot(w io.Writer, at func()) error
}

// A Target takes what a primary sends.
type Target interface {
	// Restore replaces all data by an RDB. Until it returns without an error
	// the old data stays. An error that wraps rdb.ErrUnsupported is final.
	Restore(r io.Reader) error
	// ApplyThen executes commands of the stream in order; transactions are never cut
	// in two. It must not append to the Log. An error means that the copy can't
	// follow any further. The requests are invalid once it has returned. Nobody
	// sees the effects before then, which is called once if there is no error,
	// has returned.
	ApplyThen(reqs []command.Request, then func()) error
}

// ErrOtherHistory is the answer to a wait for an offset of a history that this
// copy doesn't share, so that waiting is no use.
var ErrOtherHistory = errors.New("offset belongs to another replication history")

// ErrBroken is wrapped by the error of a Replica that met something in its
// primary's data that it can't apply. It doesn't follow any further, since
// skipping would be to diverge.
var ErrBroken = errors.New("replica is broken")
