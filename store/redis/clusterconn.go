package redis

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// ClusterConn is a session on a cluster: one on each node that it has to do with. One goroutine at a time may use it.
type ClusterConn struct {
	cl    *Cluster
	push  func([]byte)
	lost  func()
	proto int32
	nodes map[memberKey]*Conn
	keys  []command.Key
	tx    clusterTx
	wrote string // the node that was written to last
	ended bool
}

// NewConn opens a session. push receives asynchronous frames; it doesn't block.
func (cl *Cluster) NewConn(push func([]byte)) *ClusterConn {
	return &ClusterConn{cl: cl, push: push, proto: 2, nodes: make(map[memberKey]*Conn)}
}

// OnLost is Conn's.
func (c *ClusterConn) OnLost(f func()) {
	c.lost = f
	for _, n := range c.nodes {
		n.OnLost(f)
	}
}

// Close gives everything back. No Do may be under way.
func (c *ClusterConn) Close() error {
	if !c.ended {
		c.ended = true
		c.clear()
	}
	return nil
}

func (c *ClusterConn) clear() {
	for k, n := range c.nodes {
		_ = n.Close()
		delete(c.nodes, k)
	}
	c.tx, c.proto, c.wrote = clusterTx{}, 2, ""
}

// node is the session on a node. Nil: the cluster is closed.
func (c *ClusterConn) node(addr string, readonly bool) *Conn {
	e := c.cl.member(addr, readonly)
	if e == nil {
		return nil
	}
	k := memberKey{addr, readonly}
	n := c.nodes[k]
	if n == nil || n.e != e {
		if n != nil {
			_ = n.Close()
		}
		n = e.NewConn(c.push)
		if c.lost != nil {
			n.OnLost(c.lost)
		}
		c.nodes[k] = n
	}
	if n.tx.none() {
		n.proto.Store(c.proto)
	}
	return n
}

// Do is Conn's.
func (c *ClusterConn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	for len(reqs) > 0 && ctx.Err() == nil {
		n := c.common(reqs)
		if n > 0 {
			dst = c.pipeline(ctx, dst, reqs[:n])
		} else {
			n = 1
			dst = c.special(ctx, dst, &reqs[0])
		}
		reqs = reqs[n:]
	}
	return dst
}

// common counts the commands at the beginning that go to one node each, and leave nothing behind.
func (c *ClusterConn) common(reqs []command.Request) int {
	if c.tx.open {
		return 0
	}
	for i := range reqs {
		if k := c.cl.table.traitFor(&reqs[i]); k > read || splits(reqs[i].Spec) != nil && !c.oneSlot(&reqs[i]) || fanOf(reqs[i].Spec) != nil {
			return i
		}
		if len(reqs[i].Raw) >= c.cl.opt.LargeCommand {
			return i
		}
	}
	return len(reqs)
}

// slotFor is the slot of a command's keys. keyed false: it names none; same false: they are of several slots.
func (c *ClusterConn) slotFor(r *command.Request) (slot uint16, keyed, same bool) {
	if r.Spec == nil || !r.ArityOK(len(r.Args)) {
		return 0, false, true
	}
	c.keys, _ = r.AppendKeys(c.keys[:0], r.Args)
	if len(c.keys) == 0 && (r.Name == "spublish" || r.Name == "ssubscribe" || r.Name == "sunsubscribe") && len(r.Args) > 1 {
		return slotOf(r.Args[1]), true, true
	}
	for i, k := range c.keys {
		s := slotOf(r.Args[k.Index])
		if i > 0 && s != slot {
			return slot, true, false
		}
		slot = s
	}
	return slot, len(c.keys) > 0, true
}

func (c *ClusterConn) oneSlot(r *command.Request) bool {
	_, _, same := c.slotFor(r)
	return same
}

// place is where a command goes.
type place struct {
	node   *Conn
	addr   string
	slot   uint16
	keyed  bool
	writes bool
	err    string
}

const clusterDown = "CLUSTERDOWN Hash slot not served"

func (c *ClusterConn) place(r *command.Request, k trait) (p place) {
	var same, readonly bool
	p.slot, p.keyed, same = c.slotFor(r)
	p.writes = k != read && k != quiet
	switch {
	case !same:
		p.err = crossSlot
		return p
	case !p.keyed:
		p.addr = c.cl.home()
	default:
		s := c.cl.slots.Load().slots[p.slot]
		if s == nil {
			p.err = clusterDown
			c.cl.refreshSoon()
			return p
		}
		if p.addr = s.primary; k == read {
			p.addr, readonly = c.cl.reader(p.slot, s)
		}
	}
	if p.node = c.node(p.addr, readonly); p.node == nil {
		p.err = "MASTERDOWN the cluster's connections are closed; the command was not executed"
	}
	return p
}

// group is what goes to one node of a pipeline.
type group struct {
	node *Conn
	reqs []command.Request
	out  []byte
	left bool
	at   *frame.Reader
}

// pipeline executes commands on the nodes that they belong to, on all of these at the same time.
func (c *ClusterConn) pipeline(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	places := make([]place, len(reqs))
	var groups []*group
	of := make([]*group, len(reqs))
	writes := c.cl.table.changes(reqs)
	for i := range reqs {
		k := c.cl.table.traitFor(&reqs[i])
		if writes && k == read {
			k = plain // it mustn't overtake a write of its own batch
		}
		places[i] = c.place(&reqs[i], k)
		if places[i].err != "" {
			continue
		}
		g := (*group)(nil)
		for _, o := range groups {
			if o.node == places[i].node {
				g = o
				break
			}
		}
		if g == nil {
			g = &group{node: places[i].node}
			groups = append(groups, g)
		}
		g.reqs = append(g.reqs, reqs[i])
		of[i] = g
		if places[i].writes {
			c.wrote = places[i].addr
		}
	}
	var wg sync.WaitGroup
	for i, g := range groups {
		if i == len(groups)-1 {
			g.out, g.left = g.node.share(ctx, nil, g.reqs, false)
			break
		}
		wg.Go(func() { g.out, g.left = g.node.share(ctx, nil, g.reqs, false) })
	}
	wg.Wait()
	for _, g := range groups {
		if g.left {
			return dst
		}
		g.at = frame.NewReader(bytes.NewReader(g.out))
	}
	for i := range reqs {
		if of[i] == nil {
			dst = frame.AppendError(dst, places[i].err)
			continue
		}
		var f frame.Reply
		if err := of[i].at.ReadReply(&f); err != nil {
			dst = frame.AppendError(dst, "ERR reply of the cluster can't be understood")
			continue
		}
		dst = c.settle(ctx, dst, &reqs[i], places[i], f.Raw)
	}
	return dst
}

// beside completes a redirection to a node without a name of its own: it is where the one is that says so.
func beside(at, addr string) string {
	if strings.HasPrefix(addr, ":") {
		return at[:strings.LastIndexByte(at, ':')] + addr
	}
	return addr
}

// asking executes one command, on a connection of its own, as one that was sent here by ASK.
func (c *Conn) asking(ctx context.Context, r *command.Request) []byte {
	out, left := c.once(ctx, nil, append(requests([]string{"ASKING"}), *r))
	if left {
		return nil
	}
	return out[bytes.IndexByte(out, '\n')+1:]
}

// maxRedirects bounds how often a command is sent on.
const maxRedirects = 16

// settle follows redirections, which say that a command wasn't executed, to the reply.
func (c *ClusterConn) settle(ctx context.Context, dst []byte, r *command.Request, p place, raw []byte) []byte {
	elsewhere := false
	for try := range maxRedirects {
		kind, slot, addr, ok := redirection(raw)
		var n *Conn
		switch {
		case ok:
			addr = beside(p.addr, addr)
			if kind == "MOVED" {
				c.cl.moved(slot, addr)
			}
			n = c.node(addr, false)
		case bytes.HasPrefix(raw, []byte("-TRYAGAIN")):
			select {
			case <-time.After(time.Duration(try+1) * 2 * time.Millisecond):
			case <-ctx.Done():
				return dst
			}
			n = p.node
		case !p.writes && p.keyed && !elsewhere && (bytes.HasPrefix(raw, []byte("-MASTERDOWN")) || bytes.HasPrefix(raw, []byte("-LOADING"))):
			elsewhere = true
			c.cl.refreshSoon()
			n = c.other(p)
		case bytes.HasPrefix(raw, []byte("-CLUSTERDOWN")), bytes.HasPrefix(raw, []byte("-MASTERDOWN")):
			c.cl.refreshSoon()
		}
		if n == nil {
			break
		}
		reqs := []command.Request{*r}
		if kind == "ASK" {
			reqs = append(requests([]string{"ASKING"}), *r)
		}
		out, left := n.share(ctx, nil, reqs, false)
		if left {
			return dst
		}
		if kind == "ASK" {
			if i := bytes.IndexByte(out, '\n'); i >= 0 {
				out = out[i+1:]
			}
		}
		raw, p.node = out, n
		if p.writes {
			c.wrote = n.e.Addr()
		}
	}
	if p.writes && p.keyed {
		c.cl.wrote(p.slot, p.node.e)
	}
	return append(dst, raw...)
}

// other is another node that has the slot.
func (c *ClusterConn) other(p place) *Conn {
	s := c.cl.slots.Load().slots[p.slot]
	if s == nil {
		return nil
	}
	if s.primary != p.addr {
		return c.node(s.primary, false)
	}
	if i := slices.IndexFunc(s.replicas, func(a string) bool { e := c.cl.member(a, true); return e != nil && e.State().Usable }); i >= 0 {
		return c.node(s.replicas[i], true)
	}
	return nil
}

// special executes one command of those that need more.
func (c *ClusterConn) special(ctx context.Context, dst []byte, r *command.Request) []byte {
	k := c.cl.table.traitFor(r)
	if out, done := c.transaction(ctx, dst, r, k); done {
		return out
	}
	switch {
	case k == quit:
		return frame.AppendSimple(dst, "OK")
	case k == reset:
		c.clear()
		return frame.AppendSimple(dst, "RESET")
	case k == hello && len(r.Args) == 2 && (string(r.Args[1]) == "2" || string(r.Args[1]) == "3"):
		c.proto = int32(r.Args[1][0] - '0')
	case k == selects && (len(r.Args) != 2 || string(r.Args[1]) != "0"):
		return frame.AppendError(dst, "ERR SELECT is not allowed in cluster mode")
	case k == selects:
		return frame.AppendSimple(dst, "OK")
	}
	if f := fanOf(r.Spec); f != nil && r.ArityOK(len(r.Args)) {
		return f(ctx, c, dst, r)
	}
	if s := splits(r.Spec); s != nil && !c.oneSlot(r) {
		return s(ctx, c, dst, r)
	}
	p := c.place(r, plain)
	if p.err != "" {
		return frame.AppendError(dst, p.err)
	}
	if k == waits && c.wrote != "" {
		if n := c.node(c.wrote, false); n != nil {
			p.node = n
		}
	}
	began := time.Now()
	out := p.node.Do(ctx, nil, []command.Request{*r})
	if ctx.Err() != nil {
		return dst
	}
	asked := false
	for try := range maxRedirects { // what blocks, or is large
		kind, slot, addr, ok := redirection(out)
		again := bytes.HasPrefix(out, []byte("-TRYAGAIN"))
		if !ok && !again {
			break
		}
		n := p.node
		if ok {
			n = c.node(beside(p.addr, addr), false)
			asked = kind == "ASK"
		}
		if n == nil {
			break
		}
		p.node = n
		switch {
		case kind == "MOVED":
			c.cl.moved(slot, beside(p.addr, addr))
		case again:
			select {
			case <-time.After(time.Duration(try+1) * 2 * time.Millisecond):
			case <-ctx.Done():
				return dst
			}
		}
		next := waited(r, time.Since(began))
		if asked {
			out = n.asking(ctx, next)
		} else {
			out = n.Do(ctx, nil, []command.Request{*next})
		}
		if ctx.Err() != nil {
			return dst
		}
	}
	if p.keyed {
		c.cl.wrote(p.slot, p.node.e)
	}
	return append(dst, out...)
}
