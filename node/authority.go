package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/netconf/api/pki"
)

// The CA of the control plane is made by the first node. Each further member of the control plane asks the others for its key
// (pki.Question), over the mesh, as soon as it votes: so nodes join through any member, and certificates are renewed, whoever
// of the members is away. Nodes that aren't members don't get it.

// enroller takes nodes in where the CA's key is. With a control plane that others run there is no CA of ours: nodes show that
// cluster's certificates, which their operator gives them, so every node can take others in.
type enroller struct{ s *Server }

// Ready implements api.Enroller.
func (e enroller) Ready() bool { return e.s.outsideControl() || e.local().Ready() }

// Enrol implements api.Enroller.
func (e enroller) Enrol(ctx context.Context, node netconf.Node, csr []byte) (api.Enrolment, error) {
	if e.s.outsideControl() {
		return api.Enrolment{Control: e.s.opts.Etcd.Endpoints}, nil
	}
	return e.local().Enrol(ctx, node, csr)
}

// Share implements api.Enroller.
func (e enroller) Share(ctx context.Context, node netconf.Node, question *pki.Question) ([]byte, error) {
	return e.local().Share(ctx, node, question)
}

func (e enroller) local() api.LocalEnroller {
	return api.LocalEnroller{CA: e.s.keys.ca.Load, Control: e.s.controlEndpoints, Member: e.s.votes}
}

// outsideControl tells whether the control plane is a cluster that others run.
func (s *Server) outsideControl() bool { return len(s.opts.Etcd.Endpoints) > 0 }

// controlEndpoints are where nodes reach the control plane, over the mesh.
func (s *Server) controlEndpoints() []string {
	own := controlURL(s.node.infra)
	if others := s.others.Load(); others != nil {
		return append([]string{own}, *others...)
	}
	return []string{own}
}

// votes tells whether a node is a full member of the control plane, as the members agree.
func (s *Server) votes(ctx context.Context, n netconf.Node) (bool, error) {
	if s.outsideControl() {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	list, err := s.control.client.MemberList(ctx)
	if err != nil {
		return false, err
	}
	for _, m := range list.Members {
		if m.Name == n.Name && !m.IsLearner && slices.Contains(m.PeerURLs, peerURL(n.Addr)) {
			return true, nil
		}
	}
	return false, nil
}

// takeAuthority gets the CA's key from another member, once.
func (s *Server) takeAuthority(ctx context.Context) error {
	if !s.id.Member || s.keys.ca.Load() != nil {
		return nil
	}
	question, err := s.keys.question()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range s.id.Members {
		if name == s.opts.Name {
			continue
		}
		sealed, err := s.askAuthority(ctx, name, question)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		ca, err := question.Take(s.keys.dir, sealed)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		s.keys.hold(ca)
		s.opts.Log.Info("nodes can join through this node, too: it holds the CA's key", "from", name)
		return nil
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("the CA's key: %w", errors.Join(errs...))
}

func (s *Server) askAuthority(ctx context.Context, member string, question *pki.Question) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	client, err := s.fleet.NodeClient(member)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.Authority(ctx, question)
}
