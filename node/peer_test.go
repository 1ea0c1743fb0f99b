package node

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"respmesh/mesh"
	"respmesh/netconf"
	"respmesh/resp/frame"
)

// attached is a host in an org's network, attached to one node.
type attached struct {
	device *mesh.Device
	addr   netip.Addr
}

func attach(t *testing.T, d *Dev, to *Node, name string) attached {
	t.Helper()
	key, err := mesh.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	var peer netconf.Peer
	if _, err := d.control.registry.Update(t.Context(), "test", func(c *netconf.Draft) (err error) {
		peer, err = c.AddPeer(netconf.Peer{Org: "personal", Name: name, Region: to.opts.Region, Key: key.Public().String()})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	topology, _ := d.control.registry.Current()
	org, _ := topology.Org("personal")
	filter, err := mesh.NewFilter(mesh.FilterRules{Role: mesh.RolePeer, Orgs: []netip.Prefix{org.Prefix},
		Services: append(mesh.DefaultServices(), mesh.Service{Proto: mesh.TCP, Port: apiPort})})
	if err != nil {
		t.Fatal(err)
	}
	device, err := mesh.New(mesh.Config{
		PrivateKey: key, Filter: filter, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Addrs: []netip.Addr{peer.Addr},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	if err := device.SetPeers([]mesh.Peer{{PublicKey: to.PublicKey(), Endpoint: to.WireGuard(), AllowedIPs: []netip.Prefix{org.Prefix}}}); err != nil {
		t.Fatal(err)
	}
	return attached{device, peer.Addr}
}

func (a attached) dial(t *testing.T, to netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := a.device.DialTCP(ctx, a.addr, to)
	if err != nil {
		t.Fatalf("%v: %v", to, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func ask(t *testing.T, conn net.Conn, r *frame.Reader, args ...string) string {
	t.Helper()
	if _, err := conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		t.Fatal(err)
	}
	var reply frame.Reply
	if err := r.ReadReply(&reply); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(reply.Text())
}

// TestAttachedPeer: an app that is attached in one region reaches the database in each by its regional address, is known by name
// there, finds the API at its resolver, and loses all of that within a second when it is removed.
func TestAttachedPeer(t *testing.T) {
	o := options(t)
	o.Password = ""
	d := startDev(t, o)
	defer closeDev(t, d)
	a := attach(t, d, d.nodes[0], "app")
	topology, _ := d.control.registry.Current()
	db, _ := topology.Database("personal", "demo")
	org, _ := topology.Org("personal")
	var ended []chan error
	for _, n := range d.nodes {
		addr, _ := topology.RegionalAddress(db, n.opts.Region)
		conn := a.dial(t, netip.AddrPortFrom(addr, redisPort))
		r := frame.NewReader(conn)
		if got := ask(t, conn, r, "PING"); got != "PONG" {
			t.Errorf("%s answers %q", n.opts.Region, got)
		}
		list := ask(t, conn, r, "CLIENT", "LIST")
		if !strings.Contains(list, "addr=["+a.addr.String()+"]") || !strings.Contains(list, " peer=personal/app\n") {
			t.Errorf("CLIENT LIST in %s: %s", n.opts.Region, list)
		}
		if got := n.database("personal", "demo").gateway.Peers()["personal/app"]; got != 1 {
			t.Errorf("%s has %d sessions of the peer", n.opts.Region, got)
		}
		end := make(chan error, 1)
		ended = append(ended, end)
		go func() { _, err := conn.Read(make([]byte, 1)); end <- err }()
	}

	control := a.dial(t, netip.AddrPortFrom(org.Resolver(), apiPort))
	for path, want := range map[string]int{"/v1/version": http.StatusOK, "/v1/nodes": http.StatusUnauthorized} {
		fmt.Fprintf(control, "GET %s HTTP/1.1\r\nHost: _api.internal\r\n\r\n", path)
		answer, err := http.ReadResponse(bufio.NewReader(control), nil)
		if err != nil || answer.StatusCode != want {
			t.Fatalf("GET %s at the resolver's address: %v, %v", path, answer, err)
		}
		answer.Body.Close()
		control = a.dial(t, netip.AddrPortFrom(org.Resolver(), apiPort))
	}

	scraped := httptest.NewRecorder()
	promhttp.HandlerFor(d.metrics, promhttp.HandlerOpts{}).ServeHTTP(scraped, httptest.NewRequest("GET", "/metrics", nil))
	metrics := scraped.Body.String()
	if !strings.Contains(metrics, `respmesh_peer_sessions{database="personal/demo",peer="personal/app",region="nrt"} 1`) {
		t.Errorf("metrics don't tell of the peer:\n%s", metrics)
	}

	if _, err := d.control.registry.Update(t.Context(), "test", func(c *netconf.Draft) error {
		return c.RemovePeer("personal", "app")
	}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, n := range d.nodes {
		eventually(t, "the sessions of a removed peer end", func() bool {
			return len(n.database("personal", "demo").gateway.Peers()) == 0
		})
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the sessions of a removed peer ended after %v", took)
	}
	a.device.Close()
	for _, end := range ended {
		if err := <-end; err == nil {
			t.Error("a connection of a removed peer had something to read")
		}
	}
}
