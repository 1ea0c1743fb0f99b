package embedded

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

func slowlogCommands() []registration {
	return []registration{
		{"slowlog|get", slowlogGet, lockShared},
		{"slowlog|len", func(x *call) { x.int(int64(x.e.slow.len())) }, lockShared},
		{"slowlog|reset", func(x *call) { x.e.slow.reset(); x.ok() }, lockShared},
		{"slowlog|help", slowlogHelp, lockShared},
	}
}

// Redis's defaults and what it keeps of a command.
const (
	slowlogThreshold = 10_000 // microseconds
	slowlogLength    = 128
	slowlogArgs      = 32
	slowlogArg       = 128
	// slowlogMost bounds the log whatever its limit is said to be.
	slowlogMost = 10_000
)

// slowlog keeps the latest of the commands that took long.
type slowlog struct {
	threshold atomic.Int64 // microseconds, negative: off
	exact     atomic.Bool  // so short a threshold that each command is timed

	mu      sync.Mutex
	max     int64
	nextID  int64
	entries []slowEntry // the oldest first
}

type slowEntry struct {
	id, at, usec int64 // at: unix seconds
	args         []string
	addr, name   string
}

func (l *slowlog) init() {
	l.setThreshold(slowlogThreshold)
	l.max = slowlogLength
}

func (l *slowlog) setThreshold(usec int64) {
	l.threshold.Store(usec)
	l.exact.Store(usec >= 0 && usec < spanPatience)
}

func (l *slowlog) limit() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.max
}

func (l *slowlog) setLimit(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max = n
	l.trim()
}

func (l *slowlog) trim() {
	if over := len(l.entries) - int(min(l.max, slowlogMost)); over > 0 {
		l.entries = append(l.entries[:0], l.entries[over:]...)
	}
}

func (l *slowlog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

func (l *slowlog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}

func (l *slowlog) add(x *call, spec *command.Spec, args [][]byte, nanos int64) {
	s := slowEntry{at: x.now / 1000, usec: nanos / 1000, args: loggedArgs(spec, args)}
	switch c := x.c; {
	case c == &x.e.scripts.conn:
		s.addr = "?:0"
	case c != nil:
		s.addr, s.name = c.addr, c.name
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.id = l.nextID
	l.nextID++
	l.entries = append(l.entries, s)
	l.trim()
}

// loggedArgs copies the command's arguments as far as the log keeps them. Passwords aren't kept.
func loggedArgs(spec *command.Spec, args [][]byte) []string {
	var out []string
	for i, a := range args {
		if secret(spec, args, i) {
			a = []byte(redacted)
		}
		if i == slowlogArgs-1 && len(args) > slowlogArgs {
			return append(out, fmt.Sprintf("... (%d more arguments)", len(args)-i))
		}
		if len(a) > slowlogArg {
			out = append(out, fmt.Sprintf("%s... (%d more bytes)", a[:slowlogArg], len(a)-slowlogArg))
			continue
		}
		out = append(out, string(a))
	}
	return out
}

const redacted = "(redacted)"

// secret tells whether an argument is a name or password that isn't shown.
func secret(spec *command.Spec, args [][]byte, i int) bool {
	switch spec.Name {
	case "auth":
		return i > 0
	case "hello":
		return i > 1 && is(args[i-1], "AUTH") || i > 2 && is(args[i-2], "AUTH")
	}
	return false
}

func slowlogGet(x *call) {
	if len(x.args) > 3 {
		x.badSubcommand()
		return
	}
	count := int64(10)
	if len(x.args) == 3 {
		n, ok := frame.ParseInt(x.args[2])
		if !ok || n < -1 {
			x.err("ERR count should be greater than or equal to -1")
			return
		}
		if count = n; n == -1 {
			count = math.MaxInt64
		}
	}
	l := &x.e.slow
	l.mu.Lock()
	defer l.mu.Unlock()
	count = min(count, int64(len(l.entries)))
	x.array(int(count))
	for i := range count {
		s := &l.entries[len(l.entries)-1-int(i)]
		x.array(6)
		x.int(s.id)
		x.int(s.at)
		x.int(s.usec)
		x.array(len(s.args))
		for _, a := range s.args {
			x.bulkString(a)
		}
		x.bulkString(s.addr)
		x.bulkString(s.name)
	}
}

func slowlogHelp(x *call) {
	x.help(strings.Split(`SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
GET [<count>]
    Return top <count> entries from the slowlog (default: 10, -1 mean all).
    Entries are made of:
    id, timestamp, time in microseconds, arguments array, client IP and port,
    client name
LEN
    Return the length of the slowlog.
RESET
    Reset the slowlog.
HELP
    Prints this help.`, "\n")...)
}
