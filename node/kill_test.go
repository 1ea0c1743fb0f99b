package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"respmesh/resp/frame"
	"respmesh/store/aof"
)

// copyEnv makes the test binary a process with one copy, in the directory that it names.
const copyEnv = "RESPMESH_TEST_COPY"

// killsEnv is how many kills there shall be; 20 unless it is set.
const killsEnv = "RESPMESH_TEST_KILLS"

// TestCopyProcess isn't a test, but the process that TestKilledPrimaryLosesNothing kills. It takes lines from stdin:
//
//	lead TERM, follow ADDRESS, standing
//	load FROM      sets key after key from several connections, and says "ack N" for each that is acknowledged
//	missing N…     says which of the keys aren't there
func TestCopyProcess(t *testing.T) {
	dir := os.Getenv(copyEnv)
	if dir == "" {
		t.Skip("only as a process of its own")
	}
	s, err := openStore(context.Background(), storeOptions{data: dir, fsync: aof.EverySec, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.setQuorum(1, map[netip.Addr]bool{netip.MustParseAddr("127.0.0.1"): true})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = s.primary.ServeConn(context.Background(), conn, frame.NewReader(conn)) }()
		}
	}()
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(os.Stdout, "> "+format+"\n", args...)
	}
	say("%s", ln.Addr())
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch words[0] {
		case "lead":
			term, _ := strconv.ParseInt(words[1], 10, 64)
			say("lead %v", s.lead(context.Background(), term))
		case "follow":
			err := s.follow(context.Background(), func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", words[1])
			}, nil, words[1])
			for {
				changed := s.replica().Changed() // before the question, so that none is missed
				if s.online() {
					break
				}
				<-changed
			}
			say("follow %v", err)
		case "standing":
			st := s.standing()
			say("standing %d %d", st.Term, st.Offset)
		case "load":
			from, _ := strconv.Atoi(words[1])
			for i := range 4 {
				go func() {
					c := s.NewConn(nil)
					for n := from + i; ; n += 4 {
						if strings.HasSuffix(batch(c, fmt.Sprintf("SET k%d %d", n, n)), "+OK\r\n") {
							say("ack %d", n)
						}
					}
				}()
			}
		case "missing":
			c, lost := s.NewConn(nil), []string{}
			for _, n := range words[1:] {
				if !strings.HasSuffix(batch(c, "EXISTS k"+n), ":1\r\n") {
					lost = append(lost, n)
				}
			}
			say("missing %v", lost)
		}
	}
}

// copyProcess is such a process, seen from the test.
type copyProcess struct {
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
	addr  string
}

func startCopy(t *testing.T, dir string) *copyProcess {
	t.Helper()
	p := &copyProcess{t: t, dir: dir, cmd: exec.Command(os.Args[0], "-test.run=^TestCopyProcess$")}
	p.cmd.Env = append(os.Environ(), copyEnv+"="+dir)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	p.out.Buffer(nil, 16<<20)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.addr = p.line("")
	return p
}

// line reads up to a line with a beginning, and gives the rest of that.
func (p *copyProcess) line(begins string) string {
	p.t.Helper()
	for p.out.Scan() {
		if said, ok := strings.CutPrefix(p.out.Text(), "> "+begins); ok {
			return strings.TrimSpace(said)
		}
	}
	p.t.Fatalf("the process has ended: %v", p.out.Err())
	return ""
}

func (p *copyProcess) tell(format string, args ...any) string {
	p.t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
	return p.line(strings.Fields(line)[0])
}

// kill ends the process as kill -9 does, and gives what it has acknowledged until then.
func (p *copyProcess) kill() (acked []string) {
	_ = p.cmd.Process.Kill()
	for p.out.Scan() {
		if n, ok := strings.CutPrefix(p.out.Text(), "> ack "); ok {
			acked = append(acked, n)
		}
	}
	_ = p.cmd.Wait()
	return acked
}

func (p *copyProcess) standing() (term, offset int64) {
	p.t.Helper()
	if _, err := fmt.Sscan(p.tell("standing"), &term, &offset); err != nil {
		p.t.Fatal(err)
	}
	return term, offset
}

// With min-replicas nothing that was acknowledged is lost by kills of the primary, of the replica, or of both at once.
func TestKilledPrimaryLosesNothing(t *testing.T) {
	kills := 20
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		kills = n
	}
	if testing.Short() {
		kills = 5
	}
	a, b := startCopy(t, t.TempDir()), startCopy(t, t.TempDir()) // a leads
	defer func() { a.kill(); b.kill() }()
	a.tell("lead 1")
	b.tell("follow %s", a.addr)
	var all []string
	for round := range kills {
		if _, err := fmt.Fprintf(a.stdin, "load %d\n", round*1_000_000); err != nil {
			t.Fatal(err)
		}
		var acked []string
		for range 10 + rand.IntN(200) {
			acked = append(acked, a.line("ack "))
		}
		both := round%3 == 2
		if both && rand.IntN(2) == 0 {
			b.kill()
		}
		acked = append(acked, a.kill()...)
		if both {
			b.kill()
			b = startCopy(t, b.dir)
		}
		a, b = b, startCopy(t, a.dir)
		if both { // who is further leads
			at, ao := a.standing()
			bt, bo := b.standing()
			if bt > at || bt == at && bo > ao {
				a, b = b, a
			}
		}
		if got := a.tell("lead %d", round+2); got != "<nil>" {
			t.Fatalf("round %d: lead: %s", round, got)
		}
		all = append(all, acked...)
		if lost := a.tell("missing %s", strings.Join(acked, " ")); lost != "[]" {
			t.Fatalf("round %d (both: %v): of %d acknowledged writes are lost: %s", round, both, len(acked), lost)
		}
		b.tell("follow %s", a.addr)
	}
	if lost := a.tell("missing %s", strings.Join(all, " ")); lost != "[]" {
		t.Errorf("of %d acknowledged writes are lost: %s", len(all), lost)
	}
	t.Logf("%d acknowledged writes, %d kills", len(all), kills)
}
