package proxy

import (
	"slices"
	"time"
)

// linkKey names the shared links of one kind: n tells them apart. Reads have links of their own, since a reply may be
// big: writes, of which many are wanted soon, don't wait behind it.
type linkKey struct {
	node  string
	proto int
	db    int
	read  bool
	n     int
}

// redialAfter keeps a node whose dial failed from being dialled by every command.
const redialAfter = 100 * time.Millisecond

// shared returns a shared link of a kind, dialled now if there is none; nil: the node can't be reached. The same n
// gives the same link as long as that lives.
func (g *Gateway) shared(k linkKey) *link {
	k.n %= g.opt.LinksPerNode
	g.linkMu.Lock()
	defer g.linkMu.Unlock()
	if l := g.links[k]; l != nil && l.alive() && !l.sour.Load() {
		return l
	}
	if l := g.dialLocked(k.node, k.proto, k.db, false, nil); l != nil {
		g.links[k] = l
		return l
	}
	return nil
}

// dialLocked starts a link unless the node is known to be out of reach.
func (g *Gateway) dialLocked(node string, proto, db int, pinned bool, setup func(*link)) *link {
	r := g.remote(node)
	if r == nil || g.ctx.Err() != nil || time.Since(g.failed[node]) < redialAfter {
		return nil
	}
	if _, ok := g.opt.Mesh.RTT(node); !ok {
		return nil
	}
	return g.newLinkLocked(r, proto, db, pinned, setup)
}

func (g *Gateway) dialFailed(node string) {
	g.linkMu.Lock()
	defer g.linkMu.Unlock()
	g.failed[node] = time.Now()
}

func (g *Gateway) countLink(l *link, n float64) {
	if l.pinned {
		g.meters.linksPinned.Add(n)
	} else {
		g.meters.linksShared.Add(n)
	}
}

func (g *Gateway) removeLink(l *link) {
	g.linkMu.Lock()
	defer g.linkMu.Unlock()
	delete(g.open, l)
	g.countLink(l, -1)
	for k, o := range g.links {
		if o == l {
			delete(g.links, k)
		}
	}
	node := l.remote.node
	if i := slices.Index(g.idle[node], l); i >= 0 {
		g.idle[node] = slices.Delete(g.idle[node], i, i+1)
	}
}

// takePinned returns a connection of the caller's own, in database db and protocol proto once what it queues first is
// executed; nil: the node can't be reached.
func (g *Gateway) takePinned(node string, proto, db int) *link {
	g.linkMu.Lock()
	defer g.linkMu.Unlock()
	idle := g.idle[node]
	for i := len(idle) - 1; i >= 0; i-- {
		l := idle[i]
		if l.alive() && l.proto == proto && l.db == db {
			g.idle[node] = slices.Delete(idle, i, i+1)
			return l
		}
	}
	for len(idle) > 0 {
		l := idle[len(idle)-1]
		idle = idle[:len(idle)-1]
		g.idle[node] = idle
		if l.alive() {
			return l // the caller changes its protocol and database
		}
	}
	return g.dialLocked(node, proto, db, true, nil)
}

// givePinned takes back a connection that is provably clean: everything answered, no transaction, no WATCH, no
// subscription.
func (g *Gateway) givePinned(l *link) {
	g.linkMu.Lock()
	defer g.linkMu.Unlock()
	node := l.remote.node
	if !l.alive() || len(g.idle[node]) >= g.opt.WarmPinned+maxIdlePinned {
		l.close(errClosing)
		return
	}
	g.idle[node] = append(g.idle[node], l)
}

const maxIdlePinned = 8

// warm keeps what the next forwarded command will want: the shared links to the primary and idle pinned ones.
func (g *Gateway) warm(v *view) {
	if v.localPrimary || !v.primaryReachable {
		return
	}
	for n := range g.opt.LinksPerNode {
		g.shared(linkKey{node: v.primary, proto: 2, n: n})
		g.shared(linkKey{node: v.primary, proto: 2, n: n, read: true})
	}
	g.linkMu.Lock()
	defer g.linkMu.Unlock()
	for len(g.idle[v.primary]) < g.opt.WarmPinned {
		l := g.dialLocked(v.primary, 2, 0, true, nil)
		if l == nil {
			return
		}
		g.idle[v.primary] = append(g.idle[v.primary], l)
	}
}

// tend closes the links to nodes that are gone, and those that have stopped answering.
func (g *Gateway) tend(now time.Time) {
	g.linkMu.Lock()
	links := make([]*link, 0, len(g.open))
	for l := range g.open {
		links = append(links, l)
	}
	g.linkMu.Unlock()
	for _, l := range links {
		_, reachable := g.opt.Mesh.RTT(l.remote.node)
		switch {
		case !reachable:
			l.close(errGone)
		case l.finished():
			l.close(errClosing)
		case l.stalled(now, g.opt.StallTimeout):
			l.close(errStalled)
			g.log.Warn("link stalled", "node", l.remote.node)
		case l.quiet(now):
			// A connection that the other side has lost must be found out by this, not by a client's write.
			l.order(true, "RESPMESH", "STATUS", g.opt.Org+"/"+g.opt.Database)
			l.kick()
		}
	}
}
