package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// redisServer is the yardstick: without persistence, as the mesh it is compared with.
type redisServer struct {
	cmd        *exec.Cmd
	dir        string
	host, port string
	version    string
}

func startRedis(ctx context.Context) (*redisServer, error) {
	version, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "respmesh-bench")
	if err != nil {
		return nil, err
	}
	s := &redisServer{dir: dir, host: "127.0.0.1", port: port}
	if fields := strings.Fields(string(version)); len(fields) > 2 {
		s.version = strings.TrimPrefix(fields[2], "v=")
	}
	s.cmd = exec.Command("redis-server", "--bind", s.host, "--port", port, "--save", "", "--dir", dir, "--loglevel", "warning")
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if conn, err := net.Dial("tcp", net.JoinHostPort(s.host, port)); err == nil {
			return s, conn.Close()
		}
		<-tick.C
	}
	s.stop()
	return nil, fmt.Errorf("redis-server doesn't answer")
}

func (s *redisServer) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}
