package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"respmesh/test/dev"
)

// host is a mesh in network and mount namespaces of its own: what it does to routes and to the resolver's settings stays
// there.
type host struct {
	t *testing.T
	*dev.Process
}

func startHost(t *testing.T, args ...string) host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: network namespaces and --tun take root")
	}
	tool(t, "ip")
	tool(t, "nsenter")
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("# the test's own\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := launch(t, dev.Options{
		Args:    append([]string{"--regions", "mad,ams"}, args...),
		Prefix:  []string{"sh", "-ec", `mount --make-rprivate / && mount --bind "$RESOLV" /etc/resolv.conf && ip link set lo up && exec "$@"`, "sh"},
		Env:     []string{"RESOLV=" + resolv},
		SysProc: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS},
	})
	if err != nil && strings.Contains(err.Error(), "operation not permitted") {
		t.Skipf("NOT TESTED: no network namespaces here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := p.Stop(os.Interrupt, stopLimit); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(resolv); err != nil || string(got) != "# the test's own\n" {
			t.Errorf("resolv.conf afterwards: %q, %v", got, err)
		}
	})
	return host{t, p}
}

// run runs a command inside the namespaces.
func (h host) run(args ...string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	argv := append([]string{"-t", strconv.Itoa(h.PID()), "-n", "-m", "--"}, args...)
	out, err := exec.CommandContext(ctx, "nsenter", argv...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestThePrivateNetworkThroughATUNDevice(t *testing.T) {
	h := startHost(t, "--tun")
	addr, err := netip.ParseAddr(h.Database.Address)
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.PrefixFrom(addr, 48).Masked().Addr().As16()
	prefix[15] = 3
	resolver := netip.AddrFrom16(prefix)

	cli := func(host string, args ...string) string {
		out, err := h.run(append([]string{"redis-cli", "-h", host}, args...)...)
		if err != nil {
			t.Errorf("redis-cli -h %s %v: %v", host, args, err)
		}
		return out
	}
	t.Run("by address", func(t *testing.T) {
		if got := cli(h.Database.Address, "set", "k", "v"); got != "OK" {
			t.Errorf("set: %q", got)
		}
		if got := cli(h.Database.Address, "get", "k"); got != "v" {
			t.Errorf("get: %q", got)
		}
	})
	t.Run("by name", func(t *testing.T) {
		settings, err := h.run("cat", "/etc/resolv.conf")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(settings, resolver.String()) {
			t.Errorf("the resolver %v isn't in resolv.conf: %q", resolver, settings)
		}
		for _, name := range []string{"demo.personal.internal", "primary.demo.personal.internal", "ams.demo.personal.internal", "nearest.of.demo.personal.internal"} {
			if got := cli(name, "get", "k"); got != "v" {
				t.Errorf("get at %s: %q", name, got)
			}
		}
		if out, err := h.run("getent", "ahostsv6", "nosuch.personal.internal"); err == nil {
			t.Errorf("nosuch.personal.internal resolves to %q", out)
		}
	})
	t.Run("nothing else is reachable", func(t *testing.T) {
		for _, port := range []string{"7379", "22", "80"} {
			out, err := h.run("timeout", "1", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", h.Database.Address, port))
			if err == nil {
				t.Errorf("port %s of the private address answers: %s", port, out)
			}
		}
	})
}

func TestThePrivateNetworkIsClosedWithoutIt(t *testing.T) {
	h := startHost(t)
	if out, err := h.run("timeout", "2", "redis-cli", "-h", h.Database.Address, "ping"); err == nil || strings.Contains(out, "PONG") {
		t.Errorf("the private address answers without --tun: %q", out)
	}
	if out, err := h.run("getent", "ahostsv6", h.Database.DNS); err == nil {
		t.Errorf("%s resolves without --tun: %q", h.Database.DNS, out)
	}
	if out, err := h.run("redis-cli", "-p", h.Region("mad").Port(), "ping"); err != nil || out != "PONG" {
		t.Errorf("the local port answers %q, %v", out, err)
	}
}

func TestATUNDeviceWithoutPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: becoming somebody else takes root")
	}
	cmd := exec.Command(program(t), "dev", "--tun", "--port", "0", "--http", "0", "--wan", "none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	var out dev.Output
	cmd.Stdout, cmd.Stderr = &out, &out
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	if err == nil || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "--tun") {
		t.Errorf("%v: %q: want one line about --tun", err, out.String())
	}
}
