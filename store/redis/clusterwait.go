package redis

import (
	"slices"
	"strconv"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// waitArg is where a blocking command says how long it waits, and in what unit; 0: it doesn't.
func waitArg(r *command.Request) (at int, unit time.Duration) {
	switch n := len(r.Args); r.Spec.Name {
	case "blpop", "brpop", "brpoplpush", "blmove", "bzpopmin", "bzpopmax":
		return n - 1, time.Second
	case "blmpop", "bzmpop":
		return 1, time.Second
	case "xread", "xreadgroup":
		if at := command.BlockAt(r.Args); at > 0 && at < n-1 {
			return at + 1, time.Millisecond
		}
	}
	return 0, 0
}

// waited is the command for another node after it has spent some time at one: for what is left of its time, or a
// millisecond, by which it is told that its time is over. Who waits for ever (0) goes on doing so.
func waited(r *command.Request, spent time.Duration) *command.Request {
	if r.Spec == nil || len(r.Args) < 2 {
		return r
	}
	at, unit := waitArg(r)
	if at <= 0 {
		return r
	}
	limit, err := strconv.ParseFloat(string(r.Args[at]), 64)
	if err != nil || limit <= 0 {
		return r
	}
	left := max(time.Duration(limit*float64(unit))-spent, time.Millisecond)
	next := *r
	next.Args = slices.Clone(r.Args)
	if unit == time.Second {
		next.Args[at] = strconv.AppendFloat(nil, left.Seconds(), 'f', 3, 64)
	} else {
		next.Args[at] = strconv.AppendInt(nil, left.Milliseconds(), 10)
	}
	next.Raw = frame.AppendCommand(nil, next.Args...)
	return &next
}
