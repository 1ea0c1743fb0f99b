package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"respmesh/test/dev"
)

// server is a program that is measured: redis-server, or a proxy in front of it.
type server struct {
	cmd        *exec.Cmd
	dir        string
	host, port string
	version    string
}

func (s *server) address() string { return net.JoinHostPort(s.host, s.port) }

// startRedis starts the yardstick: without persistence, as the mesh it is compared with.
func startRedis(ctx context.Context) (*server, error) {
	return startServer(ctx, "redis-server", "--version", func(dir, port string) []string {
		return []string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", dir, "--loglevel", "warning"}
	})
}

// startTwemproxy starts Debian's nutcracker in front of a redis-server, with the settings of its own example.
func startTwemproxy(ctx context.Context, redis *server) (*server, error) {
	return startConfigured(ctx, "nutcracker", "--version", func(port string) string {
		return fmt.Sprintf("bench:\n  listen: 127.0.0.1:%s\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  server_connections: 1\n"+
			"  servers:\n   - %s:1\n", port, redis.address())
	}, func(dir, config string) []string {
		stats, err := freePort()
		if err != nil {
			stats = "0"
		}
		return []string{"-c", config, "-a", "127.0.0.1", "-s", stats, "-o", filepath.Join(dir, "log"), "-p", filepath.Join(dir, "pid")}
	})
}

// startHAProxy starts HAProxy in TCP mode in front of a redis-server.
func startHAProxy(ctx context.Context, redis *server) (*server, error) {
	return startConfigured(ctx, "haproxy", "-v", func(port string) string {
		return fmt.Sprintf("global\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n"+
			"listen bench\n  bind 127.0.0.1:%s\n  server redis %s\n", port, redis.address())
	}, func(_, config string) []string { return []string{"-q", "-db", "-f", config} })
}

func startConfigured(ctx context.Context, program, version string, config func(port string) string, args func(dir, config string) []string) (*server, error) {
	return startServer(ctx, program, version, func(dir, port string) []string {
		path := filepath.Join(dir, "config")
		if err := os.WriteFile(path, []byte(config(port)), 0o600); err != nil {
			return nil // the program says that it has no configuration
		}
		return args(dir, path)
	})
}

func freePort() (string, error) {
	port, err := dev.FreePort()
	return strconv.Itoa(port), err
}

// startServer runs a program and waits until it listens.
func startServer(ctx context.Context, program, versionFlag string, args func(dir, port string) []string) (*server, error) {
	path, err := look(program)
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, path, versionFlag).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "respmesh-bench")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, host: "127.0.0.1", port: port, version: versionOf(string(version))}
	s.cmd = exec.Command(path, args(dir, port)...)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if conn, err := net.Dial("tcp", s.address()); err == nil {
			return s, conn.Close()
		}
		<-tick.C
	}
	s.stop()
	return nil, fmt.Errorf("%s doesn't answer", program)
}

// look finds a program also where Debian puts those of administrators.
func look(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, e := exec.LookPath(filepath.Join(dir, program)); e == nil {
			return path, nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("install it: apt-get install %s", program))
}

// versionOf finds the first word with a digit and a dot in what a program says of itself.
func versionOf(text string) string {
	for _, f := range strings.Fields(text) {
		f = strings.TrimPrefix(f, "v=")
		if strings.Contains(f, ".") && strings.ContainsAny(f, "0123456789") {
			f, _, _ = strings.Cut(strings.TrimPrefix(f, "nutcracker-"), "-")
			return f
		}
	}
	return "?"
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}
