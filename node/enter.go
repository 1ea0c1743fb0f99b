package node

import (
	"context"
	"crypto/ecdh"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/netconf/etcd"
)

// How a node gets its place in a mesh (found, join), and its way to the control plane from then on (openControl).

// controlPort is where members of the control plane answer the other nodes, inside the mesh, with mutual TLS.
const controlPort = 2379

// firstNode ends like the address of a mesh's first node, which is known only once there is a state: enough for its alias.
var firstNode = netip.IPv6Loopback()

// found makes a mesh with this node as the first. A node that was interrupted in it goes on where it was.
func (s *Server) found(ctx context.Context) error {
	embedded := !s.outsideControl()
	if err := s.openOwnControl(ctx, firstNode, embedded); err != nil {
		return err
	}
	if err := s.control.init(ctx); err != nil {
		return err
	}
	self, err := s.enlist(ctx)
	if err != nil {
		return err
	}
	if err := s.keys.sign(s.opts.Name, self.Addr); err != nil { // now with its address in the mesh
		return err
	}
	if err := s.adminToken(ctx); err != nil {
		return err
	}
	topology, _ := s.control.registry.Current()
	s.id = &identity{Name: s.opts.Name, Region: s.opts.Region, Infra: topology.Infra, Member: embedded}
	if err := s.id.save(s.opts.Data); err != nil {
		return err
	}
	if err := s.meet(topology); err != nil {
		return err
	}
	return s.relayControl()
}

// openOwnControl opens the control plane that this node carries, or that others run for it.
func (s *Server) openOwnControl(ctx context.Context, self netip.Addr, embedded bool) (err error) {
	if s.keys, err = openKeys(s.path(keysDir), s.opts.certificateLife, s.id == nil); err != nil {
		return err
	}
	s.control = &control{}
	options := etcd.ClientOptions{Endpoints: s.opts.Etcd.Endpoints}
	if embedded {
		if s.keys.ca.Load() != nil && s.keys.due(time.Now()) { // after a long time off it may have ended
			if err := s.keys.sign(s.opts.Name, self); err != nil {
				return err
			}
		}
		if s.control.member, err = etcd.StartMember(ctx, s.memberOptions(self)); err != nil {
			return err
		}
		options.Endpoints = s.control.member.Endpoints()
		options.TLS, err = s.keys.client()
	} else {
		options.TLS, err = s.opts.Etcd.tls()
	}
	if err != nil {
		return err
	}
	if s.control.client, err = etcd.NewClient(options); err != nil {
		return err
	}
	return s.control.open(ctx, s.path(topologyName), s.opts.Log)
}

// enlist writes this node into the state, once.
func (s *Server) enlist(ctx context.Context) (netconf.Node, error) {
	var self netconf.Node
	_, err := s.control.registry.Update(ctx, "node "+s.opts.Name, func(d *netconf.Draft) (err error) {
		for i := range d.Nodes {
			n := &d.Nodes[i]
			if n.Name != s.opts.Name {
				continue
			}
			if n.Key != s.node.PublicKey().String() {
				return Usagef("--init: this control plane has a node %s already, with another key; give another --name", n.Name)
			}
			n.Endpoint, self = s.opts.Endpoint, *n
			return nil
		}
		self, err = d.AddNode(netconf.Node{
			Name: s.opts.Name, Region: s.opts.Region, Key: s.node.PublicKey().String(), Endpoint: s.opts.Endpoint,
		})
		return err
	})
	return self, err
}

// adminToken makes the first administrator's token, in a file of its own.
func (s *Server) adminToken(ctx context.Context) error {
	if _, err := os.Stat(s.path(adminTokenName)); err == nil {
		return nil
	}
	record, text, err := api.MakeToken(api.TokenRequest{Name: "first administrator", Scope: netconf.ScopeAdmin})
	if err != nil {
		return err
	}
	_, err = s.control.registry.Update(ctx, "node "+s.opts.Name, func(d *netconf.Draft) error {
		d.Tokens = append(d.Tokens, record)
		return nil
	})
	if err != nil {
		return err
	}
	return replaceFile(s.path(adminTokenName), []byte(text+"\n"))
}

// join enters a mesh by the API of one of its nodes.
func (s *Server) join(ctx context.Context) (err error) {
	if s.keys, err = openKeys(s.path(keysDir), s.opts.certificateLife, false); err != nil {
		return err
	}
	csr, err := s.keys.request(s.opts.Name)
	if err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s.node.opts.Key.Encode())
	if err != nil {
		return err
	}
	key, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return err
	}
	client, err := api.NewClient(api.ClientOptions{URL: s.opts.Join, Pin: s.opts.Pin})
	if err != nil {
		return Usagef("--join: %v", err)
	}
	defer client.Close()
	answer, err := client.Join(ctx, api.JoinOptions{
		Token: s.opts.Token, Name: s.opts.Name, Region: s.opts.Region, Endpoint: s.opts.Endpoint, WireGuard: key, CSR: csr,
	})
	if err != nil {
		return fmt.Errorf("join at %s: %w", s.opts.Join, err)
	}
	var state netconf.State
	if err := json.Unmarshal(answer.State, &state); err != nil {
		return fmt.Errorf("join at %s: the mesh's state: %w", s.opts.Join, err)
	}
	topology, err := netconf.NewTopology(answer.Revision, state)
	if err != nil {
		return fmt.Errorf("join at %s: the mesh's state: %w", s.opts.Join, err)
	}
	if answer.Certificate != "" { // else the control plane isn't the mesh's own
		if err := s.keys.keep(answer.CA, answer.Certificate); err != nil {
			return err
		}
	}
	if err := etcd.WriteSnapshot(s.path(topologyName), topology); err != nil {
		return err
	}
	s.id = &identity{Name: s.opts.Name, Region: s.opts.Region, Infra: topology.Infra, Control: answer.Control}
	return s.id.save(s.opts.Data) // last: from here on the node is in
}

// openControl is the way to the control plane of a node that has its place.
func (s *Server) openControl(ctx context.Context) (err error) {
	topology, err := etcd.ReadSnapshot(s.path(topologyName))
	if err != nil && !s.id.Member {
		return fmt.Errorf("the last state of the mesh: %w", err)
	}
	if topology != nil {
		if err := s.meet(topology); err != nil {
			return err
		}
		if s.id.Member {
			if err := s.relayPeers(topology, s.id.Members); err != nil {
				return err
			}
		}
	}
	if s.id.Member || s.authority() {
		if err := s.openOwnControl(ctx, s.node.infra, s.id.Member); err != nil {
			return err
		}
		if topology, _ = s.control.registry.Current(); topology.Revision == 0 {
			return fmt.Errorf("%s holds no state: restore it from a backup with respmesh control restore", s.path(controlDir))
		}
		if err := s.meet(topology); err != nil {
			return err
		}
		if err := s.readdress(ctx); err != nil {
			return err
		}
		return s.relayControl()
	}
	if s.keys, err = openKeys(s.path(keysDir), s.opts.certificateLife, false); err != nil {
		return err
	}
	options := etcd.ClientOptions{Endpoints: s.id.Control, Dial: s.dialControl}
	if s.outsideControl() {
		options = etcd.ClientOptions{Endpoints: s.opts.Etcd.Endpoints}
		options.TLS, err = s.opts.Etcd.tls()
	} else {
		options.TLS, err = s.keys.client()
	}
	if err != nil {
		return err
	}
	s.control = &control{}
	if s.control.client, err = etcd.NewClient(options); err != nil {
		return err
	}
	if err := s.control.open(ctx, s.path(topologyName), s.opts.Log); err != nil {
		return err
	}
	if t, _ := s.control.registry.Current(); t.Revision > 0 {
		if err := s.meet(t); err != nil {
			return err
		}
	}
	return s.readdress(ctx)
}

// authority tells whether this node holds the CA's key: it made the mesh, or carries the control plane.
func (s *Server) authority() bool {
	_, err := os.Stat(s.path(keysDir) + "/ca.key")
	return err == nil
}

// readdress tells the others of a new --endpoint. Without control that has to wait for the next start.
func (s *Server) readdress(ctx context.Context) error {
	topology, _ := s.control.registry.Current()
	self, ok := topology.Node(s.opts.Name)
	if !ok || s.opts.Endpoint == "" || self.Endpoint == s.opts.Endpoint {
		return nil
	}
	if !s.control.registry.Connected() {
		s.opts.Log.Warn("control is out of reach: the new --endpoint isn't known to the other nodes; start again later")
		return nil
	}
	_, err := s.enlist(ctx)
	return err
}

// relayControl lets the other nodes reach the member in this process, over the mesh.
func (s *Server) relayControl() error {
	if s.control.member == nil {
		return nil
	}
	l, err := s.node.device.ListenTCP(netip.AddrPortFrom(s.node.infra, controlPort))
	if err != nil {
		return err
	}
	to := strings.TrimPrefix(s.control.member.Endpoints()[0], "https://")
	s.relays = append(s.relays, startRelay(l, dialKernel(to), s.opts.Log))
	return nil
}

// tls reads the files given for an etcd cluster that others run.
func (o EtcdOptions) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		raw, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, Usagef("--etcd-ca: %v", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(raw) {
			return nil, Usagef("--etcd-ca: %s holds no certificate in PEM", o.CA)
		}
	}
	if o.Cert != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, Usagef("--etcd-cert, --etcd-key: %v", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
