package proxy

import (
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// Explanation says where a command would go now, and why.
type Explanation struct {
	Command string
	Class   string
	Route   string
	Node    string // empty: none
	Region  string
	RTT     time.Duration
	Reason  string
	// Second is the node that a read is sent to as well when it hasn't been answered after SecondAfter; empty: none.
	Second      string
	SecondAfter time.Duration
}

// Explain routes a command of a fresh session without executing it.
func (g *Gateway) Explain(args ...string) Explanation {
	return g.explain(request(args...), sessionView{})
}

func (g *Gateway) explain(req command.Request, s sessionView) Explanation {
	e := g.table.of(req.Spec)
	t := e.traits
	if t&traitBlockOption != 0 && command.HasBlock(req.Args) {
		t |= traitBlocking
	}
	v := g.view.Load()
	d := route(e.class, t, e.self != nil, s, v)
	x := Explanation{Class: classNames[e.class], Route: routeNames[d.kind], Node: d.node, Reason: d.reason}
	if req.Spec != nil {
		x.Command = req.Name
	}
	if r := g.remote(d.node); r != nil {
		x.Region = r.region
	}
	if d.node != "" && d.node != g.opt.Node {
		x.RTT, _ = g.opt.Mesh.RTT(d.node)
	}
	if d.kind == routeReplica {
		if x.SecondAfter = g.hedgeAfter(v, d.node); x.SecondAfter > 0 {
			x.Second, _ = g.secondFor(v, d.node, func() int64 { return 0 })
		}
	}
	return x
}

// explain is RESPMESH EXPLAIN command args…, for the session that asks.
func explain(s *session, w *work, args [][]byte) {
	req := command.Request{Spec: command.Lookup(args[2:]), Command: frame.Command{Args: args[2:]}}
	x := s.g.explain(req, sessionView{mode: s.mode, pinned: s.tx.pin.live()})
	all := [][2]string{{"class", x.Class}, {"route", x.Route}, {"node", x.Node}, {"region", x.Region}, {"rtt", x.RTT.String()}, {"reason", x.Reason}}
	if x.Second != "" {
		all = append(all, [2]string{"hedge", x.Second + " after " + x.SecondAfter.String()})
	}
	w.out = frame.AppendMap(w.out, len(all), s.proto)
	for _, kv := range all {
		w.out = frame.AppendBulkString(frame.AppendBulkString(w.out, kv[0]), kv[1])
	}
}
