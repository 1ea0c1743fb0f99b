package conformance

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"respmesh/resp/command"
	"respmesh/store/embedded"
)

var update = flag.Bool("update", false, "write docs/commands.md anew")

const tablePath = "../../docs/commands.md"

// notHere says why a command isn't implemented, by its name or its family's.
func notHere() map[string]string {
	const cluster = "a node isn't a cluster: databases on Redis Cluster are another engine"
	return map[string]string{
		"acl":            "users are the node's: respmesh users",
		"asking":         cluster,
		"cluster":        cluster,
		"client|reply":   "answered by the node, which writes the replies",
		"debug":          "for debugging redis-server itself",
		"failover":       "the control plane decides who leads",
		"lolwut":         "art",
		"migrate":        "moves keys between servers over connections of its own: the node has none to clients' servers",
		"module":         "no modules",
		"pfdebug":        "for debugging redis-server itself",
		"pfselftest":     "for debugging redis-server itself",
		"psync":          "the node's, on the replication address",
		"replconf":       "the node's, on the replication address",
		"replicaof":      "the control plane decides who follows whom",
		"restore-asking": cluster,
		"script|debug":   "no debugger",
		"shutdown":       "the process is the node's",
		"slaveof":        "the control plane decides who follows whom",
		"sync":           "the node's, on the replication address",
	}
}

// differences are those that are known.
func differences() map[string]string {
	limits := "thresholds of encodings, `save`, `appendonly` and the like can't be set; parameters without a meaning here don't exist"
	return map[string]string{
		"bitfield":            "replicas are told of what failed by `OVERFLOW FAIL`, too, since the key has grown: redis-server's go without",
		"auth":                "the engine has the default user only; the node checks passwords before",
		"client|info":         "fields about buffers and file descriptors are missing",
		"client|list":         "fields about buffers and file descriptors are missing",
		"config|get":          limits,
		"config|set":          limits,
		"eval":                "`error` texts of a few rare mistakes; see docs/scripts.md",
		"function|load":       "functions of a library whose names differ in case only are refused: redis-server 7.0.15 takes them and crashes",
		"hello":               "`id`",
		"info":                "fields that have no meaning here are missing; memory is what the engine counts",
		"latency|doctor":      "advice about commands only; nothing about huge pages",
		"memory|malloc-stats": "there is no jemalloc: what Redis says without it",
		"memory|purge":        "does nothing: there is no jemalloc",
		"latency|latest":      "only the events `command` and `fast-command`",
		"memory|doctor":       "fewer kinds of advice",
		"memory|stats":        "fields about jemalloc and client buffers are missing",
		"memory|usage":        "what the key takes here",
		"object|refcount":     "small numbers are always shared: there, not those that COPY made",
		"object|encoding":     "sets of up to 32 short strings say hashtable, as in 7.0, and are packed",
		"wait":                "counts replicas that have all that was written so far, not only by this connection",
		"exec":                "a transaction that takes much more memory than there is gets OOM for the commands beyond",
		"evalsha":             "as EVAL",
		"latency|histogram":   "durations are told apart to 1/64",
		"lastsave":            "only with a data directory",
		"save":                "only with a data directory; other commands go on meanwhile",
		"bgsave":              "only with a data directory",
		"bgrewriteaof":        "only with a data directory",
		"client|kill":         "the engine's sessions; clients' are the node's",
	}
}

// comparedElsewhere are commands that tests of package embedded compare with the real server, and the grammar can't.
func comparedElsewhere() []string {
	return []string{"monitor", "client|tracking", "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe",
		"dump", "save", "bgsave", "bgrewriteaof", "object|refcount", "quit", "reset", "hello", "readonly", "readwrite", "xgroup|help",
		"command|docs", "command|getkeysandflags", "command|list", "command|info", "command|count", "command|getkeys", "command|help",
		"memory|stats", "memory|purge", "latency|histogram", "latency|graph", "latency|doctor", "client|id", "client|info", "client|list", "client|reply", "client|unblock", "slowlog|get",
		"pubsub|help", "pubsub|numpat", "restore", "touch", "object|help", "xinfo|help", "function|help", "script|help", "sort_ro"}
}

// inGrammar lists the commands that the grammar makes.
func inGrammar() map[string]bool {
	out := map[string]bool{}
	for _, l := range grammar {
		for _, name := range alternatives(strings.Trim(l.words[0], "()")) {
			name = strings.ToLower(name)
			out[name] = true
			if len(l.words) < 2 {
				continue
			}
			spec := command.ByName(name)
			if spec == nil || !spec.IsContainer() {
				continue
			}
			for _, sub := range alternatives(strings.Trim(l.words[1], "([])")) {
				word, _, _ := strings.Cut(strings.ToLower(sub), "_")
				out[name+"|"+strings.Trim(word, "([])")] = true
			}
		}
	}
	return out
}

// Every command of the server's COMMAND LIST is here, or there is a reason.
func TestEveryCommandIsHereOrHasAReason(t *testing.T) {
	reasons := notHere()
	for spec := range command.All() {
		if spec.IsContainer() && !embedded.Implements(spec) {
			continue // its subcommands count
		}
		reason := reasonFor(reasons, spec)
		switch {
		case embedded.Implements(spec) && reason != "":
			t.Errorf("%s is implemented, and there is a reason why not: %s", spec.Name, reason)
		case !embedded.Implements(spec) && reason == "":
			t.Errorf("%s isn't implemented, and there is no reason", spec.Name)
		}
	}
}

func reasonFor(reasons map[string]string, spec *command.Spec) string {
	if r := reasons[spec.Name]; r != "" {
		return r
	}
	family, _, _ := strings.Cut(spec.Name, "|")
	return reasons[family]
}

func TestTableOfCommandsIsUpToDate(t *testing.T) {
	want := table()
	if *update {
		if err := os.WriteFile(filepath.FromSlash(tablePath), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.FromSlash(tablePath))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/commands.md is out of date; run: go test ./test/conformance -run Table -update")
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("# Commands of the embedded engine\n\n" +
		"Written by `go test ./test/conformance -run Table -update` from the code. The yardstick is redis-server 7.0.15.\n\n" +
		"*Compared* says how a command is held against the real server: **random** by random sequences of commands with hostile\n" +
		"arguments (test/conformance; replies, keyspace events, what replicas are told, and the data at the end), **listed** by lists of commands in the engine's\n" +
		"own tests.\n\n")
	tested, elsewhere, known, reasons := inGrammar(), comparedElsewhere(), differences(), notHere()
	groups := map[string][]*command.Spec{}
	for spec := range command.All() {
		if spec.IsContainer() && !embedded.Implements(spec) {
			continue
		}
		groups[spec.Group] = append(groups[spec.Group], spec)
	}
	var names []string
	for g := range groups {
		names = append(names, g)
	}
	slices.Sort(names)
	here, missing, compared := 0, 0, 0
	var tables strings.Builder
	for _, g := range names {
		fmt.Fprintf(&tables, "## %s\n\n| Command | Here | Compared | Known differences |\n|---|---|---|---|\n", g)
		for _, spec := range groups[g] {
			name := strings.ToUpper(strings.ReplaceAll(spec.Name, "|", " "))
			if !embedded.Implements(spec) {
				missing++
				fmt.Fprintf(&tables, "| %s | no | | %s |\n", name, reasonFor(reasons, spec))
				continue
			}
			here++
			how := ""
			switch {
			case tested[spec.Name]:
				how = "random"
			case slices.Contains(elsewhere, spec.Name):
				how = "listed"
			}
			if how != "" {
				compared++
			}
			fmt.Fprintf(&tables, "| %s | yes | %s | %s |\n", name, how, known[spec.Name])
		}
		tables.WriteString("\n")
	}
	fmt.Fprintf(&b, "%d commands and subcommands are here, %d of them compared; %d aren't here.\n\n", here, compared, missing)
	b.WriteString(strings.TrimRight(tables.String(), "\n") + "\n")
	return b.String()
}
