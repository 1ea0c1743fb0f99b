package hosts

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"respmesh/test/dev"
)

// TestExternalEtcd keeps the control plane in a cluster that others run: Debian's etcd.
func TestExternalEtcd(t *testing.T) {
	binary, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("NOT TESTED: etcd is missing; run scripts/install-test-deps")
	}
	client, peer := "http://"+freeTCP(t), "http://"+freeTCP(t)
	etcd := exec.Command(binary, "--data-dir", t.TempDir(), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--logger", "zap")
	if err := etcd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = etcd.Process.Kill()
		_ = etcd.Wait() // killed
	})
	eventually(t, 10*time.Second, func() error {
		c, err := net.Dial("tcp", client[len("http://"):])
		if err == nil {
			err = c.Close()
		}
		return err
	})
	m := newMesh(t, "mad", "--etcd", client)
	ams := m.join(t, "ams", "ams-1", "--etcd", client, "--api-listen", "127.0.0.1:0")
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams")
	m.dial(t, ams, "shop", "cart", password).want(t, "OK", "SET", "k", "v")
	// Any node takes others in, also without the first one.
	m.Nodes[0].Kill()
	if _, err := m.JoinAt(t.Context(), ams, "nrt", "nrt-1", "--etcd", client); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context(), m.Nodes[0]); err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Nodes {
		if err := n.Stop(slower(15 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, slower(10*time.Second), func() error {
		c, err := m.Dial(t.Context(), ams, "shop", "cart", password)
		if err != nil {
			return err
		}
		defer c.Close()
		got, err := c.Do("GET", "k")
		if err != nil || got != "v" {
			return fmt.Errorf("GET: %q, %v", got, err)
		}
		return nil
	})
}

// freeTCP is an address on loopback that nobody listens on now.
func freeTCP(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := dev.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
