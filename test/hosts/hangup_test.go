package hosts

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHangup changes a node's settings file and sends the signal: the log's level and the API's listener change, wrong settings change
// nothing, and no client notices, not even one that waits.
func TestHangup(t *testing.T) {
	m := newMesh(t, "mad")
	config := filepath.Join(t.TempDir(), "settings")
	first, second := freeTCP(t), freeTCP(t)
	write := func(level, api string) {
		t.Helper()
		if err := os.WriteFile(config, fmt.Appendf(nil, "log-level = %s\napi-listen = %s\n", level, api), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("warn", first)
	n := m.join(t, "mad", "mad-2", "--config", config)
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--no-replicas")
	asks, waits := m.dial(t, n, "shop", "cart", password), m.dial(t, n, "shop", "cart", password)
	asks.want(t, "OK", "SET", "k", "v")
	got := make(chan string, 1)
	go func() {
		v, err := waits.Values("BLPOP", "queue", "0")
		got <- fmt.Sprint(v, err)
	}()
	answers(t, first, true)

	write("noise", second)
	m.signal(t, n, syscall.SIGHUP)
	eventually(t, slower(5*time.Second), func() error { return logged(n, "settings were not reloaded") })
	answers(t, first, true)

	write("info", second)
	m.signal(t, n, syscall.SIGHUP)
	eventually(t, slower(5*time.Second), func() error { return logged(n, `level=INFO msg="settings were reloaded"`) })
	answers(t, second, true)
	answers(t, first, false)

	asks.want(t, "v", "GET", "k")
	asks.want(t, "1", "RPUSH", "queue", "item")
	if v := <-got; v != "[queue item] <nil>" {
		t.Error("who waited got", v)
	}
}

func logged(n *Node, what string) error {
	if !strings.Contains(n.Log(), what) {
		return fmt.Errorf("the log of %s doesn't say %q", n.Name, what)
	}
	return nil
}

// answers wants somebody, or nobody, to take TLS connections at an address.
func answers(t *testing.T, addr string, want bool) {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: slower(5 * time.Second)}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		c.Close()
	}
	if (err == nil) != want {
		t.Errorf("%s answers: %v, want %v: %v", addr, err == nil, want, err)
	}
}
