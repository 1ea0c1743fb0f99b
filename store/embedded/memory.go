package embedded

import (
	"runtime/metrics"
	"strconv"
	"strings"
)

func memoryCommands() []registration {
	return []registration{
		{"memory|usage", memoryUsage, lockByFlag},
		{"memory|stats", memoryStats, lockShared},
		{"memory|doctor", memoryDoctor, lockShared},
		{"memory|malloc-stats", func(x *call) { x.bulkString("Stats not supported for the current allocator") }, lockShared},
		{"memory|purge", func(x *call) { x.ok() }, lockShared}, // as Redis does where the allocator has nothing to be told
		{"memory|help", memoryHelp, lockShared},
	}
}

func memoryUsage(x *call) {
	for i := 3; i < len(x.args); i += 2 {
		if !is(x.args[i], "SAMPLES") || i+1 == len(x.args) {
			x.syntax()
			return
		}
		n, ok := x.argInt(x.args[i+1])
		if !ok {
			return
		}
		if n < 0 {
			x.syntax()
			return
		}
	}
	o := x.peek(x.args[2])
	if o == nil {
		x.null()
		return
	}
	x.int(o.mem)
}

// processMemory is what the Go runtime says of the whole process: bytes of live objects, and bytes it has from the system.
func processMemory() (live, total int64) {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64()), int64(s[1].Value.Uint64() - s[2].Value.Uint64())
}

// peakMemory is the most that memoryLocked was when somebody looked.
func (e *Engine) peakMemory() int64 { return max(e.stats.peak.Load(), e.memoryLocked()) }

// tables is what the tables of keys take.
func (ks *keyspace) tables() int64 { return ks.size() - ks.memory }

// memoryStats replies those of Redis's figures that mean something here.
func memoryStats(x *call) {
	e := x.e
	used, peak := e.memoryLocked(), e.peakMemory()
	keys, tables, dbs := 0, int64(0), 0
	for _, ks := range e.dbs {
		keys += ks.len()
		tables += ks.tables()
		if ks.len() > 0 {
			dbs++
		}
	}
	scripts := int64(e.scripts.bytes)
	live, total := processMemory()
	dataset := used - tables - scripts
	share := func(a, b int64) float64 {
		if b == 0 {
			return 0
		}
		return float64(a) * 100 / float64(b)
	}
	perKey := int64(0)
	if keys > 0 {
		perKey = used / int64(keys)
	}
	x.mapHeader(14 + dbs)
	pair := func(name string, n int64) {
		x.bulkString(name)
		x.int(n)
	}
	pair("peak.allocated", peak)
	pair("total.allocated", used)
	pair("startup.allocated", 0)
	pair("lua.caches", scripts)
	for i, ks := range e.dbs {
		if ks.len() > 0 {
			x.bulkString("db." + strconv.Itoa(i))
			x.mapHeader(2)
			pair("overhead.hashtable.main", int64(len(ks.keys.table[0])+len(ks.keys.table[1]))*8)
			pair("overhead.hashtable.expires", ks.volatile.size())
		}
	}
	pair("overhead.total", tables+scripts)
	pair("keys.count", int64(keys))
	pair("keys.bytes-per-key", perKey)
	pair("dataset.bytes", dataset)
	x.bulkString("dataset.percentage")
	x.double(share(dataset, used))
	x.bulkString("peak.percentage")
	x.double(share(used, peak))
	pair("allocator.allocated", live)
	pair("allocator.resident", total)
	x.bulkString("fragmentation")
	x.double(share(total, max(used, 1)) / 100)
	pair("fragmentation.bytes", total-used)
}

func memoryDoctor(x *call) {
	used, peak := x.e.memoryLocked(), x.e.peakMemory()
	const five = 5 << 20
	switch {
	case used < five:
		x.verbatim("txt", "Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these "+
			"conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be back to our "+
			"programming as soon as I finished rebooting.\n")
	case peak > used*3/2:
		x.verbatim("txt", "Sam, I detected a few issues in this Redis instance memory implants:\n\n"+
			" * Peak memory: In the past this instance used more than 150% the memory that is currently using. The Go runtime "+
			"gives memory back to the system step by step, so the process may stay larger than its data for some minutes.\n\n"+
			"I'm here to keep you safe, Sam. I want to help you.\n")
	default:
		x.verbatim("txt", "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n")
	}
}

func memoryHelp(x *call) {
	x.help(strings.Split(`MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
DOCTOR
    Return memory problems reports.
MALLOC-STATS
    Return internal statistics report from the memory allocator.
PURGE
    Attempt to purge dirty pages for reclamation by the allocator.
STATS
    Return information about the memory usage of the server.
USAGE <key> [SAMPLES <count>]
    Return memory in bytes used by <key> and its value. Nested values are
    sampled up to <count> times (default: 5, 0 means sample all).
HELP
    Prints this help.`, "\n")...)
}
