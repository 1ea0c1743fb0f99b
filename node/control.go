package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/mesh"
	"respmesh/netconf"
	"respmesh/netconf/etcd"
)

// control is a process's way to the control plane: etcd in this process or elsewhere, and the state that is kept there.
type control struct {
	member   *etcd.Member // nil: other nodes carry it
	client   *clientv3.Client
	registry *etcd.Registry
}

// embedControl starts a control plane of one member that only this process reaches.
func embedControl(ctx context.Context, dir string, temporary bool, log *slog.Logger) (_ *control, err error) {
	c := &control{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.member, err = etcd.StartMember(ctx, etcd.MemberOptions{Dir: dir, Temporary: temporary, Log: log}); err != nil {
		return nil, err
	}
	if c.client, err = etcd.NewClient(etcd.ClientOptions{Endpoints: c.member.Endpoints()}); err != nil {
		return nil, err
	}
	if err = c.open(ctx, "", log); err != nil {
		return nil, err
	}
	return c, c.init(ctx)
}

// open reads the state and follows it. A node that has a snapshot starts without the control plane, too.
func (c *control) open(ctx context.Context, snapshot string, log *slog.Logger) (err error) {
	c.registry, err = etcd.Open(ctx, etcd.Options{Client: c.client, Snapshot: snapshot, Log: log})
	return err
}

// init makes the first state, if there is none.
func (c *control) init(ctx context.Context) error {
	if t, _ := c.registry.Current(); t.Revision > 0 {
		return nil
	}
	return c.registry.Init(ctx, "init")
}

// close ends what there is, the member last.
func (c *control) close() error {
	var errs []error
	if c.registry != nil {
		errs = append(errs, c.registry.Close())
	}
	if c.client != nil {
		if err := c.client.Close(); !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if c.member != nil {
		errs = append(errs, c.member.Close())
	}
	return errors.Join(errs...)
}

// sessionLeases are a node's leases in the control plane.
type sessionLeases struct {
	session *etcd.Session
	source  Source
}

// Claim implements leases.
func (l sessionLeases) Claim(ctx context.Context, db string, seen netconf.Primary) (claim, error) {
	term, err := l.session.Claim(ctx, db, seen)
	if err != nil {
		return claim{}, err
	}
	// What the one before has changed as the primary (see Session.Update) is in the state that has the claim.
	for {
		t, changed := l.source.Current()
		if t.Live.Primaries[db].Term >= term {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return claim{}, fmt.Errorf("claimed, but the state is behind: %w", ctx.Err())
		}
	}
	return l.claimed(db, term), nil
}

func (l sessionLeases) claimed(db string, term int64) claim {
	return claim{term: term, until: func() time.Time {
		if l.session.Claims()[db] != term || !l.session.Running() {
			return time.Time{}
		}
		return l.session.Deadline()
	}}
}

// Advance implements leases.
func (l sessionLeases) Advance(ctx context.Context, db string, held claim) (claim, error) {
	term, err := l.session.Advance(ctx, db, held.term)
	if err != nil {
		return claim{}, err
	}
	return l.claimed(db, term), nil
}

// live is what this node says of itself.
func (n *Node) live(revision uint64) netconf.NodeLive {
	return netconf.NodeLive{
		Since: n.started.UTC().Truncate(time.Second), Version: n.opts.Version, Tunnel: string(n.device.Kind()), Revision: revision, Narrow: n.narrow(),
	}
}

// report makes that known, after a revision was applied.
func (n *Node) report(revision uint64) {
	n.reporting.Lock()
	defer n.reporting.Unlock()
	n.revision = revision
	n.reportLocked()
}

func (n *Node) reportLocked() {
	if n.session != nil {
		_ = n.session.Report(n.live(n.revision)) // a session that has ended says nothing more
	}
}

// lookAtPaths is how often a node looks whether large packets pass.
const lookAtPaths = 2 * time.Second

// followPaths makes known which paths large packets don't pass, and keeps to what passes, until ctx ends.
func (n *Node) followPaths(ctx context.Context) {
	tick := time.NewTicker(lookAtPaths)
	defer tick.Stop()
	for {
		changed := n.prober.Changed()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changed:
		}
		topology, _ := n.source.Current()
		n.fitPaths(topology)
		n.reporting.Lock()
		n.reportLocked()
		n.reporting.Unlock()
	}
}

// fitPaths makes TCP to the other nodes fit the paths to them. As long as it isn't known what one carries, which is so when a node
// starts, that is little: the control plane has to get through before anything else.
func (n *Node) fitPaths(t *netconf.Topology) {
	most := make(map[netip.Addr]int)
	for _, other := range t.Nodes {
		if other.Name != n.opts.Name {
			most[other.Addr] = mesh.SafePacket
		}
	}
	if n.prober != nil {
		for _, p := range n.prober.Stats() {
			switch _, known := most[p.Addr]; {
			case !known, p.PathMTU == 0:
			case p.PathMTU >= mesh.DefaultMTU:
				delete(most, p.Addr)
			default:
				most[p.Addr] = p.PathMTU
			}
		}
	}
	n.device.SetPathMTU(most)
}

// narrow are the paths on which packets of the mesh's MTU are lost.
func (n *Node) narrow() []netconf.NarrowPath {
	if n.prober == nil {
		return nil // not started
	}
	var paths []netconf.NarrowPath
	topology, _ := n.source.Current()
	for _, p := range n.prober.Stats() {
		if other, ok := topology.NodeAt(p.Addr); ok && p.MTUTrouble && p.Reachable {
			paths = append(paths, netconf.NarrowPath{Node: other.Name, MTU: p.PathMTU})
		}
	}
	return paths
}

// enter makes the node known as live, with the leases that its elections need.
func (c *control) enter(ctx context.Context, n *Node) (*etcd.Session, error) {
	t, _ := c.registry.Current()
	session, err := c.registry.NewSession(ctx, n.opts.Name, n.live(t.Revision))
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.opts.Name, err)
	}
	return session, nil
}
