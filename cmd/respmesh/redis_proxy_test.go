package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"respmesh/node"
)

// startProxy serves a proxy whose databases echo, and say so when the client has said all.
func startProxy(t *testing.T) (p *proxy, stop func() error) {
	t.Helper()
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := backend.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
				_, _ = io.WriteString(conn, "end")
			})
		}
	})
	p, err = listenProxy(0, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", backend.Addr().String())
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.serve(ctx, func(err error) { t.Error(err) }) }()
	return p, func() error {
		cancel()
		err := <-served
		backend.Close()
		wg.Wait()
		return err
	}
}

func TestProxy(t *testing.T) {
	defer goleak.VerifyNone(t)
	p, stop := startProxy(t)
	addrs := p.addresses()
	for _, a := range addrs {
		host, port, _ := net.SplitHostPort(a)
		if !net.ParseIP(host).IsLoopback() || port != strconv.Itoa(p.port) {
			t.Errorf("listens on %s", a)
		}
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addrs[i%len(addrs)])
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			line := strings.Repeat(strconv.Itoa(i), 5000) + "\n"
			if _, err := io.WriteString(conn, line); err != nil {
				t.Error(err)
			}
			if got, err := bufio.NewReader(io.LimitReader(conn, int64(len(line)))).ReadString('\n'); err != nil || got != line {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
			// What has been said may still be answered.
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Error(err)
			}
			if rest, err := io.ReadAll(conn); string(rest) != "end" || err != nil {
				t.Errorf("after the end: %q, %v", rest, err)
			}
		})
	}
	wg.Wait()

	// The end of the proxy is the end of what it carries.
	open, err := net.Dial("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := io.WriteString(open, "x"); err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if _, err := io.ReadFull(open, one[:]); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := open.Read(one[:]); err == nil {
		t.Error("a connection outlived the proxy")
	}
}

func TestProxyPort(t *testing.T) {
	defer goleak.VerifyNone(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	_, err = listenProxy(port, nil)
	if !errors.Is(err, errPortTaken) || err.Error() != "port "+strconv.Itoa(port)+" is in use on this machine; choose another with --port, or 0 for a free one" {
		t.Errorf("a taken port: %v", err)
	}
	// Nothing of it stays open: ::1 is free again.
	if l, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(port))); err == nil {
		l.Close()
	} else if !strings.Contains(err.Error(), "assign requested address") {
		t.Errorf("::1 is still taken: %v", err)
	}
	var usage *node.UsageError
	if _, err := listenProxy(65536, nil); !errors.As(err, &usage) {
		t.Errorf("port 65536: %v", err)
	}
}

// A database that can't be reached ends the connection, is told, and the proxy goes on.
func TestProxyTellsWhatFails(t *testing.T) {
	defer goleak.VerifyNone(t)
	p, err := listenProxy(0, func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, served := make(chan error, 2), make(chan error, 1)
	go func() { served <- p.serve(ctx, func(err error) { told <- err }) }()
	for range 2 {
		conn, err := net.DialTimeout("tcp", p.addresses()[0], 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Error(err)
		}
		conn.Close()
		if err := <-told; err.Error() != "nobody there" {
			t.Errorf("told %v", err)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
