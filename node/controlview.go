package node

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf/api"
	"respmesh/netconf/etcd"
)

// memberAnswers bounds the wait for one member of the control plane to say how it is.
const memberAnswers = time.Second

// controlPlane says who carries the control plane, and asks each how it is.
func (s *Server) controlPlane(ctx context.Context) (api.ControlPlane, error) {
	if s.outsideControl() {
		return api.ControlPlane{Kind: api.ControlExternal, Endpoints: s.opts.Etcd.Endpoints}, nil
	}
	plane := api.ControlPlane{Kind: api.ControlOnNodes}
	// Also without a majority: who the members are doesn't change then.
	list, err := s.control.client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return plane, err
	}
	client, err := s.memberClient()
	if err != nil {
		return plane, err
	}
	defer client.Close()
	statuses := make([]*clientv3.StatusResponse, len(list.Members))
	errs := make([]error, len(list.Members))
	topology, _ := s.control.registry.Current()
	var wg sync.WaitGroup
	for i, m := range list.Members {
		n, ok := topology.Node(m.Name)
		if !ok {
			errs[i] = errors.New("no node has this name")
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, memberAnswers)
			defer cancel()
			at := controlURL(n.Addr)
			if m.Name == s.opts.Name {
				at = s.control.client.Endpoints()[0] // in this process
			}
			statuses[i], errs[i] = client.Status(ctx, at)
		})
	}
	wg.Wait()
	leader := uint64(0)
	for _, st := range statuses {
		if st != nil && st.Leader != 0 {
			leader = st.Leader
		}
	}
	for i, m := range list.Members {
		n, _ := topology.Node(m.Name)
		view := api.ControlMember{Node: m.Name, Region: n.Region, Role: partOf(m, leader), Online: errs[i] == nil}
		if errs[i] != nil {
			view.Error = "no answer"
		} else {
			view.Bytes = statuses[i].DbSize
		}
		plane.Members = append(plane.Members, view)
	}
	return plane, nil
}

func partOf(m *pb.Member, leader uint64) string {
	switch {
	case m.IsLearner:
		return api.PartLearner
	case m.ID == leader:
		return api.PartLeader
	}
	return api.PartMember
}

// memberClient reaches each of the members by its address in the mesh, also where the node's own client asks the member that
// is in this process.
func (s *Server) memberClient() (*clientv3.Client, error) {
	secure, err := s.keys.client()
	if err != nil {
		return nil, err
	}
	return etcd.NewClient(etcd.ClientOptions{Endpoints: s.controlEndpoints(), TLS: secure, Dial: s.dialControl})
}
