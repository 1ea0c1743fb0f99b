package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/dns"
)

// questions are what an app's resolver asks: mostly for the address, with the A that comes beside it.
func questions() []string {
	return []string{
		"demo.personal.internal AAAA", "demo.personal.internal A", "nearest.of.demo.personal.internal AAAA",
		"primary.demo.personal.internal AAAA", "regions.demo.personal.internal TXT", "none.personal.internal AAAA",
	}
}

// registry has one org with one database in three regions.
func registry() (*netconf.Registry, error) {
	r := netconf.NewRegistry()
	err := r.Update(func(d *netconf.Draft) error {
		for _, region := range []string{"mad", "ams", "nrt"} {
			key := sha256.Sum256([]byte(region))
			if _, err := d.AddNode(netconf.Node{Name: region, Region: region, Key: base64.StdEncoding.EncodeToString(key[:])}); err != nil {
				return err
			}
		}
		if _, err := d.AddOrg("personal"); err != nil {
			return err
		}
		_, err := d.AddDatabase(netconf.Database{Org: "personal", Name: "demo", Primary: "mad", Replicas: []string{"ams", "nrt"}})
		return err
	})
	return r, err
}

// serve is the resolver on loopback; every asker there is of the one org. It prints its port, and ends with its input.
func serve(in io.Reader, out io.Writer) error {
	r, err := registry()
	if err != nil {
		return err
	}
	s, err := dns.New(dns.Options{
		Source: r, Region: "mad", Regional: true, PerSecond: -1,
		OrgOf: func(t *netconf.Topology, _ netip.Addr) (netconf.Org, bool) { return t.Org("personal") },
		RTT:   func(string) (time.Duration, bool) { return time.Millisecond, true },
	})
	if err != nil {
		return err
	}
	defer s.Close()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, pc.LocalAddr().(*net.UDPAddr).Port); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- s.ServePacket(pc) }()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, in)
	}()
	select {
	case err := <-failed:
		return err
	case <-ended:
		return nil
	}
}

func startOwn(ctx context.Context) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", "0", self, "-serve")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // ends with us
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the resolver didn't start: %w", err)
	}
	return &server{"respmesh", strings.TrimSpace(port), cmd}, nil
}

const unboundConf = `server:
  interface: 127.0.0.1@%[1]s
  access-control: 127.0.0.0/8 allow
  num-threads: 1
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "%[2]s"
  pidfile: "%[2]s/unbound.pid"
  use-syslog: no
  logfile: "%[2]s/unbound.log"
  module-config: "iterator"
  local-zone: "internal." static
  local-data: "internal. 5 IN SOA ns.internal. hostmaster.internal. 1 3600 600 86400 5"
  local-data: "demo.personal.internal. 5 IN AAAA fd00:a:a:0:1::1"
  local-data: "nearest.of.demo.personal.internal. 5 IN AAAA fd00:a:a:0:2:1:0:1"
  local-data: "primary.demo.personal.internal. 5 IN AAAA fd00:a:a:0:2:1:0:1"
  local-data: 'regions.demo.personal.internal. 5 IN TXT "mad,ams,nrt"'
remote-control:
  control-enable: no
`

func startUnbound(ctx context.Context, dir string) (*server, error) {
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(free.LocalAddr().String())
	if err := free.Close(); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, unboundConf, port, dir), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", "0", "unbound", "-d", "-c", conf)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{"unbound", port, cmd}
	r := net.Dialer{Timeout: time.Second}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := r.DialContext(ctx, "tcp", "127.0.0.1:"+port)
		if err == nil {
			return s, c.Close()
		}
		if time.Now().After(deadline) {
			s.stop()
			return nil, fmt.Errorf("unbound didn't start: %w", err)
		}
	}
}
