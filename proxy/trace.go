package proxy

import (
	"bytes"
	"time"

	"respmesh/resp/command"
)

// Tracer is told of some commands, when they are over.
type Tracer interface {
	// Sample says whether the next command, or batch of commands, is to be told. It is called for each and must be cheap.
	Sample() bool
	// Trace is told; it doesn't block.
	Trace(Span)
}

// Span is what a [Tracer] learns of a command, or of commands of one session that a store executed as one batch. No key and no
// value is in it.
type Span struct {
	Start, End time.Time
	Database   string // org/name
	Command    string // the batch's first; empty: not in the table
	Commands   int    // in the batch
	Index      int    // the number that SELECT chose
	Class      string
	Route      string
	Node       string // that executed it
	Region     string // …and where that is
	Error      string // the first word of an error reply, such as MASTERDOWN
}

func (g *Gateway) sampled() bool { return g.opt.Tracer != nil && g.opt.Tracer.Sample() }

// traceBatch tells of commands that the local store executed.
func (s *session) traceBatch(reqs []command.Request, began time.Time, reply []byte) {
	if len(reqs) == 0 {
		return
	}
	x := Span{Start: began, End: time.Now(), Commands: len(reqs), Index: s.db, Class: classNames[s.g.table.of(reqs[0].Spec).class],
		Route: routeNames[routeStore], Node: s.g.opt.Node, Region: s.g.opt.Region, Error: errorWord(reply)}
	if reqs[0].Spec != nil {
		x.Command = reqs[0].Name
	}
	s.g.trace(x)
}

// traceCall tells of a command that a link has answered, or could not.
func (g *Gateway) traceCall(c *call, r *remote, now time.Time, reply []byte) {
	x := Span{Start: c.started, End: now, Commands: 1, Index: c.db, Class: classNames[c.class], Route: routeNames[c.route],
		Node: r.node, Region: r.region, Error: errorWord(reply)}
	if c.cmd < command.Count {
		x.Command = command.ByID(c.cmd).Name
	}
	g.trace(x)
}

func (g *Gateway) trace(x Span) {
	x.Database = g.opt.Org + "/" + g.opt.Database
	g.opt.Tracer.Trace(x)
}

// errorWord is the first word of an error reply, which a script might have made up: only one that looks like a code.
func errorWord(reply []byte) string {
	if len(reply) == 0 || reply[0] != '-' {
		return ""
	}
	word := reply[1:]
	if i := bytes.IndexAny(word, " \r"); i >= 0 {
		word = word[:i]
	}
	if len(word) > 24 || bytes.ContainsFunc(word, func(c rune) bool { return c < 'A' || c > 'Z' }) {
		return "ERR"
	}
	return string(word)
}
