package redis

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// SuperviseOptions configure a [Server].
type SuperviseOptions struct {
	Dir    string // data, configuration and socket; made with 0700
	Binary string // empty: redis-server or valkey-server, as found on PATH
	Log    *slog.Logger

	Fsync     string        // of the append-only file: everysec (default), always, no; "off" keeps nothing on disk
	MaxMemory int64         // bytes; 0: no limit
	Eviction  string        // maxmemory-policy; empty: noeviction
	StopWait  time.Duration // how long the server may take to save and leave; default 10 s

	member *clusterMember // nil: the server is on its own
}

// Server is a redis-server or valkey-server that runs as a child process, on a Unix socket in its directory. It is started
// again when it ends by itself, after a time that doubles. It outlives this process by accident only: then the next one
// to supervise the directory stops it before it starts its own.
type Server struct {
	opt    SuperviseOptions
	socket string
	pass   string
	lock   *os.File // held by this process
	tmp    string   // of the socket, when Dir's path is too long for one
	cancel context.CancelFunc
	wg     sync.WaitGroup
	close  func() error
}

const (
	restartMin  = 100 * time.Millisecond
	restartMax  = 5 * time.Second
	longEnough  = 10 * time.Second // a server that ran for so long isn't failing to start
	socketLimit = 100              // of the 104 or 108 bytes that a socket's path may have
)

// Supervise starts a server and returns once it answers.
func Supervise(ctx context.Context, opt SuperviseOptions) (*Server, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	def(&opt.StopWait, 10*time.Second)
	def(&opt.Fsync, "everysec")
	var err error
	if opt.Binary, err = findServer(opt.Binary); err != nil {
		return nil, err
	}
	s := &Server{opt: opt}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.cleanUp())
	}
	first := make(chan error, 1)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.close = sync.OnceValue(func() error {
		cancel()
		s.wg.Wait()
		return s.cleanUp()
	})
	s.wg.Go(func() { s.run(run, first) })
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL is for [Options]. It holds the password: it isn't for people.
func (s *Server) URL() string { return "unix://:" + url.QueryEscape(s.pass) + "@" + s.socket }

// Close stops the server: it saves what it has to, and if it doesn't in time it is killed.
func (s *Server) Close() error { return s.close() }

// Installed finds the server that Supervise would run: the path of its program, or ErrNotInstalled.
func Installed() (path string, err error) { return findServer("") }

func findServer(binary string) (string, error) {
	names := []string{"redis-server", "valkey-server"}
	if binary != "" {
		names = []string{binary}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	if binary != "" {
		return "", fmt.Errorf("%w: %s can't be run", ErrNotInstalled, binary)
	}
	return "", fmt.Errorf("%w; install one (apt install redis-server), attach a running one by its URL, or use the embedded engine", ErrNotInstalled)
}

// prepare makes the directory, sees to it that nobody else uses it, and writes the configuration.
func (s *Server) prepare() error {
	dir, err := filepath.Abs(s.opt.Dir)
	if err != nil {
		return err
	}
	s.opt.Dir = dir
	if strings.ContainsAny(dir, "\n\"'\\") {
		return fmt.Errorf("directory %q can't be written into the server's configuration", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = lockFile(filepath.Join(dir, "supervisor.lock")); err != nil {
		return fmt.Errorf("another process supervises %s: %w", dir, err)
	}
	if s.socket = filepath.Join(dir, "redis.sock"); len(s.socket) > socketLimit {
		if s.tmp, err = os.MkdirTemp("", "respmesh-"); err != nil {
			return err
		}
		s.socket = filepath.Join(s.tmp, "redis.sock")
	}
	if err := s.stopOrphan(); err != nil {
		return err
	}
	if s.pass = rand.Text(); s.opt.member != nil {
		s.pass = s.opt.member.pass
	}
	text, err := s.config()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "redis.conf"), []byte(text), 0o600)
}

// config is redis.conf. The password is here and nowhere else: arguments can be seen by everybody.
func (s *Server) config() (string, error) {
	var b strings.Builder
	set := func(name string, values ...string) { fmt.Fprintf(&b, "%s %s\n", name, strings.Join(values, " ")) }
	if m := s.opt.member; m != nil {
		m.config(set)
	} else {
		set("port", "0")
	}
	set("unixsocket", strconv.Quote(s.socket))
	set("unixsocketperm", "700")
	set("requirepass", s.pass)
	set("dir", strconv.Quote(s.opt.Dir))
	set("daemonize", "no")
	set("logfile", `""`)
	set("save", `""`)
	switch s.opt.Fsync {
	case "off":
		set("appendonly", "no")
	case "everysec", "always", "no":
		set("appendonly", "yes")
		set("appendfsync", s.opt.Fsync)
	default:
		return "", fmt.Errorf("fsync %q isn't known: everysec, always, no or off", s.opt.Fsync)
	}
	if s.opt.MaxMemory > 0 {
		set("maxmemory", strconv.FormatInt(s.opt.MaxMemory, 10))
	}
	if p := s.opt.Eviction; p != "" {
		if strings.ContainsFunc(p, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') }) {
			return "", fmt.Errorf("eviction policy %q isn't one", p)
		}
		set("maxmemory-policy", p)
	}
	set("repl-ping-replica-period", "1")
	set("repl-diskless-sync-delay", "0")
	set("repl-backlog-size", "16mb")
	return b.String(), nil
}

// run keeps a server running until ctx ends. first gets how the first start went.
func (s *Server) run(ctx context.Context, first chan<- error) {
	wait, started := restartMin, false
	up := func() {
		if !started {
			started = true
			first <- nil
		}
	}
	for {
		began := time.Now()
		err := s.child(ctx, up)
		if !started {
			first <- err
			return
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longEnough {
			wait = restartMin
		}
		s.opt.Log.Error("server has ended; it is started again", "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, restartMax)
	}
}

// child runs one server to its end, and says when it answers.
func (s *Server) child(ctx context.Context, started func()) error {
	held, err := lockFile(filepath.Join(s.opt.Dir, "server.lock"))
	if err != nil {
		return fmt.Errorf("another server uses %s: %w", s.opt.Dir, err)
	}
	_ = os.Remove(s.socket) // which is nobody's now
	out, in, err := os.Pipe()
	if err != nil {
		held.Close()
		return err
	}
	cmd := exec.Command(s.opt.Binary, filepath.Join(s.opt.Dir, "redis.conf"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.opt.Dir, in, in
	cmd.ExtraFiles = []*os.File{held}                     // so the lock lives as long as the server does
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's interrupt is for us
	err = cmd.Start()
	in.Close()
	held.Close()
	if err != nil {
		out.Close()
		return fmt.Errorf("start %s: %w", s.opt.Binary, err)
	}
	var last lastLines
	var logs sync.WaitGroup
	logs.Go(func() { defer out.Close(); s.relayLog(out, &last) })
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		logs.Wait()
		ended <- err
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for up := false; ; {
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended: %w; it said: %s", filepath.Base(s.opt.Binary), orExit(err), last.String())
		case <-ctx.Done():
			return s.stop(cmd, ended)
		case <-tick.C:
			if conn, err := net.Dial("unix", s.socket); err == nil && !up {
				conn.Close()
				up = true
				tick.Stop()
				s.opt.Log.Info("server runs", "binary", s.opt.Binary, "pid", cmd.Process.Pid, "dir", s.opt.Dir)
				started()
			}
		}
	}
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stop asks the server to leave, and kills it if it doesn't.
func (s *Server) stop(cmd *exec.Cmd, ended <-chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(s.opt.StopWait):
		s.opt.Log.Warn("server doesn't stop; it is killed", "pid", cmd.Process.Pid)
		_ = cmd.Process.Kill()
		<-ended
	}
	return nil
}

// stopOrphan stops the server that a supervisor, which is no more, has left behind.
func (s *Server) stopOrphan() error {
	deadline := time.Now().Add(s.opt.StopWait)
	for asked := false; ; {
		f, err := lockFile(filepath.Join(s.opt.Dir, "server.lock"))
		if err == nil {
			return f.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a server of an earlier process still uses %s and doesn't stop", s.opt.Dir)
		}
		if !asked {
			asked = s.shutdown() == nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// shutdown asks the server of an earlier process to stop, as its configuration tells how.
func (s *Server) shutdown() error {
	b, err := os.ReadFile(filepath.Join(s.opt.Dir, "redis.conf"))
	if err != nil {
		return err
	}
	var pass, socket string
	for l := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), " ")
		switch k {
		case "requirepass":
			pass = v
		case "unixsocket":
			socket, _ = strconv.Unquote(v)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := dialAddr(ctx, "unix", socket, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	r, _, err := greet(ctx, conn, greeting{pass: pass})
	if err != nil {
		return err
	}
	s.opt.Log.Warn("stopping the server that an earlier process left behind", "dir", s.opt.Dir)
	if _, err := askConn(ctx, conn, r, "SHUTDOWN"); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (s *Server) cleanUp() error {
	if s.tmp != "" {
		_ = os.RemoveAll(s.tmp)
	}
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// relayLog logs what the server says, which is at "warning" after a #.
func (s *Server) relayLog(out io.Reader, last *lastLines) {
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		last.add(sc.Text())
		level := slog.LevelDebug
		if strings.Contains(sc.Text(), " # ") {
			level = slog.LevelInfo
		}
		s.opt.Log.Log(context.Background(), level, "server says", "line", sc.Text())
	}
	_, _ = io.Copy(io.Discard, out)
}

// lastLines are for the error that tells why a server ended.
type lastLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *lastLines) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, s); len(l.lines) > 5 {
		l.lines = l.lines[1:]
	}
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, " | ")
}

// lockFile holds a file until it is closed, here and in the processes that inherited it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
