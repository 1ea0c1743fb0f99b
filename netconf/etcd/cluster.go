package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf"
)

// ErrEnoughMembers is what AddMember gives when a cluster has its members already.
var ErrEnoughMembers = errors.New("the control plane has its members")

// NewMember is one to be added.
type NewMember struct {
	Name     string
	PeerURLs []string
	Most     int // how many members there may be with it; 0: no limit
}

// AddMember makes a member known to a cluster that runs, before it is started with Join and the InitialCluster that it
// returns. It doesn't count for the quorum until PromoteMember. Called again for the same member it gives the same.
func AddMember(ctx context.Context, client *clientv3.Client, o NewMember) (id uint64, initialCluster string, err error) {
	list, err := client.MemberList(ctx)
	if err != nil {
		return 0, "", unavailable("list the control members", err)
	}
	members := list.Members
	for _, m := range members {
		if slices.Equal(m.PeerURLs, o.PeerURLs) {
			id = m.ID
		} else if m.Name == o.Name {
			return 0, "", fmt.Errorf("control member %s %w", o.Name, netconf.ErrExists)
		}
	}
	if id == 0 {
		err := whenHealthy(ctx, func() error {
			resp, err := client.MemberAddAsLearner(ctx, o.PeerURLs)
			if err == nil {
				id, members = resp.Member.ID, resp.Members
			}
			return err
		})
		if err != nil {
			return 0, "", fmt.Errorf("add control member %s: %w", o.Name, err)
		}
	}
	// Others may have come first. Additions have an order, so at most one of several sees that there is room.
	if o.Most > 0 && len(members) > o.Most {
		err := whenHealthy(ctx, func() error {
			_, err := client.MemberRemove(ctx, id)
			return err
		})
		return 0, "", errors.Join(ErrEnoughMembers, err)
	}
	var all []string
	for _, m := range members {
		n := m.Name
		if m.ID == id {
			n = o.Name
		}
		for _, u := range m.PeerURLs {
			all = append(all, n+"="+u)
		}
	}
	return id, strings.Join(all, ","), nil
}

// PromoteMember makes an added member a voter as soon as it has caught up.
func PromoteMember(ctx context.Context, client *clientv3.Client, id uint64) error {
	for {
		_, err := client.MemberPromote(ctx, id)
		switch {
		case err == nil, errors.Is(err, rpctypes.ErrMemberNotLearner):
			return nil
		case errors.Is(err, rpctypes.ErrMemberNotFound):
			return fmt.Errorf("control member %x %w", id, netconf.ErrNotFound)
		}
		// Not caught up yet, or between two leaders.
		select {
		case <-ctx.Done():
			return fmt.Errorf("control member %x isn't a voter yet: %w", id, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// RemoveMember takes a member out of the cluster, by name. The others go on if they are a majority.
func RemoveMember(ctx context.Context, client *clientv3.Client, name string) error {
	for attempt := 0; ; attempt++ {
		list, err := client.MemberList(ctx)
		if err != nil {
			return unavailable("list the control members", err)
		}
		i := slices.IndexFunc(list.Members, func(m *pb.Member) bool { return m.Name == name })
		if i < 0 && attempt == 0 {
			return fmt.Errorf("control member %s %w", name, netconf.ErrNotFound)
		} else if i < 0 {
			return nil
		}
		err = whenHealthy(ctx, func() error {
			_, err := client.MemberRemove(ctx, list.Members[i].ID)
			return err
		})
		if err == nil {
			return nil
		}
		// The member that was asked may have been the removed one, and have stopped before it answered: ask again.
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
		if ctx.Err() != nil || attempt == 20 {
			return fmt.Errorf("remove control member %s: %w", name, err)
		}
	}
}

// whenHealthy makes a change of the members as soon as etcd takes it: it wants all voters to have been there for 5 s.
func whenHealthy(ctx context.Context, change func() error) error {
	for {
		err := change()
		if !errors.Is(err, rpctypes.ErrUnhealthy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Leads tells whether the member leads its cluster.
func (m *Member) Leads() bool {
	leader := uint64(m.etcd.Server.Leader())
	return leader != 0 && leader == m.ID()
}

// GiveLead has another voter lead the cluster from now on, if this member leads it and that one has everything.
func (m *Member) GiveLead(ctx context.Context, to uint64) error {
	if !m.Leads() {
		return nil
	}
	if err := m.etcd.Server.MoveLeader(ctx, m.ID(), to); err != nil {
		return fmt.Errorf("give the lead of the control plane to member %x: %w", to, err)
	}
	return nil
}
