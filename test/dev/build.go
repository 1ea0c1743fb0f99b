package dev

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Race says whether the program under test has the race detector in it, which makes it several times slower.
const Race = raceEnabled

// RaceOptions is an environment variable for programs with the race detector: it changes their exit status, and they don't wait a
// second at their end for goroutines that may find something yet.
const RaceOptions = "GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=0"

// Builder builds the program once and keeps it until Remove. The zero value works: it builds with the race detector if the
// test has it.
type Builder struct {
	Plain bool // never with the race detector: for what is measured

	once sync.Once
	dir  string
	path string
	err  error
}

// Path is the program's path. RESPMESH_BINARY names a program to use instead of building one.
func (b *Builder) Path(ctx context.Context) (string, error) {
	b.once.Do(func() {
		if b.path = os.Getenv("RESPMESH_BINARY"); b.path != "" {
			b.path, b.err = filepath.Abs(b.path)
			return
		}
		b.path, b.err = b.build(ctx)
	})
	return b.path, b.err
}

func (b *Builder) build(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "respmesh-build")
	if err != nil {
		return "", err
	}
	b.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // a test runs the program as somebody else
		return "", err
	}
	path := filepath.Join(dir, "respmesh")
	args := []string{"build", "-o", path}
	if Race && !b.Plain {
		args = append(args, "-race")
	}
	root, err := Root(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/respmesh")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// Remove deletes what was built.
func (b *Builder) Remove() error {
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}

// Root is the repository's top folder.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
