package aof_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/resp/command"
	"respmesh/store/aof"
)

// The variables by which the test binary knows that it is the process to be killed.
const (
	childDir    = "RESPMESH_AOF_CHILD_DIR"
	childPolicy = "RESPMESH_AOF_CHILD_POLICY"
	killRounds  = "RESPMESH_KILL_ROUNDS" // how often to kill; 20 without
)

const writers = 4

// child writes as fast as it can, says on standard output what was acknowledged, and never ends by itself.
func child() int {
	policy, err := aof.ParsePolicy(os.Getenv(childPolicy))
	if err == nil {
		var d *db
		if d, err = openDB(aof.Options{Dir: os.Getenv(childDir), Policy: policy, RewriteMinSize: 64 << 10}); err == nil {
			err = d.writeForEver()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func (d *db) writeForEver() error {
	failed := make(chan error)
	go func() { // some deaths shall be in the middle of a rewrite
		for range time.Tick(50 * time.Millisecond) {
			if err := d.w.Rewrite(); err != nil {
				failed <- err
			}
		}
	}()
	fmt.Println("ready")
	for i := range writers {
		go func() {
			s, key := d.session(), fmt.Sprint("k", i)
			out, err := s.try("INCRBY", key, "0")
			n, _ := strconv.Atoi(strings.Trim(out, ":\r\n"))
			for err == nil {
				n++
				// Two effects in one unit: after the crash there are both or neither.
				for _, args := range [][]string{{"MULTI"}, {"INCR", key}, {"RPUSH", "list-" + key, fmt.Sprint(n)}, {"LTRIM", "list-" + key, "-100", "-1"}} {
					_ = s.c.Do(context.Background(), nil, []command.Request{request(args...)})
				}
				if _, err = s.try("EXEC"); err == nil {
					_, err = fmt.Printf("%d %d\n", i, n) // one write(2): the lines of the writers don't mix
				}
			}
			failed <- err
		}()
	}
	return <-failed
}

// TestKill kills a process with SIGKILL at random moments while it writes, and looks at what the next one finds. What
// was acknowledged must be there with every policy: it was with the kernel, which lives on.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: it starts many processes")
	}
	rounds := 20
	if s := os.Getenv(killRounds); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", killRounds, err)
		}
	}
	for _, policy := range []aof.Policy{aof.Always, aof.EverySec} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			dir, acked := t.TempDir(), [writers]int{}
			for round := range rounds / 2 {
				kill(t, dir, policy, &acked)
				check(t, aof.Options{Dir: dir, Policy: policy, Log: logger(t)}, &acked)
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
			}
			t.Logf("%d rounds, acknowledged %v", rounds/2, acked)
		})
	}
}

// kill runs a child for a while.
func kill(t *testing.T, dir string, policy aof.Policy, acked *[writers]int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childPolicy+"="+policy.String())
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	in := bufio.NewScanner(out)
	for in.Scan() {
		if in.Text() == "ready" {
			once.Do(func() {
				time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			})
			continue
		}
		var i, n int
		if _, err := fmt.Sscanf(in.Text(), "%d %d", &i, &n); err == nil {
			acked[i] = max(acked[i], n)
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

func check(t *testing.T, o aof.Options, acked *[writers]int) {
	t.Helper()
	d, err := openDB(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	s := d.session()
	for i := range acked {
		n, _ := strconv.Atoi(strings.Trim(s.do(t, fmt.Sprint("INCRBY k", i, " 0")), ":\r\n"))
		if n < acked[i] {
			t.Errorf("writer %d: %d was acknowledged, there is %d", i, acked[i], n)
		}
		if last := s.do(t, fmt.Sprint("LINDEX list-k", i, " -1")); n > 0 && !strings.HasSuffix(last, fmt.Sprintf("\n%d\r\n", n)) {
			t.Errorf("writer %d: half of a transaction: %d and %q", i, n, last)
		}
		acked[i] = n
	}
}
