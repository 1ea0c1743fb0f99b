package embedded

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"respmesh/resp/command"
)

var (
	randomSeed = flag.Uint64("seed", 0, "the seed of TestRandomCommands, 0: by the time")
	randomFor  = flag.Duration("random", time.Second, "how long TestRandomCommands runs")
)

// randomCommands are templates: K is a key, V a value, N a number, F a float, B a bit, O a small offset; a word in
// brackets may be left out, of words with | one is taken. "~" as in vectors.
var randomCommands = []string{
	"get K", "set K V", "set K V [nx|xx] [get] [keepttl]", "set K N ex 1000", "setnx K V", "getset K V", "getdel K", "getex K [persist]", "getex K ex 1000",
	"getrange K N N", "setrange K O V", "append K V", "strlen K", "mget K K K", "mset K V K V", "msetnx K V K V", "incr K", "decr K", "incrby K N", "decrby K N", "incrbyfloat K F",
	"lcs K K [len|idx] [withmatchlen]", "setbit K O B", "getbit K O", "bitcount K", "bitcount K N N [bit|byte]", "bitpos K B [N] [N] [bit]", "bitop and|or|xor K K K", "bitop not K K",
	"bitfield K [overflow] [sat|wrap|fail] incrby i5|u7|i64|u63 O N get u8|i3 O", "bitfield K set i8|u5|i64 O N", "bitfield_ro K get u8 O",
	"del K K", "exists K K", "touch K", "type K", "rename K K", "renamenx K K", "copy K K [replace]", "persist K", "expire K N [nx|xx|gt|lt]", "expire K 1000", "ttl K", "unlink K", "dbsize", "~ keys *", "~ keys *V*",
	"move K 1", "select 0|1", "swapdb 0 1", "multi", "exec", "discard", "watch K", "unwatch", "exec", "exec",
	"lpush K V V", "rpush K V", "lpop K", "llen K", "lrange K N N", "sadd K V V", "srem K V", "~ smembers K", "hset K V V", "hget K V", "hdel K V", "~ hgetall K", "hincrby K V N", "hlen K", "scard K", "lindex K N", "linsert K before|after V V", "lrem K N V", "lset K N V", "ltrim K N N",
	"sismember K V", "~ sinter K K", "~ sunion K K", "~ sdiff K K", "sinterstore K K K", "smove K K V", "hincrbyfloat K V F", "hstrlen K V", "hmget K V V", "hsetnx K V V", "lmove K K left|right left|right", "lpos K V [rank] [N]", "rpoplpush K K",
	"zadd K [nx|xx] [gt|lt] [ch] [incr] F V", "zadd K F V F V", "zincrby K F V", "zrem K V V", "zscore K V", "zmscore K V V", "zrank K V", "zrevrank K V", "zcard K", "zcount K F F", "zrange K N N [rev] [withscores]", "zrangebyscore K F F [withscores]",
	"zrangestore K K N N", "zunionstore K 2 K K", "zinterstore K 2 K K", "zdiffstore K 2 K K", "zpopmin K [N]", "zpopmax K", "zremrangebyrank K N N", "zremrangebyscore K F F", "zlexcount K - +", "sort K [alpha] [desc]", "sort K store K",
	"xadd K O-* V V", "xadd K [nomkstream] O-* V V", "xadd K maxlen [~] O O-* V V", "xadd K minid [~] O O-* V V V V", "xdel K O O", "xtrim K maxlen [~] O", "xlen K", "xrange K O O", "xrevrange K + -", "xread count 2 streams K O", "xgroup create K g O [mkstream]", "xgroup destroy K g", "xgroup setid K g O", "xgroup delconsumer K g x",
	"xreadgroup group g x|y count 3 [noack] streams K >", "xreadgroup group g x|y streams K >", "xreadgroup group g x streams K 0", "xack K g O-0 O-1", "xclaim K g x|y 0 O O-1 [force] [justid]", "xautoclaim K g x|y 0 O [justid]", "xpending K g", "xinfo stream K", "xinfo groups K", "xsetid K O",
	"pfadd K V V", "pfadd K N N", "pfcount K", "pfcount K K", "pfmerge K K K", "geoadd K 1.5 O V", "geoadd K O 7 V", "geosearch K fromlonlat 2 2 byradius 3000 km", "geosearchstore K K fromlonlat 2 2 bybox 3000 2000 km", "geodist K V V", "geopos K V", "geohash K V V",
}

// TestRandomCommands runs the same random commands here and on a real server.
func TestRandomCommands(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	for start := time.Now(); time.Since(start) < *randomFor && !t.Failed(); seed++ {
		randomRun(t, rand.New(rand.NewPCG(seed, 0)), seed)
	}
}

func randomRun(t *testing.T, rng *rand.Rand, seed uint64) {
	real := dialReal(t)
	defer real.Close()
	real.do(t, words(t, "flushall"))
	e := New(Options{HashSeed: seed})
	defer e.Close()
	ours := newConn(e)
	if rng.IntN(2) == 0 {
		real.do(t, words(t, "hello 3"))
		run(t, ours, "hello 3")
	}
	var history []string
	inMulti := false
	for range 300 {
		line := randomLine(rng)
		if (strings.HasPrefix(line, "lrem") || strings.HasPrefix(line, "lpos")) && strings.Contains(line, "-9223372036854775808") {
			continue
		}
		any := strings.HasPrefix(line, "~ ") || inMulti
		args := words(t, strings.TrimPrefix(line, "~ "))
		if name := string(args[0]); name == "multi" {
			inMulti = true
		} else if name == "discard" || name == "exec" {
			inMulti = false
		}
		if inMulti && strings.HasPrefix(line, "~ ") {
			continue
		}
		history = append(history, line)
		want := real.do(t, args)
		got := ours.Do(context.Background(), nil, []command.Request{request(args...)})
		if any {
			got, want = unordered(got), unordered(want)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("seed %d: %s\n got %.300q\nwant %.300q\nafter %q", seed, line, got, want, history)
			return
		}
	}
	if err := audit(e); err != nil {
		t.Errorf("seed %d: %v\nafter %q", seed, err, history)
	}
}

func randomLine(rng *rand.Rand) string {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	out := []string{}
	for _, w := range strings.Fields(pick(randomCommands...)) {
		if opt, ok := strings.CutPrefix(w, "["); ok {
			if rng.IntN(2) == 0 {
				continue
			}
			w = strings.TrimSuffix(opt, "]")
		}
		w = pick(strings.Split(w, "|")...)
		switch w {
		case "K":
			w = pick("a", "b", "c", "d")
		case "V":
			w = pick("x", "y", "foo", "10", "-3", "3.5", `""`, `"\xff\x00\r\n"`, "a b", strings.Repeat("long", 20), "9223372036854775807", fmt.Sprint(rng.IntN(1000)))
			if strings.Contains(w, " ") {
				w = `"` + w + `"`
			}
		case "N":
			w = pick("0", "1", "-1", "2", "-2", "5", "-7", "100", "9223372036854775807", "-9223372036854775808", "x", "1.0", fmt.Sprint(rng.IntN(50)))
		case "F":
			w = pick("0", "1.5", "-2.25", "1e5", "3.0e-7", "0.1", "x", "inf", "-1e17", "100")
		case "B":
			w = pick("0", "1", "1", "2")
		case "O":
			w = pick("0", "1", "7", "8", "31", "100", "-1", "x", "4294967296", fmt.Sprint(rng.IntN(200)))
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}
