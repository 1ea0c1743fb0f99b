package sidecar

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node answers PINGs on a pipe as told; "" says nothing, "-" hangs up.
func node(conn net.Conn, replies ...string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, reply := range replies {
		for range 3 {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
		if reply == "-" {
			return
		}
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
	}
	_, _ = r.ReadString('\n') // until the other end goes
}

func TestPing(t *testing.T) {
	for _, c := range []struct {
		what  string
		conns [][]string // what the node says on the first connection, the second…
		pings []string   // the errors expected, by their beginning
	}{
		{"alive", [][]string{{"+PONG\r\n", "+PONG\r\n"}}, []string{"", ""}},
		{"asks for a password", [][]string{{"-NOAUTH Authentication required.\r\n"}}, []string{""}},
		{"hung up meanwhile", [][]string{{"+PONG\r\n", "-"}, {"+PONG\r\n"}}, []string{"", ""}},
		{"hangs up always", [][]string{{"-"}}, []string{"EOF"}},
		{"silent", [][]string{{"+PONG\r\n", ""}, {"+PONG\r\n"}}, []string{"", "no answer within 1s", ""}},
		{"half a reply", [][]string{{"+PO"}}, []string{"no answer within 1s"}},
		{"something else", [][]string{{strings.Repeat("x", 2*maxPong)}}, []string{"what answers isn't a node"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pinger{dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
					here, there := net.Pipe()
					go node(there, c.conns[0]...)
					c.conns = c.conns[1:]
					return here, nil
				}}
				defer p.close()
				for i, want := range c.pings {
					_, err := p.ping(t.Context(), "key", netip.AddrPort{}, time.Second)
					got := ""
					if err != nil {
						got = err.Error()
					}
					if got != want {
						t.Errorf("ping %d: %q, want %q", i, got, want)
					}
				}
			})
		})
	}
}
