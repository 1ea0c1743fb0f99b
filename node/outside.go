package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"respmesh/netconf"
	"respmesh/proxy"
	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/redis"
)

// outside is a database's primary on a real server, or a cluster, as this node's gateway and the other nodes' links see it.
//
// The data aren't the node's: any node of the region may be the one that leads, and when two believe so for a moment nothing
// is lost, since both write to the same server. What has to be held up is writes while the data move to another engine, and
// commands of sessions that haven't noticed yet that they did.
type outside struct {
	server *redis.Engine  // nil: a cluster
	many   *redis.Cluster // nil: one server
	child  *redis.Server  // the process, where this node runs it
	temp   string         // its directory, if that goes with it
	conf   netconf.Engine // what the record said when it was opened

	times  atomic.Int64 // that it became the primary
	fenced atomic.Bool  // the node doesn't lead, or the data are moving
	gone   atomic.Bool  // the data have moved

	sessions sessions

	feeding     context.Context // of replicas in other nodes; ends when the data have moved
	cutReplicas context.CancelFunc
}

// NewConn implements proxy.Store.
func (o *outside) NewConn(push func([]byte)) proxy.StoreConn {
	if o.many != nil {
		return clusterConn{o.many.NewConn(push)}
	}
	return &outsideConn{o: o, conn: o.server.NewConn(push)}
}

// Position implements proxy.Store.
func (o *outside) Position() (string, int64) {
	if o.many != nil {
		return o.many.Position()
	}
	return o.server.Position()
}

// Wait implements proxy.Store.
func (o *outside) Wait(ctx context.Context, replid string, offset int64) error {
	if o.many != nil {
		return o.many.Wait(ctx, replid, offset)
	}
	return o.server.Wait(ctx, replid, offset)
}

// State implements proxy.Store. A server that can't be reached leaves the node the primary: its clients are told by the
// engine's errors, and there is nobody else to ask. One that has become a replica isn't written to.
func (o *outside) State() proxy.StoreState {
	if o.gone.Load() {
		return proxy.StoreState{Reason: "the data have moved to another engine"}
	}
	st := o.state()
	leads := !o.fenced.Load()
	return proxy.StoreState{
		Primary: leads, Usable: leads || st.Usable, Term: o.times.Load(), LastHeard: st.LastHeard, Reason: st.Reason,
	}
}

// Waits implements proxy.Waiter.
func (o *outside) Waits() {}

// state is the engine's own.
func (o *outside) state() redis.State {
	if o.many != nil {
		return o.many.State()
	}
	return o.server.State()
}

// usageTimeout bounds the question how much data there is.
const usageTimeout = 300 * time.Millisecond

// usage asks the engine how much it has.
func (o *outside) usage(ctx context.Context) (redis.Usage, error) {
	if o.many != nil {
		return o.many.Usage(ctx)
	}
	return o.server.Usage(ctx)
}

// replicate serves a replica by what the server says.
func (o *outside) replicate(ctx context.Context, conn net.Conn, r *frame.Reader) error {
	if o.many != nil {
		return fmt.Errorf("a cluster isn't followed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(o.feeding, cancel)()
	return o.server.Replicate(ctx, conn, r)
}

// outsideConn is a session on the server.
type outsideConn struct {
	o    *outside
	conn *redis.Conn
	tx   bool // between MULTI and its end
}

// clusterConn is a session on a cluster.
type clusterConn struct{ *redis.ClusterConn }

// Do implements proxy.StoreConn.
func (c clusterConn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	defer proxy.Away(ctx)() // it waits for others
	return c.ClusterConn.Do(ctx, dst, reqs)
}

// Do implements proxy.StoreConn. While the node is fenced, writes are answered as a replica would, so that the gateway keeps
// them; those that the server refuses since it is being left weren't executed either.
func (c *outsideConn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	defer proxy.Away(ctx)() // it waits for the server
	from := len(dst)
	if c.o.gone.Load() {
		return appendGone(dst, len(reqs))
	}
	if !c.o.fenced.Load() {
		dst = c.conn.Do(ctx, dst, reqs)
		c.note(reqs)
		if c.o.fenced.Load() {
			dst = c.refusedByServer(dst, from)
		}
		return dst
	}
	for i := range reqs {
		if !c.tx && changes(reqs[i].Spec) {
			dst = frame.AppendError(dst, errFenced.Error())
			continue
		}
		at := len(dst)
		dst = c.refusedByServer(c.conn.Do(ctx, dst, reqs[i:i+1]), at)
		c.note(reqs[i : i+1])
	}
	return dst
}

// note follows transactions.
func (c *outsideConn) note(reqs []command.Request) {
	for i := range reqs {
		if s := reqs[i].Spec; s != nil {
			switch s.Name {
			case "multi":
				c.tx = true
			case "exec", "discard", "reset":
				c.tx = false
			}
		}
	}
}

// refusedByServer puts our answer in place of the one by which a server that is being left refuses writes.
func (c *outsideConn) refusedByServer(dst []byte, from int) []byte {
	if !bytes.Contains(dst[from:], []byte("-NOREPLICAS")) {
		return dst
	}
	replies := frame.NewReader(bytes.NewReader(bytes.Clone(dst[from:])))
	dst = dst[:from]
	var r frame.Reply
	for replies.ReadReply(&r) == nil {
		if bytes.HasPrefix(r.Raw, []byte("-NOREPLICAS")) {
			dst = frame.AppendError(dst, errFenced.Error())
		} else {
			dst = append(dst, r.Raw...)
		}
	}
	return dst
}

// OnLost implements proxy.Losable.
func (c *outsideConn) OnLost(f func()) {
	c.conn.OnLost(f)
	c.o.sessions.add(c, f)
}

// Close implements proxy.StoreConn.
func (c *outsideConn) Close() error {
	c.o.sessions.remove(c)
	return c.conn.Close()
}

// lead takes writes. Each time is another one, also in the same term of the election: links that were told READONLY
// meanwhile must not go on.
func (o *outside) lead() {
	if o.fenced.Load() {
		o.times.Add(1)
	}
	o.fenced.Store(false)
}

// leave is called when the data have moved: sessions that still use the engine are told, and go where the data are.
func (o *outside) leave() {
	o.fence()
	o.gone.Store(true)
	o.cutReplicas()
}

// fence refuses writes from now on.
func (o *outside) fence() { o.fenced.Store(true) }

// close ends the connections, then the server, if it is the node's.
func (o *outside) close() error {
	o.sessions.end()
	if o.cutReplicas != nil {
		o.cutReplicas()
	}
	if o.many != nil {
		return o.many.Close()
	}
	var errs []error
	if o.server != nil {
		errs = append(errs, o.server.Close())
	}
	if o.child != nil {
		errs = append(errs, o.child.Close())
	}
	if o.temp != "" {
		errs = append(errs, os.RemoveAll(o.temp))
	}
	return errors.Join(errs...)
}
