package conformance

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// step is one command on one of the two connections of a run.
type step struct {
	conn int
	args []string
}

// The grammar. A line is a weight and a template. In a template $x is drawn from a pool, [a|b] is one of them or
// nothing, (a|b) one of them, x*N one to N repetitions; inside brackets and repetitions "_" separates words. Pools that
// name keys are right most of the time and otherwise of another type.
var grammar = parseGrammar(`
6 SET $s $v
2 SET $s $v [NX|XX] [GET] [EX_$ttl|PX_$ttl|EXAT_$at|PXAT_$atms|KEEPTTL]
1 SET $n $i
1 SET $k $v [$hostile] [$hostile]
1 SETNX $s $v
1 (SETEX|PSETEX) $s $ttl $v
4 GET $s
1 GET $k
1 GETSET $s $v
1 GETDEL $s
1 GETEX $s [EX_$ttl|PX_$ttl|EXAT_$at|PXAT_$atms|PERSIST]
2 MGET $k*4
1 MSET $s_$v*3
1 MSETNX $s_$v*3
1 STRLEN $s
2 APPEND $s $v
2 (GETRANGE|SUBSTR) $s $i $i
1 SETRANGE $s $off $v
2 (INCR|DECR) $n
2 (INCRBY|DECRBY) $n $i
2 INCRBYFLOAT $n $f
1 SETBIT $s $off (0|1|2)
1 GETBIT $s $off
1 BITCOUNT $s [$i_$i] [BIT|BYTE]
1 BITPOS $s (0|1) [$i] [$i] [BIT|BYTE]
1 BITOP (AND|OR|XOR|NOT) $s $s*3
1 BITFIELD $s [OVERFLOW_(WRAP|SAT|FAIL)] (GET_(u8|i5|u63|i64|u64)_$off|SET_(u8|i5)_#3_$i|INCRBY_(u4|i8)_$off_$i)*3
1 LCS $s $s [LEN|IDX] [MINMATCHLEN_2] [WITHMATCHLEN]
4 HSET $h $field_$v*4
1 HMSET $h $field_$v*3
1 HSETNX $h $field $v
3 HGET $h $field
1 HMGET $h $field*4
2 HGETALL $h
1 (HKEYS|HVALS|HLEN) $h
1 HSTRLEN $h $field
1 HEXISTS $h $field
2 HDEL $h $field*3
2 HINCRBY $h (num|num2|$field) $i
2 HINCRBYFLOAT $h (num|num2|$field) $f
1 HRANDFIELD $h [$few] [WITHVALUES]
1 HSCAN $h 0 COUNT 1000 [MATCH_f*]
1 HSET $h $manyfield_$v*140
5 (LPUSH|RPUSH) $l $v*4
1 (LPUSHX|RPUSHX) $l $v*2
2 (LPOP|RPOP) $l [$few]
1 LLEN $l
3 LRANGE $l $i $i
1 LINDEX $l $i
1 LSET $l $i $v
1 LINSERT $l (BEFORE|AFTER) $v $v
1 LREM $l $i $v
1 LTRIM $l $i $i
1 LPOS $l $v [RANK_$i] [COUNT_$few] [MAXLEN_$few]
1 (LMOVE|BLMOVE) $l $l (LEFT|RIGHT) (LEFT|RIGHT)
1 RPOPLPUSH $l $l
1 LMPOP $cnt $l*2 (LEFT|RIGHT) [COUNT_$few]
1 (BLPOP|BRPOP) $l*2 0.01
1 BLMOVE $l $l (LEFT|RIGHT) (LEFT|RIGHT) 0.01
1 BRPOPLPUSH $l $l 0.01
1 BLMPOP 0.01 $cnt $l*2 (LEFT|RIGHT) [COUNT_$few]
1 RPUSH $l $v*140
5 SADD $t $m*4
1 SADD $t $i*4
2 SREM $t $m*3
2 SMEMBERS $t
1 SISMEMBER $t $m
1 SMISMEMBER $t $m*3
1 SCARD $t
1 SMOVE $t $t $m
1 SPOP $t (1000|$hostile)
1 SRANDMEMBER $t [$few]
2 (SINTER|SUNION|SDIFF) $t*3
1 SINTERCARD $cnt $t*2 [LIMIT_$few]
2 (SINTERSTORE|SUNIONSTORE|SDIFFSTORE) $t $t*3
1 SSCAN $t 0 COUNT 1000 [MATCH_a*]
1 SADD $t $manyint*140
5 ZADD $z $sc_$m*4
3 ZADD $z [NX|XX] [GT|LT] [CH] [INCR] $sc_$m*2
2 ZINCRBY $z $sc $m
1 ZSCORE $z $m
1 ZMSCORE $z $m*3
1 ZCARD $z
1 ZCOUNT $z $bound $bound
3 ZADD $x 0_$m*4
1 ZLEXCOUNT $x $lex $lex
1 (ZRANK|ZREVRANK) $z $m
2 (ZRANGE|ZREVRANGE) $z $i $i [WITHSCORES]
2 ZRANGE $z $bound $bound BYSCORE [REV] [LIMIT_$i_$i] [WITHSCORES]
1 ZRANGE $x $lex $lex BYLEX [REV] [LIMIT_$i_$i]
1 ZRANGE $z $i $i [BYSCORE|BYLEX] [REV] [LIMIT_$i_$i] [WITHSCORES]
1 (ZRANGEBYSCORE|ZREVRANGEBYSCORE) $z $bound $bound [WITHSCORES] [LIMIT_$i_$i]
1 (ZRANGEBYLEX|ZREVRANGEBYLEX) $x $lex $lex [LIMIT_$i_$i]
1 ZRANGESTORE $z $z $i $i [BYSCORE] [REV] [LIMIT_0_$few]
1 ZREM $z $m*3
1 ZREMRANGEBYRANK $z $i $i
1 ZREMRANGEBYSCORE $z $bound $bound
1 ZREMRANGEBYLEX $x $lex $lex
1 (ZPOPMIN|ZPOPMAX) $z [$few]
1 ZMPOP $cnt $z*2 (MIN|MAX) [COUNT_$few]
1 (BZPOPMIN|BZPOPMAX) $z*2 0.01
1 BZMPOP 0.01 $cnt $z*2 (MIN|MAX) [COUNT_$few]
2 (ZUNION|ZINTER) $cnt $z*3 [WEIGHTS_$f*3] [AGGREGATE_(SUM|MIN|MAX)] [WITHSCORES]
2 (ZUNIONSTORE|ZINTERSTORE) $z $cnt $zt*3 [WEIGHTS_$f*3] [AGGREGATE_(SUM|MIN|MAX)]
1 ZDIFF $cnt $z*3 [WITHSCORES]
1 ZDIFFSTORE $z $cnt $zt*3
1 ZINTERCARD $cnt $z*3 [LIMIT_$few]
1 ZRANDMEMBER $z [$few] [WITHSCORES]
1 ZSCAN $z 0 COUNT 1000
1 ZADD $z $manyint_$manyfield*140
4 GEOADD $g [NX|XX] [CH] (13.361389_38.115556_a|15.087269_37.502669_b|2.35_48.85_c|-73.98_40.75_d|151.2_-33.87_1|15.1_37.6_f1|-179.9_1_2)*3
1 GEOADD $g ($hostile|181|$f) (86|$hostile) $m
1 GEODIST $g $m $m [m|km|ft|mi|$hostile]
1 (GEOPOS|GEOHASH) $g $m*3
3 GEOSEARCH $g (FROMMEMBER_$m|FROMLONLAT_15_37|FROMLONLAT_$f_$f) (BYRADIUS_$size_$unit|BYBOX_$size_$size_$unit) [ASC|DESC] [COUNT_$few_[ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]
1 GEOSEARCHSTORE $g $g (FROMMEMBER_$m|FROMLONLAT_15_37) (BYRADIUS_$size_$unit|BYBOX_$size_$size_$unit) [ASC|DESC] [COUNT_$few] [STOREDIST]
1 (GEORADIUS|GEORADIUS_RO) $g (14|$f) (38|$f) $size $unit [ASC|DESC] [COUNT_$few_[ANY]] [WITHCOORD] [WITHDIST] [WITHHASH] [STORE_$g|STOREDIST_$g]
1 (GEORADIUSBYMEMBER|GEORADIUSBYMEMBER_RO) $g $m $size $unit [ASC|DESC] [COUNT_$few] [WITHDIST] [STORE_$g|STOREDIST_$g]
3 PFADD $p $v*4
1 PFADD $p $manyfield*140
1 PFADD $p
2 PFCOUNT $p*3
1 PFMERGE $p $p*3
1 GET $p
6 XADD $e $newid $field_$v*3
3 XADD $e [NOMKSTREAM] [MAXLEN_[~|=]_$few_[LIMIT_$few]|MINID_[~|=]_$id_[LIMIT_$few]] $newid $field $v
1 XADD $e $id $field $v
1 XADD $e $id $field_$v*2 [$hostile]
2 XTRIM $e (MAXLEN_[~|=]_$few|MINID_[~|=]_$id) [LIMIT_$few]
2 XDEL $e $id*3
1 XLEN $e
2 (XRANGE|XREVRANGE) $e $id $id [COUNT_$few]
1 XRANGE $e - + [COUNT_$few]
2 XREAD [COUNT_$few] STREAMS $e $id
1 XREAD [COUNT_$few] [BLOCK_10] STREAMS $e $e $id $id
3 XGROUP CREATE $e $grp ($id|0|0) [MKSTREAM] [ENTRIESREAD_$i]
1 XGROUP SETID $e $grp $id [ENTRIESREAD_$i]
1 XGROUP (DESTROY|NOSUCH) $e $grp
1 XGROUP (CREATECONSUMER|DELCONSUMER) $e $grp $con
5 XREADGROUP GROUP $grp $con [COUNT_$few] [NOACK] STREAMS $e (>|>|>|$id)
1 XREADGROUP GROUP $grp $con [COUNT_$few] [BLOCK_10] [NOACK] STREAMS $e $e (>|$id) >
2 XACK $e $grp $id*4
2 XPENDING $e $grp
2 XPENDING $e $grp [IDLE_100000] $id $id $i [$con]
1 XPENDING $e $grp - + 10 [$con]
2 XCLAIM $e $grp $con (0|0|100000|$hostile) $id*3 [FORCE] [JUSTID] [IDLE_$i|TIME_$i] [RETRYCOUNT_$few] [LASTID_$id]
2 XAUTOCLAIM $e $grp $con (0|0|100000|$hostile) $id [COUNT_$few] [JUSTID]
1 XSETID $e ($id|5000) [ENTRIESADDED_$i] [MAXDELETEDID_$id]
1 XINFO STREAM $e [FULL_[COUNT_$few]]
1 XINFO (GROUPS|CONSUMERS|NOSUCH|STREAM) $e [$grp]
2 (DEL|UNLINK|EXISTS|TOUCH) $k*3
2 TYPE $k
1 KEYS (*|s*|?1|[ab]*|[^s]*|\*|nothing)
1 SCAN 0 COUNT 1000 [MATCH_s*] [TYPE_(string|list|hash|zset|set|stream|foo)]
2 (RENAME|RENAMENX) $k $k
2 COPY $k $k [DB_$db] [REPLACE]
1 MOVE $k $db
1 DBSIZE
1 RANDOMKEY
2 (EXPIRE|PEXPIRE) $k $ttl [NX|XX|GT|LT] [$hostile]
1 EXPIREAT $k $at [NX|XX|GT|LT]
1 PEXPIREAT $k $atms [NX|XX|GT|LT]
3 (TTL|PTTL|EXPIRETIME|PEXPIRETIME) $k
1 PERSIST $k
1 SORT (l3|z3) [BY_nosort] [LIMIT_$i_$i] [GET_#] [ASC|DESC] [STORE_$l]
1 SORT $lz [BY_w_*] [LIMIT_$i_$i] [GET_#|GET_w_*|GET_h1->num] [ASC|DESC] [STORE_$l]
1 SORT $lt [LIMIT_$i_$i] [ASC|DESC] ALPHA [STORE_$l]
1 SORT_RO $lt [BY_w_*] [LIMIT_$i_$i] [GET_#|GET_w_*] [ASC|DESC]
1 MSET w_1 3 w_2 2 w_a 1
1 OBJECT (ENCODING|FREQ|nosuch) $k
2 SELECT $db
1 SWAPDB $db $db
1 MULTI
1 MULTI
2 EXEC
1 DISCARD
1 WATCH $k*2
1 UNWATCH
1 PING [$v]
1 ECHO $v
1 (FLUSHDB|FLUSHALL) [ASYNC|SYNC|$hostile]
1 (NOSUCHCOMMAND|get|Set|hset|LRANGE|zadd|object|client|Memory|EXEC) $hostile $v
`)

type line struct {
	weight int
	words  []string
}

func parseGrammar(text string) []line {
	var out []line
	for l := range strings.Lines(text) {
		words := strings.Fields(l)
		if len(words) < 2 {
			continue
		}
		w, err := strconv.Atoi(words[0])
		if err != nil {
			panic("grammar: " + l)
		}
		out = append(out, line{w, words[1:]})
	}
	return out
}

var (
	values = []string{"a", "b", "c", "hello", "1", "2", "10", "-7", "3.5", "", "x y", "bin\x00\r\n\xff", "a", "b",
		"9223372036854775807", "123456789012345678901234567890", strings.Repeat("long", 40), "007", " 5", "1e3"}
	integers = []string{"0", "1", "2", "-1", "-2", "3", "5", "100", "-100", "0", "1", "-1",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "abc", "", "1.5", "+1", "01", " 1"}
	floats  = []string{"0", "1", "1.5", "-2.25", "0.1", "3", "1e3", "1e17", "-1", "2", "0.3", "10.5e-3", "inf", "-inf", "nan", "abc", "", "1e400", "0x10", " 1", "5e-324", "1.7976931348623157e308"}
	scores  = []string{"0", "1", "2", "3", "-1", "1.5", "0.1", "10", "1e10", "-0", "3.0000000000000004", "1e-7", "123456789012", "inf", "-inf", "+inf", "nan", "abc", ""}
	bounds  = []string{"-inf", "+inf", "inf", "0", "1", "2", "(1", "(0", "(inf", "(-inf", "1.5", "(1.5", "10", "abc", "(", "", "nan", "(a"}
	lexes   = []string{"-", "+", "[a", "(a", "[b", "(c", "[f2", "[", "(", "a", "", "[zz", "-", "+"}
	fields  = []string{"f1", "f2", "f3", "f4", "num", "", "bin\x00", "f1"}
	members = []string{"a", "b", "c", "d", "f1", "1", "2", "3", "", "bin\x00\r\n", "a", "b", "10", "-5"}
	hostile = []string{"", "abc", "-1", "nan", "9223372036854775808", "\x00", "*1\r\n", "NX", "GET", "WITHSCORES", "COUNT", "LIMIT", "EX", "999999999999999999999"}
	ttls    = []string{"1000", "5000", "100000", "20000", "1000000", "0", "-1", "abc", "9223372036854775807", "-9223372036854775808", "1.5", "", "9223372036854775"}
	times   = []string{"4102444800", "4102444801", "5000000000", "1", "0", "-1", "abc", "9223372036854775807", "9223372036854775", "9223372036854776"}
	timesMS = []string{"4102444800000", "4102444801500", "5000000000000", "1", "0", "-1", "abc", "9223372036854775807"}
	offsets = []string{"0", "1", "5", "7", "8", "100", "#1", "-1", "abc", "4294967296", "9223372036854775807", ""}
	ids     = []string{"1", "2-*", "3-0", "5", "8-1", "12", "20", "33", "50", "0", "0-1", "-", "+", "$", ">", "(5", "(3-1", "abc", "", "5-", "18446744073709551615", "1-18446744073709551616", "+7", " 9-1"}
	fews    = []string{"0", "1", "2", "3", "5", "-1", "-2", "10", "abc", ""}
)

// keysOf lists the keys of each pool; the letters are those of the grammar.
var keysOf = map[string][]string{
	"s": {"s1", "s2", "s3", "{s}\x00\xff"}, "n": {"n1", "n2"}, "h": {"h1", "h2"}, "l": {"l1", "l2", "l3"},
	"t": {"t1", "t2", "t3"}, "z": {"z1", "z2", "z3"},
	"x":  {"x1", "x2"}, // all scores are 0: a range by name means nothing otherwise
	"lz": {"l1", "l2", "z1", "z2"}, "lt": {"l1", "l2", "t1", "t2", "z1"}, "zt": {"z1", "z2", "t1", "t2"},
	"g": {"g1", "g2"}, "p": {"p1", "p2", "p3"}, "e": {"e1", "e1", "e2"},
	"k": {"s1", "s2", "n1", "h1", "h2", "l1", "l2", "t1", "t2", "z1", "z2", "e1", "e2", "g1", "missing", ""},
}

type generator struct {
	*rand.Rand
	total  int
	lastID int // of stream entries
}

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 7))}
	for _, l := range grammar {
		g.total += l.weight
	}
	return g
}

func (g *generator) pick(from []string) string { return from[g.IntN(len(from))] }

func (g *generator) draw(pool string) string {
	if keys, ok := keysOf[pool]; ok {
		if g.IntN(12) == 0 && pool != "x" {
			keys = keysOf["k"]
		}
		return g.pick(keys)
	}
	switch pool {
	case "v":
		return g.pick(values)
	case "i":
		if g.IntN(3) > 0 { // mostly sane, or the errors drown the rest
			return g.pick(integers[:12])
		}
		return g.pick(integers)
	case "f":
		if g.IntN(3) > 0 {
			return g.pick(floats[:12])
		}
		return g.pick(floats)
	case "sc":
		if g.IntN(3) > 0 {
			return g.pick(scores[:13])
		}
		return g.pick(scores)
	case "bound":
		return g.pick(bounds)
	case "lex":
		return g.pick(lexes)
	case "field":
		return g.pick(fields)
	case "manyfield":
		return "f" + strconv.Itoa(g.IntN(300))
	case "m":
		return g.pick(members)
	case "manyint":
		return strconv.Itoa(g.IntN(100000))
	case "hostile":
		return g.pick(hostile)
	case "ttl":
		if g.IntN(2) > 0 {
			return g.pick(ttls[:5])
		}
		return g.pick(ttls)
	case "at":
		return g.pick(times)
	case "atms":
		return g.pick(timesMS)
	case "off":
		return g.pick(offsets)
	case "few":
		if g.IntN(3) > 0 {
			return g.pick(fews[:5])
		}
		return g.pick(fews)
	case "newid":
		g.lastID += g.IntN(2)
		return strconv.Itoa(g.lastID) + g.pick([]string{"-*", "-*", "-*", "-" + strconv.Itoa(g.IntN(4))})
	case "id":
		if n := g.lastID; n > 0 && g.IntN(2) == 0 {
			return strconv.Itoa(1+g.IntN(n)) + g.pick([]string{"", "-0", "-1", "-2"})
		}
		return g.pick(ids)
	case "grp":
		return g.pick([]string{"ga", "ga", "gb", ""})
	case "con":
		return g.pick([]string{"ca", "cb", "cc"})
	case "size":
		return g.pick([]string{"100", "5000", "200.5", "0", "30000", "1e7", "-1", "abc"})
	case "unit":
		return g.pick([]string{"km", "m", "mi", "FT", "KM", "km", "x"})
	case "cnt":
		return g.pick([]string{"1", "2", "2", "2", "3", "0", "-1", "abc"})
	case "db":
		return g.pick([]string{"0", "0", "0", "0", "1", "1", "2", "16", "-1", "abc"})
	}
	panic("grammar: no pool " + pool)
}

func (g *generator) expand(dst []string, word string) []string {
	if body, n, ok := cutRepeat(word); ok {
		for range 1 + g.IntN(n) {
			dst = g.expandAll(dst, body)
		}
		return dst
	}
	switch {
	case word[0] == '[' && word[len(word)-1] == ']' && len(word) > 2:
		if g.IntN(2) == 0 {
			return dst
		}
		return g.expandAll(dst, g.pick(alternatives(word[1:len(word)-1])))
	case word[0] == '(' && word[len(word)-1] == ')':
		return g.expandAll(dst, g.pick(alternatives(word[1:len(word)-1])))
	case word[0] == '$':
		return append(dst, g.draw(word[1:]))
	}
	return append(dst, word)
}

func (g *generator) expandAll(dst []string, body string) []string {
	for _, w := range split(body, '_') {
		if w == "" {
			continue
		}
		// The weights of SORT are called w_1, w_2…: a lone "w" takes the word behind it.
		if n := len(dst); n > 0 && dst[n-1] == "w" {
			dst[n-1] = "w_" + w
			continue
		}
		dst = g.expand(dst, w)
	}
	return dst
}

func alternatives(body string) []string { return split(body, '|') }

// split cuts at sep outside of brackets.
func split(s string, sep byte) []string {
	var out []string
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case sep:
			if depth == 0 {
				out = append(out, s[from:i])
				from = i + 1
			}
		}
	}
	return append(out, s[from:])
}

func cutRepeat(word string) (body string, n int, ok bool) {
	i := strings.LastIndexByte(word, '*')
	if i <= 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(word[i+1:])
	return word[:i], n, err == nil && n > 0
}

// next makes one command that is safe to run on both sides.
func (g *generator) next() []string {
	for {
		n := g.IntN(g.total)
		i := 0
		for n >= grammar[i].weight {
			n -= grammar[i].weight
			i++
		}
		var args []string
		for _, w := range grammar[i].words {
			args = g.expand(args, w)
		}
		if g.IntN(16) == 0 {
			args = g.mutate(args)
		}
		if safe(args) {
			return args
		}
	}
}

func (g *generator) mutate(args []string) []string {
	i := g.IntN(len(args))
	switch g.IntN(4) {
	case 0:
		if i > 0 {
			return append(args[:i:i], args[i+1:]...)
		}
	case 1:
		return append(args, g.pick(hostile))
	case 2:
		if i > 0 {
			args[i] = g.pick(hostile)
		}
	case 3:
		args[0] = strings.ToLower(args[0])
	}
	return args
}

// safe keeps away what would block for long, take gigabytes or expire while the two sides run.
func safe(args []string) bool {
	name := strings.ToLower(args[0])
	switch name {
	case "blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax":
		return args[len(args)-1] == "0.01" || !isNumber(args[len(args)-1])
	case "blmpop", "bzmpop":
		return len(args) > 1 && (args[1] == "0.01" || !isNumber(args[1]))
	case "sort", "sort_ro": // BY without a star is the order of the key itself, which a set hasn't; these two are never sets
		for i, a := range args {
			if i > 1 && strings.EqualFold(args[i-1], "by") && !strings.Contains(a, "*") && args[1] != "l3" && args[1] != "z3" {
				return false
			}
		}
	case "spop": // which elements go is random: all of them or an error
		return len(args) > 3 || len(args) == 3 && (args[2] == "1000" || !isNumber(args[2]))
	case "setrange", "setbit", "bitfield":
		for _, a := range args[1:] {
			a = strings.TrimPrefix(a, "#")
			if n, err := strconv.ParseInt(a, 10, 64); err == nil && n > 10000 && n < 4294967296 {
				return false
			}
		}
	case "srandmember", "hrandfield", "zrandmember":
		for _, a := range args[1:] {
			if n, err := strconv.ParseInt(a, 10, 64); err == nil && n < -1000 {
				return false
			}
		}
	case "setex", "psetex", "expire", "pexpire", "set", "getex":
		for i, a := range args {
			n, err := strconv.ParseInt(a, 10, 64)
			if err != nil || n <= 0 || n >= 1000 || i < 2 {
				continue
			}
			before := strings.ToLower(args[i-1])
			// A time in the past makes a key that is dead at once, and counted until somebody notices.
			if name == "set" && (before == "exat" || before == "pxat") {
				return false
			}
			if name != "set" && name != "getex" && i == 2 || before == "ex" || before == "px" {
				return false
			}
		}
	}
	return true
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// sequence makes about n commands on two connections, most of them on the first. A MULTI is usually carried through.
func (g *generator) sequence(n int) []step {
	var out []step
	for len(out) < n {
		s := step{args: g.next()}
		if g.IntN(6) == 0 {
			s.conn = 1
		}
		out = append(out, s)
		if s.args[0] == "MULTI" && g.IntN(2) == 0 {
			for range g.IntN(6) {
				out = append(out, step{s.conn, g.next()})
			}
			out = append(out, step{s.conn, []string{"EXEC"}})
		}
	}
	return out
}
