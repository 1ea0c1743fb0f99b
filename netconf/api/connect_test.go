package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

// echo is a gateway that sends back what it gets, and says so when the client has said all.
func echo(t *testing.T, opened chan<- string) func(context.Context, string, string) (net.Conn, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return func(_ context.Context, org, db string) (net.Conn, error) {
		if db == "away" {
			return nil, errors.New("a secret reason")
		}
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		server, err := ln.Accept()
		if err != nil {
			return nil, err
		}
		opened <- org + "/" + db
		go func() {
			defer server.Close()
			_, _ = io.Copy(server, server)
			_, _ = io.WriteString(server, "end")
		}()
		return conn, nil
	}
}

// withDatabases is a state with some databases in one org.
func withDatabases(names ...string) netconf.State {
	d := netconf.Draft{State: netconf.State{Infra: netconf.RandomPrefix()}}
	if _, err := d.AddOrg("shop"); err != nil {
		panic(err)
	}
	for _, name := range names {
		if _, err := d.AddDatabase(netconf.Database{Org: "shop", Name: name, Primary: "mad"}); err != nil {
			panic(err)
		}
	}
	return d.State
}

func connectServer(t *testing.T, opened chan<- string) *Server {
	topo, err := netconf.NewTopology(1, withDatabases("cart", "away"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(Options{Control: &memory{Registry: netconf.RegistryOf(topo)}, Connect: echo(t, opened)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConnect(t *testing.T) {
	opened := make(chan string, 4)
	s := connectServer(t, opened)
	ctx, cancel := context.WithCancel(t.Context())
	plain := httptest.NewUnstartedServer(s.Handler(TrustLoopback))
	plain.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	plain.Start()
	defer plain.Close()

	c, err := NewClient(ClientOptions{URL: plain.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	// Both ways, and half of it closed.
	conn, err := c.Connect(t.Context(), "shop", "cart")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := <-opened; got != "shop/cart" {
		t.Errorf("opened %s", got)
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(io.LimitReader(conn, 6)).ReadString('\n'); line != "PING\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); string(rest) != "end" || err != nil {
		t.Errorf("after the client's end: %q, %v", rest, err)
	}

	// What isn't there, or can't be reached.
	for db, want := range map[string]string{
		"nothing": "database shop/nothing isn't there; respmesh redis list shows what is",
		"away":    "this node can't reach database shop/away; respmesh redis status says why",
	} {
		var told *Error
		if _, err := c.Connect(t.Context(), "shop", db); !errors.As(err, &told) || told.Message != want {
			t.Errorf("%s: %v", db, err)
		}
	}
	resp, err := http.Get(plain.URL + "/v1/orgs/shop/databases/cart/connect")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "respmesh-tcp") {
		t.Errorf("without Upgrade: %d %s", resp.StatusCode, body)
	}

	// The server's end is the stream's.
	last, err := c.Connect(t.Context(), "shop", "cart")
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	<-opened
	cancel()
	if _, err := io.ReadAll(last); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("after the server's end: %v", err)
	}
}

func TestConnectNeedsAToken(t *testing.T) {
	s := connectServer(t, make(chan string, 1))
	server := httptest.NewServer(s.Handler(TrustToken))
	defer server.Close()
	c, err := NewClient(ClientOptions{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var told *Error
	if _, err := c.Connect(t.Context(), "shop", "cart"); !errors.As(err, &told) || told.Code != CodeUnauthorized {
		t.Errorf("without a token: %v", err)
	}
}

// TestConnectPinned carries a stream over TLS with a pin, though the server would rather speak HTTP/2.
func TestConnectPinned(t *testing.T) {
	opened := make(chan string, 1)
	s := connectServer(t, opened)
	server := httptest.NewUnstartedServer(s.Handler(TrustLoopback))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	c, err := NewClient(ClientOptions{URL: server.URL, Pin: pki.Pin(server.Certificate())})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Version(t.Context()); err != nil { // has the transport settle on HTTP/2
		t.Fatal(err)
	}
	conn, err := c.Connect(t.Context(), "shop", "cart")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-opened
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if _, err := io.ReadFull(conn, one[:]); err != nil || one[0] != 'x' {
		t.Errorf("got %q, %v", one, err)
	}

	wrong, err := NewClient(ClientOptions{URL: server.URL, Pin: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if _, err := wrong.Connect(t.Context(), "shop", "cart"); err == nil {
		t.Error("a wrong pin is accepted")
	}
}

// TestConnectGivesUp has a server that never answers.
func TestConnectGivesUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := NewClient(ClientOptions{URL: "http://" + ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Connect(ctx, "shop", "cart"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestStreamsOfADatabase: one database never has all the streams that there are.
func TestStreamsOfADatabase(t *testing.T) {
	s := streamCounts{of: make(map[string]int)}
	fill := func(db string) (n int, leave []func()) {
		for {
			l, ok := s.enter(db)
			if !ok {
				return n, leave
			}
			n, leave = n+1, append(leave, l)
		}
	}
	noisy, leave := fill("noisy")
	more, leave2 := fill("noisy too")
	quiet, leave3 := fill("quiet")
	if noisy != maxStreams/2 || more != maxStreams/4 || quiet != maxStreams/8 {
		t.Errorf("%d, %d and %d streams", noisy, more, quiet)
	}
	for _, l := range append(append(leave, leave2...), leave3...) {
		l()
	}
	if s.total != 0 || len(s.of) != 0 {
		t.Errorf("left behind: %d, %v", s.total, s.of)
	}
}
