package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"respmesh/netconf"
)

// TestMain looks for goroutines that are left. Those of etcd's server that read from another member end when its time limit
// for a read is over, some seconds after the member was closed (timeoutConn in etcd's client/pkg/transport).
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		var left error
		for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); {
			if left = goleak.Find(); left == nil { // itself waits for a while
				break
			}
		}
		if left != nil {
			fmt.Fprintf(os.Stderr, "goroutines are left: %v\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

const debianEtcd = "/usr/bin/etcd"

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// server is an etcd that can be killed and started again at the same place.
type server struct {
	network, addr string // where its clients connect
	endpoint      string
	stop          func() // as hard as it can
	start         func()
	freeze        func(bool) // without a word to anybody; nil: it can't be
}

// onServers runs a test against an embedded member and against Debian's etcd.
func onServers(t *testing.T, test func(t *testing.T, s *server)) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, startEmbedded(t))
	})
	t.Run("debian", func(t *testing.T) {
		t.Parallel()
		test(t, startDebian(t))
	})
}

func startEmbedded(t *testing.T) *server {
	t.Helper()
	s := &server{network: "unix"}
	dir := filepath.Join(t.TempDir(), "etcd")
	var m *Member
	s.start = func() {
		t.Helper()
		var err error
		if m, err = StartMember(t.Context(), MemberOptions{Dir: dir, Temporary: true, Log: testLog(t)}); err != nil {
			t.Fatal(err)
		}
		s.endpoint = m.Endpoints()[0]
		u, err := url.Parse(s.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		s.addr = u.Path
	}
	s.stop = func() { _ = m.Close() }
	s.start()
	t.Cleanup(s.stop)
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startDebian(t *testing.T) *server {
	t.Helper()
	if _, err := os.Stat(debianEtcd); err != nil {
		t.Skipf("NOT TESTED against an external etcd: no %s (package etcd-server)", debianEtcd)
	}
	s := &server{network: "tcp", addr: freePort(t)}
	s.endpoint = "http://" + s.addr
	dir, peer := t.TempDir(), "http://"+freePort(t)
	var cmd *exec.Cmd
	var out bytes.Buffer
	s.start = func() {
		t.Helper()
		cmd = exec.Command(debianEtcd, "--data-dir", dir, "--listen-client-urls", s.endpoint, "--advertise-client-urls", s.endpoint,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c := s.client(t, nil)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := c.Get(ctx, "x"); err != nil {
			t.Fatalf("%s doesn't answer: %v\n%s", debianEtcd, err, &out)
		}
	}
	s.stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	s.freeze = func(freeze bool) {
		sig := syscall.SIGCONT
		if freeze {
			sig = syscall.SIGSTOP
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

// client makes a client, through a cable if there is one. The caller closes it, or the test does.
func (s *server) client(t *testing.T, c *cable) *clientv3.Client {
	t.Helper()
	o := ClientOptions{Endpoints: []string{s.endpoint}}
	if c != nil {
		c.network, c.addr = s.network, s.addr
		o.Dial = c.dial
	}
	client, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// registry opens a registry that the test closes.
func (s *server) registry(t *testing.T, o Options) *Registry {
	t.Helper()
	if o.Client == nil {
		o.Client = s.client(t, nil)
	}
	if o.TTL == 0 {
		o.TTL = 2 * time.Second // the shortest that etcd gives
	}
	o.Log = testLog(t)
	r, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// cable is a network connection that can be cut.
type cable struct {
	network, addr string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, _ string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.New("the cable is cut")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, c.network, c.addr)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if cut {
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.conns = nil
	}
}

// patience is how long a test waits for what has to come: far longer than it takes, also on a machine that is busy.
const patience = time.Minute

// until waits for a topology.
func until(t *testing.T, r *Registry, what string, is func(*netconf.Topology) bool) *netconf.Topology {
	t.Helper()
	limit := time.After(patience)
	for {
		topology, changed := r.Current()
		if is(topology) {
			return topology
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("no topology with %s; at revision %d", what, topology.Revision)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func key(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(h[:])
}

func hash(secret string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(secret))) }

// fillMesh makes an org with two nodes and a database.
func fillMesh(t *testing.T, r *Registry) netconf.Database {
	t.Helper()
	if err := r.Init(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	var db netconf.Database
	update(t, r, func(d *netconf.Draft) error {
		for _, n := range []netconf.Node{{Name: "mad-1", Region: "mad"}, {Name: "mad-2", Region: "mad"}, {Name: "ams-1", Region: "ams"}} {
			n.Key = key(n.Name)
			if _, err := d.AddNode(n); err != nil {
				return err
			}
		}
		if _, err := d.AddOrg("acme"); err != nil {
			return err
		}
		var err error
		db, err = d.AddDatabase(netconf.Database{Org: "acme", Name: "cart", Primary: "mad", Replicas: []string{"ams"},
			PasswordHash: hash("hunter2"), Created: time.Now(), Near: 50 * time.Millisecond})
		return err
	})
	return db
}

func update(t *testing.T, r *Registry, change func(*netconf.Draft) error) uint64 {
	t.Helper()
	rev, err := r.Update(t.Context(), "test", change)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func addOrg(name string) func(*netconf.Draft) error {
	return func(d *netconf.Draft) error {
		_, err := d.AddOrg(name)
		return err
	}
}

func hasOrg(name string) func(*netconf.Topology) bool {
	return func(t *netconf.Topology) bool {
		_, ok := t.Org(name)
		return ok
	}
}
