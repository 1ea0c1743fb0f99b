package etcd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf"
)

const (
	keepAudit     = 10_000
	updateTimeout = 10 * time.Second // of one Update whose caller gave no deadline
	tryTimeout    = 2 * time.Second
	// maxConflicts bounds how often a change is made again on top of others'. Each time, somebody else got through.
	maxConflicts = 64
	maxAudit     = 1000
)

// auditValue is the value of an audit key.
type auditValue struct {
	netconf.AuditRecord
	Mark string `json:"mark"`
}

func auditKey(revision uint64) string { return fmt.Sprintf("%s%020d", audit, revision) }

// Update makes a change: see the package comment. It returns the revision of the topology that has it, which Current
// gives from then on. The function may be called several times, each time with a draft of the newest state; it must not
// call Update. A change that changes nothing gives the revision there is. If control doesn't answer in time, the error is
// netconf.ErrUnavailable; it says so where the change may have been made.
func (r *Registry) Update(ctx context.Context, actor string, change func(*netconf.Draft) error) (revision uint64, err error) {
	return r.update(ctx, actor, change, nil)
}

// update is Update under further conditions, none of which is about the state. What they don't hold for is ErrHeld.
func (r *Registry) update(ctx context.Context, actor string, change func(*netconf.Draft) error, only []clientv3.Cmp) (revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	select {
	case r.updating <- struct{}{}:
		defer func() { <-r.updating }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for range maxConflicts {
		base, metaRev := r.base()
		if metaRev == unknownRev {
			// The snapshot's state, or one that couldn't be followed: changes start from what control says.
			if _, err := r.reload(ctx); err != nil {
				return 0, err
			}
			continue
		}
		if base.Revision == 0 {
			newest, err := r.refresh(ctx, metaRev) // another node may just have made the first state
			switch {
			case err != nil:
				return 0, err
			case newest:
				return 0, ErrEmpty
			}
			continue
		}
		next, err := base.Change(change)
		if err != nil || next == base {
			// Only the newest state says that a change is wrong, or made already: another node may just have changed it.
			newest, rerr := r.refresh(ctx, metaRev)
			switch {
			case rerr != nil:
				return 0, rerr
			case newest && err != nil:
				return 0, err
			case newest:
				return base.Revision, nil
			}
			continue
		}
		done, err := r.commit(ctx, actor, base, next, metaRev, only)
		if err != nil {
			return 0, err
		}
		if done {
			return next.Revision, nil
		}
		select { // give who else is changing a chance to get through
		case <-time.After(mrand.N(5 * time.Millisecond)):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return 0, fmt.Errorf("%w: others keep changing the control state; try again", netconf.ErrConflict)
}

func (r *Registry) base() (t *netconf.Topology, metaRev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.Load().topology, r.model.metaRev
}

// refresh takes in the state there is, unless it is the one of metaRev.
func (r *Registry) refresh(ctx context.Context, metaRev int64) (newest bool, err error) {
	resp, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(metaKey), "=", metaRev)).
		Else(stateOps()...).
		Commit()
	if err != nil {
		return false, unavailable("read the state", err)
	}
	if resp.Succeeded {
		return true, nil
	}
	m, err := readModel(resp.Responses, resp.Header.GetRevision())
	if err != nil {
		return false, err
	}
	return false, r.takeIn(m)
}

// commit writes the way from base to next, unless meta has changed since metaRev: then it takes in the state there is
// and is not done.
func (r *Registry) commit(ctx context.Context, actor string, base, next *netconf.Topology, metaRev int64, only []clientv3.Cmp) (done bool, err error) {
	mark := rand.Text()
	ops, err := changes(base, next)
	if err != nil {
		return false, err
	}
	meta, err := json.Marshal(meta{Revision: next.Revision, Infra: next.Infra, NodeNumbers: next.NodeNumbers, Mark: mark})
	if err != nil {
		return false, fmt.Errorf("encode meta: %w", err)
	}
	record, err := json.Marshal(auditValue{netconf.AuditRecord{
		Revision: next.Revision, Time: time.Now().UTC().Round(time.Millisecond), Actor: actor, What: netconf.Diff(base, next),
	}, mark})
	if err != nil {
		return false, fmt.Errorf("encode the audit record: %w", err)
	}
	ops = append(ops, clientv3.OpPut(metaKey, string(meta)), clientv3.OpPut(auditKey(next.Revision), string(record)))
	if next.Revision > keepAudit {
		ops = append(ops, clientv3.OpDelete(auditKey(next.Revision-keepAudit)))
	}
	otherwise := append(stateOps(), clientv3.OpGet(auditKey(next.Revision)))
	// Also sent again it can be made only once: meta isn't at metaRev any more.
	for {
		tctx, cancel := context.WithTimeout(ctx, tryTimeout)
		resp, err := r.client.Txn(tctx).
			If(append(only, clientv3.Compare(clientv3.ModRevision(metaKey), "=", metaRev))...).
			Then(ops...).
			Else(otherwise...).
			Commit()
		cancel()
		switch {
		case err == nil && resp.Succeeded:
			return true, r.committed(ops, resp.Header.GetRevision())
		case err == nil:
			last := len(resp.Responses) - 1
			for _, kv := range resp.Responses[last].GetResponseRange().GetKvs() {
				var found auditValue
				if json.Unmarshal(kv.GetValue(), &found) == nil && found.Mark == mark {
					done = true // an earlier attempt got through, only its answer didn't
				}
			}
			m, err := readModel(resp.Responses[:last], resp.Header.GetRevision())
			if err != nil {
				return done, err
			}
			if !done && m.metaRev == metaRev { // so it was the other conditions
				return false, ErrHeld
			}
			return done, r.takeIn(m)
		case refused(err):
			return false, fmt.Errorf("control refuses the change: %w", err)
		case ctx.Err() != nil:
			return false, unavailable("change the state (it may have been changed)", err)
		}
		select {
		case <-time.After(firstRetry + mrand.N(firstRetry)):
		case <-ctx.Done():
			return false, unavailable("change the state (it may have been changed)", err)
		}
	}
}

// refused tells the errors that another attempt doesn't cure.
func refused(err error) bool {
	for _, e := range []error{rpctypes.ErrTooManyOps, rpctypes.ErrRequestTooLarge, rpctypes.ErrNoSpace, rpctypes.ErrPermissionDenied} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// committed applies what was written at a revision of etcd, so that Current has it when Update returns.
func (r *Registry) committed(ops []clientv3.Op, revision int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commits++
	if r.model.revision >= revision {
		return nil // the watch was faster
	}
	for _, op := range ops {
		key := string(op.KeyBytes())
		switch {
		case isLive(key): // the watch's, which has an order of its own
		case op.IsDelete():
			r.model.remove(key)
		default:
			if err := r.model.put(key, op.ValueBytes(), revision); err != nil {
				return err // can't be: it was encoded here
			}
		}
	}
	r.model.revision = revision
	return r.republishLocked(true, false)
}

// takeIn replaces the model by one that was read, if it is newer.
func (r *Registry) takeIn(m *model) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.model.metaRev != unknownRev && r.model.revision >= m.revision {
		return nil
	}
	// What is live is the watch's: an event that it still has to deliver would be applied to what came later.
	m.liveNodes, m.held, m.primaries = r.model.liveNodes, r.model.held, r.model.primaries
	return r.replaceLocked(m)
}

// Init makes the first state, with a random infrastructure prefix, unless there is one.
func (r *Registry) Init(ctx context.Context, actor string) error {
	if t, _ := r.base(); t.Revision > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	next, err := netconf.NewTopology(1, netconf.State{Infra: netconf.RandomPrefix()})
	if err != nil {
		return err
	}
	if _, err := r.commit(ctx, actor, &netconf.Topology{}, next, 0, nil); err != nil {
		return err
	}
	return nil
}

// Audit lists who changed what, the newest first: at most limit records (0: 100) of revisions below before (0: all).
func (r *Registry) Audit(ctx context.Context, limit int, before uint64) ([]netconf.AuditRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	t, _ := r.Current()
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, maxAudit)
	if before == 0 || before > t.Revision+1 {
		before = t.Revision + 1
	}
	// Each revision has one record.
	from := before - min(before, uint64(limit))
	resp, err := r.client.Get(ctx, auditKey(from), clientv3.WithRange(auditKey(before)))
	if err != nil {
		return nil, unavailable("read the audit log", err)
	}
	records := make([]netconf.AuditRecord, 0, len(resp.Kvs))
	for i := len(resp.Kvs) - 1; i >= 0; i-- {
		var v auditValue
		if err := json.Unmarshal(resp.Kvs[i].GetValue(), &v); err != nil {
			return nil, fmt.Errorf("audit record %s: %w", resp.Kvs[i].GetKey(), err)
		}
		records = append(records, v.AuditRecord)
	}
	return records, nil
}
