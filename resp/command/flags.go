package command

import "iter"

// Flags are a command's properties as the server tells them.
type Flags uint32

// In the order in which the server lists them.
const (
	FlagWrite Flags = 1 << iota
	FlagReadonly
	FlagDenyOOM
	FlagModule
	FlagAdmin
	FlagPubSub
	FlagNoScript
	FlagBlocking
	FlagLoading
	FlagStale
	FlagSkipMonitor
	FlagSkipSlowlog
	FlagAsking
	FlagFast
	FlagNoAuth
	FlagNoMandatoryKeys
	FlagNoAsyncLoading
	FlagNoMulti
	FlagMovableKeys
	FlagAllowBusy
	FlagMayReplicate // the server has it, and doesn't tell
)

var flagNames = [...]string{
	"write", "readonly", "denyoom", "module", "admin", "pubsub", "noscript", "blocking", "loading", "stale",
	"skip_monitor", "skip_slowlog", "asking", "fast", "no_auth", "no_mandatory_keys", "no_async_loading", "no_multi",
	"movablekeys", "allow_busy",
}

// Names yields the flags' names as COMMAND INFO lists them.
func (f Flags) Names() iter.Seq[string] { return names(uint32(f), flagNames[:]) }

// Categories are the ACL categories that a command belongs to.
type Categories uint32

// In the order in which the server lists them.
const (
	CategoryKeyspace Categories = 1 << iota
	CategoryRead
	CategoryWrite
	CategorySet
	CategorySortedSet
	CategoryList
	CategoryHash
	CategoryString
	CategoryBitmap
	CategoryHyperLogLog
	CategoryGeo
	CategoryStream
	CategoryPubSub
	CategoryAdmin
	CategoryFast
	CategorySlow
	CategoryBlocking
	CategoryDangerous
	CategoryConnection
	CategoryTransaction
	CategoryScripting
)

var categoryNames = [...]string{
	"keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo", "stream",
	"pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
}

// Names yields the categories' names without the '@'.
func (c Categories) Names() iter.Seq[string] { return names(uint32(c), categoryNames[:]) }

// CategoryByName returns the category of the given name, without the '@'.
func CategoryByName(name string) (Categories, bool) {
	for i, n := range categoryNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// KeyFlags say what a command does with the keys of a key spec.
type KeyFlags uint16

// In the order in which the server lists them.
const (
	KeyRO KeyFlags = 1 << iota // reads the value
	KeyRW                      // changes the value
	KeyOW                      // replaces the value
	KeyRM                      // removes the key
	KeyAccess
	KeyUpdate
	KeyInsert
	KeyDelete
	KeyNotKey // names something else, such as a shard channel
	KeyIncomplete
	KeyVariableFlags
)

var keyFlagNames = [...]string{
	"RO", "RW", "OW", "RM", "access", "update", "insert", "delete", "not_key", "incomplete", "variable_flags",
}

// Names yields the flags' names as COMMAND INFO lists them.
func (f KeyFlags) Names() iter.Seq[string] { return names(uint32(f), keyFlagNames[:]) }

func names(bits uint32, all []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, name := range all {
			if bits&(1<<i) != 0 && !yield(name) {
				return
			}
		}
	}
}
