package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"respmesh/test/dev"
)

func pointer[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// server is a redis-server.
type server struct {
	cmd  *exec.Cmd
	dir  string
	addr string
}

// startRedis runs one with more arguments than the usual ones.
func startRedis(ctx context.Context, args ...string) (*server, error) {
	free, err := dev.FreePort()
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(free)
	addr := net.JoinHostPort("127.0.0.1", port)
	dir, err := os.MkdirTemp("", "respmesh-bench")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, addr: addr}
	s.cmd = exec.Command("redis-server", append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", dir, "--loglevel", "warning"}, args...)...)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("install redis-server: %w", err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return s, conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.stop()
			return nil, ctx.Err()
		}
	}
	s.stop()
	return nil, errors.New("redis-server doesn't answer")
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// dialer connects to what is measured.
type dialer func(ctx context.Context) (*net.TCPConn, error)

func dialTCP(addr string) dialer {
	return func(ctx context.Context) (*net.TCPConn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return conn.(*net.TCPConn), nil
	}
}

// connect opens connections for a pace: sockets that only it uses.
func connect(ctx context.Context, dial dialer, n int) (fds []int, closeAll func(), err error) {
	closeAll = func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	for range n {
		fd, err := socket(ctx, dial)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		fds = append(fds, fd)
	}
	return fds, closeAll, nil
}

func socket(ctx context.Context, dial dialer) (int, error) {
	conn, err := dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	err2 := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) })
	return fd, errors.Join(err2, err)
}

// ask sends one command over a connection of its own; its reply must not be an error.
func ask(ctx context.Context, dial dialer, within time.Duration, args ...string) (string, error) {
	conn, err := dial(ctx)
	if err != nil {
		return "", err
	}
	c, err := dev.NewClient(conn, "")
	if err != nil {
		return "", err
	}
	defer c.Close()
	text, err := c.DoWithin(within, args...)
	if err != nil {
		return "", fmt.Errorf("%s: %w", args[0], err)
	}
	return text, nil
}

// fill writes the keys that are asked for.
func fill(ctx context.Context, dial dialer, keys int, value []byte) error {
	const batch = 256
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	failed := make(chan error, 1)
	go func() {
		want := []byte("+OK\r\n")
		got := make([]byte, len(want))
		for range keys {
			if _, err := io.ReadFull(r, got); err != nil || string(got) != string(want) {
				failed <- fmt.Errorf("SET answers %q: %w", got, err)
				conn.Close()
				return
			}
		}
		failed <- nil
	}()
	var out []byte
	for i := 0; i < keys; {
		out = out[:0]
		for range min(batch, keys-i) {
			out = appendSet(out, "key:", i, value)
			i++
		}
		if _, err := conn.Write(out); err != nil {
			conn.Close()
			return errors.Join(<-failed, err)
		}
	}
	return <-failed
}

// lowest gives a process the lowest priority, as if it had a host of its own.
func lowest(pid int) error {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, 19); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("setpriority: %w", err)
		}
	}
	return nil
}
