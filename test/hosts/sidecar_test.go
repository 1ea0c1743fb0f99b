package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"respmesh/test/dev"
)

// sidecar starts one that the test ends.
func (m *Mesh) sidecar(t *testing.T, dir, token string, args ...string) *Sidecar {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), slower(30*time.Second))
	defer cancel()
	s, err := m.StartSidecar(ctx, dir, token, args...)
	if s != nil {
		t.Cleanup(func() {
			select {
			case <-s.exited:
			default:
				if err := s.Stop(slower(15 * time.Second)); err != nil {
					t.Error(err)
				}
			}
			if t.Failed() {
				t.Logf("log of the sidecar:\n%s", s.Log())
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func nobodyDir(t *testing.T) string {
	t.Helper()
	dir, err := NobodyDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (m *Mesh) orgToken(t *testing.T, org string) (id, secret string) {
	t.Helper()
	id, secret, err := m.OrgToken(t.Context(), org)
	if err != nil {
		t.Fatal(err)
	}
	return id, secret
}

// open connects to a port of the sidecar as an app does.
func open(addr, password string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c, err := dev.NewClient(conn, password)
	if err != nil {
		return nil, err
	}
	return &Client{c}, nil
}

// used is the node that the sidecar says it uses.
func (s *Sidecar) used(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(s.get(t, "/metrics")) {
		if rest, ok := strings.CutPrefix(line, `respmesh_sidecar_node_used{node="`); ok && strings.HasSuffix(line, " 1\n") {
			name, _, _ := strings.Cut(rest, `"`)
			return name
		}
	}
	return ""
}

func (s *Sidecar) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get(s.Ready.HTTP + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// uses waits until the sidecar uses a node.
func (s *Sidecar) uses(t *testing.T, node string, within time.Duration) {
	t.Helper()
	eventually(t, within, func() error {
		if now := s.used(t); now != node {
			return fmt.Errorf("the sidecar uses %q, want %s", now, node)
		}
		return nil
	})
}

// TestSidecar goes through what an app behind a sidecar sees: redis-cli, names, a node that dies and comes back, memory.
func TestSidecar(t *testing.T) {
	m := newMesh(t, "mad") // carries the control plane
	ams1, ams2 := m.join(t, "ams", "ams-1"), m.join(t, "ams", "ams-2")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	_, token := m.orgToken(t, "shop")
	dir := nobodyDir(t)
	s := m.sidecar(t, dir, token, "--database", "shop/cart=0", "--region", "ams", "--settle", "3s", "--dns", "127.0.0.1:0", "--name", "app")
	if s.Ready.Peer != "shop/app" || len(s.Ready.Databases) != 1 || len(s.Ready.Databases[0].Addresses) < 1 {
		t.Fatalf("%+v", s.Ready)
	}
	s.uses(t, "ams-1", slower(10*time.Second))
	for _, addr := range s.Ready.Databases[0].Addresses { // 127.0.0.1 and ::1
		host, port, _ := net.SplitHostPort(addr)
		cli := exec.CommandContext(t.Context(), "redis-cli", "-h", host, "-p", port, "SET", "k", "from "+host)
		cli.Env = append(os.Environ(), "REDISCLI_AUTH="+password)
		if out, err := cli.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "OK" {
			t.Errorf("redis-cli -h %s: %s, %v", host, out, err)
		}
	}
	addr := s.Ready.Databases[0].Addresses[0]
	t.Run("names", func(t *testing.T) { s.names(t) })
	t.Run("memory", func(t *testing.T) { s.memory(t, addr, password) })
	t.Run("failover", func(t *testing.T) {
		s.loses(t, ams1, addr, password)
		s.uses(t, "ams-2", slower(3*time.Second))
		s.loses(t, ams2, addr, password)
		s.uses(t, "mad-1", slower(3*time.Second))
		if got := s.get(t, "/healthz"); got != "ok\n" {
			t.Errorf("/healthz says %q", got)
		}
	})
	t.Run("back", func(t *testing.T) {
		stays, err := open(addr, password)
		if err != nil {
			t.Fatal(err)
		}
		defer stays.Close()
		for _, n := range []*Node{ams1, ams2} {
			if err := m.Start(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		eventually(t, slower(30*time.Second), func() error {
			if now := s.used(t); !strings.HasPrefix(now, "ams-") {
				return fmt.Errorf("the sidecar uses %s", now)
			}
			return nil
		})
		t.Logf("back in the region %v after its nodes were", time.Since(began).Round(10*time.Millisecond))
		if _, err := stays.Do("GET", "k"); err != nil {
			t.Errorf("a session was lost by coming back: %v", err)
		}
	})
	if err := s.Stop(slower(10 * time.Second)); err != nil {
		t.Error(err)
	}
	if out := m.cli(t, "wireguard", "list", "shop"); strings.Contains(out, "app") {
		t.Errorf("a sidecar without a data directory leaves its peer:\n%s", out)
	}
}

// loses kills the node in use under an idle session and a busy app.
func (s *Sidecar) loses(t *testing.T, n *Node, addr, password string) {
	t.Helper()
	idle, err := open(addr, password)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := idle.Do("GET", "k"); err != nil {
		t.Fatal(err)
	}
	n.Kill()
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		if err := idle.Conn.SetReadDeadline(time.Now().Add(slower(10 * time.Second))); err != nil {
			ended <- err
			return
		}
		_, err := idle.Conn.Read(make([]byte, 1))
		ended <- err
	}()
	eventually(t, slower(10*time.Second), func() error {
		c, err := open(addr, "")
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Conn.SetDeadline(time.Now().Add(slower(10 * time.Second))); err != nil {
			return err
		}
		_, err = c.Do("AUTH", password)
		if err == nil {
			_, err = c.Do("GET", "k")
		}
		return err
	})
	moved := time.Since(began)
	err = <-ended
	cut := time.Since(began)
	t.Logf("%s killed: commands are answered again after %v, the idle session ended after %v: %v", n.Name, moved.Round(time.Millisecond), cut.Round(time.Millisecond), err)
	if moved > slower(3*time.Second) {
		t.Errorf("commands were answered again after %v", moved)
	}
	if !errors.Is(err, syscall.ECONNRESET) || cut > slower(3*time.Second) {
		t.Errorf("the session ended after %v with %v, want a reset", cut, err)
	}
}

// memory opens a hundred sessions and uses them all.
func (s *Sidecar) memory(t *testing.T, addr, password string) {
	before, err := Memory(s.PID())
	if err != nil {
		t.Skip(err)
	}
	var all []*Client
	for i := range 100 {
		c, err := open(addr, password)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
		if _, err := c.Do("SET", fmt.Sprint("m:", i), strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	most := 0
	for range 20 {
		for i, c := range all {
			if _, err := c.Do("GET", fmt.Sprint("m:", i)); err != nil {
				t.Fatal(err)
			}
		}
		now, err := Memory(s.PID())
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, now)
	}
	t.Logf("resident: %.1f MiB before, at most %.1f MiB with 100 sessions", float64(before)/(1<<20), float64(most)/(1<<20))
	if most > 40<<20 && !dev.Race {
		t.Errorf("the sidecar takes %.1f MiB", float64(most)/(1<<20))
	}
}

// names asks the sidecar's resolver.
func (s *Sidecar) names(t *testing.T) {
	for _, q := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string // of the first answer
	}{
		{"cart.shop.internal.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"CART.shop.Internal.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"cart.shop.internal.", dns.TypeAAAA, dns.RcodeSuccess, "::1"},
		{"cart.shop.internal.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"_redis._tcp.cart.shop.internal.", dns.TypeSRV, dns.RcodeSuccess, "cart.shop.internal."},
		{"_tcp.cart.shop.internal.", dns.TypeA, dns.RcodeSuccess, ""},
		{"shop.internal.", dns.TypeA, dns.RcodeSuccess, ""},
		{"other.shop.internal.", dns.TypeA, dns.RcodeNameError, ""},
		{"cart.other.internal.", dns.TypeAAAA, dns.RcodeNameError, ""},
		{"example.org.", dns.TypeA, dns.RcodeRefused, ""},
	} {
		for _, proto := range []string{"udp", "tcp"} {
			m := new(dns.Msg).SetQuestion(q.name, q.kind)
			r, _, err := (&dns.Client{Net: proto}).ExchangeContext(t.Context(), m, s.Ready.DNS)
			if err != nil {
				t.Errorf("%s over %s: %v", q.name, proto, err)
				continue
			}
			got := ""
			if len(r.Answer) > 0 {
				f := strings.Fields(r.Answer[0].String())
				got = f[len(f)-1]
				if q.name != r.Answer[0].Header().Name {
					t.Errorf("%s is answered as %s", q.name, r.Answer[0].Header().Name)
				}
			}
			if r.Rcode != q.rcode || got != q.want {
				t.Errorf("%s %s over %s: %s %q, want %s %q", q.name, dns.TypeToString[q.kind], proto,
					dns.RcodeToString[r.Rcode], got, dns.RcodeToString[q.rcode], q.want)
			}
			if got == "" && r.Rcode != dns.RcodeRefused && (len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA) {
				t.Errorf("%s: no SOA with an empty answer", q.name)
			}
		}
	}
}

// TestSidecarWithoutAPI has two databases, and takes the control plane away: its token first, then the API itself.
func TestSidecarWithoutAPI(t *testing.T) {
	m := newMesh(t, "mad")
	m.join(t, "ams", "ams-1")
	m.cli(t, "orgs", "create", "shop")
	cart := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	users := m.create(t, "shop", "users", "--region", "ams", "--no-replicas")
	id, token := m.orgToken(t, "shop")
	dir := nobodyDir(t)
	args := []string{"--database", "cart=0", "--database", "users=0", "--data", dir + "/data", "--region", "ams"}
	s := m.sidecar(t, dir, token, args...)
	s.uses(t, "ams-1", slower(10*time.Second))
	both := func(s *Sidecar, command ...string) {
		t.Helper()
		for i, password := range []string{cart, users} {
			c, err := open(s.Ready.Databases[i].Addresses[0], password)
			if err != nil {
				t.Errorf("%s: %v", s.Ready.Databases[i].Database, err)
				continue
			}
			if _, err := c.Do(command...); err != nil {
				t.Errorf("%s: %v: %v", s.Ready.Databases[i].Database, command, err)
			}
			c.Close()
		}
	}
	both(s, "SET", "k", "v")
	eventually(t, slower(10*time.Second), func() error { return m.readsFrom(t, m.Node("ams-1"), "ams-1") })
	if _, err := open(s.Ready.Databases[0].Addresses[0], users); err == nil {
		t.Error("the password of one database opens another")
	}
	// A second sidecar on the same directory would take the first one's packets.
	if _, err := m.StartSidecar(t.Context(), dir, token, args...); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second sidecar: %v", err)
	}

	m.cli(t, "token", "revoke", id)
	eventually(t, slower(30*time.Second), func() error {
		if got := s.get(t, "/metrics"); !strings.Contains(got, "\nrespmesh_sidecar_api_up 0\n") {
			return errors.New("the sidecar hasn't noticed that its token is gone")
		}
		return nil
	})
	both(s, "GET", "k") // it is a peer still
	if err := s.Stop(slower(10 * time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := m.StartSidecar(t.Context(), dir, token, args...); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("a sidecar starts with a revoked token: %v", err)
	}

	m.Nodes[0].Kill() // with the API
	s = m.sidecar(t, dir, token, args...)
	s.uses(t, "ams-1", slower(10*time.Second))
	both(s, "GET", "k")
	if !strings.Contains(s.Log(), "the control API is away") {
		t.Errorf("the log doesn't say that the API is away:\n%s", s.Log())
	}
}

// TestSidecarRemoved removes a sidecar's peer: its sessions end, and so does the sidecar, which says why.
func TestSidecarRemoved(t *testing.T) {
	m := newMesh(t, "mad")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	_, token := m.orgToken(t, "shop")
	dir := nobodyDir(t)
	s := m.sidecar(t, dir, token, "--database", "cart=0", "--name", "app")
	s.uses(t, "mad-1", slower(10*time.Second))
	c, err := open(s.Ready.Databases[0].Addresses[0], password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m.cli(t, "wireguard", "remove", "shop", "app")
	began := time.Now()
	if err := c.Conn.SetReadDeadline(began.Add(slower(10 * time.Second))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the session goes on: %v", err)
	}
	t.Logf("the session ended after %v", time.Since(began).Round(time.Millisecond))
	select {
	case <-s.exited:
	case <-time.After(slower(30 * time.Second)):
		t.Fatal("the sidecar goes on")
	}
	if !strings.Contains(s.Log(), "the peer was removed") {
		t.Errorf("the sidecar says\n%s", s.Log())
	}
}
