package embedded

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"respmesh/resp/frame"
)

func configCommands() []registration {
	return []registration{
		{"config|get", configGet, lockShared},
		{"config|set", configSet, lockExclusive},
		{"config|resetstat", configResetStat, lockExclusive},
		{"config|rewrite", func(x *call) { x.err("ERR The server is running without a config file") }, lockShared},
		{"config|help", configHelp, lockShared},
	}
}

// setting is a parameter of CONFIG. It has a name of Redis's and means here what it means there; parameters that have no
// meaning here don't exist. Those without set are as they are.
type setting struct {
	name string
	get  func(e *Engine) string
	set  func(e *Engine, v string) (problem string)
}

// settings are in alphabetical order.
func settings() []setting {
	return []setting{
		{"appendfsync", func(e *Engine) string {
			if p := e.persistence(); p.AppendOnly {
				return p.Fsync
			}
			return "everysec"
		}, nil},
		{"appendonly", func(e *Engine) string { return yesNo(e.persistence().AppendOnly) }, nil},
		{"busy-reply-threshold", scriptTime, setScriptTime},
		{"databases", func(e *Engine) string { return strconv.Itoa(len(e.dbs)) }, nil},
		fixed("hash-max-listpack-entries", hashPackEntries),
		fixed("hash-max-listpack-value", hashPackValue),
		fixed("hash-max-ziplist-entries", hashPackEntries),
		fixed("hash-max-ziplist-value", hashPackValue),
		fixed("hll-sparse-max-bytes", hllMaxSparse),
		limited("latency-monitor-threshold", 0, math.MaxInt64, func(e *Engine) *int64 { return &e.latency.threshold }),
		{"latency-tracking", func(e *Engine) string { return yesNo(!e.untracked.Load()) }, func(e *Engine, v string) string {
			on, problem := parseYesNo(v)
			if problem == "" {
				e.untracked.Store(!on)
			}
			return problem
		}},
		{"latency-tracking-info-percentiles", func(e *Engine) string { return formatPercentiles(e.percentiles) }, setPercentiles},
		limited("lfu-decay-time", 0, math.MaxInt32, func(e *Engine) *int64 { return &e.limit.lfuDecay }),
		limited("lfu-log-factor", 0, math.MaxInt32, func(e *Engine) *int64 { return &e.limit.lfuLog }),
		{"lua-time-limit", scriptTime, setScriptTime},
		{"maxmemory", func(e *Engine) string { return strconv.FormatInt(e.limit.max, 10) }, func(e *Engine, v string) string {
			n, ok := parseMemory(v)
			if !ok {
				return "argument must be a memory value"
			}
			e.limit.max = n
			return ""
		}},
		{"maxmemory-policy", func(e *Engine) string { return e.limit.policy.shown() }, func(e *Engine, v string) string {
			if i := slices.Index(policies(), Policy(strings.ToLower(v))); i >= 0 {
				e.setPolicy(policies()[i])
				return ""
			}
			return oneOf(policies())
		}},
		{"maxmemory-samples", func(e *Engine) string { return strconv.Itoa(e.limit.samples) }, func(e *Engine, v string) string {
			n := int64(0)
			problem := setInt(&n, v, 1, math.MaxInt32)
			if problem == "" {
				e.limit.samples = int(n)
			}
			return problem
		}},
		{"notify-keyspace-events", func(e *Engine) string { return e.events.String() }, func(e *Engine, v string) string {
			set, ok := parseEvents(v)
			if !ok {
				return "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."
			}
			e.setEvents(set)
			return ""
		}},
		fixed("proto-max-bulk-len", maxString),
		{"save", func(*Engine) string { return "" }, nil},
		fixed("set-max-intset-entries", setIntEntries),
		{"slowlog-log-slower-than", func(e *Engine) string { return strconv.FormatInt(e.slow.threshold.Load(), 10) },
			func(e *Engine, v string) string {
				n := int64(0)
				problem := setInt(&n, v, -1, math.MaxInt64)
				if problem == "" {
					e.slow.setThreshold(n)
				}
				return problem
			}},
		{"slowlog-max-len", func(e *Engine) string { return strconv.FormatInt(e.slow.limit(), 10) }, func(e *Engine, v string) string {
			n := int64(0)
			problem := setInt(&n, v, 0, math.MaxInt64)
			if problem == "" {
				e.slow.setLimit(n)
			}
			return problem
		}},
		fixed("timeout", 0),
		{"tracking-table-max-keys", func(e *Engine) string { return strconv.FormatInt(e.tracking.limit(), 10) }, func(e *Engine, v string) string {
			n := int64(0)
			problem := setInt(&n, v, 0, math.MaxInt64)
			if problem == "" {
				e.tracking.setLimit(n)
			}
			return problem
		}},
		fixed("zset-max-listpack-entries", zsetPackEntries),
		fixed("zset-max-listpack-value", zsetPackValue),
		fixed("zset-max-ziplist-entries", zsetPackEntries),
		fixed("zset-max-ziplist-value", zsetPackValue),
	}
}

// limited is a number between two others.
func limited(name string, lo, hi int64, at func(*Engine) *int64) setting {
	return setting{name, func(e *Engine) string { return strconv.FormatInt(*at(e), 10) },
		func(e *Engine, v string) string { return setInt(at(e), v, lo, hi) }}
}

func fixed(name string, n int) setting {
	return setting{name: name, get: func(*Engine) string { return strconv.Itoa(n) }}
}

func scriptTime(e *Engine) string {
	return strconv.FormatInt(e.scripts.limit().Milliseconds(), 10)
}

func setScriptTime(e *Engine, v string) string {
	var n int64
	problem := setInt(&n, v, 0, math.MaxInt64)
	if problem == "" {
		e.scripts.setLimit(time.Duration(min(n, longestWait)) * time.Millisecond)
	}
	return problem
}

func yesNo(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

func parseYesNo(v string) (on bool, problem string) {
	switch strings.ToLower(v) {
	case "yes":
		return true, ""
	case "no":
		return false, ""
	}
	return false, "argument must be 'yes' or 'no'"
}

func oneOf(names []Policy) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return "argument(s) must be one of the following: " + b.String()
}

func setInt(to *int64, v string, lo, hi int64) (problem string) {
	n, ok := frame.ParseInt([]byte(v))
	switch {
	case !ok:
		return "argument couldn't be parsed into an integer"
	case n < lo || n > hi:
		return fmt.Sprintf("argument must be between %d and %d inclusive", lo, hi)
	}
	*to = n
	return ""
}

// parseMemory reads a number of bytes with a unit: 1k is 1000, 1kb 1024.
func parseMemory(v string) (int64, bool) {
	digits := strings.TrimRight(v, "bBkKmMgG")
	unit := int64(1)
	switch strings.ToLower(v[len(digits):]) {
	case "", "b":
	case "k":
		unit = 1e3
	case "kb":
		unit = 1 << 10
	case "m":
		unit = 1e6
	case "mb":
		unit = 1 << 20
	case "g":
		unit = 1e9
	case "gb":
		unit = 1 << 30
	default:
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > uint64(math.MaxInt64/unit) {
		return 0, false
	}
	return int64(n) * unit, true
}

func configGet(x *call) {
	var found []setting
	add := func(s setting) {
		if !slices.ContainsFunc(found, func(o setting) bool { return strings.EqualFold(o.name, s.name) }) {
			found = append(found, s)
		}
	}
	for _, p := range x.args[2:] {
		literal := !bytes.ContainsAny(p, "*?[")
		for _, s := range settings() {
			switch {
			case literal && strings.EqualFold(s.name, string(p)):
				s.name = string(p) // as it was asked for
				add(s)
			case !literal && match(p, []byte(s.name), true):
				add(s)
			}
		}
	}
	x.mapHeader(len(found))
	for _, s := range found {
		x.bulkString(s.name)
		x.bulkString(s.get(x.e))
	}
}

// configSet sets all of its parameters or none.
func configSet(x *call) {
	if len(x.args)%2 != 0 {
		x.syntax()
		return
	}
	all := settings()
	var chosen []setting
	for i := 2; i < len(x.args); i += 2 {
		name := strings.ToLower(string(x.args[i]))
		at := slices.IndexFunc(all, func(s setting) bool { return s.name == name })
		switch {
		case at < 0:
			x.errf("ERR Unknown option or number of arguments for CONFIG SET - '%s'", x.args[i])
			return
		case all[at].set == nil:
			x.errf("ERR CONFIG SET failed (possibly related to argument '%s') - can't set immutable config", x.args[i])
			return
		case slices.ContainsFunc(chosen, func(s setting) bool { return s.name == name }):
			x.errf("ERR CONFIG SET failed (possibly related to argument '%s') - duplicate parameter", x.args[i])
			return
		}
		chosen = append(chosen, all[at])
	}
	old, policy := make([]string, len(chosen)), x.e.limit.policy
	for i, s := range chosen {
		old[i] = s.get(x.e)
		problem := s.set(x.e, cText(x.args[3+2*i]))
		if problem == "" {
			continue
		}
		for j := range i + 1 { // also this one: as in Redis, where that loses the n of events
			chosen[j].set(x.e, old[j])
		}
		x.e.limit.policy = policy // it may be one that Redis has no name for
		x.errf("ERR CONFIG SET failed (possibly related to argument '%s') - %s", s.name, problem)
		return
	}
	x.ok()
}

func configHelp(x *call) {
	x.help(
		"CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
		"GET <pattern>",
		"    Return parameters matching the glob-like <pattern> and their values.",
		"SET <directive> <value>",
		"    Set the configuration <directive> to <value>.",
		"RESETSTAT",
		"    Reset statistics reported by the INFO command.",
		"REWRITE",
		"    Rewrite the configuration file.",
		"HELP",
		"    Prints this help.",
	)
}
