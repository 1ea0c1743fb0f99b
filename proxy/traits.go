package proxy

import (
	"strings"

	"respmesh/resp/command"
)

// class is what a command needs, as resp/command has it; unknown commands count as primary-only.
type class uint8

const (
	classLocal class = iota
	classRead
	classWrite
	classPrimaryOnly
	classPinned
	classRefused
	classCount
)

var classNames = [classCount]string{"local", "read", "write", "primary_only", "pinned", "refused"}

// trait is what the gateway must know of a command beyond its class.
type trait uint32

const (
	traitBlocking    trait = 1 << iota // may wait in the store
	traitBlockOption                   // may wait if it has a BLOCK option
	traitSubscribe                     //
	traitUnsubscribe                   //
	traitMulti                         //
	traitExec                          //
	traitDiscard                       //
	traitWatch                         //
	traitUnwatch                       //
	traitHere                          // asks about this node's own store (PUBSUB)
	traitNoKeys                        // changes no key although it isn't a read (PUBLISH)
	traitSelect                        //
	traitCached                        // runs what only the primary may have been given (EVALSHA_RO)
	traitHello                         //
	traitNoTx                          // can't be part of a transaction: known to no store (RESPMESH), or it changes how replies come
	traitAuth                          // its answer may be delayed
	traitFree                          // isn't charged
	traitCursor                        // goes on where an earlier one stopped
	traitScript                        // calls commands that aren't seen here
	traitOtherDB                       // changes a key of another database index than the session's (MOVE, COPY)
)

const traitTx = traitMulti | traitExec | traitDiscard | traitWatch | traitUnwatch

// entry is the gateway's knowledge of one command, by command.Spec.ID.
type entry struct {
	class  class
	traits trait
	self   selfFunc // answers it without a store
}

func (e *entry) is(t trait) bool { return e.traits&t != 0 }

// table is made once per gateway and never changed.
type table struct {
	entries [command.Count]entry
	unknown entry

	// RESPMESH is the gateway's own command and in no server's table.
	respmesh  entry
	container *command.Spec
}

func (t *table) of(s *command.Spec) *entry {
	if s == nil {
		return &t.unknown
	}
	return &t.entries[s.ID]
}

func newTable() *table {
	t := &table{unknown: entry{class: classPrimaryOnly}}
	self := selfFuncs()
	t.respmesh = entry{class: classLocal, traits: traitNoTx, self: respmesh}
	t.container = &command.Spec{Name: "respmesh", Arity: -2, Class: command.Local}
	for s := range command.All() {
		e := &t.entries[s.ID]
		e.class = classOf(s.Class)
		e.traits = traitsOf(s)
		switch name, _, _ := strings.Cut(s.Name, "|"); name {
		case "auth", "info", "ping", "quit", "command", "hello":
			e.traits |= traitFree
		}
		if f := self[s.Name]; f != nil {
			e.class, e.self = classLocal, f
		}
	}
	return t
}

func classOf(c command.Class) class {
	switch c {
	case command.Local:
		return classLocal
	case command.Read:
		return classRead
	case command.Write:
		return classWrite
	case command.Pinned:
		return classPinned
	case command.Refused:
		return classRefused
	}
	return classPrimaryOnly
}

func traitsOf(s *command.Spec) trait {
	switch s.Name {
	case "subscribe", "psubscribe", "ssubscribe":
		return traitSubscribe
	case "unsubscribe", "punsubscribe", "sunsubscribe":
		return traitUnsubscribe
	case "multi":
		return traitMulti
	case "exec":
		return traitExec
	case "discard":
		return traitDiscard
	case "watch":
		return traitWatch
	case "unwatch":
		return traitUnwatch
	case "select":
		return traitSelect
	case "publish", "spublish", "script", "script|load", "script|flush", "script|exists":
		return traitNoKeys
	case "pubsub", "pubsub|channels", "pubsub|numpat", "pubsub|numsub", "pubsub|shardchannels", "pubsub|shardnumsub":
		return traitHere | traitNoKeys
	case "xread", "xreadgroup":
		return traitBlockOption
	case "hello":
		return traitHello
	case "scan", "hscan", "sscan", "zscan":
		return traitCursor
	case "auth":
		return traitAuth | traitNoTx
	case "eval", "evalsha", "eval_ro", "fcall", "fcall_ro":
		return traitScript
	case "move", "copy":
		return traitOtherDB
	case "evalsha_ro":
		return traitCached | traitScript
	case "monitor":
		return traitNoTx
	case "client|reply", "client|tracking", "client|caching":
		return traitNoTx
	case "wait", "waitaof", "save":
		return traitBlocking | traitNoKeys
	}
	if s.Is(command.FlagBlocking) {
		return traitBlocking
	}
	return 0
}
