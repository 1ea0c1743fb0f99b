package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/resp"

	"respmesh/store/aof"
	"respmesh/store/embedded"
)

// loadTime is how long a file takes to load.
type loadTime struct {
	name         string
	megabytes    float64
	theirs, ours []float64 // seconds
}

// loadTimes lets a redis-server write its files, and has it and us load them in turn.
func loadTimes(ctx context.Context, megabytes, size, repeats int) ([]loadTime, error) {
	dir, err := os.MkdirTemp("", "respmesh-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// "key:1234567" and its header take some 20 bytes beside the value in an RDB.
	files, err := writeFiles(ctx, dir, megabytes<<20/(size+20), size)
	if err != nil {
		return nil, fmt.Errorf("files to load: %w", err)
	}
	out := []loadTime{{name: "RDB", megabytes: files[0]}, {name: "AOF of commands", megabytes: files[1]}}
	for range repeats {
		for i, what := range []string{"rdb", "aof"} {
			theirs, err := redisLoad(ctx, dir, what)
			if err != nil {
				return nil, err
			}
			ours, err := ourLoad(ctx, dir, what)
			if err != nil {
				return nil, err
			}
			out[i].theirs, out[i].ours = append(out[i].theirs, theirs), append(out[i].ours, ours)
			fmt.Fprintf(os.Stderr, "load %s: redis-server %.2f s, respmesh %.2f s\n", what, theirs, ours)
		}
	}
	return out, nil
}

// writeFiles makes dump.rdb and appendonlydir and tells their megabytes.
func writeFiles(ctx context.Context, dir string, n, size int) (megabytes [2]float64, err error) {
	s, err := startServer(ctx, "redis-server", "--version", func(_, port string) []string {
		return []string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", dir, "--loglevel", "warning", "--enable-debug-command", "yes", "--rdbcompression", "no",
			"--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--appendfsync", "no"}
	})
	if err != nil {
		return megabytes, err
	}
	defer s.stop()
	conn, err := net.Dial("tcp", s.address())
	if err != nil {
		return megabytes, err
	}
	defer conn.Close()
	r := resp.NewReader(conn)
	patient := func(args ...any) error { // a call may take longer than call waits
		raw, err := resp.MultiBulkValue(args[0].(string), args[1:]...).MarshalRESP()
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
		if _, err := conn.Write(raw); err != nil {
			return err
		}
		v, _, err := r.ReadValue()
		if err == nil && v.Type() == resp.Error {
			err = v.Error()
		}
		return err
	}
	if err := patient("DEBUG", "POPULATE", n, "key", size); err != nil {
		return megabytes, err
	}
	if err := patient("SAVE"); err != nil {
		return megabytes, err
	}
	if err := patient("BGREWRITEAOF"); err != nil {
		return megabytes, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return megabytes, ctx.Err()
		}
		v, err := call(conn, r, "INFO", "persistence")
		if err != nil {
			return megabytes, err
		}
		text := v.String()
		done = strings.Contains(text, "aof_rewrite_in_progress:0") && strings.Contains(text, "aof_rewrite_scheduled:0")
	}
	for i, pattern := range []string{"dump.rdb", "appendonlydir/*.aof"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return megabytes, err
		}
		for _, name := range names {
			st, err := os.Stat(name)
			if err != nil {
				return megabytes, err
			}
			megabytes[i] += float64(st.Size()) / 1e6
		}
	}
	return megabytes, nil
}

// redisLoad starts a redis-server on the files and reads from its log how long it loaded.
func redisLoad(ctx context.Context, dir, what string) (float64, error) {
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	only := "no"
	if what == "aof" {
		only = "yes"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", dir, "--appendonly", only)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	loaded := regexp.MustCompile(`DB loaded from (?:disk|append only file): ([0-9.]+) seconds`)
	var log bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		log.Write(buf[:n])
		if m := loaded.FindSubmatch(log.Bytes()); m != nil {
			return strconv.ParseFloat(string(m[1]), 64)
		}
		if err != nil {
			return 0, fmt.Errorf("redis-server doesn't say how long it loaded: %w\n%s", err, log.Bytes())
		}
	}
}

// ourLoad has a process of its own load the files: this one's heap would count otherwise.
func ourLoad(ctx context.Context, dir, what string) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, self, "-load", what+":"+dir).Output()
	if err != nil {
		return 0, fmt.Errorf("load %s: %w", what, err)
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// loadChild is the process of ourLoad: it prints the seconds.
func loadChild(arg string) (err error) {
	what, dir, _ := strings.Cut(arg, ":")
	var begun time.Time
	if what == "aof" {
		w, err := aof.Open(aof.Options{Dir: dir, RewritePercent: -1})
		if err != nil {
			return err
		}
		e := embedded.New(embedded.Options{Replica: true})
		begun = time.Now()
		_, err = w.Load(e)
		if err = errors.Join(err, w.Close(), e.Close()); err != nil {
			return err
		}
		_, err = fmt.Println(time.Since(begun).Seconds())
		return err
	}
	f, err := os.Open(filepath.Join(dir, "dump.rdb"))
	if err != nil {
		return err
	}
	defer f.Close()
	e := embedded.New(embedded.Options{Replica: true})
	begun = time.Now()
	if err := errors.Join(e.Restore(f), e.Close()); err != nil {
		return err
	}
	_, err = fmt.Println(time.Since(begun).Seconds())
	return err
}
