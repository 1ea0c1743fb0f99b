package redis

import "respmesh/resp/command"

// trait is what an engine must know of a command.
type trait uint8

const (
	plain    trait = iota // any connection will do, and it stays as it was
	quiet                 // plain, and it can't change a key: no offset is asked for behind it
	read                  // quiet, and it may be tried again
	aside                 // must not wait behind others (SCRIPT KILL), nor others behind it
	blocking              // may wait
	optional              // may wait if it has a BLOCK option
	waits                 // WAIT: about what this session wrote
	multi                 // …the rest needs a connection of its own, or is about one
	execute
	discard
	watch
	unwatch
	selects
	hello
	reset
	quit
	subscribe
	unsubscribe
	stateful // leaves something behind that only the end of the connection removes
	refused  // would end the order of replies
)

// table has the traits by command.Spec.ID. It is made once per engine and never changed.
type table [command.Count]trait

func (t *table) of(s *command.Spec) trait {
	if s == nil {
		return plain
	}
	return t[s.ID]
}

func newTable() *table {
	t := new(table)
	for s := range command.All() {
		t[s.ID] = traitOf(s)
	}
	return t
}

func traitOf(s *command.Spec) trait {
	switch s.Name {
	case "multi":
		return multi
	case "exec":
		return execute
	case "discard":
		return discard
	case "watch":
		return watch
	case "unwatch":
		return unwatch
	case "select":
		return selects
	case "hello":
		return hello
	case "reset":
		return reset
	case "quit":
		return quit
	case "subscribe", "psubscribe", "ssubscribe":
		return subscribe
	case "unsubscribe", "punsubscribe", "sunsubscribe":
		return unsubscribe
	case "wait", "waitaof":
		return waits
	case "xread", "xreadgroup":
		return optional
	case "script|kill", "function|kill":
		return aside
	case "client|reply", "sync", "psync", "monitor":
		return refused
	case "auth", "asking", "readonly", "readwrite":
		return stateful
	case "info", "time", "lastsave", "script|exists", "ping", "echo", "command", "slowlog|get", "memory", "latency", "object":
		return quiet
	}
	if p := s.Parent(); p != nil {
		switch p.Name {
		case "client":
			return stateful
		case "command", "pubsub", "memory", "object", "xinfo", "latency":
			if s.Class != command.Read {
				return quiet
			}
		}
	}
	switch {
	case s.Is(command.FlagBlocking):
		return blocking
	case s.Class == command.Read:
		return read
	}
	return plain
}

// traitFor is of, with what depends on the arguments.
func (t *table) traitFor(r *command.Request) trait {
	k := t.of(r.Spec)
	if k == optional {
		if command.HasBlock(r.Args) {
			return blocking
		}
		if r.Class == command.Read {
			return read
		}
		return plain
	}
	return k
}

// changes says whether a write may be among the commands, so that an offset is wanted.
func (t *table) changes(reqs []command.Request) bool {
	for i := range reqs {
		switch t.traitFor(&reqs[i]) {
		case quiet, read:
		default:
			return true
		}
	}
	return false
}
