// Package redis is the engine on real servers: a running Redis or Valkey attached by URL, one that the node supervises as
// a child process, one found through Sentinel, or a Redis or Valkey Cluster.
//
// An [Engine] has the shape of the proxy's store. Its sessions ([Conn]) share a few pipelined connections to the server:
// what many of them ask at a moment travels in one write, and the replies are copied to whom they belong, not decoded.
// A session whose state the server must keep gets a connection of its own for as long as that lasts:
//
//	shared ──MULTI, WATCH, SELECT n, CLIENT TRACKING, …──▶ own ──EXEC, UNWATCH, SELECT 0──▶ shared
//	shared ──blocking command──▶ own, for the one command
//	SUBSCRIBE and its family: another one, in RESP3, where messages can be told from replies
//
// A transaction that comes whole, from MULTI to EXEC in one batch, needs none: its bytes stay together on a shared one.
//
// # Promises
//
//   - A write is sent at most once. Lost before a byte of it was taken by the socket it is answered MASTERDOWN, after
//     that UNKNOWNOUTCOME. Reads are tried once more.
//   - When a write has been answered, [Engine.Position] is at or after it: the server is asked for its offset (ROLE)
//     behind each batch that holds something else than reads, in the same write, and the replies wait for that answer.
//   - Errors of the server pass unchanged. A server that loads its data after a start isn't connected to until it has:
//     that is [State]'s reason meanwhile.
//   - What is in flight is bounded; who waits for it can leave at any time.
//
// The protocol is RESP as in https://redis.io/docs/latest/develop/reference/protocol-spec/, Sentinel's as in
// https://redis.io/docs/latest/develop/reference/sentinel-clients/, the cluster's as in
// https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/. Versions: Redis 7.0 to 7.2, Valkey 7.2 to 8.x.
package redis

import "errors"

var (
	// ErrOtherHistory is the answer to a wait for an offset of a history that the server doesn't share.
	ErrOtherHistory = errors.New("offset belongs to another replication history")
	// ErrClosed is wrapped by what fails because the engine was closed.
	ErrClosed = errors.New("engine closed")
	// ErrReplica is wrapped when the server isn't a primary.
	ErrReplica = errors.New("the server is a replica")
	// ErrNotInstalled is wrapped when there is no server to supervise on this machine.
	ErrNotInstalled = errors.New("no redis-server or valkey-server found on PATH")
	// ErrNotEmpty is wrapped when a move would overwrite data that it wasn't told to.
	ErrNotEmpty = errors.New("the target holds data")

	// ErrUncertain is wrapped by MoveOptions.Commit when it isn't known whether the move counts: then nothing is undone.
	ErrUncertain = errors.New("it isn't known whether the move was made")

	errNotSent = errors.New("not sent")              // no byte was taken by a socket
	errStalled = errors.New("no answer")             //
	errLeft    = errors.New("the session has gone")  //
	errFrame   = errors.New("unexpected frame")      //
	errMoved   = errors.New("the primary has moved") //
	errLoading = errors.New("the server is loading its data")
)
