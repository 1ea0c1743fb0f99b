package api

import (
	"io"
	"net/http"
	"strconv"

	"respmesh/netconf"
)

// Questions about the running mesh, which the Fleet answers.

var errNoFleet = &Error{Code: CodeUnavailable, Message: "this node can't ask the others; ask another node"}

const (
	auditPage    = 100
	maxAuditPage = 1000
	maxArgs      = 1024
)

func databaseStatus(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	if c.s.opt.Fleet == nil {
		return nil, errNoFleet
	}
	nodes, err := c.s.opt.Fleet.DatabaseStatus(c.Context(), d.Org, d.Name)
	if err != nil {
		return nil, err
	}
	out := DatabaseStatus{Database: databaseOf(d), Nodes: append([]NodeDatabaseStatus{}, nodes...)}
	if p, ok := c.topo.Live.Primaries[d.ID]; ok {
		out.Primary = &PrimaryStatus{Node: p.Node, Term: p.Term, Held: p.Held}
	}
	return out, nil
}

func explain(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	in, err := c.explainRequest()
	if err != nil {
		return nil, err
	}
	if c.s.opt.Fleet == nil {
		return nil, errNoFleet
	}
	if in.Region != "" {
		if _, err := netconf.CheckRegion(in.Region); err != nil {
			return nil, err
		}
		if len(c.topo.NodesIn(in.Region)) == 0 {
			return nil, failf(CodeConflict, "region %s has no node; respmesh nodes list shows where there is one", in.Region)
		}
	}
	return answer(c.s.opt.Fleet.Explain(c.Context(), d.Org, d.Name, in))
}

func (c *call) explainRequest() (in ExplainRequest, err error) {
	if err := c.decode(&in); err != nil {
		return in, err
	}
	if len(in.Args) == 0 || in.Args[0] == "" || len(in.Args) > maxArgs {
		return in, failf(CodeInvalid, "args has to hold a command and its arguments, %d at most", maxArgs)
	}
	return in, nil
}

func latency(c *call) (any, error) {
	if c.s.opt.Fleet == nil {
		return nil, errNoFleet
	}
	l, err := c.s.opt.Fleet.Latency(c.Context())
	l.Regions, l.Rows = append([]string{}, l.Regions...), append([]LatencyRow{}, l.Rows...) // [] rather than null
	return answer(l, err)
}

// answer makes an answer of any type one that a route gives.
func answer[T any](out T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return out, nil
}

func audit(c *call) (any, error) {
	limit, err := c.number("limit", auditPage, maxAuditPage)
	if err != nil {
		return nil, err
	}
	before, err := c.number("before", 0, 1<<63)
	if err != nil {
		return nil, err
	}
	records, err := c.s.opt.Control.Audit(c.Context(), int(limit), before)
	if err != nil {
		return nil, err
	}
	out := Audit{Records: append([]netconf.AuditRecord{}, records...)}
	for i := range out.Records {
		out.Records[i].What = append([]string{}, out.Records[i].What...)
	}
	if len(records) == int(limit) {
		out.Before = records[limit-1].Revision
	}
	return out, nil
}

// number reads a whole positive number from the query.
func (c *call) number(name string, otherwise, most uint64) (uint64, error) {
	text := c.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 || n > most {
		return 0, failf(CodeInvalid, "parameter %s is %q, but has to be a whole number from 1 to %d", name, clip(text), most)
	}
	return n, nil
}

// backup streams. Once bytes are out a failure can only break the answer off, which chunked encoding shows.
func backup(c *call) (any, error) {
	if c.s.opt.Fleet == nil {
		return nil, errNoFleet
	}
	out := &started{w: c.w}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	err := c.s.opt.Fleet.Backup(c.Context(), out)
	switch {
	case err == nil && !out.yes:
		c.w.WriteHeader(http.StatusOK)
	case err != nil && out.yes:
		c.s.log.Error("backup broke off", "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil, err
}

// started notes whether anything was written.
type started struct {
	w   io.Writer
	yes bool
}

func (s *started) Write(b []byte) (int, error) {
	s.yes = s.yes || len(b) > 0
	return s.w.Write(b)
}
