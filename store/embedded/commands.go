package embedded

import (
	"respmesh/resp/command"
)

// registration binds a command of the table in resp/command (by its lower-case name, "object|freq" for a
// subcommand) to its handler.
type registration struct {
	name   string
	handle handler
	lock   lockMode
}

// lockMode says which lock a command needs. The zero value goes by the command's readonly flag.
type lockMode uint8

const (
	lockByFlag    lockMode = iota
	lockShared             // touches no keys, or reads them without Redis calling it readonly
	lockExclusive          // writes something although Redis calls it readonly
)

// bound is a registration by Spec.ID.
type bound struct {
	handle handler
	shared bool
	quick  bool // see quick
	key    int8 // the first key's place, 0: there is none, or it depends on the arguments
	member int8 // see memberAt
}

// commandTables lists the tables of all types.
func commandTables() [][]registration {
	return [][]registration{
		connCommands(),
		multiCommands(),
		clientCommands(),
		saveCommands(),
		serverCommands(),
		configCommands(),
		memoryCommands(),
		slowlogCommands(),
		latencyCommands(),
		infoCommands(),
		pubsubCommands(),
		scriptCommands(),
		functionCommands(),
		keysCommands(),
		expireCommands(),
		scanCommands(),
		dumpCommands(),
		stringCommands(),
		bitmapCommands(),
		hashCommands(),
		listCommands(),
		setCommands(),
		zsetCommands(),
		geoCommands(),
		hyperLogLogCommands(),
		streamCommands(),
	}
}

// Implements tells whether the engine has a command. Those of Saver are there only with one.
func Implements(spec *command.Spec) bool { return bindCommands()[spec.ID].handle != nil }

// bindCommands resolves the tables to an array by Spec.ID. A name that the command table doesn't know is a
// mistake in this package.
func bindCommands() []bound {
	all := make([]bound, command.Count)
	for _, table := range commandTables() {
		for _, r := range table {
			spec := command.ByName(r.name)
			if spec == nil {
				panic("embedded: no such command: " + r.name)
			}
			shared := spec.Is(command.FlagReadonly)
			if r.lock != lockByFlag {
				shared = r.lock == lockShared
			}
			all[spec.ID] = bound{r.handle, shared, quick(spec), firstKeyAt(spec), memberAt(spec)}
		}
	}
	return all
}
