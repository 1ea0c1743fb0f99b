package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"respmesh/test/dev"
)

func TestReadyInTime(t *testing.T) {
	p := startPlain(t, "--regions", "mad,ams,nrt")
	t.Logf("ready after %v", p.Startup)
	if p.Startup > 3*time.Second {
		t.Errorf("ready after %v", p.Startup)
	}
	if strings.Count(p.Stdout(), "\n") != 1 {
		t.Errorf("--json prints more than a line: %q", p.Stdout())
	}
	db := p.Database
	if db.Org != "personal" || db.Name != "demo" || db.DNS != "demo.personal.internal" || !strings.Contains(db.URL, db.Address) {
		t.Errorf("database: %+v", db)
	}
	if ip := net.ParseIP(db.Address); ip == nil || ip[0] != 0xfd {
		t.Errorf("the address %s isn't a private IPv6 address", db.Address)
	}
	for i, r := range p.Regions {
		want := []string{"primary", "replica", "replica"}[i]
		if r.Code != []string{"mad", "ams", "nrt"}[i] || r.Role != want {
			t.Errorf("region %d is %s, %s", i, r.Code, r.Role)
		}
	}
	if nrt := p.Region("nrt").RTT; nrt < 100 || nrt > 400 {
		t.Errorf("the round trip from nrt to mad is %v ms", nrt)
	}
	for _, path := range []string{"/healthz", "/metrics", "/status.json", "/"} {
		if body, err := p.Get(context.Background(), path); err != nil || len(body) == 0 {
			t.Errorf("%s: %d bytes, %v", path, len(body), err)
		}
	}
	// The same port answers on both loopback addresses.
	for _, host := range []string{"127.0.0.1", "::1"} {
		r := p.Region("ams")
		r.RESP = net.JoinHostPort(host, r.Port())
		connect(t, r).want("PONG", "PING")
	}
}

func TestPeopleAreToldHowToConnect(t *testing.T) {
	ports := consecutivePorts(t, 2)
	temp := t.TempDir()
	cmd := exec.Command(program(t), "dev", "--regions", "mad,ams", "--port", strconv.Itoa(ports), "--http", "0")
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	out := &dev.Output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	eventually(t, slower(10*time.Second), func() error {
		if !strings.Contains(out.String(), "Ctrl-C") {
			return fmt.Errorf("it prints %q", out)
		}
		return nil
	})
	for _, want := range []string{"REGION", "mad", "ams", "primary", "replica", "redis-cli -p " + strconv.Itoa(ports), "demo.personal.internal", "http://"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output says nothing of %q:\n%s", want, out)
		}
	}
	r := dev.Region{RESP: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports+1))} // --port and the next ones
	if got, _ := cli(t, r, "ping"); got != "PONG" {
		t.Errorf("redis-cli -p %d ping: %q", ports+1, got)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
}

// consecutivePorts finds a port that is free together with the next ones on both loopback addresses, below those that
// connections get.
func consecutivePorts(t *testing.T, n int) int {
	t.Helper()
search:
	for range 100 {
		first := 20000 + rand.IntN(10000)
		for i := range n {
			for _, host := range []string{"::1", "127.0.0.1"} {
				l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(first+i)))
				if err != nil {
					continue search
				}
				_ = l.Close()
			}
		}
		return first
	}
	t.Fatal("no free ports")
	return 0
}

func TestMistakesGetOneLineAndStatus2(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := strconv.Itoa(busy.Addr().(*net.TCPAddr).Port)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"unknown region":          {[]string{"--regions", "mad,xyz"}, "xyz"},
		"region given twice":      {[]string{"--regions", "mad,mad"}, "mad"},
		"no region":               {[]string{"--regions", ""}, "region"},
		"primary elsewhere":       {[]string{"--regions", "mad,ams", "--primary", "nrt"}, "nrt"},
		"replica elsewhere":       {[]string{"--regions", "mad,ams", "--replicas", "nrt"}, "nrt"},
		"unknown wan":             {[]string{"--wan", "moon"}, "moon"},
		"unknown flag":            {[]string{"--nosuch"}, "nosuch"},
		"argument":                {[]string{"nosuch"}, "nosuch"},
		"port no number":          {[]string{"--port", "http"}, "port"},
		"port out of range":       {[]string{"--port", "70000"}, "70000"},
		"bad name":                {[]string{"--name", "a b"}, "a b"},
		"bad org":                 {[]string{"--org", "-"}, "org"},
		"listen no address":       {[]string{"--listen", "nowhere.invalid"}, "nowhere.invalid"},
		"port that is taken":      {[]string{"--port", taken, "--http", "0"}, taken},
		"http port that is taken": {[]string{"--port", "0", "--http", taken, "--listen", "127.0.0.1"}, taken},
	} {
		t.Run(name, func(t *testing.T) {
			checkRefused(t, exec.Command(program(t), append([]string{"dev"}, c.args...)...), c.says)
		})
	}
	t.Run("unknown command", func(t *testing.T) {
		checkRefused(t, exec.Command(program(t), "nosuch"), "nosuch")
	})
}

// checkRefused runs a command that can't succeed: one line on standard error that names the reason, status 2, nothing
// left behind.
func checkRefused(t *testing.T, cmd *exec.Cmd, says string) {
	t.Helper()
	temp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	var stdout, stderr dev.Output
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("%v, want exit status 2", err)
	}
	if got := stderr.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, says) {
		t.Errorf("standard error %q: want one line about %q", got, says)
	}
	if stdout.String() != "" {
		t.Errorf("standard output %q", stdout.String())
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCtrlCEndsQuicklyWhateverClientsDo(t *testing.T) {
	for name, sig := range map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			p := startPlain(t, "--regions", "mad,ams,nrt")
			idle, blocked, sub, multi := connect(t, p.Region("mad")), connect(t, p.Region("nrt")), connect(t, p.Region("nrt")), connect(t, p.Region("ams"))
			idle.want("PONG", "PING")
			if err := blocked.write([]string{"BLPOP", "q", "0"}); err != nil {
				t.Fatal(err)
			}
			if err := sub.write([]string{"SUBSCRIBE", "c"}); err != nil {
				t.Fatal(err)
			}
			sub.expect(`["subscribe" "c" 1]`)
			multi.want("OK", "MULTI")
			multi.want("QUEUED", "SET", "k", "v")
			half := connect(t, p.Region("nrt"))
			if _, err := half.conn.Write([]byte("*3\r\n$3\r\nSET\r\n$1")); err != nil {
				t.Fatal(err)
			}
			took, err := p.Stop(sig, 5*time.Second)
			if err != nil {
				t.Error(err)
			}
			t.Logf("ended after %v", took)
			if took > 2*time.Second {
				t.Errorf("ended only after %v", took)
			}
		})
	}
}

func TestCtrlCWhileACutLasts(t *testing.T) {
	p := start(t, "--regions", "mad,nrt")
	c := connect(t, p.Region("nrt"))
	c.want("OK", "SET", key(t, "k"), "v")
	cut(t, p, "nrt")
	if err := c.write([]string{"SET", key(t, "k"), "w"}); err != nil {
		t.Fatal(err)
	}
	took, err := p.Stop(os.Interrupt, slower(5*time.Second))
	if err != nil || took > stopLimit {
		t.Errorf("ended after %v: %v", took, err)
	}
}

func TestDataStaysWhenADirectoryIsGiven(t *testing.T) {
	dir := t.TempDir()
	p, err := launch(t, dev.Options{Args: []string{"--regions", "mad,ams", "--wan", "none", "--data", dir}})
	if err != nil {
		t.Fatal(err)
	}
	connect(t, p.Region("ams")).want("OK", "SET", "k", "kept")
	if _, err := p.Stop(os.Interrupt, stopLimit); err != nil {
		t.Fatal(err)
	}
	again := start(t, "--regions", "mad,ams", "--wan", "none", "--data", dir)
	eventuallyGet(t, again.Region("ams"), 3*time.Second, "k", `"kept"`)
	if p.Database.Address != again.Database.Address {
		t.Errorf("the private address changed from %s to %s", p.Database.Address, again.Database.Address)
	}
}

func TestPassword(t *testing.T) {
	p, err := launch(t, dev.Options{Args: []string{"--regions", "mad,ams", "--wan", "none"}, Env: []string{"RESPMESH_PASSWORD=a secret"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := p.Stop(os.Interrupt, stopLimit); err != nil {
			t.Error(err)
		}
		if strings.Contains(p.Stderr()+p.Stdout(), "a secret") {
			t.Error("the password is printed")
		}
	}()
	for _, r := range p.Regions {
		c := connect(t, r)
		c.want("-NOAUTH Authentication required.", "GET", "k")
		c.want("-WRONGPASS invalid username-password pair or user is disabled.", "AUTH", "wrong")
		c.want("OK", "AUTH", "default", "a secret")
		c.want("OK", "SET", key(t, r.Code), "v")
		c.want(`"v"`, "GET", key(t, r.Code))
		c.want("RESET", "RESET")
		c.want("-NOAUTH Authentication required.", "GET", "k")
	}
}

func TestTheAdminPortKnowsOnlyItsPages(t *testing.T) {
	p := world(t)
	resp, err := http.Get(p.Admin + "/nosuch")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("/nosuch: %s", resp.Status)
	}
	if _, err := p.Get(context.Background(), "/wan/cut?region=nrt"); err == nil {
		t.Error("a GET cuts the WAN")
	}
	if _, err := p.Post(context.Background(), "/wan/cut?region=xyz"); err == nil {
		t.Error("an unknown region can be cut")
	}
}
