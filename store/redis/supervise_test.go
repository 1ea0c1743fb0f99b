package redis_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"respmesh/store/redis"
)

func supervise(t *testing.T, opt redis.SuperviseOptions) (*redis.Server, *redis.Engine, *session) {
	t.Helper()
	lookServer(t)
	s, err := redis.Supervise(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	e := open(t, redis.Options{URL: s.URL(), Region: "mad"})
	return s, e, newSession(t, e)
}

// field reads one of INFO through a session.
func (s *session) field(name string) string {
	_, rest, _ := strings.Cut(s.do("INFO"), "\n"+name+":")
	v, _, _ := strings.Cut(rest, "\r\n")
	return v
}

func TestSupervise(t *testing.T) {
	out := &output{}
	log := slog.New(slog.NewTextHandler(out, nil))
	dir := filepath.Join(t.TempDir(), "data")
	opt := redis.SuperviseOptions{Dir: dir, Fsync: "always", MaxMemory: 100 << 20, Eviction: "allkeys-lru", Log: log}
	srv, _, s := supervise(t, opt)
	s.want("SET k v", "+OK\r\n")
	s.want("CONFIG GET maxmemory", "*2\r\n$9\r\nmaxmemory\r\n$9\r\n104857600\r\n")
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "redis.conf"): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	pid, _ := strconv.Atoi(s.field("process_id"))
	secret, _, _ := strings.Cut(strings.TrimPrefix(srv.URL(), "unix://:"), "@")
	args, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err == nil && strings.Contains(string(args), secret) {
		t.Error("the password is among the arguments")
	}

	if _, err := redis.Supervise(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "another process supervises") {
		t.Errorf("twice: %v", err)
	}

	_ = syscall.Kill(pid, syscall.SIGKILL)
	until(t, "it is started again", func() bool { return s.do("GET k") == "$1\r\nv\r\n" })
	s.want("SET k w", "+OK\r\n")
	for range 2 {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := s.do("GET k"); got != down {
		t.Errorf("%q", got)
	}
	_, e, s := supervise(t, opt)
	until(t, "the server has loaded its data", func() bool { return e.State().Usable })
	s.want("GET k", "$1\r\nw\r\n")
	if strings.Contains(out.String(), secret) {
		t.Error("the password is in the log")
	}
}

// The server of a supervisor that was killed is stopped before another starts on its data.
func TestSuperviseAfterACrash(t *testing.T) {
	dir := t.TempDir()
	srv, _, s := supervise(t, redis.SuperviseOptions{Dir: dir})
	s.want("SET k v", "+OK\r\n")
	pid := s.field("process_id")
	other := filepath.Join(t.TempDir(), "same") // what the crash leaves: the server runs, and nobody holds the supervisor's lock
	if err := os.Symlink(dir, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "supervisor.lock")); err != nil {
		t.Fatal(err)
	}
	// The first supervisor would start its own again: it waits, since the lock is held by the new one.
	_, e, s := supervise(t, redis.SuperviseOptions{Dir: other})
	until(t, "the server has loaded its data", func() bool { return e.State().Usable })
	s.want("GET k", "$1\r\nv\r\n")
	if now := s.field("process_id"); now == pid {
		t.Error("it is the same server")
	}
	_ = srv.Close()
	s.want("GET k", "$1\r\nv\r\n")
}

func TestSuperviseWhatIsntThere(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := redis.Supervise(t.Context(), redis.SuperviseOptions{Dir: t.TempDir()})
	if !errors.Is(err, redis.ErrNotInstalled) || !strings.Contains(err.Error(), "apt install redis-server") {
		t.Error(err)
	}
	_, err = redis.Supervise(t.Context(), redis.SuperviseOptions{Dir: t.TempDir(), Binary: "/nosuch/server"})
	if !errors.Is(err, redis.ErrNotInstalled) {
		t.Error(err)
	}
}

func TestSuperviseWhatDoesntStart(t *testing.T) {
	lookServer(t)
	_, err := redis.Supervise(t.Context(), redis.SuperviseOptions{Dir: t.TempDir(), Eviction: "no-such-policy"})
	if err == nil || !strings.Contains(err.Error(), "maxmemory-policy") {
		t.Error(err)
	}
	_, err = redis.Supervise(t.Context(), redis.SuperviseOptions{Dir: t.TempDir(), Fsync: "sometimes"})
	if err == nil || !strings.Contains(err.Error(), `fsync "sometimes"`) {
		t.Error(err)
	}
}
