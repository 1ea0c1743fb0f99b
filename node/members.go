package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
	"respmesh/netconf/etcd"
)

// The control plane is carried by one node, or by three or five (--control-members). Members speak with each other through
// the mesh: etcd itself only knows kernel addresses, so each host has, for every member, a loopback address that is the
// same everywhere (pki.PeerAlias). Behind it is the member itself, or a relay over the mesh to the one it stands for.

const (
	// peerPort is where a member answers the other members: on its alias, and over the mesh.
	peerPort = 2380
	// membersEvery is how often a node looks who carries the control plane.
	membersEvery = 20 * time.Second
	// membersTimeout bounds one look.
	membersTimeout = 5 * time.Second
	// becomeTimeout bounds the copy of the state to a new member.
	becomeTimeout = time.Minute
)

// memberOptions are this node's as a member.
func (s *Server) memberOptions(self netip.Addr) etcd.MemberOptions {
	o := etcd.MemberOptions{
		Dir: s.path(controlDir), Name: s.opts.Name, Clients: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		TLS: s.keys.files(), Log: s.opts.Log,
	}
	if s.opts.Members > 1 || s.id != nil && len(s.id.Members) > 1 {
		o.Peers = []netip.AddrPort{netip.AddrPortFrom(pki.PeerAlias(self), peerPort)}
	}
	return o
}

// peerURL is where a node's member is reached by the others, on all their hosts.
func peerURL(node netip.Addr) string {
	return "https://" + netip.AddrPortFrom(pki.PeerAlias(node), peerPort).String()
}

// relayPeers makes the other members reachable from here, and this one from them. What runs already stays.
func (s *Server) relayPeers(t *netconf.Topology, members []string) error {
	for _, name := range members {
		n, ok := t.Node(name)
		if !ok || s.peers[name] != nil {
			continue
		}
		alias := netip.AddrPortFrom(pki.PeerAlias(n.Addr), peerPort)
		over := netip.AddrPortFrom(n.Addr, peerPort)
		var l net.Listener
		var err error
		var dial func(ctx context.Context) (net.Conn, error)
		if name == s.opts.Name {
			l, err = s.node.device.ListenTCP(over)
			dial = dialKernel(alias.String())
		} else {
			l, err = net.Listen("tcp", alias.String())
			dial = func(ctx context.Context) (net.Conn, error) { return s.node.device.DialTCP(ctx, s.node.infra, over) }
		}
		if err != nil {
			return fmt.Errorf("reach control member %s: %w", name, err)
		}
		s.peers[name] = startRelay(l, dial, s.opts.Log)
	}
	return nil
}

// keepMembers follows who carries the control plane, and becomes one of those if it should.
func (s *Server) keepMembers(ctx context.Context) {
	for {
		err := s.lookAtMembers(ctx)
		if err == nil {
			err = s.takeAuthority(ctx)
		}
		if err == nil {
			err = s.keepApart(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.opts.Log.Warn("members of the control plane", "err", err)
		}
		_, changed := s.control.registry.Current()
		select {
		case <-ctx.Done():
			return
		case <-changed:
			select { // changes come in bursts
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		case <-time.After(membersEvery):
		}
	}
}

func (s *Server) lookAtMembers(ctx context.Context) error {
	look, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	list, err := s.control.client.MemberList(look)
	if err != nil {
		return s.voteAtLast(look) // or control is away, which the registry says
	}
	t, _ := s.control.registry.Current()
	var members []string
	own := peerURL(s.node.infra)
	others := 0
	for _, m := range list.Members {
		if slices.Contains(m.PeerURLs, own) && !s.id.Member {
			continue // an earlier try to become one
		}
		others++
		if m.IsLearner && s.control.member != nil && m.ID == s.control.member.ID() { // its promotion didn't get through
			if err := etcd.PromoteMember(look, s.control.client, m.ID); err != nil {
				return err
			}
		}
		if m.Name == "" {
			continue // added, not started yet
		}
		if _, ok := t.Node(m.Name); !ok && s.control.member != nil && t.Revision > 0 {
			s.opts.Log.Info("removes a member of the control plane whose node was removed", "member", m.Name)
			if err := etcd.RemoveMember(look, s.control.client, m.Name); err != nil {
				return err
			}
			continue
		}
		members = append(members, m.Name)
	}
	slices.Sort(members)
	if err := s.reach(t, members); err != nil {
		return err
	}
	if s.id.Member || others >= s.opts.Members {
		return nil
	}
	become, cancelBecome := context.WithTimeout(ctx, becomeTimeout)
	defer cancelBecome()
	return s.becomeMember(become, t, members)
}

// reach takes in who the members are: for the client, for the members' relays, and for the next start.
func (s *Server) reach(t *netconf.Topology, members []string) error {
	if s.id.Member {
		if err := s.relayPeers(t, members); err != nil {
			return err
		}
	}
	var control []string
	for _, name := range members {
		if n, ok := t.Node(name); ok && name != s.opts.Name {
			control = append(control, controlURL(n.Addr))
		}
	}
	s.others.Store(&control)
	endpoints := control
	if s.control.member != nil {
		endpoints = s.control.member.Endpoints() // it knows whom to ask; another one may be about to end
	}
	if slices.Equal(s.id.Members, members) || len(endpoints) == 0 {
		return nil
	}
	s.control.client.SetEndpoints(endpoints...)
	s.opts.Log.Info("the control plane's members", "members", strings.Join(members, ","))
	s.id.Members = members
	if control != nil {
		s.id.Control = control
	}
	return s.id.save(s.opts.Data)
}

// becomeMember copies the control plane's state to this node and has it vote.
func (s *Server) becomeMember(ctx context.Context, t *netconf.Topology, members []string) error {
	self, ok := t.Node(s.opts.Name)
	if !ok {
		return nil
	}
	all := append(slices.Clone(members), s.opts.Name)
	if err := s.relayPeers(t, all); err != nil {
		return err
	}
	o := s.memberOptions(self.Addr)
	id, cluster, err := etcd.AddMember(ctx, s.control.client, etcd.NewMember{
		Name: s.opts.Name, PeerURLs: []string{peerURL(self.Addr)}, Most: s.opts.Members,
	})
	if errors.Is(err, etcd.ErrEnoughMembers) {
		return nil // others came first
	}
	if err != nil {
		return err
	}
	o.Join, o.InitialCluster = true, cluster
	member, err := etcd.StartMember(ctx, o)
	if err != nil {
		return err
	}
	s.control.member = member
	slices.Sort(all)
	// Written down before it votes: one that votes, and isn't started again with the node, can cost the others their majority.
	s.id.Member, s.id.Members = true, all
	if err := s.id.save(s.opts.Data); err != nil {
		return err
	}
	if err := s.relayControl(); err != nil {
		return err
	}
	if err := etcd.PromoteMember(ctx, s.control.client, id); err != nil {
		return err // tried again with the next look
	}
	s.id.Members = nil
	return s.reach(t, all)
}

// voteAtLast promotes this node's member where the node was started again before it voted. Until then it answers no
// questions, so the others are asked.
func (s *Server) voteAtLast(ctx context.Context) error {
	if s.control.member == nil || len(s.id.Control) == 0 {
		return nil
	}
	secure, err := s.keys.client()
	if err != nil {
		return err
	}
	client, err := etcd.NewClient(etcd.ClientOptions{Endpoints: s.id.Control, TLS: secure, Dial: s.dialControl})
	if err != nil {
		return err
	}
	defer client.Close()
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil // away
	}
	for _, m := range list.Members {
		if m.ID == s.control.member.ID() && m.IsLearner {
			return etcd.PromoteMember(ctx, client, m.ID)
		}
	}
	return nil
}
