package embedded

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestStreamEntries(t *testing.T) {
	vectors(t,
		"xadd s 1-1 a b", "xadd s 1-1 a b", "xadd s 0-0 a b", "xadd s 1 a b", "xadd s 1-* c d", "xadd s 2-* c d e f", "xadd s 1-* c d", "xadd s 3 a", "xadd s 3 a b c", "xadd s abc a b", "xadd s - a b", "xadd s + a b", "xadd s -1 a b",
		"xadd s 3- a b", "xadd s 3-x a b", "xadd s 03-02 a b", "xadd s \" 4-5\" a b", "xadd s +5-+6 a b", "xadd s 6--7 a b", "xadd s 7-* \"\" \"\" 12 -7", "xadd s 18446744073709551616-1 a b", "xadd s 1-18446744073709551616 a b", "xadd s nomkstream 9-1 x y", "xadd nokey nomkstream 9-1 x y",
		"xadd s \"8-1\\x00zzz\" a b", "xadd s 0-* a b", "xadd z 0-* a b", "xadd z 0-* a b", "xrange z - +",
		"xlen s", "xlen nokey", "xrange s - +", "xrevrange s + -", "xrange s 1 1", "xrange s (1-1 (7", "xrange s (1-1 +  count 2", "xrevrange s + - count 2", "xrange s - + count 0", "xrange s - + count -5", "xrange s - + count x", "xrange s - + limit 1", "xrange s - + count",
		"xrange s ( +", "xrange s (- +", "xrange s (+ +", "xrange s (18446744073709551615-18446744073709551615 +", "xrange s - (0-0", "xrange s 5 1", "xrange nokey - +", "xrevrange nokey + -", "xrange nokey - + count 0", "xrange s x +",
		"xdel s 1-1 1-1 99", "xdel s x 1-2", "xdel nokey 1", "xlen s", "xrange s - +", "xinfo stream s", "xdel s 1-2 9-1", "xinfo stream s", "xsetid s 5", "xsetid s 100-5", "xinfo stream s", "xsetid s 200 entriesadded 50 maxdeletedid 150-1", "xinfo stream s", "xsetid s 200 entriesadded 1", "xsetid s 200 entriesadded -1", "xsetid s 200 maxdeletedid 201", "xsetid s x", "xsetid nokey 1", "xsetid s 200 foo", "xsetid s 200 entriesadded",
		"xadd m 18446744073709551615-18446744073709551614 a b", "xadd m 18446744073709551615-* a b", "xadd m 18446744073709551615-* a b", "xadd m * a b", "xadd n 5-18446744073709551615 a b", "xadd n 5-* a b", "xinfo stream n",
		"set str v", "xadd str * a b", "xlen str", "xrange str - +", "xdel str 1", "xtrim str maxlen 1", "xsetid str 1", "xinfo stream str", "xinfo stream nokey", "xread streams str 0", "xinfo groups str",
		"type s", "object encoding s", "copy s t", "xinfo stream t", "xrange t - +", "rename t u", "xlen u", "xdel z 0-1 0-2", "xlen z", "exists z", "xinfo stream z", "xinfo stream z full", "xadd z 0-1 a b", "xadd z 0-3 a b", "xinfo stream z",
		"xinfo help", "xgroup help", "xinfo foo s", "xinfo stream s bar", "xinfo stream s full count", "xinfo stream s full count x", "xinfo stream s full count 2", "xinfo stream s full count 0", "xinfo stream s full count -1", "xinfo stream s full x y", "xinfo", "xgroup",
		"xadd", "xadd s", "xadd s *", "xadd s * a", "xadd s maxlen 5", "xadd s maxlen 5 * a", "xadd s maxlen", "xrange s -",
	)
}

func TestStreamTrim(t *testing.T) {
	var lines []string
	for i := range 450 {
		lines = append(lines, fmt.Sprintf("xadd s %d-%d f%d v%d", i+1, i%3, i/7%2, i))
	}
	lines = append(lines, "xinfo stream s")
	for _, o := range []string{"maxlen 430", "maxlen = 425", "maxlen ~ 400", "maxlen ~ 310", "maxlen ~ 200 limit 50", "maxlen ~ 100 limit 150", "minid 180", "minid = 190-1", "minid ~ 250", "minid ~ 320", "maxlen ~ 50 limit 0", "maxlen -1", "maxlen x", "minid x", "maxlen 5 minid 6", "minid 5 maxlen 3",
		"limit 5", "maxlen 100 limit 5", "maxlen ~ 5 limit -1", "maxlen ~ 5 limit x", "foo", "maxlen", "maxlen ~", "maxlen ~ =", "maxlen 7", "maxlen 0"} {
		lines = append(lines, "xtrim s "+o, "xlen s", "xinfo stream s", "xrange s - + count 3", "xrevrange s + - count 3")
	}
	lines = append(lines, "xtrim nokey maxlen 5", "xtrim nokey x", "xtrim s maxlen 5 limit 0")
	for i := range 300 {
		lines = append(lines, fmt.Sprintf("xadd c maxlen ~ 120 %d a b", i+1), fmt.Sprintf("xadd d maxlen %d %d a b", i%20, i+1), fmt.Sprintf("xadd e minid ~ %d limit 200 %d a b", i/2, i+1), fmt.Sprintf("xadd f minid %d %d a b c d", i, i+1))
		if i%17 == 0 {
			lines = append(lines, fmt.Sprintf("xdel c %d %d", i-5, i-3), fmt.Sprintf("xdel e %d", i), "xinfo stream c", "xinfo stream d", "xinfo stream e", "xinfo stream f")
		}
	}
	lines = append(lines, "xadd c maxlen 5 limit 3 999 a b", "xadd c limit 3 999 a b", "xadd c maxlen ~ 0 999 a b", "xinfo stream c")
	vectors(t, lines...)
}

// Random entries: the shape of Redis's radix tree and chunks shows in XINFO and DUMP.
func TestStreamRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	var lines []string
	ms, seq := uint64(1), uint64(0)
	for i := range 1500 {
		switch rng.IntN(4) {
		case 0:
			ms += rng.Uint64N(1 << rng.IntN(40))
			seq = rng.Uint64N(3)
		default:
			seq += 1 + rng.Uint64N(1<<rng.IntN(20))
		}
		var pairs []string
		for range 1 + rng.IntN(3)*rng.IntN(2) {
			pairs = append(pairs, fmt.Sprint("f", rng.IntN(2)), []string{"v", "12345", "-7", strings.Repeat("x", 10+rng.IntN(90)), fmt.Sprint(rng.Uint64())}[rng.IntN(5)])
		}
		lines = append(lines, fmt.Sprintf("xadd s %d-%d %s", ms, seq, strings.Join(pairs, " ")))
		if i%20 == 0 {
			lines = append(lines, fmt.Sprintf("xdel s %d-%d", ms, seq), "xinfo stream s", fmt.Sprintf("xrange s %d + count 3", rng.Uint64N(ms)), fmt.Sprintf("xrevrange s %d - count 3", rng.Uint64N(ms)))
		}
		if i%200 == 199 {
			lines = append(lines, fmt.Sprintf("xtrim s maxlen %d", 900+rng.IntN(100)), "xinfo stream s")
		}
	}
	vectors(t, append(lines, "xrange s - +", "xrevrange s + -")...)
}

func TestStreamPropagation(t *testing.T) {
	var many []string
	for i := range 250 {
		many = append(many, fmt.Sprintf("xadd s %d a b", i+1))
	}
	stream(t, append(many,
		"xadd s 1000-* a b", "xadd s MaxLen ~ 200 1001 a b", "xadd s maxlen ~ 200 limit 500 1002-* a b", "xadd s minid ~ 170 1003 a b", "xadd s maxlen 20 1004 a b", "xadd s nomkstream 1005 a b", "xadd nokey nomkstream 1005 a b",
		"xtrim s maxlen ~ 3", "xtrim s maxlen 10", "xtrim s minid ~ 1", "xtrim s minid 1001", "xdel s 1002", "xdel s 1", "xsetid s 3000 entriesadded 500",
		"xgroup create s g 0", "xgroup create s g 0", "xgroup create t g $ mkstream", "xgroup setid s g 5 entriesread 3", "xgroup createconsumer s g c", "xgroup createconsumer s g c", "xgroup delconsumer s g c", "xgroup delconsumer s g c", "xgroup destroy s nogroup",
		"xreadgroup group g c noack count 1 streams s >", "xreadgroup group g d noack count 1 streams s >", "xreadgroup group g c streams s 0", "xreadgroup group g e streams s 0", "xgroup destroy s g", "xgroup create s g2 0", "xreadgroup group g2 new streams s 5",
		"xadd d 1 a b", "del d", "xadd e maxlen ~ 0 5-* a b", "xtrim e maxlen ~ 0")...)
}
