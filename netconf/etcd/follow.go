package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	loadTimeout   = 10 * time.Second
	probeEvery    = 2 * time.Second
	probeTimeout  = 2 * time.Second
	firstRetry    = 50 * time.Millisecond
	longestRetry  = 1 * time.Second
	complainEvery = time.Minute
)

var errBehind = errors.New("the watch is behind")

// stateOps read the state, without what is live.
func stateOps() []clientv3.Op {
	ops := []clientv3.Op{
		// Any later version of the layout sorts behind this one's keys.
		clientv3.OpGet(clientv3.GetPrefixRangeEnd(prefix), clientv3.WithRange(clientv3.GetPrefixRangeEnd(root)), clientv3.WithLimit(1), clientv3.WithKeysOnly()),
		clientv3.OpGet(metaKey),
	}
	for _, p := range []string{orgs, nodes, databases, peers, users, tokens, destroyed} {
		ops = append(ops, clientv3.OpGet(p, clientv3.WithPrefix()))
	}
	return ops
}

// readModel makes a model of the answers to stateOps, and of those that follow them.
func readModel(responses []*pb.ResponseOp, revision int64) (*model, error) {
	m := newModel()
	m.revision = revision
	for _, resp := range responses {
		for _, kv := range resp.GetResponseRange().GetKvs() {
			key := string(kv.GetKey())
			if strings.HasPrefix(key, root) && !strings.HasPrefix(key, prefix) {
				version, _, _ := strings.Cut(key[len(root):], "/")
				return nil, fmt.Errorf("%w (layout %s, this one knows 1)", ErrNewer, version)
			}
			if err := m.put(key, kv.GetValue(), kv.GetModRevision()); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// reload reads everything at one revision of etcd, which it returns: a watch goes on behind it.
func (r *Registry) reload(ctx context.Context) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	ops := append(stateOps(), clientv3.OpGet(live, clientv3.WithPrefix()))
	for {
		r.mu.Lock()
		commits := r.commits
		r.mu.Unlock()
		resp, err := r.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return 0, unavailable("read the state", err)
		}
		m, err := readModel(resp.Responses, resp.Header.GetRevision())
		if err != nil {
			return 0, err
		}
		revision = m.revision // once it is taken, an Update may move it: a watch behind that would miss what came before
		switch took, err := r.takeAll(m, commits); {
		case err != nil:
			return 0, err
		case took:
			return revision, nil
		}
	}
}

// takeAll takes in a whole model, unless an Update was made while it was read: it may be older than that.
func (r *Registry) takeAll(m *model, commits int) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.commits != commits {
		return false, nil
	}
	return true, r.replaceLocked(m)
}

// replaceLocked takes in a whole model.
func (r *Registry) replaceLocked(m *model) error {
	have := r.current.Load().topology
	if have.Revision > 0 {
		if m.metaRev == 0 {
			return fmt.Errorf("%w: revision %d of the last good state is kept", ErrEmpty, have.Revision)
		}
		if m.meta.Infra != have.Infra {
			return fmt.Errorf("%w: its infrastructure has prefix %s, this node's %s", ErrOtherMesh, m.meta.Infra, have.Infra)
		}
	}
	t, err := m.topology()
	if err != nil {
		return err
	}
	r.model = m
	if t.Revision != have.Revision || !reflect.DeepEqual(t.State, have.State) || !reflect.DeepEqual(t.Live, have.Live) {
		r.publishLocked(t)
	}
	return nil
}

// follow watches from a revision that was read, or reads first if it is 0, until ctx ends.
func (r *Registry) follow(ctx context.Context, revision int64) {
	defer r.connected.Store(false)
	retry := firstRetry
	var complained time.Time
	for ctx.Err() == nil {
		var err error
		if revision == 0 {
			revision, err = r.reload(ctx)
		}
		if err == nil {
			r.connected.Store(true)
			retry = firstRetry
			if !complained.IsZero() {
				r.log.Info("control answers again")
				complained = time.Time{}
			}
			err = r.watch(ctx, revision+1)
		}
		revision = 0
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errBehind) {
			r.connected.Store(false)
		}
		if time.Since(complained) > complainEvery {
			complained = time.Now()
			r.log.Warn("control state can't be followed; going on with the last good one", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry + rand.N(retry)):
		}
		retry = min(2*retry, longestRetry)
	}
}

// watch applies what happens from a revision on. It returns when it can't be sure any more to see everything.
func (r *Registry) watch(ctx context.Context, from int64) error {
	// A member that has lost the others ends the watch instead of keeping silent.
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	probing := make(chan struct{})
	go func() {
		defer close(probing)
		cancel(r.probe(ctx))
	}()
	defer func() { <-probing }()
	defer cancel(nil)
	// etcd's client closes the channel when ctx ends, but not while it sends over a connection that is gone.
	watching := r.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case resp, ok := <-watching:
			if !ok {
				return cmp.Or(context.Cause(ctx), unavailable("watch", errors.New("it ended")))
			}
			if err := resp.Err(); err != nil {
				return unavailable("watch", err)
			}
			if err := r.apply(resp.Events); err != nil {
				return err
			}
		}
	}
}

// apply takes in the events of a watch and publishes what comes of them.
func (r *Registry) apply(events []*clientv3.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.applyLocked(events)
	if err != nil {
		r.model.metaRev = unknownRev // no change may be made from a state that isn't the published one
	}
	return err
}

func (r *Registry) applyLocked(events []*clientv3.Event) error {
	stateChanged, liveChanged := false, false
	revision := r.model.revision
	for _, e := range events {
		key := string(e.Kv.GetKey())
		switch {
		case strings.HasPrefix(key, audit):
			continue
		case isLive(key):
			liveChanged = true
		case e.Kv.GetModRevision() <= r.model.revision:
			continue // a change of our own, applied when it was made
		default:
			stateChanged = true
			revision = e.Kv.GetModRevision()
		}
		if e.Type == clientv3.EventTypeDelete {
			r.model.remove(key)
		} else if err := r.model.put(key, e.Kv.GetValue(), e.Kv.GetModRevision()); err != nil {
			return err
		}
	}
	r.model.revision = revision
	return r.republishLocked(stateChanged, liveChanged)
}

func (r *Registry) republishLocked(stateChanged, liveChanged bool) error {
	have := r.current.Load().topology
	switch {
	case stateChanged && r.model.metaRev == 0:
		return ErrEmpty // somebody deleted it: the reload will say what of it is left
	case stateChanged && have.Revision > 0 && r.model.meta.Infra != have.Infra:
		return ErrOtherMesh
	case stateChanged:
		t, err := r.model.topology()
		if err != nil {
			return err
		}
		r.publishLocked(t)
	case liveChanged && have.Revision > 0:
		r.publishLocked(have.WithLive(r.model.live()))
	}
	return nil
}

// probe asks every now and then whether control answers, and whether the watch has seen what it says. It returns
// when not.
func (r *Registry) probe(ctx context.Context) error {
	var missed int64 // a revision of meta that the watch hadn't seen at the last probe
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		r.mu.Lock()
		before := r.model.metaRev
		r.mu.Unlock()
		pctx, cancel := context.WithTimeout(ctx, probeTimeout)
		resp, err := r.client.Get(pctx, metaKey, clientv3.WithKeysOnly())
		cancel()
		if err != nil {
			return unavailable("probe", err)
		}
		var is int64
		if len(resp.Kvs) > 0 {
			is = resp.Kvs[0].GetModRevision()
		}
		r.mu.Lock()
		seen := r.model.metaRev
		r.mu.Unlock()
		switch {
		case is < before: // a backup was restored, or the state deleted
			return errBehind
		case missed > 0 && seen < missed:
			return errBehind
		case is > seen:
			missed = is
		default:
			missed = 0
		}
	}
}
