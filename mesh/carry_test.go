package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// TestCarry has a peer at one node use the address of a database in another region.
func TestCarry(t *testing.T) {
	regional, home := netip.MustParseAddr("fd00:a:a:0:2:7:0:1"), addr(orgA, 1)
	a := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 1), regional}})
	b := newTestDevice(t, Config{Addrs: []netip.Addr{addr(infraPrefix, 2)}})
	peer := newTestDevice(t, Config{Addrs: []netip.Addr{home}, Filter: newTestFilter(t, FilterRules{Role: RolePeer, Orgs: []netip.Prefix{orgA}})})
	must(t, a.SetPeers([]Peer{asPeer(b, addr(infraPrefix, 2)), asPeer(peer, home)}))
	must(t, b.SetPeers([]Peer{asPeer(a, addr(infraPrefix, 1))}))
	must(t, peer.SetPeers([]Peer{asPeer(a, regional)}))

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	at := netip.AddrPortFrom(regional, 6379)
	carrierA := NewCarrier(func(ctx context.Context, node netip.Addr) (net.Conn, error) {
		return a.DialTCP(ctx, addr(infraPrefix, 1), netip.AddrPortFrom(node, CarryPort))
	}, nil)
	carrierB := NewCarrier(nil, nil)
	served, err := b.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 2), CarryPort))
	must(t, err)
	running.Go(func() { must(t, carrierB.Serve(ctx, served)) })
	gateway, err := carrierB.Listen(at)
	must(t, err)
	if _, err := carrierB.Listen(at); err == nil {
		t.Error("listens twice")
	}
	l, err := a.ListenTCP(at)
	must(t, err)
	running.Go(func() {
		must(t, carrierA.Forward(ctx, l, func() (netip.Addr, bool) { return addr(infraPrefix, 2), true }))
	})

	client := dial(t, peer, home, at)
	_, err = client.Write([]byte("PING"))
	must(t, err)
	server, err := gateway.Accept()
	must(t, err)
	if server.RemoteAddr().String() != client.LocalAddr().String() || server.LocalAddr().String() != at.String() {
		t.Errorf("from %s to %s", server.RemoteAddr(), server.LocalAddr())
	}
	go echoConn(server)
	buf := make([]byte, 4)
	_, err = io.ReadFull(client, buf)
	must(t, err)
	pingPong(t, client, 50)
	// The client's end reaches the gateway, and the gateway's the client.
	must(t, server.Close())
	must(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := client.Read(buf); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the gateway's end: %v", err)
	}
	client = dial(t, peer, home, at)
	server, err = gateway.Accept()
	must(t, err)
	must(t, client.Close())
	must(t, server.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := server.Read(buf); !errors.Is(err, io.EOF) {
		t.Errorf("after the client's end: %v", err)
	}
	// A revoked peer's carried connections end too.
	carried := dial(t, peer, home, at)
	defer carried.Close()
	server, err = gateway.Accept()
	must(t, err)
	if n := a.ClosePeer(home); n < 1 {
		t.Errorf("%d connections closed", n)
	}
	must(t, server.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := server.Read(buf); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after ClosePeer: %v", err)
	}
	// Nobody serves the address any more: the client sees a reset, and doesn't hang.
	must(t, gateway.Close())
	must(t, gateway.Close())
	client = dial(t, peer, home, at)
	must(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := client.Read(buf); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody serves it: %v", err)
	}
}

func TestCarryHeader(t *testing.T) {
	from, at := netip.MustParseAddrPort("[fd00:a:a:115::1]:40000"), netip.MustParseAddrPort("[fd00:a:a:0:2:7:0:1]:6379")
	b := carryHeader(from, at)
	if gotFrom, gotAt, err := parseCarryHeader(b); err != nil || gotFrom != from || gotAt != at {
		t.Errorf("%s %s %v", gotFrom, gotAt, err)
	}
	for name, b := range map[string][]byte{
		"short":             b[:50],
		"another protocol":  append([]byte("GET / HTTP/1.1\r\n"), b[16:]...),
		"two organisations": carryHeader(netip.MustParseAddrPort("[fd00:b:b::1]:40000"), at),
	} {
		if _, _, err := parseCarryHeader(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
