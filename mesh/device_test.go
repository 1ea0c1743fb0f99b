package mesh

import (
	"context"
	"net/netip"
	"testing"
)

func TestPingPong(t *testing.T) {
	a, b := pair(t)
	l, err := b.ListenTCP(netip.AddrPortFrom(addr(infraPrefix, 2), 7379))
	must(t, err)
	echo(t, l)
	c, err := a.DialTCP(context.Background(), addr(infraPrefix, 1), netip.AddrPortFrom(addr(infraPrefix, 2), 7379))
	must(t, err)
	defer c.Close()
	pingPong(t, c, 100)
}
