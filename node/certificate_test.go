package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
)

// logBuffer keeps what a node says.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serverOptions are those of a node on this host.
func serverOptions(t *testing.T, region string, life time.Duration) (ServerOptions, *logBuffer) {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := udp.LocalAddr().String()
	if err := udp.Close(); err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", region, log)
		}
	})
	return ServerOptions{
		Region: region, Data: t.TempDir(), WireGuard: netip.MustParseAddrPort(at), Endpoint: at, Tunnel: "userspace", Version: "test",
		API: "127.0.0.1:0", certificateLife: life, Log: slog.New(slog.NewTextHandler(log, nil)),
	}, log
}

func startServer(t *testing.T, o ServerOptions) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := StartServer(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopServer(t, s) })
	return s
}

func stopServer(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// within waits until there is no error.
func within(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for err := try(); err != nil; err = try() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		<-tick.C
	}
}

// Certificates of a few seconds: both sides go on with the next ones, and one that ended while nobody could renew it is
// renewed over the mesh.
func TestCertificatesAreRenewed(t *testing.T) {
	const life = 4 * time.Second
	ctx := t.Context()
	o, _ := serverOptions(t, "mad", life)
	o.Init = true
	first := startServer(t, o)
	admin, err := os.ReadFile(first.path(adminTokenName))
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(api.ClientOptions{URL: first.Ready().Public, Pin: first.Ready().Pin, Token: strings.TrimSpace(string(admin))})
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.CreateToken(ctx, api.TokenRequest{Scope: netconf.ScopeNode})
	client.Close()
	if err != nil {
		t.Fatal(err)
	}
	later, log := serverOptions(t, "ams", life)
	later.Join, later.Pin, later.Token = first.Ready().Public, first.Ready().Pin, token.Secret
	second := startServer(t, later)

	// The certificates of the start end, and new connections are made with the next ones.
	_, end := second.keys.validity(nodeCertName)
	within(t, time.Minute, func() error {
		for _, s := range []*Server{first, second} {
			if _, to := s.keys.validity(nodeCertName); !to.After(end.Add(life / 4)) {
				return fmt.Errorf("%s has a certificate until %s", s.opts.Name, to)
			}
		}
		if time.Now().Before(end.Add(time.Second)) {
			return errors.New("the first certificates haven't ended")
		}
		return nil
	})
	change := func(s *Server) error {
		_, err := s.control.registry.Update(ctx, "test", func(d *netconf.Draft) error {
			_, err := d.AddOrg(fmt.Sprintf("o%d", len(d.Orgs)))
			return err
		})
		return err
	}
	second.conns.drop(first.node.infra)
	within(t, time.Minute, func() error { return change(second) })
	if metric(t, second, "respmesh_certificate_renewals_total", "renewed") == 0 {
		t.Error("no renewal was counted")
	}

	// Nobody can renew it, it ends, and then somebody can.
	stopServer(t, first)
	within(t, time.Minute, func() error {
		if _, to := second.keys.validity(nodeCertName); !time.Now().After(to) {
			return fmt.Errorf("the certificate ends on %s", to)
		}
		if metric(t, second, "respmesh_certificate_renewals_total", "failed") == 0 {
			return errors.New("no failure was counted")
		}
		return nil
	})
	if !strings.Contains(log.String(), "isn't renewed yet") {
		t.Error("the failure wasn't logged")
	}
	o.Init = false
	first = startServer(t, o)
	within(t, time.Minute, func() error { return change(second) })

	const expiry = "respmesh_certificate_expiry_timestamp_seconds"
	ca, node := metric(t, second, expiry, "ca"), metric(t, second, expiry, "node")
	if left := time.Until(time.Unix(int64(ca), 0)); left < 19*365*24*time.Hour || node < float64(end.Unix()) {
		t.Errorf("the metrics say %f, %f", ca, node)
	}
}

// metric is the value of a series, found by one of its labels.
func metric(t *testing.T, s *Server, name, label string) float64 {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue() // one of them is there
				}
			}
		}
	}
	t.Fatalf("no series %s of %s", name, label)
	return 0
}

func TestRenewBackOff(t *testing.T) {
	const life = 90 * 24 * time.Hour
	for _, test := range []struct {
		failures    int
		ended       bool
		least, most time.Duration
	}{
		{1, false, 21 * time.Minute, 28 * time.Minute},
		{2, false, 43 * time.Minute, 55 * time.Minute},
		{1000, false, 18 * time.Hour, 23 * time.Hour},
		{1, true, time.Second, 1250 * time.Millisecond},
		{1000, true, time.Minute, 76 * time.Second},
	} {
		if got := renewBackOff(test.failures, life, test.ended); got < test.least || got > test.most {
			t.Errorf("after %d failures, ended %v: %v", test.failures, test.ended, got)
		}
	}
}
