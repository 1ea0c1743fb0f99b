package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"respmesh/netconf/api"
	"respmesh/netconf/etcd"
	"respmesh/proxy/acl"
)

// apiPort is where nodes answer each other's and the fleet's questions on the mesh, and the default on loopback.
const apiPort = 17379

// serveAPI serves the control API to the other nodes, on the infrastructure address, until the node is closed.
func (n *Node) serveAPI(server *api.Server) error {
	l, err := n.device.ListenTCP(netip.AddrPortFrom(n.infra, apiPort))
	if err != nil {
		return err
	}
	peers := server.Handler(api.TrustToken)
	n.apiFor.Store(&peers)
	h := api.HTTPServer(server.Handler(api.TrustMesh), n.log)
	h.BaseContext = func(net.Listener) context.Context { return n.ctx }
	n.wg.Go(func() {
		if err := h.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && n.ctx.Err() == nil {
			n.log.Error("the API isn't served on the mesh any more", "err", err)
		}
	})
	n.wg.Go(func() {
		<-n.ctx.Done()
		h.Close()
	})
	return nil
}

// peersAPI is the control API for orgs' peers: for each it is at the resolver's address, and asks for a token.
func (n *Node) peersAPI(ctx context.Context) *http.Server {
	h := api.HTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve := n.apiFor.Load()
		if serve == nil {
			http.Error(w, "the node is starting", http.StatusServiceUnavailable)
			return
		}
		(*serve).ServeHTTP(w, r)
	}), n.log)
	h.BaseContext = func(net.Listener) context.Context { return ctx }
	n.wg.Go(func() {
		<-ctx.Done()
		h.Close()
	})
	return h
}

// fleet asks all nodes of the mesh, from this one.
func (n *Node) fleet(c *control) (*api.MeshFleet, error) {
	return api.NewFleet(api.FleetOptions{
		Control: c.registry, Node: n.opts.Name, Local: (*local)(n), Port: apiPort,
		Dial: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return n.device.DialTCP(ctx, n.infra, addr)
		},
		Backup: func(ctx context.Context, w io.Writer) error { return etcd.Backup(ctx, c.client, w) },
	})
}

// checkRules holds a user's rules against the table of commands, as the gateways will.
func checkRules(rules string) error {
	_, err := acl.Parse(rules)
	return err
}

// meshClient sends HTTP requests over the mesh.
func (n *Node) meshClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			return n.device.DialTCP(ctx, n.infra, to)
		},
		MaxIdleConnsPerHost: 2,
		MaxConnsPerHost:     8,
		IdleConnTimeout:     30 * time.Second,
	}}
}
