package conformance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEnginePropagatesAsRedis compares what the two sides tell their replicas to do.
func TestEnginePropagatesAsRedis(t *testing.T) {
	want, got := startRedis(t), &engineTarget{stream: &recorder{}}
	t.Cleanup(got.close)
	if err := want.follow(); err != nil {
		t.Fatal(err)
	}
	compared := 0
	run := func(proto int) func([]step) (*mismatch, error) {
		return func(s []step) (*mismatch, error) { return compareStreams(want, got, proto, s, &compared) }
	}
	seen := map[string]bool{}
	for seed := range seeds(t, usualSequences/4, 0.25) {
		proto := 2 + int(seed%2)
		sequence := slices.DeleteFunc(newGenerator(seed).sequence(sequenceLength), func(s step) bool {
			return seen[strings.ToLower(s.args[0])] || strings.EqualFold(s.args[0], "client") // CLIENT KILL may end the replica
		})
		m, err := run(proto)(sequence)
		if m != nil && err == nil && !seen[m.signature] {
			seen[m.signature] = true
			sequence, m, err = shrink(run(proto), sequence, m)
			if err == nil {
				t.Error(describe(sequence, m, seed, proto))
			}
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(seen) >= maxFindings {
			break
		}
	}
	t.Logf("%d effects compared", compared)
}

// recorder is the sink of an engine.
type recorder struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *recorder) Append(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b.Write(p)
}

func (r *recorder) take() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.b.Reset()
	return bytes.Clone(r.b.Bytes())
}

// follow makes another connection a replica's, behind the snapshot.
func (r *redisTarget) follow() error {
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "SYNC\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSpace(line)
		if mark, ok := strings.CutPrefix(line, "$EOF:"); ok {
			var tail []byte
			for !bytes.HasSuffix(tail, []byte(mark)) {
				b, err := in.ReadByte()
				if err != nil {
					return err
				}
				tail = append(tail, b)
			}
			break
		}
		if n, ok := strings.CutPrefix(line, "$"); ok {
			size, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			if _, err := in.Discard(size); err != nil {
				return err
			}
			break
		}
	}
	// It is online once it has acknowledged something.
	if _, err := io.WriteString(c, "REPLCONF ACK 0\r\n"); err != nil {
		return err
	}
	r.replica, r.stream = c, in
	return nil
}

// longestTTL is the last of the times to live that the grammar makes.
const longestTTL = 9223372036854775

const streamMark = "mark-in-the-stream"

// effects reads what a replica is told up to the mark: each command with its database.
func effects(in *bufio.Reader) (out []string, err error) {
	db := "?"
	for {
		p, err := readReply(in)
		if err != nil {
			return out, err
		}
		var args []string
		for _, e := range p.elems {
			args = append(args, e.text)
		}
		switch name := strings.ToLower(args[0]); {
		case name == "publish" && args[1] == streamMark:
			return out, nil
		case name == "select":
			db = args[1]
			continue
		case name == "ping" || name == "replconf":
			continue
		case name == "bitfield" && strings.Contains(strings.ToLower(show(args)), "overflow fail"):
			continue // has the key grow even if all fails, of which redis-server's replicas aren't told, and ours are
		case name == "srem": // of SPOP, in the order of a table
			slices.Sort(args[2:])
		}
		for i, a := range args { // times, which differ
			if n, err := strconv.ParseInt(a, 10, 64); err == nil && i > 0 {
				ms := time.Now().UnixMilli()
				if n > ms-60_000 && n < ms+1_100_000_000 || n > ms+longestTTL-60_000 && n < ms+longestTTL+60_000 {
					args[i] = "TIME"
				}
			}
		}
		args[0] = strings.ToLower(args[0])
		out = append(out, db+"> "+show(args))
	}
}

// marked has a target end what it has told so far.
func marked(t target) error {
	_, err := t.do(0, []string{"PUBLISH", streamMark, "x"})
	return err
}

func (r *redisTarget) effects() ([]string, error) {
	_ = r.replica.SetDeadline(time.Now().Add(patience))
	return effects(r.stream)
}

func (e *engineTarget) effects() ([]string, error) {
	return effects(bufio.NewReader(bytes.NewReader(e.stream.take())))
}

// compareStreams runs the sequence on both sides and compares what their replicas hear, and counts that.
func compareStreams(want *redisTarget, got *engineTarget, proto int, sequence []step, compared *int) (*mismatch, error) {
	if err := want.reset(proto); err != nil {
		return nil, err
	}
	if err := got.reset(proto); err != nil {
		return nil, err
	}
	if err := marked(want); err != nil {
		return nil, err
	}
	if _, err := want.effects(); err != nil {
		return nil, err
	}
	got.stream.take()
	end := []step{{1, []string{"DISCARD"}}, {0, []string{"DISCARD"}}}
	for _, s := range slices.Concat(sequence, end) {
		if _, err := want.do(s.conn, s.args); err != nil {
			return nil, fmt.Errorf("redis-server, %s: %w", show(s.args), err)
		}
		if _, err := got.do(s.conn, s.args); err != nil {
			return nil, fmt.Errorf("%s: %w", show(s.args), err)
		}
	}
	for _, side := range []target{want, got} {
		if err := marked(side); err != nil {
			return nil, err
		}
	}
	w, err := want.effects()
	if err != nil {
		return nil, err
	}
	g, err := got.effects()
	if err != nil {
		return nil, err
	}
	*compared += len(w)
	for i := range max(len(w), len(g)) {
		wants, gets := effectAt(w, i), effectAt(g, i)
		if wants != gets {
			name := func(s string) string { f := strings.Fields(s); return f[min(1, len(f)-1)] }
			return &mismatch{at: len(sequence), args: []string{"the", "stream"}, want: wants, got: gets,
				signature: "stream: " + name(wants) + " / " + name(gets)}, nil
		}
	}
	return nil, nil
}

func effectAt(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return "nothing more"
}
