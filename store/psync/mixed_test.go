package psync_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// every has something happen before one command of n.
func every(n int, seed uint64, do func(...string), happens func()) func(...string) {
	rng := rand.New(rand.NewPCG(seed, 1))
	return func(args ...string) {
		if rng.IntN(n) == 0 {
			happens()
		}
		do(args...)
	}
}

// mixed runs commands of all types, many of which are rewritten for the
// stream since their outcome isn't in their words.
func mixed(n int, seed uint64, do func(...string)) {
	rng := rand.New(rand.NewPCG(seed, 0))
	num := func(n int) string { return strconv.Itoa(rng.IntN(n)) }
	key := func(kind string) string { return kind + ":" + num(12) }
	for range n {
		switch rng.IntN(40) {
		case 0:
			do("SELECT", num(4))
		case 1:
			do("SET", key("s"), strings.Repeat("v", rng.IntN(300)), "PX", "1000000"+num(1000))
		case 2:
			do("INCRBYFLOAT", key("f"), "0."+num(1000))
		case 3:
			do("APPEND", key("s"), num(1000))
		case 4:
			do("SETRANGE", key("s"), num(100), "range")
		case 5:
			do("HINCRBYFLOAT", key("h"), num(20), "1."+num(100))
		case 6:
			do("HSET", key("h"), num(200), num(100000), num(200), "text")
		case 7:
			do("HDEL", key("h"), num(200))
		case 8:
			do("RPUSH", key("l"), num(1000), "a", "b")
		case 9:
			do("LPOP", key("l"))
		case 10:
			do("LMOVE", key("l"), key("l"), "LEFT", "RIGHT")
		case 11:
			do("LTRIM", key("l"), "0", num(200))
		case 12:
			do("SADD", key("t"), num(1000), num(1000), "m"+num(1000))
		case 13:
			do("SPOP", key("t"), num(3))
		case 14:
			do("SUNIONSTORE", key("t"), key("t"), key("t"))
		case 15:
			do("ZADD", key("z"), num(100), num(1000), "-1.5", num(1000))
		case 16:
			do("ZPOPMIN", key("z"))
		case 17:
			do("ZINCRBY", key("z"), "2.25", num(1000))
		case 18:
			do("ZRANGESTORE", key("z"), key("z"), "0", "50")
		case 19:
			do("EXPIRE", key("h"), "10000")
		case 20:
			do("PERSIST", key("h"))
		case 21:
			do("DEL", key("t"), key("l"))
		case 22:
			do("MULTI")
			do("INCR", key("n"))
			do("SELECT", num(4))
			do("INCR", key("n"))
			do("EXEC")
		case 23:
			do("RENAME", key("z"), key("z"))
		case 24:
			do("XADD", key("x"), "MAXLEN", "~", num(300), "*", "f", num(1000), "g", num(10))
		case 25:
			do("XADD", key("x"), "*", num(10), num(1000))
		case 26:
			do("XGROUP", "CREATE", key("x"), "grp", "0", "MKSTREAM")
		case 27:
			do("XREADGROUP", "GROUP", "grp", "c"+num(3), "COUNT", num(5), "STREAMS", key("x"), ">")
		case 28:
			do("XAUTOCLAIM", key("x"), "grp", "c"+num(3), "0", "0", "COUNT", "2")
		case 29:
			do("EVAL", "local e = redis.call('XPENDING', KEYS[1], 'grp', '-', '+', 3) for _, p in ipairs(e) do redis.call('XACK', KEYS[1], 'grp', p[1]) end", "1", key("x"))
		case 30:
			do("XTRIM", key("x"), "MAXLEN", num(100))
		case 31:
			do("PFADD", key("p"), num(100000), num(100000))
		case 32:
			do("PFMERGE", key("p"), key("p"), key("p"))
		case 33:
			do("GEOADD", key("g"), num(180), num(80), num(100))
		case 34:
			do("GEOSEARCHSTORE", key("z"), key("g"), "FROMLONLAT", "15", "37", "BYRADIUS", "5000", "km")
		case 35:
			do("BITFIELD", key("s"), "INCRBY", "u8", "#"+num(50), num(300))
		case 36:
			do("SORT", key("t"), "ALPHA", "STORE", key("l"))
		case 37:
			do("COPY", key("x"), key("x"), "REPLACE")
			do("COPY", key("h"), key("h"), "DB", num(4))
			do("MOVE", key("s"), num(4))
		case 38:
			do("EVAL", "redis.call('INCR', KEYS[1]) return redis.call('SPOP', KEYS[2], 2)", "2", key("n"), key("t"))
		case 39:
			if rng.IntN(20) == 0 {
				do("SWAPDB", num(4), num(4))
			}
			do("GETEX", key("s"), "EX", "1000"+num(1000))
		}
	}
}
