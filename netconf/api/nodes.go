package api

import (
	"context"
	"slices"
	"strings"

	"respmesh/netconf"
)

func nodeOf(t *netconf.Topology, n netconf.Node) Node {
	out := Node{
		Name: n.Name, Region: n.Region, PublicKey: n.Key, Address: n.Addr.String(), Endpoint: n.Endpoint, Draining: n.Draining,
	}
	if live, ok := t.Live.Nodes[n.Name]; ok {
		out.Online, out.Version, out.Tunnel, out.Revision = true, live.Version, live.Tunnel, live.Revision
		for _, p := range live.Narrow {
			out.NarrowPaths = append(out.NarrowPaths, NarrowPath(p))
		}
		if !live.Since.IsZero() {
			out.Since = &live.Since
		}
	}
	return out
}

func listNodes(c *call) (any, error) {
	l := Nodes{Nodes: []Node{}}
	plane, err := c.controlPlane()
	if err != nil { // the rest of the list is of use then, too
		l.ControlError = away(err)
	}
	for _, n := range c.topo.Nodes {
		out := nodeOf(c.topo, n)
		for _, m := range plane.Members {
			if m.Node == n.Name {
				out.Control = m.Role
			}
		}
		l.Nodes = append(l.Nodes, out)
	}
	return l, nil
}

// controlPlane asks who carries the control plane.
func (c *call) controlPlane() (ControlPlane, error) {
	plane := ControlPlane{Kind: ControlInside}
	if ask := c.s.opt.ControlPlane; ask != nil {
		ctx, cancel := context.WithTimeout(c.Context(), nodeTimeout)
		defer cancel()
		var err error
		if plane, err = ask(ctx); err != nil {
			return ControlPlane{}, err
		}
	}
	plane.Members = append([]ControlMember{}, plane.Members...)
	return plane, nil
}

func getControl(c *call) (any, error) {
	plane, err := c.controlPlane()
	if err != nil {
		return nil, failf(CodeUnavailable, "the control plane doesn't say who carries it (%s); respmesh nodes list shows which nodes are online", away(err))
	}
	return plane, nil
}

func drainNode(c *call) (any, error)   { return setDraining(c, true) }
func undrainNode(c *call) (any, error) { return setDraining(c, false) }

func setDraining(c *call, draining bool) (any, error) {
	name := c.PathValue("node")
	var after netconf.Node
	_, err := c.update(func(d *netconf.Draft) error {
		i := slices.IndexFunc(d.Nodes, func(n netconf.Node) bool { return n.Name == name })
		if i < 0 {
			return noNode(name)
		}
		d.Nodes[i].Draining = draining
		after = d.Nodes[i]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nodeOf(c.topo, after), nil
}

// rotateNodeKey asks the node: only it has its private key.
func rotateNodeKey(c *call) (any, error) {
	name := c.PathValue("node")
	if _, ok := c.topo.Node(name); !ok {
		return nil, noNode(name)
	}
	if c.s.opt.Fleet == nil {
		return nil, failf(CodeUnavailable, "this node doesn't reach the others")
	}
	return nil, c.s.opt.Fleet.RotateKey(c.Context(), name)
}

func rotateOwnKey(c *call) (any, error) {
	if c.s.opt.Local == nil {
		return nil, errNoLocal
	}
	return nil, c.s.opt.Local.RotateKey(c.Context())
}

func noNode(name string) error {
	return failf(CodeNotFound, "node %q isn't there; respmesh nodes list shows what is", clip(name))
}

// deleteNode removes a node. Without force it refuses what would take data away: a node that still serves, and the
// last one of a primary region.
func deleteNode(c *call) (any, error) {
	name := c.PathValue("node")
	force := false
	switch text := c.URL.Query().Get("force"); text {
	case "true":
		force = true
	case "", "false":
	default:
		return nil, failf(CodeInvalid, "parameter force is %q, but has to be true or false", clip(text))
	}
	_, online := c.topo.Live.Nodes[name]
	_, err := c.update(func(d *netconf.Draft) error {
		i := slices.IndexFunc(d.Nodes, func(n netconf.Node) bool { return n.Name == name })
		switch {
		case i < 0:
			return noNode(name)
		case force:
		case online && !d.Nodes[i].Draining:
			return failf(CodeConflict, "node %s still serves; run respmesh nodes drain %s first", name, name)
		default:
			if lost := lastCopies(d, d.Nodes[i]); len(lost) > 0 {
				return failf(CodeConflict, "node %s is the only one of region %s, the primary region of %s; add another node there, or remove it with force and lose their primary", name, d.Nodes[i].Region, strings.Join(lost, ", "))
			}
		}
		return d.RemoveNode(name)
	})
	return nil, err
}

// lastCopies names a few of the databases whose primary region has no node but one.
func lastCopies(d *netconf.Draft, n netconf.Node) []string {
	for _, other := range d.Nodes {
		if other.Region == n.Region && other.Name != n.Name {
			return nil
		}
	}
	var lost []string
	for _, db := range d.Databases {
		if db.Primary != n.Region {
			continue
		}
		if len(lost) == 3 {
			return append(lost, "others")
		}
		lost = append(lost, db.Org+"/"+db.Name)
	}
	return lost
}
