package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"respmesh/resp/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T) DevOptions {
	return DevOptions{
		Regions: []string{"mad", "ams", "nrt"}, Org: "personal", Name: "demo", WAN: "none",
		Listen: []string{"127.0.0.1"}, Data: t.TempDir(), Version: "test",
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func startDev(t *testing.T, o DevOptions) *Dev {
	t.Helper()
	d, err := StartDev(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDev(t, d) })
	return d
}

func closeDev(t *testing.T, d *Dev) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// do sends one command to a region and gives the reply's text.
func do(t *testing.T, d *Dev, region int, args ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", d.addrs[region])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		t.Fatal(err)
	}
	var reply frame.Reply
	if err := frame.NewReader(conn).ReadReply(&reply); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(reply.Text())
}

func TestDevForwardsAndReads(t *testing.T) {
	d := startDev(t, options(t))
	for region := range 3 {
		key := "key:" + d.opts.Regions[region]
		if got := do(t, d, region, "SET", key, "v"); got != "OK" {
			t.Fatalf("SET in %s: %s", d.opts.Regions[region], got)
		}
		if got := do(t, d, region, "GET", key); got != "v" {
			t.Errorf("own write isn't seen in %s: %q", d.opts.Regions[region], got)
		}
	}
	info := do(t, d, 2, "INFO", "replication")
	for _, line := range []string{"role:master\r\n", "respmesh_copy:replica\r\n", "respmesh_link_status:up\r\n"} {
		if !strings.Contains(info, line) {
			t.Errorf("INFO replication in nrt lacks %q:\n%s", line, info)
		}
	}
	if got := do(t, d, 0, "DBSIZE"); got != "3" {
		t.Errorf("DBSIZE at the primary: %s", got)
	}
}

func TestDevKeepsDataAndAddressesOverARestart(t *testing.T) {
	o := options(t)
	first := startDev(t, o)
	do(t, first, 2, "SET", "k", "kept")
	before := first.Ready()
	closeDev(t, first)
	closeDev(t, first) // a second time does nothing

	second := startDev(t, o)
	if got := do(t, second, 1, "GET", "k"); got != "kept" {
		t.Errorf("after a restart: %q", got)
	}
	after := second.Ready()
	if before.Database != after.Database {
		t.Errorf("the database moved from %+v to %+v", before.Database, after.Database)
	}
	info, err := os.Stat(filepath.Join(o.Data, "mad", "wireguard.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
}

func TestDevRefusesOtherDatabasesData(t *testing.T) {
	o := options(t)
	closeDev(t, startDev(t, o))
	for name, change := range map[string]func(*DevOptions){
		"another primary":     func(o *DevOptions) { o.Primary = "nrt" },
		"without its region":  func(o *DevOptions) { o.Regions = []string{"ams", "nrt"} },
		"its region and name": func(o *DevOptions) { o.Regions, o.Name = []string{"ams", "nrt"}, "other" },
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			change(&o)
			d, err := StartDev(t.Context(), o)
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, %v", d, err)
			}
		})
	}
}

func TestDevRemovesTemporaryData(t *testing.T) {
	o := options(t)
	o.Data, o.Regions = "", []string{"mad"}
	t.Setenv("TMPDIR", t.TempDir())
	d := startDev(t, o)
	if _, err := os.Stat(d.data); err != nil {
		t.Fatal(err)
	}
	closeDev(t, d)
	if _, err := os.Stat(d.data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary data is still there: %v", err)
	}
}

func TestDevReleasesPortsWhenItCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := options(t)
	o.HTTP = taken.Addr().(*net.TCPAddr).Port
	_, err = StartDev(t.Context(), o)
	var usage *UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
}

func TestDevEndsWhenInterruptedWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := options(t)
	o.WAN = "world"
	if d, err := StartDev(ctx, o); err == nil {
		closeDev(t, d)
		t.Fatal("started although it was interrupted")
	}
}

func TestAdminIsForThisMachineOnly(t *testing.T) {
	d := startDev(t, options(t))
	for _, c := range []struct {
		method, path, host, origin string
		want                       int
	}{
		{"GET", "/healthz", "", "", http.StatusOK},
		{"GET", "/metrics", "localhost", "", http.StatusOK},
		{"GET", "/status.json", "evil.example", "", http.StatusForbidden},
		{"POST", "/wan/cut?region=nrt", "", "http://evil.example", http.StatusForbidden},
		{"POST", "/wan/cut?region=xyz", "", "", http.StatusBadRequest},
		{"GET", "/wan/cut?region=nrt", "", "", http.StatusNotFound},
		{"GET", "/wan", "", "", http.StatusOK},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, d.admin.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.host != "" {
			req.Host = c.host
		}
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s (Host %q, Origin %q): status %d, want %d", c.method, c.path, c.host, c.origin, resp.StatusCode, c.want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestDevReadsElsewhereWhenTheLocalStoreIsDead(t *testing.T) {
	o := options(t)
	o.WAN = "world" // nrt is nearer to ams than to mad
	d := startDev(t, o)
	do(t, d, 0, "SET", "k", "v")
	nrt := d.nodes[2].database("personal", "demo")
	readsFrom := func(node string) func() bool {
		return func() bool { return nrt.gateway.Status().ReadsFrom == node }
	}
	nrt.copy().synced.Store(false)
	eventually(t, "reads of nrt go to ams", readsFrom("ams-1"))
	if err := d.Healthy(); err == nil {
		t.Error("healthy although a store is dead")
	}
	if got := do(t, d, 2, "GET", "k"); got != "v" {
		t.Errorf("GET in nrt: %q", got)
	}
	nrt.copy().synced.Store(true)
	eventually(t, "reads of nrt come home", readsFrom("nrt-1"))
}

func TestDevTakesABrokenReplicaOutOfRouting(t *testing.T) {
	o := options(t)
	d := startDev(t, o)
	do(t, d, 0, "SET", "k", "v")
	mad := d.nodes[0].database("personal", "demo")
	mad.copy().log.Append(frame.AppendCommandString(nil, "NOSUCHCOMMAND", "k"))
	nrt := d.nodes[2].database("personal", "demo")
	eventually(t, "reads of nrt go to the primary", func() bool { return nrt.gateway.Status().ReadsFrom == "mad-1" })
	if state := nrt.copy().State(); state.Usable || !strings.Contains(state.Reason, "broken") {
		t.Errorf("state of a broken replica: %+v", state)
	}
	do(t, d, 2, "SET", "k", "w")
	if got := do(t, d, 2, "GET", "k"); got != "w" {
		t.Errorf("GET in nrt: %q", got)
	}
}

func TestDevEndsWhenTheAdminPortFails(t *testing.T) {
	o := options(t)
	o.Regions = []string{"mad"}
	d := startDev(t, o)
	d.admin.listeners[0].Close()
	if err := d.Wait(t.Context()); err == nil {
		t.Fatal("the failure isn't reported")
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		closeDev(t, d)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close hangs after a listener failed")
	}
}
