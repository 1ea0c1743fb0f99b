package embedded

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// content describes databases 0 and 1 by commands alone, so that it can be asked of both engines.
func content(t *testing.T, do func(line string) frame.Reply) string {
	t.Helper()
	var all []string
	for db := range 2 {
		do(fmt.Sprint("select ", db))
		do("keys *").Each(func(k frame.Reply) bool {
			key := fmt.Sprintf("%q", k.Text())
			show := map[string]string{
				"string": "get", "list": "lrange %s 0 -1", "set": "smembers", "hash": "hgetall", "zset": "zrange %s 0 -1 withscores", "stream": "xrange %s - +",
			}
			typ := string(do("type " + key).Text())
			line := show[typ]
			if !strings.Contains(line, "%s") {
				line += " %s"
			}
			value := do(fmt.Sprintf(line, key)).Raw
			switch typ {
			case "stream":
				value = append(bytes.Clone(value), do("xpending "+key+" g").Raw...)
			case "set":
				value = unordered(value)
			case "hash":
				var pairs []string
				field := ""
				frame.Reply{Raw: value}.Each(func(r frame.Reply) bool {
					if field == "" {
						field = string(r.Raw)
						return true
					}
					pairs, field = append(pairs, field+string(r.Raw)), ""
					return true
				})
				slices.Sort(pairs)
				value = []byte(strings.Join(pairs, ""))
			}
			all = append(all, fmt.Sprintf("%d %s %s %q %s", db, key, typ, value, do("pexpiretime "+key).Raw))
			return true
		})
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestReplication runs random commands on one engine, sends what it propagates to the other and compares the data, both ways.
func TestReplication(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	for range 5 {
		seed++
		for _, oursIsPrimary := range []bool{false, true} {
			replicate(t, seed, oursIsPrimary)
		}
	}
}

func replicate(t *testing.T, seed uint64, oursIsPrimary bool) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	real := dialReal(t)
	real.do(t, words(t, "flushall"))
	rec := &recorder{}
	e := New(Options{Sink: rec, Replica: !oursIsPrimary})
	defer e.Close()
	c := newConn(e)
	ours := func(args [][]byte) []byte {
		return c.Do(context.Background(), nil, []command.Request{request(args...)})
	}
	theirs := func(args [][]byte) []byte { return real.do(t, args) }
	lines := []string{"reset", "spop a", "spop b 2", "lmpop 1 a left count 2", "zmpop 1 b min", "sort a store b", "getex a exat 1", "flushdb"}
	var history []string
	primary, stream := ours, (*frame.Reader)(nil)
	if !oursIsPrimary {
		follower := dialReal(t)
		defer follower.Close()
		follower.follow(t)
		primary, stream = theirs, follower.r
	}
	for range 800 {
		line := strings.TrimPrefix(randomLine(rng), "~ ")
		if rng.IntN(40) == 0 {
			line = lines[rng.IntN(len(lines))]
		}
		history = append(history, line)
		primary(words(t, line))
	}
	const end = "end-of-test"
	primary(words(t, "reset"))
	primary(words(t, "publish "+end+" x"))
	if stream == nil {
		e.mu.Lock()
		stream = frame.NewReader(bytes.NewReader(bytes.Clone(rec.Bytes())))
		e.mu.Unlock()
	}
	for {
		var cmd frame.Command
		if err := stream.ReadCommand(&cmd); err != nil {
			t.Fatal(err)
		}
		if len(cmd.Args) > 1 && string(cmd.Args[1]) == end {
			break
		}
		if oursIsPrimary {
			if out := real.do(t, cmd.Args); out[0] == '-' {
				t.Fatalf("seed %d: %q: the server says %q", seed, cmd.Args, out)
			}
		} else if err := e.Apply([]command.Request{request(cmd.Args...)}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	ours([][]byte{[]byte("reset")})
	theirs([][]byte{[]byte("reset")})
	got := content(t, func(l string) frame.Reply { return frame.Reply{Raw: ours(words(t, l))} })
	want := content(t, func(l string) frame.Reply { return frame.Reply{Raw: theirs(words(t, l))} })
	if got != want {
		t.Fatalf("seed %d, primary ours %v:\n got %s\nwant %s\nafter %q", seed, oursIsPrimary, got, want, history)
	}
	if err := audit(e); err != nil {
		t.Fatal(err)
	}
}
