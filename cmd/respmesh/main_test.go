package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"respmesh": main})
}

// TestScripts runs the command as a user would: each script has its exact output, errors and exit status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command takes a second to end
			return serveFake(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "like": like, "breaks": breaks, "mode": mode},
	})
}

// exits runs `exits STATUS COMMAND ARG…` and compares the exit status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND ARG…")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		state, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = string(rune('0' + state.ExitCode()))
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// like compares the output, "stdout" or "stderr", with a file in which <ANYTHING> stands for what is different each time.
func like(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: like stdout|stderr FILE")
	}
	got, want := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	var pattern strings.Builder
	rest := want
	for {
		before, after, found := strings.Cut(rest, "<")
		pattern.WriteString(regexp.QuoteMeta(before))
		if !found {
			break
		}
		_, rest, _ = strings.Cut(after, ">")
		pattern.WriteString(".+?")
	}
	if !regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(got) {
		ts.Fatalf("%s is\n%s\nwant\n%s", args[0], got, want)
	}
}

// mode checks a file's permissions: `mode 0600 FILE`.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode MODE FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}
