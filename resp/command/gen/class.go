package main

import "strings"

// classes holds what the flags of a command don't say. A name ending in "|" is a container: it stands for all of its
// subcommands that have no entry of their own.
var classes = map[string]string{
	// The session's own affairs, and the table's.
	"auth": "Local", "hello": "Local", "ping": "Local", "echo": "Local", "quit": "Local", "reset": "Local",
	"select": "Local", "readonly": "Local", "readwrite": "Local", "client|": "Local", "command|": "Local",

	// Flagged as reads, but they write a cache or are meant to refresh the primary's.
	"pfcount": "PrimaryOnly", "touch": "PrimaryOnly",

	// On a replica these would succeed without reaching the primary, or not find what was sent there.
	"publish": "PrimaryOnly", "spublish": "PrimaryOnly", "wait": "PrimaryOnly",
	"eval": "PrimaryOnly", "evalsha": "PrimaryOnly", "fcall": "PrimaryOnly",
	"script|": "PrimaryOnly", "function|list": "PrimaryOnly", "function|dump": "PrimaryOnly",
	"function|stats": "PrimaryOnly", "function|kill": "PrimaryOnly",

	// About the server that answers; the primary's answer is the one that is the same everywhere.
	"config|get": "PrimaryOnly", "lastsave": "PrimaryOnly", "slowlog|": "PrimaryOnly", "latency|": "PrimaryOnly",
	"memory|purge": "PrimaryOnly", "save": "PrimaryOnly", "bgsave": "PrimaryOnly", "bgrewriteaof": "PrimaryOnly",

	// About the server that answers, and any will do.
	"info": "Read", "role": "Read", "time": "Read", "lolwut": "Read", "pubsub|": "Read",
	"memory|doctor": "Read", "memory|malloc-stats": "Read", "memory|stats": "Read",
	"acl|cat": "Read", "acl|genpass": "Read", "acl|whoami": "Read",

	// A connection to the store for the session alone.
	"multi": "Pinned", "exec": "Pinned", "discard": "Pinned", "watch": "Pinned", "unwatch": "Pinned",
	"blpop": "Pinned", "brpop": "Pinned", "blmove": "Pinned", "brpoplpush": "Pinned", "blmpop": "Pinned",
	"bzpopmin": "Pinned", "bzpopmax": "Pinned", "bzmpop": "Pinned",
	"subscribe": "Pinned", "psubscribe": "Pinned", "ssubscribe": "Pinned",
	"unsubscribe": "Pinned", "punsubscribe": "Pinned", "sunsubscribe": "Pinned", "monitor": "Pinned",

	// The server under the store, replication, users, other servers.
	"acl|": "Refused", "asking": "Refused", "cluster|": "Refused",
	"config|": "Refused", "debug": "Refused", "failover": "Refused", "migrate": "Refused", "module|": "Refused",
	"pfdebug": "Refused", "pfselftest": "Refused", "psync": "Refused", "replconf": "Refused", "replicaof": "Refused",
	"restore-asking": "Refused", "script|debug": "Refused", "shutdown": "Refused",
	"slaveof": "Refused", "sync": "Refused",
}

// classOf decides the class of an entry, "" if neither the table above nor the flags do. Only the flag readonly makes
// a read: that write is absent says nothing.
func classOf(e *entry) string {
	if c, ok := classes[e.name]; ok {
		return c
	}
	container, sub, isSub := strings.Cut(e.name, "|")
	if c, ok := classes[container+"|"]; ok && (isSub || len(e.subs) > 0) {
		if sub != "help" || c == "Local" {
			return c
		}
	}
	switch {
	case e.flags["write"]:
		return "Write"
	case e.flags["readonly"], sub == "help":
		return "Read"
	case len(e.subs) > 0:
		return "PrimaryOnly" // a container without a subcommand is an error wherever it goes
	}
	return ""
}

// mayReplicate are the commands that carry CMD_MAY_REPLICATE in the server's source; COMMAND doesn't tell.
var mayReplicate = map[string]bool{
	"eval": true, "evalsha": true, "fcall": true, "pfcount": true, "publish": true, "spublish": true,
}

// keysRule names the rule of the entry's keys for what its key specs don't say, "" if they say all.
func keysRule(e *entry) string {
	switch e.name {
	case "sort", "sort_ro":
		return "keysSort"
	case "georadius", "georadiusbymember":
		return "keysGeo"
	case "migrate":
		return "keysMigrate"
	case "set":
		return "keysSet"
	case "bitfield":
		return "keysBitfield"
	case "exec", "debug":
		return "keysAny"
	}
	if len(e.keySpecs) == 0 && (e.flags["write"] || e.flags["readonly"]) && e.name != "lolwut" {
		return "keysAny"
	}
	return ""
}
