package dev

import (
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// RedisPassword is that of a RedisServer.
const RedisPassword = "s3cret"

// RedisServer runs a Redis of somebody else's: with a password, on a port of the loopback.
func RedisServer(t testing.TB, args ...string) (addr string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("NOT TESTED: redis-server is missing; run scripts/install-test-deps")
	}
	for range 5 { // another process may take the port first
		free, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(free)
		addr := net.JoinHostPort("127.0.0.1", port)
		cmd := exec.Command(path, append([]string{"--port", port, "--requirepass", RedisPassword, "--save", "", "--dir", t.TempDir(), "--bind", "127.0.0.1"}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		exited := make(chan struct{})
		go func() {
			defer close(exited)
			_ = cmd.Wait()
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-exited
		})
		if answers(addr, exited) {
			return addr
		}
	}
	t.Fatal("redis-server doesn't start")
	return ""
}

// answers waits until somebody listens, or the process that should has ended.
func answers(addr string, exited <-chan struct{}) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			select {
			case <-exited: // it is another's
				return false
			default:
				return true
			}
		}
		select {
		case <-tick.C:
		case <-exited:
			return false
		case <-late.C:
			return false
		}
	}
}
