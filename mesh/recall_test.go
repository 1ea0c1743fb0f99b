package mesh

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestRecallLeavesAlone: who isn't a peer any more, and who has come meanwhile, isn't called where it was.
func TestRecallLeavesAlone(t *testing.T) {
	a, b := pair(t)
	client, server := connect(t, a, b)
	go echoConn(server)
	pingPong(t, client, 1)
	gone := newKey(t).Public()
	wrong := netip.MustParseAddrPort("127.0.0.1:9")
	b.Recall(t.Context(), map[PublicKey]netip.AddrPort{gone: wrong, a.PublicKey(): wrong})
	pingPong(t, client, 1)
	if s := b.Stats(); len(s) != 1 || s[0].Endpoint != a.ListenPort() {
		t.Errorf("the peers are %+v now", s)
	}
}

// TestHeard: only peers that come by themselves count, and only those that are there.
func TestHeard(t *testing.T) {
	a, b := pair(t)
	client, server := connect(t, a, b)
	go echoConn(server)
	pingPong(t, client, 1)
	if h := b.Heard(); len(h) != 0 {
		t.Errorf("a peer with an endpoint was heard: %v", h)
	}
	comes := asPeer(a, addr(infraPrefix, 1))
	comes.Endpoint = netip.AddrPort{}
	must(t, b.SetPeers(append(strangers(t, 2), comes)))
	if h := b.Heard(); len(h) != 1 || h[a.PublicKey()] != a.ListenPort() {
		t.Errorf("heard: %v, want %s at %s", h, a.PublicKey(), a.ListenPort())
	}
}

// TestRemovedPeerConnectsAgain: a peer that is removed loses its connections a moment before its key. It can't use that moment.
func TestRemovedPeerConnectsAgain(t *testing.T) {
	a, b := pair(t)
	at := netip.AddrPortFrom(addr(infraPrefix, 2), 7379)
	l, err := b.ListenTCP(at)
	must(t, err)
	echo(t, l)
	dial := func(within time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		c, err := a.DialTCP(ctx, addr(infraPrefix, 1), at)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(within)); err != nil {
			return nil, err
		}
		if _, err = c.Write([]byte("hello")); err == nil {
			_, err = io.ReadFull(c, make([]byte, 5))
		}
		return c, err
	}
	c, err := dial(20 * time.Second)
	must(t, err)
	again := make(chan error, 1)
	go func() {
		_, _ = c.Read(make([]byte, 1)) // until it is removed
		_, err := dial(500 * time.Millisecond)
		again <- err
	}()
	must(t, b.SetPeers(nil))
	if err := <-again; err == nil {
		t.Error("a removed peer has connected again")
	}
}
