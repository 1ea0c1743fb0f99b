// Package command is the one table of all commands: arity, flags, key specs, and how each is routed. It is generated
// from the COMMAND and COMMAND DOCS replies of redis-server 7.0.15 (https://redis.io/docs/latest/commands/command/);
// what no server says, the routing class of each command and the hidden flag may_replicate, is decided in gen.
//
// The package also answers what depends on the table alone: which keys a command has, the COMMAND family, and Redis's
// errors for unknown commands and wrong numbers of arguments.
package command

import (
	"iter"

	"respmesh/resp/frame"
)

//go:generate go run ./gen -o table_gen.go

// A Class says where a command may be executed. A command that isn't in the table is to be treated as PrimaryOnly.
type Class uint8

const (
	Local       Class = iota + 1 // answered by the node itself: it concerns the session, or the table
	Read                         // any copy will do
	Write                        // changes keys: the primary
	PrimaryOnly                  // neither flagged read nor write, or flagged read but meant for the primary
	Pinned                       // needs a connection to the store of its own: transactions, blocking, subscriptions
	Refused                      // concerns the server under the store: not for clients
)

func (c Class) String() string {
	switch c {
	case Local:
		return "local"
	case Read:
		return "read"
	case Write:
		return "write"
	case PrimaryOnly:
		return "primary-only"
	case Pinned:
		return "pinned"
	case Refused:
		return "refused"
	}
	return "unknown"
}

// A Spec is the entry of a command or subcommand. Specs are shared and must not be changed.
type Spec struct {
	ID         int    // dense, 0 to Count-1
	Name       string // lower case; a subcommand's is "client|setname"
	Group      string // "string", "sorted-set", ...
	Since      string
	Summary    string
	Complexity string
	Arity      int // exact number of arguments with the name, or if negative the least
	Flags      Flags
	Class      Class
	Categories Categories
	FirstKey   int // the older, coarser key positions: see KeySpecs
	LastKey    int
	KeyStep    int
	Tips       []string
	KeySpecs   []KeySpec

	keys     keysRule
	parent   int // ID of the container, or its own
	firstSub int // subcommands have the IDs firstSub to firstSub+subs-1
	subs     int
}

// A Request is a parsed command with its entry; Spec is nil if the command is unknown.
type Request struct {
	*Spec
	frame.Command
}

// Is reports whether the command has any of the flags f.
func (s *Spec) Is(f Flags) bool { return s.Flags&f != 0 }

// ArityOK reports whether n arguments, the name included, are a number that the command takes.
func (s *Spec) ArityOK(n int) bool { return n == s.Arity || s.Arity < 0 && n >= -s.Arity }

// IsContainer reports whether the command has subcommands. When Lookup returns a container and there is a second
// argument, that one isn't among them.
func (s *Spec) IsContainer() bool { return s.subs > 0 }

// Parent returns the container of a subcommand, nil for others.
func (s *Spec) Parent() *Spec {
	if s.parent == s.ID {
		return nil
	}
	return &specs[s.parent]
}

// Subcommands yields the subcommands of a container.
func (s *Spec) Subcommands() iter.Seq[*Spec] {
	return func(yield func(*Spec) bool) {
		for i := range s.subs {
			if !yield(&specs[s.firstSub+i]) {
				return
			}
		}
	}
}

// All yields every entry in the order of IDs: commands by name, each followed by its subcommands.
func All() iter.Seq[*Spec] {
	return func(yield func(*Spec) bool) {
		for i := range specs {
			if !yield(&specs[i]) {
				return
			}
		}
	}
}

// ByID returns the entry with the given ID.
func ByID(id int) *Spec { return &specs[id] }
