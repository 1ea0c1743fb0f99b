package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// bigKeys makes one key of each kind that a snapshot writes in parts, and some small ones.
func bigKeys(t testing.TB, c *Conn, n int) {
	filler := strings.Repeat("x", 40)
	for i := 0; i < n; i += 100 {
		var h, s, z, l strings.Builder
		for j := i; j < i+100; j++ {
			fmt.Fprintf(&h, " f%d %s%d", j, filler, j)
			fmt.Fprintf(&s, " %s%d", filler, j)
			fmt.Fprintf(&z, " %d %s%d", j%1000, filler, j)
			fmt.Fprintf(&l, " %s%d", filler, j)
		}
		run(t, c, "hset h"+h.String())
		run(t, c, "sadd s"+s.String())
		run(t, c, "zadd z"+z.String())
		run(t, c, "rpush l"+l.String())
	}
	for i := range n / 2 {
		run(t, c, fmt.Sprintf("xadd x %d-1 f %s%d", i+1, filler, i))
	}
	run(t, c, "xgroup create x g 0")
	run(t, c, "xreadgroup group g me count 50 streams x >")
	for i := range 200 {
		run(t, c, fmt.Sprintf("rpush small%d a b c", i))
	}
}

// disturbBig changes them in a random way.
func disturbBig(t testing.TB, c *Conn, rng *rand.Rand, n int) {
	k := func() int { return rng.IntN(n + n/8) }
	x := strings.Repeat("x", 40)
	lines := []func() string{
		func() string { return fmt.Sprintf("hset h f%d new%d", k(), k()) },
		func() string { return fmt.Sprintf("hdel h f%d f%d", k(), k()) },
		func() string { return fmt.Sprintf("hincrby h n%d 1", k()%50) },
		func() string { return fmt.Sprintf("sadd s %s%d new%d", x, k(), k()) },
		func() string { return fmt.Sprintf("srem s %s%d", x, k()) },
		func() string { return "spop s 3" },
		func() string { return fmt.Sprintf("smove s s2 %s%d", x, k()) },
		func() string { return fmt.Sprintf("zadd z %d %s%d", k()%1000, x, k()) },
		func() string { return fmt.Sprintf("zincrby z %d %s%d", k()%7, x, k()) },
		func() string { return fmt.Sprintf("zrem z %s%d", x, k()) },
		func() string { return "zpopmin z 2" },
		func() string { return fmt.Sprintf("zremrangebyrank z %d %d", k()/2, k()/2) + "" },
		func() string { return "lpop l 3" },
		func() string { return "rpop l 200" },
		func() string { return fmt.Sprintf("lpush l a%d b", k()) },
		func() string { return fmt.Sprintf("rpush l %s a%d", strings.Repeat("y", 300), k()) },
		func() string {
			return fmt.Sprintf("lset l %d %s", rng.IntN(200)-100, strings.Repeat("z", rng.IntN(90)))
		},
		func() string { return fmt.Sprintf("linsert l before %s%d q", x, n/2+rng.IntN(20)) },
		func() string { return fmt.Sprintf("lrem l %d %s%d", rng.IntN(3)-1, x, k()) },
		func() string { return fmt.Sprintf("xadd x * f %d", k()) },
		func() string { return fmt.Sprintf("xdel x %d-1 %d-1", k()/2, k()/2) },
		func() string { return fmt.Sprintf("xack x g %d-1", rng.IntN(60)) },
		func() string { return "xreadgroup group g me count 3 streams x >" },
		func() string { return fmt.Sprintf("xtrim x minid %d", rng.IntN(n/16)) },
		func() string { return fmt.Sprintf("rpush small%d %d", k()%200, k()) },
		func() string { return fmt.Sprintf("del small%d", k()%200) },
		func() string { return fmt.Sprintf("rename small%d small%d", k()%200, k()%200) },
	}
	rare := []string{"rename h h2", "rename h2 h", "del z", "copy s s3 replace", "set l gone", "move x 2", "expire s 1000", "flushdb", "swapdb 0 2"}
	for range 300 {
		run(t, c, lines[rng.IntN(len(lines))]())
	}
	if rng.IntN(4) == 0 {
		run(t, c, rare[rng.IntN(len(rare))])
	}
}

// What a snapshot says of big keys is what they were when it began, whatever is done to them meanwhile.
func TestSnapshotOfBigKeys(t *testing.T) {
	const n = 12_000
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 5))
		e := newEngine(t, Options{HashSeed: seed})
		c := newConn(e)
		bigKeys(t, c, n)
		for range 2 {
			before := ordered(dump(e))
			writes := 0
			var buf bytes.Buffer
			if err := e.Snapshot(&slowWriter{&buf, func() { writes++; disturbBig(t, c, rng, n) }}, nil); err != nil {
				t.Fatal(err)
			}
			if writes < 10 {
				t.Errorf("the snapshot came in %d pieces", writes)
			}
			copied := newEngine(t, Options{HashSeed: 7})
			if err := copied.Restore(bytes.NewReader(buf.Bytes())); err != nil {
				t.Fatal(err)
			}
			after := ordered(dump(copied))
			for k, v := range before {
				if after[k] != v {
					t.Errorf("seed %d: %s: got %.200q (%d bytes), want %.200q (%d bytes)", seed, k, after[k], len(after[k]), v, len(v))
				}
			}
			if len(after) != len(before) {
				t.Errorf("seed %d: %d keys, want %d", seed, len(after), len(before))
			}
			if err := errors.Join(audit(e), audit(copied)); err != nil {
				t.Error(err)
			}
			for _, key := range []string{"h", "s", "z", "l", "x"} { // whole again for the next one
				run(t, c, "del "+key)
			}
			bigKeys(t, c, n)
		}
	}
}

// ordered sorts what of a dump has no order of its own: the elements of sets and hashes.
func ordered(dump map[string]string) map[string]string {
	for k, v := range dump {
		if f := strings.Fields(v); f[0] == "set" || f[0] == "hash" {
			f[2], f[len(f)-2] = strings.TrimPrefix(f[2], "["), strings.TrimSuffix(f[len(f)-2], "]")
			if f[0] == "set" {
				slices.Sort(f)
				dump[k] = strings.Join(f, " ")
				continue
			}
			var pairs []string
			for i := 2; i+1 < len(f)-1; i += 2 {
				pairs = append(pairs, f[i]+" "+f[i+1])
			}
			slices.Sort(pairs)
			dump[k] = f[0] + f[1] + strings.Join(pairs, " ") + f[len(f)-1]
		}
	}
	return dump
}

// Long strings are written in pieces, as they were, whatever changes them meanwhile.
func TestSnapshotOfBigStrings(t *testing.T) {
	x := strings.Repeat("x", 70_000)
	for i, change := range []string{
		"setbit big 7 1", "setbit big 5600000 1", "setrange big 10 " + x, "append big " + x, "bitfield big set u8 #9 5",
		"set big " + strings.Repeat("y", 680_000), "set big 1", "del big", "flushall", "swapdb 0 1",
		"append big z|setbit big 7 1", "rename big other|setrange other 10 " + x, "copy big other|setbit other 7 1|setbit big 7 1",
		"copy other big replace", "rename other big|setbit big 7 1", "move big 3|select 3|setbit big 9 1", "getdel big", "expire big 1000|setbit big 7 1",
	} {
		e := newEngine(t, Options{HashSeed: uint64(i)})
		c := newConn(e)
		for _, key := range []string{"big", "other"} {
			run(t, c, "setrange "+key+" 690000 "+key)
		}
		run(t, c, "set small 1")
		before := dump(e)
		rest := strings.Split(change, "|")
		pieces := 0
		var buf bytes.Buffer
		err := e.Snapshot(&slowWriter{&buf, func() {
			if pieces++; pieces > 1 && len(rest) > 0 {
				run(t, c, rest[0])
				rest = rest[1:]
			}
		}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if pieces < 5 || len(rest) > 0 {
			t.Errorf("%.40s: the snapshot came in %d pieces", change, pieces)
		}
		copied := newEngine(t, Options{HashSeed: 7})
		if err := copied.Restore(&buf); err != nil {
			t.Fatal(err)
		}
		if after := dump(copied); !maps.Equal(before, after) {
			t.Errorf("%.40s: the snapshot isn't of the moment when it began", change)
		}
		if err := errors.Join(audit(e), audit(copied)); err != nil {
			t.Error(err)
		}
	}
}
